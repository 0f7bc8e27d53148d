"""One cut of a data set: what a lane trains and validates on, and what it is tested on."""

import math
from typing import NamedTuple

import numpy as np

from mfjax.data.dataset import Dataset
from mfjax.data.splits import Split
from mfjax.errors import InputError
from mfjax.types import Bounds, Ratings

NOTHING = Ratings.of([], [], [], dtype="float64")


class Problem(NamedTuple):
    """A split of a data set, and one of its test folds.

    Args:
      ratings: to train and validate on; their folds say which.
      test: kept apart for the end, in float64.
      bounds: what predictions are clipped to.
      given: of users that are new in the test: not trained on, but what folds them in.
    """

    ratings: Ratings
    test: Ratings
    bounds: Bounds
    given: Ratings = NOTHING

    def __repr__(self) -> str:
        """One line: how many ratings there are, and the range of predictions."""
        low, high = self.bounds
        counts = f"{len(self.ratings.value):,} ratings, {len(self.test.value):,} of the test"
        return f"Problem({counts}, predictions from {low:g} to {high:g})"

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        split: Split,
        test_fold: int = 0,
        *,
        clip: bool | tuple[float, float] = True,
        dtype: str = "float32",
    ) -> "Problem":
        """The ratings of a data set, cut as a split says.

        Args:
          dataset: of n ratings.
          split: of as many.
          test_fold: of the split, whose ratings are kept for the end.
          clip: what predictions are clipped to, or whether to the lowest and the highest of the
            ratings to train and validate on.
          dtype: of the values and weights to train and validate on.

        Returns:
          Its parts in the order of the data set.

        Raises:
          InputError: the split has no such test fold.
        """
        if not 0 <= test_fold < split.num_tests:
            raise InputError(
                f"test_fold {test_fold}: this split has {split.num_tests}, counted from 0 "
                f"({split.protocol})"
            )
        is_test = split.test == test_fold
        is_given = np.zeros_like(is_test) if split.given is None else split.given
        is_seen = ~is_test & ~is_given
        seen = dataset.value[is_seen]
        if isinstance(clip, tuple):
            bounds = Bounds(*clip)
        elif clip:
            bounds = Bounds(float(seen.min()), float(seen.max()))
        else:
            bounds = Bounds(-math.inf, math.inf)
        return cls(
            ratings=dataset.ratings(is_seen, split.fold, dtype=dtype),
            test=dataset.ratings(is_test, dtype="float64"),
            bounds=bounds,
            given=dataset.ratings(is_given, dtype="float64"),
        )
