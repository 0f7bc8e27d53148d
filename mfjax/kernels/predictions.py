"""u_i·v_j of ratings, in XLA."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mfjax.kernels.gather import gathered, in_vectors
from mfjax.objective import dot
from mfjax.types import Factors

CHUNK = 1024  # ratings at a time, which stay in cache


def predict(factors: Factors, user: Int[Array, " n"], item: Int[Array, " n"]) -> Float[Array, " n"]:
    """u_i·v_j for every rating; with biases, less μ."""
    seen = jnp.ones((CHUNK, 1), factors.user.dtype)

    def in_chunks(rows):
        padded = jnp.pad(rows, (0, -len(rows) % CHUNK))
        return padded.reshape(-1, CHUNK, 1)

    def of_chunk(rows):
        user, item = map(lambda table, row: gathered(table, row, seen)[:, 0], tables, rows)
        return dot(user, item)

    tables = [in_vectors(table) for table in factors]
    predictions = jax.lax.map(of_chunk, (in_chunks(user), in_chunks(item)))
    return predictions.ravel()[: len(user)]
