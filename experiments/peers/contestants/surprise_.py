"""Surprise: its SVD (biased factorisation by one-rating SGD), with the ratings sorted by user, which is its fast order."""

import time

import numpy as np
from common import EPOCHS, Task, main, pooled, seconds_an_epoch, settings, sweep_result
from surprise import SVD, Trainset

RATES = (0.003, 0.005, 0.007, 0.01, 0.014, 0.02, 0.028, 0.04)
REGS = (0.04, 0.07, 0.1, 0.14)


def trainset(task: Task) -> Trainset:
    """Surprise's own training set, its lists filled user after user: neighbours in time are neighbours in memory."""
    data = task.data
    order = np.lexsort((data.item, data.user))
    by_user = {u: [] for u in range(data.num_users)}
    by_item = {i: [] for i in range(data.num_items)}
    for u, i, r in zip(*(column[order].tolist() for column in (data.user, data.item, data.value)), strict=True):
        by_user[u].append((i, r))
        by_item[i].append((u, r))
    scale = (float(data.value.min()), float(data.value.max()))
    own = {u: u for u in by_user}, {i: i for i in by_item}
    return Trainset(by_user, by_item, data.num_users, data.num_items, len(data.value), scale, *own)


def test_error(task: Task, model: SVD) -> float:
    """The test error of a fitted model."""
    user, item = task.data.test_user, task.data.test_item
    return task.data.rmse_of(model.pu, model.qi, model.trainset.global_mean + model.bu[user] + model.bi[item])


def sgd(task: Task) -> dict:
    """One epoch of SVD, from the difference of fits of two lengths."""
    train = trainset(task)

    def fit(epochs: int) -> SVD:
        return SVD(n_factors=task.rank, n_epochs=epochs, lr_all=0.01, reg_all=0.07, random_state=0).fit(train)

    seconds, setup = seconds_an_epoch(fit, 5, task.quick)
    model = fit(EPOCHS)
    return {"seconds": seconds, "setup_seconds": setup, "rmse": test_error(task, model), "note": "1 thread: it has no more"}


def sweep(task: Task) -> dict:
    """32 settings over 2 processes."""
    began = time.perf_counter()
    train = trainset(task)

    def fit(setting: tuple[float, float]) -> float:
        rate, reg = setting
        model = SVD(n_factors=task.rank, n_epochs=EPOCHS, lr_all=rate, reg_all=reg, random_state=0)
        return test_error(task, model.fit(train))

    return sweep_result(began, pooled(fit, settings(RATES, REGS, task.quick)), note="2 processes")


main({"sgd": sgd, "sweep": sweep})
