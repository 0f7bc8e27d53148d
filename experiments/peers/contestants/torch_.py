"""PyTorch: the full gradient by autograd on the dense matrix; Adam fits in a loop for the sweep."""

import time
from typing import NamedTuple

import numpy as np
import torch
from common import (
    EPOCHS,
    REG,
    THREADS,
    Setting,
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
RATES = (0.003, 0.005, 0.008, 0.012, 0.018, 0.027, 0.04, 0.06)
REGS = (0.03, 0.06, 0.1, 0.15)


def gradient(task: Task) -> dict:
    """One full gradient of both sides and the loss, the missing entries masked."""
    torch.set_num_threads(THREADS)
    ratings, mask = map(torch.from_numpy, dense(task.data))
    factors = starting_factors(task.data, task.rank)
    user, item = (torch.from_numpy(side).requires_grad_() for side in factors)

    def call():
        error = mask * (user @ item.T) - ratings  # the ratings are 0 where the mask is
        norms = user.square().sum() + item.square().sum()
        loss = (error.square().sum() + REG * norms) / 2
        return loss, torch.autograd.grad(loss, (user, item))

    setup = clock(call)
    seconds = median_seconds(call, task.quick)
    loss, grads = call()
    sides = (grad.numpy() for grad in grads)
    return gradient_result(loss.item(), *sides, seconds=seconds, setup_seconds=setup)


class Tables(NamedTuple):
    """What a fit trains."""

    user: torch.Tensor
    item: torch.Tensor
    user_bias: torch.Tensor
    item_bias: torch.Tensor

    @classmethod
    def drawn(cls, task: Task) -> "Tables":
        """Random factors, and biases of 0."""
        torch.manual_seed(0)
        users = task.data.num_users
        items = task.data.num_items
        return cls(
            user=(0.1 * torch.randn(users, task.rank)).requires_grad_(),
            item=(0.1 * torch.randn(items, task.rank)).requires_grad_(),
            user_bias=torch.zeros(users, 1, requires_grad=True),
            item_bias=torch.zeros(items, 1, requires_grad=True),
        )

    def loss(self, user, item, value, reg: float):
        """The loss of a batch, a rating."""
        u = self.user.index_select(0, user)
        v = self.item.index_select(0, item)
        b = self.user_bias.index_select(0, user)[:, 0]
        c = self.item_bias.index_select(0, item)[:, 0]
        error = (u * v).sum(1) + b + c - value
        penalty = u.square().sum() + v.square().sum() + b.square().sum() + c.square().sum()
        return (error.square().sum() + reg * penalty) / len(value)

    def rmse(self, task: Task, mean: float) -> float:
        """The test error."""
        data = task.data
        user, item, user_bias, item_bias = (table.detach().numpy() for table in self)
        biases = user_bias[:, 0][data.test_user] + item_bias[:, 0][data.test_item]
        return data.rmse_of(user, item, biases + mean)


def sweep(task: Task) -> dict:
    """32 settings of biased factorisation by Adam, over 2 processes of one thread each.

    Adam takes shuffled batches.
    """
    torch.set_num_threads(1)
    began = time.perf_counter()
    user = torch.from_numpy(task.data.user.astype(np.int64))
    item = torch.from_numpy(task.data.item.astype(np.int64))
    mean = float(task.data.value.mean())
    value = torch.from_numpy(task.data.value) - mean

    def error(setting: Setting) -> float:
        learning_rate, reg = setting
        torch.set_num_threads(1)
        tables = Tables.drawn(task)
        optimizer = torch.optim.Adam(list(tables), lr=learning_rate, fused=True)
        for _ in range(EPOCHS):
            for rows in torch.randperm(len(value)).split(BATCH):
                loss = tables.loss(user[rows], item[rows], value[rows], reg)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return tables.rmse(task, mean)

    errors = pooled(error, settings(RATES, REGS, task))
    return sweep_result(began, errors, note=f"Adam, batch {BATCH}, 2 processes")


main({"gradient": gradient, "sweep": sweep})
