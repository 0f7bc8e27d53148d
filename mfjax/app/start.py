"""`init.path`: training that starts from the model of a folder."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from mfjax.data.dataset import Dataset
from mfjax.errors import InputError
from mfjax.losses import LINKS, link_of
from mfjax.model import FACTORS, Model, load
from mfjax.training.lanes import Plan
from mfjax.types import NO_FOLD, Hparams


def model_to_start(cfg: DictConfig) -> Model:
    """The model of `init.path`. Raises InputError where it is of another kind."""
    file = Path(cfg.init.path).expanduser() / FACTORS
    written = file.stat().st_mtime_ns if file.is_file() else 0
    model = _loaded(cfg.init.path, written)
    for rank in cfg.sweep.rank or [cfg.hparams.rank]:
        if rank != (own := model.user_factors.shape[1]):
            raise InputError(
                f"init.path={cfg.init.path}: expected a model of rank {rank}, got rank {own}\n"
                f"set hparams.rank={own}, or start without it"
            )
    if cfg.bias != model.bias:
        has = "has" if model.bias else "has no"
        own = str(bool(model.bias)).lower()
        raise InputError(f"init.path={cfg.init.path}: its model {has} biases: set bias={own}")
    if link_of(cfg.loss) is not LINKS[str(model.link)]:
        raise InputError(
            f"init.path={cfg.init.path}: its model is of loss={model.loss}, whose factors are on "
            f"another scale than those of loss={cfg.loss}\nstart without it"
        )
    return model


@lru_cache(maxsize=1)  # the jobs of a multirun have one
def _loaded(folder: str, written: int) -> Model:
    return load(folder)


def start_in_words(cfg: DictConfig, dataset: Dataset) -> str:
    """Which rows start where the model of `init.path` has them; empty without one."""
    if cfg.init.path is None:
        return ""
    model = model_to_start(cfg)
    counts = [
        f"{np.isin(ours, theirs).sum():,} of {len(ours):,} {what}"
        for what, ours, theirs in (
            ("users", dataset.user_ids, model.user_ids),
            ("items", dataset.item_ids, model.item_ids),
        )
    ]
    return f"{' and '.join(counts)} as in {cfg.init.path}, the others at 0"


def refuse_seen(cfg: DictConfig, dataset: Dataset, plan: Plan, lanes: Sequence[Hparams]) -> None:
    """Raises InputError where the model of `init.path` was trained on what is held out here."""
    if cfg.init.path is None:
        return
    model = model_to_start(cfg)
    for cut, problem in plan.problems.items():
        folds = {lane.fold for lane in lanes if lane.cut == cut} - {NO_FOLD}
        ratings = problem.ratings
        validates = np.isin(ratings.fold, list(folds))
        held_out = {
            "test": (problem.test.user, problem.test.item),
            "validation": (ratings.user[validates], ratings.item[validates]),
        }
        for part, (user, item) in held_out.items():
            seen = model.seen(dataset.user_ids[user], dataset.item_ids[item])
            if count := np.sum(seen):
                raise InputError(
                    f"init.path={cfg.init.path}: its model was trained on {count:,} of the "
                    f"{len(user):,} {part} ratings\nof split_seed {cut[0]}, whose error would be "
                    "too low: take a model of other ratings, or split=all"
                )
