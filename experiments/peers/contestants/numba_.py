"""numba: the full gradient by a compiled loop over the rows of both orientations, in parallel."""

from typing import NamedTuple

import numba
import numpy as np
from common import (
    REG,
    THREADS,
    Task,
    clock,
    gradient_result,
    main,
    median_seconds,
    starting_factors,
)

CHUNKS = 64  # blocks of rows with about as many ratings each, shared out over the threads


class Rows(NamedTuple):
    """The ratings sorted by row, then column."""

    start: np.ndarray  # [rows + 1], where each row starts
    column: np.ndarray  # [n]
    value: np.ndarray  # [n]
    chunks: np.ndarray  # [CHUNKS + 1], the rows at which a block begins


def make_side(rank: int):
    """The gradient of one side.

    The rank is a constant of the compiled code, so that LLVM unrolls and vectorises.
    """

    @numba.njit(parallel=True, fastmath=True, error_model="numpy", boundscheck=False)
    def side(own, other, rows, reg, grad):
        start, column, value, chunks = rows
        loss = 0.0
        for chunk in numba.prange(len(chunks) - 1):
            row_sum = np.empty(rank, np.float32)
            partial = np.float32(0)
            for row in range(chunks[chunk], chunks[chunk + 1]):
                for f in range(rank):
                    row_sum[f] = reg * own[row, f]
                    partial += row_sum[f] * own[row, f]
                for n in range(start[row], start[row + 1]):
                    j = column[n]
                    product = np.float32(0)
                    for f in range(rank):
                        product += own[row, f] * other[j, f]
                    error = product - value[n]
                    partial += error * error
                    for f in range(rank):
                        row_sum[f] += error * other[j, f]
                for f in range(rank):
                    grad[row, f] = row_sum[f]
            loss += partial
        return loss

    return side


def rows_of(row: np.ndarray, column: np.ndarray, value: np.ndarray, num_rows: int) -> Rows:
    """The ratings by the rows of one side."""
    order = np.lexsort((column, row))
    counts = np.bincount(row, minlength=num_rows)
    start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    chunks = np.searchsorted(start, np.linspace(0, len(row), CHUNKS + 1)).astype(np.int32)
    chunks[0] = 0
    chunks[-1] = num_rows
    return Rows(start, column[order], value[order], chunks)


def gradient(task: Task) -> dict:
    """One full gradient of both sides and the loss."""
    numba.set_num_threads(THREADS)
    data = task.data
    reg = np.float32(REG)
    user, item = starting_factors(data, task.rank)
    by_user = rows_of(data.user, data.item, data.value, data.num_users)
    by_item = rows_of(data.item, data.user, data.value, data.num_items)
    grad_user = np.empty_like(user)
    grad_item = np.empty_like(item)
    side = make_side(task.rank)

    def call() -> float:
        loss = side(user, item, by_user, reg, grad_user)
        side(item, user, by_item, reg, grad_item)
        return (loss + reg * float((item * item).sum())) / 2

    setup = clock(call)
    seconds = median_seconds(call, task.quick)
    loss = call()
    return gradient_result(loss, grad_user, grad_item, seconds=seconds, setup_seconds=setup)


main({"gradient": gradient})
