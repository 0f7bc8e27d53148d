"""Errors of predicted ratings. The functions take NumPy and jax arrays alike."""

from jaxtyping import Float

from mfjax.types import AnyArray

Each = Float[AnyArray, " n"]


def rmse(error: Each, weight: Each):
    """The root of the weighted mean squared error, in units of the ratings; NaN without weight."""
    mean = (weight * error**2).sum() / weight.sum()
    return mean**0.5


def mae(error: Each, weight: Each):
    """The weighted mean absolute error, in units of the ratings; NaN without weight."""
    return (weight * abs(error)).sum() / weight.sum()
