"""The ratings as read: what every source returns and every split cuts."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int, Int32, Shaped

from mfjax.errors import InputError
from mfjax.types import Ratings


@dataclass(frozen=True, eq=False)
class Dataset:
    """n ratings of unique (user, item) pairs, in the order of their source.

    Canonical folds are blocks of rows, so the order matters. Users and items are numbered 0, 1, ...
    in the sorted order of their ids: `user_ids[user]` are the ids as the source wrote them.
    """

    name: str
    user: Int32[np.ndarray, " n"]
    item: Int32[np.ndarray, " n"]
    value: Float64[np.ndarray, " n"]  # finite
    user_ids: Shaped[np.ndarray, " users"]  # int64 or str, ascending
    item_ids: Shaped[np.ndarray, " items"]  # int64 or str, ascending
    sha256: str  # hex digest of the file's bytes, or of the arrays of generated data

    @property
    def num_users(self) -> int:
        return len(self.user_ids)

    @property
    def num_items(self) -> int:
        return len(self.item_ids)

    @property
    def scale(self) -> tuple[float, float]:
        """The lowest and the highest rating."""
        return float(self.value.min()), float(self.value.max())

    def ratings(
        self,
        rows: Bool[np.ndarray, " n"] | Int[np.ndarray, " rows"] | slice = slice(None),
        fold: Int[np.ndarray, " n"] | None = None,
        *,
        dtype: str = "float32",
    ) -> Ratings:
        """The ratings of some rows, all by default.

        Args:
          rows: a mask of the n ratings, places, or a slice.
          fold: the fold that holds each of the n ratings out; by default none does.
          dtype: of the values and weights.
        """
        return Ratings.of(
            self.user[rows],
            self.item[rows],
            self.value[rows],
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
