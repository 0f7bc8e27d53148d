"""The model that a run leaves behind, read back: predictions in the ids of the data."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from mfjax.errors import InputError


@dataclass(frozen=True)
class Model:
    """A trained model with its ids: `predict(users, items)` and `top(user)` in the ids of the data.

    Ids ascend. `bounds` are the lowest and the highest prediction, infinite where none is clipped.
    """

    user_factors: Float[np.ndarray, "users rank"]
    item_factors: Float[np.ndarray, "items rank"]
    user_bias: Float[np.ndarray, " users"]
    item_bias: Float[np.ndarray, " items"]
    mean: Float[np.ndarray, ""]
    bounds: Float[np.ndarray, "2"]
    user_ids: Shaped[np.ndarray, " users"]
    item_ids: Shaped[np.ndarray, " items"]

    def __repr__(self) -> str:
        """One line: the shape, and the range of the predictions."""
        users, rank = self.user_factors.shape
        low, high = self.bounds
        shape = f"{users:,} users × {len(self.item_factors):,} items"
        return f"Model({shape}, rank {rank}, predictions from {low:g} to {high:g})"

    def predict(self, users: Sequence, items: Sequence) -> Float[np.ndarray, " n"]:
        """Predicted ratings of pairs, clipped to `bounds`.

        Args:
          users, items: `[n]` ids each.

        Raises:
          InputError: an id was not in the data.
        """
        i = _rows(self.user_ids, users, "user")
        j = _rows(self.item_ids, items, "item")
        user = self.user_factors[i]
        item = self.item_factors[j]
        dot = np.einsum("nk,nk->n", user, item)
        score = self.mean + self.user_bias[i] + self.item_bias[j] + dot
        return np.clip(score, *self.bounds)

    def top(
        self,
        user: Any,
        n: int = 10,
        exclude: Sequence = (),
    ) -> list[tuple[Any, float]]:
        """The items with the highest predictions for one user.

        Args:
          user: an id.
          n: the most items.
          exclude: ids of items that are left out.

        Returns:
          (item id, unclipped prediction), the highest first.

        Raises:
          InputError: an id was not in the data.
        """
        (i,) = _rows(self.user_ids, [user], "user")
        dot = self.item_factors @ self.user_factors[i]
        score = self.mean + self.user_bias[i] + self.item_bias + dot
        score[_rows(self.item_ids, exclude, "item")] = -np.inf
        most = min(n, int(np.isfinite(score).sum()))
        best = np.argsort(-score, kind="stable")[:most]
        return [(self.item_ids[j].item(), float(score[j])) for j in best]


def load(folder: str | Path) -> Model:
    """The chosen model of an output folder. Raises InputError where there is none."""
    path = Path(folder) / "factors.npz"
    if not path.is_file():
        raise InputError(
            f"{folder}: no factors.npz; expected the output folder of a finished training run"
        )
    with np.load(path) as arrays:
        return Model(**arrays)


def _rows(
    ids: Shaped[np.ndarray, " rows"],
    wanted: Sequence,
    what: str,
) -> Int[np.ndarray, " wanted"]:
    """The rows of the ids wanted. Raises InputError for an id that is not there."""
    asked = np.asarray(wanted, None if len(wanted) else ids.dtype)
    found = np.searchsorted(ids, asked)
    rows = np.minimum(found, len(ids) - 1)
    unknown = asked[ids[rows] != asked].tolist()
    if unknown:
        raise InputError(
            f"unknown {what} {unknown[0]!r}: "
            f"expected one of the {len(ids):,} {what} ids of the data"
        )
    return rows
