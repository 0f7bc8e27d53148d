"""Errors of predicted ratings. The functions take NumPy and jax arrays alike."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from mfjax.types import AnyArray

Each = Float[AnyArray, " n"]
Sum = Float[AnyArray, ""] | np.floating


def rmse(squares: Sum, weights: Sum):
    """The root of the weighted mean squared error, √(Σ w e² / Σ w), in rating units.

    Source: the Netflix Prize's measure (Bennett and Lanning, "The Netflix Prize", 2007), weighted.

    Args:
      squares: scalar, Σ w e².
      weights: scalar, Σ w.

    Returns:
      A scalar, NaN where every weight is 0.
    """
    return (squares / weights) ** 0.5


def mae(absolutes: Sum, weights: Sum):
    """The weighted mean absolute error, Σ w |e| / Σ w, in rating units.

    Source: Herlocker, Konstan, Terveen and Riedl, "Evaluating Collaborative Filtering Recommender
    Systems", 2004, weighted.

    Args:
      absolutes: scalar, Σ w |e|.
      weights: scalar, Σ w.

    Returns:
      A scalar, NaN where every weight is 0.
    """
    return absolutes / weights


def r2(error: Each, value: Each, weight: Each):
    """The coefficient of determination, 1 − Σ w e² / Σ w (r − r̄)², r̄ the weighted mean of r.

    1 is exact, and 0 is no better than predicting the mean of these very ratings.

    Source: Wright, "Correlation and causation", 1921, weighted.

    Args:
      error: `[n]`, prediction less rating.
      value: `[n]`, the ratings.
      weight: `[n]`, from 0.

    Returns:
      A scalar up to 1; NaN where every weight is 0, or all ratings are equal.
    """
    mean = (weight * value).sum() / weight.sum()
    spread = (weight * (value - mean) ** 2).sum()
    array = _namespace(error)
    return 1 - (weight * error**2).sum() / array.where(spread > 0, spread, array.nan)


def user_rmse(error: Each, weight: Each, user: Int[AnyArray, " n"]):
    """The mean over users of each one's RMSE, in rating units: every user counts alike.

    Source: Herlocker, Konstan, Terveen and Riedl, "Evaluating Collaborative Filtering Recommender
    Systems", 2004, section 5.1.

    Args:
      error: `[n]`, prediction less rating.
      weight: `[n]`, from 0.
      user: `[n]`, rows.

    Returns:
      A scalar over the users who have weight; NaN where every weight is 0.
    """
    array = _namespace(error)
    order = user.argsort()
    is_next = array.diff(user[order], prepend=user[order][:1]) > 0
    nth = is_next.cumsum()  # of the users that are there, by place
    total = _sums(weight[order], nth)
    squares = _sums((weight * error**2)[order], nth)
    has_weight = total > 0
    of_user = (squares / array.where(has_weight, total, 1)) ** 0.5
    return array.where(has_weight, of_user, 0).sum() / has_weight.sum()


def _namespace(values: Each) -> Any:
    return jnp if isinstance(values, jax.Array) else np


def _sums(values: Each, of: Int[AnyArray, " n"]) -> Each:
    """The sums of the values of each number, which rise."""
    if isinstance(values, jax.Array):
        return jax.ops.segment_sum(values, of, len(values), indices_are_sorted=True)
    return np.bincount(of, values, len(values))
