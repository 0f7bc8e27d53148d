"""The autograd walk-through: the loss and gradient of D ≈ C F, one step, and ten thousand more, digit by digit."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from mfjax.app import build as config
from mfjax.app import terminal as report
from mfjax.checks.compare import Point, gradient_at
from mfjax.gradients import GRADIENTS
from mfjax.reporting import files as results
from mfjax.training.epochs import Schedule
from mfjax.training.program import Lane
from mfjax.training.sweep import Fit, Sweep
from mfjax.types import Factors, Hparams

FIRST_STEP = 0.01  # the learning rate of the one step that the text prints


def run(cfg: DictConfig, folder: Path, began: float) -> bool:
    """Print every figure of the text beside ours and write them to `folder`; False where one did not come out."""
    experiment = config.build(cfg)
    sweep, lane = experiment.sweep, experiment.lanes[0]
    start = sweep.warm
    assert start is not None  # the experiment writes C and F out
    one = steps(sweep, lane._replace(learning_rate=FIRST_STEP), start, 1)
    many = steps(sweep, lane, one.factors, cfg.epochs)
    point = Point(sweep.spec, sweep.problems[lane.data_seed].ratings, start, Hparams.of(cfg.dtype, **lane._asdict()))
    gradient = gradient_at(GRADIENTS[cfg.gradient], point)
    product = many.factors.user @ many.factors.item.T
    printed = [1, *range(cfg.epochs // 10, cfg.epochs + 1, cfg.epochs // 10)]
    figures: dict[str, Any] = {
        "loss": one.history.loss[0],
        "gradient": named(gradient),
        "one_step": {**named(one.factors), "loss": many.history.loss[0]},
        "descent": {"loss": [many.history.loss[step - 1] for step in printed], "CF": product},
    }
    data = np.empty_like(product)
    data[experiment.dataset.user, experiment.dataset.item] = experiment.dataset.value
    figures["descent"]["difference"] = product - data
    if cfg.plots:
        from mfjax.reporting import plots

        plots.save(plots.matrices(data, product, np.zeros(data.shape, bool)), folder, "matrices")
    seconds = {"total": time.perf_counter() - began}
    about = {"experiment": report.experiment_name(), "conventions": experiment.conventions, "seconds": seconds}
    results.write_json(folder / "results.json", about | {"figures": figures, "provenance": results.provenance()})
    as_expected = report.meets_expectations(cfg, results.plain(figures))
    report.say("CF − D:\n" + np.array2string(figures["descent"]["difference"], precision=4, suppress_small=True))
    report.say(f"Files: {folder}")
    return as_expected


def steps(sweep: Sweep, hparams: Hparams, start: Factors, epochs: int) -> Fit:
    """So many full-batch steps from `start`."""
    schedule = Schedule(epochs, eval_every=epochs, chunk=epochs)
    (fit,) = replace(sweep, schedule=schedule, warm=start, programs={}).train([Lane(hparams, epochs)])
    return fit._replace(factors=Factors(*(side[:, : hparams.rank] for side in fit.factors)))


def named(factors: Factors) -> dict[str, np.ndarray]:
    """In the letters and shapes of the text: C `[n, k]` and F `[k, m]`."""
    return {"C": factors.user, "F": factors.item.T}
