"""The points at which a config's gradients are compared and timed."""

from dataclasses import replace
from typing import Any

import jax
from omegaconf import DictConfig

from mfjax.app.build import build_hparams, build_spec, build_tiling
from mfjax.checks.points import Point, full_point, small_point
from mfjax.data.dataset import Dataset
from mfjax.losses import refuse_ratings


def small(cfg: DictConfig, **changes: Any) -> Point:
    """The small problem of the config, in float64; `changes` are to its Spec."""
    job = cfg.job
    spec = replace(build_spec(cfg, 1, 1), **changes)
    hparams = build_hparams(cfg)
    return small_point(spec, hparams, job.small_users, job.small_items, job.small_rank)


def full(cfg: DictConfig, dataset: Dataset, **changes: Any) -> Point:
    """The data at hand, nothing held out; `changes` are to its Spec.

    Tiles share its rows out over the devices.
    """
    whole = build_spec(cfg, dataset.num_users, dataset.num_items)
    spec = replace(whole, **changes)
    tiling = build_tiling(cfg, dataset, spec)
    shared_out = replace(tiling, shards=len(jax.local_devices()))
    spec = replace(spec, tiling=shared_out)
    ratings = dataset.ratings(dtype=spec.dtype)
    refuse_ratings(spec.loss, ratings)
    return full_point(spec, ratings, build_hparams(cfg))
