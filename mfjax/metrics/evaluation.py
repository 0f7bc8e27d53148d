"""A lane's errors on its training and its held-out ratings, inside the program that trains it."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from mfjax.kernels.predictions import predict as in_xla
from mfjax.metrics import measured
from mfjax.objective import LaneTerms, train_weight, validation_weight
from mfjax.types import Bounds, Factors, PredictFn, Ratings


def evaluate(
    factors: Factors,
    ratings: Ratings,
    lane: LaneTerms,
    bounds: Bounds,
    predict: PredictFn | None = None,
) -> dict[str, Float[Array, ""]]:
    """Every metric on the training and the held-out ratings, by column, in one pass.

    Predictions are clipped to `bounds`. A metric is NaN where the lane has no such ratings.
    """
    predict = predict or in_xla
    prediction = predict(factors, ratings.user, ratings.item) + lane.centre
    prediction = jnp.clip(prediction, bounds.low, bounds.high)
    weights = {
        "train": train_weight(ratings.weight, ratings.fold, lane),
        "validation": validation_weight(ratings.weight, ratings.fold, lane),
    }
    return {
        f"{part}_{name}": metric
        for part, weight in weights.items()
        for name, metric in measured(prediction, ratings.value, weight).items()
    }
