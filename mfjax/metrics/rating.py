"""Errors of predicted ratings. The functions take NumPy and jax arrays alike."""

from jaxtyping import Float

from mfjax.types import AnyArray

Each = Float[AnyArray, " n"]


def rmse(error: Each, weight: Each):
    """The root of the weighted mean squared error, √(Σ w e² / Σ w), in rating units.

    Source: the Netflix Prize's measure (Bennett and Lanning, "The Netflix Prize", 2007), weighted.

    Args:
      error: `[n]`, prediction less rating.
      weight: `[n]`, from 0.

    Returns:
      A scalar, NaN where every weight is 0.
    """
    mean = (weight * error**2).sum() / weight.sum()
    return mean**0.5


def mae(error: Each, weight: Each):
    """The weighted mean absolute error, Σ w |e| / Σ w, in rating units.

    Source: Herlocker, Konstan, Terveen and Riedl, "Evaluating Collaborative Filtering Recommender
    Systems", 2004, weighted.

    Args:
      error: `[n]`, prediction less rating.
      weight: `[n]`, from 0.

    Returns:
      A scalar, NaN where every weight is 0.
    """
    return (weight * abs(error)).sum() / weight.sum()
