"""The ratings as read: what every source returns and every split cuts."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int, Int32, Int64, Shaped

from mfjax.errors import InputError
from mfjax.types import Ratings

ROUNDING = 1e-5  # of the range of the ratings, the most that their dtype may round


class Reading(NamedTuple):
    """What a source was taken for.

    Args:
      columns: the user, item and rating columns, and others that are read, by name or position.
      rows: of the source.
      why: how the columns were decided, in words.
      first: the first row, as it was understood.
      notes: what was skipped, dropped or converted, in words.
      warnings: what may be wrong with the ratings, in words.
    """

    columns: dict[str, str]
    rows: int
    why: str
    first: dict[str, str]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class Interactions(NamedTuple):
    """What ratings were made interactions of.

    Args:
      least: the least rating that counts, in rating units.
      left_out: ratings below it, which are not among them.
    """

    least: float
    left_out: int


@dataclass(frozen=True, eq=False)
class Dataset:
    """n ratings of unique (user, item) pairs, in the order of their source.

    Canonical folds are blocks of rows, so the order matters. Users and items are numbered 0, 1, ...
    in the sorted order of their ids: `user_ids[user]` are the ids as the source wrote them.

    Args:
      name: what results call it.
      user, item: `[n]`, from 0.
      value: `[n]`, in rating units; finite.
      user_ids: `[users]`, int64 or str, ascending.
      item_ids: `[items]`, int64 or str, ascending.
      sha256: hex digest of the file's bytes, or of the arrays of generated data.
      weight: `[n]`, above 0; None: 1 each.
      timestamp: `[n]`, as the source counts it, dates in seconds; None: it has none.
      reading: what the source was taken for; None: it was made, and not read.
      of_test: `[n]`, whether a rating came from a file of test ratings; None: there was none.
      items: a Polars frame, a row an item in the order of `item_ids`: `title` and the list of its
        `genres`, null where nothing is known of it; None: the source has neither.
      made_of: what `interactions` counted; None: the values are ratings.
    """

    name: str
    user: Int32[np.ndarray, " n"]
    item: Int32[np.ndarray, " n"]
    value: Float64[np.ndarray, " n"]
    user_ids: Shaped[np.ndarray, " users"]
    item_ids: Shaped[np.ndarray, " items"]
    sha256: str
    weight: Float64[np.ndarray, " n"] | None = None
    timestamp: Int64[np.ndarray, " n"] | None = None
    reading: Reading | None = None
    of_test: Bool[np.ndarray, " n"] | None = None
    items: Any = None
    made_of: Interactions | None = None

    def __repr__(self) -> str:
        """One line: the name and the numbers."""
        shape = f"{self.num_users:,} users × {self.num_items:,} items"
        return f"Dataset({self.name}, {shape}, {len(self.value):,} ratings)"

    @classmethod
    def of(
        cls,
        source: Any,
        *,
        name: str = "ratings",
        columns: list | None = None,
        missing: Sequence[float] = (),
        missing_ids: str = "error",
        weight: str | int | None = None,
        timestamp: str | int | None = None,
        duplicates: str = "error",
    ) -> "Dataset":
        """The ratings of what is in memory, with the checks of a file.

        Args:
          source: a Polars, pandas or PyArrow frame; a mapping of names to `[n]` arrays; a tuple of
            user, item and rating arrays; a NumPy array, `[n, 3]`; or a SciPy sparse matrix,
            `[users, items]`, whose stored entries are the ratings.
          name: what to call them.
          columns: the user, item and rating columns, each a name or a position; None: by name.
          missing: values that mean "no rating": dropped and counted.
          missing_ids: `error`, `drop` or `keep`: ids that are a word for nothing.
          weight: the column of weights; None: every weight is 1.
          timestamp: the column of times; None: the one of that name, if it holds nothing else.
          duplicates: `error`, `mean` or `last`: several ratings of a pair.

        Returns:
          The ratings in their order; `reading` says what they were taken for.

        Raises:
          InputError: the source is nothing of these, or its ratings are wrong.
        """
        from mfjax.data.columns import Wanted  # these make a Dataset
        from mfjax.data.reading import Policy, from_memory

        policy = Policy.of(missing, missing_ids, duplicates)
        return from_memory(name, source, Wanted.of(columns, weight, timestamp), policy)

    def noting(self, *notes: str) -> "Dataset":
        """The ratings with more to say of how they were read.

        Args:
          *notes: what else was noticed, in words.

        Returns:
          The same ratings, with these notes after those of `reading`; itself where they were made.
        """
        if self.reading is None:
            return self
        reading = self.reading._replace(notes=(*self.reading.notes, *notes))
        return replace(self, reading=reading)

    def interactions(self, least: float) -> "Dataset":
        """Implicit feedback: who rated what at `least` or more, each of value 1.

        Users and items keep their numbers, those without an interaction too.

        Args:
          least: the least rating that counts, in rating units.

        Returns:
          The interactions in the order of the ratings; `made_of` says how many others there were.

        Raises:
          InputError: no rating is that high, or the values are interactions already.
        """
        if self.made_of is not None:
            raise InputError(f"{self.name}: expected ratings, got interactions")
        counts = self.value >= least
        low, high = self.scale
        if not counts.any():
            raise InputError(
                f"implicit: expected a rating that some reach, got {least:g}; they are from "
                f"{low:g} to {high:g}"
            )
        return replace(
            self,
            user=self.user[counts],
            item=self.item[counts],
            value=np.ones(np.count_nonzero(counts)),
            weight=None if self.weight is None else self.weight[counts],
            timestamp=None if self.timestamp is None else self.timestamp[counts],
            of_test=None if self.of_test is None else self.of_test[counts],
            made_of=Interactions(float(least), np.count_nonzero(~counts)),
        )

    @property
    def num_users(self) -> int:
        """Rows of the matrix, those without a rating too."""
        return len(self.user_ids)

    @property
    def num_items(self) -> int:
        """Columns of the matrix, those without a rating too."""
        return len(self.item_ids)

    @property
    def scale(self) -> tuple[float, float]:
        """The lowest and the highest rating."""
        return float(self.value.min()), float(self.value.max())

    @cached_property
    def _rounding(self) -> float:
        """The most that float32 moves a rating, as a share of their range."""
        with np.errstate(over="ignore", invalid="ignore"):  # what float32 has no number for
            moved = np.abs(self.value - self.value.astype(np.float32)).max()
            share = moved / (np.ptp(self.value) or np.inf)
        return float(np.nan_to_num(share, nan=np.inf))

    def ratings(
        self,
        rows: Bool[np.ndarray, " n"] | Int[np.ndarray, " rows"] | slice = slice(None),
        fold: Int[np.ndarray, " n"] | None = None,
        *,
        dtype: str = "float32",
    ) -> Ratings:
        """The ratings of some rows, all by default.

        Args:
          rows: a mask `[n]`, places `[rows]`, or a slice.
          fold: `[n]`, the fold that holds each rating out; by default none does.
          dtype: of the values and weights.

        Returns:
          Those rows, each of its weight, or of weight 1.

        Raises:
          InputError: float32 does not hold the ratings.
        """
        if dtype == "float32" and self._rounding > ROUNDING:
            raise InputError(
                f"{self.name}: float32 rounds these ratings by {self._rounding:.1%} of their\n"
                "range: take dtype=float64, or subtract what they have in common"
            )
        return Ratings.of(
            self.user[rows],
            self.item[rows],
            self.value[rows],
            weight=None if self.weight is None else self.weight[rows],
            fold=None if fold is None else fold[rows],
            dtype=dtype,
        )


def from_ids(name: str, user: Any, item: Any, value: Any, sha256: str | None = None) -> Dataset:
    """Numbers the users and items of n ratings whose ids are integers or strings.

    Args:
      name: what to call the data set in results.
      user, item: `[n]` ids; any one-dimensional sequence that Polars takes.
      value: `[n]` ratings. Neither finiteness nor unique pairs are checked here; `read` does.
      sha256: hex digest of the source; by default that of the arrays.

    Returns:
      The ratings in their order; ids are int64 if every one is an integer, else strings.

    Raises:
      InputError: the three lengths differ, or there are no ratings.
    """
    values = np.asarray(value, np.float64)
    if not len(user) == len(item) == len(values) > 0:
        lengths = f"{len(user)}, {len(item)} and {len(values)}"
        raise InputError(
            f"{name}: expected as many users as items as ratings, and some; got {lengths}"
        )
    users, user_ids = _numbered(user)
    items, item_ids = _numbered(item)
    return Dataset(
        name=name,
        user=users,
        item=items,
        value=values,
        user_ids=user_ids,
        item_ids=item_ids,
        sha256=sha256 or digest_of_arrays(users, items, values),
    )


def digest_of_arrays(*arrays: np.ndarray) -> str:
    """The SHA-256 (hex) of arrays: their dtypes, shapes and bytes."""
    sha = hashlib.sha256()
    for array in arrays:
        sha.update(f"{array.dtype.str}{array.shape}".encode())
        sha.update(np.ascontiguousarray(array).data)
    return sha.hexdigest()


def _numbered(raw: Any) -> tuple[Int32[np.ndarray, " n"], Shaped[np.ndarray, " ids"]]:
    """Codes and ids, with `ids[codes]` the ids as given.

    The ids are int64 if each is written as an integer is printed ('7'; not '07', '+7' or '7.0',
    which int64 would not give back), else strings.
    """
    import polars as pl

    text = pl.Series(raw).cast(pl.String)
    names = text.unique().sort()
    numbers = names.cast(pl.Int64, strict=False)
    if (numbers.cast(pl.String) == names).fill_null(False).all():
        ascending = numbers.arg_sort()
        names = names.gather(ascending)
        ids = numbers.gather(ascending).to_numpy()
    else:
        ids = names.to_numpy().astype(str)
    codes = text.cast(pl.Enum(names)).to_physical().cast(pl.Int32)
    return codes.to_numpy(), ids
