"""Training experiments under a progress bar, and knowing a run again."""

import json
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig

from mfjax.app import terminal
from mfjax.app.build import Experiment
from mfjax.reporting.provenance import digest_of_run
from mfjax.training.checkpoint import Checkpoints
from mfjax.training.protocol import Outcome, tune_jobs


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
    first = experiments[0]
    sweep = first.sweep
    sweep.checkpoints = checkpoints
    compiled_before = sweep.compile_seconds
    began = time.perf_counter()
    lanes = _in_words(experiments)
    cfg = cfgs[0]
    with terminal.progress(sweep, f"{cfg.method.name}, {lanes}") as on_progress:
        jobs = [experiment.lanes for experiment in experiments]
        outcomes = tune_jobs(sweep, jobs, cfg.refit, on_progress, first.halving)
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


def _in_words(experiments: Sequence[Experiment]) -> str:
    """How many lanes there are to train, each once."""
    lanes = {lane for experiment in experiments for lane in experiment.lanes}
    return f"{len(lanes)} lane{'s' * (len(lanes) > 1)}"


def run_identity(config_values: dict[str, Any], experiment: Experiment) -> dict[str, Any]:
    """What a result or a checkpoint is of: values of the config, the data and the version."""
    return config_values | {"data": experiment.dataset.sha256, "mfjax": version("mfjax")}


def is_finished(folder: Path, identity: dict[str, Any]) -> bool:
    """Whether `folder` has the results of this very run."""
    path = folder / "results.json"
    if not path.is_file():
        return False
    found = json.loads(path.read_text())
    return found.get("status") == "finished" and found.get("digest") == digest_of_run(identity)
