"""A lane's errors on its training and its held-out ratings, inside the program that trains it."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from mfjax.kernels.predictions import predict
from mfjax.losses import link_of
from mfjax.metrics import PARTS, measured, names, of_sums
from mfjax.objective import LaneTerms, train_weight, validation_weight
from mfjax.types import Bounds, ErrorsFn, Factors, Ratings, Spec


def evaluate(
    factors: Factors,
    ratings: Ratings,
    lane: LaneTerms,
    bounds: Bounds,
    spec: Spec,
    chooses: str,
    errors: ErrorsFn | None = None,
    predicted: Float[Array, " n"] | None = None,
) -> dict[str, Float[Array, ""]]:
    """The metrics of a lane's predictions of its training and its held-out ratings.

    Args:
      factors: of the lane.
      ratings: of its problem.
      lane: the constants of L.
      bounds: to which predictions are clipped.
      spec: of which the loss is read.
      chooses: the column that chooses, whose metric is among them.
      errors: their sums in one pass, for metrics that need no more; None: in XLA.
      predicted: of each rating, not clipped; None: by the factors.

    Returns:
      By column; NaN where the lane has no such ratings.
    """
    found = {}
    if errors is not None and predicted is None:
        sums = zip(PARTS, errors(factors, ratings, lane, bounds), strict=False)
        found = {
            f"{part}_{name}": metric
            for part, of_part in sums
            for name, metric in of_sums(names(part, chooses), of_part).items()
        }
    wanted = [f"{part}_{name}" for part in PARTS[:2] for name in names(part, chooses)]
    if found.keys() >= set(wanted):
        return found
    prediction = predicted
    if prediction is None:
        score = predict(factors, ratings.user, ratings.item) + lane.centre
        prediction = link_of(spec.loss).rating(score)
    arrays = {
        "prediction": jnp.clip(prediction, bounds.low, bounds.high),
        "value": ratings.value,
        "user": ratings.user,
    }
    train = train_weight(ratings.weight, ratings.fold, lane)
    validation = validation_weight(ratings.weight, ratings.fold, lane)
    measured_of = {
        "train": measured(names("train", chooses), weight=train, **arrays),
        "validation": measured(names("validation", chooses), weight=validation, **arrays),
    }
    return {
        f"{part}_{name}": metric
        for part, of_part in measured_of.items()
        for name, metric in of_part.items()
    }
