"""mfjax's own objective and its gradient, in the form of a user's functions."""

from functools import cache

import jax
import numpy as np

from mfjax.checks.functions import Own
from mfjax.checks.points import Point
from mfjax.gradients.dense import prepare
from mfjax.objective import LaneTerms, dense_loss, lane_terms
from mfjax.types import Factors

_loss = jax.jit(dense_loss, static_argnames="loss")
_gradient = jax.jit(jax.grad(dense_loss), static_argnames="loss")


def own_loss(point: Point) -> Own:
    """The objective in the conventions of a point, for a user who gives a gradient alone.

    Args:
      point: whose conventions, background and weights it has.

    Returns:
      `(user, item, ratings, mask, reg)` to the loss, as `check_own` takes.
    """
    return _at(point, _loss)


def own_gradient(point: Point) -> Own:
    """The gradient of `own_loss`, by `jax.grad`."""
    return _at(point, _gradient)


def _at(point: Point, of_dense: Own) -> Own:
    """A function of `dense_loss`'s arguments as one of a user's."""
    layout = prepare(point.ratings, point.spec)
    sums = jax.device_put(layout.sums)
    weights = np.where(layout.weight > 0, layout.weight, 1)  # of what a mask lets through

    @cache
    def lane_at(reg: float) -> LaneTerms:
        typed_reg = np.asarray(reg, point.spec.dtype)
        return lane_terms(sums, point.hparams._replace(reg=typed_reg), point.spec)

    def function(user, item, ratings, mask, reg):
        lane = lane_at(reg)
        return of_dense(Factors(user, item), ratings, mask * weights, lane, loss=point.spec.loss)

    return function
