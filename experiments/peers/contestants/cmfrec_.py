"""cmfrec: explicit-feedback ALS with biases."""

from typing import Any

import numpy as np
from cmfrec import CMF
from common import (
    BIAS_REG,
    ROW_REGS,
    THREADS,
    Data,
    Task,
    best_curve,
    best_on_folds,
    main,
    seconds_an_epoch,
)
from scipy.sparse import coo_matrix


def matrix(data: Data) -> coo_matrix:
    """The training ratings."""
    cells = (data.user, data.item)
    return coo_matrix((data.value, cells), (data.num_users, data.num_items))


def als(task: Task) -> dict:
    """One sweep, from the difference of fits of two lengths."""
    data = task.data
    train = matrix(data)

    def fit(sweeps: int, reg: float = ROW_REGS[1]) -> CMF:
        biases = [BIAS_REG, BIAS_REG]
        factors = [reg, reg]
        unused = [reg, reg]
        model = CMF(
            k=task.rank,
            lambda_=np.array(biases + factors + unused),
            method="als",
            niter=sweeps,
            use_float=True,
            nthreads=THREADS,
            random_state=0,
            precompute_for_predictions=False,
            verbose=False,
        )
        return model.fit(train)

    def curve(reg: float) -> dict[int, float]:
        return {n: error(fit(n, reg)) for n in task.sweeps}

    def error(model: CMF) -> float:
        return data.rmse(model.predict(data.test_user, data.test_item))

    seconds, setup = seconds_an_epoch(fit, 5, task.quick)
    result = {"seconds": seconds, "setup_seconds": setup}
    return result | best_curve(curve, ROW_REGS, task)


def folds(task: Task) -> dict:
    """The folds of a data set, a thread a fit."""

    def error(data: Data, choice: dict[str, Any]) -> float:
        model = CMF(k=task.rank, nthreads=1, random_state=0, **choice)
        model.fit(matrix(data))
        return data.rmse(model.predict(data.test_user, data.test_item))

    return best_on_folds(task, error)


main({"als": als, "folds": folds})
