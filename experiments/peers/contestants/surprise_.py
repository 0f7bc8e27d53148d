"""Surprise: its SVD (biased factorisation by one-rating SGD), and its SVD++.

The ratings are sorted by user, which is its fast order.
"""

import time
from typing import Any

import numpy as np
from common import (
    EPOCHS,
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
from surprise import SVD, SVDpp, Trainset

RATES = (0.003, 0.005, 0.007, 0.01, 0.014, 0.02, 0.028, 0.04)
REGS = (0.04, 0.07, 0.1, 0.14)


def trainset(data: Data) -> Trainset:
    """Surprise's own training set, its lists filled user after user.

    Neighbours in time are neighbours in memory.
    """
    order = np.lexsort((data.item, data.user))
    users = data.user[order].tolist()
    items = data.item[order].tolist()
    values = data.value[order].tolist()
    by_user = {u: [] for u in range(data.num_users)}
    by_item: dict[int, list] = {}  # an item without ratings is one that it does not know
    for u, i, r in zip(users, items, values, strict=True):
        by_user[u].append((i, r))
        by_item.setdefault(i, []).append((u, r))
    return Trainset(
        by_user,
        by_item,
        data.num_users,
        data.num_items,
        len(data.value),
        (float(data.value.min()), float(data.value.max())),
        {u: u for u in by_user},  # its own numbers of the ids
        {i: i for i in by_item},
    )


def test_error(task: Task, model: SVD) -> float:
    """The test error of a fitted model."""
    user_bias = model.bu[task.data.test_user]
    item_bias = model.bi[task.data.test_item]
    rest = model.trainset.global_mean + user_bias + item_bias
    return task.data.rmse_of(model.pu, model.qi, rest)


def fitted(train: Trainset, rank: int, epochs: int, setting: Setting) -> SVD:
    """One fit."""
    rate, reg = setting
    model = SVD(n_factors=rank, n_epochs=epochs, lr_all=rate, reg_all=reg, random_state=0)
    return model.fit(train)


def sgd(task: Task) -> dict:
    """One epoch of SVD, from the difference of fits of two lengths."""
    train = trainset(task.data)

    def fit(epochs: int) -> SVD:
        return fitted(train, task.rank, epochs, (0.01, 0.07))

    seconds, setup = seconds_an_epoch(fit, 5, task.quick)
    return {
        "seconds": seconds,
        "setup_seconds": setup,
        "rmse": test_error(task, fit(EPOCHS)),
        "note": "1 thread: it has no more",
    }


def sweep(task: Task) -> dict:
    """The settings over 2 processes."""
    began = time.perf_counter()
    train = trainset(task.data)

    def error(setting: Setting) -> float:
        return test_error(task, fitted(train, task.rank, EPOCHS, setting))

    errors = pooled(error, settings(RATES, REGS, task))
    return sweep_result(began, errors, note="2 processes")


def folds(task: Task) -> dict:
    """SVD, or what the task calls for, on the folds of a data set; by its own predictions."""
    algorithm = {"SVD": SVD, "SVD++": SVDpp}[task.options["algorithm"]]

    def error(data: Data, choice: dict[str, Any]) -> float:
        model = algorithm(n_factors=task.rank, random_state=0, **choice)
        model.fit(trainset(data))
        pairs = zip(data.test_user.tolist(), data.test_item.tolist(), strict=True)
        return data.rmse(np.array([model.estimate(u, i) for u, i in pairs]))

    return best_on_folds(task, error)


main({"sgd": sgd, "sweep": sweep, "folds": folds})
