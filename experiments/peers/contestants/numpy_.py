"""NumPy: the full gradient as products of dense matrices, the missing entries masked."""

import numpy as np
from common import (
    REG,
    Task,
    clock,
    dense,
    gradient_result,
    main,
    median_seconds,
    starting_factors,
)


def gradient(task: Task) -> dict:
    """One full gradient of both sides and the loss; the buffers are allocated once."""
    ratings, mask = dense(task.data)
    user, item = starting_factors(task.data, task.rank)
    reg = np.float32(REG)
    error = np.empty_like(ratings)
    grad_user = np.empty_like(user)
    grad_item = np.empty_like(item)

    def call() -> float:
        np.matmul(user, item.T, out=error)
        np.multiply(error, mask, out=error)
        np.subtract(error, ratings, out=error)  # the ratings are 0 where the mask is
        np.matmul(error, item, out=grad_user)
        np.matmul(error.T, user, out=grad_item)
        np.add(grad_user, reg * user, out=grad_user)
        np.add(grad_item, reg * item, out=grad_item)
        norms = np.vdot(user, user) + np.vdot(item, item)
        return float(np.vdot(error, error) + reg * norms) / 2

    setup = clock(call)
    seconds = median_seconds(call, task.quick)
    loss = call()
    return gradient_result(loss, grad_user, grad_item, seconds=seconds, setup_seconds=setup)


main({"gradient": gradient})
