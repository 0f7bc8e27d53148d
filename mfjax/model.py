"""What a fit learnt, in the ids of the data: predictions, lists of items, one user more."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Bool, Float, Float64, Int, Int32, Int64, Shaped

from mfjax.data.dataset import Dataset
from mfjax.data.problem import Problem
from mfjax.errors import InputError
from mfjax.losses import LINKS, loss_of
from mfjax.objective import held_out
from mfjax.rows import Best, Seen, asked_ids, best_of_each, pair_of, rows_of, slices
from mfjax.training.folding import (
    Minimised,
    columns_of_user,
    drawn_rows,
    minimised,
    prior_of,
    solved_row,
)
from mfjax.training.lanes import Fit, rank_group
from mfjax.training.protocol import AT_ONCE
from mfjax.training.whole import read_json, taking_its_place
from mfjax.types import AnyArray, Averages, Factors, Hparams, Spec

if TYPE_CHECKING:
    import polars as pl

UNKNOWN = ("error", "mean")  # what to make of an id that was not in the data
SIDES = ("user", "item")
SCORES = 2**22  # of users and items, that are ranked at once
FACTORS = "factors.npz"
ABOUT = "model.json"
RESULTS = "results.json"


@dataclass(frozen=True)
class Model:
    """A trained model with its ids: `predict(users, items)` and `top(user)` in the ids of the data.

    Args:
      user_factors: `[users, rank]`.
      item_factors: `[items, rank]`.
      user_bias: `[users]`, 0 of a model without biases.
      item_bias: `[items]`, 0 of a model without biases.
      mean: scalar μ on the scale of `link`, 0 of a model without biases.
      bounds: `[2]`, the lowest and the highest prediction; infinite where none is clipped.
      user_ids: `[users]`, ascending.
      item_ids: `[items]`, ascending.
      bias: scalar, whether it has biases.
      reg: scalar λ of the factors; NaN where they were sampled.
      reg_bias: scalar λ of the biases.
      reg_by: scalar text, what λ of a row was multiplied by: one of `mfjax.types.REG_BY`.
      num_ratings: scalar, how many it was trained on.
      missing_weight: scalar, what a missing entry weighed: 0 where it was ignored.
      background: `[items]`, the rating as which a missing entry of an item counted.
      loss: scalar text, what it was trained with: one of `mfjax.losses.LOSSES`.
      link: scalar text, how a score stands for a rating: one of `mfjax.losses.LINKS`.
      seen_starts: `[starts]`, where in `seen_items` each user's begin, and the last end.
      seen_items: `[seen]`, rows of the items of which each user had a rating, ascending.
      user_bias_samples: `[users, samples]`, of a model that is the mean of samples, each bias less
        its mean; of no samples of another. The factors of the samples stand side by side.
      item_bias_samples: `[items, samples]`, the same.
      prior_mean: `[samples, row]`, of a new user's row in each sample, which is the factors and,
        with biases, the bias: as that of `mfjax.types.Kept`.
      prior_precision: `[samples, row, row]`, the same.
      rating_precision: `[samples, items]`, the same.
      prior_rated: `[tables, rated, row]`, what each item adds to the row of a user who rated it,
        over the root of how many the user rated: a table a sample, or one where there are none; of
        no items where users are made of no such features.
      titles: `[titles]`, one an item, empty where it has none; `[0]` where the data have none.
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
    loss: Shaped[np.ndarray, ""]
    link: Shaped[np.ndarray, ""]
    seen_starts: Int64[np.ndarray, " starts"]
    seen_items: Int32[np.ndarray, " seen"]
    user_bias_samples: Float[np.ndarray, "users samples"]
    item_bias_samples: Float[np.ndarray, "items samples"]
    prior_mean: Float[np.ndarray, "samples row"]
    prior_precision: Float[np.ndarray, "samples row row"]
    rating_precision: Float[np.ndarray, "samples items"]
    prior_rated: Float[np.ndarray, "tables rated row"]
    titles: Shaped[np.ndarray, " titles"]

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
        known = minimised(fit.lane.hparams, problem.ratings, spec)
        if fit.averages is not None:
            rank = user.shape[1] - 2 * spec.bias
            known = known._replace(reg=np.nan, reg_bias=np.nan)
        seen = _seen(problem, fit.lane.hparams, len(user))
        return cls(
            user_factors=user[:, :rank],
            item_factors=item[:, :rank],
            user_bias=user[:, -2] if spec.bias else np.zeros(len(user), user.dtype),
            item_bias=item[:, -1] if spec.bias else np.zeros(len(item), item.dtype),
            mean=np.asarray(fit.mean),
            bounds=np.asarray(problem.bounds, float),
            user_ids=dataset.user_ids,
            item_ids=dataset.item_ids,
            **_arrays(known),
            link=np.asarray(loss_of(spec.loss).link),
            seen_starts=seen.starts,
            seen_items=seen.items,
            **(_unsampled(fit, spec) if fit.averages is None else _sampled(fit.averages, spec)),
            titles=_titles(dataset),
        )

    def __repr__(self) -> str:
        """One line: the shape, and the range of the predictions."""
        users, rank = self.user_factors.shape
        low, high = self.bounds
        shape = f"{users:,} users × {len(self.item_factors):,} items"
        if samples := self.user_bias_samples.shape[1]:
            shape += f", mean of {samples} samples"
            rank //= samples
        return f"Model({shape}, rank {rank}, predictions from {low:g} to {high:g})"

    def predict(
        self,
        users: Any,
        items: Any = None,
        *,
        unknown: str = "error",
        spread: bool = False,
    ) -> Any:
        """Predicted ratings of pairs, clipped to `bounds`.

        Args:
          users: `[n]` ids, or one; or a frame, of Polars or pandas, with the columns `user` and
            `item`, in place of both.
          items: `[n]` ids, or one; one user or item is paired with each of the others.
          unknown: what an id is that was not in the data: an `error`; or, with `mean`, one of no
            factors and no bias: its pair is predicted by the mean and the bias that is known, and
            `known` says which pairs are not so.
          spread: whether the standard deviation over the samples is wanted too.

        Returns:
          `[n]`, in rating units; a scalar of one user and one item. With `spread` both, the
          predictions and their standard deviations, those not of clipped predictions.

        Raises:
          InputError: an id was not in the data, or is of another type than theirs; there are not as
            many users as items; a model without biases, which has no mean, is to use it; or a
            spread is wanted of a model that is no mean of samples.

        Examples:
          model.predict(15, 318)
          frame.with_columns(prediction=model.predict(frame))
        """
        self._refuse_unknown(unknown)
        if spread and self.user_bias_samples.shape[1] < 2:
            raise InputError("spread needs a model that is a mean of samples: train method=gibbs")
        i, j = self._pairs(users, items, unknown)
        predicted = _plain(self._predicted(i.ravel(), j.ravel()).reshape(i.shape))
        if not spread:
            return predicted
        return predicted, _plain(self._spread(i.ravel(), j.ravel()).reshape(i.shape))

    def known(self, users: Any, items: Any = None) -> Bool[np.ndarray, " n"] | bool:
        """Whether the user and the item of a pair were both in the data.

        Args:
          users, items: as those of `predict`.

        Returns:
          `[n]`, False of the pairs that `predict(…, unknown="mean")` predicts by the mean and the
          biases alone; a scalar of one user and one item.

        Raises:
          InputError: an id is of another type than those of the data, or there are not as many
            users as items.
        """
        i, j = self._pairs(users, items, "mean")
        return _plain(np.asarray((i >= 0) & (j >= 0)))

    def seen(self, users: Any, items: Any = None) -> Bool[np.ndarray, " n"] | bool:
        """Whether the model was trained on a rating of a pair, or folded its user in by it.

        Args:
          users, items: as those of `predict`.

        Returns:
          `[n]`, False of an id that was not in the data; a scalar of one user and one item.

        Raises:
          InputError: an id is of another type than those of the data, or there are not as many
            users as items.
        """
        i, j = self._pairs(users, items, "mean")
        num_items = len(self.item_ids)
        of_users = np.repeat(np.arange(len(self.user_ids)), self._seen.counts)
        seen = np.isin(i * num_items + j, of_users * num_items + self.seen_items)
        return _plain(np.asarray((i >= 0) & (j >= 0) & seen))

    def _pairs(
        self, users: Any, items: Any, unknown: str
    ) -> tuple[Int[np.ndarray, "..."], Int[np.ndarray, "..."]]:
        """The rows of pairs, both of one shape; -1 of an id that is not there."""
        users, items = pair_of(users, items)
        i = rows_of(self.user_ids, users, "user", unknown)
        j = rows_of(self.item_ids, items, "item", unknown)
        if i.ndim and j.ndim and len(i) != len(j):
            raise InputError(f"expected as many users as items, got {len(i)} and {len(j)}")
        i, j = np.broadcast_arrays(i, j)
        return i, j

    def _predicted(
        self, i: Int[np.ndarray, " n"], j: Int[np.ndarray, " n"]
    ) -> Float[np.ndarray, " n"]:
        """The predictions of pairs of rows, clipped; -1 is one of no factors and no bias."""
        dot = np.empty(len(i), self.user_factors.dtype)
        for some in slices(len(i), AT_ONCE):
            of_user, of_item = self.user_factors[i[some]], self.item_factors[j[some]]
            dot[some] = np.einsum("nk,nk->n", of_user, of_item)
        score = self.mean + np.where(i < 0, 0, self.user_bias[i])
        score += np.where(j < 0, 0, self.item_bias[j])
        score += np.where((i < 0) | (j < 0), 0, dot)
        return np.clip(self._rating(score), *self.bounds)

    def _spread(
        self, i: Int[np.ndarray, " n"], j: Int[np.ndarray, " n"]
    ) -> Float[np.ndarray, " n"]:
        """The standard deviation of a prediction over the samples; -1 is of no factors."""
        count = self.user_bias_samples.shape[1]
        found = np.empty(len(i))
        for some in slices(len(i), AT_ONCE // count):
            own, other = i[some], j[some]
            products = self.user_factors[own] * self.item_factors[other]
            dot = count * products.reshape(len(own), count, -1).sum(-1)
            is_known = ((own >= 0) & (other >= 0))[:, None]
            by_sample = np.where(is_known, dot, 0)
            by_sample += np.where(own[:, None] >= 0, self.user_bias_samples[own], 0)
            by_sample += np.where(other[:, None] >= 0, self.item_bias_samples[other], 0)
            found[some] = by_sample.std(1, ddof=1)
        return found

    def _rating(self, score: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """The rating that a score, the mean and the biases in it, predicts; not clipped."""
        return np.asarray(LINKS[str(self.link)].rating(score))

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
        """The items with the highest predictions for one user; `recommend` is of several.

        Args:
          user: an id.
          n: the most items.
          exclude: ids of items that are left out.

        Returns:
          (item id, unclipped prediction), the highest first.

        Raises:
          InputError: an id was not in the data, or is of another type than theirs.
        """
        (i,) = rows_of(self.user_ids, [user], "user")
        dot = self.item_factors @ self.user_factors[i]
        score = self.mean + self.user_bias[i] + self.item_bias + dot
        score[rows_of(self.item_ids, exclude, "item")] = -np.inf
        most = min(n, int(np.isfinite(score).sum()))
        best = np.argsort(-score, kind="stable")[:most]
        rating = self._rating(score[best])
        return [(self.item_ids[j].item(), float(r)) for j, r in zip(best, rating, strict=True)]

    def recommend(
        self,
        users: Any = None,
        n: int = 10,
        *,
        exclude_seen: bool = True,
    ) -> "pl.DataFrame":
        """The items with the highest predictions for each user, in the order before clipping.

        It ranks as many users at once as makes four million predictions, in float64; those that
        float32 does not tell apart are equal, and the item of the lower row comes first.

        Args:
          users: ids, or one; None: every user.
          n: the most items of each, at least 1.
          exclude_seen: whether the items are left out of which a user had a rating that the model
            was trained on, or folded in by. Ratings that were held out or tested are no such ones.

        Returns:
          A Polars frame, a row a user and item: `user`, `rank` from 1, `item`, its `title` where
          the data have any, and `prediction`, as `predict` has it. A user for whom fewer than n
          items are left has fewer rows.

        Raises:
          InputError: a user was not in the data, an id is of another type than theirs, or n is
            below 1.

        Examples:
          model.recommend([15, 20], n=5).write_csv("lists.csv")
        """
        import polars as pl

        _refuse_few(n)
        everyone = np.arange(len(self.user_ids))
        rows = everyone if users is None else rows_of(self.user_ids, users, "user").reshape(-1)
        items = self.item_factors.astype(np.float64)
        at_once = max(SCORES // len(items), 1)
        parts = [
            self._best_items(rows[some], items, n, exclude_seen)
            for some in slices(max(len(rows), 1), at_once)
        ]
        i, j, rank = map(np.concatenate, zip(*parts, strict=True))
        return pl.DataFrame(
            {
                "user": self.user_ids[i],
                "rank": rank,
                **self._items(j),
                "prediction": self._predicted(i, j).astype(np.float64),
            }
        )

    def _best_items(
        self,
        rows: Int[np.ndarray, " rows"],
        items: Float[np.ndarray, "items rank"],
        n: int,
        exclude_seen: bool,
    ) -> Best:
        """The best items of some users; `row` is that of the user."""
        scores = self.user_factors[rows].astype(np.float64) @ items.T
        scores += self.item_bias  # the mean and the user's bias order nothing
        scores = scores.astype(np.float32)
        if exclude_seen:
            scores[self._seen.of_rows(rows)] = -np.inf
        best = best_of_each(scores, n)
        return best._replace(row=rows[best.row])

    def similar(self, item: Any, n: int = 10) -> "pl.DataFrame":
        """The items whose factors point most nearly where those of one item do.

        Source: the cosine of two items, v_j·v_l / (|v_j| |v_l|), as in equation (1) of Sarwar,
        Karypis, Konstan and Riedl, "Item-Based Collaborative Filtering Recommendation Algorithms",
        2001, here of the latent factors in place of the ratings; biases do not count. A rotation of
        the factors, which changes no prediction, changes no cosine.

        Args:
          item: an id.
          n: the most items, at least 1.

        Returns:
          A Polars frame, the most similar first: `item`, its `title` where the data have any, and
          `similarity`, from -1 to 1, 0 of an item without ratings.

        Raises:
          InputError: the item was not in the data, its id is of another type, or it has no factors;
            or n is below 1.

        Examples:
          model.similar(318, n=5)
        """
        import polars as pl

        _refuse_few(n)
        (row,) = rows_of(self.item_ids, [item], "item")
        factors = self.item_factors.astype(np.float64)
        length = np.linalg.norm(factors, axis=1)
        if not length[row]:
            raise InputError(
                f"item {item!r}: its factors are 0, as those of an item without a training rating "
                "are: nothing is similar to it"
            )
        direction = factors / np.where(length > 0, length, 1)[:, None]
        cosine = direction @ direction[row]
        cosine[row] = -np.inf
        best = best_of_each(cosine[None], n).column
        return pl.DataFrame({**self._items(best), "similarity": cosine[best]})

    def to_frame(self, side: str = "item") -> "pl.DataFrame":
        """What was learnt of the items, or of the users, as a table.

        Args:
          side: `item` or `user`.

        Returns:
          A Polars frame, a row each: its id as `item` or `user`, its `title` where there are any,
          `ratings`, how many it was trained on, `bias`, and `factor_0`, `factor_1`, ….

        Raises:
          InputError: `side` is neither.
        """
        import polars as pl

        if side not in SIDES:
            raise InputError(f"side: expected one of {', '.join(SIDES)}, got {side!r}")
        factors: np.ndarray = getattr(self, f"{side}_factors")
        if side == "user":
            of_ids = {"user": self.user_ids}
            count = self._seen.counts
        else:
            of_ids = self._items(np.arange(len(factors)))
            count = np.bincount(self.seen_items, minlength=len(factors))
        columns = {f"factor_{k}": factors[:, k] for k in range(factors.shape[1])}
        bias = getattr(self, f"{side}_bias")
        return pl.DataFrame({**of_ids, "ratings": count, "bias": bias, **columns})

    @property
    def _seen(self) -> Seen:
        return Seen(self.seen_starts, self.seen_items)

    def _items(self, rows: Int[np.ndarray, " rows"]) -> dict[str, Any]:
        """The columns of a frame that say which items these are."""
        import polars as pl

        ids = {"item": self.item_ids[rows]}
        if not len(self.titles):
            return ids
        titles = [title or None for title in self.titles.tolist()]
        return {**ids, "title": pl.Series(titles, dtype=pl.String).gather(rows)}

    def fold_in(self, user: Any, ratings: Mapping[Any, float]) -> "Model":
        """The model with one user more: at the minimum of the objective, or drawn, given the items.

        What the user rated is a part of the row where users are made of it (`bags.user=rated`); of
        other features that they are made of a new user has none.

        Of a mean of samples, each sample draws the row given its items, with a noise of ratings of
        the mean user, γ = 1; so that `predict` has of this user the spread of rows and items both.
        The draws are of one seed: the same ratings give the same row.

        Derivation: `mfjax.training.folding.solved_row`, and `drawn_rows`.

        Args:
          user: an id; the row of one that is there is solved anew.
          ratings: what the user rated, by the ids of the items.

        Returns:
          A model whose other rows are this one's; it is O(users · rank) to make.

        Raises:
          InputError: the id of an item was not in the data, an id is of another type than theirs,
            a rating is not finite, or the loss is not `squared`, whose minimum is solved for.

        Examples:
          model.fold_in("ann", {"Alien": 5, "Aliens": 4}).top("ann")
        """
        if self.loss != Spec.loss:
            raise InputError(
                f"fold_in needs a model of loss={Spec.loss}, and this one is of loss={self.loss}; "
                "train with the ratings of the user"
            )
        new = asked_ids(self.user_ids, [user], "user")
        rated = rows_of(self.item_ids, list(ratings), "item")
        values = np.array(list(ratings.values()), np.float64)
        if not np.isfinite(values).all():
            raise InputError(f"ratings: expected finite numbers, got {values.tolist()}")
        is_sampled = self.user_bias_samples.shape[1] > 0
        rows = self._drawn(rated, values) if is_sampled else self._solved(rated, values)
        rank = self.user_factors.shape[1] // len(rows)
        factors = rows[:, :rank].ravel() / np.sqrt(len(rows))
        bias = rows[:, rank:].sum(1)  # which is one column, or none
        bias_samples = bias - bias.mean() if is_sampled else bias[:0]
        others = self.user_ids != new
        ids = self.user_ids[others].astype(np.result_type(self.user_ids, new))
        place = int(np.searchsorted(ids, new[0]))
        seen = self._seen.of_users(others).inserted(place, rated)
        return replace(
            self,
            user_factors=np.insert(self.user_factors[others], place, factors, axis=0),
            user_bias=np.insert(self.user_bias[others], place, bias.mean()),
            user_bias_samples=np.insert(
                self.user_bias_samples[others], place, bias_samples, axis=0
            ),
            user_ids=np.insert(ids, place, new[0]),
            seen_starts=seen.starts,
            seen_items=seen.items,
        )

    def _solved(
        self, rated: Int[np.ndarray, " n"], values: Float64[np.ndarray, " n"]
    ) -> Float64[np.ndarray, "1 row"]:
        """The row of a user who rated these items so, at the minimum."""
        of = Minimised(**{name: getattr(self, name)[()] for name in Minimised._fields})
        row = solved_row(
            of,
            self.item_factors,
            self.item_bias,
            float(self.mean),
            rated,
            values,
            prior=prior_of(self.prior_rated[0], rated),
        )
        return row[None]

    def _drawn(
        self, rated: Int[np.ndarray, " n"], values: Float64[np.ndarray, " n"]
    ) -> Float64[np.ndarray, "samples row"]:
        """The row of a user who rated these items so, of each sample."""
        samples = len(self.prior_mean)
        side_by_side = np.sqrt(samples) * self.item_factors[rated].astype(np.float64)
        rank = side_by_side.shape[1] // samples
        items = side_by_side.reshape(len(rated), samples, rank).swapaxes(0, 1)
        if self.bias:
            items = np.concatenate([items, np.ones((samples, len(rated), 1))], axis=2)
        biases = self.item_bias[rated][:, None] + self.item_bias_samples[rated].astype(np.float64)
        return drawn_rows(
            self.prior_mean + prior_of(self.prior_rated, rated),
            self.prior_precision,
            items,
            self.rating_precision[:, rated],
            (values[:, None] - self.mean - biases).T,
        )

    def start(self, dataset: Dataset) -> Factors:
        """The factors from which `Plan.warm` starts on other ratings, by their ids.

        Args:
          dataset: of the users and items that are to be trained.

        Returns:
          `[users, columns]` and `[items, columns]` of the data set, the biases among them; 0 of an
          id that is not here, whose first prediction is the mean and the bias that is known.

        Raises:
          InputError: the ids of the data set are of another type.
        """
        rank = self.user_factors.shape[1]
        columns = rank_group(rank) + 2 if self.bias else rank  # biases are the last of a program's

        def of_side(side: str, bias_column: int) -> Float[np.ndarray, "rows columns"]:
            factors: np.ndarray = getattr(self, f"{side}_factors")
            ids = getattr(dataset, f"{side}_ids")
            rows = rows_of(getattr(self, f"{side}_ids"), ids, side, unknown="mean")
            is_known = rows >= 0
            table = np.zeros((len(ids), columns), factors.dtype)
            table[is_known, :rank] = factors[rows[is_known]]
            if self.bias:
                table[is_known, bias_column] = getattr(self, f"{side}_bias")[rows[is_known]]
            return table

        return Factors(of_side("user", -2), of_side("item", -1))

    def save(self, folder: str | Path) -> None:
        """Write the model to a folder, which `mfjax.load` reads back bit by bit.

        Args:
          folder: made where it is not there; the model that it holds is replaced.

        Raises:
          InputError: the folder holds the results of a run, whose model it would replace.
          OSError: it cannot be written.
        """
        folder = Path(folder).expanduser()
        if (folder / RESULTS).exists():
            raise InputError(
                f"{folder}: holds the results of a run, and their model\nsave to another folder"
            )
        folder.mkdir(parents=True, exist_ok=True)
        users, rank = self.user_factors.shape
        about = {
            "status": "finished",
            "mfjax": version("mfjax"),
            "users": users,
            "items": len(self.item_factors),
            "rank": rank,
            "ratings": int(self.num_ratings),
        }
        self.write(folder / FACTORS)
        with taking_its_place(folder / ABOUT) as part:
            part.write_text(json.dumps(about, indent=2) + "\n")

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
    """The model of a folder.

    Args:
      folder: of a finished training run, of which it is the first of the fits that were tested; or
        one that `Model.save` wrote.

    Returns:
      The model, bit by bit as it was.

    Raises:
      InputError: there is none; the run did not finish, or diverged; or a file is damaged, or of
        another version of mfjax.
    """
    path = Path(folder).expanduser() / FACTORS
    saved = path.with_name(ABOUT)
    about = saved if saved.is_file() else path.with_name(RESULTS)
    wanted = "expected the output folder of a finished training run, or one of Model.save"
    for file in (path, about):
        if not file.is_file():
            raise InputError(f"{folder}: no {file.name}; {wanted}")
    found = read_json(about)
    if found.get("status") != "finished":
        reason = str(found.get("reason", "it did not finish")).splitlines()[0]
        raise InputError(f"{folder}: {reason}; {wanted}")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            if differing := sorted({one.name for one in fields(Model)} ^ set(arrays)):
                raise InputError(f"it differs in {', '.join(differing)}; train the model again")
            return Model(**arrays)
    except (OSError, EOFError, ValueError, TypeError, BadZipFile) as error:
        raise InputError(f"{path} is damaged, or of another version of mfjax: {error}") from error


def _plain(values: np.ndarray) -> Any:
    """A scalar as a number of Python."""
    return values if values.ndim else values.item()


# what a model is made of


def _seen(problem: Problem, hparams: Hparams, num_users: int) -> Seen:
    """The ratings that a fit was trained on, and those that folded new users in."""
    ratings = problem.ratings
    trained = (ratings.weight > 0) & ~held_out(ratings.fold, hparams)
    user = np.concatenate([ratings.user[trained], problem.given.user])
    item = np.concatenate([ratings.item[trained], problem.given.item])
    return Seen.of(user, item, num_users)


def _sampled(averages: Averages, spec: Spec) -> dict[str, AnyArray]:
    """The arrays of a mean of samples."""
    samples = averages.samples
    rated = samples.prior_rated

    def biases(
        of_side: Float[AnyArray, "samples rows columns"], column: int
    ) -> Float[AnyArray, "rows samples"]:
        own = np.zeros(of_side.shape[1::-1], of_side.dtype)
        if spec.bias:
            own = of_side[..., column].T
        return own - own.mean(1, keepdims=True)

    return {
        "user_bias_samples": biases(samples.user, -2),
        "item_bias_samples": biases(samples.item, -1),
        "prior_mean": samples.prior_mean,
        "prior_precision": samples.prior_precision,
        "rating_precision": samples.rating_precision,
        "prior_rated": samples.prior_mean[:, None][:, :0] if rated is None else rated,
    }


def _unsampled(fit: Fit, spec: Spec) -> dict[str, AnyArray]:
    """The same of a fit that is no mean of samples."""
    user, item = fit.factors
    row = columns_of_user(int(fit.lane.hparams.rank), spec)
    rated = item[:0] if fit.rated is None else fit.rated
    return {
        "user_bias_samples": user[:, :0],
        "item_bias_samples": item[:, :0],
        "prior_mean": user[:0, row],
        "prior_precision": np.zeros((0, len(row), len(row)), user.dtype),
        "rating_precision": item[:, :0].T,
        "prior_rated": rated[None, :, row],
    }


def _titles(dataset: Dataset) -> Shaped[np.ndarray, " titles"]:
    if dataset.items is None or "title" not in dataset.items.columns:
        return np.zeros(0, "U1")
    return dataset.items["title"].fill_null("").to_numpy().astype(str)


def _arrays(of: Minimised) -> dict[str, np.ndarray]:
    return {name: np.asarray(value) for name, value in of._asdict().items()}


def _refuse_few(n: int) -> None:
    """Raises InputError for a list of no items."""
    if n < 1:
        raise InputError(f"n: expected at least 1 item, got {n}")
