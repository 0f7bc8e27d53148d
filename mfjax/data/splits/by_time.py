"""Splits that test the last ratings, and validate by those before them."""

import numpy as np
from jaxtyping import Int, Int64

from mfjax.data.dataset import Dataset
from mfjax.data.splits.split import Split, check_fractions, count_of, folds_of, percent
from mfjax.errors import InputError


def time(data: Dataset, split_seed: int, *, validation: float = 0.1, test: float = 0.1) -> Split:
    """The last round(n·test) ratings by time are tested, the round(n·validation) before validate.

    Ratings of one time stay in the order of the file.

    Source: a global temporal split (Meng, McCreadie, Macdonald and Ounis, "Exploring Data Splitting
    Strategies for the Evaluation of Recommendation Models", 2020).

    Args:
      data: n ratings with timestamps.
      split_seed: draws nothing here.
      validation, test: shares of the ratings, from 0, below 1 together.

    Returns:
      Of one test fold; of one fold, or of none with `validation=0`.

    Raises:
      InputError: the data have no timestamps, or a share is out of range or no rating.
    """
    when = _times(data, "time")
    check_fractions(validation=validation, test=test)
    n = len(when)
    in_time = np.argsort(when, kind="stable")
    num_test = count_of(n, "test", test)
    num_validation = count_of(n, "validation", validation)
    if num_test + num_validation >= n:
        raise InputError(f"expected at least one training rating of {n}: take smaller shares")
    last = n - num_test
    parts = "/".join(map(percent, (1 - validation - test, validation, test)))
    return Split(
        fold=folds_of(n, in_time[last - num_validation : last]),
        test=folds_of(n, in_time[last:]),
        num_folds=int(num_validation > 0),
        num_tests=1,
        protocol=f"{parts} split by time, for all users at once (training/validation/test)",
        drawn=False,
    )


def leave_last_out(
    data: Dataset, split_seed: int, *, validation: float = 1, test: float = 1
) -> Split:
    """The last `test` ratings of each user by time are tested, the `validation` before validate.

    A user who would be left without a rating to train on keeps all.

    Source: He, Liao, Zhang, Nie, Hu and Chua, "Neural Collaborative Filtering", 2017, section 4.1,
    there called leave-one-out.

    Args:
      data: n ratings with timestamps.
      split_seed: draws nothing here.
      validation, test: ratings of each user, from 0.

    Returns:
      Of one test fold; of one fold, or of none with `validation=0`.

    Raises:
      InputError: the data have no timestamps, a number is negative or none, or every user has too
        few ratings.
    """
    when = _times(data, "leave_last_out")
    from_last = place_from_last(data, np.argsort(when, kind="stable"))
    return by_user(data, from_last, validation, test, "last", drawn="")


def by_user(
    data: Dataset,
    place: Int64[np.ndarray, " n"],
    validation: float,
    test: float,
    which: str,
    drawn: str,
) -> Split:
    """Each user's first `test` places are tested, and the `validation` after them validate.

    Args:
      data: n ratings.
      place: `[n]`, of each rating among its user's.
      validation, test: ratings of each user.
      which: of a user's ratings, in words.
      drawn: by what, in words; nothing where nothing is drawn.

    Raises:
      InputError: as `leave_last_out`.
    """
    tested, validating = int(test), int(validation)
    if (tested, validating) != (test, validation) or min(test, validation) < 0 or not test:
        raise InputError(
            "expected whole numbers of ratings a user, at least one of test, got "
            f"test={test:g} and validation={validation:g}"
        )
    count = np.bincount(data.user, minlength=data.num_users)[data.user]
    apart = tested + validating
    has_enough = count > apart
    if not has_enough.any():
        raise InputError(f"no user has more than {apart} ratings, to leave one to train on")
    validates = has_enough & (place >= tested) & (place < apart)
    short = len(np.unique(data.user[~has_enough]))
    kept = f"; {short:,} users with too few ratings keep all" if short else ""
    return Split(
        fold=np.where(validates, 0, -1).astype(np.int32),
        test=np.where(has_enough & (place < tested), 0, -1).astype(np.int32),
        num_folds=int(validating > 0),
        num_tests=1,
        protocol=(
            f"the {which} {tested} ratings of each user tested, {validating} more as validation"
            f"{kept}{drawn}"
        ),
        drawn=bool(drawn),
    )


def place_from_last(data: Dataset, order: Int[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """The place of each rating among its user's, the last of an order being 0."""
    n = len(order)
    by_user_and_order = order[np.argsort(data.user[order], kind="stable")]
    end = np.cumsum(np.bincount(data.user, minlength=data.num_users))
    place = np.empty(n, np.int64)
    place[by_user_and_order] = end[data.user[by_user_and_order]] - 1 - np.arange(n)
    return place


def _times(data: Dataset, name: str) -> Int64[np.ndarray, " n"]:
    if data.timestamp is None:
        raise InputError(
            f"split={name} needs the times of the ratings, and {data.name} has none\n"
            "data.timestamp=COLUMN reads them"
        )
    return data.timestamp
