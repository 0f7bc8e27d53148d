"""A user more, given the items: the row at which an objective is least, or a row a sample."""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Float64, Int

from mfjax.data.problem import Problem
from mfjax.objective import fold_sums, held_out, lane_terms
from mfjax.training.lanes import Fit
from mfjax.types import Factors, Hparams, Ratings, Spec

SEED = 0  # of the rows that are drawn


class Minimised(NamedTuple):
    """What a fit minimised, as far as a row of a user reads it.

    Args:
      bias: whether there are biases.
      reg: λ of the factors.
      reg_bias: λ of the biases.
      reg_by: what λ of a row was multiplied by: one of `mfjax.types.REG_BY`.
      num_ratings: how many it was trained on.
      missing_weight: what a missing entry weighed; 0 where it was ignored.
      background: `[items]`, the rating as which a missing entry of an item counted.
      loss: of `mfjax.losses.LOSSES`.
    """

    bias: bool
    reg: float
    reg_bias: float
    reg_by: str
    num_ratings: int
    missing_weight: float
    background: Float[np.ndarray, " items"]
    loss: str


def minimised(hparams: Hparams, ratings: Ratings, spec: Spec) -> Minimised:
    """What a lane of `spec` minimises on these ratings."""
    trained = (ratings.weight > 0) & ~held_out(ratings.fold, hparams)
    missing_weight = 0.0
    background = np.zeros(spec.num_items, spec.dtype)
    if spec.missing != "ignore":
        sums = jax.device_put(fold_sums(ratings, spec))
        lane = lane_terms(sums, Hparams.of(spec.dtype, **hparams._asdict()), spec)
        missing_weight = float(lane.alpha)
        background = np.asarray(lane.background + lane.centre)
    return Minimised(
        bias=spec.bias,
        reg=float(hparams.reg),
        reg_bias=float(hparams.reg_bias),
        reg_by=spec.reg_by,
        num_ratings=int(trained.sum()),
        missing_weight=missing_weight,
        background=background,
        loss=spec.loss,
    )


def solved_row(
    of: Minimised,
    items: Float[np.ndarray, "items rank"],
    item_bias: Float[np.ndarray, " items"],
    mean: float,
    rated: Int[np.ndarray, " n"],
    values: Float64[np.ndarray, " n"],
    weights: Float64[np.ndarray, " n"] | float = 1.0,
    prior: Float64[np.ndarray, " columns"] | float = 0.0,
) -> Float64[np.ndarray, " columns"]:
    """The row of a user who rated these items so: the factors, and then the bias.

    Derivation: with x_j = [v_j, 1] of item j, the row z = [u, b] of the user minimises
    ½ Σ_rated w_j (x_j·z − y_j)² + ½ α Σ_others (x_j·z − y_j)² + ½ ρ Σ_c reg_c z_c², where y_j is
    the rating, or else the background, less μ and c_j: `mfjax.objective` on one row. It is where
    (Σ w_j x_j x_jᵀ + ρ diag(reg)) z = Σ w_j y_j x_j. ρ of `reg_by=total` is the number of ratings
    of the training. Of a user who is made of features, z is what is beside them, and y_j less
    x_j·prior: the row is prior + z.

    Args:
      of: what the fit minimised, with the loss `squared`.
      items: the latent factors.
      item_bias: c, 0 of a model without biases.
      mean: μ.
      rated: places of the items that the user rated.
      values: their ratings.
      weights: of each, or of all.
      prior: what the features of the user sum to, in the columns of the row.
    """
    x = items.astype(np.float64)
    reg = np.full(x.shape[1], of.reg)
    if of.bias:
        x = np.column_stack([x, np.ones(len(x))])
        reg = np.append(reg, of.reg_bias)
    target = of.background.astype(np.float64)
    weight = np.full(len(x), of.missing_weight)
    target[rated] = values
    weight[rated] = weights
    target -= mean + item_bias + (x * prior).sum(1)
    if not of.missing_weight:  # the others say nothing
        x, weight, target = x[rated], weight[rated], target[rated]
    times = {"row": 1, "count": max(len(rated), 1), "total": of.num_ratings}
    normal = x.T @ (weight[:, None] * x) + np.diag(times[of.reg_by] * reg)
    row, *_ = np.linalg.lstsq(normal, x.T @ (weight * target))
    return prior + row


def drawn_rows(
    prior_mean: Float64[np.ndarray, "samples columns"],
    prior_precision: Float[np.ndarray, "samples columns columns"],
    items: Float[np.ndarray, "samples n columns"],
    rating_precision: Float[np.ndarray, "samples n"],
    target: Float64[np.ndarray, "samples n"],
) -> Float64[np.ndarray, "samples columns"]:
    """The row of a user who rated n items so, drawn given each sample.

    Derivation: equation (1) of `mfjax.methods.gibbs` for a row of weights 1 and γ = 1, its prior
    mean. With A = L Lᵀ and c the precision and the right side of the mean, a row is
    A⁻¹ c + L⁻ᵀ z, and z is less its mean over the samples: the variance over them, which divides by
    one less than they are, is as large, and the mean over them has next to none of z.

    Args:
      prior_mean: m + Bᵀ f.
      prior_precision: Λ; 0 in the columns that a sample has not, where its row is 0.
      items: φ of each.
      rating_precision: τ δ of each.
      target: the ratings less μ and c of each.
    """
    noise = np.random.default_rng(SEED).normal(size=prior_mean.shape)
    noise -= noise.mean(0)
    rows = np.zeros_like(prior_mean)
    for s, (precision, tau) in enumerate(zip(prior_precision, rating_precision, strict=True)):
        own = np.flatnonzero(np.diag(precision))
        own_precision = precision[np.ix_(own, own)].astype(np.float64)
        x = items[s][:, own].astype(np.float64)
        a = own_precision + x.T @ (tau[:, None] * x)
        c = own_precision @ prior_mean[s, own] + x.T @ (tau * target[s])
        lower = np.linalg.cholesky(a)
        rows[s, own] = np.linalg.solve(a, c) + np.linalg.solve(lower.T, noise[s, own])
    return rows


def prior_of(
    rated: Float[np.ndarray, "*samples items columns"], items: Int[np.ndarray, " n"]
) -> Float64[np.ndarray, "*samples columns"]:
    """What the features of a user who rated these items sum to; 0 where none adds anything.

    Args:
      rated: what each item adds, over √n; of no items where users are made of no such features.
      items: the n that the user rated.
    """
    adding = items if rated.shape[-2] else items[:0]
    total = rated[..., adding, :].astype(np.float64).sum(-2)
    return total / np.sqrt(max(len(items), 1))


def columns_of_user(rank: int, spec: Spec) -> list[int]:
    """The columns of the users' table that a row which is solved for has.

    Args:
      rank: of the lane, at most that of its program.
      spec: of which `bias` is read.

    Returns:
      The latent ones, and after them the user's bias where there is one.
    """
    return [*range(rank), -2] if spec.bias else [*range(rank)]


def with_given(fit: Fit, problem: Problem, spec: Spec) -> Fit:
    """The fit with the users of `problem.given` folded in, given its items.

    Args:
      fit: of a lane of `spec`, trained on `problem`.
      problem: whose `given` ratings are of users that it did not see.
      spec: as the fit was trained with.

    Returns:
      The fit with their rows solved; itself where nobody is new.
    """
    given = problem.given
    if not len(given.value):
        return fit
    of = minimised(fit.lane.hparams, problem.ratings, spec)
    user, item = map(np.array, fit.factors)
    rank = int(fit.lane.hparams.rank)
    item_bias = item[:, -1] if spec.bias else np.zeros(len(item), item.dtype)
    rated = item[:0] if fit.rated is None else fit.rated
    of_row = columns_of_user(rank, spec)
    by_user = np.argsort(given.user, kind="stable")
    new, first = np.unique(given.user[by_user], return_index=True)
    for row, places in zip(new, np.split(by_user, first[1:]), strict=True):
        solved = solved_row(
            of,
            item[:, :rank],
            item_bias,
            fit.mean,
            given.item[places],
            given.value[places],
            given.weight[places],
            prior_of(rated[:, of_row], given.item[places]),
        )
        user[row, :rank] = solved[:rank]
        if spec.bias:
            user[row, -2] = solved[rank]
    return fit._replace(factors=Factors(user, item))
