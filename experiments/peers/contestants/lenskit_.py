"""LensKit: BiasedMF, damped biases first and then ALS (in Rust) on what they leave."""

import os

import numpy as np
import pandas as pd
from common import SWEEPS, THREADS, Task, best_curve, clock, main, median_seconds

os.environ.setdefault("LK_NUM_THREADS", str(THREADS))
from lenskit.als import BiasedMFScorer
from lenskit.data import Dataset, from_interactions_df
from lenskit.training import TrainingOptions

REGS = (0.03, 0.06, 0.1, 0.15, 0.25)  # λ per rating


def interactions(task: Task) -> Dataset:
    """LensKit's own data set of the training ratings."""
    data = task.data
    return from_interactions_df(pd.DataFrame({"user_id": data.user, "item_id": data.item, "rating": data.value}))


def rmse(task: Task, scorer: BiasedMFScorer) -> float:
    """The test error of a model in training; a user or an item without training ratings has no factors and no bias."""
    data, bias = task.data, scorer.bias
    sides = []
    for vocabulary, factors, biases, size in (
        (scorer.users, scorer.user_embeddings, bias.user_biases, data.num_users),
        (scorer.items, scorer.item_embeddings, bias.item_biases, data.num_items),
    ):
        side = np.zeros((size, factors.shape[1] + 1))
        side[np.asarray(vocabulary.ids())] = np.column_stack([factors, biases])
        sides.append(side)
    user, item = sides
    rest = bias.global_bias + user[data.test_user, -1] + item[data.test_item, -1]
    return data.rmse_of(user[:, :-1], item[:, :-1], rest)


def als(task: Task) -> dict:
    """One sweep, from the trainer that LensKit itself loops over."""
    train = interactions(task)

    def begin(reg: float):
        scorer = BiasedMFScorer(embedding_size=task.rank, regularization=reg, epochs=SWEEPS[-1])
        return scorer, scorer.create_trainer(train, TrainingOptions(rng=0))

    def curve(reg: float) -> dict[int, float]:
        scorer, trainer = begin(reg)
        errors = {}
        for n in range(1, SWEEPS[2 if task.quick else -1] + 1):
            trainer.train_epoch()
            errors[n] = rmse(task, scorer)
        return errors

    setup = clock(lambda: begin(REGS[1]))
    _, trainer = begin(REGS[1])
    trainer.train_epoch()
    result = {"seconds": median_seconds(trainer.train_epoch, task.quick), "setup_seconds": setup}
    return (
        result | {"note": "biases fitted once, before the sweeps"} | (best_curve(curve, REGS, task.quick) if task.curve else {})
    )


main({"als": als})
