"""What results say of an outcome: intervals and what they are over, the protocol, what to try."""

import functools

import numpy as np
import pytest
from configs import TINY, built
from helpers import fit_at
from scipy.special import stdtrit

from mfjax.app.measures import measure, remarks, untested, was_tested
from mfjax.app.sealed import ALL_TESTED, NOT_TESTED
from mfjax.reporting.statistics import CORRECTED
from mfjax.training.protocol import Outcome, settings_of
from mfjax.types import NO_FOLD

SMALL = (*TINY[:-1], "split.test=0.2", "split.validation=0.1")  # 30 ratings: 21, 3 and 6
experiment = functools.cache(built)


def outcome_of(chosen, final=None, test=None, chosen_by="validation_rmse"):
    """That of one setting, whose fits are tested where no refits are given."""
    fits = final or chosen
    errors = test or [0.1 * (i + 1) ** 2 for i in range(len(fits))]
    return Outcome(
        settings=settings_of(chosen, chosen_by),
        chosen_by=chosen_by,
        final=fits,
        test=[{"test_rmse": error, "test_mae": error / 2} for error in errors],
        refitted=final is not None,
    )


def refitted_on(count):
    """That of so many splits, each refitted."""
    chosen = [fit_at(0.1 * (seed + 2), split_seed=seed) for seed in range(count)]
    final = [fit_at(1.0, split_seed=seed, fold=NO_FOLD) for seed in range(count)]
    return outcome_of(chosen, final)


def span(values, overlap):
    """The width of an interval, by hand."""
    n = len(values)
    deviation = np.std(values, ddof=1)
    return 2 * stdtrit(n - 1, 0.975) * deviation * np.sqrt(1 / n + overlap)


def width(interval):
    return interval.high - interval.low


# intervals


def test_each_part_is_corrected_by_what_it_measures():
    said = measure(experiment(*SMALL), refitted_on(3))
    test = said["metrics"]["test_rmse"]
    assert test.n == 3
    assert test.mean == pytest.approx(np.mean([0.1, 0.4, 0.9]))
    assert width(test) == pytest.approx(span([0.1, 0.4, 0.9], 6 / 24))
    validation = said["metrics"]["validation_rmse"]
    assert width(validation) == pytest.approx(span([0.2, 0.3, 0.4], 3 / 21))
    assert said["interval_over"] == "3 splits (split_seed)"
    assert said["protocol"].endswith(f"; intervals: {CORRECTED}")


def test_without_replicates_no_variance_is_named():
    said = measure(experiment(*SMALL, "replicates=1"), refitted_on(1))
    assert said["interval_over"] == "one split"
    assert CORRECTED not in said["protocol"]
    assert {value.n for value in said["metrics"].values()} == {1}


def test_validation_says_what_it_is_over_where_the_refits_are_over_less():
    folds = (*SMALL[:-2], "split.validation=3", "split.test=0.2", "sweep.fold=[0,1,2]")
    seeds = "sweep.split_seed=[0,1]"
    chosen = [fit_at(1 + s + f, split_seed=s, fold=f) for s in range(2) for f in range(3)]
    final = [fit_at(1.0, split_seed=seed, fold=NO_FOLD) for seed in range(2)]
    said = measure(experiment(*folds, seeds), outcome_of(chosen, final))
    words = "2 splits (split_seed); of validation 6 folds, of 2 split_seeds"
    assert said["interval_over"] == words
    metrics = said["metrics"]
    assert (metrics["test_rmse"].n, metrics["validation_rmse"].n) == (2, 6)


def test_the_baselines_are_of_the_splits_of_the_job_alone():
    jobs = experiment(*SMALL, "sweep.split_seed=[0,1,2,3,4]")  # as of several jobs together
    baselines = measure(jobs, refitted_on(2))["baselines"]
    assert {value.n for value in baselines.values()} == {2}
    own = measure(experiment(*SMALL, "replicates=2"), refitted_on(2))["baselines"]
    assert baselines == own


def test_the_baselines_of_one_split_are_one_however_many_seeds_visit_it():
    fixed = experiment(*TINY, "split=blocks", "split.validation=0", "sweep.split_seed=[0,1]")
    tried = [fit_at(np.nan, split_seed=seed) for seed in range(2)]
    said = measure(fixed, outcome_of(tried, chosen_by="train_rmse"))
    assert {value.n for value in said["baselines"].values()} == {1}
    assert said["interval_over"] == "2 fits of one split (split_seed)"
    assert said["metrics"]["test_rmse"].n == 2
    assert CORRECTED not in said["protocol"]


def test_a_pooled_run_says_of_how_many_chains_a_split():
    axes = ("sweep.reg=[0.05,0.1]", "sweep.init_seed=[0,1]", "sweep.split_seed=[0,1,2]")
    chosen = [
        fit_at(1.0, split_seed=split, init_seed=start, reg=reg)
        for split in range(3)
        for start in range(2)
        for reg in (0.05, 0.1)
    ]
    final = [fit_at(1.0, split_seed=seed, fold=NO_FOLD) for seed in range(3)]
    outcome = outcome_of(chosen, final)._replace(pooled=True)
    of_all = experiment(*SMALL, *axes)
    mean = ", refitted on training and validation ratings, tested the mean of the samples of 4"
    assert f"{mean} chains a split" in measure(of_all, outcome)["protocol"]
    assert remarks(of_all, outcome) == []
    assert remarks(of_all, outcome._replace(pooled=False)) != []


# what is tested


def test_what_is_not_tested_says_so_and_has_no_test_figure():
    outcome = untested(refitted_on(3))
    assert not was_tested(outcome)
    said = measure(experiment(*SMALL), outcome)
    assert NOT_TESTED in said["protocol"]
    assert said["baselines"] == {}
    assert not any(column.startswith("test_") for column in said["metrics"])
    assert said["metrics"]["validation_rmse"].n == 3


def test_test_all_is_labelled():
    outcome = refitted_on(3)
    assert was_tested(outcome)
    assert ALL_TESTED not in measure(experiment(*SMALL), outcome)["protocol"]
    assert ALL_TESTED in measure(experiment(*SMALL), outcome, all_tested=True)["protocol"]


def test_without_test_ratings_nothing_was_tested():
    outcome = outcome_of([fit_at(1.0)], test=[np.nan])
    assert not was_tested(outcome)
    said = measure(experiment(*TINY), outcome)
    assert said["metrics"]["test_rmse"].n == 0
    assert said["interval_over"] == "one split"


# what to try


def remarked(*overrides, epoch=2, chosen_by="validation_rmse", **hparams):
    fits = [fit_at(1.0, epoch, **hparams)]
    return remarks(experiment(*TINY, *overrides), outcome_of(fits, chosen_by=chosen_by))


def test_a_choice_at_the_end_of_its_axis_is_said():
    axis = "sweep.reg=[0.05,0.1,0.2]"
    assert remarked(axis, reg=0.1) == []
    assert remarked(axis, reg=0.05) == ["reg=0.05 is the lowest of its axis: try lower"]
    assert remarked(axis, reg=0.2) == ["reg=0.2 is the highest of its axis: try higher"]


def test_several_axes_each_have_a_line():
    axes = ("sweep.reg=[0.05,0.1]", "sweep.rank=[2,4,8]")
    assert len(remarked(*axes, reg=0.1, rank=2)) == 2


def test_there_is_nothing_lower_than_0_and_nothing_beside_one_value():
    assert remarked("sweep.reg=[0,0.1,0.2]", reg=0.0) == []
    assert remarked("sweep.reg=[0.1]", reg=0.1) == []


def test_replicates_are_no_choice():
    assert remarked("sweep.split_seed=[0,1,2]", split_seed=2) == []


def test_a_best_epoch_at_the_limit_is_said():
    last = ["the best epoch is the last, 4: try more epochs"]
    assert remarked("epochs=4", epoch=4) == last
    assert remarked("epochs=4", epoch=3) == []
    assert remarked("epochs=9", epoch=4) == []


def test_the_last_epoch_is_no_choice_where_there_was_no_other():
    assert remarked("epochs=4", "eval_every=4", epoch=4) == []
    assert remarked("epochs=4", epoch=4, chosen_by="train_rmse") == []
