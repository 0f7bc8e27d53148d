"""The ratings as read: what every source returns and every split cuts."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from mfjax.errors import InputError


@dataclass(frozen=True, eq=False)
class Dataset:
    """n ratings of unique (user, item) pairs, in the order of their source.

    Canonical folds are blocks of rows, so the order matters. Users and items are numbered 0, 1, ... in the sorted order
    of their ids: `user_ids[user]` are the ids as the source wrote them.
    """

    name: str
    user: np.ndarray  # [n] int32
    item: np.ndarray  # [n] int32
    value: np.ndarray  # [n] float64, finite
    user_ids: np.ndarray  # [users] int64 or str, ascending
    item_ids: np.ndarray  # [items] int64 or str, ascending
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


def from_ids(name: str, user: Any, item: Any, value: Any, sha256: str | None = None) -> Dataset:
    """Numbers the users and items of n ratings whose ids are integers or strings.

    Args:
        name: what to call the data set in results.
        user, item: [n] ids; any one-dimensional sequence that Polars takes.
        value: [n] ratings. Neither finiteness nor unique pairs are checked here; `read` does.
        sha256: hex digest of the source; by default that of the arrays.

    Raises:
        InputError: the three lengths differ, or there are no ratings.
    """
    value = np.asarray(value, np.float64)
    if not len(user) == len(item) == len(value) > 0:
        raise InputError(
            f"{name}: expected as many users as items as ratings, and some; got {len(user)}, {len(item)} and {len(value)}"
        )
    user, user_ids = _number(user)
    item, item_ids = _number(item)
    return Dataset(name, user, item, value, user_ids, item_ids, sha256 or digest(user, item, value))


def digest(*arrays: np.ndarray) -> str:
    """The SHA-256 (hex) of arrays: their dtypes, shapes and bytes."""
    sha = hashlib.sha256()
    for array in arrays:
        sha.update(f"{array.dtype.str}{array.shape}".encode())
        sha.update(np.ascontiguousarray(array).data)
    return sha.hexdigest()


def _number(raw: Any) -> tuple[np.ndarray, np.ndarray]:
    """Ids -> (codes [n] int32, ids [k]), with `ids[codes]` the ids.

    The ids are int64 if each is written as an integer is printed ('7'; not '07', '+7' or '7.0', which int64 would not
    give back), else strings.
    """
    import polars as pl

    text = pl.Series(raw).cast(pl.String)
    ids = text.unique().sort()
    number = ids.cast(pl.Int64, strict=False)
    if (number.cast(pl.String) == ids).fill_null(False).all():
        order = number.arg_sort()
        ids, original = ids.gather(order), number.gather(order).to_numpy()
    else:
        original = ids.to_numpy().astype(str)
    return text.cast(pl.Enum(ids)).to_physical().cast(pl.Int32).to_numpy(), original
