"""Splits against what they promise, and no test rating in anything that was trained or chosen."""

from dataclasses import replace

import numpy as np
import pytest
from configs import built

from mfjax.data import SPLITS, from_ids
from mfjax.data.contracts import any_ratings
from mfjax.data.problem import Problem
from mfjax.errors import InputError
from mfjax.methods import METHODS
from mfjax.metrics.cold import cold
from mfjax.training.epochs import Schedule
from mfjax.training.folding import with_given
from mfjax.training.lanes import Plan, grid
from mfjax.training.protocol import tune
from mfjax.training.sweep import Sweep
from mfjax.types import Hparams, Spec

DATA = any_ratings(1000)


def parts(split):
    """The ratings that are trained on, validated by and tested, by test fold."""
    for test_fold in range(split.num_tests):
        is_test = split.test == test_fold
        is_given = np.zeros_like(is_test) if split.given is None else split.given
        rest = ~is_test & ~is_given
        yield rest & (split.fold == -1), rest & (split.fold >= 0), is_test


# sizes

SIZES = [
    ("random", {}, [(800, 100, 100)]),
    ("random", {"validation": 0.0, "test": 0.25}, [(750, 0, 250)]),
    ("random", {"validation": 0.333, "test": 0.0}, [(667, 333, 0)]),
    ("random", {"validation": 0.0, "test": 0.0}, [(1000, 0, 0)]),
    ("random", {"validation": 4, "test": 0.1}, [(0, 900, 100)]),
    ("kfold", {"folds": 3, "validation": 0.0}, [(666, 0, 334), (667, 0, 333), (667, 0, 333)]),
    ("blocks", {"folds": 3, "validation": 0.0}, [(667, 0, 333), (667, 0, 333), (666, 0, 334)]),
    ("time", {"validation": 0.05, "test": 0.2}, [(750, 50, 200)]),
]


@pytest.mark.parametrize("name, keys, sizes", SIZES)
def test_a_split_has_its_sizes(name, keys, sizes):
    split = SPLITS[name](DATA, 7, **keys)
    assert [tuple(int(part.sum()) for part in of_fold) for of_fold in parts(split)] == sizes


@pytest.mark.parametrize("keys", [{}, {"validation": 0}], ids=["validated", "not validated"])
@pytest.mark.parametrize("name", SPLITS)
def test_a_split_draws_by_its_seed_alone_and_names_it(name, keys):
    one, again, other = (SPLITS[name](DATA, seed, **keys) for seed in (7, 7, 8))
    same = [
        np.array_equal(one.test, two.test) & np.array_equal(one.fold, two.fold)
        for two in (again, other)
    ]
    assert same == [True, not one.drawn]
    assert one.drawn == ("split_seed 7" in one.protocol)
    assert one.protocol == again.protocol


def test_several_folds_validate_in_turn():
    split = SPLITS["random"](DATA, 0, validation=4, test=0.1)
    assert np.bincount(split.fold[split.fold >= 0]).tolist() == [225] * 4


# what each promises


@pytest.mark.parametrize("name", ["kfold", "blocks"])
def test_each_rating_is_tested_once_and_validates_elsewhere(name):
    split = SPLITS[name](DATA, 3)
    assert sorted(np.unique(split.test)) == [0, 1, 2, 3, 4]
    for _, validating, tested in parts(split):
        assert tested.sum() == 200
        assert 60 < validating.sum() < 100


def test_blocks_are_consecutive_rows():
    assert (SPLITS["blocks"](any_ratings(100_000), 0).test == np.repeat(np.arange(5), 20_000)).all()
    eleven = SPLITS["blocks"](any_ratings(11), 0, folds=4)
    assert eleven.test.tolist() == [0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]


def test_the_last_by_time_are_tested():
    ((trained, validating, tested),) = parts(SPLITS["time"](DATA, 0))
    when = DATA.timestamp
    assert when[trained].max() < when[validating].min()
    assert when[validating].max() < when[tested].min()


def test_the_last_of_each_user_are_tested():
    split = SPLITS["leave_last_out"](DATA, 0, test=2, validation=1)
    ((trained, validating, tested),) = parts(split)
    counts = np.bincount(DATA.user)
    for user in range(DATA.num_users):
        of_user = DATA.user == user
        times = [DATA.timestamp[of_user & part] for part in (trained, validating, tested)]
        if counts[user] <= 3:
            assert [len(one) for one in times] == [counts[user], 0, 0]
        else:
            assert [len(one) for one in times[1:]] == [1, 2]
            assert times[0].max() < times[1].min() < times[2].min()


def test_as_many_of_each_user_are_tested():
    ((_, validating, tested),) = parts(SPLITS["leave_k_out"](DATA, 0, test=2, validation=3))
    has_enough = np.bincount(DATA.user) > 5
    assert (np.bincount(DATA.user[tested], minlength=DATA.num_users) == 2 * has_enough).all()
    assert (np.bincount(DATA.user[validating], minlength=DATA.num_users) == 3 * has_enough).all()


def test_new_users_are_given_a_share_and_tested_on_the_rest():
    split = SPLITS["users"](DATA, 0, test=0.2, given=0.5)
    ((trained, validating, tested),) = parts(split)
    new = np.unique(DATA.user[tested | split.given])
    assert len(new) == round(0.2 * DATA.num_users)
    assert not np.isin(DATA.user[trained | validating], new).any()
    counts = np.bincount(DATA.user[tested], minlength=DATA.num_users)[new]
    assert (counts == np.ceil(0.5 * np.bincount(DATA.user)[new])).all()


def test_new_items_are_tested_on_all_their_ratings():
    ((trained, validating, tested),) = parts(SPLITS["cold_items"](DATA, 0, test=0.2))
    items = [set(DATA.item[part]) for part in (trained, validating, tested)]
    assert len(items[2]) == round(0.2 * DATA.num_items)
    assert not items[0] & items[1] and not (items[0] | items[1]) & items[2]
    problem = Problem.of(DATA, SPLITS["cold_items"](DATA, 0, test=0.2))
    assert cold(problem).item.all()


def test_a_file_of_test_ratings_is_tested():
    split = SPLITS["files"](DATA, 0)
    np.testing.assert_array_equal(split.test == 0, DATA.of_test)


def test_the_protocol_is_readable():
    protocol = "random 80/10/10 split by rating (training/validation/test), split_seed 3"
    assert SPLITS["random"](DATA, 3).protocol == protocol
    blocks = "5 consecutive blocks in file order, each tested in turn, a random 10% of the rest"
    assert SPLITS["blocks"](DATA, 3).protocol == f"{blocks} as validation, split_seed 3"


# what is wrong

WRONG = [
    ("random", {"validation": -0.1}, "validation: expected .* got -0.1"),
    ("random", {"validation": 2.5}, "whole number of folds"),
    ("random", {"validation": 1}, "whole number of folds"),
    ("random", {"test": 1.0}, "test: expected .* got 1.0"),
    ("random", {"test": 0.5, "validation": 0.5}, "sum is below 1"),
    ("random", {"test": 0.01}, "at least one rating, got 0.01 of 20"),
    ("random", {"test": 0.49, "validation": 0.5}, "at least one training rating"),
    ("kfold", {"folds": 1}, "folds: expected 2 to 20 .* got 1"),
    ("kfold", {"folds": 21}, "expected 2 to 20 .* got 21"),
    ("blocks", {"folds": 21}, "got 21"),
    ("blocks", {"validation": 1.5}, "validation"),
    ("time", {"test": 0.49, "validation": 0.5}, "at least one training rating"),
    ("leave_k_out", {"test": 1.5}, "whole numbers of ratings"),
    ("leave_k_out", {"test": 0}, "at least one of test"),
    ("leave_k_out", {"test": 100}, "no user has more than 101 ratings"),
    ("users", {"test": 0.01}, "at least one user"),
    ("users", {"given": 1.0}, "given: expected"),
    ("cold_items", {"test": 0.01}, "at least one item"),
]


@pytest.mark.parametrize("name, keys, message", WRONG, ids=str)
def test_wrong_splits_are_refused(name, keys, message):
    with pytest.raises(InputError, match=message):
        SPLITS[name](any_ratings(20), 0, **keys)


def test_a_negative_seed_times_and_test_ratings_that_are_not_there_are_refused():
    with pytest.raises(InputError, match="split_seed"):
        SPLITS["random"](DATA, -1)
    bare = replace(DATA, timestamp=None, of_test=None)
    for name in ("time", "leave_last_out"):
        with pytest.raises(InputError, match=r"data\.timestamp=COLUMN"):
            SPLITS[name](bare, 0)
    with pytest.raises(InputError, match=r"data\.test=FILE"):
        SPLITS["files"](bare, 0)
    with pytest.raises(InputError, match="test_fold 1: this split has 1"):
        Problem.of(DATA, SPLITS["random"](DATA, 0), 1)


# nothing of the test is seen before it


def outcome_of(data, split, choose="overall"):
    """What a small sweep of ALS comes to, over all test folds, and its problems."""
    problems = {(0, fold): Problem.of(data, split, fold) for fold in range(split.num_tests)}
    spec = Spec(data.num_users, data.num_items, max_rank=2)
    schedule = Schedule(epochs=3, choose=choose)
    plan = Plan(spec, METHODS["als"], problems, schedule)
    axes = {"reg": [0.05, 0.5], "test_fold": range(split.num_tests)}
    lanes = grid(Hparams(rank=2), axes)
    return tune(Sweep(plan, lanes_per_program=len(lanes)), lanes, refit=True), plan


OFTEN = "kfold"  # the others are slow tests


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == OFTEN else pytest.mark.slow) for name in SPLITS]
)
def test_poisoned_test_ratings_change_nothing_before_the_test(name):
    split = SPLITS[name](DATA, 0)
    fold = split.num_tests - 1
    poisoned = replace(DATA, value=np.where(split.test == fold, 99.0, DATA.value))
    assert np.array_equal(SPLITS[name](poisoned, 0).test, split.test)
    (clean, plan), (other, poisoned_plan) = (outcome_of(of, split) for of in (DATA, poisoned))
    cut = (0, fold)
    assert plan.problems[cut].bounds == poisoned_plan.problems[cut].bounds
    for ours, theirs in zip(clean.settings, other.settings, strict=True):
        for fit, same in zip(ours.fits, theirs.fits, strict=True):
            if fit.lane.hparams.cut == cut:
                np.testing.assert_array_equal(fit.factors.user, same.factors.user)
                np.testing.assert_array_equal(fit.factors.item, same.factors.item)
    (errors,) = (
        errors
        for fit, errors in zip(other.final, other.test, strict=True)
        if fit.lane.hparams.cut == cut
    )
    assert errors["test_rmse"] > 50


def test_each_test_fold_may_choose_for_itself():
    split = SPLITS["kfold"](DATA, 0, folds=3)
    outcome, _ = outcome_of(DATA, split, choose="per_split")
    assert [fit.lane.hparams.test_fold for fit in outcome.final] == [0, 1, 2]
    by_fold = {}
    for setting in outcome.settings:
        for fit in setting.fits:
            by_fold.setdefault(fit.lane.hparams.test_fold, {})[setting.hparams["reg"]] = fit
    for fit in outcome.final:
        own = by_fold[fit.lane.hparams.test_fold]
        best = min(own, key=lambda reg: own[reg].at_best("validation_rmse"))
        assert fit.lane.hparams.reg == best
    whole, _ = outcome_of(DATA, split)
    assert len({fit.lane.hparams.reg for fit in whole.final}) == 1


# new users


def test_a_new_user_is_folded_in_at_the_row_that_als_would_solve():
    user = np.repeat(np.arange(30), 20)
    rng = np.random.default_rng(0)
    item = np.concatenate([rng.permutation(40)[:20] for _ in range(30)])
    data = from_ids("made", user, item, rng.normal(3, 1, len(user)))
    split = SPLITS["users"](data, 0, validation=0.0)
    problem = Problem.of(data, split)
    spec = Spec(data.num_users, data.num_items, max_rank=3)
    plan = Plan(
        spec, METHODS["als"], {(0, 0): problem}, Schedule(epochs=30, choose_by="train_rmse")
    )
    lanes = [Hparams(rank=3, fold=-2, reg=0.1, reg_bias=0.1)]
    (fit,) = tune(Sweep(plan, lanes_per_program=1), lanes, refit=False).final
    folded = with_given(fit, problem, spec)
    new = np.unique(problem.given.user)
    assert len(new) == 3 and not fit.factors.user[new, :3].any()
    for row in new:
        own = problem.given.user == row
        items = fit.factors.item[problem.given.item[own]].astype(float)
        x = np.column_stack([items[:, :3], np.ones(own.sum())])
        target = problem.given.value[own] - fit.mean - items[:, -1]
        ridge = own.sum() * np.diag([0.1] * 4)
        expected = np.linalg.solve(x.T @ x + ridge, x.T @ target)
        got = folded.factors.user[row]
        np.testing.assert_allclose([*got[:3], got[-2]], expected, rtol=1e-4, atol=1e-5)


# on the command line


def test_two_files_are_read_as_one_to_train_on_and_one_to_test_on(tmp_path):
    (tmp_path / "train.csv").write_text("user,item,rating\n1,1,3\n1,2,4\n2,1,5\n2,2,1\n3,1,2\n")
    (tmp_path / "test.csv").write_text("user,item,rating\n3,2,4\n4,1,4\n")
    keys = (f"data.path={tmp_path}/train.csv", f"data.test={tmp_path}/test.csv", "split=files")
    experiment = built("data=file", *keys, "split.validation=0.2", "replicates=1", "hparams.rank=2")
    problem = experiment.sweep.plan.problems[0, 0]
    assert problem.test.value.tolist() == [4, 4]
    assert len(problem.ratings.value) == 5
    assert cold(problem).user.tolist() == [False, True]


def test_a_pair_in_both_files_is_refused(tmp_path):
    for name in ("train", "test"):
        (tmp_path / f"{name}.csv").write_text("user,item,rating\n1,1,3\n1,2,4\n")
    keys = (f"data.path={tmp_path}/train.csv", f"data.test={tmp_path}/test.csv")
    with pytest.raises(InputError, match=r"data\.test: user 1 and item 1 stand in both files \(2"):
        built("data=file", *keys)
