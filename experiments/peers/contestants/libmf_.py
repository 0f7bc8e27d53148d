"""LIBMF through its PyPI bindings: parallel one-rating SGD without biases.

As its package builds it, or with AVX.
"""

import contextlib
import io
import time
from typing import Any

import numpy as np
from common import (
    EPOCHS,
    THREADS,
    Data,
    Setting,
    Task,
    best_on_folds,
    main,
    pooled,
    seconds_an_epoch,
    settings,
    sweep_result,
)

with contextlib.redirect_stdout(io.StringIO()):  # it prints where it found its library
    from libmf import mf

RATES = (0.02, 0.03, 0.045, 0.06, 0.08, 0.1, 0.14, 0.2)
REGS = (0.02, 0.04, 0.07, 0.1)


def ratings(data: Data) -> np.ndarray:
    """The rows (user, item, rating) that LIBMF reads."""
    return np.column_stack([data.user, data.item, data.value]).astype(np.float32)


def fit(rows: np.ndarray, rank: int, threads: int, **arguments: Any) -> mf.MF:
    """One fit; the bindings keep a copy of the ratings, so that LIBMF need not make one."""
    engine = mf.MF(
        k=rank,
        nr_threads=threads,
        nr_bins=max(20, 2 * threads + 1),
        quiet=True,
        copy_data=False,
        **arguments,
    )
    engine.fit(rows)
    return engine


def at(setting: Setting, epochs: int) -> dict[str, Any]:
    """LIBMF's own arguments."""
    rate, reg = setting
    return {"nr_iters": epochs, "eta": rate, "lambda_p2": reg, "lambda_q2": reg}


def factors(size: int, seen: np.ndarray) -> np.ndarray:
    """The factors of every row, `[size, k]`: NaN of those that LIBMF never saw."""
    rows = np.full((size, seen.shape[1]), np.nan)
    rows[: len(seen)] = seen
    return rows


def test_error(data: Data, engine: mf.MF) -> float:
    """The test error; LIBMF predicts its mean for users and items that it never saw."""
    user = factors(data.num_users, engine.p_factors())
    item = factors(data.num_items, engine.q_factors())
    prediction = np.einsum("nk,nk->n", user[data.test_user], item[data.test_item])
    return data.rmse(np.where(np.isnan(prediction), engine.model.b, prediction))


def sgd(task: Task) -> dict:
    """One epoch, from the difference of fits of two lengths."""
    rows = ratings(task.data)
    threads = int(task.options.get("threads", THREADS))

    def one(epochs: int) -> mf.MF:
        return fit(rows, task.rank, threads, **at((0.06, 0.04), epochs))

    # few long fits: at the end of one, its threads may hang
    epochs = max(EPOCHS, 10_000_000 // len(rows))
    seconds, setup = seconds_an_epoch(one, EPOCHS if task.quick else epochs, task.quick)
    return {
        "seconds": seconds,
        "setup_seconds": setup,
        "rmse": test_error(task.data, one(EPOCHS)),
        "note": f"no biases; {threads} threads",
    }


def sweep(task: Task) -> dict:
    """32 settings over 2 processes of one thread each."""
    began = time.perf_counter()
    rows = ratings(task.data)

    def one(setting: Setting) -> float:
        return test_error(task.data, fit(rows, task.rank, 1, **at(setting, EPOCHS)))

    errors = pooled(one, settings(RATES, REGS, task))
    return sweep_result(began, errors, note="no biases; 2 processes")


def folds(task: Task) -> dict:
    """The folds of a data set, a thread a fit."""

    def error(data: Data, choice: dict[str, Any]) -> float:
        return test_error(data, fit(ratings(data), task.rank, 1, **choice))

    return best_on_folds(task, error)


main({"sgd": sgd, "sweep": sweep, "folds": folds})
