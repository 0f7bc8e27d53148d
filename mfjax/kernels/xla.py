"""The kernel in XLA alone, for every platform: tiles of ratings, and batches of them."""

from dataclasses import replace
from functools import partial

import jax.numpy as jnp
from jaxtyping import Array, Float

from mfjax.kernels.batches import visitor
from mfjax.kernels.conjugate import approach_rows
from mfjax.kernels.draw import draw_rows
from mfjax.kernels.kernel import BATCH_SIZE, USER, Kernel, Loss, OwnRows, Prior
from mfjax.kernels.layout import Tiles, prepare
from mfjax.kernels.normal import solve_rows
from mfjax.kernels.tiles import error_sums, in_rows, less, tables, views, work_bytes
from mfjax.objective import Columns, LaneTerms, off_ratings, pin, zero_pinned
from mfjax.types import Factors, Sides, Spec


def xla_kernel(spec: Spec) -> Kernel:
    """Sums over tiles of ratings, and batches of ratings, in XLA.

    Derivation: equation (1) of `mfjax.kernels.tiles` for the gradient, (1) and (2) of
    `mfjax.kernels.normal` for the rows at their minimum, and `mfjax.kernels.batches`.

    Args:
      spec: the shapes, the conventions and the tiling.

    Returns:
      The Kernel; its `prepare` refuses ratings whose tiles would not fit in memory.
    """
    return Kernel(
        prepare=partial(prepare, spec=spec),
        gradient=partial(_gradient, spec=spec),
        objective=partial(_objective, spec=spec),
        solve_rows=partial(_solve_rows, spec=spec),
        approach_rows=partial(approach_rows, spec=spec),
        draw_rows=partial(_draw_rows, spec=spec),
        sums=partial(_sums, spec=spec),
        less=less,
        visitor=partial(visitor, spec),
        usual_batch_size=lambda optimizer: BATCH_SIZE,
        work_bytes=work_bytes(spec),
        shares_rows=True,
        errors=None,
    )


def _gradient(factors: Factors, layout: Tiles, lane: LaneTerms, spec: Spec) -> tuple[Loss, Factors]:
    factors = pin(factors, lane.columns)
    both = views(tables(factors, lane, layout, spec), lane, layout, spec)
    loss, user_sums = error_sums(both.user, lane, spec)
    _, item_sums = error_sums(both.item, lane, spec)
    rest, grad = off_ratings(factors, lane, spec)
    user = grad.user + in_rows(user_sums, both.user, spec)
    item = grad.item + in_rows(item_sums, both.item, spec)
    scaled = Factors(lane.scale * user, lane.scale * item)
    return lane.scale * (loss + rest), zero_pinned(scaled, lane.columns)


def _objective(factors: Factors, layout: Tiles, lane: LaneTerms, spec: Spec) -> Loss:
    # from residuals: the minimum by its equations is a difference of large sums
    users = views(tables(factors, lane, layout, spec), lane, layout, spec).user
    loss, _ = error_sums(users, lane, spec)
    rest, _ = off_ratings(factors, lane, spec)
    return lane.scale * (loss + rest)


def _solve_rows(factors: Factors, side: int, layout: Tiles, lane: LaneTerms, spec: Spec) -> OwnRows:
    view = views(tables(factors, lane, layout, spec), lane, layout, spec)[side]
    rows = in_rows(solve_rows(view, lane, spec), view, spec)
    columns = lane.columns[side]
    return rows * columns.free[None] + columns.pin[None]


def _draw_rows(
    factors: Factors, side: int, layout: Tiles, lane: LaneTerms, prior: Prior, spec: Spec
) -> OwnRows:
    view = views(tables(factors, lane, layout, spec), lane, layout, spec)[side]
    other = layout[1 - side]
    rows = in_rows(draw_rows(view, other, prior, lane, spec), view, spec)
    columns = lane.columns[side]
    return rows * columns.free[None] + columns.pin[None]


def _sums(
    rows: Float[Array, "others columns"], side: int, layout: Tiles, lane: LaneTerms, spec: Spec
) -> OwnRows:
    """As the gradient of ratings of −1 at own rows of 0, whose errors are their weights."""
    whole = replace(spec, max_rank=rows.shape[1], bias=False, loss=Spec.loss)
    num_rows = (spec.num_users, spec.num_items)[side]
    own = jnp.zeros((num_rows, rows.shape[1]), rows.dtype)
    factors = Factors(*((own, rows) if side == USER else (rows, own)))
    plain = _squared_error(factors, lane)
    view = views(tables(factors, plain, layout, whole), plain, layout, whole)[side]
    ones = view.side._replace(value=jnp.full_like(view.side.value, -1))
    _, found = error_sums(view._replace(side=ones), plain, whole)
    return in_rows(found, view, whole)


def _squared_error(factors: Factors, lane: LaneTerms) -> LaneTerms:
    """The constants of an objective that is the squared error alone, all columns free."""
    dtype = factors.user.dtype
    one = jnp.ones((), dtype)
    width = factors.user.shape[1]
    nothing = jnp.zeros(width, dtype)
    of_side = Columns(free=jnp.ones(width, dtype), pin=nothing, reg=nothing)
    of_rows = Sides(*(jnp.zeros(len(table), dtype) for table in factors))
    return LaneTerms(
        fold=lane.fold,
        columns=Sides(of_side, of_side),
        counts=of_rows,
        row_reg=of_rows,
        centre=0 * one,
        alpha=0 * one,
        gram_alpha=0 * one,
        background=of_rows.item,
        scale=one,
        loss_hparams=(),
    )
