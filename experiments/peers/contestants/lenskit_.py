"""LensKit: BiasedMF, damped biases first and then ALS (in Rust) on what they leave."""

import os
from typing import Any

import numpy as np
import pandas as pd
from common import (
    SWEEPS,
    THREADS,
    Data,
    Task,
    best_curve,
    best_on_folds,
    clock,
    curve_of_steps,
    main,
    median_seconds,
)

os.environ.setdefault("LK_NUM_THREADS", str(THREADS))
from lenskit.als import BiasedMFScorer
from lenskit.data import Dataset, from_interactions_df
from lenskit.training import TrainingOptions

REGS = (0.03, 0.06, 0.1, 0.15, 0.25)  # λ per rating


def interactions(data: Data) -> Dataset:
    """LensKit's own data set of the training ratings."""
    columns = {"user_id": data.user, "item_id": data.item, "rating": data.value}
    return from_interactions_df(pd.DataFrame(columns))


def table(vocabulary, factors, biases, size: int) -> np.ndarray:
    """The factors and the bias of every row, `[size, k + 1]`: 0 where it had no ratings."""
    rows = np.zeros((size, factors.shape[1] + 1))
    rows[np.asarray(vocabulary.ids())] = np.column_stack([factors, biases])
    return rows


def rmse(data: Data, scorer: BiasedMFScorer) -> float:
    """The test error of a model, in training too."""
    bias = scorer.bias
    user = table(scorer.users, scorer.user_embeddings, bias.user_biases, data.num_users)
    item = table(scorer.items, scorer.item_embeddings, bias.item_biases, data.num_items)
    user_bias = user[data.test_user, -1]
    item_bias = item[data.test_item, -1]
    return data.rmse_of(user[:, :-1], item[:, :-1], bias.global_bias + user_bias + item_bias)


def als(task: Task) -> dict:
    """One sweep, from the trainer that LensKit itself loops over."""
    train = interactions(task.data)

    def begin(reg: float):
        scorer = BiasedMFScorer(
            embedding_size=task.rank,
            regularization=reg,
            epochs=SWEEPS[-1],
        )
        return scorer, scorer.create_trainer(train, TrainingOptions(rng=0))

    def curve(reg: float) -> dict[int, float]:
        scorer, trainer = begin(reg)
        return curve_of_steps(trainer.train_epoch, lambda: rmse(task.data, scorer), task)

    setup = clock(lambda: begin(REGS[1]))
    _, trainer = begin(REGS[1])
    trainer.train_epoch()
    result = {
        "seconds": median_seconds(trainer.train_epoch, task.quick),
        "setup_seconds": setup,
        "note": "biases fitted once, before the sweeps",
    }
    return result | best_curve(curve, REGS, task)


def folds(task: Task) -> dict:
    """The folds of a data set."""

    def error(data: Data, choice: dict[str, Any]) -> float:
        scorer = BiasedMFScorer(embedding_size=task.rank, **choice)
        scorer.train(interactions(data), TrainingOptions(rng=0))
        return rmse(data, scorer)

    return best_on_folds(task, error)


main({"als": als, "folds": folds})
