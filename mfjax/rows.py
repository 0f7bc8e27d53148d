"""Rows of a model: those of the ids that are asked for, what each has rated, and the best of each.

Users and items are rows from 0 here; a model knows them by the ids of the data.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Int32, Int64, Shaped

from mfjax.errors import InputError

PAIR = ("user", "item")  # the columns of a frame of pairs


# ids


def rows_of(
    ids: Shaped[np.ndarray, " rows"],
    wanted: Any,
    what: str,
    unknown: str = "error",
) -> Int[np.ndarray, "..."]:
    """The rows of the ids wanted, `[wanted]`, or a scalar of one id; -1 of one that is not there.

    Raises InputError for such a one where `unknown` is `error`.
    """
    if is_one(wanted):
        return rows_of(ids, [wanted], what, unknown).reshape(())
    asked = asked_ids(ids, wanted, what)
    rows = np.minimum(np.searchsorted(ids, asked), len(ids) - 1)
    is_there = ids[rows] == asked
    if unknown == "error" and not is_there.all():
        first = asked[~is_there][0].item()
        raise InputError(f"unknown {what} {first!r}: {_expected(ids, what)}")
    return np.where(is_there, rows, -1)


def is_one(wanted: Any) -> bool:
    """Whether it is an id, and no ids."""
    is_scalar = getattr(wanted, "ndim", 1) == 0
    return is_scalar or isinstance(wanted, str) or not isinstance(wanted, Iterable)


def asked_ids(
    ids: Shaped[np.ndarray, " rows"],
    wanted: Iterable,
    what: str,
) -> Shaped[np.ndarray, " wanted"]:
    """The ids wanted as an array. Raises InputError for one of another type than theirs."""
    given = _column(wanted)
    asked = np.asarray(given)
    if not len(asked):
        return ids[:0]
    is_text = ids.dtype.kind == "U"
    if asked.dtype.kind == "f" and (asked % 1 == 0).all():  # as data frames have them
        asked = asked.astype(np.int64)
    if asked.ndim != 1 or asked.dtype.kind not in ("U" if is_text else "iu"):
        kind = "text" if is_text else "integers"
        wrong = [one for one in given if not _is_id(one, is_text)]
        first = np.asarray((wrong or list(given))[0]).tolist()
        raise InputError(f"unknown {what} {first!r}: ids are {kind} here; {_expected(ids, what)}")
    return asked


def pair_of(users: Any, items: Any) -> tuple[Any, Any]:
    """The users and the items of pairs: as given, or the columns of a frame in place of both.

    Raises InputError for a frame without them, and for users without items.
    """
    if items is not None:
        return users, items
    columns = list(map(str, getattr(users, "columns", ())))
    if not set(PAIR) <= set(columns):
        got = f"a frame of {', '.join(columns)}" if columns else type(users).__name__
        raise InputError(
            f"expected users and items, or a frame with the columns user and item, got {got}"
        )
    user, item = PAIR
    return users[user], users[item]


def _column(wanted: Any) -> np.ndarray | list:
    """Ids in an array of numbers or text, or else in a list."""
    if hasattr(wanted, "to_numpy"):  # a column of a frame
        wanted = wanted.to_numpy()
    if isinstance(wanted, np.ndarray) and wanted.dtype.kind != "O":
        return wanted
    return list(wanted)


def _is_id(one: Any, is_text: bool) -> bool:
    if is_text or isinstance(one, str):
        return is_text and isinstance(one, str)
    return isinstance(one, int | float | np.integer | np.floating) and one % 1 == 0


def _expected(ids: Shaped[np.ndarray, " rows"], what: str) -> str:
    return f"expected one of the {len(ids):,} {what} ids of the data"


# what was rated


class Seen(NamedTuple):
    """The items of which each user has a rating, row by row.

    Args:
      starts: `[users + 1]`, where the items of each user begin, and the last end.
      items: `[n]`, those of each user ascending.
    """

    starts: Int64[np.ndarray, " starts"]
    items: Int32[np.ndarray, " n"]

    @classmethod
    def of(cls, user: Int[np.ndarray, " n"], item: Int[np.ndarray, " n"], num_users: int) -> "Seen":
        """That of n pairs in any order."""
        counts = np.bincount(user, minlength=num_users)
        width = int(item.max(initial=0)) + 1
        in_order = np.sort(user.astype(np.int64) * width + item)  # faster than a sort of pairs
        return cls(_starts(counts), (in_order % width).astype(np.int32))

    @property
    def counts(self) -> Int64[np.ndarray, " users"]:
        """How many each user has rated."""
        return np.diff(self.starts)

    def of_rows(
        self, rows: Int[np.ndarray, " rows"]
    ) -> tuple[Int[np.ndarray, " seen"], Int32[np.ndarray, " seen"]]:
        """The pairs of some users: the place among `rows`, and the item."""
        counts = self.counts[rows]
        place = np.repeat(np.arange(len(rows)), counts)
        within = np.arange(len(place)) - np.repeat(_starts(counts)[:-1], counts)
        return place, self.items[np.repeat(self.starts[rows], counts) + within]

    def of_users(self, is_kept: Bool[np.ndarray, " users"]) -> "Seen":
        """That of some of the users."""
        counts = self.counts
        return Seen(_starts(counts[is_kept]), self.items[np.repeat(is_kept, counts)])

    def inserted(self, row: int, items: Int[np.ndarray, " rated"]) -> "Seen":
        """That with a user more, before `row`."""
        counts = np.insert(self.counts, row, len(items))
        return Seen(_starts(counts), np.insert(self.items, self.starts[row], np.sort(items)))


def _starts(counts: Int[np.ndarray, " rows"]) -> Int64[np.ndarray, " starts"]:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


# the best


class Best(NamedTuple):
    """The best columns of rows, row by row and the best first.

    Args:
      row, column: `[n]`, where each stands.
      rank: `[n]`, from 1.
    """

    row: Int[np.ndarray, " n"]
    column: Int[np.ndarray, " n"]
    rank: Int[np.ndarray, " n"]


def best_of_each(scores: Float[np.ndarray, "rows columns"], n: int) -> Best:
    """The n highest of each row, of equal ones those of the lower columns.

    Args:
      scores: -inf of what is left out.
      n: the most of a row.
    """
    last = max(scores.shape[1] - n, 0)
    least = np.partition(scores, last, axis=1)[:, last]
    row, column = np.nonzero((scores >= least[:, None]) & (scores > -np.inf))
    order = np.lexsort((-scores[row, column], row))  # stable: equal ones stay in order
    row, column = row[order], column[order]
    rank = np.arange(len(row)) - np.searchsorted(row, row)
    is_best = rank < n
    return Best(row[is_best], column[is_best], rank[is_best] + 1)


def slices(count: int, at_once: int) -> Iterator[slice]:
    """`count` rows, `at_once` at a time."""
    return (slice(first, first + at_once) for first in range(0, count, at_once))
