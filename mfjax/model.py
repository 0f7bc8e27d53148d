"""What a fit learnt, in the ids of the data: predictions, the best items, one user more."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from mfjax.data.dataset import Dataset
from mfjax.data.problem import Problem
from mfjax.errors import InputError
from mfjax.training.folding import Minimised, minimised, solved_row
from mfjax.training.lanes import Fit
from mfjax.training.whole import read_json, taking_its_place
from mfjax.types import Spec

UNKNOWN = ("error", "mean")  # what to make of an id that was not in the data


@dataclass(frozen=True)
class Model:
    """A trained model with its ids: `predict(users, items)` and `top(user)` in the ids of the data.

    Args:
      user_factors: `[users, rank]`.
      item_factors: `[items, rank]`.
      user_bias: `[users]`, 0 of a model without biases.
      item_bias: `[items]`, 0 of a model without biases.
      mean: scalar μ, 0 of a model without biases.
      bounds: `[2]`, the lowest and the highest prediction; infinite where none is clipped.
      user_ids: `[users]`, ascending.
      item_ids: `[items]`, ascending.
      bias: scalar, whether it has biases.
      reg: scalar λ of the factors.
      reg_bias: scalar λ of the biases.
      reg_by: scalar text, what λ of a row was multiplied by: one of `mfjax.types.REG_BY`.
      num_ratings: scalar, how many it was trained on.
      missing_weight: scalar, what a missing entry weighed: 0 where it was ignored.
      background: `[items]`, the rating as which a missing entry of an item counted.
    """

    user_factors: Float[np.ndarray, "users rank"]
    item_factors: Float[np.ndarray, "items rank"]
    user_bias: Float[np.ndarray, " users"]
    item_bias: Float[np.ndarray, " items"]
    mean: Float[np.ndarray, ""]
    bounds: Float[np.ndarray, "2"]
    user_ids: Shaped[np.ndarray, " users"]
    item_ids: Shaped[np.ndarray, " items"]
    bias: Bool[np.ndarray, ""]
    reg: Float[np.ndarray, ""]
    reg_bias: Float[np.ndarray, ""]
    reg_by: Shaped[np.ndarray, ""]
    num_ratings: Int[np.ndarray, ""]
    missing_weight: Float[np.ndarray, ""]
    background: Float[np.ndarray, " items"]

    @classmethod
    def of(cls, fit: Fit, dataset: Dataset, problem: Problem, spec: Spec) -> "Model":
        """What a fit learnt, with the ids of the data.

        Args:
          fit: of a lane of `spec`.
          dataset: what the fit's ratings are of.
          problem: on whose ratings it was trained; its bounds clip.
          spec: as the fit was trained with.

        Returns:
          The model; factors that the program has beyond the rank of the fit are left out.
        """
        user, item = fit.factors
        rank = int(fit.lane.hparams.rank)
        return cls(
            user_factors=user[:, :rank],
            item_factors=item[:, :rank],
            user_bias=user[:, -2] if spec.bias else np.zeros(len(user), user.dtype),
            item_bias=item[:, -1] if spec.bias else np.zeros(len(item), item.dtype),
            mean=np.asarray(fit.mean),
            bounds=np.asarray(problem.bounds, float),
            user_ids=dataset.user_ids,
            item_ids=dataset.item_ids,
            **_arrays(minimised(fit.lane.hparams, problem.ratings, spec)),
        )

    def __repr__(self) -> str:
        """One line: the shape, and the range of the predictions."""
        users, rank = self.user_factors.shape
        low, high = self.bounds
        shape = f"{users:,} users × {len(self.item_factors):,} items"
        return f"Model({shape}, rank {rank}, predictions from {low:g} to {high:g})"

    def predict(
        self,
        users: Iterable,
        items: Iterable,
        *,
        unknown: str = "error",
    ) -> Float[np.ndarray, " n"]:
        """Predicted ratings of pairs, clipped to `bounds`.

        Args:
          users: `[n]` ids.
          items: `[n]` ids.
          unknown: what an id is that was not in the data: an `error`; or, with `mean`, one of no
            factors and no bias: its pair is predicted by the mean and the bias that is known.

        Returns:
          `[n]`, in rating units.

        Raises:
          InputError: an id was not in the data, or is of another type than theirs; there are not as
            many users as items; or a model without biases, which has no mean, is to use it.
        """
        self._refuse_unknown(unknown)
        i = _rows(self.user_ids, users, "user", unknown)
        j = _rows(self.item_ids, items, "item", unknown)
        if len(i) != len(j):
            raise InputError(f"expected as many users as items, got {len(i)} and {len(j)}")
        dot = np.einsum("nk,nk->n", self.user_factors[i], self.item_factors[j])
        score = self.mean + np.where(i < 0, 0, self.user_bias[i])
        score += np.where(j < 0, 0, self.item_bias[j])
        score += np.where((i < 0) | (j < 0), 0, dot)
        return np.clip(score, *self.bounds)

    def _refuse_unknown(self, unknown: str) -> None:
        if unknown not in UNKNOWN:
            raise InputError(f"unknown: expected one of {', '.join(UNKNOWN)}, got {unknown!r}")
        if unknown == "mean" and not self.bias:
            raise InputError("unknown='mean' needs a model with biases: train with bias=true")

    def top(
        self,
        user: Any,
        n: int = 10,
        exclude: Iterable = (),
    ) -> list[tuple[Any, float]]:
        """The items with the highest predictions for one user.

        Args:
          user: an id.
          n: the most items.
          exclude: ids of items that are left out.

        Returns:
          (item id, unclipped prediction), the highest first.

        Raises:
          InputError: an id was not in the data, or is of another type than theirs.
        """
        (i,) = _rows(self.user_ids, [user], "user")
        dot = self.item_factors @ self.user_factors[i]
        score = self.mean + self.user_bias[i] + self.item_bias + dot
        score[_rows(self.item_ids, exclude, "item")] = -np.inf
        most = min(n, int(np.isfinite(score).sum()))
        best = np.argsort(-score, kind="stable")[:most]
        return [(self.item_ids[j].item(), float(score[j])) for j in best]

    def fold_in(self, user: Any, ratings: Mapping[Any, float]) -> "Model":
        """The model with one user more, at the minimum of the objective given the items.

        Derivation: `mfjax.training.folding.solved_row`.

        Args:
          user: an id; the row of one that is there is solved anew.
          ratings: what the user rated, by the ids of the items.

        Returns:
          A model whose other rows are this one's; it is O(users · rank) to make.

        Raises:
          InputError: the id of an item was not in the data, an id is of another type than theirs,
            or a rating is not finite.

        Examples:
          model.fold_in("ann", {"Alien": 5, "Aliens": 4}).top("ann")
        """
        new = _asked(self.user_ids, [user], "user")
        rated = _rows(self.item_ids, ratings, "item")
        values = np.array(list(ratings.values()), np.float64)
        if not np.isfinite(values).all():
            raise InputError(f"ratings: expected finite numbers, got {values.tolist()}")
        of = Minimised(**{name: getattr(self, name)[()] for name in Minimised._fields})
        row = solved_row(of, self.item_factors, self.item_bias, float(self.mean), rated, values)
        factors, bias = (row[:-1], row[-1]) if self.bias else (row, 0)
        others = self.user_ids != new
        ids = self.user_ids[others].astype(np.result_type(self.user_ids, new))
        place = np.searchsorted(ids, new[0])
        return replace(
            self,
            user_factors=np.insert(self.user_factors[others], place, factors, axis=0),
            user_bias=np.insert(self.user_bias[others], place, bias),
            user_ids=np.insert(ids, place, new[0]),
        )

    def write(self, path: Path) -> None:
        """Write the arrays to a file, whole or not at all.

        Args:
          path: of an `.npz`; `load` reads that of an output folder back.

        Raises:
          OSError: it cannot be written.
        """
        with taking_its_place(path) as part, part.open("wb") as file:
            np.savez_compressed(file, **vars(self))


def load(folder: str | Path) -> Model:
    """The chosen model of an output folder.

    Args:
      folder: of a finished training run, with its `results.json` and `factors.npz`.

    Returns:
      The first of the fits that the run tested.

    Raises:
      InputError: there is none; the run did not finish, or diverged; or a file is damaged, or of
        another version of mfjax.
    """
    path = Path(folder).expanduser() / "factors.npz"
    results = path.with_name("results.json")
    wanted = "expected the output folder of a finished training run"
    for file in (path, results):
        if not file.is_file():
            raise InputError(f"{folder}: no {file.name}; {wanted}")
    found = read_json(results)
    if found.get("status") != "finished":
        reason = str(found.get("reason", "it did not finish")).splitlines()[0]
        raise InputError(f"{folder}: {reason}; {wanted}")
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            return Model(**arrays)
    except (OSError, EOFError, ValueError, TypeError, BadZipFile) as error:
        raise InputError(f"{path} is damaged, or of another version of mfjax: {error}") from error


def _arrays(of: Minimised) -> dict[str, np.ndarray]:
    return {name: np.asarray(value) for name, value in of._asdict().items()}


# ids


def _rows(
    ids: Shaped[np.ndarray, " rows"],
    wanted: Iterable,
    what: str,
    unknown: str = "error",
) -> Int[np.ndarray, " wanted"]:
    """The rows of the ids wanted; -1 of one that is not there.

    Raises InputError for such a one where `unknown` is `error`.
    """
    asked = _asked(ids, wanted, what)
    rows = np.minimum(np.searchsorted(ids, asked), len(ids) - 1)
    is_there = ids[rows] == asked
    if unknown == "error" and not is_there.all():
        first = asked[~is_there][0].item()
        raise InputError(f"unknown {what} {first!r}: {_expected(ids, what)}")
    return np.where(is_there, rows, -1)


def _asked(
    ids: Shaped[np.ndarray, " rows"],
    wanted: Iterable,
    what: str,
) -> Shaped[np.ndarray, " wanted"]:
    """The ids wanted as an array. Raises InputError for one of another type than theirs."""
    listed = list(wanted)
    asked = np.asarray(listed) if listed else ids[:0]
    is_text = ids.dtype.kind == "U"
    if asked.dtype.kind == "f" and (asked % 1 == 0).all():  # as data frames have them
        asked = asked.astype(np.int64)
    if asked.ndim != 1 or asked.dtype.kind not in ("U" if is_text else "iu"):
        kind = "text" if is_text else "integers"
        others = [one for one in listed if isinstance(one, str) != is_text]
        first = (others or listed)[0]
        raise InputError(f"unknown {what} {first!r}: ids are {kind} here; {_expected(ids, what)}")
    return asked


def _expected(ids: Shaped[np.ndarray, " rows"], what: str) -> str:
    return f"expected one of the {len(ids):,} {what} ids of the data"
