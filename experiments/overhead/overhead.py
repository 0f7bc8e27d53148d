"""What the launcher and the checkpoints cost: `python experiments/overhead/overhead.py`. README.md says what came out."""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

FOLDER = Path(__file__).parent
TINY = ("data=synthetic", "data.num_users=40", "data.num_items=30", "data.num_ratings=300", "data.rank=2", "epochs=1")
MOVIELENS = ("+exp=movielens", "sweep=none", "sweep.data_seed=[0,1,2]", "plots=false", "refit=false")
GRID = {"learning_rate": "0.005,0.01,0.02", "reg": "0.08,0.1,0.12", "reg_bias": "0.01,0.04"}
LONG = ("hparams.rank=64", "sweep.data_seed=${range:8}")
SWEPT = tuple(f"sweep.{key}=[{values}]" for key, values in GRID.items())
JOBS = tuple(f"hparams.{key}={values}" for key, values in GRID.items())


class Ran(NamedTuple):
    """What a command took: seconds on the clock, of the CPUs, of training alone, and of it those of saving checkpoints."""

    wall: float
    cpu: float
    train: float
    saving: float


def main() -> None:
    """Measure each pair at once, and write the CSV."""
    parser = argparse.ArgumentParser(description="Time a sweep with and without the launcher and the checkpoints.")
    parser.add_argument("--rounds", type=int, default=5, help="of each pair, of which medians are taken")
    rounds = parser.parse_args().rounds
    rows = []
    for measured in (launcher, checkpoints, an_item):
        for row in measured(rounds):
            print(*row, sep="; ", flush=True)
            rows.append(row)
    with (FOLDER / "overhead.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("what", "without", "with", "cost", "unit", "rounds"), *rows])


def launcher(rounds: int) -> list[tuple]:
    """18 settings on 3 splits: one job with a `sweep`, against 18 jobs of `-m`. Seconds of training."""
    plain, multi = paired(rounds, (*MOVIELENS, *SWEPT), ("-m", *MOVIELENS, *JOBS), lambda ran: ran.train)
    return [("training, sweep= against -m", *ratio(plain, multi), rounds)]


def checkpoints(rounds: int) -> list[tuple]:
    """A run of more than a minute, without checkpoints and as it is by default: seconds of training, and of saving in them."""
    long, saving = (*MOVIELENS, *SWEPT, *LONG), []

    def train(ran: Ran) -> float:
        saving.extend([ran.saving / ran.train] if ran.saving else [])
        return ran.train

    never, default = paired(rounds, (*long, "checkpoint.every=0"), long, train)
    share = round(100 * float(np.median(saving)), 2) if saving else 0.0
    return [
        ("training, checkpoint.every=0 against the default", *ratio(never, default), rounds),
        ("of the default's training, saving", "", "", share, "% of the time", len(saving)),
    ]


def an_item(rounds: int) -> list[tuple]:
    """What one more job of `-m` costs in CPU, and one more lane of `sweep` on the host: the slope between few and many."""
    few, many = 8, 40
    jobs = [("-m", *TINY, f"hparams.reg=range(1,{n + 1})") for n in (few, many)]
    less, more = paired(rounds, *jobs, lambda ran: ran.cpu)
    slope = (np.median(more) - np.median(less)) / (many - few)
    rows = [(f"CPU of {few} and of {many} jobs", *medians(less, more), round(slope, 4), "s CPU a job", rounds)]
    few, many = 500, 4000
    lanes = [(*TINY, "plots=false", f"sweep.reg=${{linspace:0.01,0.2,{n}}}") for n in (few, many)]
    less, more = paired(rounds, *lanes, lambda ran: ran.wall)
    slope = 1e3 * (np.median(more) - np.median(less)) / (many - few)
    return [*rows, (f"seconds of {few} and of {many} lanes", *medians(less, more), round(slope, 3), "ms a lane", rounds)]


def medians(*sides: list[float]) -> tuple[float, ...]:
    return tuple(round(float(np.median(side)), 3) for side in sides)


def ratio(without: list[float], with_it: list[float]) -> tuple:
    """Both medians, and the median of the pairs' ratios less 1."""
    cost = 100 * (np.median(np.divide(with_it, without)) - 1)
    return *medians(without, with_it), round(float(cost), 2), "% of the time"


def paired(rounds: int, one: tuple, other: tuple, what: Callable[[Ran], float]) -> tuple[list[float], list[float]]:
    """Each side once to compile, then both at once on a core each: what else goes on in the machine slows both."""
    ran(one), ran(other)
    pairs = []
    with ThreadPoolExecutor() as pool:
        for _ in range(rounds):
            pairs.append([what(side) for side in pool.map(ran, (one, other))])
    without, with_it = zip(*pairs, strict=True)
    return list(without), list(with_it)


def ran(arguments: tuple[str, ...]) -> Ran:
    """Run the command on one core, in a folder of its own."""
    place = f"hydra.{'sweep' if '-m' in arguments else 'run'}.dir=out"
    command = [sys.executable, "-m", "mfjax.run", *arguments, "devices=1", place]
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as said:
        began = time.perf_counter()
        process = subprocess.Popen(command, cwd=folder, stdout=said, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode, wall = os.waitstatus_to_exitcode(status), time.perf_counter() - began
        said.seek(0)
        assert process.returncode == 0, said.read()
        results = next(Path(folder).glob("out/**/results.json"))
        seconds = json.loads(results.read_text())["seconds"]
    return Ran(wall, used.ru_utime + used.ru_stime, seconds["train"], seconds["checkpoints"])


if __name__ == "__main__":
    main()
