"""A user's own gradient against differences of their loss, or of mfjax's."""

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from mfjax.checks.compare import Oracle, against_differences, elementwise_errors
from mfjax.checks.points import Point
from mfjax.errors import InputError
from mfjax.gradients.dense import prepare
from mfjax.objective import dense_loss, lane_terms
from mfjax.types import Factors

# (user [users, k], item [items, k], ratings [users, items], mask [users, items], reg)
Own = Callable[..., Any]

Side = Float[np.ndarray, "rows columns"]
RatingsMatrix = Float[np.ndarray, "users items"]


class Worst(NamedTuple):
    """The entry where two gradients differ most, relative to its size."""

    side: str
    row: int
    column: int
    analytic: float
    numerical: float
    relative_error: float


def check_own(
    gradient: Own,
    loss: Own,
    point: Point,
    reg: float,
    oracle: Oracle,
) -> tuple[dict[str, Any], list[Worst]]:
    """A user's gradient against differences of the loss they gave, in float64 and on the host.

    The five-point difference has no truncation error for polynomials of up to the fourth degree in
    an entry, and O(step⁴) for others.

    Args:
      gradient: `(user, item, ratings, mask, reg)` to the pair of gradients: factors `[users, k]`
        and `[items, k]`, the ratings matrix (0 where missing), its mask of 0 and 1, and λ.
      loss: the same to a number.
      point: where both are taken.
      reg: λ.
      oracle: the step of the differences, and the most that an error may be.

    Returns:
      The comparison's columns, and the worst entry of each side that disagrees.

    Raises:
      InputError: a gradient has another shape than its factors.
    """
    theirs = call_own(gradient, point, reg)
    analytic = Factors(*(np.asarray(side, np.float64) for side in theirs))
    _refuse_other_shapes(analytic, point.factors)
    numerical = _numerical(loss, point, reg, oracle.step)
    columns = against_differences(analytic, numerical, oracle.tolerance)
    sides = zip(Factors._fields, analytic, numerical, strict=True)
    wrong = [
        _worst(side, ours, theirs, oracle.tolerance)
        for side, ours, theirs in sides
        if not columns[f"error_{side}"] <= oracle.tolerance  # which holds of NaN
    ]
    return columns, wrong


def call_own(function: Own, point: Point, reg: float) -> Any:
    """A user's function at a point, with copies that it may overwrite."""
    user, item = map(np.array, point.factors)
    ratings, mask = _ratings_and_mask(point)
    return function(user, item, ratings, mask, reg)


def own_loss(point: Point) -> Own:
    """mfjax's own objective in the form of a user's function.

    For a user who gives a gradient alone.
    """

    def loss(user, item, ratings, mask, reg):
        typed_reg = np.asarray(reg, point.spec.dtype)
        hparams = point.hparams._replace(reg=typed_reg)
        layout = jax.device_put(prepare(point.ratings, point.spec))
        lane = lane_terms(layout.sums, hparams, point.spec)
        factors = jax.device_put(Factors(user, item))
        return dense_loss(factors, layout.value, layout.weight, lane)

    return loss


def _ratings_and_mask(point: Point) -> tuple[RatingsMatrix, RatingsMatrix]:
    spec = point.spec
    ratings = np.zeros((spec.num_users, spec.num_items))
    mask = np.zeros_like(ratings)
    cell = (point.ratings.user, point.ratings.item)
    ratings[cell] = point.ratings.value
    mask[cell] = 1
    return ratings, mask


def _refuse_other_shapes(gradient: Factors, factors: Factors) -> None:
    for side, ours, theirs in zip(Factors._fields, factors, gradient, strict=True):
        if ours.shape != theirs.shape:
            raise InputError(
                f"job.candidate.gradient: "
                f"expected a {side} gradient of shape {ours.shape}, got {theirs.shape}"
            )


def _numerical(loss: Own, point: Point, reg: float, step: float) -> Factors:
    """Five-point central differences of a loss in both sides."""
    user, item = point.factors

    def at(factors: Factors) -> float:
        moved = point._replace(factors=factors)
        return float(call_own(loss, moved, reg))

    return Factors(
        user=_differences(lambda moved: at(Factors(moved, item)), user, step),
        item=_differences(lambda moved: at(Factors(user, moved)), item, step),
    )


def _differences(loss: Callable[[Side], float], start: Side, step: float) -> Side:
    """Five-point central differences of one side, entry by entry."""

    def moved(entry: tuple[int, ...], h: float) -> float:
        changed = start.copy()
        changed[entry] += h
        return loss(changed)

    result = np.empty_like(start)
    for entry in np.ndindex(start.shape):
        near = moved(entry, step) - moved(entry, -step)
        far = moved(entry, 2 * step) - moved(entry, -2 * step)
        result[entry] = (8 * near - far) / (12 * step)
    return result


def _worst(side: str, a: Side, b: Side, tolerance: float) -> Worst:
    """The entry of one side with the largest relative error, if rounding does not explain it."""
    rounding = tolerance * np.abs(b).max()
    is_beyond = np.abs(a - b) > rounding
    relative = np.where(is_beyond, elementwise_errors(a, b), 0)
    row, column = np.unravel_index(relative.argmax(), a.shape)
    return Worst(
        side=side,
        row=int(row),
        column=int(column),
        analytic=float(a[row, column]),
        numerical=float(b[row, column]),
        relative_error=float(relative[row, column]),
    )


# the functions themselves


def load_function(place: str, key: str) -> Own:
    """A user's function.

    Args:
      place: `module:function` or `path/to/file.py:function`.
      key: the config key that named it, for the message.

    Raises:
      InputError: it is not there, or cannot be imported.
    """
    module_name, _, name = place.rpartition(":")
    if not module_name:
        raise InputError(f"{key}: expected module:function or file.py:function, got {place!r}")
    try:
        module = _load_module(module_name)
    except (ImportError, FileNotFoundError, SyntaxError) as error:
        raise InputError(
            f"{key}: cannot import {module_name} ({error}); give a module on the path, or a file.py"
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        raise InputError(f"{key}: {module_name} has no function {name!r}")
    return function


def _load_module(name: str) -> ModuleType:
    if not name.endswith(".py"):
        sys.path.insert(0, "")  # the console script does not look in the working directory
        return importlib.import_module(name)
    path = Path(name)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None  # a name that ends in .py always has both
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
