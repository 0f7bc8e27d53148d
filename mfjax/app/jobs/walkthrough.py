"""The autograd walk-through, digit by digit.

The loss and gradient of D ≈ C F, one step, and ten thousand more.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from mfjax.app import terminal
from mfjax.app.build import Experiment, build, build_gradient
from mfjax.app.contracts import hold_to_contracts
from mfjax.app.drawing import saving_of
from mfjax.app.jobs.train import ratings_matrix
from mfjax.checks.compare import gradient_at
from mfjax.checks.points import Point
from mfjax.training.epochs import Schedule
from mfjax.training.lanes import Fit, Lane
from mfjax.training.sweep import Sweep
from mfjax.types import Factors, Hparams

FIRST_STEP = 0.01  # the learning rate of the one step that the text prints


def run(cfg: DictConfig, folder: Path, began: float) -> bool:
    """Print every figure of the text beside ours and write them to `folder`.

    False where one did not come out.
    """
    hold_to_contracts(cfg)
    experiment = build(cfg)
    terminal.say_data(experiment.dataset, experiment.start)
    data = ratings_matrix(experiment.dataset)
    figures = figures_of(cfg, experiment)
    descent = figures["descent"]
    if cfg.plots.draw:
        from mfjax.reporting import plots

        none_missing = np.zeros(data.shape, bool)
        figure = plots.matrices(data, descent["CF"], none_missing)
        plots.save(figure, folder, "matrices", saving_of(cfg))
    difference = descent["difference"]
    shown = np.array2string(difference, precision=4, suppress_small=True)
    terminal.say(f"CF − D:\n{shown}")
    content = {"conventions": experiment.conventions, "figures": figures}
    return terminal.finish(cfg, folder, began, content=content, figures=figures)


def figures_of(cfg: DictConfig, experiment: Experiment) -> dict[str, Any]:
    """Every figure of the text, as we have it."""
    sweep = experiment.sweep
    hparams = experiment.lanes[0]
    start = sweep.plan.warm
    assert start is not None  # the experiment writes C and F out
    one = steps(sweep, hparams._replace(learning_rate=FIRST_STEP), start, 1)
    many = steps(sweep, hparams, one.factors, cfg.epochs)
    tenth = cfg.epochs // 10
    printed = [1, *range(tenth, cfg.epochs + 1, tenth)]
    product = many.factors.user @ many.factors.item.T
    loss = many.history["loss"]
    return {
        "loss": one.history["loss"][0],
        "gradient": named(gradient_of(cfg, experiment)),
        "one_step": named(one.factors) | {"loss": loss[0]},
        "descent": {
            "loss": [loss[step - 1] for step in printed],
            "CF": product,
            "difference": product - ratings_matrix(experiment.dataset),
        },
    }


def gradient_of(cfg: DictConfig, experiment: Experiment) -> Factors:
    """The gradient at C and F as they are written out."""
    plan = experiment.sweep.plan
    hparams = experiment.lanes[0]
    ratings = plan.problems[hparams.cut].ratings
    traced = Hparams.of(cfg.dtype, **hparams._asdict())
    point = Point(plan.spec, ratings, plan.warm, traced)
    return gradient_at(build_gradient(cfg), point)


def steps(sweep: Sweep, hparams: Hparams, start: Factors, epochs: int) -> Fit:
    """So many full-batch steps from `start`."""
    schedule = Schedule(epochs, eval_every=epochs, epochs_per_call=epochs)
    plan = replace(sweep.plan, schedule=schedule, warm=start)
    anew = replace(sweep, plan=plan, programs={})
    (fit,) = anew.train([Lane(hparams, epochs)])
    in_rank = (table[:, : hparams.rank] for table in fit.factors)
    return fit._replace(factors=Factors(*in_rank))


def named(factors: Factors) -> dict[str, Any]:
    """In the letters and shapes of the text: C `[n, k]` and F `[k, m]`."""
    return {"C": factors.user, "F": factors.item.T}
