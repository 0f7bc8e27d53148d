"""Compare gradients: their errors against central differences and the dense form, and cost."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from mfjax.checks.cost import cost_of
from mfjax.checks.points import Point, in_float64
from mfjax.errors import InputError
from mfjax.gradients import GRADIENTS
from mfjax.gradients.dense import numerical
from mfjax.types import AnyArray, Factors, Gradient, Spec

Side = Float[AnyArray, "rows columns"]
NUMERICAL = "numerical"  # the variant that is the oracle of the small problem
Row = dict[str, Any]
TINY = 1e-8  # the least that an elementwise error is relative to


class Oracle(NamedTuple):
    """Central differences, against which a gradient is judged.

    Args:
      step: of the differences.
      tolerance: the most that the relative error against them, max|a − b| / max|b|, may be.
    """

    step: float
    tolerance: float


def relative_error(a: Side, b: Side) -> float:
    """max|a − b| / max|b|, which stays meaningful where single entries pass through 0."""
    scale = np.abs(b).max()
    furthest = np.abs(a - b).max()
    return float(furthest / (scale if scale else 1.0))


def elementwise_error(a: Side, b: Side) -> float:
    """max |a − b| / max(1e-8, |a| + |b|), the metric of many published checks.

    It fails correct gradients near a minimum.
    """
    return float(elementwise_errors(a, b).max())


def elementwise_errors(a: Side, b: Side) -> Side:
    """|a − b| / max(1e-8, |a| + |b|); NaN where either is not finite."""
    size = np.abs(a) + np.abs(b)
    with np.errstate(invalid="ignore"):
        return np.abs(a - b) / np.maximum(TINY, size)


def errors_at(gradient: Factors, oracle: Factors, suffix: str = "") -> dict[str, float]:
    """The relative errors of both sides, as columns of the comparison."""
    return _of_sides(relative_error, gradient, oracle, f"error_{{}}{suffix}")


def against_differences(gradient: Factors, oracle: Factors, tolerance: float) -> Row:
    """The columns that compare a gradient with central differences.

    Both metrics of both sides, and the verdict.
    """
    errors = errors_at(gradient, oracle)
    elementwise = _of_sides(elementwise_error, gradient, oracle, "elementwise_{}")
    is_right = all(error <= tolerance for error in errors.values())  # NaN is not
    status = "ok" if is_right else "FAILED"
    return errors | elementwise | {"tolerance": tolerance, "status": status}


def _of_sides(
    error: Callable[[Side, Side], float],
    gradient: Factors,
    oracle: Factors,
    column: str,
) -> dict[str, float]:
    """An error of each side, by a column that names the side."""
    sides = zip(Factors._fields, gradient, oracle, strict=True)
    return {column.format(side): error(ours, theirs) for side, ours, theirs in sides}


def gradient_at(make: Callable[[Spec], Gradient], point: Point) -> Factors:
    """The gradient of a variant at a point, on the host."""
    gradient = make(point.spec)
    layout = gradient.prepare(point.ratings)
    call = jax.jit(gradient.value_and_grad)
    _, grad = call(point.factors, layout, point.hparams)
    return jax.tree.map(np.asarray, grad)


def compare_gradients(
    names: Sequence[str],
    small: Point,
    full: Point,
    oracle: Oracle,
    repeats: int,
) -> list[Row]:
    """One row a variant: errors against central differences on `small`, and more on `full`.

    On `full` the errors are those against float64 `matrix`, beside the costs. The numerical
    gradient is the oracle of the small problem: it is compared with `matrix` there, and timed
    there, because on the full problem it would take two losses an entry. A variant that does not
    fit in memory is a row that says so.

    Args:
      names: of rows of GRADIENTS.
      small: where they are compared with the differences.
      full: where they are compared with `matrix`, and timed.
      oracle: the step of the differences, and the most that an error may be.
      repeats: the calls that are timed, of which the median and the quartiles are taken.

    Returns:
      The columns of `gradients.csv`, a row a name.
    """
    differences = gradient_at(partial(numerical, step=oracle.step), small)
    reference = _reference(full) if set(names) - {NUMERICAL} else None

    def row(name: str) -> Row:
        is_oracle = name == NUMERICAL
        point = small if is_oracle else full
        ours = gradient_at(GRADIENTS["matrix" if is_oracle else name], small)
        verdict = against_differences(ours, differences, oracle.tolerance)
        if is_oracle and verdict["status"] == "ok":
            verdict["status"] = "oracle"
        named = {"gradient": name, "ratings": len(point.ratings.value)}
        return named | verdict | _measured(name, point, reference, repeats)

    return [row(name) for name in names]


def _measured(
    name: str,
    point: Point,
    reference: Factors | None,
    repeats: int,
) -> Row:
    """What a variant costs at a point, and its errors there, but for the oracle itself."""
    make = GRADIENTS[name]
    row: Row = {}
    try:
        row |= cost_of(make, point, repeats)._asdict()
        if name != NUMERICAL:
            row |= errors_at(gradient_at(make, point), reference, "_full")
    except InputError as refusal:
        reason, *_ = str(refusal).splitlines()
        row["status"] = f"refused: {reason}"
    return row


def _reference(full: Point) -> Factors:
    """The float64 gradient of the full problem: `matrix`, or `coo` where it does not fit."""
    try:
        return gradient_at(GRADIENTS["matrix"], in_float64(full))
    except InputError:
        return gradient_at(GRADIENTS["coo"], in_float64(full))
