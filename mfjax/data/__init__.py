"""Ratings and splits, on the host and in NumPy.

`SOURCES` makes a `Dataset`, and `SPLITS` says which of its ratings are held out.
"""

from collections.abc import Callable
from functools import partial

from mfjax.data.dataset import Dataset, from_ids
from mfjax.data.named import named
from mfjax.data.published import PUBLISHED
from mfjax.data.reading import read
from mfjax.data.splits import Split, blocks, kfold, random
from mfjax.data.synthetic import matrix, synthetic, toy

SOURCES: dict[str, Callable[..., Dataset]] = {
    "file": read,
    "synthetic": synthetic,
    "toy": toy,
    "matrix": matrix,
    **{name: partial(named, name) for name in PUBLISHED},
}
SPLITS: dict[str, Callable[..., Split]] = {
    "random": random,
    "kfold": kfold,
    "blocks": blocks,
}

__all__ = ["PUBLISHED", "SOURCES", "SPLITS", "Dataset", "Split", "from_ids", "read"]
