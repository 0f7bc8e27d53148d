"""One call trains what `Plan`, `Sweep` and `tune` train, and refuses what has no effect."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

import mfjax
from mfjax import METHODS, SPLITS, Hparams, InputError, Problem, Schedule, Spec
from mfjax.metrics import columns
from mfjax.shortcuts import dataset_of, suited_tiling
from mfjax.types import NO_FOLD


@pytest.fixture(scope="module")
def data():
    """300 ratings by 30 users of 20 items."""
    rng = np.random.default_rng(0)
    user, item = np.unravel_index(rng.permutation(30 * 20)[:300], (30, 20))
    return mfjax.from_ids("made", user, item, rng.integers(1, 6, 300))


def method(name, **own):
    return lambda spec: METHODS[name](spec, **own)


def in_ten_lines(data, make, split, lanes, epochs, refit, **conventions):
    """What a reader writes out: the outcome, and the first model."""
    spec = Spec(data.num_users, data.num_items, max_rank=4, **conventions)
    tiling = suited_tiling(data.ratings(), spec, make(spec).solves_rows)
    spec = replace(spec, tiling=tiling)
    problems = {lane.cut: Problem.of(data, split, lane.test_fold) for lane in lanes}
    plan = mfjax.Plan(spec, make, problems, Schedule(epochs=epochs))
    outcome = mfjax.tune(mfjax.Sweep(plan, len(lanes)), lanes, refit)
    (final, *_) = outcome.final
    return outcome, mfjax.Model.of(final, data, problems[final.lane.hparams.cut], spec)


def assert_same_bits(ours, theirs):
    for name, array in vars(ours).items():
        np.testing.assert_array_equal(array, getattr(theirs, name), err_msg=name)


SLOW = pytest.mark.slow
CASES = {
    "sgd": (method("sgd", optimizer=mfjax.optimizer()), {}),
    "als": (method("als"), {}),
    "sgd by Adam": (
        method("sgd", optimizer=mfjax.optimizer("adam"), batch_size=32),
        {"optimizer": "adam", "batch_size": 32},
    ),
}


@pytest.mark.parametrize(
    "name",
    ["als", pytest.param("sgd", marks=SLOW), pytest.param("sgd by Adam", marks=SLOW)],
)
def test_a_fit_is_that_of_a_plan_and_a_sweep(data, name):
    make, parts = CASES[name]
    hparams = Hparams(rank=4, reg=0.1, fold=NO_FOLD, init_seed=3, split_seed=3)
    all_train = SPLITS["random"](data, 3, validation=0, test=0)
    _, model = in_ten_lines(data, make, all_train, [hparams], 7, refit=True, bias=False)
    chosen = name.partition(" ")[0]
    ours = mfjax.fit(data, chosen, rank=4, epochs=7, seed=3, reg=0.1, bias=False, **parts)
    assert_same_bits(ours, model)
    assert ours.num_ratings == 300


@pytest.mark.slow
@pytest.mark.parametrize("as_name", [True, False], ids=["name", "Split"])
def test_a_fit_of_a_split_is_refitted_without_its_test_ratings(data, as_name):
    split = SPLITS["random"](data, 0)
    make, _ = CASES["sgd"]
    lane = Hparams(rank=4, learning_rate=0.1)
    outcome, model = in_ten_lines(data, make, split, [lane], 20, refit=True)
    asked = "random" if as_name else split
    ours = mfjax.fit(data, rank=4, epochs=20, learning_rate=0.1, split=asked)
    assert_same_bits(ours, model)
    assert outcome.refitted
    assert ours.num_ratings == 270


@pytest.mark.slow
def test_cross_validation_is_a_lane_a_fold(data):
    split = SPLITS["kfold"](data, 2, folds=3, validation=0)
    base = Hparams(rank=4, fold=NO_FOLD, init_seed=2, split_seed=2)
    lanes = [base._replace(test_fold=fold) for fold in range(3)]
    outcome, _ = in_ten_lines(data, CASES["sgd"][0], split, lanes, 5, refit=False)
    frame = mfjax.cross_validate(data, folds=3, rank=4, epochs=5, seed=2)
    assert frame.columns == ["fold", "train_ratings", "test_ratings", *columns("test")]
    assert frame["fold"].to_list() == [0, 1, 2]
    assert frame["test_ratings"].to_list() == [100, 100, 100]
    assert frame["train_ratings"].to_list() == [200, 200, 200]
    for row, errors in zip(frame.iter_rows(named=True), outcome.test, strict=True):
        assert {key: row[key] for key in errors} == errors


def test_what_is_not_said_is_as_in_the_config():
    from configs import composed

    cfg = composed()
    assert (cfg.method.name, cfg.optimizer.name) == ("sgd", "sgd")
    assert (cfg.hparams.rank, cfg.epochs) == (Hparams().rank, Schedule.epochs)


# data


def test_data_may_be_a_frame_a_file_or_a_name(data, tmp_path):
    frame = pl.DataFrame(
        {
            "user": data.user_ids[data.user],
            "item": data.item_ids[data.item],
            "rating": data.value,
        }
    )
    path = tmp_path / "ratings.csv"
    frame.write_csv(path)
    assert dataset_of(data) is data
    for source in (frame, path, str(path)):
        found = dataset_of(source)
        np.testing.assert_array_equal(found.value, data.value)
    assert dataset_of("bundled:ml-latest-small").num_users == 671
    with pytest.raises(InputError, match="expected a frame, a mapping"):
        mfjax.fit(7)


def test_what_is_read_and_cut_prints_a_line(data):
    split = SPLITS["random"](data, 0)
    assert repr(data) == "Dataset(made, 30 users × 20 items, 300 ratings)"
    assert repr(split) == f"Split(300 ratings, {split.protocol})"
    problem = Problem.of(data, split)
    assert repr(problem) == "Problem(270 ratings, 30 of the test, predictions from 1 to 5)"


# what is refused

WRONG = {
    "an unknown method": ({"method": "svd"}, "method: expected one of .*als.*, got 'svd'"),
    "an unknown keyword": ({"regg": 1}, "no setting 'regg' of method='sgd'\nit takes: .*reg, "),
    "of another method": ({"cg_steps": 3}, "no setting 'cg_steps' of method='sgd'"),
    "of a repeat": ({"init_seed": 3}, "no setting 'init_seed'"),
    "a shape": ({"num_users": 3}, "no setting 'num_users'"),
    "not read": ({"method": "als", "learning_rate": 0.1}, "learning_rate has no effect with"),
    "momentum": ({"momentum": 0.5}, "momentum has no effect with method='sgd'"),
    "a bias that is not there": ({"bias": False, "reg_bias": 1}, "reg_bias has no effect with b"),
    "nothing missing": ({"missing_weight": 1}, "missing_weight has no effect with missing='ign"),
    "a convention": ({"missing": "none"}, "missing: expected one of ignore, .*, got 'none'"),
    "a dtype": ({"dtype": "float16"}, "dtype: expected one of float32, float64, got 'float16'"),
    "a gradient": ({"method": "descent", "gradient": "no"}, "gradient: expected one of autodiff"),
    "a kernel": ({"kernel": "no"}, "kernel: expected one of .*, got 'no'"),
    "a split": ({"split": "no"}, "split: expected one of random, .*, got 'no'"),
    "a rank": ({"rank": -1}, "rank: expected an integer from 0, got -1"),
    "epochs": ({"epochs": 0}, "epochs: expected an integer from 1, got 0"),
    "a negative λ": ({"reg": -1}, "reg: expected 0 or a positive number, got -1"),
    "a λ in words": ({"reg": "0.1"}, "reg: expected 0 or a positive number, got '0.1'"),
    "no number": ({"reg": float("nan")}, "reg: expected 0 or a positive number, got nan"),
}


@pytest.mark.parametrize("settings, message", WRONG.values(), ids=WRONG)
def test_a_wrong_setting_is_one_message(data, settings, message):
    with pytest.raises(InputError, match=message):
        mfjax.fit(data, **settings)


def test_a_split_of_other_ratings_is_refused(data):
    other = SPLITS["random"](mfjax.SOURCES["toy"](), 0)
    with pytest.raises(InputError, match="there are 300 ratings, and the split is of"):
        mfjax.fit(data, split=other)


@pytest.mark.parametrize(
    "call", [pytest.param(call, marks=SLOW) for call in (mfjax.cross_validate, mfjax.fit)]
)
def test_what_diverged_is_no_result(data, call):
    with pytest.raises(InputError, match=r"diverged at epoch 1: try a learning_rate below 1e\+09"):
        call(data, rank=4, epochs=2, learning_rate=1e9)
