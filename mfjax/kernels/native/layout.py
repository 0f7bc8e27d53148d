"""Where each rating stands for the compiled kernels: compressed rows of both sides."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mfjax.kernels.layout import order_by
from mfjax.kernels.native.library import require
from mfjax.kernels.predictions import predict
from mfjax.memory import refuse_beyond_memory
from mfjax.objective import FoldSums, with_few_missing
from mfjax.types import Factors, Ratings, Sides, Spec

CHUNKS = 64  # of a side, shared out over threads
ROW_COST = 8  # of a row beside its ratings, in ratings


class Rows(NamedTuple):
    """The ratings by the rows of one side.

    Those of row i are `start[i]` up to, and not, `start[i + 1]`; `col` are rows of the other side.
    The rows of chunk c are `chunk[c]` up to, and not, `chunk[c + 1]`, and take alike long.
    """

    start: Int[Array, " ends"]
    col: Int[Array, " n"]
    value: Float[Array, " n"]
    weight: Float[Array, " n"]
    fold: Int[Array, " n"]
    chunk: Int[Array, " bounds"]


class Compressed(NamedTuple):
    """Both orientations, and the sums of the folds."""

    user: Rows
    item: Rows
    sums: FoldSums


def prepare(ratings: Ratings, spec: Spec) -> Compressed:
    """The rows of both sides.

    Raises InputError without compiled kernels, and OutOfMemory where they would not fit.
    """
    require()
    entries, sums = with_few_missing(ratings, spec)
    real = entries.weight > 0
    entries = entries.taken(real)
    num_bytes = len(entries.value) * (8 + 2 * np.dtype(spec.dtype).itemsize)
    refuse_beyond_memory(
        4 * num_bytes, f"the compressed rows of {len(entries.value):,} ratings", "fewer ratings"
    )
    turned = entries._replace(user=entries.item, item=entries.user)
    return Compressed(
        user=_rows(entries, spec.num_users, spec),
        item=_rows(turned, spec.num_items, spec),
        sums=sums,
    )


def _rows(ratings: Ratings, num_rows: int, spec: Spec) -> Rows:
    """The rows of the side that is `ratings.user` here."""
    order = order_by(ratings.user, num_rows)
    count = np.bincount(ratings.user, minlength=num_rows)
    start = np.concatenate([[0], np.cumsum(count)])
    work = start + ROW_COST * np.arange(num_rows + 1)
    chunk = np.searchsorted(work, np.linspace(0, work[-1], CHUNKS + 1))
    chunk[-1] = num_rows
    return Rows(
        start=start.astype(np.int32),
        col=ratings.item[order].astype(np.int32),
        value=ratings.value[order].astype(spec.dtype),
        weight=ratings.weight[order].astype(spec.dtype),
        fold=ratings.fold[order].astype(np.int32),
        chunk=chunk.astype(np.int32),
    )


def less(
    layout: Compressed, side: int, rows: Float[Array, "rows columns"], factors: Factors
) -> Compressed:
    """The ratings by one side less what these rows of it predict."""
    own = (layout.user, layout.item)[side]
    everyone = jnp.arange(len(rows))
    row = jnp.repeat(everyone, jnp.diff(own.start), total_repeat_length=len(own.col))
    predicted = predict(Factors(rows, factors[1 - side]), row, own.col)
    changed = own._replace(value=own.value - predicted)
    return layout._replace(**{Sides._fields[side]: changed})
