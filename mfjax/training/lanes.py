"""The nouns of a sweep: its plan, its lanes, how far they have come, and what came of them."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jaxtyping import Float

from mfjax.data.problem import Problem
from mfjax.errors import InputError
from mfjax.metrics import METRICS, label
from mfjax.training.epochs import History, Schedule, history_columns
from mfjax.types import Averages, Cut, Factors, Hparams, Method, Run, Spec

RANK_GROUP = 16  # lanes share a program with those whose rank rounds up to the same multiple
MOST_LANES = 10_000_000  # of a config: some gigabytes of settings alone

T = TypeVar("T")
Axes = Mapping[str, Sequence[float]]  # values of Hparams by their names


@dataclass(frozen=True)
class Plan:
    """What the lanes of a sweep have in common.

    Args:
      spec: what the programs share; its `max_rank` is set for each rank group.
      method: makes the Method of a Spec.
      problems: by (split_seed, test_fold); those with fewer ratings are padded with weight 0.
      schedule: how long to train, and what chooses.
      lane_batch: lanes that run at once under `vmap`; the batches run one after another under
        `lax.map`. None: on a CPU, where the data of one lane stay in cache, 1, or those that the
        method trains abreast; elsewhere as many as half of the memory holds, by estimate.
      warm: factors `[num_users, k]` and `[num_items, k]` to start every lane from; further columns
        start at 0.
    """

    spec: Spec
    method: Callable[[Spec], Method]
    problems: Mapping[Cut, Problem]
    schedule: Schedule
    lane_batch: int | None = None
    warm: Factors | None = None


class Lane(NamedTuple):
    """One fit.

    Args:
      hparams: its setting, split, fold and start; scalars of the host.
      epochs: the most that it is trained.
    """

    hparams: Hparams
    epochs: int


class Track(NamedTuple):
    """How far a lane has come, on the host.

    Its run, and a history of as many epochs as its block may train (NaN: not yet).
    """

    run: Run
    history: History


class Progress(NamedTuple):
    """What the host knows between chunks of epochs.

    Args:
      done: epochs of all lanes, those that an ended lane leaves out too.
      total: epochs of all lanes, at most; 0 before the first chunk of a refit.
      loss: the least objective of the last chunk, over its lanes.
      score: the best value so far of the column that chooses; NaN where there is none.
      refit: whether the lanes are the chosen setting's, trained again.
    """

    done: int
    total: int
    loss: float
    score: float
    refit: bool = False


OnProgress = Callable[[Progress], Any]
GetTracks = Callable[[], list[Track]]
OnChunk = Callable[[Progress, GetTracks], Any]


def unwatched(progress: Progress) -> None:
    """The `on_progress` of who does not want to know."""


class Fit(NamedTuple):
    """What came of a lane.

    Args:
      lane: which it was.
      factors: of its best epoch, of its last where nothing is held out; on the host.
      mean: μ, what to add to u_i·v_j, on the scale of the loss's link; 0 without biases.
      status: `finished`, or `stopped`, `diverged` or `dropped at epoch` N.
      best_epoch: from 1; 0 where it diverged before its first evaluation.
      history: `[epochs]` of each column; NaN where the lane was not evaluated.
      averages: over the samples of a method that has them, whose kept ones the factors are of.
      rated: `[items, columns]`, what each item adds to the users who rated it, over the root of how
        many they rated; None where users are made of no such features.
      loss: what it was trained with, of `mfjax.losses.LOSSES`.
    """

    lane: Lane
    factors: Factors
    mean: float
    status: str
    best_epoch: int
    history: History
    averages: Averages | None = None
    rated: Float[np.ndarray, "items columns"] | None = None
    loss: str = Spec.loss

    def __repr__(self) -> str:
        """One line: how it ended, its errors at the best epoch, and what of its lane is special."""
        best = f"best epoch {self.best_epoch} of {len(self.history['loss'])}"
        metric, *_ = METRICS
        values = {part: self.at_best(f"{part}_{metric}") for part in ("train", "validation")}
        errors = [
            f"{label(f'{part}_{metric}')} {value:.5f}"
            for part, value in values.items()
            if np.isfinite(value)
        ]
        special = not_defaults(self.lane.hparams._asdict())
        return f"Fit({', '.join([self.status, best, *errors, *special])})"

    @property
    def alive(self) -> bool:
        """Whether it did not diverge."""
        return not self.status.startswith("diverged")

    def at_best(self, column: str) -> float:
        """A column of the history at the best epoch.

        Args:
          column: `loss`, `update_norm`, or a metric of a part, such as `validation_rmse`.

        Returns:
          Its value; NaN where there is none.
        """
        if not self.best_epoch:
            return float("nan")
        return float(self.history[column][self.best_epoch - 1])


def not_defaults(hparams: Mapping[str, float]) -> list[str]:
    """`key=value` of each that is not as in `Hparams()`."""
    defaults = Hparams()._asdict()
    return [f"{key}={value}" for key, value in hparams.items() if value != defaults[key]]


def refuse_many(lanes: int) -> None:
    """Raises InputError for more lanes than are ever made, before they are."""
    if lanes > MOST_LANES:
        raise InputError(
            f"expected at most {MOST_LANES:,} lanes, got {lanes:,}\n"
            "take fewer replicates, fewer search.samples or a coarser sweep"
        )


def refuse_unsampled(method: Method, epochs: int) -> None:
    """Raises InputError for so few epochs that no sample of the method would count."""
    if epochs <= method.burn_in:
        raise InputError(
            f"epochs={epochs}: expected more than burn_in={method.burn_in}, or no sample counts"
        )


def grid(base: Hparams, axes: Axes) -> list[Hparams]:
    """Every combination of the axes' values; the last axis varies fastest.

    Args:
      base: the values that no axis has.
      axes: values of Hparams by their names.

    Returns:
      Their product, as many Hparams; `base` alone without axes.

    Raises:
      InputError: there are more than ten million.

    Examples:
      >>> [h.reg for h in grid(Hparams(), {"reg": [0.1, 0.2]})]
      [0.1, 0.2]
    """
    refuse_many(prod(len(values) for values in axes.values()))
    combinations = itertools.product(*axes.values())
    settings = (zip(axes, values, strict=True) for values in combinations)
    return [base._replace(**dict(setting)) for setting in settings]


def rank_group(rank: int) -> int:
    """The factor columns of the program that trains this rank.

    The rank rounded up to a multiple of 16.
    """
    return max(-(-int(rank) // RANK_GROUP), 1) * RANK_GROUP


# tracks


def blank_history(plan: Plan, epochs: int) -> History:
    """A history of which no epoch is trained yet."""
    untrained = np.full(epochs, np.nan, plan.spec.dtype)
    return dict.fromkeys(history_columns(plan.schedule.choose_by), untrained)


def history_bytes(plan: Plan, epochs: int) -> int:
    """The size of the history of one lane."""
    columns = history_columns(plan.schedule.choose_by)
    return epochs * len(columns) * np.dtype(plan.spec.dtype).itemsize


def lengthened(track: Track, epochs: int) -> Track:
    """The same track with a history of `epochs`."""

    def longer(values: np.ndarray) -> np.ndarray:
        to_come = epochs - len(values)
        return np.pad(values, (0, to_come), constant_values=np.nan)

    return track._replace(history=jax.tree.map(longer, track.history))


def stacked(trees: Iterable[T]) -> T:
    """One tree of the leaves of all, `[lanes, …]`, on the host.

    Of leaves that are one and the same it is a view, which is not to be written to: the lanes of a
    block that has not begun would take a while to write out.
    """

    def together(*leaves: Any) -> np.ndarray:
        first, *others = leaves
        if all(leaf is first for leaf in others):
            return np.broadcast_to(first, (len(leaves), *np.shape(first)))
        return np.stack(leaves)

    return jax.tree.map(together, *trees)


def unstacked(tree: T, places: Iterable[int]) -> list[T]:
    """The trees that were stacked at `places`."""

    def at(place: int) -> T:
        return jax.tree.map(lambda leaf: leaf[place], tree)

    return [at(place) for place in places]


class Places(NamedTuple):
    """Where the lanes of a block lie: in so many groups, shared by devices.

    A group has places for lanes of one split, `abreast` of them. Neighbours in a grid take alike
    long, so they train together, and the groups go to the devices in turn.
    """

    groups: int
    devices: int
    abreast: int = 1

    @classmethod
    def of(cls, lanes: int, devices: int, splits: int, most_abreast: int) -> "Places":
        """Places for any so many lanes of so many splits.

        No more of them abreast than leave something for each device.
        """
        splits = min(splits, lanes)
        abreast = min(most_abreast, -(-lanes // max(devices, splits)))
        groups = splits + (lanes - splits) // abreast  # each split may leave one unfilled
        return cls(-(-groups // devices) * devices, devices, abreast)

    @property
    def lanes(self) -> int:
        """All places."""
        return self.groups * self.abreast

    def of_lanes(self, splits: Sequence[int]) -> list[int]:
        """The place of each lane, given its split."""
        by_device = np.arange(self.groups).reshape(self.devices, -1).ravel("F").tolist()
        seen: Counter[int] = Counter()
        groups: dict[tuple[int, int], int] = {}
        places = []
        for split in splits:
            turn, within = divmod(seen[split], self.abreast)
            seen[split] += 1
            group = groups.setdefault((split, turn), len(groups))
            places.append(by_device[group] * self.abreast + within)
        return places

    def dealt(self, of_lanes: Sequence[T], places: Sequence[int], padding: T) -> list[T]:
        """What is of each place; `padding` where there is no lane."""
        dealt = [padding] * self.lanes
        for place, of_lane in zip(places, of_lanes, strict=True):
            dealt[place] = of_lane
        return dealt

    def in_groups(self, of_places: T) -> T:
        """Arrays of each place as those of each group, `[groups, abreast, …]`.

        Where it is one place, `[groups, …]`.
        """
        if self.abreast == 1:
            return of_places

        def grouped(array: Any) -> Any:
            return array.reshape(self.groups, self.abreast, *array.shape[1:])

        return jax.tree.map(grouped, of_places)

    def apart(self, of_groups: Iterable[Any]) -> list[Any]:
        """What is of each place, of what is of each group."""
        if self.abreast == 1:
            return list(of_groups)
        return [of_place for of_group in of_groups for of_place in of_group]
