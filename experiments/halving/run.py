"""Successive halving against the full sweep of the same settings.

`python experiments/halving/run.py`; README.md says what came out.
"""

import argparse
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from report import TOGETHER, Ran, Row, compared, draw, over_orders, pays_from

import mfjax
from mfjax.app import CONF, machine, schema
from mfjax.app.build import Experiment, build
from mfjax.reporting.course import say
from mfjax.reporting.files import write_csv, write_json
from mfjax.training.lanes import Fit, Lane, OnProgress, Track, unwatched
from mfjax.training.protocol import settings_of
from mfjax.training.search import halve

FOLDER = Path(__file__).parent
SIZES = (16, 32, 64, 128, 256)  # settings, the first of the same draws
COMMON = (
    "+exp=movielens",
    "sweep=none",
    "sweep.learning_rate=[0.002,0.05]",
    "sweep.reg=[0.02,0.3]",
    "sweep.reg_bias=[0.005,0.1]",
    "sweep.split_seed=[0,1,2]",
    "search.name=random",
    "compilation_cache=false",
)


def main() -> None:
    """Time both at every size, and write the curves of the largest and what all came to."""
    arguments = parse()
    schema.register()
    machine.set_up(composed(arguments))
    sizes = []
    largest = []
    for size in sorted(arguments.sizes):
        largest = [median_of(runs) for runs in zip(*rounds(size, arguments), strict=True)]
        sizes.append(compared(size, *largest))
        say(*(f"{key} {value}" for key, value in sizes[-1].items()))
    full, halved = largest
    curves = [*over_orders(full), *(row | {"search": "halving"} for row in halved.rows)]
    reached = {"sizes": sizes, "pays_from": pays_from(sizes), "cpus": os.cpu_count()}
    write_csv(arguments.output / "settings.csv", full.rows)
    write_csv(arguments.output / "halving.csv", curves)
    write_json(arguments.output / "halving.json", reached)
    figure = draw(curves, sizes)
    mfjax.plots.save(figure, arguments.output, "halving", mfjax.plots.Saving(format=("png",)))
    say(f"halving pays from {reached['pays_from']} settings")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description="Train settings to their ends, and by successive halving."
    )
    add = parser.add_argument
    add("--eta", type=int, default=4, help="the best 1/eta train on")
    add("--first", type=int, default=6, help="epochs before the first are dropped")
    add("--sizes", type=int, nargs="+", default=SIZES, help="numbers of settings")
    add("--rounds", type=int, default=3, help="of each size, of which the median is taken")
    add("--output", type=Path, default=FOLDER, help="folder of the results")
    return parser.parse_args()


def composed(arguments: argparse.Namespace, *more: str) -> DictConfig:
    """The config of the experiment, as the command composes it."""
    samples = f"search.samples={max(arguments.sizes)}"
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", [*COMMON, samples, *more])


def rounds(size: int, arguments: argparse.Namespace) -> Iterator[tuple[Ran, Ran]]:
    """Both searches of the first `size` settings in turn, each compiled anew."""
    halving = (f"search.eta={arguments.eta}", f"search.first={arguments.first}")
    for number in range(1, arguments.rounds + 1):
        what = f"{size} settings, round {number} of {arguments.rounds}"
        full = full_sweep(build(composed(arguments)), size, f"full sweep, {what}")
        halved = halving_of(build(composed(arguments, *halving)), size, f"halving, {what}")
        yield full, halved


def median_of(runs: Sequence[Ran]) -> Ran:
    """The run of median seconds."""
    return sorted(runs, key=lambda run: run.seconds)[len(runs) // 2]


# the two searches


def full_sweep(experiment: Experiment, size: int, what: str) -> Ran:
    """Every setting to its end, a block of them after another."""
    sweep = experiment.sweep
    splits = len(sweep.plan.problems)
    epochs = sweep.plan.schedule.epochs
    lanes = [Lane(hparams, epochs) for hparams in experiment.lanes[: size * splits]]
    sweep.lanes_per_program = share = min(TOGETHER, size) * splits
    rows = []
    with mfjax.progress(sweep, what) as on_progress:
        for first in range(0, len(lanes), share):

            def ahead(now: mfjax.Progress, first: int = first) -> None:
                done = first * epochs + now.done
                on_progress(now._replace(done=done, total=len(lanes) * epochs))

            compiled = sweep.compile_seconds
            began = time.perf_counter()
            fits = sweep.train(lanes[first : first + share], ahead)
            took = time.perf_counter() - began - (sweep.compile_seconds - compiled)
            rows += block_rows(fits, took)
    return Ran(
        seconds=sweep.compile_seconds + sum(row["seconds"] for row in rows),
        epochs=sum(row["epochs"] for row in rows),
        best=min(row["validation_rmse"] for row in rows),
        compilations=sweep.compilations,
        compile_seconds=sweep.compile_seconds,
        rows=rows,
    )


def block_rows(fits: Sequence[Fit], seconds: float) -> list[Row]:
    """A row a setting of a block, which took its share of the seconds by its epochs."""
    in_all = epochs_of(fits)
    rows = []
    for setting in settings_of(fits, "validation_rmse"):
        epochs = epochs_of(setting.fits)
        reached = {"epochs": epochs, "validation_rmse": setting.score}
        rows.append(setting.hparams | reached | {"seconds": seconds * epochs / in_all})
    return rows


def epochs_of(fits: Sequence[Fit]) -> int:
    return sum(len(fit.history["loss"]) for fit in fits)


def halving_of(experiment: Experiment, size: int, what: str) -> Ran:
    """Successive halving, with a row a rung as it ends."""
    sweep = experiment.sweep
    advance = sweep.advance
    splits = len(sweep.plan.problems)
    rows: list[Row] = []

    def timed(
        lanes: Sequence[Lane],
        tracks: Sequence[Track] | None,
        lanes_per_program: int,
        on_progress: OnProgress = unwatched,
    ) -> list[Track]:
        after = advance(lanes, tracks, lanes_per_program, on_progress)
        best = min([*criteria_of(lanes, after), *(row["validation_rmse"] for row in rows)])
        rows.append({"seconds": time.perf_counter() - began, "validation_rmse": best})
        return after

    sweep.advance = timed
    sweep.lanes_per_program = min(TOGETHER, size) * splits
    halving = experiment.halving
    assert halving is not None  # as the config says
    with mfjax.progress(sweep, what) as on_progress:
        began = time.perf_counter()
        fits = halve(sweep, experiment.lanes[: size * splits], halving, on_progress)
    return Ran(
        seconds=rows[-1]["seconds"],
        epochs=epochs_of(fits),
        best=rows[-1]["validation_rmse"],
        compilations=sweep.compilations,
        compile_seconds=sweep.compile_seconds,
        rows=rows,
    )


def criteria_of(lanes: Sequence[Lane], tracks: Sequence[Track]) -> list[float]:
    """The mean of the best validation RMSE of each setting; infinite where a lane diverged."""
    scores: dict[tuple, list[float]] = {}
    for lane, track in zip(lanes, tracks, strict=True):
        score = float(track.run.best_score) if track.run.alive else np.inf
        scores.setdefault(lane.hparams.setting, []).append(score)
    return [float(np.mean(of_setting)) for of_setting in scores.values()]


if __name__ == "__main__":
    main()
