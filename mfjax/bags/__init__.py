"""Bags of features: what a user or an item is made of beside a row of its own.

A row of BAGS is a function `(ratings, side, spec, *, …) -> Features`.
"""

from collections.abc import Callable

from mfjax.bags.bag import Bag, collect, dense, prepare_bag, spread
from mfjax.bags.features import Features, Source, Sources, popularity, rated

BAGS: dict[str, Callable[..., Features]] = {
    "rated": rated,
    "popularity": popularity,
}

__all__ = [
    "BAGS",
    "Bag",
    "Features",
    "Source",
    "Sources",
    "collect",
    "dense",
    "prepare_bag",
    "spread",
]
