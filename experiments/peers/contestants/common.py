"""What every contestant shares: its arguments, the data, the clock and the one line of JSON.

Needs NumPy alone.
"""

import itertools
import json
import multiprocessing
import platform
import sys
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

THREADS = 2
EPOCHS = 20  # of an SGD fit that is tested, and of each setting of the sweep
REG = 0.05  # λ per row, of the gradient job
BIAS_REG = 3.0  # λ of a bias, of the ALS peers whose λ is per row
ROW_REGS = (1.5, 4.0, 10.0, 18.0, 30.0)  # the λ per row that those try
SWEEPS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15)  # the ALS sweeps after which the test error is taken
GIBBS_SWEEPS = (25, 30, 40, 50, 75, 100, 150, 200, 300)  # after which the mean is tested

Setting = tuple[float, float]  # learning rate and λ


class Data(NamedTuple):
    """Training and test ratings; users and items are numbered from 0."""

    num_users: int
    num_items: int
    user: np.ndarray  # [n] int32
    item: np.ndarray  # [n] int32
    value: np.ndarray  # [n] float32
    test_user: np.ndarray
    test_item: np.ndarray
    test_value: np.ndarray

    def rmse(self, prediction: np.ndarray) -> float:
        """The test error of predictions `[m]`, clipped to the range of the training ratings."""
        wide = np.asarray(prediction, np.float64)
        clipped = np.clip(wide, self.value.min(), self.value.max())
        return float(np.sqrt(np.mean((clipped - self.test_value) ** 2)))

    def rmse_of(self, user: np.ndarray, item: np.ndarray, rest: np.ndarray | float = 0.0) -> float:
        """The test error of `user[i]·item[j] + rest`."""
        dot = np.einsum("nk,nk->n", user[self.test_user], item[self.test_item])
        return self.rmse(dot + rest)


class Task(NamedTuple):
    """One call of a contestant: where the data are, the rank and its options."""

    path: str
    rank: int
    options: dict[str, str]

    @property
    def data(self) -> Data:
        return load(self.path)

    @property
    def quick(self) -> bool:
        """Whether this is a smoke run of a few calls."""
        return self.options.get("quick") == "1"

    @property
    def curve(self) -> bool:
        """Whether the test error by sweep is wanted too."""
        return self.options.get("curve") == "1"

    @property
    def sweeps(self) -> Sequence[int]:
        """The ALS sweeps after which the test error is taken."""
        return SWEEPS[:3] if self.quick else SWEEPS


# the command


def main(jobs: dict[str, Callable[[Task], dict[str, Any]]]) -> None:
    """Run the job of the command line, and print its result as one line of JSON.

    The command line is `JOB DATA RANK [key=value ...]`.
    """
    job, path, rank, *options = sys.argv[1:]
    chosen = dict(option.split("=", 1) for option in options)
    task = Task(path, int(rank), chosen)
    processes = THREADS if job in ("sweep", "folds") else 0
    result = {"seconds": None, "setup_seconds": None, "rmse": None, "note": ""}
    result |= jobs[job](task)
    result["peak_mb"] = peak_mb(processes)
    print(json.dumps(result), flush=True)


@cache
def load(path: str) -> Data:
    """A data file that `run.py` wrote."""
    with np.load(path) as file:
        columns = {name: file[name] for name in file.files}

    def count(name: str) -> int:
        last = max(columns[f"{part}_{name}"].max() for part in ("train", "test"))
        return int(last) + 1

    return Data(
        num_users=count("user"),
        num_items=count("item"),
        user=columns["train_user"],
        item=columns["train_item"],
        value=columns["train_value"],
        test_user=columns["test_user"],
        test_item=columns["test_item"],
        test_value=columns["test_value"],
    )


def peak_mb(processes: int) -> float | None:
    """The most memory this process held, and `processes` times that of its largest child.

    None where it cannot be known.
    """
    try:
        import resource
    except ImportError:
        return None
    unit = 2**20 if platform.system() == "Darwin" else 2**10

    def most(who: int) -> float:
        return resource.getrusage(who).ru_maxrss / unit

    own = most(resource.RUSAGE_SELF)
    child = most(resource.RUSAGE_CHILDREN)
    status = Path("/proc/self/status")
    if status.exists():  # there, the figure above starts at what the starting process held
        lines = status.read_text().splitlines()
        peaks = (int(line.split()[1]) / 2**10 for line in lines if "VmHWM" in line)
        own = next(peaks, own)
    return round(own + processes * child, 1)


# the clock


def clock(call: Callable[[], Any]) -> float:
    """The seconds of one call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def median_seconds(call: Callable[[], Any], quick: bool = False) -> float:
    """The median seconds of a call that is warm: at least 5 calls and half a second of them."""
    least_calls = 2 if quick else 5
    least_seconds = 0.1 if quick else 0.5
    seconds: list[float] = []
    while len(seconds) < least_calls or sum(seconds) < least_seconds:
        seconds.append(clock(call))
    return float(np.median(seconds))


def seconds_an_epoch(
    fit: Callable[[int], Any], epochs: int, quick: bool = False
) -> tuple[float, float]:
    """(seconds an epoch, seconds of set-up) of a library whose `fit(epochs)` does both.

    A long fit less a short one, the median of at least 3 pairs and 1 second of them.
    """
    least_pairs = 1 if quick else 3
    least_seconds = 0.0 if quick else 1.0
    shorts: list[float] = []
    longs: list[float] = []
    while len(shorts) < least_pairs or sum(shorts) + sum(longs) < least_seconds:
        shorts.append(clock(lambda: fit(1)))
        longs.append(clock(lambda: fit(1 + epochs)))
    epoch = float(np.median(np.subtract(longs, shorts) / epochs))
    setup = float(np.median(shorts)) - epoch
    return epoch, max(setup, 0.0)


# the gradient


def starting_factors(data: Data, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """The float32 factors at which every contestant takes the gradient."""
    rng = np.random.default_rng(0)
    user = 0.3 * rng.standard_normal((data.num_users, rank))
    item = 0.3 * rng.standard_normal((data.num_items, rank))
    return user.astype(np.float32), item.astype(np.float32)


def gradient_result(
    loss: float, user: np.ndarray, item: np.ndarray, **result: Any
) -> dict[str, Any]:
    """A result with what tells whether the gradient is right.

    That is the loss and the norms of both sides.
    """
    norms = (float(np.linalg.norm(np.asarray(side, np.float64))) for side in (user, item))
    return {"check": [float(loss), *norms], **result}


def dense(data: Data) -> tuple[np.ndarray, np.ndarray]:
    """The ratings matrix (0 where missing) and its mask, `[users, items]` float32."""
    ratings, mask = np.zeros((2, data.num_users, data.num_items), np.float32)
    ratings[data.user, data.item] = data.value
    mask[data.user, data.item] = 1
    return ratings, mask


# the test error by sweep


def curve_of_steps(
    step: Callable[[], Any], rmse: Callable[[], float], task: Task
) -> dict[int, float]:
    """The test error after each step, up to the last of the task's sweeps."""
    errors = {}
    for n in range(1, task.sweeps[-1] + 1):
        step()
        errors[n] = rmse()
    return errors


def best_curve(
    curve: Callable[[float], dict[int, float]], regs: Sequence[float], task: Task
) -> dict[str, Any]:
    """The test error by number of sweeps, `{sweeps: RMSE}`, at the λ whose best is least.

    Nothing where the task wants no curve.
    """
    if not task.curve:
        return {}
    curves = {reg: curve(reg) for reg in (regs[1:2] if task.quick else regs)}
    least = {reg: min(errors.values()) for reg, errors in curves.items()}
    reg = min(least, key=lambda reg: least[reg])
    return {"curve": curves[reg], "rmse": least[reg], "reg": reg}


# the sweep


def settings(learning_rates: Sequence[float], regs: Sequence[float], task: Task) -> list[Setting]:
    """The grid of a sweep, 8 learning rates by 4 λ; or as many by as many as the task asks for.

    Those are within the same ranges, each a factor from the next.
    """
    axes = [learning_rates, regs]
    if counts := task.options.get("grid"):
        sizes = map(int, counts.split("x"))
        ranges = zip(axes, sizes, strict=True)
        axes = [np.geomspace(min(axis), max(axis), size).tolist() for axis, size in ranges]
    grid = list(itertools.product(*axes))
    return grid[::8] if task.quick else grid


def pooled(fit: Callable[[Any], float], grid: Sequence[Any]) -> list[float]:
    """The test error of every setting, over 2 processes.

    They inherit the data of this one (where the system can fork).
    """
    _Inherited.fit = staticmethod(fit)
    with multiprocessing.get_context("fork").Pool(THREADS) as pool:
        return pool.map(_fit_inherited, grid, chunksize=1)


class _Inherited:
    fit: Callable[[Any], float]


def _fit_inherited(setting: Any) -> float:
    return _Inherited.fit(setting)


def sweep_result(began: float, errors: Sequence[float], **result: Any) -> dict[str, Any]:
    """The result of a sweep that began at `began`: seconds a setting, and its least test error."""
    wall = time.perf_counter() - began
    return {
        "seconds": wall / len(errors),
        "wall_seconds": wall,
        "rmse": float(np.nanmin(errors)),
        **result,
    }


# the folds of a data set


def best_on_folds(task: Task, error: Callable[[Data, dict[str, Any]], float]) -> dict[str, Any]:
    """The test error of every fold, at one choice of the task's for all of them.

    That is the one whose errors on what is held out of each fold have the least mean; a choice that
    is alone is tested at once. `error(data, choice)` is of one fit; over 2 processes.
    """
    choices = json.loads(task.options["choices"])

    def errors(of: Sequence[dict[str, Any]], part: str) -> np.ndarray:
        files = sorted(map(str, Path(task.path).glob(f"{part}_*.npz")))
        fits = [*itertools.product(files, of)]
        found = pooled(lambda fit: error(load(fit[0]), fit[1]), fits)
        return np.reshape(found, (len(files), len(of)))

    held_out = errors(choices, "held_out").mean(0) if len(choices) > 1 else [0.0]
    chosen = choices[int(np.nanargmin(held_out))]
    tested = errors([chosen], "test")
    return {"errors": tested[:, 0].tolist(), "chosen": chosen}
