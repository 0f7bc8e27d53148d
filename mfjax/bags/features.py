"""Where features come from: each source gives those of the rows of one side."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, Shaped

from mfjax.errors import InputError
from mfjax.types import ASKED, AnyArray, Ratings, Sides, Spec

# what a lane makes of an entry


Counts = Float[AnyArray, " rows"]


def _one(trained: Counts, asked: Counts) -> Counts:
    return jnp.ones_like(trained)


def _inverse_root(trained: Counts, asked: Counts) -> Counts:
    return jax.lax.rsqrt(jnp.maximum(trained, 1))


def _inverse_root_with_asked(trained: Counts, asked: Counts) -> Counts:
    return _inverse_root(trained + asked, asked)


def _log_standardised(trained: Counts, asked: Counts) -> Counts:
    logarithm = jnp.log1p(trained)
    deviation = logarithm - logarithm.mean()
    spread = jnp.sqrt((deviation**2).mean())
    return deviation / jnp.where(spread > 0, spread, 1)


# by the training ratings of each row, and by its pairs to be tested
SCALES: dict[str, Callable[[Counts, Counts], Counts]] = {
    "one": _one,
    "inverse_root": _inverse_root,
    "inverse_root_with_asked": _inverse_root_with_asked,
    "log_standardised": _log_standardised,
}


# where features come from


class Features(NamedTuple):
    """Features of the rows of one side, on the host; each entry stands once.

    Args:
      row: `[n]`, of the side.
      feature: `[n]`, from 0.
      value: `[n]`, above 0.
      fold: `[n]`; a lane whose fold it is has no such entry; -1: every lane has it.
      num_features: how many there are.
      scale: one of SCALES, by which the rows of a lane are multiplied.
    """

    row: Int[np.ndarray, " n"]
    feature: Int[np.ndarray, " n"]
    value: Float[np.ndarray, " n"]
    fold: Int[np.ndarray, " n"]
    num_features: int
    scale: str = "one"


Source = Callable[[Ratings, int, Spec], Features]
Sources = Sides  # of the Sources of each side, in their order


def num_rows(spec: Spec, side: int) -> int:
    """How many rows a side has.

    Args:
      spec: the shapes.
      side: 0, users, or 1, items.

    Returns:
      The number of users, or of items.
    """
    return (spec.num_users, spec.num_items)[side]


def rated(ratings: Ratings, side: int, spec: Spec, *, transductive: bool = False) -> Features:
    """The items that a user rated, or the users who rated an item, each row divided by √n.

    n is the number of training ratings of the row in the lane, which does not see those that it
    holds out. The transductive bag has the pairs to be tested too, without their values, and n
    counts them.

    Source: Koren, "Factorization Meets the Neighborhood", 2008, equation (15): the sum over the
    items that a user rated, divided by the root of their number; that of the users of an item is
    its mirror image.

    Args:
      ratings: to train and validate on, in NumPy.
      side: whose rows have the features: 0, users, or 1, items.
      spec: the shapes.
      transductive: whether ratings whose fold is `ASKED` are in it.

    Returns:
      A feature a row of the other side.
    """
    is_in = ratings.weight > 0
    if transductive:
        is_in = is_in | (ratings.fold == ASKED)
    pairs = ratings.taken(is_in)
    pair = (pairs.user, pairs.item)
    return Features(
        row=pair[side],
        feature=pair[1 - side],
        value=np.ones(len(pairs.value)),
        fold=np.maximum(pairs.fold, -1),
        num_features=num_rows(spec, 1 - side),
        scale="inverse_root_with_asked" if transductive else "inverse_root",
    )


def is_rated(source: Source) -> bool:
    """Whether a source is `rated`, with or without its keyword.

    Args:
      source: any.

    Returns:
      True of `rated` and of a `functools.partial` of it.
    """
    return getattr(source, "func", source) is rated


def is_transductive(sources: Sources | None) -> bool:
    """Whether the pairs to be tested are in a bag.

    Args:
      sources: of the features of each side; None: none.

    Returns:
      True where a `rated` of either side is transductive.
    """
    of_both = [] if sources is None else [*sources.user, *sources.item]
    given = [source.keywords for source in of_both if isinstance(source, partial)]
    return any(keywords.get("transductive", False) for keywords in given)


def popularity(ratings: Ratings, side: int, spec: Spec) -> Features:
    """The logarithm of 1 and the row's number of training ratings in the lane, standardised.

    Args:
      ratings: not read: a lane knows its counts.
      side: whose rows have the feature: 0, users, or 1, items.
      spec: the shapes.

    Returns:
      One feature, of mean 0 and variance 1 over the rows; 0 where all have as many ratings.
    """
    rows = np.arange(num_rows(spec, side))
    return Features(
        row=rows,
        feature=np.zeros_like(rows),
        value=np.ones(len(rows)),
        fold=np.full(len(rows), -1),
        num_features=1,
        scale="log_standardised",
    )


def columns(
    ratings: Ratings, side: int, spec: Spec, *, about: Any, columns: Sequence[str]
) -> Features:
    """A feature for every value of some columns of what is known of the rows.

    A value is what stands in a row, or one of a list that does; an empty one gives no feature.

    Args:
      ratings: not read.
      side: whose rows have the features: 0, users, or 1, items.
      spec: the shapes, of which nothing is read.
      about: a Polars frame, a row a row of the side; None: nothing is known of them.
      columns: of it, by name.

    Returns:
      The values of each column in their order, as text.

    Raises:
      InputError: it has no such column, or nothing stands in it.
    """
    parts = []
    num_features = 0
    for name in columns:
        if about is None or name not in about.columns:
            what = ("users", "items")[side]
            known = "nothing" if about is None else ", ".join(about.columns)
            raise InputError(f"no column {name!r} of the {what}, of which {known} is known")
        row, value = _values(about[name])
        if not len(row):
            raise InputError(f"column {name!r} is empty in every row: leave it out")
        values, feature = np.unique(value, return_inverse=True)
        parts.append((row, feature + num_features))
        num_features += len(values)
    row, feature = map(np.concatenate, zip(*parts, strict=True))
    return Features(
        row=row,
        feature=feature,
        value=np.ones(len(row)),
        fold=np.full(len(row), -1),
        num_features=num_features,
    )


def _values(column: Any) -> tuple[Int[np.ndarray, " n"], Shaped[np.ndarray, " n"]]:
    """The rows and the values of a column of a frame, those of lists one by one."""
    lists = [one if isinstance(one, list) else [one] for one in column.to_list()]
    filled = [[value for value in one if value is not None] for one in lists]
    row = np.repeat(np.arange(len(filled)), list(map(len, filled)))
    return row, np.array([str(value) for one in filled for value in one], dtype=str)


def genres(ratings: Ratings, side: int, spec: Spec, *, about: Any) -> Features:
    """The genres that data sets list of their items.

    Args:
      ratings: not read.
      side: whose rows have the features: 0, users, or 1, items.
      spec: the shapes, of which nothing is read.
      about: a Polars frame with a column `genres`, a row a row of the side.

    Returns:
      A feature a genre, in their order.

    Raises:
      InputError: as `columns`.
    """
    return columns(ratings, side, spec, about=about, columns=["genres"])
