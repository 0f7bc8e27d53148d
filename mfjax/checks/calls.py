"""Calls of a user's own functions: with copies, and held to what they must return.

Whatever one of them does is said in one message, an InputError with its file and line.
"""

import inspect
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from mfjax.checks.functions import Own, place_of, said, where
from mfjax.checks.points import Point
from mfjax.errors import InputError
from mfjax.types import Factors

Side = Float[np.ndarray, "rows columns"]
Matrix = Float[np.ndarray, "users items"]
NUMBERS = "iuf"  # kinds of dtypes: integers and real numbers


class Arguments(NamedTuple):
    """What a user's function is called with.

    The factors, the matrix of ratings (0 where missing), its mask of 0 and 1, and λ.
    """

    user: Side
    item: Side
    ratings: Matrix
    mask: Matrix
    reg: float

    @property
    def factors(self) -> Factors:
        """Both sides."""
        return Factors(self.user, self.item)


def arguments_at(point: Point, reg: float) -> Arguments:
    """What a user's function is called with at a point, in float64."""
    spec = point.spec
    real = point.ratings.weight > 0
    cell = (point.ratings.user[real], point.ratings.item[real])
    ratings = np.zeros((spec.num_users, spec.num_items))
    mask = np.zeros_like(ratings)
    ratings[cell] = point.ratings.value[real]
    mask[cell] = 1
    user, item = (np.asarray(side, np.float64) for side in point.factors)
    return Arguments(user, item, ratings, mask, reg)


# what they return


def gradient_of(function: Own, arguments: Arguments) -> Factors:
    """The pair of gradients that a user's function returns, in float64.

    Raises:
      InputError: it returns anything else, or none of it.
    """
    returned = call(function, arguments)
    wanted = arguments.factors
    if not isinstance(returned, tuple | list) or len(returned) != len(wanted):
        user, item = (side.shape for side in wanted)
        raise InputError(
            f"{where(function)} returned {_described(returned)}\n"
            f"expected the pair of gradients alone: of user {user} and of item {item}"
        )
    sides = (
        _as_numbers(side, function, f" as the {name} gradient")
        for name, side in zip(Factors._fields, returned, strict=True)
    )
    gradient = Factors(*sides)
    _refuse_other_shapes(gradient, wanted, function)
    return gradient


def _refuse_other_shapes(gradient: Factors, wanted: Factors, function: Own) -> None:
    shapes = [side.shape for side in gradient]
    right = [side.shape for side in wanted]
    for name, got, shape in zip(Factors._fields, shapes, right, strict=True):
        if got == shape:
            continue
        hint = "; it is transposed" if got == shape[::-1] else ""
        if shapes == right[::-1]:
            hint = "; the two are in the other order"
        raise InputError(
            f"{where(function)} returned another shape\n"
            f"expected a {name} gradient of shape {shape}, got {got}{hint}"
        )


def loss_of(function: Own, arguments: Arguments) -> float:
    """The number that a user's function returns. Raises InputError where it is none."""
    returned = call(function, arguments)
    number = _as_numbers(returned, function)
    if number.shape:
        raise InputError(f"{where(function)} returned {_described(returned)}; expected a number")
    return float(number)


def _as_numbers(returned: Any, function: Own, part: str = "") -> np.ndarray:
    """A copy, of what may be a buffer that the next call fills."""
    seen = f"{where(function)} returned {_described(returned)}{part}"
    try:
        array = np.asarray(returned)
    except Exception as error:  # whatever arrays raise that are none of NumPy's
        raise InputError(f"{seen}\nNumPy cannot read it: {said(error)}") from error
    if array.dtype.kind not in NUMBERS:
        raise InputError(f"{seen}; expected real numbers")
    return array.astype(np.float64)


def _described(returned: Any) -> str:
    kind = type(returned).__name__
    if returned is None:
        return "nothing"
    if isinstance(returned, tuple | list):
        return f"a {kind} of {len(returned)}"
    if not hasattr(returned, "shape"):
        return f"a {kind}"
    return f"a {getattr(returned, 'dtype', kind)} array of shape {tuple(returned.shape)}"


# calling them


def call(function: Own, arguments: Arguments) -> Any:
    """What a user's function returns, for copies that it may overwrite.

    Raises:
      InputError: it takes other arguments, raises, or ends the process.
    """
    _refuse_other_parameters(function)
    *arrays, reg = arguments
    try:
        return function(*map(np.array, arrays), reg)
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        given = ", ".join(
            f"{name} {array.shape}" for name, array in zip(Arguments._fields, arrays, strict=False)
        )
        raise InputError(
            f"{place_of(error, function)} raised {said(error)}\ncalled with {given}, reg {reg:g}"
        ) from error


def _refuse_other_parameters(function: Own) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of a function without a Python signature
        return
    try:
        signature.bind(*Arguments._fields)
    except TypeError as error:
        raise InputError(
            f"{where(function)}{signature}: {error}\n"
            f"expected a function of ({', '.join(Arguments._fields)})"
        ) from error
