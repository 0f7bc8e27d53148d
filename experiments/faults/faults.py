"""What a stop, a kill or a damaged file costs: `python experiments/faults/faults.py`. README.md says what came out."""

import argparse
import csv
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

import mfjax
from mfjax.errors import Interrupted
from mfjax.training.checkpoint import Block, Checkpoints, Damaged, read

FOLDER = Path(__file__).parent
DATA = ("data=synthetic", "data.num_users=300", "data.num_items=200", "data.num_ratings=20000", "data.rank=2")
COMMON = (*DATA, "epochs=800", "chunk=4", "plots=false", "checkpoint.every=1")
RUN = (*COMMON, "sweep.reg=[0.05,0.1,0.2]", "hydra.run.dir=out")
MULTIRUN = (
    "-m",
    *COMMON,
    "hparams.reg=0.05,0.1,0.2",
    "method=descent",
    "optimizer=adam",
    "gradient=tiles,coo",
    "hydra.sweep.dir=out",
)
SAME = ("factors.npz", "history.csv", "lanes.csv")


class Moment(NamedTuple):
    """Seconds, from `low` to `high`, after a run began; or after the first file like `after` is there."""

    low: float
    high: float
    after: str = ""


def main() -> None:
    """Try every fault as often as asked, write the CSV, and exit with 1 where one cost more than it may."""
    parser = argparse.ArgumentParser(description="Stop, kill and damage runs, and see that nothing is lost.")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and the bits")
    rng = np.random.default_rng(parser.parse_args().seed)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for fault, tried, held, note in tried_all(Path(scratch), rng):
            print(f"{fault}: {held} of {tried}; {note}", flush=True)
            rows.append((fault, tried, held, note))
    with (FOLDER / "faults.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("fault", "tried", "held", "note"), *rows])
    sys.exit(any(tried != held for _, tried, held, _ in rows))


def tried_all(scratch: Path, rng: np.random.Generator) -> Iterator[tuple[str, int, int, str]]:
    """(fault, how often tried, how often nothing was lost, what was seen) of each."""
    for name in ("sgd", "adam", "als"):
        yield stopped(scratch / name, name, rng)
    yield killed(scratch / "killed", rng, 50)
    yield killed_multirun(scratch / "multirun", rng, 20)
    yield from damaged(scratch / "damaged", rng)


def stopped(folder: Path, name: str, rng: np.random.Generator, times: int = 100) -> tuple[str, int, int, str]:
    """Stop a sweep of four lanes, one of which diverges, after a random chunk and resume it: bit for bit the same?"""
    data = mfjax.SOURCES["synthetic"](num_users=60, num_items=50, num_ratings=1500)
    problem = mfjax.Problem.of(data, mfjax.SPLITS["random"](len(data.value), 0))
    spec = mfjax.Spec(data.num_users, data.num_items, batch_size=64)
    optimizer = mfjax.optimizer("adam" if name == "adam" else "sgd")
    method = lambda spec: mfjax.METHODS["als" if name == "als" else "sgd"](spec, None, optimizer)  # noqa: E731
    sweep = mfjax.Sweep(spec, method, {0: problem}, mfjax.Schedule(60, chunk=1), width=2)
    settings = mfjax.grid(mfjax.Hparams(learning_rate=0.02, rank=8), {"reg": [0.05, 0.2], "seed": [0, 1]})
    lanes = [mfjax.Lane(hparams, 60) for hparams in settings]
    if name != "als":  # which has no learning rate to diverge by
        lanes[1] = mfjax.Lane(settings[1]._replace(learning_rate=1e30), 60)
    whole, held, seen = sweep.train(lanes), 0, set()
    for i, chunk in enumerate(rng.integers(1, 120, times)):
        seen.add(int(chunk))
        sweep.checkpoints = Checkpoints(folder / str(i), {"seed": 0})
        with suppress(Interrupted):
            sweep.train(lanes, stopping(sweep.checkpoints, int(chunk)))
        sweep.checkpoints = Checkpoints(folder / str(i), {"seed": 0}, resume=True)
        again = sweep.train(lanes)
        same = jax.tree.map(
            lambda a, b: np.array_equal(a, b, equal_nan=True),
            [(fit.factors, fit.history) for fit in again],
            [(fit.factors, fit.history) for fit in whole],
        )
        statuses = [fit.status for fit in again] == [fit.status for fit in whole]
        held += all(jax.tree.leaves(same)) and statuses and sweep.checkpoints.restored > 0
    return f"stopped between two chunks, {name}", times, held, f"{len(seen)} different chunks of 120; bits of 4 lanes compared"


def stopping(checkpoints: Checkpoints, chunk: int) -> Callable:
    left = [chunk]

    def watch(progress) -> None:
        left[0] -= 1
        if left[0] == 0:
            checkpoints.stop.signal = signal.SIGTERM

    return watch


def killed(folder: Path, rng: np.random.Generator, times: int) -> tuple[str, int, int, str]:
    """`kill -9` a run at a random moment: does every checkpoint that is left load, and does the resumed run end the same?"""
    reference, seconds = uninterrupted(folder, RUN)
    held, files, whole = 0, 0, 0
    for i in range(times):
        place = killed_before_its_end(folder, RUN, rng, Moment(seconds / 2, seconds), i)
        left = list(place.rglob("*.ckpt"))
        sound = sum(is_sound(file) for file in left)
        files, whole = files + len(left), whole + sound
        done = command(place, *RUN, "resume=true")
        bits = all((place / "out" / name).read_bytes() == (reference / "out" / name).read_bytes() for name in SAME)
        held += done.returncode == 0 and bits and sound == len(left)
    return (
        "killed at a random moment",
        times,
        held,
        f"{whole} of {files} checkpoints left were whole; results compared byte for byte",
    )


def killed_multirun(folder: Path, rng: np.random.Generator, times: int) -> tuple[str, int, int, str]:
    """`kill -9` a multirun of six jobs in two groups: are only the unfinished jobs run again, none lost or doubled?"""
    reference, seconds = uninterrupted(folder, MULTIRUN)
    written = [path.stat().st_mtime for path in (reference / "out").glob("*/results.json")]
    training, writing = Moment(seconds / 2, seconds), Moment(0, max(written) - min(written), "out/*/results.json")
    held, kept = 0, []
    for i in range(times):
        place = killed_before_its_end(folder, MULTIRUN, rng, writing if i % 2 else training, i)
        before = {path: path.stat().st_mtime_ns for path in place.glob("out/*/results.json")}
        done = command(place, *MULTIRUN, "resume=true")
        untouched = all(path.stat().st_mtime_ns == at for path, at in before.items())
        jobs = sorted(path.name for path in (place / "out").iterdir() if (path / "results.json").is_file())
        rows = list(csv.DictReader((place / "out/sweep.csv").open())) if done.returncode == 0 else []
        bits = all(
            (place / "out" / job / name).read_bytes() == (reference / "out" / job / name).read_bytes()
            for job in jobs
            for name in SAME
        )
        kept.append(len(before))
        held += done.returncode == 0 and untouched and jobs == list("012345") and len(rows) == 6 and bits
    between = sum(k > 0 for k in kept)
    note = f"{sum(kept)} jobs had finished and none ran again; {between} kills came after a first job's results"
    return "multirun killed at a random moment", times, held, note


def uninterrupted(folder: Path, arguments: tuple[str, ...]) -> tuple[Path, float]:
    """The folder of a run to compare with, and the seconds that such a run takes."""
    place = folder / "reference"
    place.mkdir(parents=True)
    for _ in range(2):  # the second has its programs compiled
        began = time.monotonic()
        done = command(place, *arguments)
        assert done.returncode == 0, done.stderr
        seconds = time.monotonic() - began
    return place, seconds


def killed_before_its_end(folder: Path, arguments: tuple[str, ...], rng: np.random.Generator, moment: Moment, i: int) -> Path:
    """The folder of a run that was killed at a moment that is drawn; another is drawn where it ended before."""
    for attempt in range(100):
        place = folder / f"{i}.{attempt}"
        place.mkdir()
        process = subprocess.Popen(mfjax_run(*arguments), cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while moment.after and process.poll() is None and not any(place.glob(moment.after)):
            time.sleep(0.001)
        time.sleep(rng.uniform(moment.low, moment.high))
        process.kill()
        if process.wait() == -signal.SIGKILL:
            return place
    raise AssertionError("no run lived long enough to be killed")


def damaged(folder: Path, rng: np.random.Generator) -> Iterator[tuple[str, int, int, str]]:
    """Flip a bit of a checkpoint, or cut its end off: is it noticed, and the one before it taken?"""
    checkpoints = Checkpoints(folder, {"reg": 0.1}, every=1)
    for i in range(2):
        arrays = {"user": rng.normal(size=(3, 60, 18)).astype(np.float32), "number": np.int32(i)}
        checkpoints.after_chunk("block", Block(1, lambda arrays=arrays: arrays))
    (file,) = folder.rglob("block.ckpt")
    content = file.read_bytes()

    def gives_way(damage: bytes) -> bool:
        file.write_bytes(damage)
        found = checkpoints.find("block")
        return found is not None and int(found["number"]) == 0

    held = 0
    for bit in rng.choice(8 * len(content), 1000, replace=False):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        held += gives_way(bytes(changed))
    yield "one bit flipped", 1000, held, f"of a file of {len(content):,} bytes; the one before it was taken"
    held = sum(gives_way(content[:length]) for length in range(len(content)))
    yield "cut short", len(content), held, "every length; the one before it was taken"


def is_sound(file: Path) -> bool:
    try:
        read(file)
    except Damaged:
        return False
    return True


def mfjax_run(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "mfjax.run", *arguments]


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(mfjax_run(*arguments), cwd=folder, capture_output=True, text=True, check=False)


if __name__ == "__main__":
    main()
