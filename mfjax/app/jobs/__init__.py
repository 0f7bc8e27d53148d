"""The jobs, a module each.

`run(cfg, folder, began)` writes its results to `folder` and says whether its checks passed.
"""

import importlib
from contextlib import nullcontext
from pathlib import Path

import jax
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from mfjax.app import machine
from mfjax.app.check import check, shadowed
from mfjax.app.folders import RESULTS, make_room, owning
from mfjax.app.handover import Nothing, handed_over
from mfjax.app.ignored import refuse_idle
from mfjax.app.schema import JOBS
from mfjax.app.session import is_multirun
from mfjax.errors import CheckFailed
from mfjax.metrics import metric_of
from mfjax.training.whole import read_json

__all__ = ["JOBS", "run"]


def run(cfg: DictConfig, began: float) -> float | None:
    """Run one job in Hydra's output folder; what a sweeper may minimise.

    That is the mean of `choose_by` of what the job chose, or less it where higher is better; None
    of a job that chooses nothing. Raises InputError for a wrong input, and CheckFailed where a
    figure did not come out.
    """
    check(cfg)
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    machine.set_up(cfg)
    refuse_idle(cfg, hydra.overrides.task)
    if cfg.plots.draw is None:
        cfg.plots.draw = not is_multirun()  # which has its own, over all jobs
    from mfjax.app import terminal

    for line in shadowed(cfg, hydra.overrides.task):
        terminal.warn(line)
    job = importlib.import_module(f"mfjax.app.jobs.{cfg.job.name}")
    is_first = jax.process_index() == 0  # of several processes, which share the folder
    with owning(folder) if is_first else nullcontext():
        if is_multirun() and handed_over() == Nothing():  # else it has been seen to
            make_room(cfg, folder)
        if not job.run(cfg, folder, began):
            raise CheckFailed(f"a figure did not come out: {folder}")
    return _score(folder, cfg.choose_by)


def _score(folder: Path, choose_by: str) -> float | None:
    results = folder / RESULTS
    if not results.is_file():  # of a process that leaves the writing to another
        return None
    metrics = read_json(results).get("metrics", {})
    mean = metrics.get(choose_by, {}).get("mean")
    return None if mean is None else metric_of(choose_by).sign * mean
