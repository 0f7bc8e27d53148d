"""Differences on the same folds, their tests, and p-values of several comparisons."""

import numpy as np
import pytest

import mfjax
from mfjax import InputError
from mfjax.reporting.paired import Difference, difference, holm
from mfjax.reporting.statistics import Interval, interval

VALUES = [0.91, 0.87, 0.90, 0.88, 0.93]
OTHERS = [0.90, 0.85, 0.90, 0.84, 0.92]


def test_the_difference_has_the_interval_of_the_differences():
    between = [a - b for a, b in zip(VALUES, OTHERS, strict=True)]
    assert difference(VALUES, OTHERS, 1 / 9).interval == interval(between, 1 / 9)


def test_without_overlap_the_t_test_is_students_paired_one():
    from scipy import stats

    expected = stats.ttest_rel(VALUES, OTHERS).pvalue
    assert difference(VALUES, OTHERS).t_test == pytest.approx(expected, rel=1e-12)


def test_the_corrected_t_test_by_hand():
    """d = 1, 2, 3 at overlap 2/3: t = 2 / sqrt(1/3 + 2/3) = 2, and of 2 degrees of freedom
    P(|T| > t) = 1 − t / sqrt(t² + 2)."""
    got = difference([1.0, 2.0, 3.0], [0.0, 0.0, 0.0], 2 / 3).t_test
    assert got == pytest.approx(1 - 2 / np.sqrt(6), rel=1e-12)


@pytest.mark.parametrize("overlap", [0.0, 1 / 9, 1.0])
@pytest.mark.parametrize("shift", [0.0, 0.01, 0.03, 0.1])
def test_p_is_below_a_twentieth_where_the_interval_leaves_zero_out(shift, overlap):
    of = difference([value + shift for value in VALUES], OTHERS, overlap)
    assert (of.t_test < 0.05) == (of.interval.low > 0 or of.interval.high < 0)


def test_wilcoxon_of_one_sign_is_the_least_that_so_many_folds_give():
    for n in (3, 5, 8):
        values = np.arange(1.0, n + 1).tolist()
        assert difference(values, [0.0] * n).wilcoxon == pytest.approx(2 / 2**n)


def test_the_tests_do_not_depend_on_which_method_is_first():
    one, other = difference(VALUES, OTHERS, 0.1), difference(OTHERS, VALUES, 0.1)
    assert one[1:] == pytest.approx(other[1:])
    assert one.interval.mean == -other.interval.mean


def test_equal_methods_do_not_differ():
    assert difference(VALUES, VALUES) == Difference(Interval(0, 0, 0, 5), 1.0, 1.0)


def test_differences_that_are_all_the_same_leave_no_doubt():
    assert difference([2.0, 3.0], [1.0, 2.0]).t_test == 0


def test_one_fold_has_a_difference_and_no_test():
    assert difference([2.0], [1.5]) == Difference(Interval(0.5, None, None, 1), None, None)
    assert difference([2.0, np.nan], [1.5, 1.0]).interval.n == 1


def test_folds_that_do_not_pair_are_refused():
    with pytest.raises(InputError, match="same folds, got 2 and 1"):
        difference([1.0, 2.0], [1.0])


# several comparisons


@pytest.mark.parametrize(
    "p_values, adjusted",
    [
        ([], []),
        ([0.04], [0.04]),
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),  # 3 · 0.01, then 2 · 0.03, then no less
        ([0.04, 0.001, 0.2, 0.01], [0.08, 0.004, 0.2, 0.03]),
        ([0.6, 0.5, 0.9], [1.0, 1.0, 1.0]),
        ([0.02, 0.02], [0.04, 0.04]),
    ],
)
def test_holm_by_hand(p_values, adjusted):
    assert holm(p_values) == pytest.approx(adjusted)


def test_holm_rejects_no_more_than_the_raw_and_no_less_than_bonferroni():
    p_values = np.random.default_rng(0).uniform(0, 0.1, 20)
    adjusted = np.array(holm(p_values.tolist()))
    assert (adjusted >= p_values).all()
    assert (adjusted <= np.minimum(20 * p_values, 1)).all()
    assert (np.diff(adjusted[np.argsort(p_values)]) >= 0).all()


def test_they_are_public():
    assert mfjax.paired.difference is difference
    assert mfjax.paired.holm is holm
