"""Gradients on the full users x items matrices: the clearest forms, and small problems' oracle."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from mfjax.memory import refuse_beyond_memory
from mfjax.objective import (
    FoldSums,
    LaneTerms,
    dense_loss,
    fold_sums,
    lane_terms,
    pin,
    regulariser,
    train_weight,
    weighted_loss,
    zero_pinned,
)
from mfjax.types import AnyArray, Factors, Gradient, Hparams, Ratings, Spec

LossAndGradient = tuple[Float[Array, ""], Factors]
STEP = 0.1  # of differences that have no truncation error
FINE_STEP = 3e-5  # of others: errors of some 1e-10, and a kink of the slope is seldom so near


class Dense(NamedTuple):
    """Ratings as full matrices; weight 0 is a missing entry."""

    value: Float[Array, "users items"]
    weight: Float[Array, "users items"]
    fold: Int[Array, "users items"]
    sums: FoldSums


def dense_bytes(spec: Spec) -> int:
    """An estimate of the memory of a dense gradient.

    It is that of the three matrices of the layout and three temporaries.
    """
    entry = 5 * np.dtype(spec.dtype).itemsize + 4
    return spec.num_users * spec.num_items * entry


def prepare(ratings: Ratings, spec: Spec) -> Dense:
    """The dense layout, on the host. Raises InputError where it would not fit in memory."""
    refuse_beyond_memory(
        dense_bytes(spec),
        f"the matrices of a dense gradient, {spec.num_users:,} x {spec.num_items:,},",
        "gradient=tiles, which never forms them",
    )
    real = ratings.weight > 0
    cell = (ratings.user[real], ratings.item[real])

    shape = (spec.num_users, spec.num_items)

    def full(column: np.ndarray, fill: float) -> np.ndarray:
        entries = np.full(shape, fill, column.dtype)
        entries[cell] = column[real]
        return entries

    return Dense(
        value=full(ratings.value, 0),
        weight=full(ratings.weight, 0),
        fold=full(ratings.fold, -1),
        sums=fold_sums(ratings, spec),
    )


def _lane(
    layout: Dense, hparams: Hparams, spec: Spec
) -> tuple[LaneTerms, Float[AnyArray, "users items"]]:
    """A lane's constants and its weights."""
    lane = lane_terms(layout.sums, hparams, spec)
    return lane, train_weight(layout.weight, layout.fold, lane)


def _error(
    prediction: Float[Array, "*n"],
    value: Float[Array, "*n"],
    weight: Float[Array, "*n"],
    background: Float[Array, "*#n"],
    lane: LaneTerms,
    loss: str,
) -> tuple[Float[Array, "*n"], Float[Array, "*n"]]:
    """E of equation (1) and the loss of each entry.

    The entries are those of the whole matrix, of a user's row or of an item's column.
    """
    is_rated = weight > 0
    slope, cost = weighted_loss(prediction, value, weight, lane, loss)
    gap = prediction - background
    error = jnp.where(is_rated, slope, lane.alpha * gap)
    return error, jnp.where(is_rated, cost, lane.alpha * gap**2 / 2)


def _finish(
    loss: Float[Array, ""], data_grad: Factors, factors: Factors, lane: LaneTerms
) -> LossAndGradient:
    """Equation (1) from the data part: add the regulariser, scale by s, zero pinned columns."""
    reg_loss, reg_grad = regulariser(factors, lane)
    user = lane.scale * (data_grad.user + reg_grad.user)
    item = lane.scale * (data_grad.item + reg_grad.item)
    grad = zero_pinned(Factors(user, item), lane.columns)
    return lane.scale * (loss + reg_loss), grad


def autodiff(spec: Spec) -> Gradient:
    """`jax.grad` of `dense_loss`.

    Derivation: none by hand; the loss is `mfjax.objective` as it stands there.

    Args:
      spec: the shapes and the conventions.

    Returns:
      A Gradient on the full matrices; its `prepare` refuses those that would not fit in memory.
    """

    def value_and_grad(factors: Factors, layout: Dense, hparams: Hparams) -> LossAndGradient:
        lane, weight = _lane(layout, hparams, spec)
        return jax.value_and_grad(dense_loss)(factors, layout.value, weight, lane, spec.loss)

    return Gradient(partial(prepare, spec=spec), value_and_grad)


def matrix(spec: Spec) -> Gradient:
    """Hand-derived, two matrix products: ∂U = E V and ∂V = Eᵀ U, plus the regulariser.

    Derivation: L depends on u_i through u_i·v_j alone, so ∂L/∂u_i = Σ_j E_ij v_j = (E V)_i; by
    symmetry ∂L/∂v_j = Σ_i E_ij u_i = (Eᵀ U)_j. Equation (1) of `mfjax.objective`.

    Args:
      spec: the shapes and the conventions.

    Returns:
      A Gradient on the full matrices; its `prepare` refuses those that would not fit in memory.
    """

    def value_and_grad(factors: Factors, layout: Dense, hparams: Hparams) -> LossAndGradient:
        lane, weight = _lane(layout, hparams, spec)
        user, item = factors = pin(factors, lane.columns)
        background = lane.background[None]
        error, loss = _error(user @ item.T, layout.value, weight, background, lane, spec.loss)
        grad = Factors(error @ item, error.T @ user)
        return _finish(loss.sum(), grad, factors, lane)

    return Gradient(partial(prepare, spec=spec), value_and_grad)


def rowwise(spec: Spec) -> Gradient:
    """Hand-derived, one user row and then one item row at a time: the loop a text writes first.

    Derivation: for one user, ∂L/∂u_i = Σ_j E_ij v_j with E_i = w_i ∘ ∂ℓ/∂p, for `squared`
    w_i ∘ (V u_i − r_i), on the rated items and α (V u_i − b) on the others; for one item,
    ∂L/∂v_j = Σ_i E_ij u_i. Equation (1) of `mfjax.objective`, a row at a time.

    Args:
      spec: the shapes and the conventions.

    Returns:
      A Gradient on the full matrices; its `prepare` refuses those that would not fit in memory.
    """

    def value_and_grad(factors: Factors, layout: Dense, hparams: Hparams) -> LossAndGradient:
        lane, weight = _lane(layout, hparams, spec)
        user, item = factors = pin(factors, lane.columns)

        def user_row(row):
            u, value, w = row
            error, loss = _error(item @ u, value, w, lane.background, lane, spec.loss)
            return error @ item, loss.sum()

        def item_row(row):
            v, value, w, background = row
            error, _ = _error(user @ v, value, w, background, lane, spec.loss)
            return error @ user

        rows = (user, layout.value, weight)
        columns = (item, layout.value.T, weight.T, lane.background)
        grad_user, loss = jax.lax.map(user_row, rows)
        grad = Factors(grad_user, jax.lax.map(item_row, columns))
        return _finish(loss.sum(), grad, factors, lane)

    return Gradient(partial(prepare, spec=spec), value_and_grad)


def numerical(spec: Spec, step: float | None = None) -> Gradient:
    """Central differences of `dense_loss`, (L(x + h) − L(x − h)) / 2h, for small problems.

    Derivation: with `squared` L is quadratic in each single entry, so the difference has no
    truncation error at any h and a large h rounds least: in float64 about 6e-14 relative at h = 0.1
    against 8e-10 at 1e-5. A larger h yet is right where ratings are larger than factors: at factors
    of 1 and ratings of 1e6, 0.1 leaves 4e-9 and 1e5 leaves 1e-14. Of other losses five points,
    [8 (L(x + h) − L(x − h)) − (L(x + 2h) − L(x − 2h))] / 12h, leave O(h⁴), and O(h) where the slope
    has a kink within 2h, as that of `huber`.

    Args:
      spec: the shapes and the conventions.
      step: h, in units of the factors, and with `squared` times the largest rating over the largest
        factor, where that is more than 1; None: 0.1 with `squared`, and else 3e-5.

    Returns:
      A Gradient on the full matrices, two losses an entry; its `prepare` refuses those that would
      not fit in memory.
    """

    is_quadratic = spec.loss == Spec.loss

    def value_and_grad(factors: Factors, layout: Dense, hparams: Hparams) -> LossAndGradient:
        lane, weight = _lane(layout, hparams, spec)
        flat, unravel = ravel_pytree(factors)

        def loss(entries):
            return dense_loss(unravel(entries), layout.value, weight, lane, spec.loss)

        h = step or usual_step(spec.loss)
        if is_quadratic:
            h *= _scale(layout.value, flat)

        def derivative(entry):
            def apart(by):
                above = loss(flat.at[entry].add(by))
                below = loss(flat.at[entry].add(-by))
                return above - below

            if is_quadratic:
                return apart(h) / (2 * h)
            return (8 * apart(h) - apart(2 * h)) / (12 * h)

        derivatives = jax.lax.map(derivative, jnp.arange(flat.size))
        return loss(flat), zero_pinned(unravel(derivatives), lane.columns)

    return Gradient(partial(prepare, spec=spec), value_and_grad, tolerance=1e-9)


def usual_step(loss: str) -> float:
    """The h of `numerical` where none is given."""
    return STEP if loss == Spec.loss else FINE_STEP


def _scale(value: Float[Array, "users items"], factors: Float[Array, " n"]) -> Float[Array, ""]:
    """By how much the largest rating is larger than the largest factor; at least 1."""
    largest = jnp.abs(factors).max()
    some = jnp.where(largest > 0, largest, 1)
    return jnp.maximum(1, jnp.abs(value).max() / some)
