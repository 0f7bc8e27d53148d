"""numba: the full gradient by a compiled loop over the rows of both orientations, in parallel."""

import numba
import numpy as np
from common import REG, THREADS, Task, clock, gradient_result, main, median_seconds, starting_factors

CHUNKS = 64  # blocks of rows with about as many ratings each, shared out over the threads


def make_side(rank: int):
    """The gradient of one side; the rank is a constant of the compiled code, so that LLVM unrolls and vectorises."""

    @numba.njit(parallel=True, fastmath=True, error_model="numpy", boundscheck=False)
    def side(own, other, start, column, value, chunks, reg, grad):
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


def rows_of(row: np.ndarray, column: np.ndarray, value: np.ndarray, num_rows: int):
    """The ratings sorted by row (then column): where each row starts, their columns and values; and the chunks of rows."""
    order = np.lexsort((column, row))
    start = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=num_rows))]).astype(np.int32)
    chunks = np.searchsorted(start, np.linspace(0, len(row), CHUNKS + 1)).astype(np.int32)
    chunks[0], chunks[-1] = 0, num_rows
    return start, column[order], value[order], chunks


def gradient(task: Task) -> dict:
    """One full gradient of both sides and the loss."""
    numba.set_num_threads(THREADS)
    data, reg = task.data, np.float32(REG)
    user, item = starting_factors(data, task.rank)
    by_user = rows_of(data.user, data.item, data.value, data.num_users)
    by_item = rows_of(data.item, data.user, data.value, data.num_items)
    grad_user, grad_item = np.empty_like(user), np.empty_like(item)
    side = make_side(task.rank)

    def call() -> float:
        loss = side(user, item, *by_user, reg, grad_user)
        side(item, user, *by_item, reg, grad_item)
        return (loss + reg * float((item * item).sum())) / 2

    setup = clock(call)
    seconds = median_seconds(call, task.quick)
    return gradient_result(call(), grad_user, grad_item, seconds=seconds, setup_seconds=setup)


main({"gradient": gradient})
