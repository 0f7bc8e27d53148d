"""What the launcher and the checkpoints cost: `python experiments/overhead/run.py`.

README.md says what came out.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mfjax.reporting.course import say, waiting

FOLDER = Path(__file__).parent
TINY = (
    "data=synthetic",
    "data.num_users=40",
    "data.num_items=30",
    "data.num_ratings=300",
    "data.rank=2",
    "epochs=1",
    "replicates=1",
)
MOVIELENS = (
    "+exp=movielens",
    "sweep=none",
    "sweep.split_seed=[0,1,2]",
    "plots.draw=false",
    "refit=false",
)
GRID = {
    "learning_rate": "0.005,0.01,0.02",
    "reg": "0.08,0.1,0.12",
    "reg_bias": "0.01,0.04",
}
SWEPT = tuple(f"sweep.{key}=[{values}]" for key, values in GRID.items())
JOBS = tuple(f"hparams.{key}={values}" for key, values in GRID.items())
LONG = (*MOVIELENS, *SWEPT, "hparams.rank=64", "sweep.split_seed=${range:20}")

Command = tuple[str, ...]  # the arguments of one


class Ran(NamedTuple):
    """What a command took, in seconds.

    On the clock, of the CPUs, of training alone, and of it those of saving checkpoints.
    """

    wall: float
    cpu: float
    train: float
    saving: float


class Row(NamedTuple):
    """A line of the table."""

    what: str
    without: float | str
    with_it: float | str
    cost: float
    unit: str
    rounds: int


def main() -> None:
    """Measure each pair at once, and write the CSV."""
    parser = argparse.ArgumentParser(
        description="Time a sweep with and without the launcher and the checkpoints."
    )
    rounds_help = "of each pair, of which medians are taken"
    parser.add_argument("--rounds", type=int, default=5, help=rounds_help)
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder of the results")
    arguments = parser.parse_args()
    rows = []
    for measured in (launcher, checkpoints, a_job, a_lane):
        with waiting(measured.__name__):
            of_measured = measured(arguments.rounds)
        for row in of_measured:
            say(*row, sep="; ")
            rows.append(row)
    with (arguments.output / "overhead.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("what", "without", "with", "cost", "unit", "rounds"))
        writer.writerows(rows)


# what is measured


def launcher(rounds: int) -> list[Row]:
    """Seconds of training 18 settings on 3 splits.

    A job with a `sweep`, against 18 jobs of `-m`.
    """
    one_job = (*MOVIELENS, *SWEPT)
    many_jobs = ("-m", *MOVIELENS, *JOBS)
    without, with_it = paired(rounds, one_job, many_jobs)
    return [of_the_time("training, sweep= against -m", trained(without), trained(with_it))]


def checkpoints(rounds: int) -> list[Row]:
    """A run of more than a minute, without checkpoints and as it is by default.

    Seconds of training, and of saving in them.
    """
    never, default = paired(rounds, (*LONG, "checkpoint.every=0"), LONG)
    what = "training, checkpoint.every=0 against the default"
    shares = [ran.saving / ran.train for ran in default if ran.saving]
    share = round(100 * float(np.median(shares)), 2) if shares else 0.0
    return [
        of_the_time(what, trained(never), trained(default)),
        Row("of the default's training, saving", "", "", share, "% of the time", len(shares)),
    ]


def a_job(rounds: int) -> list[Row]:
    """What one more job of `-m` costs in CPU: the slope between few and many."""
    few = 8
    many = 40

    def jobs(count: int) -> Command:
        return ("-m", *TINY, f"hparams.reg=range(1,{count + 1})")

    less, more = paired(rounds, jobs(few), jobs(many))
    of_few = median([ran.cpu for ran in less])
    of_many = median([ran.cpu for ran in more])
    slope = round((of_many - of_few) / (many - few), 4)
    what = f"CPU of {few} and of {many} jobs"
    return [Row(what, round(of_few, 3), round(of_many, 3), slope, "s CPU a job", rounds)]


def a_lane(rounds: int) -> list[Row]:
    """What one more lane of `sweep` costs on the host: the slope between few and many."""
    few = 500
    many = 4000

    def lanes(count: int) -> Command:
        return (*TINY, "plots.draw=false", f"sweep.reg=${{linspace:0.01,0.2,{count}}}")

    less, more = paired(rounds, lanes(few), lanes(many))
    of_few = median([ran.wall for ran in less])
    of_many = median([ran.wall for ran in more])
    slope = round(1e3 * (of_many - of_few) / (many - few), 3)
    what = f"seconds of {few} and of {many} lanes"
    return [Row(what, round(of_few, 3), round(of_many, 3), slope, "ms a lane", rounds)]


def trained(side: list[Ran]) -> list[float]:
    """The seconds of training of each run."""
    return [ran.train for ran in side]


def of_the_time(what: str, without: list[float], with_it: list[float]) -> Row:
    """Both medians, and the median of the pairs' ratios less 1."""
    cost = 100 * (median(np.divide(with_it, without).tolist()) - 1)
    return Row(
        what=what,
        without=round(median(without), 3),
        with_it=round(median(with_it), 3),
        cost=round(cost, 2),
        unit="% of the time",
        rounds=len(without),
    )


def median(values: list[float]) -> float:
    return float(np.median(values))


# the runs


def paired(rounds: int, one: Command, other: Command) -> tuple[list[Ran], list[Ran]]:
    """Each side once to compile, then both at once on a core each.

    What else goes on in the machine slows both.
    """
    run(one)
    run(other)
    ones = []
    others = []
    with ThreadPoolExecutor() as pool:
        for _ in range(rounds):
            of_one, of_other = pool.map(run, (one, other))
            ones.append(of_one)
            others.append(of_other)
    return ones, others


def run(arguments: Command) -> Ran:
    """Run the command on one core, in a folder of its own."""
    mode = "sweep" if "-m" in arguments else "run"
    place = f"hydra.{mode}.dir=out"
    words = [sys.executable, "-m", "mfjax.run", *arguments, "devices=1", place]
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as said:
        began = time.perf_counter()
        process = subprocess.Popen(words, cwd=folder, stdout=said, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        assert process.returncode == 0, said.read()
        results = next(Path(folder).glob("out/**/results.json"))
        seconds = json.loads(results.read_text())["seconds"]
    return Ran(
        wall=wall,
        cpu=used.ru_utime + used.ru_stime,
        train=seconds["train"],
        saving=seconds["checkpoints"],
    )


if __name__ == "__main__":
    main()
