"""What sources of ratings and splits are held to, as checks.

Each check is a function without arguments that raises AssertionError, and says what is wrong.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial

import numpy as np

from mfjax.data.dataset import Dataset, from_ids
from mfjax.data.splits import Split

Checks = dict[str, Callable[[], None]]


def dataset_checks(dataset: Dataset) -> Checks:
    """The contract of what a row of SOURCES returns.

    Args:
      dataset: the ratings.

    Returns:
      The checks by name: that its columns are of one length, users and items are numbered by their
      ids, ratings are finite, weights are above 0, and no pair is rated twice.
    """
    checks = {
        "columns are of one length": _is_of_one_length,
        "users and items are numbered by their ids": _is_numbered,
        "ratings are finite": _is_finite,
        "weights are above 0": _is_weighed,
        "no pair is rated twice": _is_unique,
    }
    return {name: partial(check, dataset) for name, check in checks.items()}


def _is_of_one_length(dataset: Dataset) -> None:
    optional = (dataset.weight, dataset.timestamp, dataset.of_test)
    columns = (dataset.user, dataset.item, dataset.value, *optional)
    lengths = {len(column) for column in columns if column is not None}
    assert len(lengths) == 1, f"columns of lengths {sorted(lengths)}"
    assert lengths != {0}, "there are no ratings"


def _is_numbered(dataset: Dataset) -> None:
    sides = {"user": (dataset.user, dataset.user_ids), "item": (dataset.item, dataset.item_ids)}
    for name, (rows, ids) in sides.items():
        assert rows.dtype.kind in "iu", f"{name}: expected whole numbers, got {rows.dtype}"
        is_within = rows.min() >= 0 and rows.max() < len(ids)
        places = f"0 to {len(ids) - 1}, the places of {name}_ids"
        assert is_within, f"{name}: expected {places}; got {rows.min()} to {rows.max()}"


def _is_finite(dataset: Dataset) -> None:
    wrong = np.flatnonzero(~np.isfinite(dataset.value))
    assert not len(wrong), f"rating {wrong[0]} (counted from 0) is {dataset.value[wrong[0]]}"


def _is_weighed(dataset: Dataset) -> None:
    if dataset.weight is not None:
        wrong = np.flatnonzero(~(np.isfinite(dataset.weight) & (dataset.weight > 0)))
        assert not len(wrong), f"weight {wrong[0]} (counted from 0) is {dataset.weight[wrong[0]]}"


def _is_unique(dataset: Dataset) -> None:
    pairs = dataset.user.astype(np.int64) * dataset.num_items + dataset.item
    distinct, first = np.unique(pairs, return_index=True)
    if len(distinct) < len(pairs):
        twice = np.setdiff1d(np.arange(len(pairs)), first)[0]
        user, item = dataset.user[twice], dataset.item[twice]
        raise AssertionError(f"user {user} rates item {item} twice (counted from 0)")


def split_checks(
    make: Callable[[Dataset, int], Split], data: Dataset | None = None, split_seed: int = 0
) -> Checks:
    """The contract of a row of SPLITS.

    Args:
      make: a split of some ratings and a seed.
      data: what to cut; None: `any_ratings`.
      split_seed: of the draws, from 0.

    Returns:
      The checks by name: that every rating has its fold and its test fold, each test fold leaves
      some to train on and each fold holds some of them out, ratings that are given are not tested,
      the same seed cuts the same, and the ratings' values decide nothing.
    """
    data = any_ratings() if data is None else data
    split = make(data, split_seed)
    checks = {
        "every rating has its fold and its test fold": partial(_is_of_every_rating, data),
        "each test fold and fold leaves some": _leaves_some,
        "what is given is not tested": _gives_no_tests,
        "the same seed cuts the same": partial(_is_repeated, make, data, split_seed),
        "the values of the ratings decide nothing": partial(
            _is_blind, make, replace(data, value=data.value[::-1]), split_seed
        ),
    }
    return {name: partial(check, split) for name, check in checks.items()}


@cache
def any_ratings(n: int = 1000) -> Dataset:
    """Some ratings to try a split on: with times, a tenth as if from a file of test ratings.

    Args:
      n: how many.

    Returns:
      n ratings of about n / 10 users and items.
    """
    rng = np.random.default_rng(0)
    side = max(n // 10, int(np.ceil((2 * n) ** 0.5)))
    pairs = rng.choice(side * side, size=n, replace=False)
    user, item = np.divmod(pairs, side)
    dataset = from_ids("some ratings", user, item, rng.integers(1, 6, n))
    return replace(dataset, timestamp=rng.permutation(n), of_test=rng.random(n) < 0.1)


def _is_of_every_rating(data: Dataset, split: Split) -> None:
    n = len(data.value)
    counts = {"fold": split.num_folds, "test": split.num_tests}
    for name, count in counts.items():
        column = getattr(split, name)
        assert column.shape == (n,), f"{name}: expected shape ({n},), got {column.shape}"
        assert column.dtype.kind in "iu", f"{name}: of {column.dtype}"
        there = f"{column.min()} to {column.max()}"
        is_within = column.min() >= -1 and column.max() < count
        assert is_within, f"{name}: expected -1 to {count - 1}, got {there}"
    assert split.num_tests >= 1, f"num_tests: expected 1 or more, got {split.num_tests}"


def _leaves_some(split: Split) -> None:
    is_given = _given(split)
    for test in range(split.num_tests):
        is_seen = (split.test != test) & ~is_given
        assert is_seen.any(), f"test fold {test} leaves no rating"
        for fold in range(split.num_folds):
            is_held_out = split.fold == fold
            assert (is_seen & is_held_out).any(), f"fold {fold} holds no rating out"
            assert (is_seen & ~is_held_out).any(), f"fold {fold} leaves no rating to train on"


def _gives_no_tests(split: Split) -> None:
    both = np.flatnonzero(_given(split) & (split.test >= 0))
    assert not len(both), f"rating {both[0]} is given, and of test fold {split.test[both[0]]}"


def _is_blind(
    make: Callable[[Dataset, int], Split], others: Dataset, seed: int, split: Split
) -> None:
    assert _are_same(make(others, seed), split), "other values of the ratings cut otherwise"


def _is_repeated(
    make: Callable[[Dataset, int], Split], data: Dataset, seed: int, split: Split
) -> None:
    is_same = _are_same(make(data, seed), split)
    assert is_same, f"split_seed {seed} cut otherwise the second time"


def _are_same(one: Split, other: Split) -> bool:
    pairs = ((one.fold, other.fold), (one.test, other.test), (_given(one), _given(other)))
    return all(np.array_equal(ours, theirs) for ours, theirs in pairs)


def _given(split: Split) -> np.ndarray:
    return np.zeros(len(split.test), bool) if split.given is None else split.given
