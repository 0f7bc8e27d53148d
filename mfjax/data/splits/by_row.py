"""Splits that draw for each user, draw users, or draw items."""

import numpy as np

from mfjax.data.dataset import Dataset
from mfjax.data.splits.by_time import by_user, place_from_last
from mfjax.data.splits.split import (
    Split,
    Validation,
    check_fractions,
    count_of,
    folds_of,
    generator,
    percent,
)
from mfjax.errors import InputError


def leave_k_out(data: Dataset, split_seed: int, *, validation: float = 1, test: float = 1) -> Split:
    """`test` random ratings of each user are tested, and `validation` others validate.

    A user who would be left without a rating to train on keeps all.

    Source: the "given all but k" protocols of Breese, Heckerman and Kadie, "Empirical Analysis of
    Predictive Algorithms for Collaborative Filtering", 1998, section 3.

    Args:
      data: n ratings.
      split_seed: of the draws, from 0.
      validation, test: ratings of each user, from 0.

    Returns:
      Of one test fold; of one fold, or of none with `validation=0`.

    Raises:
      InputError: a number or `split_seed` is out of range, or every user has too few ratings.
    """
    shuffled = generator(split_seed).permutation(len(data.value))
    place = place_from_last(data, shuffled)
    return by_user(data, place, validation, test, "random", drawn=f", split_seed {split_seed}")


def users(
    data: Dataset,
    split_seed: int,
    *,
    validation: float = 0.1,
    test: float = 0.1,
    given: float = 0.8,
) -> Split:
    """A share of the users is new in the test: each is folded in by a share of its ratings.

    Of a new user nothing is trained on; its other ratings are tested, given the items.

    Source: strong generalisation (Marlin, "Collaborative Filtering: A Machine Learning
    Perspective", 2004, section 2.4).

    Args:
      data: n ratings.
      split_seed: of the draws, from 0.
      validation: share of the ratings of the other users, or a number of folds of them.
      test: share of the users, above 0.
      given: share of a new user's ratings that folds it in, from 0.

    Returns:
      Of one test fold.

    Raises:
      InputError: a share or `split_seed` is out of range, or a part would be empty.
    """
    held_out = Validation(validation)
    check_fractions(test=test)
    check_fractions(given=given)
    rng = generator(split_seed)
    n = len(data.value)
    is_new = _drawn(rng, data.num_users, "test", test, "user")[data.user]
    _check_some(is_new, "users", test)
    place = place_from_last(data, rng.permutation(n))
    count = np.bincount(data.user, minlength=data.num_users)[data.user]
    is_given = is_new & (place >= np.ceil((1 - given) * count))
    among = rng.permutation(np.flatnonzero(~is_new))
    words = f", {held_out.words}" if held_out.num_folds else ""
    return Split(
        fold=held_out.drawn(n, among),
        test=folds_of(n, np.flatnonzero(is_new & ~is_given)),
        num_folds=held_out.num_folds,
        num_tests=1,
        protocol=(
            f"{percent(test)}% of the users new in the test, folded in by {percent(given)}% of "
            f"their ratings{words}, split_seed {split_seed}"
        ),
        given=is_given,
    )


def cold_items(
    data: Dataset, split_seed: int, *, validation: float = 0.1, test: float = 0.1
) -> Split:
    """All ratings of a share of the items are tested, all of another share validate.

    What is predicted of an item without ratings is the mean and the user's bias.

    Source: the cold-start protocol of Schein, Popescul, Ungar and Pennock, "Methods and Metrics for
    Cold-Start Recommendations", 2002.

    Args:
      data: n ratings.
      split_seed: of the draws, from 0.
      validation, test: shares of the items, from 0, below 1 together.

    Returns:
      Of one test fold; of one fold, or of none with `validation=0`.

    Raises:
      InputError: a share or `split_seed` is out of range, or no item is left to train on.
    """
    check_fractions(validation=validation, test=test)
    num_items = data.num_items
    shuffled = generator(split_seed).permutation(num_items)
    num_test = count_of(num_items, "test", test, "item")
    num_validation = count_of(num_items, "validation", validation, "item")
    part = np.full(num_items, -1)
    part[shuffled[:num_test]] = 1
    part[shuffled[num_test : num_test + num_validation]] = 0
    of_rating = part[data.item]
    _check_some(of_rating >= 0, "cold_items", test + validation)
    parts = "/".join(map(percent, (1 - validation - test, validation, test)))
    return Split(
        fold=np.where(of_rating == 0, 0, -1).astype(np.int32),
        test=np.where(of_rating == 1, 0, -1).astype(np.int32),
        num_folds=int(num_validation > 0),
        num_tests=1,
        protocol=(
            f"random {parts} split by item (training/validation/test), split_seed {split_seed}"
        ),
    )


def _drawn(
    rng: np.random.Generator, rows: int, name: str, fraction: float, what: str
) -> np.ndarray:
    mask = np.zeros(rows, bool)
    mask[rng.permutation(rows)[: count_of(rows, name, fraction, what)]] = True
    return mask


def _check_some(apart: np.ndarray, name: str, share: float) -> None:
    """Refuses a split that leaves nothing to train on."""
    if apart.all():
        raise InputError(
            f"split={name}: {percent(share)}% keeps every rating apart; take a smaller share"
        )
