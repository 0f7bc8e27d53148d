"""Alternating least squares: each row at its minimum given the other side, or nearer to it."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from mfjax.bags import Sources, is_transductive, spread
from mfjax.bags.regression import regressed
from mfjax.bags.tables import (
    Bagged,
    Embeddings,
    combined,
    no_embeddings,
    of_rated,
    prepare_bagged,
)
from mfjax.errors import InputError
from mfjax.kernels import Kernel
from mfjax.kernels.choice import best_kernel
from mfjax.kernels.kernel import ITEM, USER, with_side
from mfjax.losses import require_squared
from mfjax.methods.initial import initial_factors
from mfjax.objective import LaneTerms, held_out, lane_terms, regulariser
from mfjax.types import (
    AnyArray,
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


def als(spec: Spec, *, kernel: Kernel | None = None, bags: Sources | None = None) -> Method:
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
      kernel: what sums and solves, made for `spec`; None: `best_kernel`.
      bags: the sources of features of each side, whose embeddings start at 0 and are regressed on
        after the rows of their side; None: none.

    Returns:
      A Method that reads no learning rate. With λ = 0 a row whose system is regular is exact; its
      `check` refuses rows with fewer entries than free columns, and where the rows of the other
      side are collinear besides, a minimum of about the least norm is taken.

    Raises:
      InputError: the loss is not `squared`; or there are bags, and `missing` is not `ignore`.
    """
    _refuse_other_losses(spec, "als")
    kernel = kernel or best_kernel(spec)

    def solved(
        factors: Factors, side: int, layout: Any, lane: LaneTerms
    ) -> tuple[Factors, Float[Array, ""]]:
        rows = kernel.solve_rows(factors, side, layout, lane)
        after = with_side(factors, side, rows)
        return after, kernel.objective(after, layout, lane)

    method = _alternating(solved, kernel, spec, bags)
    return method._replace(check=_refuse_undetermined(spec), solves_rows=True)


def als_cg(
    spec: Spec,
    *,
    kernel: Kernel | None = None,
    cg_steps: int = 3,
    bags: Sources | None = None,
) -> Method:
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
      kernel: what sums, made for `spec`; None: `best_kernel`.
      cg_steps: steps of conjugate gradients a row and half-sweep.
      bags: as those of `als`.

    Returns:
      A Method that reads no learning rate.

    Raises:
      InputError: the loss is not `squared`; or there are bags, and `missing` is not `ignore`.
    """
    _refuse_other_losses(spec, "als_cg")
    kernel = kernel or best_kernel(spec)

    def nearer(
        factors: Factors, side: int, layout: Any, lane: LaneTerms
    ) -> tuple[Factors, Float[Array, ""]]:
        rows, loss = kernel.approach_rows(factors, side, layout, lane, steps=cg_steps)
        return with_side(factors, side, rows), loss

    return _alternating(nearer, kernel, spec, bags)


# `(factors, side, layout, lane) -> (factors, L)`: one side moved, and what L is then
_HalfSweepFn = Callable[[Factors, int, Any, LaneTerms], tuple[Factors, Float[Array, ""]]]


def _alternating(
    half_sweep: _HalfSweepFn, kernel: Kernel, spec: Spec, bags: Sources | None
) -> Method:
    """A method whose epoch moves the rows of the users, and then those of the items."""
    if bags is not None:
        return _alternating_with_bags(half_sweep, kernel, spec, bags)

    def init(
        key: Array,
        layout: Any,
        hparams: Hparams,
        factors: Factors | None = None,
    ) -> State:
        lane = lane_terms(layout.sums, hparams, spec)
        return State(initial_factors(key, lane, hparams, spec, factors), ())

    def step(
        state: State, layout: Any, hparams: Hparams, epoch: Int[Array, ""] | int
    ) -> tuple[State, Info]:
        lane = lane_terms(layout.sums, hparams, spec)
        users_moved, _ = half_sweep(state.factors, USER, layout, lane)
        after, loss = half_sweep(users_moved, ITEM, layout, lane)
        change = jax.tree.map(jnp.subtract, after, state.factors)
        return State(after, ()), Info(loss, optax.tree.norm(change))

    return Method(
        prepare=kernel.prepare,
        init=init,
        step=step,
        work_bytes=kernel.work_bytes,
        shares_rows=kernel.shares_rows,
        errors=kernel.errors,
    )


# with bags


def _alternating_with_bags(
    half_sweep: _HalfSweepFn, kernel: Kernel, spec: Spec, bags: Sources
) -> Method:
    """As `_alternating`; the rows of a side are solved around the sums of their features.

    Its embeddings are regressed on those rows, before the other side moves.
    """
    if spec.missing != "ignore":
        raise InputError(
            f"method=als with bags needs missing=ignore, got {spec.missing}; use method=descent"
        )

    def init(
        key: Array,
        layout: Bagged,
        hparams: Hparams,
        factors: Factors | None = None,
    ) -> State:
        lane = lane_terms(layout.sums, hparams, spec)
        start = initial_factors(key, lane, hparams, spec, factors)
        return State(start, (), no_embeddings(layout.bags, spec))

    def moved(
        factors: Factors, embeddings: Embeddings, side: int, layout: Bagged, of: _OfLane
    ) -> tuple[Factors, Embeddings]:
        bag = layout.bags[side]
        if bag is None:
            return half_sweep(factors, side, layout.ratings, of.lane)[0], embeddings
        mean = spread(bag, embeddings[side], of.lane)
        around = with_side(factors, side, factors[side] - mean)
        less = kernel.less(layout.ratings, side, mean, factors)
        rows = half_sweep(around, side, less, of.lane)[0][side] + mean
        table = regressed(bag, embeddings[side], rows, of.lane, of.reg_bag)
        return with_side(factors, side, rows), with_side(embeddings, side, table)

    def objective(
        factors: Factors, embeddings: Embeddings, layout: Bagged, of: _OfLane
    ) -> Float[Array, ""]:
        lane = of.lane
        of_data = lane._replace(
            columns=Sides(*(side._replace(reg=0 * side.reg) for side in lane.columns))
        )
        loss = kernel.objective(factors, layout.ratings, of_data)
        sums = combined(factors, embeddings, layout.bags, lane)
        own = jax.tree.map(lambda rows, both: 2 * rows - both, factors, sums)
        decay, _ = regulariser(own, lane)
        squares = optax.tree.norm(embeddings, squared=True)
        return loss + lane.scale * (decay + of.reg_bag * squares / 2)

    def step(
        state: State, layout: Bagged, hparams: Hparams, epoch: Int[Array, ""] | int
    ) -> tuple[State, Info]:
        of = _OfLane(lane_terms(layout.sums, hparams, spec), hparams.reg_bag)
        factors, embeddings = state.factors, state.embeddings
        for side in (USER, ITEM):
            factors, embeddings = moved(factors, embeddings, side, layout, of)
        loss = objective(factors, embeddings, layout, of)
        change = jax.tree.map(jnp.subtract, factors, state.factors)
        return State(factors, (), embeddings), Info(loss, optax.tree.norm(change))

    return Method(
        prepare=partial(
            prepare_bagged,
            prepare=kernel.prepare,
            sources=bags,
            spec=spec,
            shares_rows=kernel.shares_rows,
        ),
        init=init,
        step=step,
        reads=("reg_bag",),
        work_bytes=kernel.work_bytes,
        shares_rows=kernel.shares_rows,
        errors=kernel.errors,
        rated=of_rated(bags, spec),
        transductive=is_transductive(bags),
    )


class _OfLane(NamedTuple):
    """What a lane brings to an epoch."""

    lane: LaneTerms
    reg_bag: Float[AnyArray, ""]


# what `als` cannot solve


def _refuse_other_losses(spec: Spec, name: str) -> None:
    """Raises InputError where L is not quadratic in a row."""
    require_squared(spec, f"method={name} solves for squares and", "use method=sgd or descent")


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
