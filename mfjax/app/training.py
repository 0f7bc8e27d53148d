"""Training experiments under a progress bar, and knowing a run again."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig

from mfjax.app import terminal
from mfjax.app.ahead import importing
from mfjax.app.build import Experiment
from mfjax.app.folders import finished_result
from mfjax.memory import refuse_beyond_memory
from mfjax.reporting.files import as_json
from mfjax.training.checkpoint import Checkpoints, another_run, differing
from mfjax.training.protocol import Outcome, tune_jobs

PLOTTED = 150  # bytes that a plot of predictions takes a rating
BACKENDS = {"png": "agg"}  # of matplotlib, where they are not called as their format


class Trained(NamedTuple):
    """What came of an experiment, the seconds it took, and how many jobs were trained at once."""

    experiment: Experiment
    outcome: Outcome
    seconds: dict[str, float]
    jobs: int


def train(
    cfgs: Sequence[DictConfig],
    experiments: Sequence[Experiment],
    checkpoints: Checkpoints | None = None,
) -> list[Trained]:
    """Tune the experiments of configs, which share one sweep."""
    for cfg, experiment in zip(cfgs, experiments, strict=True):
        _refuse_large_plots(cfg, experiment)
    first = experiments[0]
    sweep = first.sweep
    sweep.checkpoints = checkpoints
    compiled_before = sweep.compile_seconds
    began = time.perf_counter()
    lanes = _in_words(experiments)
    cfg = cfgs[0]
    with (
        terminal.progress(sweep, f"{cfg.method.name}, {lanes}") as shown,
        importing(_needed_later(cfg), shown) as on_progress,
    ):
        jobs = [experiment.lanes for experiment in experiments]
        outcomes = tune_jobs(sweep, jobs, cfg.refit, on_progress, first.halving, cfg.ensemble)
    if checkpoints and checkpoints.restored:
        terminal.say(f"went on from {checkpoints.restored} checkpoint(s)")
    took = time.perf_counter() - began
    compiling = sweep.compile_seconds - compiled_before
    seconds = {
        "compile": compiling,
        "train": took - compiling,
        "checkpoints": checkpoints.spent if checkpoints else 0.0,
    }
    return [
        Trained(experiment, outcome, dict(seconds), len(experiments))
        for experiment, outcome in zip(experiments, outcomes, strict=True)
    ]


def _needed_later(cfg: DictConfig) -> list[str]:
    """The modules that intervals and plots need, which take as long to import as jax."""
    needed = ["scipy.special"]
    if cfg.plots.draw:
        backends = [BACKENDS.get(kind, kind) for kind in cfg.plots.format]
        needed += ["mfjax.reporting.plots"]
        needed += [f"matplotlib.backends.backend_{name}" for name in backends]
    return needed


def _refuse_large_plots(cfg: DictConfig, experiment: Experiment) -> None:
    """Raises OutOfMemory where the plot of the predictions would not fit, before any is made."""
    if not cfg.plots.draw:
        return
    problems = experiment.sweep.plan.problems.values()
    plotted = max(len(one.test.value) or len(one.ratings.value) for one in problems)
    what = f"the plots of {plotted:,} predictions"
    refuse_beyond_memory(PLOTTED * plotted, what, "plots.draw=false", on_host=True)


def _in_words(experiments: Sequence[Experiment]) -> str:
    """How many lanes there are to train, each once."""
    lanes = {lane for experiment in experiments for lane in experiment.lanes}
    return f"{len(lanes)} lane{'s' * (len(lanes) > 1)}"


def is_finished(folder: Path, identity: Mapping[str, Any]) -> bool:
    """Whether `folder` has the results of this very run.

    Raises CheckpointError where it has those of another.
    """
    found = finished_result(folder)
    if found is None:
        return False
    theirs = found["run"]
    ours = as_json(identity)
    if differing(theirs, ours):
        raise another_run(folder, theirs, ours)
    return True
