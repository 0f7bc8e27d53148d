"""What every contestant shares: its arguments, the data, the clock and the one line of JSON. Needs NumPy alone."""

import json
import multiprocessing
import platform
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

THREADS = 2
EPOCHS = 20  # of an SGD fit that is tested, and of each setting of the sweep
REG = 0.05  # λ per row, of the gradient job
BIAS_REG = 3.0  # λ of a bias, of the ALS peers whose λ is per row
ROW_REGS = (1.5, 4.0, 10.0, 18.0, 30.0)  # the λ per row that those try
SWEEPS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15)  # the ALS sweeps after which the test error is taken


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
        clipped = np.clip(np.asarray(prediction, np.float64), self.value.min(), self.value.max())
        return float(np.sqrt(np.mean((clipped - self.test_value) ** 2)))

    def rmse_of(self, user: np.ndarray, item: np.ndarray, rest: np.ndarray | float = 0.0) -> float:
        """The test error of `user[i]·item[j] + rest`."""
        return self.rmse(np.einsum("nk,nk->n", user[self.test_user], item[self.test_item]) + rest)


class Task(NamedTuple):
    """One call of a contestant: the data, the rank and its options (`quick`: a smoke run of a few calls)."""

    data: Data
    rank: int
    options: dict[str, str]

    @property
    def quick(self) -> bool:
        return self.options.get("quick") == "1"

    @property
    def curve(self) -> bool:
        """Whether the test error by sweep is wanted too."""
        return self.options.get("curve") == "1"


def load(path: str) -> Data:
    """The data file that `run.py` wrote."""
    with np.load(path) as file:
        train, test = ([file[f"{part}_{column}"] for column in ("user", "item", "value")] for part in ("train", "test"))
    users, items = (int(max(a.max(), b.max())) + 1 for a, b in zip(train[:2], test[:2], strict=True))
    return Data(users, items, *train, *test)


def main(jobs: dict[str, Callable[[Task], dict[str, Any]]]) -> None:
    """Run the job of the command line, `JOB DATA RANK [key=value ...]`, and print its result as one line of JSON."""
    job, path, rank, *options = sys.argv[1:]
    task = Task(load(path), int(rank), dict(option.split("=", 1) for option in options))
    processes = THREADS if job == "sweep" else 0
    result = {"seconds": None, "setup_seconds": None, "rmse": None, "note": ""} | jobs[job](task)
    print(json.dumps(result | {"peak_mb": peak_mb(processes)}), flush=True)


def peak_mb(processes: int) -> float | None:
    """The most memory this process held, and `processes` times that of its largest child; None where it cannot be known."""
    try:
        import resource
    except ImportError:
        return None
    unit = 2**20 if platform.system() == "Darwin" else 2**10
    own, child = (resource.getrusage(who).ru_maxrss / unit for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    status = Path("/proc/self/status")
    if status.exists():  # there, the figure above starts at what the process that started this one held
        own = next((int(line.split()[1]) / 2**10 for line in status.read_text().splitlines() if "VmHWM" in line), own)
    return round(own + processes * child, 1)


def clock(call: Callable[[], Any]) -> float:
    """The seconds of one call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def median_seconds(call: Callable[[], Any], quick: bool = False) -> float:
    """The median seconds of a call that is warm: at least 5 calls and half a second of them."""
    least_calls, least_seconds = (2, 0.1) if quick else (5, 0.5)
    seconds: list[float] = []
    while len(seconds) < least_calls or sum(seconds) < least_seconds:
        seconds.append(clock(call))
    return float(np.median(seconds))


def seconds_an_epoch(fit: Callable[[int], Any], epochs: int, quick: bool = False) -> tuple[float, float]:
    """(seconds an epoch, seconds of set-up) of a library whose `fit(epochs)` does both: a long fit less a short one.

    The median of at least 3 pairs and 1 second of them.
    """
    least_pairs, least_seconds = (1, 0.0) if quick else (3, 1.0)
    pairs: list[tuple[float, float]] = []
    while len(pairs) < least_pairs or sum(map(sum, pairs)) < least_seconds:
        pairs.append((clock(lambda: fit(1)), clock(lambda: fit(1 + epochs))))
    epoch = float(np.median([(long - short) / epochs for short, long in pairs]))
    return epoch, max(float(np.median([short for short, _ in pairs])) - epoch, 0.0)


def starting_factors(data: Data, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """The float32 factors at which every contestant takes the gradient."""
    rng = np.random.default_rng(0)
    sides = (0.3 * rng.standard_normal((n, rank)) for n in (data.num_users, data.num_items))
    return tuple(side.astype(np.float32) for side in sides)


def gradient_result(loss: float, user: np.ndarray, item: np.ndarray, **result: Any) -> dict[str, Any]:
    """A result with what tells whether the gradient is right: the loss and the norms of both sides."""
    norms = (float(np.linalg.norm(np.asarray(side, np.float64))) for side in (user, item))
    return {"check": [float(loss), *norms], **result}


def dense(data: Data) -> tuple[np.ndarray, np.ndarray]:
    """The ratings matrix (0 where missing) and its mask, `[users, items]` float32."""
    ratings, mask = np.zeros((2, data.num_users, data.num_items), np.float32)
    ratings[data.user, data.item], mask[data.user, data.item] = data.value, 1
    return ratings, mask


def best_curve(curve: Callable[[float], dict[int, float]], regs: Sequence[float], quick: bool = False) -> dict[str, Any]:
    """The test error by number of sweeps, `{sweeps: RMSE}`, at the λ whose best is least."""
    curves = {reg: curve(reg) for reg in (regs[1:2] if quick else regs)}
    reg = min(curves, key=lambda reg: min(curves[reg].values()))
    return {"curve": curves[reg], "rmse": min(curves[reg].values()), "reg": reg}


def settings(learning_rates: Sequence[float], regs: Sequence[float], quick: bool = False) -> list[tuple[float, float]]:
    """The grid of the sweep: 8 learning rates by 4 λ."""
    grid = [(learning_rate, reg) for learning_rate in learning_rates for reg in regs]
    assert len(grid) == 32
    return grid[::8] if quick else grid


def pooled(fit: Callable[[tuple[float, float]], float], grid: Sequence[tuple[float, float]]) -> list[float]:
    """The test error of every setting, over 2 processes that inherit the data of this one (where the system can fork)."""
    _Inherited.fit = staticmethod(fit)
    with multiprocessing.get_context("fork").Pool(THREADS) as pool:
        return pool.map(_fit_inherited, grid, chunksize=1)


class _Inherited:
    fit: Callable[[tuple[float, float]], float]


def _fit_inherited(setting: tuple[float, float]) -> float:
    return _Inherited.fit(setting)


def sweep_result(began: float, errors: Sequence[float], **result: Any) -> dict[str, Any]:
    """The result of a sweep that began at `began`: seconds a setting, and the least of its test errors."""
    wall = time.perf_counter() - began
    return {"seconds": wall / len(errors), "wall_seconds": wall, "rmse": float(np.nanmin(errors)), **result}
