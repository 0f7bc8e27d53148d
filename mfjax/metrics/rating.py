"""Errors of predictions. The functions take NumPy and jax arrays alike."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mfjax.kernels.tiles import ROWS, gathered
from mfjax.objective import train_weight, validation_weight
from mfjax.types import Factors, Hparams, Ratings

CHUNK = 1024


class Bounds(NamedTuple):
    """The range to which predictions are clipped before an error is taken; (-inf, inf) clips nothing."""

    low: Float[Array, ""] | float
    high: Float[Array, ""] | float


class Metrics(NamedTuple):
    """RMSE and MAE over the training and the held-out ratings of a lane; NaN where there are none."""

    train_rmse: Float[Array, "*shape"]
    train_mae: Float[Array, "*shape"]
    validation_rmse: Float[Array, "*shape"]
    validation_mae: Float[Array, "*shape"]


def errors(error, weight) -> tuple:
    """(RMSE, MAE) of `error` [n] under `weight` [n]; NaN where the weights are all 0."""
    total = weight.sum()
    return ((weight * error**2).sum() / total) ** 0.5, (weight * abs(error)).sum() / total


def predict(factors: Factors, ratings: Ratings) -> Float[Array, " n"]:
    """u_i·v_j for every rating (with biases, less μ), CHUNK ratings at a time, which stay in cache."""
    user, item = (jnp.pad(ratings_side, (0, -len(ratings_side) % CHUNK)).reshape(-1, CHUNK, 1) for ratings_side in ratings[:2])
    tables = [jnp.pad(side, ((0, 0), (0, -side.shape[1] % ROWS))) for side in factors]
    seen = jnp.ones((CHUNK, 1), factors.user.dtype)

    def of_chunk(rows):
        user, item = (gathered(table, row, seen)[:, 0] for table, row in zip(tables, rows, strict=True))
        return (user * item).sum(1)

    return jax.lax.map(of_chunk, (user, item)).ravel()[: len(ratings.value)]


def evaluate(factors: Factors, ratings: Ratings, hparams: Hparams, centre: Float[Array, ""], bounds: Bounds) -> Metrics:
    """Training and validation errors in one pass over the ratings; `centre` is what training took off them."""
    prediction = jnp.clip(predict(factors, ratings) + centre, bounds.low, bounds.high)
    error = prediction - ratings.value
    weights = (f(ratings.weight, ratings.fold, hparams) for f in (train_weight, validation_weight))
    return Metrics(*(x for weight in weights for x in errors(error, weight)))
