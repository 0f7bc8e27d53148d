"""The jobs, a module each: `run(cfg, folder, began)` writes its results to `folder` and says whether its checks passed."""

import importlib
import json
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from mfjax.app import build as config
from mfjax.app import machine
from mfjax.errors import CheckFailed

JOBS = sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))


def is_multirun() -> bool:
    """Whether this is one job of several."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def run(cfg: DictConfig, began: float) -> float | None:
    """Run one job in Hydra's output folder; the validation RMSE of what it chose, which a sweeper may minimise.

    Raises InputError for a wrong input, and CheckFailed where a figure did not come out.
    """
    config.check(cfg)
    config.choose("job", dict.fromkeys(JOBS), cfg.job)
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    if cfg.plots is None:
        cfg.plots = not is_multirun()  # which has its own, over all jobs
    machine.set_up(cfg)
    from mfjax.app import terminal as report

    for line in config.shadowed(cfg, hydra.overrides.task):
        report.warn(line)
    if not importlib.import_module(f"mfjax.app.jobs.{cfg.job}").run(cfg, folder, began):
        raise CheckFailed(f"a figure did not come out: {folder}")
    results = folder / "results.json"
    metrics = json.loads(results.read_text()).get("metrics", {}) if results.is_file() else {}
    return metrics.get("validation_rmse", {}).get("mean")
