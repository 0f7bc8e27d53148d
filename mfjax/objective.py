r"""The objective, stated once; every gradient, hand-derived or not, is of this scalar.

With Ω the entries whose weight is positive in this lane,

    L(U, V) = s · [ ½ Σ_{(i,j) ∈ Ω} w_ij (u_i·v_j − r_ij)²                       observed
                  + ½ α Σ_{(i,j) ∉ Ω} (u_i·v_j − b_j)²                            missing
                  + ½ Σ_{i,c} reg_c ρ_i u_ic² + ½ Σ_{j,c} reg_c σ_j v_jc² ]       regulariser

`missing`    α, b_j: `ignore` 0, none · `item_mean` 1, item j's mean training rating · `zero` missing_weight, 0
`loss_scale` s: `half` 1 · `sum` 2 · `mean` 1/|Ω|
`reg_by`     ρ_i (σ_j alike): `row` 1 · `count` max(n_i, 1) · `total` |Ω|

The gradient, with E_ij = ∂L/∂(u_i·v_j) / s = w_ij (u_i·v_j − r_ij) on Ω and α (u_i·v_j − b_j) off it:

    ∂L/∂U = s · (E V + reg ∘ ρ ∘ U)        ∂L/∂V = s · (Eᵀ U + reg ∘ σ ∘ V)                                    (1)

The missing part costs no more than the ratings: it is the same sum over *all* entries less what it says on Ω,

    ½ α Σ_all (u_i·v_j − b_j)² = ½ α [⟨UᵀU, VᵀV⟩ − 2 (1ᵀU)·(Vᵀb) + N bᵀb]                                      (2)
    ∂U: α (U VᵀV − 1 bᵀV)        ∂V: α (V UᵀU − b 1ᵀU)                                                           (3)

Biased factorisation μ + b_i + c_j + u_i·v_j is the same objective on ratings less μ with two more columns,
U~ = [U | b | 1] and V~ = [V | 1 | c]. A pinned column, and a column beyond a lane's rank (pinned at 0), has no gradient.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mfjax.types import Factors, Hparams, Ratings, Spec


class Margins(NamedTuple):
    """Sums of the ratings of each fold: a lane leaves its own fold out by a mask, without another pass over the ratings."""

    fold: Int[Array, " folds"]
    user_count: Float[Array, "folds users"]
    item_count: Float[Array, "folds items"]
    item_weight: Float[Array, "folds items"]
    item_sum: Float[Array, "folds items"]


class Columns(NamedTuple):
    """Per column of one side: `free` (0 or 1), `pin` (the value of a pinned column), `reg` (its λ)."""

    free: Float[Array, " columns"]
    pin: Float[Array, " columns"]
    reg: Float[Array, " columns"]


class Terms(NamedTuple):
    """The constants of one lane's objective."""

    columns: Factors  # of Columns
    counts: Factors  # n_i and m_j: [users], [items]
    row_reg: Factors  # ρ and σ: [users], [items]
    total: Float[Array, ""]  # |Ω|
    mean: Float[Array, ""]  # μ, the mean training rating
    centre: Float[Array, ""]  # what is taken off every rating: μ with biases, else 0
    alpha: Float[Array, ""]
    background: Float[Array, " items"]  # b, centred
    scale: Float[Array, ""]  # s


def train_weight(weight: Float[Array, "*n"], fold: Int[Array, "*n"], hparams: Hparams) -> Float[Array, "*n"]:
    """The weights with which a lane trains: those of its held-out fold are 0."""
    return jnp.where((fold >= 0) & (fold == hparams.fold), 0, weight)


def validation_weight(weight: Float[Array, "*n"], fold: Int[Array, "*n"], hparams: Hparams) -> Float[Array, "*n"]:
    """The weights with which a lane validates: those of its held-out fold alone."""
    return jnp.where((fold >= 0) & (fold == hparams.fold), weight, 0)


def margins(ratings: Ratings, spec: Spec) -> Margins:
    """The sums of each fold, on the host; `[folds, users]` and `[folds, items]`, the first row for fold -1."""
    folds = np.arange(-1, max(int(np.max(ratings.fold, initial=-1)), 0) + 1)

    def sums(row: np.ndarray, num_rows: int, amount: np.ndarray) -> np.ndarray:
        cell = (ratings.fold + 1).astype(np.int64) * num_rows + row
        flat = np.bincount(cell, weights=amount, minlength=len(folds) * num_rows)
        return flat.reshape(len(folds), num_rows).astype(spec.dtype)

    observed = ratings.weight > 0
    return Margins(
        fold=folds.astype(np.int32),
        user_count=sums(ratings.user, spec.num_users, observed),
        item_count=sums(ratings.item, spec.num_items, observed),
        item_weight=sums(ratings.item, spec.num_items, ratings.weight),
        item_sum=sums(ratings.item, spec.num_items, ratings.weight * ratings.value),
    )


def columns(hparams: Hparams, spec: Spec) -> Factors:
    """The `Columns` of each side: factors up to the lane's rank, then the user bias against 1 and 1 against the item bias."""
    latent = jnp.arange(spec.max_rank) < hparams.rank
    free, reg, none = latent.astype(spec.dtype), jnp.where(latent, hparams.reg, 0), jnp.zeros(spec.max_rank, spec.dtype)
    if not spec.bias:
        return Factors(*[Columns(free, none, reg.astype(spec.dtype))] * 2)

    def side(is_free: tuple[int, int]) -> Columns:
        extra = jnp.asarray(is_free, spec.dtype)
        return Columns(*map(jnp.concatenate, ((free, extra), (none, 1 - extra), (reg, extra * hparams.reg_bias))))

    return Factors(side((1, 0)), side((0, 1)))


def terms(margins: Margins, hparams: Hparams, spec: Spec) -> Terms:
    """The constants of the lane that `hparams` describes, from its own training ratings."""
    trained = ~((margins.fold >= 0) & (margins.fold == hparams.fold))[:, None]
    user_count, item_count, item_weight, item_sum = (jnp.where(trained, x, 0).sum(0) for x in margins[1:])
    total = jnp.maximum(user_count.sum(), 1)
    mean = item_sum.sum() / jnp.maximum(item_weight.sum(), jnp.finfo(spec.dtype).tiny)
    item_mean = jnp.where(item_weight > 0, item_sum / jnp.where(item_weight > 0, item_weight, 1), mean)
    centre = mean * spec.bias
    per_row = {
        "row": lambda count: jnp.ones_like(count),
        "count": lambda count: jnp.maximum(count, 1),
        "total": lambda count: jnp.full_like(count, total),
    }[spec.reg_by]
    alpha = {"ignore": jnp.zeros_like(mean), "item_mean": jnp.ones_like(mean), "zero": hparams.missing_weight}
    return Terms(
        columns=columns(hparams, spec),
        counts=Factors(user_count, item_count),
        row_reg=Factors(per_row(user_count), per_row(item_count)),
        total=total,
        mean=mean,
        centre=centre,
        alpha=alpha[spec.missing],
        background=(item_mean if spec.missing == "item_mean" else jnp.zeros_like(item_mean)) - centre,
        scale={"half": jnp.ones_like(total), "sum": 2 * jnp.ones_like(total), "mean": 1 / total}[spec.loss_scale],
    )


def pinned(factors: Factors, columns: Factors) -> Factors:
    """The factors with every pinned column at its value; the objective sees no other."""
    return Factors(*(f * c.free[None] + c.pin[None] for f, c in zip(factors, columns, strict=True)))


def free(update: Factors, columns: Factors) -> Factors:
    """A gradient or an update with nothing in the pinned columns."""
    return Factors(*(u * c.free[None] for u, c in zip(update, columns, strict=True)))


def regulariser(factors: Factors, terms: Terms) -> tuple[Float[Array, ""], Factors]:
    """The regulariser of pinned factors, without s, and its gradient reg ∘ ρ ∘ U (and the mirror image)."""
    grad = Factors(*(r[:, None] * c.reg[None] * f for f, c, r in zip(factors, terms.columns, terms.row_reg, strict=True)))
    return sum(((f * g).sum() for f, g in zip(factors, grad, strict=True)), start=jnp.zeros_like(terms.scale)) / 2, grad


def background(factors: Factors, terms: Terms) -> tuple[Float[Array, ""], Factors]:
    """The missing part over all entries, without s: equations (2) and (3) of this module, O((users + items) k²)."""
    (user, item), b = factors, terms.background
    gram_user, gram_item, user_sum, item_b = user.T @ user, item.T @ item, user.sum(0), item.T @ b
    loss = (gram_user * gram_item).sum() - 2 * user_sum @ item_b + user.shape[0] * b @ b
    grad_user = user @ gram_item - item_b[None]
    grad_item = item @ gram_user - b[:, None] * user_sum[None]
    return terms.alpha * loss / 2, Factors(terms.alpha * grad_user, terms.alpha * grad_item)


def everywhere(factors: Factors, terms: Terms, spec: Spec) -> tuple[Float[Array, ""], Factors]:
    """All of the objective but its ratings, without s: the regulariser, and the missing part over all entries."""
    loss, grad = regulariser(factors, terms)
    if spec.missing == "ignore":
        return loss, grad
    missing, missing_grad = background(factors, terms)
    return loss + missing, Factors(grad.user + missing_grad.user, grad.item + missing_grad.item)


def observed(prediction, value, weight, background, terms: Terms, spec: Spec) -> tuple[Array, Array]:
    """E and the loss of each rating, without s, less what `everywhere` already says there; all arrays of one shape.

    `value` is as rated (not centred), `background` is b of the rating's item (not read under `ignore`).
    """
    residual = prediction - (value - terms.centre)
    error, loss = weight * residual, weight * residual**2 / 2
    if spec.missing == "ignore":
        return error, loss
    alpha, gap = jnp.where(weight > 0, terms.alpha, 0), prediction - background
    return error - alpha * gap, loss - alpha * gap**2 / 2


def dense_loss(
    factors: Factors, values: Float[Array, "users items"], weights: Float[Array, "users items"], terms: Terms
) -> Float[Array, ""]:
    """The objective of this module's docstring, written on the full matrices.

    `values` r_ij (anything where missing) and `weights` w_ij of the lane (0: missing); returns the scalar L.
    """
    user, item = factors = pinned(factors, terms.columns)
    prediction = user @ item.T
    observed = weights * (prediction - (values - terms.centre)) ** 2
    missing = jnp.where(weights > 0, 0, terms.alpha * (prediction - terms.background[None]) ** 2)
    return terms.scale * ((observed + missing).sum() / 2 + regulariser(factors, terms)[0])
