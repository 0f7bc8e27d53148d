"""Alternating least squares: each row at its minimum given the other side, or nearer to it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from mfjax.errors import InputError
from mfjax.kernels import Kernel
from mfjax.kernels.kernel import ITEM, USER
from mfjax.methods.initial import initial_factors
from mfjax.objective import LaneTerms, held_out, lane_terms, off_ratings, pin, regulariser
from mfjax.types import (
    CheckFn,
    Factors,
    Hparams,
    Info,
    Method,
    Ratings,
    Spec,
    State,
)

Loss = Float[Array, ""]
SweepFn = Callable[[Factors, Any, LaneTerms], tuple[Factors, Loss]]
SideGradientFn = Callable[..., tuple[Loss, Float[Array, "rows columns"]]]


def als(spec: Spec, *, kernel: Kernel) -> Method:
    """One epoch solves each user's row given the items, then each item's given the users.

    Derivation: L is quadratic in one row, and the rows of a side do not meet: ∂L/∂u_i = 0 is
    (A_i + ρ_i diag(reg)) u_i = c_i with A_i and c_i of equation (1) of `mfjax.kernels.normal`, the
    bias among them. Each half-step is the minimum of L over a whole side, so that L never rises,
    and s of `mfjax.objective` drops out. With `reg_by=count` this is ALS-WR (Zhou, Wilkinson,
    Schreiber and Pan, "Large-scale Parallel Collaborative Filtering for the Netflix Prize", 2008);
    with a background, the missing entries cost a Gram matrix a side (Hu, Koren and Volinsky,
    "Collaborative Filtering for Implicit Feedback Datasets", 2008, equations (4) and (5)).

    Time: O(ratings · k² + (users + items) · k³) an epoch.

    Args:
      spec: the shapes and the conventions.
      kernel: what sums and solves, made for `spec`.

    Returns:
      A Method that reads no learning rate; with λ = 0 and `missing=ignore`, its `check` refuses a
      row that has fewer ratings than free columns.
    """

    def sweep(factors: Factors, layout: Any, lane: LaneTerms) -> tuple[Factors, Loss]:
        tables = kernel.tables(factors, lane, layout)
        users = kernel.views(tables, lane, layout).user
        _, user_table = kernel.solve_rows(users, lane)
        tables = tables._replace(user=user_table)
        items = kernel.views(tables, lane, layout).item
        loss, item_table = kernel.solve_rows(items, lane)
        user = kernel.in_rows(user_table, users)
        item = kernel.in_rows(item_table, items)
        after = pin(Factors(user, item), lane.columns)
        regularised, _ = regulariser(after, lane)
        return after, lane.scale * (loss + regularised)

    method = _alternating(sweep, kernel, spec)
    return method._replace(check=_refuse_without_regulariser(spec), solves_rows=True)


def als_cg(spec: Spec, *, kernel: Kernel, cg_steps: int = 3) -> Method:
    """As `als`, with `cg_steps` steps of conjugate gradients in place of each row's solution.

    Derivation: ∂L/∂u_i is linear in u_i, with the matrix A_i + ρ_i diag(reg) of `als`; a product
    with it is the gradient of this side without ratings and background, so that no k × k matrix is
    formed (Takács, Pilászy and Tikk, "Applications of the Conjugate Gradient Method for Implicit
    Feedback Collaborative Filtering", 2011). The steps start from where each row is, so that L
    never rises here either.

    Time: O(cg_steps · (ratings · k + (users + items) · k²)) an epoch: less than `als` at large
    ranks.

    Args:
      spec: the shapes and the conventions.
      kernel: what sums, made for `spec`.
      cg_steps: steps of conjugate gradients a row and half-sweep.

    Returns:
      A Method that reads no learning rate.
    """
    gradient = _side_gradient(kernel, spec)

    def half_sweep(
        factors: Factors, side: int, layout: Any, lane: LaneTerms
    ) -> tuple[Factors, Loss]:
        without_values = lane._replace(background=jnp.zeros_like(lane.background))

        def product(direction):
            at = _with_side(factors, side, direction)
            _, image = gradient(at, side, layout, without_values, of_values=False)
            return image

        _, slope = gradient(factors, side, layout, lane)
        rows = _conjugate_gradients(product, factors[side], -slope, cg_steps)
        factors = _with_side(factors, side, rows)
        loss, _ = gradient(factors, side, layout, lane)
        return factors, loss

    def sweep(factors: Factors, layout: Any, lane: LaneTerms) -> tuple[Factors, Loss]:
        factors, _ = half_sweep(factors, USER, layout, lane)
        factors, loss = half_sweep(factors, ITEM, layout, lane)
        return factors, lane.scale * loss

    return _alternating(sweep, kernel, spec)


def _alternating(sweep: SweepFn, kernel: Kernel, spec: Spec) -> Method:
    """A method whose epoch is a sweep over both sides."""

    def init(
        key: Array,
        layout: Any,
        hparams: Hparams,
        factors: Factors | None = None,
    ) -> State:
        lane = lane_terms(layout.sums, hparams, spec)
        return State(initial_factors(key, lane, hparams, spec, factors), ())

    def step(state: State, layout: Any, hparams: Hparams, visits: None) -> tuple[State, Info]:
        lane = lane_terms(layout.sums, hparams, spec)
        after, loss = sweep(state.factors, layout, lane)
        change = jax.tree.map(jnp.subtract, after, state.factors)
        return State(after, ()), Info(loss, optax.tree.norm(change))

    return Method(
        prepare=kernel.prepare,
        init=init,
        step=step,
        work_bytes=kernel.work_bytes,
        shares_rows=True,
    )


# conjugate gradients


def _side_gradient(kernel: Kernel, spec: Spec) -> SideGradientFn:
    """`(factors, side, layout, lane) -> (L, ∂L)`, without s, in the rows of one side alone."""

    def gradient(
        factors: Factors, side: int, layout: Any, lane: LaneTerms, *, of_values: bool = True
    ) -> tuple[Loss, Float[Array, "rows columns"]]:
        tables = kernel.tables(factors, lane, layout)
        view = kernel.views(tables, lane, layout)[side]
        loss, sums = kernel.error_sums(view, lane, of_values=of_values)
        rest, grad = off_ratings(factors, lane, spec)
        rows = grad[side] + kernel.in_rows(sums, view)
        return loss + rest, rows * lane.columns[side].free[None]

    return gradient


def _with_side(factors: Factors, side: int, rows: Float[Array, "rows columns"]) -> Factors:
    """The factors with one side replaced."""
    if side == USER:
        return factors._replace(user=rows)
    return factors._replace(item=rows)


def _conjugate_gradients(
    product: Callable[[Float[Array, "rows columns"]], Float[Array, "rows columns"]],
    rows: Float[Array, "rows columns"],
    residual: Float[Array, "rows columns"],
    steps: int,
) -> Float[Array, "rows columns"]:
    """Rows nearer to where their `residual` is 0; all of them take their steps together.

    `product` multiplies the rows of a table by the matrix of each.
    """

    def step(carry, _):
        rows, residual, direction = carry
        image = product(direction)
        square = _dot(residual, residual)
        length = _ratio(square, _dot(direction, image))
        rows += length * direction
        residual -= length * image
        turn = _ratio(_dot(residual, residual), square)
        return (rows, residual, residual + turn * direction), None

    start = (rows, residual, residual)
    (rows, _, _), _ = jax.lax.scan(step, start, length=steps)
    return rows


def _dot(
    a: Float[Array, "rows columns"], b: Float[Array, "rows columns"]
) -> Float[Array, "rows 1"]:
    return (a * b).sum(1, keepdims=True)


def _ratio(a: Float[Array, "rows 1"], b: Float[Array, "rows 1"]) -> Float[Array, "rows 1"]:
    """a / b, and 0 where b is 0: a row at its minimum stays there."""
    some = b > 0
    return jnp.where(some, a / jnp.where(some, b, 1), 0)


# what `als` cannot solve


def _refuse_without_regulariser(spec: Spec) -> CheckFn:
    """Refuses a row with fewer ratings than columns, if nothing else determines it."""

    def check(ratings: Ratings, hparams: Hparams) -> None:
        is_determined = hparams.reg > 0 or spec.missing != "ignore"
        if is_determined or hparams.rank == 0:
            return
        columns = int(hparams.rank) + spec.bias
        is_trained = (ratings.weight > 0) & ~held_out(ratings.fold, hparams)
        _refuse_fewer(columns, "user", ratings.user[is_trained])
        _refuse_fewer(columns, "item", ratings.item[is_trained])

    return check


def _refuse_fewer(columns: int, name: str, row: np.ndarray) -> None:
    """Raises InputError for a row that has ratings, and fewer than `columns`."""
    count = np.bincount(row)
    few = np.flatnonzero((count > 0) & (count < columns))
    if len(few):
        raise InputError(
            f"method=als with reg=0: {name} {few[0]} (counted from 0) has {count[few[0]]} training "
            f"rating(s) and {columns} free columns, so that many rows fit them equally well; "
            f"{len(few):,} {name}s are like it\n"
            "set hparams.reg above 0, or a lower hparams.rank"
        )
