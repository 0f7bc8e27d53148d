r"""The tile kernel: sums over the ratings of each row, without a scatter-add a rating.

∂L/∂U and ∂L/∂V need not come from one pass. The ratings are kept twice, by user and by item. On
each side the rows stand in the order of their number of ratings, ROWS of them abreast in a strip; a
strip is cut into **tiles** of `width` ratings of each of its rows, padded with weight 0. The rows
of a strip are of about one length, so that little is padding:

    strip 0   ████████ ████████ ███░░░░░     3 tiles of ROWS × width ratings
              ████████ ████████ █░░░░░░░
    strip 1   ████████ ██░░░░░░              2 tiles

A scan works on `chunk` ratings at a time, which stay in cache. For each it gathers the other side's
rows, takes two small matrix products, and adds to `chunk / width` rows: the two sums are, with v_j
the gathered rows and Ω_i the ratings of row i,

    gradient          Σ_{j ∈ Ω_i} E_ij v_j                                                       (1)
    normal equations  A_i = Σ_{j ∈ Ω_i} w_ij v_j v_jᵀ        c_i = Σ_{j ∈ Ω_i} w_ij r_ij v_j

(the second in `mfjax.kernels.normal`). A row is known by its position, place in that order. With
shards, every second (third, …) strip belongs to one device, which reads the other side's table
whole. Each device adds in the order of the layout: a CPU gives the same bits every run.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mfjax.kernels.gather import in_vectors, near_rows
from mfjax.kernels.kernel import ITEM, USER
from mfjax.kernels.layout import (
    ROWS,
    Chunk,
    Rated,
    Side,
    Tiles,
    add_to_strips,
    arranged,
    in_strips,
    rated,
    rows_of_strips,
    tiles_a_step,
    tiles_of,
)
from mfjax.kernels.predictions import predict
from mfjax.kernels.shards import by_shard
from mfjax.objective import Columns, LaneTerms, Seen, on_ratings
from mfjax.types import Factors, Sides, Spec


def work_bytes(spec: Spec) -> int:
    """An estimate of the temporaries of one lane.

    They are the gathered rows of a step, and the normal equations of a group.
    """
    tiling = spec.tiling
    columns = spec.max_rank + ROWS
    gathered = tiles_a_step(tiling) * ROWS * tiling.width * columns
    equations = tiling.group * columns**2
    itemsize = np.dtype(spec.dtype).itemsize
    return 3 * (gathered + equations) * itemsize


# tables


class Table(NamedTuple):
    """One side's rows in the order of their positions.

    `latent` columns are padded with zeros to a multiple of `mfjax.kernels.layout.ROWS`;
    `background` is what b takes from this side (b_j of an item, 0 of a user).
    """

    latent: Float[Array, "positions latent"]
    bias: Float[Array, " positions"]
    background: Float[Array, " positions"]


class View(NamedTuple):
    """A lane as one side sees it: its own rows, and the other side's beside its ratings.

    `columns` are those of x = [latent | own bias], or of the latent ones alone; `row_reg` is ρ (or
    σ) of each row; `bias_column` is the place of the own bias in the factor table.
    """

    side: Side
    own: Table
    other: Table
    columns: Columns
    row_reg: Float[Array, " rows"]
    bias_column: int


def tables(factors: Factors, lane: LaneTerms, layout: Tiles, spec: Spec) -> Sides:  # of Table
    """Pinned factors and the background, a `Table` a side."""

    def table(side: int) -> Table:
        rows = factors[side]
        nothing = jnp.zeros(len(rows), rows.dtype)
        table = Table(
            latent=in_vectors(rows[:, : spec.max_rank]),
            bias=rows[:, _bias_column(side, spec)] if spec.bias else nothing,
            background=lane.background if side == ITEM else nothing,
        )
        return jax.tree.map(partial(arranged, side=layout[side]), table)

    return Sides(table(USER), table(ITEM))


def views(tables: Sides, lane: LaneTerms, layout: Tiles, spec: Spec) -> Sides:  # of View
    """What each side sees of the `tables`."""
    latent = list(range(spec.max_rank))

    def view(side: int) -> View:
        bias_column = _bias_column(side, spec)
        own = np.array([*latent, bias_column] if spec.bias else latent, int)
        return View(
            side=layout[side],
            own=tables[side],
            other=tables[1 - side],
            columns=Columns(*(column[own] for column in lane.columns[side])),
            row_reg=lane.row_reg[side],
            bias_column=bias_column,
        )

    return Sides(view(USER), view(ITEM))


def _bias_column(side: int, spec: Spec) -> int:
    """The column of a side's own bias; the other of the two last is pinned at 1."""
    return spec.max_rank + side


def in_rows(table: Table, view: View, spec: Spec) -> Float[Array, "rows columns"]:
    """The rows of a view's table in the order of the factors, with 0 in the pinned column."""

    def of_positions(x):
        return x.at[view.side.position].get(mode="promise_in_bounds")

    latent = of_positions(table.latent)[:, : spec.max_rank]
    if not spec.bias:
        return latent
    bias = of_positions(table.bias)[:, None]
    pinned = 0 * bias
    is_first = view.bias_column == spec.max_rank
    biases = [bias, pinned] if is_first else [pinned, bias]
    return jnp.concatenate([latent, *biases], axis=1)


def less(layout: Tiles, side: int, rows: Float[Array, "rows columns"], factors: Factors) -> Tiles:
    """The ratings by one side less what these rows of it predict."""
    sides = Sides(layout.user, layout.item)
    own = sides[side]
    strips = own.first.shape[1] - 1  # of a shard
    strip = own.strip + strips * jnp.arange(len(own.strip))[:, None]
    position = ROWS * strip[..., None] + jnp.arange(ROWS)[None, None]
    row = jnp.broadcast_to(own.row[position][..., None], own.col.shape)
    other_row = sides[1 - side].row[own.col]
    others = factors[1 - side]
    # no rating stands where there is no row
    near = jnp.minimum(row, len(rows) - 1).ravel(), jnp.minimum(other_row, len(others) - 1).ravel()
    predicted = predict(Factors(rows, others), *near).reshape(own.value.shape)
    changed = own._replace(value=own.value - predicted)
    return layout._replace(**{Sides._fields[side]: changed})


# the sums


def error_sums(
    view: View, lane: LaneTerms, spec: Spec, *, of_values: bool = True
) -> tuple[Float[Array, ""], Table]:
    """The loss of the ratings and its gradient in the own rows, equation (1).

    Both are without s and the regulariser. With a background, they are what the ratings add to
    those of `mfjax.objective.off_ratings`. Without `of_values` ratings and background count as 0,
    which leaves the part of the gradient that is linear in the side's rows.
    """
    sums_of_rows = partial(_sums_of_rows, spec=spec, of_values=of_values)
    step_tiles = tiles_a_step(spec.tiling)

    def of_shard(side: Side, own: Table, other: Table, lane: LaneTerms):
        strips = jax.tree.map(in_strips, own)

        def step(sums, chunk: Chunk):
            of_strips = partial(rows_of_strips, strip=chunk.strip)
            add = partial(add_to_strips, strip=chunk.strip)
            rows = jax.tree.map(of_strips, strips)
            ratings = rated(chunk, rows.background, other.background, lane, spec)
            parts, loss = sums_of_rows(rows, other, ratings, lane)
            return jax.tree.map(add, sums, parts), loss

        def in_steps(tiles):
            return tiles.reshape(-1, step_tiles, *tiles.shape[1:])

        def zeros(strips):
            return jnp.zeros_like(strips).reshape(len(strips), -1)

        chunks = jax.tree.map(in_steps, tiles_of(side))
        start = (zeros(strips.latent), zeros(strips.bias))
        (latent, bias), loss = jax.lax.scan(step, start, chunks)
        latent = latent.reshape(own.latent.shape)
        sums = Table(latent, bias.reshape(-1), own.background)
        return loss.sum()[None], sums

    of_side = (view.side, view.own, view.other)
    loss, sums = by_shard(of_shard, spec.tiling, of_side, (lane,))
    return loss.sum(), sums


def _sums_of_rows(
    rows: Table,
    other: Table,
    ratings: Rated,
    lane: LaneTerms,
    spec: Spec,
    *,
    of_values: bool,
) -> tuple[tuple[Float[Array, "n latent"], Float[Array, " n"]], Float[Array, ""]]:
    """The latent and the bias part of equation (1) for the rows of a chunk, and the loss there."""
    near = near_rows(other.latent, ratings)
    prediction = jnp.einsum("nwc,nc->nw", near, rows.latent)
    if spec.bias:
        prediction += rows.bias[:, None]
    if spec.bias and of_values:
        prediction += other.bias[ratings.col]
    seen = ratings.seen if of_values else _as_0(ratings.seen, lane)
    error, loss = on_ratings(prediction, seen, lane, spec)
    latent = jnp.einsum("nwc,nw->nc", near, error)
    return (latent, error.sum(1)), loss.sum()


def _as_0(seen: Seen, lane: LaneTerms) -> Seen:
    """The ratings where they, less the centre, and their background are 0."""
    nothing = jnp.zeros_like(seen.value)
    return Seen(nothing + lane.centre, seen.weight, nothing)
