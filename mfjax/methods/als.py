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
from mfjax.objective import LaneTerms, held_out, lane_terms, off_ratings, pin
from mfjax.types import (
    CheckFn,
    Factors,
    Hparams,
    Info,
    Method,
    Ratings,
    Sides,
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
      A Method that reads no learning rate. With λ = 0 a row whose system is regular is exact; its
      `check` refuses rows with fewer entries than free columns, and where the rows of the other
      side are collinear besides, a minimum of about the least norm is taken.
    """

    def sweep(factors: Factors, layout: Any, lane: LaneTerms) -> tuple[Factors, Loss]:
        tables = kernel.tables(factors, lane, layout)
        users = kernel.views(tables, lane, layout).user
        tables = tables._replace(user=kernel.solve_rows(users, lane))
        items = kernel.views(tables, lane, layout).item
        tables = tables._replace(item=kernel.solve_rows(items, lane))
        users = kernel.views(tables, lane, layout).user
        user = kernel.in_rows(tables.user, users)
        item = kernel.in_rows(tables.item, items)
        after = pin(Factors(user, item), lane.columns)
        # from residuals: the minimum by its equations is a difference of large sums
        loss, _ = kernel.error_sums(users, lane)
        rest, _ = off_ratings(after, lane, spec)
        return after, lane.scale * (loss + rest)

    method = _alternating(sweep, kernel, spec)
    return method._replace(check=_refuse_undetermined(spec), solves_rows=True)


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


def _refuse_undetermined(spec: Spec) -> CheckFn:
    """Refuses a row with fewer entries than columns that no λ holds."""

    def check(ratings: Ratings, hparams: Hparams) -> None:
        if hparams.reg > 0:
            return
        has_free_bias = spec.bias and not hparams.reg_bias > 0
        columns = int(hparams.rank) + has_free_bias
        for name, count in _entries(ratings, hparams, spec)._asdict().items():
            _refuse_fewer(columns, name, count)

    return check


def _entries(ratings: Ratings, hparams: Hparams, spec: Spec) -> Sides:
    """How many entries each row has, `[users]` and `[items]`, that cost something."""
    num_users, num_items = spec.num_users, spec.num_items
    if _costs_missing(spec, hparams):
        return Sides(np.full(num_users, num_items), np.full(num_items, num_users))
    is_trained = (ratings.weight > 0) & ~held_out(ratings.fold, hparams)
    user = np.bincount(ratings.user[is_trained], minlength=num_users)
    item = np.bincount(ratings.item[is_trained], minlength=num_items)
    return Sides(user, item)


def _costs_missing(spec: Spec, hparams: Hparams) -> bool:
    """Whether a missing entry has a weight, α > 0."""
    return spec.missing == "item_mean" or (spec.missing == "zero" and hparams.missing_weight > 0)


def _refuse_fewer(columns: int, name: str, count: np.ndarray) -> None:
    """Raises InputError for a row that has entries, and fewer than `columns`."""
    few = np.flatnonzero((count > 0) & (count < columns))
    if len(few):
        raise InputError(
            f"method=als with hparams.reg=0: {name} {few[0]} (counted from 0) has "
            f"{count[few[0]]} training entries and {columns} free columns, so that many rows fit "
            f"them equally well; {len(few):,} {name}s are like it\n"
            "set hparams.reg above 0, or a lower hparams.rank"
        )
