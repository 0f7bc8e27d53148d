"""Two methods on the same folds: their difference, and how surely it is one."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mfjax.errors import InputError
from mfjax.reporting.statistics import Interval, interval, standard_error

LEVEL = 0.05  # a p-value below it is significant


class Difference(NamedTuple):
    """How far one method is from another, on the same folds.

    Args:
      interval: of the differences fold by fold, the first less the second.
      t_test: the two-sided p-value of the corrected resampled t-test; None for fewer than 2 folds.
      wilcoxon: that of Wilcoxon's signed-rank test; likewise.
    """

    interval: Interval
    t_test: float | None
    wilcoxon: float | None


def difference(
    values: Sequence[float],
    others: Sequence[float],
    overlap: float = 0.0,
) -> Difference:
    """The differences of two methods over folds, with their interval and tests.

    Both tests ask whether the difference is 0 in expectation, or in the middle. Folds of the same
    ratings share most of what they train on: the t-test allows for that as the interval does, and
    p < 0.05 exactly where the 95 % interval leaves 0 out. Wilcoxon's test does not; it knows only
    signs and ranks, and n folds give no p below 2/2ⁿ: 0.25 of 3, 0.0625 of 5.

    Source: Nadeau and Bengio, "Inference for the Generalization Error", 2003, section 4.2, the
    corrected resampled t-test; Wilcoxon, "Individual Comparisons by Ranking Methods", 1945; Demšar,
    "Statistical Comparisons of Classifiers over Multiple Data Sets", 2006, on the use of both.

    Args:
      values: of the first method, one a fold; a fold of which either is not finite is left out.
      others: of the second, of the same folds in the same order.
      overlap: ratings tested for one trained on, 0 or more; 0: the folds are independent.

    Returns:
      The difference; without p-values for fewer than 2 folds.

    Raises:
      InputError: there are not as many values as others.

    Examples:
      >>> difference([3.0, 4.0], [1.0, 2.0]).interval.mean
      2.0
    """
    if len(values) != len(others):
        raise InputError(f"expected values of the same folds, got {len(values)} and {len(others)}")
    every = np.asarray(values, float) - np.asarray(others, float)
    finite = every[np.isfinite(every)]
    over = interval(finite.tolist(), overlap)
    if over.n < 2:
        return Difference(over, None, None)
    return Difference(over, _t_test(finite, overlap), _wilcoxon(finite))


def _t_test(differences: Float[np.ndarray, " n"], overlap: float) -> float:
    """The two-sided p-value of their mean being 0; 1 where all of them are."""
    from scipy.special import stdtr

    mean = abs(differences.mean())
    error = standard_error(differences, overlap)
    if error == 0:
        return float(mean == 0)
    return float(2 * stdtr(len(differences) - 1, -mean / error))


def _wilcoxon(differences: Float[np.ndarray, " n"]) -> float:
    """The two-sided p-value of their being symmetric around 0; 1 where all of them are 0."""
    from scipy.stats import wilcoxon

    if not differences.any():
        return 1.0
    _, p_value = wilcoxon(differences)
    return float(p_value)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values of several comparisons, adjusted so that any of them may be judged by itself.

    Of m, the k-th smallest is multiplied by m − k + 1, is at least the adjusted one before it, and
    at most 1. To reject what is then below 0.05 errs in any of them with a probability of at most
    0.05, however they depend on each other.

    Source: Holm, "A Simple Sequentially Rejective Multiple Test Procedure", 1979.

    Args:
      p_values: from 0 to 1, one a comparison.

    Returns:
      As many, in the same order.

    Examples:
      >>> holm([0.01, 0.04])
      [0.02, 0.04]
    """
    raw = np.asarray(p_values, float)
    order = np.argsort(raw, kind="stable")
    left = np.arange(len(raw), 0, -1)  # comparisons that are not yet judged
    adjusted = np.empty_like(raw)
    adjusted[order] = np.minimum(np.maximum.accumulate(left * raw[order]), 1)
    return adjusted.tolist()
