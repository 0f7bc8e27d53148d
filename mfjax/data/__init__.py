"""Ratings and splits, on the host and in NumPy.

`SOURCES` makes a `Dataset`, and `SPLITS` says which of its ratings are held out.
"""

from collections.abc import Callable
from functools import partial

from mfjax.data.dataset import Dataset, from_ids
from mfjax.data.named import by_name
from mfjax.data.published import PUBLISHED
from mfjax.data.reading import read
from mfjax.data.splits import SPLITS, Split
from mfjax.data.synthetic import matrix, synthetic, toy

SOURCES: dict[str, Callable[..., Dataset]] = {
    "file": read,
    "synthetic": synthetic,
    "toy": toy,
    "matrix": matrix,
    **{name: partial(by_name, name) for name in PUBLISHED},
}

__all__ = ["PUBLISHED", "SOURCES", "SPLITS", "Dataset", "Split", "from_ids", "read"]
