"""From axes to lanes: what repeats a setting, and that no two lanes are one fit."""

import logging

import pytest
from configs import TINY, built, refusal

from mfjax import Hparams, tune
from mfjax.app.lanes import DEFAULT_REPLICATES, _refuse_twice
from mfjax.errors import InputError
from mfjax.training.search import sample

SMALL = TINY[:-1]  # with the replicates that there are by default
FIXED = (*TINY, "split=blocks", "split.validation=0")


def split_seeds(*overrides):
    return [lane.split_seed for lane in built(*overrides).lanes]


# how many


def test_every_setting_is_repeated_on_three_splits():
    assert split_seeds(*SMALL) == [*range(DEFAULT_REPLICATES)] == [0, 1, 2]


@pytest.mark.parametrize("sweep", ["sweep=none", "sweep=movielens", "sweep.reg=[0.1,0.2]"])
def test_replicates_outlive_a_change_of_the_grid(sweep):
    experiment = built("+exp=movielens", *SMALL, sweep)
    assert experiment.axes["split_seed"] == [0, 1, 2]
    assert len(built("+exp=movielens", *SMALL, sweep, "replicates=2").lanes) * 3 == 2 * len(
        experiment.lanes
    )


def test_they_count_from_the_split_seed_that_is_given():
    assert split_seeds(*SMALL, "hparams.split_seed=7", "replicates=4") == [7, 8, 9, 10]


@pytest.mark.parametrize(
    "sweep", ["sweep.split_seed=[4,9]", "sweep.fold=[0,1]", "sweep.init_seed=[3,5]"]
)
def test_a_sweep_that_repeats_settings_has_no_others(sweep):
    lanes = built(*SMALL, "split.validation=3", sweep).lanes
    assert len(lanes) == 2
    assert len({lane.setting for lane in lanes}) == 1


def test_a_split_that_draws_nothing_is_there_once():
    assert split_seeds(*SMALL, "split=all") == [0]


@pytest.mark.parametrize("split", ["kfold", "blocks"])
def test_every_test_fold_is_tested_once_where_there_are_several(split):
    lanes = built(*SMALL, f"split={split}", "split.folds=4").lanes
    assert [lane.cut for lane in lanes] == [(0, fold) for fold in range(4)]
    both = built(*SMALL, f"split={split}", "replicates=2", "sweep.test_fold=[1,2]").lanes
    assert {lane.cut for lane in both} == {(0, 1), (0, 2), (1, 1), (1, 2)}


@pytest.mark.parametrize(
    "overrides, said",
    [
        ((*SMALL, "replicates=2", "sweep.split_seed=[0,1]"), "leave out one of them"),
        ((*SMALL, "replicates=2", "split=blocks", "split.validation=0"), "nothing of the split"),
        ((*SMALL, "replicates=2", "split=all"), "nothing of the split is drawn"),
        ((*SMALL, "replicates=0"), "replicates: expected an integer from 1 to 1000, got 0"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_replicates_that_cannot_be_are_refused(overrides, said):
    assert said in refusal(*overrides)


# no copies


@pytest.mark.parametrize(
    "sweep", ["sweep.reg=[0.1,0.2,0.1]", "sweep.split_seed=[0,1,1]", "sweep.rank=[3,3]"]
)
def test_a_value_twice_is_refused(sweep):
    said = refusal(*TINY, sweep)
    assert "stands twice" in said
    assert "replicates=3" in said


def test_a_long_axis_is_looked_through_at_once():
    axis = list(range(200_000))
    _refuse_twice("reg", axis)
    with pytest.raises(InputError, match=r"sweep\.reg: 7 stands twice"):
        _refuse_twice("reg", [*axis, 7])


SEEDS = "sweep.split_seed=[0,1]"
STARTS = "sweep.init_seed=[0,1]"
COPIES = {
    "blocks, als": (*FIXED, "method=als", SEEDS),
    "all, descent": (*TINY, "split=all", "method=descent", SEEDS),
    "rank 0": (*TINY, "hparams.rank=0", STARTS),
    "rank 0 beside another": (*TINY, "sweep.rank=[0,4]", STARTS),
    "init_scale 0": (*TINY, "hparams.init_scale=0", STARTS),
}


@pytest.mark.parametrize("overrides", COPIES.values(), ids=COPIES)
def test_seeds_from_which_nothing_is_drawn_are_refused(overrides):
    assert "lanes would be copies of one fit" in refusal(*overrides)


DRAWN = {
    "visits of sgd": (*FIXED, "method=sgd", SEEDS),
    "a split": (*TINY, "method=als", SEEDS),
    "a start": (*FIXED, "method=als", STARTS),
}


@pytest.mark.parametrize("overrides", DRAWN.values(), ids=DRAWN)
def test_seeds_from_which_something_is_drawn_are_swept(overrides):
    assert len(built(*overrides).lanes) == 2


def test_seeds_of_a_split_that_draws_nothing_share_one_problem():
    problems = built(*FIXED, "method=sgd", SEEDS).sweep.plan.problems
    assert problems[0, 0] is problems[1, 0]


def test_tune_refuses_a_lane_that_stands_twice(sweep):
    with pytest.raises(InputError, match="a copy of a fit is no replicate"):
        tune(sweep, [Hparams(), Hparams(reg=0.3), Hparams()], refit=False)


def test_lanes_with_and_without_validation_are_refused():
    said = refusal(*TINY, "sweep.fold=[-2,0]")
    assert "lanes that hold a fold out and lanes that do not" in said
    assert {lane.fold for lane in built(*TINY, "sweep.fold=[-2]").lanes} == {-2}


@pytest.mark.parametrize("key", ["hparams.fold=-1", "sweep.fold=[0,-1]"])
def test_the_ratings_of_no_fold_are_no_fold(key):
    assert "expected a fold's number, or -2 to hold nothing out, got -1" in refusal(*TINY, key)


# random draws


def test_draws_that_coincide_are_one_setting(caplog):
    with caplog.at_level(logging.WARNING, "mfjax"):
        lanes = built(*TINY, "search.name=random", "search.samples=40", "sweep.rank=[2,5]").lanes
    assert sorted(lane.rank for lane in lanes) == [2, 3, 4, 5]
    assert "36 of 40 drawn settings coincide" in caplog.text


def test_every_drawn_setting_comes_once_on_every_replicate():
    lanes = sample(Hparams(), {"rank": [1, 3], "split_seed": [0, 1, 2]}, samples=30, seed=0)
    assert len(lanes) == len(set(lanes)) == 9


@pytest.mark.parametrize("sweep", [(), (SEEDS,), (STARTS,)], ids=str)
def test_random_without_an_axis_is_refused(sweep):
    assert "has no axis to draw from" in refusal(*TINY, "search.name=random", *sweep)
