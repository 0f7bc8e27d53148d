"""What a stop, a kill or a damaged file costs: `python experiments/faults/run.py`.

README.md says what came out.
"""

import argparse
import csv
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

import mfjax
from mfjax.errors import Interrupted
from mfjax.reporting.course import MINUTE, say, ticking, waiting
from mfjax.training.checkpoint import Block, Checkpoints
from mfjax.training.lanes import Fit, OnProgress, Progress
from mfjax.training.whole import Damaged, read

FOLDER = Path(__file__).parent
COMMON = (
    "data=synthetic",
    "data.num_users=300",
    "data.num_items=200",
    "data.num_ratings=20000",
    "data.rank=2",
    "replicates=1",
    "epochs=800",
    "epochs_per_call=4",
    "plots.draw=false",
    "checkpoint.every=1",
)
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
EPOCHS = 60  # of a sweep that is stopped, each a chunk: 120, in two blocks

Command = tuple[str, ...]  # the arguments of one


class Tried(NamedTuple):
    """A fault: how often it was tried, how often nothing was lost, and what was seen."""

    fault: str
    tried: int
    held: int
    note: str


class Moment(NamedTuple):
    """Seconds, from `low` to `high`, after a run began.

    Or after the first file like `after` is there.
    """

    low: float
    high: float
    after: str = ""


def main() -> None:
    """Try every fault as often as asked, write the CSV, and exit with 1 where one cost too much."""
    parser = argparse.ArgumentParser(
        description="Stop, kill and damage runs, and see that nothing is lost."
    )
    add = parser.add_argument
    add("--seed", type=int, default=0, help="of the moments and the bits")
    add("--share", type=float, default=1.0, help="of the stops and kills that are tried")
    add("--output", type=Path, default=FOLDER, help="folder of the results")
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for row in tried_all(Path(scratch), rng, arguments.share):
            say(f"{row.fault}: {row.held} of {row.tried}; {row.note}")
            rows.append(row)
    with (arguments.output / "faults.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Tried._fields)
        writer.writerows(rows)
    sys.exit(any(row.tried != row.held for row in rows))


def tried_all(scratch: Path, rng: np.random.Generator, share: float) -> Iterator[Tried]:
    """Every fault, those that take long a share of their times."""

    def times(most: int) -> int:
        return max(round(share * most), 1)

    for name in METHODS:
        yield stopped(scratch / name, name, rng, times(100))
    yield killed(scratch / "killed", rng, times(50))
    yield killed_multirun(scratch / "multirun", rng, times(20))
    yield from damaged(scratch / "damaged", rng)


def counted(fault: str, times: int) -> Iterator[int]:
    """The number of each try from 0, and a line a minute of how many there were."""
    number = 0
    with ticking(lambda: f"{fault}: tried {number} of {times} times", say, MINUTE):
        for number in range(times):
            yield number


# stopped between two chunks


def sgd(spec: mfjax.Spec) -> mfjax.Method:
    return mfjax.METHODS["sgd"](spec, optimizer=mfjax.optimizer("sgd"), batch_size=64)


def adam(spec: mfjax.Spec) -> mfjax.Method:
    return mfjax.METHODS["sgd"](spec, optimizer=mfjax.optimizer("adam"), batch_size=64)


def als(spec: mfjax.Spec) -> mfjax.Method:
    return mfjax.METHODS["als"](spec, kernel=mfjax.KERNELS["xla"](spec))


METHODS = {"sgd": sgd, "adam": adam, "als": als}


def stopped(folder: Path, name: str, rng: np.random.Generator, times: int) -> Tried:
    """Stop a sweep of four lanes after a random chunk and resume it: bit for bit the same?

    One of the lanes diverges.
    """
    sweep = small_sweep(name)
    lanes = four_lanes(name)
    whole = sweep.train(lanes)
    fault = f"stopped between two chunks, {name}"
    stops = rng.integers(1, 2 * EPOCHS, times).tolist()
    held = 0
    for i in counted(fault, times):
        place = folder / str(i)
        sweep.checkpoints = Checkpoints(place, {"seed": 0})
        with suppress(Interrupted):
            sweep.train(lanes, stopping(sweep.checkpoints, stops[i]))
        sweep.checkpoints = Checkpoints(place, {"seed": 0}, resume=True)
        again = sweep.train(lanes)
        held += have_same_bits(again, whole) and sweep.checkpoints.restored > 0
    chunks = f"{len(set(stops))} different chunks of {2 * EPOCHS}"
    note = f"{chunks}; bits of 4 lanes compared"
    return Tried(fault, times, held, note)


def small_sweep(name: str) -> mfjax.Sweep:
    """A sweep of two lanes a program."""
    data = mfjax.SOURCES["synthetic"](num_users=60, num_items=50, num_ratings=1500)
    split = mfjax.SPLITS["random"](data, 0)
    plan = mfjax.Plan(
        spec=mfjax.Spec(data.num_users, data.num_items),
        method=METHODS[name],
        problems={(0, 0): mfjax.Problem.of(data, split)},
        schedule=mfjax.Schedule(EPOCHS, epochs_per_call=1),
    )
    return mfjax.Sweep(plan, lanes_per_program=2)


def four_lanes(name: str) -> list[mfjax.Lane]:
    """Two λ from two starts; one lane diverges where the method has a learning rate to do so by."""
    base = mfjax.Hparams(learning_rate=0.02, rank=8)
    settings = mfjax.grid(base, {"reg": [0.05, 0.2], "init_seed": [0, 1]})
    if name != "als":
        settings[1] = settings[1]._replace(learning_rate=1e30)
    return [mfjax.Lane(hparams, EPOCHS) for hparams in settings]


def have_same_bits(fits: Sequence[Fit], others: Sequence[Fit]) -> bool:
    """Whether the factors, histories and statuses of two trainings are the same."""

    def same(a: np.ndarray, b: np.ndarray) -> bool:
        return np.array_equal(a, b, equal_nan=True)

    def arrays(fits: Sequence[Fit]) -> list:
        return [(fit.factors, fit.history) for fit in fits]

    leaves = jax.tree.leaves(jax.tree.map(same, arrays(fits), arrays(others)))
    statuses = [fit.status for fit in fits] == [fit.status for fit in others]
    return all(leaves) and statuses


def stopping(checkpoints: Checkpoints, chunk: int) -> OnProgress:
    """What stops a sweep after so many chunks."""
    chunks = 0

    def on_progress(progress: Progress) -> None:
        nonlocal chunks
        chunks += 1
        if chunks == chunk:
            checkpoints.stop.signal = signal.SIGTERM

    return on_progress


# killed


def killed(folder: Path, rng: np.random.Generator, times: int) -> Tried:
    """`kill -9` a run at a random moment.

    Does every checkpoint that is left load, and does the resumed run end the same?
    """
    fault = "killed at a random moment"
    reference, seconds = uninterrupted(folder, RUN)
    moment = Moment(seconds / 2, seconds)
    held = 0
    left = 0
    whole = 0
    for i in counted(fault, times):
        place = killed_before_its_end(folder / str(i), RUN, rng, moment)
        files = list(place.rglob("*.ckpt"))
        sound = sum(is_sound(file) for file in files)
        left += len(files)
        whole += sound
        done = command(place, *RUN, "resume=true")
        same = done.returncode == 0 and have_same_files(place / "out", reference / "out")
        held += same and sound == len(files)
    note = f"{whole} of {left} checkpoints left were whole; results compared byte for byte"
    return Tried(fault, times, held, note)


def killed_multirun(folder: Path, rng: np.random.Generator, times: int) -> Tried:
    """`kill -9` a multirun of six jobs in two groups.

    Are only the unfinished jobs run again, none lost or doubled?
    """
    fault = "multirun killed at a random moment"
    reference, seconds = uninterrupted(folder, MULTIRUN)
    results = (reference / "out").glob("*/results.json")
    written = [path.stat().st_mtime for path in results]
    training = Moment(seconds / 2, seconds)
    writing = Moment(0, max(written) - min(written), "out/*/results.json")
    held = 0
    finished = []
    for i in counted(fault, times):
        moment = writing if i % 2 else training
        place = killed_before_its_end(folder / str(i), MULTIRUN, rng, moment)
        before = written_at(place)
        done = command(place, *MULTIRUN, "resume=true")
        after = written_at(place)
        untouched = all(after[job] == at for job, at in before.items())
        finished.append(len(before))
        whole = done.returncode == 0 and has_six_jobs(place / "out", reference / "out")
        held += whole and untouched
    ran = f"{sum(finished)} jobs had finished and none ran again"
    late = sum(jobs > 0 for jobs in finished)
    note = f"{ran}; {late} kills came after a first job's results"
    return Tried(fault, times, held, note)


def written_at(place: Path) -> dict[str, int]:
    """When the results of each job were written, by the clock of the file system."""
    results = place.glob("out/*/results.json")
    return {path.parent.name: path.stat().st_mtime_ns for path in results}


def has_six_jobs(out: Path, reference: Path) -> bool:
    """Whether a multirun has the results of its six jobs, and no others."""
    jobs = sorted(path.name for path in out.iterdir() if (path / "results.json").is_file())
    with (out / "sweep.csv").open() as file:
        rows = list(csv.DictReader(file))
    same = all(have_same_files(out / job, reference / job) for job in jobs)
    return jobs == list("012345") and len(rows) == 6 and same


def have_same_files(out: Path, reference: Path) -> bool:
    """Whether the results of two runs are the same byte for byte."""
    return all((out / name).read_bytes() == (reference / name).read_bytes() for name in SAME)


def is_sound(file: Path) -> bool:
    """Whether a checkpoint is whole."""
    try:
        read(file)
    except Damaged:
        return False
    return True


def uninterrupted(folder: Path, arguments: Command) -> tuple[Path, float]:
    """The folder of a run to compare with, and the seconds that such a run takes."""
    place = folder
    seconds = 0.0
    for name in ("compiling", "reference"):  # the second has its programs compiled
        place = folder / name
        place.mkdir(parents=True)
        began = time.monotonic()
        with waiting("a run to compare with"):
            done = command(place, *arguments)
        assert done.returncode == 0, done.stderr
        seconds = time.monotonic() - began
    return place, seconds


def killed_before_its_end(
    folder: Path, arguments: Command, rng: np.random.Generator, moment: Moment
) -> Path:
    """The folder of a run that was killed at a moment that is drawn.

    Another is drawn where it ended before.
    """
    for attempt in range(100):
        place = folder / str(attempt)
        place.mkdir(parents=True)
        process = subprocess.Popen(
            mfjax_run(*arguments),
            cwd=place,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        if moment.after:
            while process.poll() is None and not any(place.glob(moment.after)):
                time.sleep(0.001)
        time.sleep(rng.uniform(moment.low, moment.high))
        process.kill()
        if process.wait() == -signal.SIGKILL:
            return place
    raise AssertionError("no run lived long enough to be killed")


def mfjax_run(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "mfjax.run", *arguments]


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    words = mfjax_run(*arguments)
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)


# damaged


def damaged(folder: Path, rng: np.random.Generator) -> Iterator[Tried]:
    """Flip a bit of a checkpoint, or cut its end off.

    Is it noticed, and the one before it taken?
    """
    checkpoints = Checkpoints(folder, {"reg": 0.1}, every=1)
    for number in range(2):
        user = rng.normal(size=(3, 60, 18)).astype(np.float32)
        arrays = {"user": user, "number": np.int32(number)}
        checkpoints.after_chunk("block", Block(1, lambda arrays=arrays: arrays))
    (file,) = folder.rglob("block.ckpt")
    content = file.read_bytes()
    before = "the one before it was taken"

    def gives_way(damage: bytes) -> bool:
        file.write_bytes(damage)
        found = checkpoints.find("block")
        return found is not None and int(found["number"]) == 0

    fault = "one bit flipped"
    bits = rng.choice(8 * len(content), 1000, replace=False)
    held = sum(gives_way(with_flipped(content, bits[i])) for i in counted(fault, len(bits)))
    note = f"of a file of {len(content):,} bytes; {before}"
    yield Tried(fault, len(bits), held, note)
    fault = "cut short"
    held = sum(gives_way(content[:length]) for length in counted(fault, len(content)))
    yield Tried(fault, len(content), held, f"every length; {before}")


def with_flipped(content: bytes, bit: int) -> bytes:
    """The content with one bit changed."""
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


if __name__ == "__main__":
    main()
