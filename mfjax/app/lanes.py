"""From the axes of a config to its lanes, no two of which are the same fit."""

import inspect
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from omegaconf import DictConfig

from mfjax.data.splits import Split
from mfjax.errors import InputError
from mfjax.training.lanes import grid
from mfjax.training.search import sample
from mfjax.types import NO_FOLD, REPLICATES, Hparams

log = logging.getLogger("mfjax")
DEFAULT_REPLICATES = 3
REPEATING = frozenset(REPLICATES)
NOT_DRAWN = {
    "split_seed": "nothing of the split is drawn, nor an order of visits",
    "init_seed": "no start is drawn where init gives it, nor of rank 0 or init_scale 0",
}
Axes = dict[str, list[float]]


class Job(NamedTuple):
    """A config, the axes of its sweep, and the lanes that they stand for."""

    cfg: DictConfig
    axes: Axes
    lanes: list[Hparams]


def job_of(cfg: DictConfig, split: Split) -> Job:
    """The lanes of a config.

    Args:
      cfg: whose `sweep`, `replicates`, `search` and `hparams` say which.
      split: of `hparams.split_seed`; where nothing of it is drawn, there are no replicates.

    Raises:
      InputError: an axis has a value twice, there is no axis to draw, or folds are not there; or
        there are more than ten million lanes.
    """
    axes = axes_of(cfg, split)
    base = Hparams(**cfg.hparams)
    search = SEARCHES[cfg.search.name]
    lanes = search(base, axes, **{key: cfg.search[key] for key in keys_of(search)})
    _refuse_folds(cfg, axes, split.num_folds)
    _refuse_test_folds(cfg, axes, split)
    return Job(cfg, axes, lanes)


def axes_of(cfg: DictConfig, split: Split) -> Axes:
    """The axes of the sweep, and one of the splits that repeat every setting.

    Raises:
      InputError: an axis has a value twice; `replicates` is given beside an axis of split_seed, or
        of a split that draws nothing; or one test fold is given where all are tested on.
    """
    axes = {str(key): list(values) for key, values in cfg.sweep.items() if values is not None}
    for key, values in axes.items():
        _refuse_twice(key, values)
    count = cfg.replicates
    if count is not None and count > 1:
        _refuse_replicates(axes, split)
    pooled = {"init_seed"} if cfg.ensemble else set()  # starts that are no replicates
    repeats = (REPEATING - pooled) & axes.keys()
    if split.num_tests > 1 and not repeats and count is None:
        _refuse_one_of_all(cfg, split)
        axes["test_fold"] = list(range(split.num_tests))
        count = 1
    if count is None:
        count = DEFAULT_REPLICATES if split.drawn and not repeats else 1
    if count > 1:
        first = cfg.hparams.split_seed
        axes["split_seed"] = list(range(first, first + count))
    return axes


def _refuse_twice(key: str, values: Sequence[float]) -> None:
    twice = [value for value, count in Counter(values).items() if count > 1]
    if twice:
        raise InputError(
            f"sweep.{key}: {twice[0]} stands twice: its lanes would be copies of one fit, and no "
            "replicates\nleave one out; replicates=3 repeats every setting on other splits"
        )


def _refuse_replicates(axes: Axes, split: Split) -> None:
    if "split_seed" in axes:
        raise InputError("replicates and sweep.split_seed say the same: leave out one of them")
    if not split.drawn:
        raise InputError(
            f"replicates has no effect: nothing of the split is drawn ({split.protocol})\n"
            "leave it out; sweep.fold=[0,1,2] repeats a setting on other folds"
        )


def _refuse_one_of_all(cfg: DictConfig, split: Split) -> None:
    if fold := cfg.hparams.test_fold:
        raise InputError(
            f"hparams.test_fold={fold} has no effect: split.name={cfg.split.name} tests on each of "
            f"its {split.num_tests} test folds in turn\nsweep.test_fold=[{fold}] takes it alone"
        )


def _refuse_folds(cfg: DictConfig, axes: Axes, num_folds: int) -> None:
    """Refuses folds that the split does not have, and lanes with and without validation."""
    folds = axes.get("fold", [cfg.hparams.fold])
    place = "sweep.fold" if "fold" in axes else "hparams.fold"
    for fold in folds:
        if fold >= max(num_folds, 1):
            raise InputError(
                f"{place}={fold}: split.name={cfg.split.name} has {num_folds} fold(s), "
                "counted from 0\ntake a lower fold, or as many by split.validation=5"
            )
    if NO_FOLD in folds and len(folds) > 1:
        raise InputError(
            f"sweep.fold={folds}: lanes that hold a fold out and lanes that do not cannot be "
            "compared\nleave out -2; refit=true trains what is chosen on all of them"
        )


def _refuse_test_folds(cfg: DictConfig, axes: Axes, split: Split) -> None:
    """Refuses test folds that the split does not have."""
    place = "sweep.test_fold" if "test_fold" in axes else "hparams.test_fold"
    for fold in axes.get("test_fold", [cfg.hparams.test_fold]):
        if fold >= split.num_tests:
            raise InputError(
                f"{place}={fold}: split.name={cfg.split.name} has {split.num_tests} test fold(s), "
                "counted from 0"
            )


def refuse_copies(job: Job, splits: Mapping[int, Split], starts: bool, orders: bool) -> None:
    """Refuses axes along which fits would be the same.

    Args:
      job: its axes and lanes.
      splits: by split_seed.
      starts: whether the first factors are given, and not drawn.
      orders: whether the method takes the ratings in an order that split_seed draws.

    Raises:
      InputError: split_seed or init_seed is swept, and of some lane nothing is drawn from it.
    """
    drawn = {
        "split_seed": orders or all(split.drawn for split in splits.values()),
        "init_seed": not starts and all(lane.rank and lane.init_scale for lane in job.lanes),
    }
    for key, is_drawn in drawn.items():
        if len(job.axes.get(key, [])) > 1 and not is_drawn:
            raise InputError(
                f"sweep.{key}: {NOT_DRAWN[key]}: lanes would be copies of one fit\nleave it out"
            )


# searches


def keys_of(search: Callable[..., list[Hparams]]) -> list[str]:
    """The keys of `search` that a row of SEARCHES reads, by its signature."""
    _, _, *own = inspect.signature(search).parameters
    return own


def _random(base: Hparams, axes: Axes, samples: int, seed: int) -> list[Hparams]:
    if not axes.keys() - REPEATING:
        raise InputError(
            "search.name=random has no axis to draw from\n"
            "give one with its least and greatest value: sweep.reg=[0.01,0.3]"
        )
    lanes = sample(base, axes, samples, seed)
    settings = len({lane.setting for lane in lanes})
    if settings < samples:
        log.warning(
            "%d of %d drawn settings coincide, and are trained once",
            samples - settings,
            samples,
        )
    return lanes


SEARCHES: dict[str, Callable[..., list[Hparams]]] = {"grid": grid, "random": _random}
