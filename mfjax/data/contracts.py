"""What sources of ratings and splits are held to, as checks.

Each check is a function without arguments that raises AssertionError, and says what is wrong.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from mfjax.data.dataset import Dataset
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
    columns = (dataset.user, dataset.item, dataset.value, dataset.weight, dataset.timestamp)
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


def split_checks(make: Callable[[int, int], Split], n: int = 1000, split_seed: int = 0) -> Checks:
    """The contract of a row of SPLITS.

    Args:
      make: a split of a number of ratings and a seed.
      n: how many to cut.
      split_seed: of the draws, from 0.

    Returns:
      The checks by name: that every rating has its fold and its part, a test rating is of no fold,
      each fold holds some out and leaves some to train on, and the same seed cuts the same.
    """
    split = make(n, split_seed)
    checks = {
        "every rating has its fold and its part": partial(_is_of_every_rating, n),
        "a test rating is of no fold": _is_apart,
        "each fold holds some out and leaves some": _leaves_some,
        "the same seed cuts the same": partial(_is_repeated, make, n, split_seed),
    }
    return {name: partial(check, split) for name, check in checks.items()}


def _is_of_every_rating(n: int, split: Split) -> None:
    for name, column, kinds in (("fold", split.fold, "iu"), ("test", split.test, "b")):
        assert column.shape == (n,), f"{name}: expected shape ({n},), got {column.shape}"
        assert column.dtype.kind in kinds, f"{name}: of {column.dtype}"
    is_within = split.fold.min() >= -1 and split.fold.max() < split.num_folds
    folds = f"{split.fold.min()} to {split.fold.max()}"
    assert is_within, f"fold: expected -1 to {split.num_folds - 1}, got {folds}"


def _is_apart(split: Split) -> None:
    both = np.flatnonzero(split.test & (split.fold >= 0))
    assert not len(both), f"rating {both[0]} is a test rating, and of fold {split.fold[both[0]]}"


def _leaves_some(split: Split) -> None:
    assert not split.test.all(), "all ratings are test ratings"
    for fold in range(split.num_folds):
        is_held_out = split.fold == fold
        assert is_held_out.any(), f"fold {fold} holds no rating out"
        assert (~split.test & ~is_held_out).any(), f"fold {fold} leaves no rating to train on"


def _is_repeated(make: Callable[[int, int], Split], n: int, seed: int, split: Split) -> None:
    again = make(n, seed)
    is_same = (again.fold == split.fold).all() and (again.test == split.test).all()
    assert is_same, f"split_seed {seed} cut otherwise the second time"
