"""Successive halving against the full sweep of the same 256 settings: `python experiments/halving/halving.py`."""

import argparse
import csv
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from hydra import compose, initialize_config_dir
from matplotlib.figure import Figure

from mfjax.app import build as config
from mfjax.app import machine

FOLDER = Path(__file__).parent
SETTINGS = 256
SPACE = ("sweep.learning_rate=[0.002,0.05]", "sweep.reg=[0.02,0.3]", "sweep.reg_bias=[0.005,0.1]")
COMMON = ("+exp=movielens", "sweep=none", *SPACE, "sweep.data_seed=[0,1,2]", "search.kind=random", f"search.samples={SETTINGS}")
TOGETHER = 16  # settings that the full sweep trains before the next point of its curve


def main() -> None:
    """Train both, and write their curves and what they reached."""
    parser = argparse.ArgumentParser(description="Train 256 settings to their ends, and by successive halving.")
    parser.add_argument("--eta", type=int, default=4, help="the best 1/eta train on")
    parser.add_argument("--first", type=int, default=6, help="epochs before the first are dropped")
    arguments = parser.parse_args()
    halving = (f"search.eta={arguments.eta}", f"search.first={arguments.first}")
    config.register()
    with initialize_config_dir(str(config.CONF), version_base="1.3"):
        cfgs = [compose("config", [*COMMON, "compilation_cache=false", *more]) for more in ((), halving)]
    machine.set_up(cfgs[0])
    full, halved = (build(cfg) for cfg in cfgs)
    curves = {"full sweep": full.train_all(), "successive halving": halved.halve_all()}
    write(curves)


@dataclass
class Timed:
    """An experiment, and its best criterion (mean validation RMSE over the splits) so far by seconds since it began."""

    experiment: config.Experiment
    began: float = field(default_factory=time.perf_counter)
    points: list[tuple[float, float]] = field(default_factory=list)
    epochs: int = 0

    def note(self, criteria: Sequence[float]) -> None:
        best = min([*criteria, *(self.points[-1][1:] if self.points else ())])
        self.points.append((time.perf_counter() - self.began, best))

    def train_all(self) -> "Timed":
        """The full sweep, a share of its settings after another."""
        from mfjax.training.protocol import settings_of
        from mfjax.training.sweep import Lane

        sweep, lanes = self.experiment.sweep, self.experiment.lanes
        share = TOGETHER * len(sweep.problems)
        sweep.width = share
        self.began = time.perf_counter()
        for first in range(0, len(lanes), share):
            fits = sweep.train([Lane(hparams, sweep.schedule.epochs) for hparams in lanes[first : first + share]])
            self.epochs += sum(len(fit.history.loss) for fit in fits)
            self.note([setting.criterion for setting in settings_of(fits, "validation_rmse")])
        return self

    def halve_all(self) -> "Timed":
        """Successive halving, each rung as it ends."""
        from mfjax.training.search import halve

        sweep, advance = self.experiment.sweep, self.experiment.sweep.advance

        def timed(lanes, tracks, width, watch):
            after = advance(lanes, tracks, width, watch)
            criteria = {}
            for lane, track in zip(lanes, after, strict=True):
                rmse = float(track.run.best_metric) if track.run.alive else np.inf
                criteria.setdefault(lane.hparams.setting, []).append(rmse)
            self.note([float(np.mean(of)) for of in criteria.values()])
            return after

        sweep.advance, sweep.width = timed, TOGETHER * len(sweep.problems)
        self.began = time.perf_counter()
        fits = halve(sweep, self.experiment.lanes, self.experiment.halving)
        self.epochs = sum(len(fit.history.loss) for fit in fits)
        return self


def build(cfg) -> Timed:
    return Timed(config.build(cfg))


def write(curves: dict[str, Timed]) -> None:
    """The curves as CSV, what they reached as JSON, and both as a plot."""
    with (FOLDER / "halving.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["search", "seconds", "best_validation_rmse"])
        writer.writerows([name, round(s, 2), round(rmse, 6)] for name, timed in curves.items() for s, rmse in timed.points)
    full, halved = curves.values()
    reached = {
        name: {
            "seconds": round(timed.points[-1][0], 1),
            "validation_rmse": round(timed.points[-1][1], 6),
            "epochs": timed.epochs,
            "compilations": timed.experiment.sweep.compilations,
            "compile_seconds": round(timed.experiment.sweep.compile_seconds, 1),
        }
        for name, timed in curves.items()
    }
    reached["share_of_the_time"] = round(halved.points[-1][0] / full.points[-1][0], 3)
    reached["validation_rmse_above"] = round(halved.points[-1][1] - full.points[-1][1], 6)
    reached["settings"], reached["cpus"] = SETTINGS, os.cpu_count()
    print(json.dumps(reached, indent=2))
    (FOLDER / "halving.json").write_text(json.dumps(reached, indent=2) + "\n")
    draw(curves).savefig(FOLDER / "halving.png", dpi=150)


def draw(curves: dict[str, Timed]) -> Figure:
    """Best validation RMSE so far by seconds."""
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    panel = figure.subplots()
    for (name, timed), color, marker in zip(curves.items(), ("#0072B2", "#D55E00"), ("o", "s"), strict=True):
        seconds, rmse = zip(*timed.points, strict=True)
        panel.step(seconds, rmse, where="post", color=color, marker=marker, label=name)
    panel.axhline(
        curves["full sweep"].points[-1][1] + 0.001, color="0.5", linestyle=":", label="0.001 above the full sweep's best"
    )
    panel.set(xlabel="seconds, compilation included", ylabel="best mean validation RMSE so far", xlim=(0, None))
    panel.set_title(f"{SETTINGS} settings of biased factorisation on ml-latest-small, 3 splits")
    panel.legend()
    return figure


if __name__ == "__main__":
    main()
