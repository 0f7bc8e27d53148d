"""A lane's errors on its training and its held-out ratings, inside the program that trains it."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mfjax.kernels.gather import gathered, in_vectors
from mfjax.metrics import measured
from mfjax.objective import LaneTerms, dot, train_weight, validation_weight
from mfjax.types import Bounds, Factors, Ratings

CHUNK = 1024  # ratings at a time, which stay in cache


def predict(factors: Factors, ratings: Ratings) -> Float[Array, " n"]:
    """u_i·v_j for every rating; with biases, less μ."""
    seen = jnp.ones((CHUNK, 1), factors.user.dtype)

    def in_chunks(rows):
        padded = jnp.pad(rows, (0, -len(rows) % CHUNK))
        return padded.reshape(-1, CHUNK, 1)

    def of_chunk(rows):
        user, item = map(lambda table, row: gathered(table, row, seen)[:, 0], tables, rows)
        return dot(user, item)

    tables = [in_vectors(table) for table in factors]
    predictions = jax.lax.map(of_chunk, (in_chunks(ratings.user), in_chunks(ratings.item)))
    return predictions.ravel()[: len(ratings.value)]


def evaluate(
    factors: Factors, ratings: Ratings, lane: LaneTerms, bounds: Bounds
) -> dict[str, Float[Array, ""]]:
    """Every metric on the training and the held-out ratings, by column, in one pass.

    Predictions are clipped to `bounds`. A metric is NaN where the lane has no such ratings.
    """
    prediction = jnp.clip(predict(factors, ratings) + lane.centre, bounds.low, bounds.high)
    weights = {
        "train": train_weight(ratings.weight, ratings.fold, lane),
        "validation": validation_weight(ratings.weight, ratings.fold, lane),
    }
    return {
        f"{part}_{name}": metric
        for part, weight in weights.items()
        for name, metric in measured(prediction, ratings.value, weight).items()
    }
