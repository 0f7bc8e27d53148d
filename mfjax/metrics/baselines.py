"""Errors on the test ratings: of predictions, and of the two that every reader wants beside them.

The global mean predicts the mean training rating, and the item mean each item's.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from mfjax.data.problem import Problem
from mfjax.metrics import columns, measured, names
from mfjax.objective import mean_or, mean_rating
from mfjax.types import NO_FOLD, Cut, Hparams

PredictionsOfTest = Float[np.ndarray, " test"]


def on_test(prediction: PredictionsOfTest, problem: Problem) -> dict[str, float]:
    """The metrics of predictions of a problem's test ratings, by column, in float64.

    Predictions are clipped to the problem's bounds, and ratings weigh what they do in training; NaN
    where there are no test ratings.
    """
    if not len(prediction):
        return dict.fromkeys(columns("test"), float("nan"))
    clipped = np.clip(prediction, *problem.bounds)
    test = problem.test
    metrics = measured(
        names("test"), prediction=clipped, value=test.value, weight=test.weight, user=test.user
    )
    return {f"test_{name}": float(metric) for name, metric in metrics.items()}


def baseline_errors(problems: Mapping[Cut, Problem]) -> dict[str, list[float]]:
    """The test RMSE of each baseline: the global mean, and the mean of each item.

    They are fitted on every rating outside the test set, as a refitted model is.

    Args:
      problems: by split_seed and test_fold.

    Returns:
      By the name of the baseline, a value a split, in rating units; NaN without test ratings.
    """
    predictors = {"global mean": global_mean, "item mean": item_mean}
    return {
        name: [on_test(predict(problem), problem)["test_rmse"] for problem in problems.values()]
        for name, predict in predictors.items()
    }


def global_mean(problem: Problem) -> PredictionsOfTest:
    """The mean training rating, for every test rating."""
    return np.full(len(problem.test.value), _mean(problem))


def item_mean(problem: Problem) -> PredictionsOfTest:
    """The mean training rating of each test rating's item; of an item without any, the global."""
    ratings = problem.ratings
    last = max(int(ratings.item.max()), int(problem.test.item.max(initial=0)))
    weight = np.bincount(ratings.item, ratings.weight, last + 1)
    total = np.bincount(ratings.item, ratings.weight * ratings.value, last + 1)
    of_items = np.asarray(mean_or(_mean(problem), total, weight))
    return of_items[problem.test.item]


def _mean(problem: Problem) -> float:
    return mean_rating(problem.ratings, Hparams(fold=NO_FOLD))
