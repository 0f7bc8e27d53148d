"""Means and their intervals, and what they are over."""

import numpy as np
import pytest
from helpers import fit_at

from mfjax.reporting.statistics import Interval, interval, over_splits


@pytest.mark.parametrize("values", [[1.0, 2.0], [0.91, 0.87, 0.9, 0.88, 0.93], [3, 1, 2]])
def test_the_interval_is_students(values):
    from scipy import stats  # which takes a second to load

    mean = np.mean(values)
    low, high = stats.t.interval(0.95, len(values) - 1, mean, stats.sem(values))
    assert interval(values) == pytest.approx((mean, low, high, len(values)), rel=1e-12)


def test_no_interval_without_replicates():
    assert interval([]) == interval([np.nan]) == Interval(None, None, None, 0)
    assert interval([0.9]) == interval([np.nan, 0.9]) == Interval(0.9, None, None, 1)


OVER = {
    "splits": (
        [{"split_seed": 0}, {"split_seed": 1}, {"split_seed": 2}],
        [1.0, 2.0, 4.0],
        "splits (split_seed)",
    ),
    "folds": ([{"fold": 0}, {"fold": 1}, {"fold": 2}], [1.0, 2.0, 4.0], "folds"),
    "the starts of a split are averaged": (
        [{"fold": 0, "init_seed": 0}, {"fold": 0, "init_seed": 1}, {"fold": 1}, {"fold": 2}],
        [0.0, 2.0, 2.0, 4.0],
        "folds",
    ),
    "starts alone": (
        [{"init_seed": 0}, {"init_seed": 1}, {"init_seed": 2}],
        [1.0, 2.0, 4.0],
        "initialisations of one split (init_seed)",
    ),
}


@pytest.mark.parametrize("replicates, values, over", OVER.values(), ids=OVER)
def test_what_the_interval_is_over(replicates, values, over):
    fits = [fit_at(1.0, **hparams) for hparams in replicates]
    assert over_splits(fits, values) == (interval([1.0, 2.0, 4.0]), over)


def test_one_fit_is_one_split():
    assert over_splits([fit_at(1.0)], [3.0]) == (Interval(3.0, None, None, 1), "one split")
