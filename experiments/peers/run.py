"""mfjax beside its peers on this machine: `python experiments/peers/run.py`. README.md says what is compared, and how."""

import argparse
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import environments
import numpy as np
import report
from environments import CONTESTANTS, OURS, NotInstalled

import mfjax

TIMEOUT = 1200  # seconds a process
LIBMF_TIMEOUT = 120  # it takes a few seconds, and now and then its threads wait for each other for ever
TRIES = 3
PERSONAL = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")  # settings of one machine's BLAS, which no peer is to inherit


class Contestant(NamedTuple):
    """One side of a comparison: the name in the tables, its script, its environment and its options."""

    name: str
    script: str
    environment: str
    options: tuple[str, ...] = ()
    timeout: int = TIMEOUT


class Job(NamedTuple):
    """What is compared: the data sets, the ranks, and the contestants, mfjax's own entry first."""

    data: tuple[str, ...]
    ranks: tuple[int, ...]
    contestants: tuple[Contestant, ...]

    @property
    def ours(self) -> str:
        return self.contestants[0].name

    def cases(self, arguments: argparse.Namespace) -> list[tuple[str, int]]:
        cases = [(data, rank) for data in self.data for rank in self.ranks]
        asked = [(data, rank) for data, rank in cases if data in arguments.data and rank in arguments.ranks]
        return asked[:1] if arguments.quick else asked


def ours(name: str, *options: str) -> Contestant:
    return Contestant(f"mfjax {name}", "mfjax_", OURS, options)


def peer(name: str, package: str, environment: str | None = None) -> Contestant:
    timeout = LIBMF_TIMEOUT if package == "libmf" else TIMEOUT
    return Contestant(name, f"{package}_", environment or package, timeout=timeout)


BOTH, RANKS = ("100k", "1M"), (16, 64, 128)
JOBS = {
    "gradient": Job(
        BOTH,
        RANKS,
        (
            ours("tiles", "variant=tiles"),
            peer("numba CSR loop", "numba"),
            peer("torch dense autograd", "torch"),
            peer("NumPy dense", "numpy"),
            ours("coo_autodiff", "variant=coo_autodiff"),
            ours("autodiff", "variant=autodiff"),
        ),
    ),
    "sgd": Job(
        BOTH,
        (16, 64),
        (ours("sgd"), peer("Surprise SVD", "surprise"), peer("libmf", "libmf"), peer("libmf AVX", "libmf", "libmf_avx")),
    ),
    "als": Job(
        BOTH,
        (16, 64),
        (
            ours("als", "method=als"),
            ours("als_cg", "method=als_cg"),
            peer("LensKit BiasedMF", "lenskit"),
            peer("cmfrec", "cmfrec"),
            peer("implicit ALS", "implicit"),
        ),
    ),
    "sweep": Job(
        ("100k",),
        (16, 64),
        (
            ours("Sweep"),
            peer("Surprise SVD", "surprise"),
            peer("libmf AVX", "libmf", "libmf_avx"),
            peer("torch Adam loop", "torch"),
        ),
    ),
}


def main() -> None:
    """Install the peers, run the rounds, and write the tables and the figure; after Ctrl-C, of the rounds that were run."""
    arguments = parse()
    arguments.environments.mkdir(parents=True, exist_ok=True)
    arguments.output.mkdir(parents=True, exist_ok=True)
    jobs = {name: JOBS[name] for name in arguments.jobs}
    pythons = install(jobs, arguments.environments)
    files = {name: write_data(name, arguments.environments) for name in {n for job in jobs.values() for n in job.data}}
    again = {(name, *case) for name, job in jobs.items() for case in job.cases(arguments)}
    known = report.read(arguments.output / "rounds.csv")
    kept = [row for row in known if (row["job"], row["data"], row["rank"]) not in again]
    rows: list[dict[str, Any]] = []
    try:
        for row in rounds(jobs, arguments, pythons, files):
            rows.append(row)
            report.write(arguments.output / "rounds.csv", kept + rows)
    except KeyboardInterrupt:
        print("\nstopped: the results are of the rounds so far")
    ratings = {name: len(np.load(file)["train_value"]) for name, file in files.items()}
    results = report.summarise(report.read(arguments.output / "rounds.csv"), {k: job.ours for k, job in JOBS.items()}, ratings)
    report.write(arguments.output / "results.csv", results)
    report.write_hardware(arguments.output / "hardware.json", {n: p for n, p in pythons.items() if isinstance(p, Path)})
    report.draw(results, arguments.output)
    print(report.markdown(results))


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Compare mfjax with its peers on this machine.")
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=list(JOBS), help="which jobs; others keep their results")
    parser.add_argument("--data", nargs="+", choices=BOTH, default=BOTH, help="on which data")
    parser.add_argument("--ranks", nargs="+", type=int, default=RANKS, help="at which ranks")
    parser.add_argument("--rounds", type=int, default=5, help="how often each contestant runs")
    parser.add_argument("--environments", type=Path, default=environments.default_folder(), help="folder of the peers and data")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent, help="folder of the results")
    parser.add_argument("--quick", action="store_true", help="a smoke run: one case a job, one round, a few calls")
    return parser.parse_args()


def install(jobs: dict[str, Job], folder: Path) -> dict[str, Path | NotInstalled]:
    """The interpreter of every environment, or why there is none."""
    pythons: dict[str, Path | NotInstalled] = {}
    for name in dict.fromkeys(c.environment for job in jobs.values() for c in job.contestants):
        print(f"environment {name}", flush=True)
        try:
            pythons[name] = environments.python_of(name, folder)
        except NotInstalled as reason:
            print(reason)
            pythons[name] = reason
    return pythons


def write_data(name: str, folder: Path) -> Path:
    """The data file of every contestant: 90 % of the ratings to train on, 10 % to test, at random."""
    if name == "100k":
        dataset = mfjax.read("bundled:ml-latest-small")
    else:
        dataset = mfjax.SOURCES["synthetic"](num_users=6040, num_items=3706, num_ratings=1_000_000)
    split = mfjax.SPLITS["random"](len(dataset.value), 0, validation=0.0, test=0.1)
    parts = {"train": ~split.test, "test": split.test}
    columns = {"user": dataset.user, "item": dataset.item, "value": dataset.value.astype(np.float32)}
    path = folder / f"{name}.npz"
    np.savez(path, **{f"{part}_{key}": column[rows] for part, rows in parts.items() for key, column in columns.items()})
    return path


def rounds(jobs: dict[str, Job], arguments, pythons: dict, files: dict[str, Path]) -> Iterator[dict[str, Any]]:
    """A row a process: all contestants of a case in turn, round after round."""
    for name, job in jobs.items():
        for data, rank in job.cases(arguments):
            for number in range(1, (1 if arguments.quick else arguments.rounds) + 1):
                for contestant in job.contestants:
                    options = [*contestant.options, f"quick={arguments.quick:d}", f"curve={number == 1:d}"]
                    result = run(contestant, pythons[contestant.environment], name, files[data], rank, options)
                    about = {"job": name, "data": data, "rank": rank, "contestant": contestant.name, "round": number}
                    print(*about.values(), result.get("seconds") or result["note"], flush=True)
                    yield about | result


def run(contestant: Contestant, python, job: str, data: Path, rank: int, options: list[str]) -> dict[str, Any]:
    """The result of one process, or a note that says why there is none."""
    if isinstance(python, NotInstalled):
        return {"note": str(python)}
    words = [str(python), str(CONTESTANTS / f"{contestant.script}.py"), job, str(data), str(rank), *options]
    for number in range(1, TRIES + 1):
        try:
            code, output, errors = process(words, contestant.timeout, data.parent / "compiled")
        except subprocess.TimeoutExpired:
            continue
        if code:
            return {"note": (errors.strip().splitlines() or [f"exit status {code}"])[-1][:200]}
        result = json.loads(output.strip().splitlines()[-1])
        again = f"hung {number - 1} times and was run again" if number > 1 else ""
        return result | {"note": "; ".join(filter(None, (result["note"], again)))}
    return {"note": f"not finished after {contestant.timeout} s, {TRIES} times"}


def process(words: list[str], timeout: int, compiled: Path) -> tuple[int, str, str]:
    """(exit status, output, errors) of one process; where it does not end by itself, it is ended with its children."""
    variables = {key: value for key, value in os.environ.items() if key not in PERSONAL}
    variables["MFJAX_PEERS_CACHE"] = str(compiled)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(words, env=variables, start_new_session=True, **pipes) as child:
        try:
            output, errors = child.communicate(timeout=timeout)
        except BaseException:
            if hasattr(os, "killpg"):
                os.killpg(child.pid, signal.SIGKILL)
            child.kill()
            raise
        return child.returncode, output, errors


if __name__ == "__main__":
    main()
