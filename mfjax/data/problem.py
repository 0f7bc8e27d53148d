"""One split of a data set: what a lane trains and validates on, and what it is tested on."""

import math
from typing import NamedTuple

from mfjax.data.dataset import Dataset
from mfjax.data.splits import Split
from mfjax.types import Bounds, Ratings


class Problem(NamedTuple):
    """`ratings` to train and validate on, `test` kept apart, and the range of predictions."""

    ratings: Ratings
    test: Ratings
    bounds: Bounds

    @classmethod
    def of(
        cls, dataset: Dataset, split: Split, *, clip: bool = True, dtype: str = "float32"
    ) -> "Problem":
        """The ratings of `dataset` cut as `split` says.

        With `clip`, predictions are clipped to the lowest and the highest rating.
        """
        bounds = dataset.scale if clip else (-math.inf, math.inf)
        return cls(
            ratings=dataset.ratings(~split.test, split.fold, dtype=dtype),
            test=dataset.ratings(split.test, split.fold, dtype=dtype),
            bounds=Bounds(*bounds),
        )
