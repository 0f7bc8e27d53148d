"""One split of a data set: what a lane trains and validates on, and what it is tested on."""

import math
from typing import NamedTuple

from mfjax.data.dataset import Dataset
from mfjax.data.splits import Split
from mfjax.types import Bounds, Ratings


class Problem(NamedTuple):
    """One split of a data set.

    Args:
      ratings: to train and validate on; their folds say which.
      test: kept apart for the end, in float64.
      bounds: what predictions are clipped to.
    """

    ratings: Ratings
    test: Ratings
    bounds: Bounds

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        split: Split,
        *,
        clip: bool | tuple[float, float] = True,
        dtype: str = "float32",
    ) -> "Problem":
        """The ratings of a data set, cut as a split says.

        Args:
          dataset: of n ratings.
          split: of as many.
          clip: what predictions are clipped to, or whether to the lowest and the highest of the
            ratings that are not kept for the test.
          dtype: of the values and weights to train and validate on.

        Returns:
          Both parts in the order of the data set.
        """
        seen = dataset.value[~split.test]
        if isinstance(clip, tuple):
            bounds = Bounds(*clip)
        elif clip:
            bounds = Bounds(float(seen.min()), float(seen.max()))
        else:
            bounds = Bounds(-math.inf, math.inf)
        return cls(
            ratings=dataset.ratings(~split.test, split.fold, dtype=dtype),
            test=dataset.ratings(split.test, split.fold, dtype="float64"),
            bounds=bounds,
        )
