"""A user's own gradient against differences of their loss, or of mfjax's."""

from functools import partial
from typing import Any, NamedTuple

import numpy as np

from mfjax.checks.calls import arguments_at, call, gradient_of
from mfjax.checks.compare import Oracle, against_differences, elementwise_errors
from mfjax.checks.differences import NotJudged, reference, refuse_different
from mfjax.checks.explanations import Suspect, explanation
from mfjax.checks.functions import Own
from mfjax.checks.ours import own_loss
from mfjax.checks.points import Point
from mfjax.types import Factors

__all__ = ["Worst", "call_own", "check_own", "own_loss"]


class Worst(NamedTuple):
    """The entry where two gradients differ most, relative to its size.

    Args:
      side: `user` or `item`.
      row, column: the place of the entry in the factors of that side.
      analytic: what the user's gradient has there.
      numerical: what the differences have there.
      relative_error: |a − b| / max(1e-8, |a| + |b|).
      explanation: what the whole side may be instead; None where nothing that was tried agrees.
    """

    side: str
    row: int
    column: int
    analytic: float
    numerical: float
    relative_error: float
    explanation: str | None = None


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
      The comparison's columns, and the worst entry of each side that disagrees. The status is `ok`,
      `FAILED`, or one of `mfjax.checks.differences.VERDICTS` where the gradient cannot be judged;
      `note` says what the loss was found to be.

    Raises:
      InputError: a function takes, returns or raises what it should not; with its file and line.
    """
    arguments = arguments_at(point, reg)
    theirs, again = (gradient_of(gradient, arguments) for _ in range(2))
    try:
        _refuse_another(theirs, again)
        right = reference(loss, arguments, oracle)
    except NotJudged as found:
        unjudged = {"tolerance": oracle.tolerance, "status": found.verdict, "note": str(found)}
        return unjudged, []
    columns = against_differences(theirs, right.gradient, right.tolerance)
    suspect = partial(
        Suspect,
        theirs=theirs,
        right=right,
        loss=loss,
        arguments=arguments,
        step=oracle.step,
        point=point,
    )
    worst = [
        _worst(suspect(side))
        for side in Factors._fields
        if not columns[f"error_{side}"] <= right.tolerance  # which holds of NaN
    ]
    return columns | {"note": right.note}, worst


def _refuse_another(first: Factors, second: Factors) -> None:
    for one, another in zip(first, second, strict=True):
        if np.isfinite([one, another]).all():
            apart = np.abs(one - another).max()
            refuse_different("gradient", float(apart), float(np.abs(one).max()))


def _worst(suspect: Suspect) -> Worst:
    """The entry of a side with the largest relative error, if rounding does not explain it."""
    given, right = suspect.gradient, suspect.expected
    rounding = suspect.right.tolerance * np.abs(right).max()
    errors = elementwise_errors(given, right)
    is_rounded = np.abs(given - right) <= rounding
    ranked = np.where(is_rounded, 0, np.nan_to_num(errors, nan=np.inf))
    row, column = np.unravel_index(ranked.argmax(), ranked.shape)
    return Worst(
        side=suspect.side,
        row=int(row),
        column=int(column),
        analytic=float(given[row, column]),
        numerical=float(right[row, column]),
        relative_error=float(errors[row, column]),
        explanation=explanation(suspect),
    )


def call_own(function: Own, point: Point, reg: float) -> Any:
    """A user's function at a point, with copies that it may overwrite.

    Args:
      function: `(user, item, ratings, mask, reg)` to anything, as `check_own` takes.
      point: whose factors, ratings and mask it is given.
      reg: λ.

    Returns:
      What it returns.

    Raises:
      InputError: it raised; with its file and line.
    """
    return call(function, arguments_at(point, reg))
