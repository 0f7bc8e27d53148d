"""Gradients on the full users x items matrices: the clearest forms, and the oracle of small problems."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from mfjax.memory import refuse_beyond_memory
from mfjax.objective import Margins, Terms, dense_loss, free, margins, pinned, regulariser, terms, train_weight
from mfjax.types import Factors, Gradient, Hparams, Ratings, Spec


class Dense(NamedTuple):
    """Ratings as full matrices; weight 0 is a missing entry."""

    value: Float[Array, "users items"]
    weight: Float[Array, "users items"]
    fold: Int[Array, "users items"]
    margins: Margins


def dense_bytes(spec: Spec) -> int:
    """An estimate of the memory of a dense gradient: the three matrices of the layout and three temporaries."""
    return spec.num_users * spec.num_items * (5 * np.dtype(spec.dtype).itemsize + 4)


def prepare(ratings: Ratings, spec: Spec) -> Dense:
    """The dense layout, on the host. Raises InputError where it would not fit in memory."""
    shape = f"{spec.num_users:,} x {spec.num_items:,}"
    refuse_beyond_memory(
        dense_bytes(spec), f"the matrices of a dense gradient, {shape},", "gradient=tiles, which never forms them"
    )
    real = ratings.weight > 0
    cell = (ratings.user[real], ratings.item[real])

    def matrix(column: np.ndarray, fill: float) -> np.ndarray:
        full = np.full((spec.num_users, spec.num_items), fill, column.dtype)
        full[cell] = column[real]
        return full

    return Dense(matrix(ratings.value, 0), matrix(ratings.weight, 0), matrix(ratings.fold, -1), margins(ratings, spec))


def _lane(layout: Dense, hparams: Hparams, spec: Spec) -> tuple[Terms, Float[Array, "users items"]]:
    return terms(layout.margins, hparams, spec), train_weight(layout.weight, layout.fold, hparams)


def _error(prediction, value, weight, background, t: Terms):
    """E of equation (1) and the loss of each entry: for the whole matrix, a user's row or an item's column."""
    residual, gap = prediction - (value - t.centre), prediction - background
    error = jnp.where(weight > 0, weight * residual, t.alpha * gap)
    loss = jnp.where(weight > 0, weight * residual**2, t.alpha * gap**2) / 2
    return error, loss


def _finish(loss, user, item, factors: Factors, t: Terms):
    """Equation (1) from the data part: add the regulariser, scale by s, leave pinned columns alone."""
    reg_loss, reg_grad = regulariser(factors, t)
    grad = Factors(t.scale * (user + reg_grad.user), t.scale * (item + reg_grad.item))
    return t.scale * (loss + reg_loss), free(grad, t.columns)


def autodiff(spec: Spec) -> Gradient:
    """`jax.grad` of `dense_loss`."""

    def value_and_grad(factors: Factors, layout: Dense, hparams: Hparams):
        t, weight = _lane(layout, hparams, spec)
        return jax.value_and_grad(dense_loss)(factors, layout.value, weight, t)

    return Gradient(lambda ratings: prepare(ratings, spec), value_and_grad)


def matrix(spec: Spec) -> Gradient:
    """Hand-derived, two matrix products: ∂U = E V and ∂V = Eᵀ U, plus the regulariser.

    Derivation: L depends on u_i through u_i·v_j alone, so ∂L/∂u_i = Σ_j E_ij v_j = (E V)_i; by symmetry
    ∂L/∂v_j = Σ_i E_ij u_i = (Eᵀ U)_j. Equation (1) of `mfjax.objective`.
    """

    def value_and_grad(factors: Factors, layout: Dense, hparams: Hparams):
        t, weight = _lane(layout, hparams, spec)
        user, item = factors = pinned(factors, t.columns)
        error, loss = _error(user @ item.T, layout.value, weight, t.background[None], t)
        return _finish(loss.sum(), error @ item, error.T @ user, factors, t)

    return Gradient(lambda ratings: prepare(ratings, spec), value_and_grad)


def rowwise(spec: Spec) -> Gradient:
    """Hand-derived, one user row and then one item row at a time: the loop that a text writes first.

    Derivation: for one user, ∂L/∂u_i = Σ_j E_ij v_j with E_i = w_i ∘ (V u_i − r_i) on the rated items and
    α (V u_i − b) on the others; for one item, ∂L/∂v_j = Σ_i E_ij u_i. Equation (1), a row at a time.
    """

    def value_and_grad(factors: Factors, layout: Dense, hparams: Hparams):
        t, weight = _lane(layout, hparams, spec)
        user, item = factors = pinned(factors, t.columns)

        def user_row(row):
            u, value, w = row
            error, loss = _error(item @ u, value, w, t.background, t)
            return error @ item, loss.sum()

        def item_row(row):
            v, value, w, background = row
            error, _ = _error(user @ v, value, w, background, t)
            return error @ user

        grad_user, loss = jax.lax.map(user_row, (user, layout.value, weight))
        grad_item = jax.lax.map(item_row, (item, layout.value.T, weight.T, t.background))
        return _finish(loss.sum(), grad_user, grad_item, factors, t)

    return Gradient(lambda ratings: prepare(ratings, spec), value_and_grad)


def numerical(spec: Spec, step: float = 0.1) -> Gradient:
    """Central differences of `dense_loss`, entry by entry: (L(x + h) − L(x − h)) / 2h. For small problems.

    L is quadratic in each single entry, so the difference has no truncation error at any h and a large h rounds least:
    in float64 about 6e-14 relative at h = 0.1 against 8e-10 at 1e-5.
    """

    def value_and_grad(factors: Factors, layout: Dense, hparams: Hparams):
        t, weight = _lane(layout, hparams, spec)
        flat, unravel = ravel_pytree(factors)

        def loss(x):
            return dense_loss(unravel(x), layout.value, weight, t)

        def derivative(entry):
            return (loss(flat.at[entry].add(step)) - loss(flat.at[entry].add(-step))) / (2 * step)

        return loss(flat), free(unravel(jax.lax.map(derivative, jnp.arange(flat.size))), t.columns)

    return Gradient(lambda ratings: prepare(ratings, spec), value_and_grad, tolerance=1e-9)
