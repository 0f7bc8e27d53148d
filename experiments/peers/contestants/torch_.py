"""PyTorch: the full gradient by autograd on the dense matrix, and a loop of Adam fits for the sweep."""

import time

import numpy as np
import torch
from common import (
    EPOCHS,
    REG,
    THREADS,
    Task,
    clock,
    dense,
    gradient_result,
    main,
    median_seconds,
    pooled,
    settings,
    starting_factors,
    sweep_result,
)

BATCH = 4096


def gradient(task: Task) -> dict:
    """One full gradient of both sides and the loss, the missing entries masked."""
    torch.set_num_threads(THREADS)
    ratings, mask = map(torch.from_numpy, dense(task.data))
    user, item = (torch.from_numpy(side).requires_grad_() for side in starting_factors(task.data, task.rank))

    def call():
        error = mask * (user @ item.T) - ratings  # the ratings are 0 where the mask is
        loss = (error.square().sum() + REG * (user.square().sum() + item.square().sum())) / 2
        return loss, torch.autograd.grad(loss, (user, item))

    setup = clock(call)
    seconds = median_seconds(call, task.quick)
    loss, grads = call()
    return gradient_result(loss.item(), *(g.numpy() for g in grads), seconds=seconds, setup_seconds=setup)


def sweep(task: Task) -> dict:
    """32 settings of biased factorisation by Adam on shuffled batches, over 2 processes of one thread each."""
    torch.set_num_threads(1)
    data, rank = task.data, task.rank
    rates = (0.003, 0.005, 0.008, 0.012, 0.018, 0.027, 0.04, 0.06)
    began = time.perf_counter()
    user, item = (torch.from_numpy(side.astype(np.int64)) for side in (data.user, data.item))
    mean = float(data.value.mean())
    value = torch.from_numpy(data.value) - mean

    def fit(setting: tuple[float, float]) -> float:
        learning_rate, reg = setting
        torch.set_num_threads(1)
        torch.manual_seed(0)
        sizes = (data.num_users, data.num_items)
        factors = [(0.1 * torch.randn(n, rank)).requires_grad_() for n in sizes]
        biases = [torch.zeros(n, 1, requires_grad=True) for n in sizes]
        optimizer = torch.optim.Adam([*factors, *biases], lr=learning_rate, fused=True)
        for _ in range(EPOCHS):
            for rows in torch.randperm(len(value)).split(BATCH):
                index = user[rows], item[rows]
                u, v = (side.index_select(0, i) for side, i in zip(factors, index, strict=True))
                b, c = (side.index_select(0, i)[:, 0] for side, i in zip(biases, index, strict=True))
                error = (u * v).sum(1) + b + c - value[rows]
                penalty = u.square().sum() + v.square().sum() + b.square().sum() + c.square().sum()
                optimizer.zero_grad()
                ((error.square().sum() + reg * penalty) / len(rows)).backward()
                optimizer.step()
        u, v = (side.detach().numpy() for side in factors)
        b, c = (side.detach().numpy()[:, 0] for side in biases)
        return data.rmse_of(u, v, b[data.test_user] + c[data.test_item] + mean)

    errors = pooled(fit, settings(rates, (0.03, 0.06, 0.1, 0.15), task.quick))
    return sweep_result(began, errors, note=f"Adam, batch {BATCH}, 2 processes")


main({"gradient": gradient, "sweep": sweep})
