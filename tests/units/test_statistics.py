"""Means and their intervals, and what they are over."""

import numpy as np
import pytest
from helpers import fit_at
from scipy.special import stdtrit

from mfjax import Bounds, Problem, Ratings
from mfjax.reporting.statistics import Interval, Over, interval, over_splits
from mfjax.types import NO_FOLD

VALUES = [1.0, 2.0, 4.0]  # their mean is 7/3, and so is their variance


def problem(validation=(10,), trained=80, test=10):
    """A split with so many ratings in each fold, in none, and to test on."""
    folds = [np.full(size, fold) for fold, size in enumerate(validation)]
    fold = np.concatenate([*folds, np.full(trained, -1)])

    def ratings(fold):
        rows = np.zeros(len(fold))
        return Ratings.of(rows, rows, rows, fold=fold)

    return Problem(ratings(fold), ratings(np.full(test, -1)), Bounds(0, 1))


def fits(*replicates):
    return [fit_at(1.0, **hparams) for hparams in replicates]


def seeds(count, **hparams):
    return fits(*({"split_seed": seed, **hparams} for seed in range(count)))


# an interval


@pytest.mark.parametrize("values", [[1.0, 2.0], [0.91, 0.87, 0.9, 0.88, 0.93], [3, 1, 2]])
def test_without_overlap_the_interval_is_students(values):
    from scipy import stats  # which takes a second to load

    mean = np.mean(values)
    low, high = stats.t.interval(0.95, len(values) - 1, mean, stats.sem(values))
    assert interval(values) == pytest.approx((mean, low, high, len(values)), rel=1e-12)


@pytest.mark.parametrize("overlap", [1 / 9, 1 / 8, 1 / 4, 1.0])
def test_overlap_is_added_to_the_variance_of_the_mean(overlap):
    """By hand: 4.302653 is the 97.5 % point of Student's t of 2 degrees of freedom."""
    half = 4.302652729911275 * np.sqrt((1 / 3 + overlap) * 7 / 3)
    expected = (7 / 3, 7 / 3 - half, 7 / 3 + half, 3)
    assert interval(VALUES, overlap) == pytest.approx(expected, rel=1e-9)


def test_a_tenth_measured_widens_three_splits_by_a_sixth():
    plain = interval(VALUES)
    wider = interval(VALUES, 10 / 90)
    factor = (wider.high - wider.low) / (plain.high - plain.low)
    assert factor == pytest.approx(np.sqrt(4 / 3))


def test_no_interval_without_replicates():
    assert interval([]) == interval([np.nan]) == Interval(None, None, None, 0)
    assert interval([0.9]) == interval([np.nan, 0.9]) == Interval(0.9, None, None, 1)


# over what


def assert_over(fits, values, problems, expected, of_test=False):
    """`expected`: the values that the interval is of, the words, and the overlap."""
    own, words, overlap = expected
    got, over = over_splits(fits, values, problems, of_test=of_test)
    assert over == Over(words, pytest.approx(overlap))
    quantile = stdtrit(len(own) - 1, 0.975)
    half = quantile * np.std(own, ddof=1) * np.sqrt(1 / len(own) + overlap)
    mean = np.mean(own)
    assert got == pytest.approx((mean, mean - half, mean + half, len(own)), rel=1e-9)


def test_splits_overlap_by_what_is_held_out_for_one_trained_on():
    problems = {(seed, 0): problem() for seed in range(3)}
    words = "3 splits (split_seed)"
    assert_over(seeds(3), VALUES, problems, (VALUES, words, 10 / 80))


def test_of_a_refit_the_test_ratings_are_what_it_does_not_train_on():
    problems = {(seed, 0): problem(test=20) for seed in range(3)}
    refits = seeds(3, fold=NO_FOLD)
    expected = (VALUES, "3 splits (split_seed)", 20 / 90)
    assert_over(refits, VALUES, problems, expected, of_test=True)
    assert_over(refits, VALUES, problems, expected)  # as its training errors are


def test_of_a_fit_that_is_tested_without_a_refit_the_test_ratings_count():
    problems = {(seed, 0): problem(validation=(10,), trained=80, test=40) for seed in range(3)}
    words = "3 splits (split_seed)"
    assert_over(seeds(3), VALUES, problems, (VALUES, words, 40 / 80), of_test=True)
    assert_over(seeds(3), VALUES, problems, (VALUES, words, 10 / 80))


def test_folds_of_one_k_fold_are_corrected_likewise():
    """Bouckaert and Frank (2004): 1/n + n_test/n_train, here 1/3 + 1/2."""
    problems = {(0, 0): problem(validation=(30, 30, 30), trained=0)}
    of_folds = fits({"fold": 0}, {"fold": 1}, {"fold": 2})
    assert_over(of_folds, VALUES, problems, (VALUES, "3 folds", 1 / 2))


def test_folds_of_several_seeds_are_counted_as_they_are_named():
    problems = {(seed, 0): problem(validation=(20,) * 5, trained=0) for seed in range(3)}
    every = fits(*({"split_seed": s, "fold": f} for s in range(3) for f in range(5)))
    values = [0.01 * i * i for i in range(15)]
    assert_over(every, values, problems, (values, "15 folds, of 3 split_seeds", 1 / 4))


def test_the_starts_of_a_split_are_averaged():
    problems = {(0, 0): problem(validation=(30, 30, 30), trained=0)}
    starts = fits(
        {"fold": 0, "init_seed": 0}, {"fold": 0, "init_seed": 1}, {"fold": 1}, {"fold": 2}
    )
    assert_over(starts, [0.0, 2.0, 2.0, 4.0], problems, (VALUES, "3 folds", 1 / 2))


def test_the_starts_of_the_only_split_are_independent():
    starts = fits(*({"init_seed": seed} for seed in range(3)))
    words = "3 fits of one split (init_seed)"
    assert_over(starts, VALUES, {(0, 0): problem()}, (VALUES, words, 0))


def test_seeds_of_a_split_that_draws_nothing_are_fits_of_one_split():
    fixed = problem()
    problems = dict.fromkeys([(seed, 0) for seed in range(3)], fixed)
    words = "3 fits of one split (split_seed)"
    assert_over(seeds(3), VALUES, problems, (VALUES, words, 0))


def test_seeds_of_fixed_folds_are_averaged():
    problems = dict.fromkeys([(0, 0), (1, 0)], problem(validation=(30, 30, 30), trained=0))
    every = fits(*({"split_seed": s, "fold": f} for s in range(2) for f in range(3)))
    values = [0.0, 1.0, 3.0, 2.0, 3.0, 5.0]
    assert_over(every, values, problems, (VALUES, "3 folds", 1 / 2))


def test_one_fit_is_one_split():
    got = over_splits([fit_at(1.0)], [3.0], {(0, 0): problem()})
    assert got == (Interval(3.0, None, None, 1), Over("one split"))
