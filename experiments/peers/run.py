"""mfjax beside its peers on this machine: `python experiments/peers/run.py`.

README.md says what is compared, and how.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import environments
import numpy as np
import report
from environments import OURS, NotInstalled
from processes import Contestant, peer, run, write_ratings

import mfjax
from mfjax.reporting.course import say, waiting


class Case(NamedTuple):
    """What all contestants of a job are run on."""

    job: str
    data: str
    rank: int


class Job(NamedTuple):
    """What is compared: the data, the ranks, and the contestants, mfjax's own entry first.

    Those of `large` run on LARGE too, at its rank. `task` is what they call it; None: by its name.
    """

    data: tuple[str, ...]
    ranks: tuple[int, ...]
    contestants: tuple[Contestant, ...]
    large: tuple[str, ...] = ()
    task: str | None = None

    @property
    def ours(self) -> str:
        return self.contestants[0].name


def ours(name: str, *options: str) -> Contestant:
    return Contestant(f"mfjax {name}", "mfjax_", OURS, options)


BOTH = ("100k", "1M")
RANKS = (16, 64, 128)
LARGE, LARGE_RANK = "10M", 64
ALL = (*BOTH, LARGE)
SHAPES = {  # users, items and ratings of the synthetic sets, those of ml-1m and ml-10m
    "1M": (6040, 3706, 1_000_000),
    "10M": (71_567, 10_681, 10_000_000),
}
THOUSAND = "grid=40x25"  # settings
JOBS = {
    "gradient": Job(
        data=BOTH,
        ranks=RANKS,
        contestants=(
            ours("native", "variant=native"),
            peer("numba CSR loop", "numba"),
            peer("torch dense autograd", "torch"),
            peer("NumPy dense", "numpy"),
            ours("tiles", "variant=tiles"),
            ours("coo_autodiff", "variant=coo_autodiff"),
            ours("autodiff", "variant=autodiff"),
        ),
        large=("mfjax native", "numba CSR loop", "mfjax tiles"),
    ),
    "sgd": Job(
        data=BOTH,
        ranks=RANKS,
        contestants=(
            ours("sgd", "kernel=native", "batch=1", "threads=2"),
            peer("Surprise SVD", "surprise"),
            peer("libmf", "libmf"),
            peer("libmf AVX", "libmf", "libmf_avx"),
            ours("sgd, 1 thread", "kernel=native", "batch=1", "threads=1"),
            ours("sgd, batches of 256", "kernel=native", "batch=256", "threads=1"),
            ours("sgd, XLA", "kernel=xla", "batch=256", "threads=1"),
        ),
        large=("mfjax sgd", "Surprise SVD", "libmf AVX", "mfjax sgd, 1 thread"),
    ),
    "als": Job(
        data=BOTH,
        ranks=RANKS,
        contestants=(
            ours("als", "kernel=native", "method=als"),
            ours("als_cg", "kernel=native", "method=als_cg"),
            peer("LensKit BiasedMF", "lenskit"),
            peer("cmfrec", "cmfrec"),
            peer("implicit ALS", "implicit"),
            ours("als, XLA", "kernel=xla", "method=als"),
            ours("als_cg, XLA", "kernel=xla", "method=als_cg"),
        ),
    ),
    "gibbs": Job(
        data=("100k",),
        ranks=(16,),
        contestants=(
            ours("gibbs, noise by user and item", "kernel=native", "noise=both"),
            ours("gibbs", "kernel=native", "noise=common"),
            peer("myFM", "myfm"),
        ),
    ),
    "sweep": Job(
        data=("100k",),
        ranks=(16, 64),
        contestants=(
            ours("Sweep", "kernel=native", "batch=1"),
            peer("Surprise SVD", "surprise"),
            peer("libmf AVX", "libmf", "libmf_avx"),
            peer("torch Adam loop", "torch"),
            ours("Sweep, XLA", "kernel=xla", "batch=256"),
        ),
    ),
    "thousand": Job(
        data=("100k",),
        ranks=(16,),
        contestants=(
            ours("Sweep", "kernel=native", "batch=1", THOUSAND),
            peer("Surprise SVD", "surprise", None, THOUSAND),
            peer("libmf AVX", "libmf", "libmf_avx", THOUSAND),
        ),
        task="sweep",
    ),
}


def main() -> None:
    """Install the peers, run the rounds, and write the tables and the figure.

    After Ctrl-C, of the rounds that were run.
    """
    arguments = parse()
    arguments.environments.mkdir(parents=True, exist_ok=True)
    arguments.output.mkdir(parents=True, exist_ok=True)
    pythons = install(arguments.jobs, arguments.environments)
    cases = [case for job in arguments.jobs for case in cases_of(job, arguments)]
    names = dict.fromkeys(case.data for case in cases)
    files = {name: write_data(name, arguments.environments) for name in names}
    path = arguments.output / "rounds.csv"
    known = report.read(path)
    rows = [row for row in known if (row["job"], row["data"], row["rank"]) not in cases]
    try:
        for row in rounds(cases, arguments, pythons, files):
            rows.append(row)
            report.write(path, rows)
    except KeyboardInterrupt:
        print("\nstopped: the results are of the rounds so far")
    for name in dict.fromkeys(row["data"] for row in rows):  # their sizes make seconds a speed
        if not (arguments.environments / f"{name}.npz").exists():
            files[name] = write_data(name, arguments.environments)
    write_report(arguments.output, files, pythons)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Compare mfjax with its peers on this machine.")
    add = parser.add_argument
    add("--jobs", nargs="+", choices=JOBS, default=list(JOBS), help="others keep their results")
    add("--data", nargs="+", choices=ALL, default=ALL, help="on which data")
    add("--ranks", nargs="+", type=int, default=RANKS, help="at which ranks")
    add("--rounds", type=int, default=5, help="how often each contestant runs")
    folder = environments.default_folder()
    add("--environments", type=Path, default=folder, help="folder of the peers and data")
    here = Path(__file__).parent
    add("--output", type=Path, default=here, help="folder of the results")
    add("--quick", action="store_true", help="a smoke run: one case a job, one round, few calls")
    return parser.parse_args()


def cases_of(job: str, arguments: argparse.Namespace) -> list[Case]:
    """The cases of a job that are asked for."""
    asked = [
        Case(job, data, rank)
        for data in JOBS[job].data
        for rank in JOBS[job].ranks
        if data in arguments.data and rank in arguments.ranks
    ]
    if JOBS[job].large and LARGE in arguments.data and LARGE_RANK in arguments.ranks:
        asked.append(Case(job, LARGE, LARGE_RANK))
    return asked[:1] if arguments.quick else asked


def contestants_of(case: Case) -> list[Contestant]:
    """Those that run on a case."""
    job = JOBS[case.job]
    return [c for c in job.contestants if case.data != LARGE or c.name in job.large]


def install(jobs: list[str], folder: Path) -> dict[str, Path | NotInstalled]:
    """The interpreter of every environment, or why there is none."""
    pythons: dict[str, Path | NotInstalled] = {}
    for name in dict.fromkeys(c.environment for job in jobs for c in JOBS[job].contestants):
        say(f"environment {name}")
        try:
            with waiting(f"environment {name}"):
                pythons[name] = environments.python_of(name, folder)
        except NotInstalled as reason:
            say(reason)
            pythons[name] = reason
    return pythons


def write_data(name: str, folder: Path) -> Path:
    """The data file of every contestant: 90 % of the ratings to train on, 10 % to test.

    At random.
    """
    if name == "100k":
        dataset = mfjax.read("bundled:ml-latest-small")
    else:
        users, items, ratings = SHAPES[name]
        dataset = mfjax.SOURCES["synthetic"](num_users=users, num_items=items, num_ratings=ratings)
    split = mfjax.SPLITS["random"](dataset, 0, validation=0.0, test=0.1)
    path = folder / f"{name}.npz"
    write_ratings(path, dataset, split.test < 0, split.test == 0)
    return path


def rounds(
    cases: list[Case],
    arguments: argparse.Namespace,
    pythons: dict[str, Path | NotInstalled],
    files: dict[str, Path],
) -> Iterator[dict[str, Any]]:
    """A row a process: all contestants of a case in turn, round after round."""
    count = 1 if arguments.quick else arguments.rounds
    for case in cases:
        for number in range(1, count + 1):
            options = [f"quick={arguments.quick:d}", f"curve={number == 1:d}"]
            words = [JOBS[case.job].task or case.job, str(files[case.data]), str(case.rank)]
            for contestant in contestants_of(case):
                python = pythons[contestant.environment]
                row = case._asdict() | {"contestant": contestant.name, "round": number}
                with waiting(" ".join(map(str, row.values()))):
                    result = run(contestant, python, [*words, *contestant.options, *options])
                say(*row.values(), result.get("seconds") or result["note"])
                yield row | result


def write_report(
    folder: Path, files: dict[str, Path], pythons: dict[str, Path | NotInstalled]
) -> None:
    """The tables and the figure of all rounds in `folder`."""
    there = {file for of_run in files.values() for file in of_run.parent.glob("*.npz")}
    ratings = {file.stem: len(np.load(file)["train_value"]) for file in there}
    rows = report.read(folder / "rounds.csv")
    results = report.summarise(rows, {name: job.ours for name, job in JOBS.items()}, ratings)
    report.write(folder / "results.csv", results)
    there = {name: python for name, python in pythons.items() if isinstance(python, Path)}
    report.write_hardware(folder / "hardware.json", there)
    report.draw(results, folder)
    print(report.tables(results))


if __name__ == "__main__":
    main()
