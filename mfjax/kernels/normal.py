r"""Every row of one side at its exact minimum, given the other side: normal equations from tiles.

In row i the objective is ½ Σ_j w_ij (x·φ_j − y_ij)² + ½ Σ_c λ_c x_c², with x = [u_i | b_i],
φ_j = [v_j | 1] (with biases; else x = u_i, φ_j = v_j), y_ij = r_ij − c_j − μ and λ_c = ρ_i reg_c.
Its minimum solves

    (A_i + diag λ) x = c_i    A_i = Σ_{j ∈ Ω_i} w_ij φ_j φ_jᵀ    c_i = Σ_{j ∈ Ω_i} w_ij y_ij φ_j (1)

Missing entries add α Σ_j φ_j φ_jᵀ and α Σ_j (b_ij − c_j) φ_j over *all* rows j of the other side,
and each rating takes off what they say of it: w becomes w − α, and w y becomes w y − α (b − c).
With Φ the rows √w φ of a row's n ratings, and t the numbers √w y, the same x is

    x = D Φᵀ (Φ D Φᵀ + I)⁻¹ t        D = diag 1/λ                                                (2)

(derived from (1) by the push-through identity), n × n instead of k × k: for the many rows with few
ratings.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from mfjax.kernels.gather import in_vectors, near_rows
from mfjax.kernels.layout import (
    ROWS,
    Rated,
    Side,
    add_to_strips,
    arranged,
    in_strips,
    rated,
    rows_of_strips,
    tiles_a_step,
    tiles_of,
)
from mfjax.kernels.shards import by_shard
from mfjax.kernels.tiles import Table, View
from mfjax.objective import Columns, LaneTerms, Seen
from mfjax.types import AnyArray, Spec

T = TypeVar("T")

_TINY = 1e-30  # keeps a row of zeros regular
_ROUNDING = 4  # the ridge of a λ of 0, in ε times the sum of A's diagonal


class Rows(NamedTuple):
    """What rows bring to their equations beside their ratings; `more` is who asks's own."""

    background: Float[Array, " n"]
    row_reg: Float[Array, " n"]
    is_real: Bool[Array, " n"]
    more: PyTree = ()


class Group(NamedTuple):
    """Rows of one shard that are solved together, and the tiles that their ratings stand in."""

    rows: Rows
    side: Side
    other: Table
    strip: Int[Array, ""]  # its first
    begin: Int[Array, ""]  # its first tile
    end: Int[Array, ""]  # the tile after its last


class Normal(NamedTuple):
    """A and c of equation (1) for n rows, in their latent and bias parts."""

    gram: Float[Array, "*n latent latent"]
    pair: Float[Array, "*n latent 2"]  # Σ w v and Σ w y v
    scalar: Float[Array, "*n 2"]  # Σ w and Σ w y


class Ridge(NamedTuple):
    """`free` (0 or 1) and λ of the columns of x, and the least λ of a row.

    That is `floor` times ε times the sum of A's diagonal; 0 where rounding is no trouble.
    """

    free: Float[Array, " columns"]
    reg: Float[Array, "n columns"]
    floor: Float[Array, " n"]


class Shared(NamedTuple):
    """What all groups of a side have in common."""

    columns: Columns
    missing: Normal  # of the missing entries, but for α
    lane: LaneTerms


def rows_of(view: View, more: PyTree = ()) -> Rows:
    """The rows of one side in the order of their positions, with more that is of each."""
    return Rows(
        background=view.own.background,
        row_reg=arranged(view.row_reg, view.side),
        is_real=view.side.row < len(view.side.position),
        more=jax.tree.map(partial(arranged, side=view.side), more),
    )


def solve_rows(view: View, lane: LaneTerms, spec: Spec) -> Table:
    """The rows of one side at their minimum, given the other side's.

    A λ of 0 counts as the rounding of A: where A is regular x is exact, and where it is singular a
    minimum of about the least norm. Where rounding makes A + diag λ indefinite, λ is raised until
    it is not.
    """
    num_rows = len(view.side.position)
    missing = _missing(view.other, spec.num_users + spec.num_items - num_rows)
    shared = Shared(view.columns, missing, lane)
    return by_group(partial(_solve_until_finite, spec=spec), view, rows_of(view), shared, spec)


def by_group(
    solve: Callable[[Group, T], Float[Array, "n columns"]],
    view: View,
    rows: Rows,
    shared: T,
    spec: Spec,
) -> Table:
    """What `solve(group, shared)` finds of all rows of one side, a group of them at a time."""

    def of_shard(side: Side, rows: Rows, other: Table, shared: T):
        def of_group(nth):
            group = _group(nth, rows, side, other, spec)
            x = solve(group, shared)
            return jnp.where(group.rows.is_real[:, None], x, 0)

        num_groups = len(rows.row_reg) // spec.tiling.group
        x = jax.lax.map(of_group, jnp.arange(num_groups))
        x = x.reshape(-1, x.shape[-1])
        return (), _table(x, rows.background, spec)

    of_side = (view.side, rows, view.other)
    _, solved = by_shard(of_shard, spec.tiling, of_side, (shared,))
    return solved


def _table(
    x: Float[Array, "positions columns"], background: Float[Array, " positions"], spec: Spec
) -> Table:
    nothing = jnp.zeros(len(x), x.dtype)
    return Table(
        latent=in_vectors(x[:, : spec.max_rank]),
        bias=x[:, spec.max_rank] if spec.bias else nothing,
        background=background,
    )


# a group of rows


def _group(
    nth: Int[Array, ""],
    rows: Rows,
    side: Side,
    other: Table,
    spec: Spec,
) -> Group:
    num_strips = spec.tiling.group // ROWS
    strip = nth * num_strips

    def of_group(column):
        return column.reshape(-1, spec.tiling.group, *column.shape[1:])[nth]

    return Group(
        rows=jax.tree.map(of_group, rows),
        side=side,
        other=other,
        strip=strip,
        begin=side.first[strip],
        end=side.first[strip + num_strips],
    )


def _solve_until_finite(group: Group, shared: Shared, spec: Spec) -> Float[Array, "n columns"]:
    """x of each row, the least λ raised where rounding leaves a row no Cholesky factor."""
    dtype = group.rows.row_reg.dtype
    n = spec.tiling.group
    most = 1 / jnp.finfo(dtype).eps  # what is NaN beyond has NaN in its sums

    def goes_on(now):
        floor, x = now
        return jnp.isnan(x).any() & (floor.max() < most)

    def solve(now):
        floor, _ = now
        x = _solve_group(group, floor, shared, spec)
        higher = 16 * jnp.maximum(floor, 1)
        return jnp.where(jnp.isnan(x).any(1), higher, floor), x

    unsolved = jnp.full((n, len(shared.columns.reg)), jnp.nan, dtype)
    _, x = jax.lax.while_loop(goes_on, solve, (jnp.zeros(n, dtype), unsolved))
    return x


def _solve_group(
    group: Group, floor: Float[Array, " n"], shared: Shared, spec: Spec
) -> Float[Array, "n columns"]:
    """x of each row, by equation (1) or, where cheaper, (2)."""
    columns, missing, lane = shared
    row_reg = group.rows.row_reg[:, None]
    ridge = Ridge(columns.free, row_reg * columns.reg[None], floor)

    def by_columns():
        normal = normal_equations(group, lane, spec)
        if spec.missing != "ignore":
            normal = _with_missing(normal, missing, group.rows.background, lane.gram_alpha)
        return _minimum(normal, ridge, spec)

    def by_ratings():
        return _minimum_of_few(group, ridge, lane, spec)

    are_small = 2 * spec.tiling.width <= len(columns.reg)
    if spec.missing != "ignore" or not are_small:
        return by_columns()
    has_inverse = jnp.all((columns.reg > 0) | (columns.free == 0))
    has_few = _tiles_of_strips(group, spec).max() <= 1
    is_first = floor.max() == 0
    return jax.lax.cond(has_few & has_inverse & is_first, by_ratings, by_columns)


def _tiles_of_strips(group: Group, spec: Spec) -> Int[Array, " strips"]:
    num_strips = spec.tiling.group // ROWS
    first = jax.lax.dynamic_slice_in_dim(group.side.first, group.strip, num_strips + 1)
    return jnp.diff(first)


def _ratings(
    group: Group, first: Int[Array, ""], num_tiles: int, lane: LaneTerms, spec: Spec
) -> tuple[Int[Array, " tiles"], Rated]:
    """The strips of some tiles within the group, and their ratings with y for the value.

    What stands after the tiles of the group weighs nothing.
    """

    def some(tiles):
        return jax.lax.dynamic_slice_in_dim(tiles, first, num_tiles)

    chunk = jax.tree.map(some, tiles_of(group.side))
    is_own = first + jnp.arange(num_tiles) < group.end
    strip = jnp.where(is_own, chunk.strip - group.strip, 0)
    own = rows_of_strips(in_strips(group.rows.background), strip)
    col, seen = rated(chunk, own, group.other.background, lane, spec)
    row_is_own = jnp.repeat(is_own, ROWS)[:, None]
    weight = jnp.where(row_is_own, seen.weight, 0)
    target = seen.value - lane.centre
    if spec.bias:
        target -= group.other.bias[col]
    return strip, Rated(col, Seen(target, weight, seen.background))


# by columns, equation (1)


def normal_equations(
    group: Group,
    lane: LaneTerms,
    spec: Spec,
    of_other: Float[Array, " positions"] | None = None,
) -> Normal:
    """Equation (1) of one group of rows, in as many steps as its tiles need.

    Weights are multiplied by those `of_other`, one a row of the other side.
    """
    step = tiles_a_step(spec.tiling)
    latent = group.other.latent

    def add(nth, sums: Normal) -> Normal:
        first = group.begin + nth * step
        strip, ratings = _ratings(group, first, step, lane, spec)
        moments = _moments(ratings.seen)
        if of_other is not None:
            moments = [moment * of_other[ratings.col] for moment in moments]
        if spec.missing != "ignore":
            moments = _less_missing(moments, ratings, group.other, lane)
        parts = _sums_of_rows(near_rows(latent, ratings), moments)
        return jax.tree.map(partial(add_to_strips, strip=strip), sums, parts)

    def zeros(*of_row: int):
        return jnp.zeros((spec.tiling.group // ROWS, ROWS, *of_row), latent.dtype)

    size = latent.shape[1]
    start = Normal(
        gram=zeros(size, size),
        pair=zeros(size, 2),
        scalar=zeros(2),
    )
    num_steps = -(-(group.end - group.begin) // step)
    sums = jax.lax.fori_loop(0, num_steps, add, start)
    return jax.tree.map(_of_rows, sums)


def _of_rows(strips: Float[Array, "strips rows *rest"]) -> Float[Array, "n *rest"]:
    return strips.reshape(-1, *strips.shape[2:])


Moments = list[Float[Array, "n width"]]  # w and w y of some ratings


def _moments(seen: Seen) -> Moments:
    return [seen.weight, seen.weight * seen.value]


def _sums_of_rows(near: Float[Array, "n width latent"], moments: Moments) -> Normal:
    """Equation (1) of n rows from some of their ratings."""
    weight, _ = moments
    pair = [jnp.einsum("nwc,nw->nc", near, moment) for moment in moments]
    return Normal(
        gram=jnp.einsum("nwc,nwd->ncd", near * weight[..., None], near),
        pair=jnp.stack(pair, -1),
        scalar=jnp.stack(moments, -1).sum(1),
    )


def _less_missing(
    moments: Moments,
    ratings: Rated,
    other: Table,
    lane: LaneTerms,
) -> Moments:
    """The moments of ratings, less what the missing entries say of them: α and α y."""
    weight, target = moments
    alpha = jnp.where(ratings.seen.weight > 0, lane.gram_alpha, 0)
    missing = ratings.seen.background - other.bias[ratings.col]
    return [weight - alpha, target - alpha * missing]


def _missing(other: Table, num_others: int) -> Normal:
    """The sums of equation (1) over all rows of the other side, with b_j − c_j for y."""
    target = other.background - other.bias
    latent = other.latent
    pair = [latent.sum(0), latent.T @ target]
    scalar = [jnp.full_like(target[0], num_others), target.sum()]
    return Normal(
        gram=latent.T @ latent,
        pair=jnp.stack(pair, -1),
        scalar=jnp.stack(scalar),
    )


def _with_missing(
    normal: Normal,
    missing: Normal,
    background: Float[Array, " n"],
    alpha: Float[AnyArray, ""] | float,
) -> Normal:
    """The normal equations with α times those of the missing entries.

    `background` is what b takes from these rows, which is a part of their every y.
    """
    latent_sum, latent_target = missing.pair.T
    count, target = missing.scalar
    right = latent_target[None] + background[:, None] * latent_sum[None]
    left = jnp.broadcast_to(latent_sum[None], right.shape)
    pair = jnp.stack([left, right], -1)
    scalar = [
        jnp.full_like(background, count),
        target + background * count,
    ]
    return Normal(
        gram=normal.gram + alpha * missing.gram[None],
        pair=normal.pair + alpha * pair,
        scalar=normal.scalar + alpha * jnp.stack(scalar, -1),
    )


def _minimum(normal: Normal, ridge: Ridge, spec: Spec) -> Float[Array, "n columns"]:
    """x of equation (1); A + diag λ is the unit matrix in the columns that are not free."""
    a, c = equations(normal, spec)
    free = ridge.free
    rounding = _rounding(a, free)[:, None]
    least = ridge.floor[:, None] * rounding
    smallest = jnp.maximum(least, _ROUNDING * rounding)
    reg = jnp.where(ridge.reg > 0, jnp.maximum(ridge.reg, least), smallest) + _TINY
    diagonal = free[None] * reg + (1 - free)[None]
    both_free = free[:, None] * free[None]
    unit = jnp.eye(len(free), dtype=a.dtype)
    regular = a * both_free[None] + diagonal[..., None] * unit[None]
    return _solve(regular, free[None] * c)


def equations(
    normal: Normal, spec: Spec
) -> tuple[Float[Array, "n columns columns"], Float[Array, "n columns"]]:
    """A and c of equation (1), whole."""
    rank = spec.max_rank
    a = normal.gram[:, :rank, :rank]
    c = normal.pair[:, :rank, 1]
    if not spec.bias:
        return a, c
    edge = normal.pair[:, :rank, :1]
    corner = normal.scalar[:, None, :1]
    upper = jnp.concatenate([a, edge], 2)
    lower = jnp.concatenate([edge.mT, corner], 2)
    whole = jnp.concatenate([upper, lower], 1)
    return whole, jnp.concatenate([c, normal.scalar[:, 1:2]], 1)


# by ratings, equation (2)


def _minimum_of_few(
    group: Group, ridge: Ridge, lane: LaneTerms, spec: Spec
) -> Float[Array, "n columns"]:
    """x of equation (2).

    The strips of the group have one tile each, or none, and those come last.
    """
    rank = spec.max_rank
    num_strips = spec.tiling.group // ROWS
    _, ratings = _ratings(group, group.begin, num_strips, lane, spec)
    root = jnp.sqrt(ratings.seen.weight)
    near = near_rows(group.other.latent, ratings)[..., :rank]
    near *= root[..., None]
    reg = jnp.where(ridge.reg > 0, ridge.reg, 1)
    inverse = ridge.free[None] / reg
    inner = jnp.einsum("nwc,nvc->nwv", near * inverse[:, None, :rank], near)
    if spec.bias:
        of_bias = inverse[:, rank, None, None]
        inner += of_bias * root[:, :, None] * root[:, None]
    unit = jnp.eye(inner.shape[-1], dtype=inner.dtype)
    residual = _solve(inner + unit[None], root * ratings.seen.value)
    x = jnp.einsum("nwc,nw->nc", near, residual)
    if spec.bias:
        bias = (root * residual).sum(1, keepdims=True)
        x = jnp.concatenate([x, bias], 1)
    return inverse * x


# positive definite systems


def _rounding(
    a: Float[Array, "n columns columns"], free: Float[Array, " columns"]
) -> Float[Array, " n"]:
    """ε times the sum of the diagonal, of the columns that are `free`."""
    diagonal = jnp.diagonal(a, axis1=1, axis2=2)
    return jnp.finfo(a.dtype).eps * (diagonal @ free)


def _solve(
    a: Float[Array, "n columns columns"], right: Float[Array, "n columns"]
) -> Float[Array, "n columns"]:
    """The solutions; NaN where a system has no Cholesky factor."""
    return in_pieces(_solved, a, right)


def _solved(
    a: Float[Array, "*n columns columns"], right: Float[Array, "*n columns"]
) -> Float[Array, "*n columns"]:
    lower = jnp.linalg.cholesky(a)
    x = jax.scipy.linalg.cho_solve((lower, True), right[..., None])
    return x[..., 0]


def in_pieces(
    solved: Callable[..., Float[Array, "n columns"]],
    a: Float[Array, "n columns columns"],
    *right: Float[Array, "n columns"],
) -> Float[Array, "n columns"]:
    """`solved(a, *right)`, on a CPU so few rows at a time that no thread is waited for.

    jaxlib hands systems to XLA's threads from 200,000 FLOPs a call and waits on a thread of the
    same pool: two CPU devices that do so at once wait for each other for ever (jaxlib 0.10.2).
    """

    def few_at_a_time(*systems):
        fitting = 200_000 // a.shape[-1] ** 3
        rows = 1 << max(fitting.bit_length() - 1, 0)
        if rows >= len(a):
            return solved(*systems)
        return jax.lax.map(lambda row: solved(*row), systems, batch_size=rows)

    return jax.lax.platform_dependent(a, *right, cpu=few_at_a_time, default=solved)
