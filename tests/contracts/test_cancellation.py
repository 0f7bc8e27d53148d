"""No difference of large sums: losses near a perfect fit, and few missing entries of any weight."""

import itertools
from dataclasses import replace
from functools import cache

import jax
import numpy as np
import pytest
from helpers import assert_same, at, compiled, epochs, laid_out, make

from mfjax import Factors, Ratings, Spec
from mfjax.objective import LISTED_SHARE, with_few_missing
from mfjax.testing import lane, random_factors
from mfjax.types import NO_FOLD

SPEC = Spec(40, 30, max_rank=3, reg_by="row", dtype="float64")
WEIGHTS = (1e-6, 1e-3, 1.0, 1e3, 1e6)


def to_float32(tree):
    return jax.tree.map(lambda x: x.astype(np.float32) if x.dtype.kind == "f" else x, tree)


@cache
def planted(share, mean, num_folds=1):
    """Ratings of a matrix of rank 3 that nothing blurs, each rated with probability `share`."""
    rng = np.random.default_rng(0)
    matrix = mean + rng.normal(size=(40, 3)) @ rng.normal(size=(3, 30))
    user, item = np.nonzero(rng.random(matrix.shape) < share)
    fold = np.arange(len(user)) % num_folds
    return Ratings.of(user, item, matrix[user, item], fold=fold, dtype="float64")


# the loss of als in float32


NEAR_PERFECT = {  # share rated, λ, the Spec
    "a rank above the matrix's": (0.6, 1e-6, replace(SPEC, bias=False, max_rank=5)),
    "few ratings a row": (0.2, 1e-6, replace(SPEC, bias=False, max_rank=16)),
    "none missing, biases": (1.0, 1e-4, replace(SPEC, missing="zero")),
}


@pytest.mark.slow
@pytest.mark.parametrize("share, reg, spec", NEAR_PERFECT.values(), ids=NEAR_PERFECT)
def test_the_loss_of_als_in_float32_is_true_and_falls(share, reg, spec):
    ratings = to_float32(planted(share, 3 * spec.bias))
    hparams = lane(rank=spec.max_rank, reg=reg, reg_bias=reg, fold=NO_FOLD, missing_weight=1)
    method = make("als", replace(spec, dtype="float32"))
    factors, infos = epochs(method, ratings, to_float32(hparams), 8)
    wide = [Factors(*(np.asarray(side, "float64") for side in after)) for after in factors]
    exact = ratings._replace(value=ratings.value.astype("float64"))
    losses = [float(at("matrix", spec, exact, hparams, after)[0]) for after in wide[1:]]
    assert [float(info.loss) for info in infos] == pytest.approx(losses, rel=1e-5)
    for before, after in itertools.pairwise(losses):
        assert after < (1 + 1e-5) * before  # the rounding of the factors
    assert losses[-1] < 1e-3 * len(ratings.value)


def test_the_missing_part_in_float32_is_true_where_the_background_is_large():
    spec = replace(SPEC, bias=False, missing="item_mean", reg_by="row")
    ratings = planted(0.3, 1000.0)
    factors = Factors(np.ones((40, 3)) / 3, np.full((30, 3), 1000.0))  # 1000 everywhere
    hparams = lane(rank=3, reg=0, fold=NO_FOLD)
    exact, _ = at("matrix", spec, ratings, hparams, factors)
    narrow = to_float32((ratings, hparams, factors))
    for name in ("tiles", "coo"):
        loss, _ = at(name, replace(spec, dtype="float32"), *narrow)
        assert float(loss) == pytest.approx(float(exact), rel=1e-3)  # of 1e9 that cancelled


# the missing entries, where they are few


def without(count):
    """Every entry of the planted matrix but `count`, in 5 folds."""
    whole = planted(1.0, 3.0, 5)
    kept = np.sort(np.random.default_rng(1).permutation(len(whole.value))[count:])
    return jax.tree.map(lambda column: column[kept], whole)


MISSING = {
    f"{name}, {count} missing, fold {fold}": (name, count, fold)
    for name, count, fold in (
        ("tiles", 0, NO_FOLD),
        ("tiles", 3, 1),
        ("tiles", 600, 1),  # not listed
        ("coo", 0, NO_FOLD),
        ("coo", 3, 1),
    )
}


@pytest.mark.parametrize("name, count, fold", MISSING.values(), ids=MISSING)
def test_every_weight_of_few_missing_entries_is_right(name, count, fold):
    spec = replace(SPEC, missing="zero")
    ratings = without(count)
    gradient = compiled(name, spec)
    layout = gradient.prepare(ratings)
    factors = random_factors(spec)
    for weight in WEIGHTS:
        hparams = lane(rank=3, fold=fold, missing_weight=weight)
        ours = gradient.value_and_grad(factors, layout, hparams)
        assert_same(ours, at("matrix", spec, ratings, hparams, factors), 1e-10)


def test_als_is_exact_at_every_weight_of_few_missing_entries():
    spec = replace(SPEC, missing="zero")
    ratings = without(3)
    for weight in WEIGHTS:
        hparams = lane(rank=3, fold=NO_FOLD, missing_weight=weight)
        (start, after), _ = epochs(make("als", spec), ratings, hparams, 1)
        before = at("matrix", spec, ratings, hparams, start)[1]
        half = at("matrix", spec, ratings, hparams, Factors(after.user, start.item))[1]
        full = at("matrix", spec, ratings, hparams, after)[1]
        assert np.abs(half.user).max() <= 1e-10 * np.abs(before.user).max()
        assert np.abs(full.item).max() <= 1e-10 * np.abs(half.item).max()


def test_missing_entries_are_listed_where_they_are_few():
    spec = replace(SPEC, missing="zero")
    most = int(1200 / (1 + 1 / LISTED_SHARE))
    for count, is_listed in ((0, True), (most, True), (most + 1, False)):
        entries, sums = with_few_missing(without(count), spec)
        assert bool(sums.lists_missing) == is_listed
        assert len(entries.value) == (1200 if is_listed else 1200 - count)
        assert len({*zip(entries.user, entries.item, strict=True)}) == len(entries.value)
    entries, sums = with_few_missing(without(0), replace(spec, missing="ignore"))
    assert not sums.lists_missing


def test_a_listed_entry_knows_nothing_of_a_rating_that_is_held_out():
    spec = replace(SPEC, missing="zero")
    given = without(3)
    hparams = lane(rank=3, fold=1)
    other = given._replace(value=np.where(given.fold == 1, 99.0, given.value))
    method = make("als", spec)
    (*_, ours), _ = epochs(method, given, hparams, 2)
    (*_, theirs), _ = epochs(method, other, hparams, 2)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    assert laid_out(method, given).sums.lists_missing
