"""What a gradient that disagrees may be instead: the usual mistakes, and other conventions.

Each is a transformation of the gradient that it should be, as differences of the loss have it.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from mfjax.checks.calls import Arguments, Side
from mfjax.checks.compare import relative_error
from mfjax.checks.differences import Reference, difference
from mfjax.checks.functions import Own
from mfjax.checks.ours import own_gradient
from mfjax.checks.points import Point
from mfjax.errors import InputError
from mfjax.types import CONVENTIONS, Factors, Spec

FACTORS = {
    2.0: "is twice the gradient",
    0.5: "is half the gradient",
    -1.0: "has the other sign",
    0.0: "is 0 everywhere",
}
Convention = tuple[str, ...]  # a value a key of CONVENTIONS
Instead = Iterator[tuple[str, Side]]  # what may be said of a gradient, and what it then is


class Suspect(NamedTuple):
    """One side of a gradient that disagrees with the differences of a loss.

    Args:
      side: its name.
      theirs: the gradient that disagrees.
      right: what it should be.
      loss, arguments, step: what `right` are the differences of.
      point: where both were taken.
    """

    side: str
    theirs: Factors
    right: Reference
    loss: Own
    arguments: Arguments
    step: float
    point: Point

    @property
    def other(self) -> str:
        """The other side's name."""
        user, item = Factors._fields
        return item if self.side == user else user

    @property
    def gradient(self) -> Side:
        """What the side is."""
        return getattr(self.theirs, self.side)

    @property
    def expected(self) -> Side:
        """What it should be."""
        return getattr(self.right.gradient, self.side)

    def at(self, **changes: Any) -> Side:
        """What it should be at other arguments."""
        changed = self.arguments._replace(**changes)
        return difference(self.loss, changed, self.side, self.step)

    def same(self, one: Side, another: Side) -> bool:
        """Whether two gradients agree."""
        return relative_error(one, another) <= self.right.tolerance


def explanation(suspect: Suspect) -> str | None:
    """What explains a gradient that disagrees: the first of EXPLANATIONS that agrees.

    None where none does. What a user's own loss cannot be tried with is left out.
    """
    if not np.isfinite(suspect.gradient).all():
        return "is not finite"
    for instead_of in EXPLANATIONS.values():
        try:
            for said, instead in instead_of(suspect):
                if suspect.same(suspect.gradient, instead):
                    return said
        except (InputError, np.linalg.LinAlgError):
            continue
    return None


# the usual mistakes


def multiplied(suspect: Suspect) -> Instead:
    """A sign, a factor 2 or ½, or a side that was never filled."""
    for factor, said in FACTORS.items():
        yield said, factor * suspect.expected


def without_reg(suspect: Suspect) -> Instead:
    """The regulariser is forgotten."""
    yield "agrees without λ", suspect.at(reg=0.0)


def without_mask(suspect: Suspect) -> Instead:
    """The errors of missing entries are counted, as of ratings of 0."""
    yield "agrees without the mask", suspect.at(mask=np.ones_like(suspect.arguments.mask))


def other_side(suspect: Suspect) -> Instead:
    """The pair is in the other order, which only a square problem allows."""
    opposite = getattr(suspect.right.gradient, suspect.other)
    if opposite.shape == suspect.expected.shape:
        yield "is that of the other side", opposite


def transposed(suspect: Suspect) -> Instead:
    """E stands for Eᵀ or Eᵀ for E, which only a square problem allows.

    E, where there are ratings, is −∂L/∂R.
    """
    arguments = suspect.arguments
    errors = -difference(suspect.loss, arguments, "ratings", suspect.step)
    num_users, num_items = errors.shape
    if num_users != num_items:
        return
    turned = errors.T - errors if suspect.side == "user" else errors - errors.T
    instead = suspect.expected + turned @ getattr(arguments, suspect.other)
    yield "agrees with the error matrix transposed", instead


def updated(suspect: Suspect) -> Instead:
    """The other side is updated first, by a step η against its gradient, as Gauss-Seidel does.

    With quadratic losses the gradient is then a + b η + c η², of which η is the best fit.
    """
    start = getattr(suspect.arguments, suspect.other)
    downhill = -getattr(suspect.right.gradient, suspect.other)
    before, at_once, back = (
        suspect.at(**{suspect.other: start + eta * downhill}) for eta in (0, 1, -1)
    )
    linear = (at_once - back) / 2
    square = (at_once + back) / 2 - before
    off = before - suspect.gradient
    slope = [  # of half the squared distance, from its cubic term down
        2 * (square * square).sum(),
        3 * (square * linear).sum(),
        (linear * linear).sum() + 2 * (square * off).sum(),
        (linear * off).sum(),
    ]
    for root in np.roots(slope):
        eta = root.real
        said = f"agrees after a step of {eta:.3g} of the {suspect.other} factors"
        yield said, before + eta * linear + eta**2 * square


def weighted(suspect: Suspect) -> Instead:
    """Other factors of the error's part and the regulariser's, as least squares have them."""
    of_error = suspect.at(reg=0.0)
    of_reg = suspect.expected - of_error
    parts = np.stack([of_error.ravel(), of_reg.ravel()], axis=1)
    (a, b), *_ = np.linalg.lstsq(parts, suspect.gradient.ravel())
    said = f"is {a:.3g} times the part of the error and {b:.3g} times that of λ"
    if not of_reg.any() or f"{a:.3g}" == f"{b:.3g}":
        said = f"is {a:.3g} times the gradient"
    yield said, a * of_error + b * of_reg


# other conventions


def other_conventions(suspect: Suspect) -> Instead:
    """mfjax's objective in other conventions, the nearest to those of the loss first.

    A loss in none of them is named beside in full. `squared` alone has missing entries that cost.
    """
    own_loss = suspect.point.spec.loss

    @cache
    def under(values: Convention) -> Side:
        given = dict(zip(CONVENTIONS, values, strict=True))
        loss = own_loss if given["missing"] == "ignore" else Spec.loss
        spec = replace(suspect.point.spec, loss=loss, **given)
        gradient = own_gradient(suspect.point._replace(spec=spec))
        return np.asarray(getattr(gradient(*suspect.arguments), suspect.side))

    of_run = tuple(getattr(suspect.point.spec, key) for key in CONVENTIONS)
    agreeing = (v for v in _by_distance(of_run) if suspect.same(under(v), suspect.expected))
    of_loss = next(agreeing, None)
    objective = "" if of_loss else "with mfjax's loss "
    for values in _by_distance(of_loss or of_run):
        if values != of_loss:
            yield f"agrees {objective}under {_written(values, of_loss)}", under(values)


def _by_distance(start: Convention) -> list[Convention]:
    """All conventions, those that differ in fewest keys first."""

    def changes(values: Convention) -> int:
        return sum(a != b for a, b in zip(values, start, strict=True))

    return sorted(itertools.product(*CONVENTIONS.values()), key=changes)


def _written(values: Convention, beside: Convention | None) -> str:
    """The keys and values that differ."""
    old = beside or (None,) * len(values)
    changed = zip(CONVENTIONS, values, old, strict=True)
    return ", ".join(f"{key}={value}" for key, value, before in changed if value != before)


EXPLANATIONS: dict[str, Callable[[Suspect], Instead]] = {  # in the order in which they are tried
    "multiplied": multiplied,
    "without_reg": without_reg,
    "without_mask": without_mask,
    "other_side": other_side,
    "transposed": transposed,
    "other_conventions": other_conventions,
    "updated": updated,
    "weighted": weighted,
}
