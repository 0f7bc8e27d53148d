r"""The objective, stated once; every gradient, hand-derived or not, is of this scalar.

With Ω the entries whose weight is positive in this lane,

    L(U, V) = s · [ Σ_{(i,j) ∈ Ω} w_ij ℓ(u_i·v_j, r_ij)                     on the ratings
                  + ½ α Σ_{(i,j) ∉ Ω} (u_i·v_j − b_j)²                       off the ratings
                  + ½ Σ_{i,c} reg_c ρ_i u_ic² + ½ Σ_{j,c} reg_c σ_j v_jc² ]  regulariser

    loss        ℓ(p, r):           squared ½ (p − r)² · and the others of `mfjax.losses.LOSSES`
    missing     α, b_j:            ignore 0, none · item_mean 1, item j's mean training rating ·
                                   zero missing_weight, 0
    loss_scale  s:                 half 1 · sum 2 · mean 1/|Ω|
    reg_by      ρ_i (σ_j alike):   row 1 · count max(n_i, 1) · total |Ω|

The gradient, with E_ij = ∂L/∂(u_i·v_j) / s, which is w_ij ∂ℓ/∂p at (u_i·v_j, r_ij) on Ω, for
`squared` w_ij (u_i·v_j − r_ij), and α (u_i·v_j − b_j) off it:

    ∂L/∂U = s · (E V + reg ∘ ρ ∘ U)        ∂L/∂V = s · (Eᵀ U + reg ∘ σ ∘ V)                      (1)

The missing part stands beside `squared` alone. It costs no more than the ratings: it is the same
sum over *all* entries less what it says on Ω. With ū the mean row of the N users, U' = U − 1 ūᵀ and
the residuals r = V ū − b of that mean, it is two sums of squares (Σ_i u'_i = 0 is what crosses
them), so that it does not cancel,

    ½ α Σ_all (u_i·v_j − b_j)² = ½ α [N rᵀr + ⟨U'ᵀU', VᵀV⟩]                                      (2)
    ∂U: α (U' VᵀV + 1 rᵀV)       ∂V: α (V U'ᵀU' + N r ūᵀ)                                        (3)

What it says on Ω is nearly all of it where few entries are missing, and at α = 1e6 the difference
keeps 9 digits of float64 and none of float32. There (`LISTED_SHARE`) a layout lists the missing
entries too, as ratings b_j of weight α, and nothing is taken off anything.

Biased factorisation μ + b_i + c_j + u_i·v_j is the same objective with two more columns,
U~ = [U | b | 1] and V~ = [V | 1 | c], and ℓ(μ + p, r) in place of ℓ(p, r): where ℓ knows p − r
alone, on ratings less μ. With g the function of a prediction that predicts a rating, μ is where
g(μ) is the mean training rating. A pinned column, and a column beyond a lane's rank (pinned at 0),
has no gradient.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mfjax.losses import link_of, loss_of
from mfjax.types import AnyArray, Factors, Hparams, Ratings, Sides, Spec

LISTED_SHARE = 1 / 4  # missing entries are listed up to so many a rating
LISTED = -3  # the fold of a missing entry that is listed


class FoldSums(NamedTuple):
    """Sums of the ratings of each fold.

    A lane leaves its own fold out by a mask, without another pass over the ratings.

    Args:
      fold: `[folds]`, -1, 0, 1, … in this order.
      user_count: `[folds, users]` ratings of positive weight.
      item_count: `[folds, items]` ratings of positive weight.
      item_weight: `[folds, items]`, Σ w_ij.
      item_sum: `[folds, items]`, Σ w_ij r_ij.
      lists_missing: scalar, whether the layout lists the missing entries too.
    """

    fold: Int[Array, " folds"]
    user_count: Float[Array, "folds users"]
    item_count: Float[Array, "folds items"]
    item_weight: Float[Array, "folds items"]
    item_sum: Float[Array, "folds items"]
    lists_missing: Bool[Array, ""]


class Columns(NamedTuple):
    """What a column of one side is.

    Args:
      free: `[columns]`, 1 where it trains and 0 where it is pinned.
      pin: `[columns]`, the value of a pinned column, and 0 of a free one.
      reg: `[columns]`, λ; 0 of a pinned column.
    """

    free: Float[Array, " columns"]
    pin: Float[Array, " columns"]
    reg: Float[Array, " columns"]


class LaneTerms(NamedTuple):
    """The constants of one lane's objective.

    Args:
      fold: scalar, the fold that it holds out.
      columns: the Columns of each side.
      counts: n_i `[users]` and m_j `[items]`, training ratings of positive weight.
      row_reg: ρ `[users]` and σ `[items]`.
      centre: scalar, what is added to every prediction, or taken off every rating: μ with biases,
        else 0.
      loss_hparams: what the loss `reads`, scalars in its order.
      alpha: scalar, α.
      gram_alpha: scalar, α where the missing part is equation (2); 0 where its entries are listed.
      background: `[items]`, b less `centre`.
      scale: scalar, s.
    """

    fold: Int[Array, ""]
    columns: Sides
    counts: Sides
    row_reg: Sides
    centre: Float[Array, ""]
    loss_hparams: tuple[Float[Array, ""], ...]
    alpha: Float[Array, ""]
    gram_alpha: Float[Array, ""]
    background: Float[Array, " items"]
    scale: Float[Array, ""]


# one lane's share of the ratings; NumPy and jax arrays alike


def held_out(fold: Int[AnyArray, "*n"], lane: Hparams | LaneTerms) -> Bool[AnyArray, "*n"]:
    """Which ratings a lane holds out: those of its own fold.

    Args:
      fold: `[*n]` folds of ratings.
      lane: whose `fold` is read; one below 0 holds nothing out.

    Returns:
      `[*n]`, True where held out.
    """
    return (fold >= 0) & (fold == lane.fold)


def train_weight(
    weight: Float[AnyArray, "*n"], fold: Int[AnyArray, "*n"], lane: Hparams | LaneTerms
) -> Float[AnyArray, "*n"]:
    """The weights with which a lane trains: those of its held-out fold are 0.

    Args:
      weight, fold: `[*n]` weights and folds of ratings.
      lane: whose `fold` is read.

    Returns:
      `[*n]` weights.
    """
    return jnp.where(held_out(fold, lane), 0, weight)


def validation_weight(
    weight: Float[AnyArray, "*n"], fold: Int[AnyArray, "*n"], lane: Hparams | LaneTerms
) -> Float[AnyArray, "*n"]:
    """The weights with which a lane validates: those of its held-out fold alone.

    Args:
      weight, fold: `[*n]` weights and folds of ratings.
      lane: whose `fold` is read.

    Returns:
      `[*n]` weights.
    """
    return jnp.where(held_out(fold, lane), weight, 0)


def mean_rating(ratings: Ratings, lane: Hparams) -> float:
    """μ of a lane, its mean training rating, on the host.

    Args:
      ratings: of the lane's split, in NumPy.
      lane: whose `fold` is left out.

    Returns:
      Σ w r / Σ w over the training ratings, in rating units.

    Raises:
      ZeroDivisionError: no training rating weighs anything.
    """
    trained = ratings.weight * ~held_out(ratings.fold, lane)
    return float(np.average(ratings.value, weights=trained))


def mean_or(
    otherwise: Float[AnyArray, ""] | float,
    total: Float[AnyArray, "*n"],
    weight: Float[AnyArray, "*n"],
) -> Float[AnyArray, "*n"]:
    """total / weight, and `otherwise` where there is no weight.

    Args:
      otherwise: scalar.
      total: `[*n]` weighted sums.
      weight: `[*n]` sums of the weights, from 0.

    Returns:
      `[*n]` means.
    """
    xp = weight.__array_namespace__()
    some = weight > 0
    return xp.where(some, total / xp.where(some, weight, 1), otherwise)


def dot(
    user: Float[AnyArray, "*n columns"], item: Float[AnyArray, "*n columns"]
) -> Float[AnyArray, "*n"]:
    """u_i·v_j, row by row.

    Args:
      user, item: `[*n, columns]`, the rows of the user and of the item of each rating.

    Returns:
      `[*n]` products.
    """
    return (user * item).sum(-1)


# the constants of a lane


def fold_sums(ratings: Ratings, spec: Spec) -> FoldSums:
    """The sums of each fold, on the host; the first row is fold -1's.

    Args:
      ratings: in NumPy.
      spec: of which the numbers of users and items and the dtype are read.

    Returns:
      At least the folds -1 and 0, in NumPy.
    """
    last = max(int(np.max(ratings.fold, initial=-1)), 0)
    folds = np.arange(-1, last + 1)
    real = ratings.taken(ratings.weight > 0)

    def sums(row: np.ndarray, num_rows: int, amount: np.ndarray | None = None) -> np.ndarray:
        cell = (real.fold + 1).astype(np.int64) * num_rows + row
        flat = np.bincount(cell, weights=amount, minlength=len(folds) * num_rows)
        return flat.reshape(len(folds), num_rows).astype(spec.dtype)

    return FoldSums(
        fold=folds.astype(np.int32),
        user_count=sums(real.user, spec.num_users),
        item_count=sums(real.item, spec.num_items),
        item_weight=sums(real.item, spec.num_items, real.weight),
        item_sum=sums(real.item, spec.num_items, real.weight * real.value),
        lists_missing=np.array(False),
    )


def with_few_missing(ratings: Ratings, spec: Spec) -> tuple[Ratings, FoldSums]:
    """What a layout holds: the ratings, and the missing entries too where they are few.

    They cost as much as ratings do, and are at most `LISTED_SHARE` as many.

    Args:
      ratings: in NumPy.
      spec: of which `missing`, the numbers of users and items and the dtype are read.

    Returns:
      The ratings, followed by the listed entries, and the sums of the ratings alone.
    """
    sums = fold_sums(ratings, spec)
    real = ratings.weight > 0
    num_real = int(real.sum())
    num_missing = spec.num_users * spec.num_items - num_real
    if spec.missing == "ignore" or num_missing > LISTED_SHARE * num_real:
        return ratings, sums
    is_missing = np.ones((spec.num_users, spec.num_items), bool)
    is_missing[ratings.user[real], ratings.item[real]] = False
    user, item = np.nonzero(is_missing)
    fold = np.full(len(user), LISTED)
    listed = Ratings.of(user, item, np.zeros(len(user)), fold=fold, dtype=spec.dtype)
    entries = Ratings(*map(lambda *both: np.concatenate(both), ratings, listed))
    return entries, sums._replace(lists_missing=np.array(True))


def columns(hparams: Hparams, spec: Spec) -> Sides:
    """The `Columns` of each side.

    Factors up to the lane's rank, then the user bias against 1 and 1 against the item bias.

    Args:
      hparams: of one lane, of which rank, reg and reg_bias are read.
      spec: of which max_rank, bias and dtype are read.

    Returns:
      The Columns of users and of items.
    """
    in_rank = jnp.arange(spec.max_rank) < hparams.rank
    latent = Columns(
        free=in_rank.astype(spec.dtype),
        pin=jnp.zeros(spec.max_rank, spec.dtype),
        reg=jnp.where(in_rank, hparams.reg, 0).astype(spec.dtype),
    )
    if not spec.bias:
        return Sides(latent, latent)

    def side(is_free: tuple[int, int]) -> Columns:
        free = jnp.asarray(is_free, spec.dtype)
        reg = (free * hparams.reg_bias).astype(spec.dtype)
        extra = Columns(free, 1 - free, reg)
        return Columns(*map(lambda a, b: jnp.concatenate([a, b]), latent, extra))

    return Sides(user=side((1, 0)), item=side((0, 1)))


@partial(jax.jit, static_argnames="spec")  # traced once a program, which asks for it thrice
def lane_terms(sums: FoldSums, hparams: Hparams, spec: Spec) -> LaneTerms:
    """The constants of the lane that `hparams` describes, from its own training ratings.

    Args:
      sums: of all ratings of its split.
      hparams: of the lane.
      spec: the conventions.

    Returns:
      Arrays of the dtype of `spec`, but for the fold.
    """
    trained = ~held_out(sums.fold, hparams)[:, None]

    def over_folds(of_fold: Float[Array, "folds rows"]) -> Float[Array, " rows"]:
        return jnp.where(trained, of_fold, 0).sum(0)

    counts = Sides(over_folds(sums.user_count), over_folds(sums.item_count))
    item_weight = over_folds(sums.item_weight)
    item_sum = over_folds(sums.item_sum)
    num_ratings = jnp.maximum(counts.user.sum(), 1)
    mean = item_sum.sum() / jnp.maximum(item_weight.sum(), jnp.finfo(spec.dtype).tiny)
    centre = link_of(spec.loss).inverse(mean) * spec.bias
    one = jnp.ones_like(mean)
    alpha = {"ignore": 0 * one, "item_mean": one, "zero": hparams.missing_weight}
    scale = {"half": one, "sum": 2 * one, "mean": 1 / num_ratings}
    background = {
        "ignore": jnp.zeros_like(item_sum),
        "item_mean": mean_or(mean, item_sum, item_weight),
        "zero": jnp.zeros_like(item_sum),
    }
    alpha = alpha[spec.missing]
    return LaneTerms(
        fold=jnp.asarray(hparams.fold),
        columns=columns(hparams, spec),
        counts=counts,
        row_reg=Sides(*(_row_reg(count, num_ratings, spec) for count in counts)),
        centre=centre,
        loss_hparams=tuple(getattr(hparams, key) for key in loss_of(spec.loss).reads),
        alpha=alpha,
        gram_alpha=jnp.where(sums.lists_missing, 0, alpha),
        background=background[spec.missing] - centre,
        scale=scale[spec.loss_scale],
    )


def _row_reg(
    count: Float[Array, " rows"], num_ratings: Float[Array, ""], spec: Spec
) -> Float[Array, " rows"]:
    """ρ or σ from the number of training ratings of each row."""
    if spec.reg_by == "row":
        return jnp.ones_like(count)
    if spec.reg_by == "count":
        return jnp.maximum(count, 1)
    return jnp.full_like(count, num_ratings)


# the parts of L, each without s


def pin(factors: Factors, columns: Sides) -> Factors:
    """The factors with every pinned column at its value; the objective sees no other.

    Args:
      factors: of one lane.
      columns: the Columns of each side.

    Returns:
      Factors of the same shapes.
    """
    return Factors(*(f * c.free[None] + c.pin[None] for f, c in zip(factors, columns, strict=True)))


def zero_pinned(update: Factors, columns: Sides) -> Factors:
    """A gradient or an update with nothing in the pinned columns.

    Args:
      update: of the shapes of the factors.
      columns: the Columns of each side.

    Returns:
      It, 0 in the pinned columns.
    """
    return Factors(*(u * c.free[None] for u, c in zip(update, columns, strict=True)))


def regulariser(factors: Factors, lane: LaneTerms) -> tuple[Float[Array, ""], Factors]:
    """The regulariser of pinned factors and its gradient, reg ∘ ρ ∘ U and the mirror image.

    Args:
      factors: pinned.
      lane: of which `columns` and `row_reg` are read.

    Returns:
      A scalar and its gradient, both without s.
    """

    def gradient(table, columns: Columns, row_reg):
        return row_reg[:, None] * columns.reg[None] * table

    grad = Factors(*map(gradient, factors, lane.columns, lane.row_reg))
    zero = jnp.zeros_like(lane.scale)
    return sum(((f * g).sum() for f, g in zip(factors, grad, strict=True)), start=zero) / 2, grad


def background(factors: Factors, lane: LaneTerms) -> tuple[Float[Array, ""], Factors]:
    """The missing part over all entries, equations (2) and (3), in O((users + items) k²).

    Args:
      factors: pinned.
      lane: of which `gram_alpha` and b are read.

    Returns:
      A scalar and its gradient, both without s.
    """
    user, item = factors
    mean = user.mean(0)
    deviation = user - mean[None]
    residual = item @ mean - lane.background
    gram_user = deviation.T @ deviation
    gram_item = item.T @ item
    num_users = len(user)
    loss = num_users * residual @ residual + (gram_user * gram_item).sum()
    grad_user = deviation @ gram_item + (residual @ item)[None]
    grad_item = item @ gram_user + num_users * residual[:, None] * mean[None]
    alpha = lane.gram_alpha
    return alpha * loss / 2, Factors(alpha * grad_user, alpha * grad_item)


def off_ratings(factors: Factors, lane: LaneTerms, spec: Spec) -> tuple[Float[Array, ""], Factors]:
    """All of L but what a layout holds: the regulariser, and the missing part by equation (2).

    Args:
      factors: pinned.
      lane: the constants of L.
      spec: of which `missing` is read; `ignore` has no missing part.

    Returns:
      A scalar and its gradient, both without s.
    """
    loss, grad = regulariser(factors, lane)
    if spec.missing == "ignore":
        return loss, grad
    missing, missing_grad = background(factors, lane)
    return loss + missing, Factors(*map(jnp.add, grad, missing_grad))


class Seen(NamedTuple):
    """Some ratings as a gradient sees them, all of one shape.

    Args:
      value: `[*n]`, as rated (not centred).
      weight: `[*n]`, of the lane: 0 where it holds them out, unless `entries_seen` says otherwise.
      background: `[*n]`, b of the rating's item, which `missing=ignore` does not read.
    """

    value: Float[Array, "*n"]
    weight: Float[Array, "*n"]
    background: Float[Array, "*n"]


def entries_seen(
    entries: Any,
    background: Float[Array, "*n"],
    lane: LaneTerms,
    spec: Spec,
) -> Seen:
    """The entries of a layout that `with_few_missing` made, as a lane sees them.

    Where it lists the missing entries, they, and the ratings that the lane holds out, are ratings
    b of weight α. Elsewhere they weigh nothing.

    Args:
      entries: with `value`, `weight` and `fold`, `[*n]` each.
      background: `[*n]`, b of the item of each.
      lane: the constants of L.
      spec: of which `missing` is read; `ignore` has no missing part.

    Returns:
      What `on_ratings` takes.
    """
    if spec.missing == "ignore":
        weight = train_weight(entries.weight, entries.fold, lane)
        return Seen(entries.value, weight, background)
    is_missing = held_out(entries.fold, lane) | (entries.fold == LISTED)
    listed_alpha = jnp.where(entries.weight > 0, lane.alpha - lane.gram_alpha, 0)
    return Seen(
        value=jnp.where(is_missing, background + lane.centre, entries.value),
        weight=jnp.where(is_missing, listed_alpha, entries.weight),
        background=background,
    )


def on_ratings(
    prediction: Float[Array, "*n"], seen: Seen, lane: LaneTerms, spec: Spec
) -> tuple[Float[Array, "*n"], Float[Array, "*n"]]:
    """E and the loss of each rating, less what `off_ratings` already says there.

    Args:
      prediction: `[*n]`, u_i·v_j of pinned factors.
      seen: the ratings.
      lane: the constants of L.
      spec: of which `missing` is read.

    Returns:
      E_ij `[*n]` and the loss `[*n]`, both without s, 0 where the weight is.
    """
    error, loss = weighted_loss(prediction, seen.value, seen.weight, lane, spec.loss)
    if spec.missing == "ignore":
        return error, loss
    alpha = jnp.where(seen.weight > 0, lane.gram_alpha, 0)
    gap = prediction - seen.background
    return error - alpha * gap, loss - alpha * gap**2 / 2


def weighted_loss(
    prediction: Float[Array, "*n"],
    value: Float[Array, "*n"],
    weight: Float[Array, "*n"],
    lane: LaneTerms,
    loss: str,
) -> tuple[Float[Array, "*n"], Float[Array, "*n"]]:
    """What each rating costs, and how that changes with the prediction.

    A loss that may be infinite is not asked where the weight is 0: a sum, or a derivative of it,
    would be NaN.

    Args:
      prediction: `[*n]`, u_i·v_j of pinned factors.
      value: `[*n]`, as rated.
      weight: `[*n]`, of the lane.
      lane: of which `centre` and `loss_hparams` are read.
      loss: of `mfjax.losses.LOSSES`.

    Returns:
      w ∂ℓ/∂p and w ℓ, `[*n]` each.
    """
    chosen = loss_of(loss)
    if chosen.of_difference:
        at = (prediction, value - lane.centre)
    else:
        is_rated = weight > 0
        p = jnp.where(is_rated, prediction + lane.centre, 1)
        at = (p, jnp.where(is_rated, value, 1))
    slope = chosen.slope(*at, *lane.loss_hparams)
    return weight * slope, weight * chosen.value(*at, *lane.loss_hparams)


def dense_loss(
    factors: Factors,
    values: Float[Array, "users items"],
    weights: Float[Array, "users items"],
    lane: LaneTerms,
    loss: str = Spec.loss,
) -> Float[Array, ""]:
    """The objective of this module's docstring, written on the full matrices.

    Args:
      factors: pinned here, so that a pinned column has no gradient.
      values: `[users, items]`, r_ij, and any finite number where missing.
      weights: `[users, items]`, w_ij of the lane, and 0 where missing.
      lane: the constants of L.
      loss: of `mfjax.losses.LOSSES`.

    Returns:
      The scalar L.
    """
    user, item = factors = pin(factors, lane.columns)
    prediction = user @ item.T
    _, on_ratings = weighted_loss(prediction, values, weights, lane, loss)
    gap = prediction - lane.background[None]
    off_ratings = jnp.where(weights > 0, 0, lane.alpha * gap**2 / 2)
    return lane.scale * ((on_ratings + off_ratings).sum() + regulariser(factors, lane)[0])
