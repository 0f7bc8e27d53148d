"""Rows of a table for many ratings at once, as XLA's CPU compiler reads them fast."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mfjax.kernels.layout import ROWS, Rated

VECTOR_COLUMNS = 64  # from here on XLA's CPU compiler vectorises a gather of whole rows


def in_vectors(table: Float[Array, "rows columns"]) -> Float[Array, "rows padded"]:
    """A table with columns of zeros up to a multiple of ROWS, and at least that many."""
    columns = table.shape[1]
    vectors = max(-(-columns // ROWS), 1)
    spare = vectors * ROWS - columns
    return jnp.pad(table, ((0, 0), (0, spare)))


def gathered(
    table: Float[Array, "positions columns"],
    col: Int[Array, "n width"],
    seen: Float[Array, "n width"],
) -> Float[Array, "n width columns"]:
    """Rows of a table that is `in_vectors`; those of `VECTOR_COLUMNS` or more times `seen`.

    XLA's CPU compiler unrolls a gather of rows of fewer than about 75 floats into scalar moves.
    From VECTOR_COLUMNS on, the product with `seen` (1, or 0 where a rating weighs nothing) makes
    the gather a part of a vectorised loop; below, it would cost more than it gains
    (experiments/tiles).
    """
    rows = table.at[col].get(mode="promise_in_bounds")
    return rows * seen[..., None] if table.shape[1] >= VECTOR_COLUMNS else rows


def near_rows(
    latent: Float[Array, "positions latent"], ratings: Rated
) -> Float[Array, "n width latent"]:
    """The other side's latent row of each rating, of finite numbers where it weighs nothing."""
    seen = ratings.seen.weight > 0
    return gathered(latent, ratings.col, seen.astype(latent.dtype))
