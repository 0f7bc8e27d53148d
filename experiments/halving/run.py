"""Successive halving against the full sweep of the same 256 settings.

`python experiments/halving/run.py`; README.md says what came out.
"""

import argparse
import csv
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from hydra import compose, initialize_config_dir
from matplotlib.figure import Figure
from omegaconf import DictConfig

from mfjax.app import CONF, machine, schema
from mfjax.app.build import Experiment, build
from mfjax.training.lanes import Lane, OnProgress, Track, unwatched
from mfjax.training.protocol import settings_of
from mfjax.training.search import halve

FOLDER = Path(__file__).parent
SETTINGS = 256
COMMON = (
    "+exp=movielens",
    "sweep=none",
    "sweep.learning_rate=[0.002,0.05]",
    "sweep.reg=[0.02,0.3]",
    "sweep.reg_bias=[0.005,0.1]",
    "sweep.split_seed=[0,1,2]",
    "search.name=random",
    f"search.samples={SETTINGS}",
    "compilation_cache=false",
)
TOGETHER = 16  # settings that the full sweep trains before the next point of its curve
STYLES = (  # of a curve
    {"color": "#0072B2", "marker": "o"},
    {"color": "#D55E00", "marker": "s"},
)


def main() -> None:
    """Train both, and write their curves and what they reached."""
    parser = argparse.ArgumentParser(
        description="Train 256 settings to their ends, and by successive halving."
    )
    add = parser.add_argument
    add("--eta", type=int, default=4, help="the best 1/eta train on")
    add("--first", type=int, default=6, help="epochs before the first are dropped")
    arguments = parser.parse_args()
    schema.register()
    of_full = composed()
    of_halved = composed(f"search.eta={arguments.eta}", f"search.first={arguments.first}")
    machine.set_up(of_full)
    full = Timed(build(of_full))
    halved = Timed(build(of_halved))
    full.train_all()
    halved.halve_all()
    curves = {"full sweep": full, "successive halving": halved}
    write_curves(curves)
    write_reached(curves)
    draw(curves).savefig(FOLDER / "halving.png", dpi=150)


def composed(*more: str) -> DictConfig:
    """The config of the experiment, as the command composes it."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", [*COMMON, *more])


@dataclass
class Timed:
    """An experiment, and its best criterion so far by seconds since it began.

    The criterion is the mean validation RMSE over the splits.
    """

    experiment: Experiment
    began: float = 0.0
    points: list[tuple[float, float]] = field(default_factory=list)
    epochs: int = 0

    @property
    def seconds(self) -> float:
        """Of the whole."""
        return self.points[-1][0]

    @property
    def best(self) -> float:
        """The best criterion in the end."""
        return self.points[-1][1]

    def note(self, criteria: Sequence[float]) -> None:
        """A point of the curve."""
        before = [self.best] if self.points else []
        self.points.append((time.perf_counter() - self.began, min([*criteria, *before])))

    def train_all(self) -> None:
        """The full sweep, a share of its settings after another."""
        sweep = self.experiment.sweep
        share = TOGETHER * len(sweep.plan.problems)
        sweep.lanes_per_program = share
        epochs = sweep.plan.schedule.epochs
        lanes = [Lane(hparams, epochs) for hparams in self.experiment.lanes]
        self.began = time.perf_counter()
        for first in range(0, len(lanes), share):
            fits = sweep.train(lanes[first : first + share])
            self.epochs += sum(len(fit.history["loss"]) for fit in fits)
            self.note([setting.score for setting in settings_of(fits, "validation_rmse")])

    def halve_all(self) -> None:
        """Successive halving, each rung as it ends."""
        sweep = self.experiment.sweep
        advance = sweep.advance

        def timed(
            lanes: Sequence[Lane],
            tracks: Sequence[Track] | None,
            lanes_per_program: int,
            on_progress: OnProgress = unwatched,
        ) -> list[Track]:
            after = advance(lanes, tracks, lanes_per_program, on_progress)
            self.note(criteria_of(lanes, after))
            return after

        sweep.advance = timed
        sweep.lanes_per_program = TOGETHER * len(sweep.plan.problems)
        halving = self.experiment.halving
        assert halving is not None  # as the config says
        self.began = time.perf_counter()
        fits = halve(sweep, self.experiment.lanes, halving)
        self.epochs = sum(len(fit.history["loss"]) for fit in fits)


def criteria_of(lanes: Sequence[Lane], tracks: Sequence[Track]) -> list[float]:
    """The mean of the best validation RMSE of each setting; infinite where a lane diverged."""
    scores: dict[tuple, list[float]] = {}
    for lane, track in zip(lanes, tracks, strict=True):
        score = float(track.run.best_score) if track.run.alive else np.inf
        scores.setdefault(lane.hparams.setting, []).append(score)
    return [float(np.mean(of_setting)) for of_setting in scores.values()]


def write_curves(curves: dict[str, Timed]) -> None:
    """The curves as CSV."""
    with (FOLDER / "halving.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["search", "seconds", "best_validation_rmse"])
        for name, timed in curves.items():
            for seconds, rmse in timed.points:
                writer.writerow([name, round(seconds, 2), round(rmse, 6)])


def write_reached(curves: dict[str, Timed]) -> None:
    """What both reached as JSON."""
    full, halved = curves.values()
    reached: dict[str, Any] = {name: reached_by(timed) for name, timed in curves.items()}
    reached["share_of_the_time"] = round(halved.seconds / full.seconds, 3)
    reached["validation_rmse_above"] = round(halved.best - full.best, 6)
    reached["settings"] = SETTINGS
    reached["cpus"] = os.cpu_count()
    text = json.dumps(reached, indent=2)
    print(text)
    (FOLDER / "halving.json").write_text(text + "\n")


def reached_by(timed: Timed) -> dict[str, float]:
    """What one search came to."""
    sweep = timed.experiment.sweep
    return {
        "seconds": round(timed.seconds, 1),
        "validation_rmse": round(timed.best, 6),
        "epochs": timed.epochs,
        "compilations": sweep.compilations,
        "compile_seconds": round(sweep.compile_seconds, 1),
    }


def draw(curves: dict[str, Timed]) -> Figure:
    """Best validation RMSE so far by seconds."""
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for (name, timed), style in zip(curves.items(), STYLES, strict=True):
        seconds, rmse = zip(*timed.points, strict=True)
        axes.step(seconds, rmse, where="post", label=name, **style)
    near = curves["full sweep"].best + 0.001
    label = "0.001 above the full sweep's best"
    axes.axhline(near, color="0.5", linestyle=":", label=label)
    axes.set(
        xlabel="seconds, compilation included",
        ylabel="best mean validation RMSE so far",
        xlim=(0, None),
    )
    what = f"{SETTINGS} settings of biased factorisation"
    axes.set_title(f"{what} on ml-latest-small, 3 splits")
    axes.legend()
    return figure


if __name__ == "__main__":
    main()
