"""Rows of one side nearer to their minimum, by conjugate gradients on the sums of tiles."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mfjax.kernels.kernel import Loss, OwnRows, with_side
from mfjax.kernels.layout import Tiles
from mfjax.kernels.tiles import error_sums, in_rows, tables, views
from mfjax.objective import LaneTerms, off_ratings
from mfjax.types import Factors, Spec


def approach_rows(
    factors: Factors, side: int, layout: Tiles, lane: LaneTerms, steps: int, spec: Spec
) -> tuple[OwnRows, Loss]:
    """`steps` of conjugate gradients from where the rows are, so that L never rises; and L there.

    ∂L/∂u_i is linear in u_i; a product with its matrix is the gradient of this side without ratings
    and background, so that no k × k matrix is formed.
    """
    without_values = lane._replace(background=jnp.zeros_like(lane.background))

    def product(direction: OwnRows) -> OwnRows:
        at = with_side(factors, side, direction)
        return _side_gradient(at, side, layout, without_values, spec, of_values=False)[1]

    before, slope = _side_gradient(factors, side, layout, lane, spec)
    rows, taken = conjugate_gradients(product, factors[side], -slope, steps)
    return rows, lane.scale * (before - taken)


def _side_gradient(
    factors: Factors,
    side: int,
    layout: Tiles,
    lane: LaneTerms,
    spec: Spec,
    *,
    of_values: bool = True,
) -> tuple[Loss, OwnRows]:
    """L and its gradient in the rows of one side alone, without s."""
    view = views(tables(factors, lane, layout, spec), lane, layout, spec)[side]
    loss, sums = error_sums(view, lane, spec, of_values=of_values)
    rest, grad = off_ratings(factors, lane, spec)
    rows = grad[side] + in_rows(sums, view, spec)
    return loss + rest, rows * lane.columns[side].free[None]


def conjugate_gradients(
    product: Callable[[OwnRows], OwnRows], rows: OwnRows, residual: OwnRows, steps: int
) -> tuple[OwnRows, Loss]:
    """Rows nearer to where their `residual` is 0; all of them take their steps together.

    With M the matrix of a row and r its residual, a step takes ½ · length · |r|² off ½ xᵀMx − cᵀx,
    whose minimum is where r = c − Mx is 0.

    Args:
      product: multiplies the rows of a table by the matrix of each.
      rows: `[rows, columns]`, where they are.
      residual: what is left of each system there.
      steps: how many.

    Returns:
      `[rows, columns]`, of which a row whose residual is 0 stays; and what all steps took off, of
      all rows.
    """

    def step(carry, _):
        rows, residual, direction = carry
        image = product(direction)
        square = _dot(residual, residual)
        length = _ratio(square, _dot(direction, image))
        rows += length * direction
        residual -= length * image
        turn = _ratio(_dot(residual, residual), square)
        return (rows, residual, residual + turn * direction), (length * square).sum() / 2

    start = (rows, residual, residual)
    (rows, _, _), taken = jax.lax.scan(step, start, length=steps)
    return rows, taken.sum()


def _dot(a: OwnRows, b: OwnRows) -> Float[Array, "rows 1"]:
    return (a * b).sum(1, keepdims=True)


def _ratio(a: Float[Array, "rows 1"], b: Float[Array, "rows 1"]) -> Float[Array, "rows 1"]:
    """a / b, and 0 where b is 0: a row at its minimum stays there."""
    some = b > 0
    return jnp.where(some, a / jnp.where(some, b, 1), 0)
