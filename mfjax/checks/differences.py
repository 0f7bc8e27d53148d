"""Central differences of a user's loss, and how far that loss allows them to be trusted."""

from typing import NamedTuple

import numpy as np

from mfjax.checks.calls import Arguments, Side, loss_of
from mfjax.checks.compare import Oracle, relative_error
from mfjax.checks.functions import Own
from mfjax.types import Factors

NOT_FINITE = "not finite"
NOT_DETERMINISTIC = "not deterministic"
TOO_COARSE = "too coarse"
VERDICTS = (NOT_FINITE, NOT_DETERMINISTIC, TOO_COARSE)

SAME = 1e-12  # the relative difference up to which two calls say the same
MARGIN = 2  # by which an error may exceed what differences at h and h/2 are apart
COARSEST = 0.1  # the most that a tolerance is raised to
PER_NOISE = 1.5  # median of |D(h/2) − D(h)|, in units of σ/h of noise σ in the loss
KINK = 1000  # times the median, which noise stays far below
FLOAT32 = (1e-9, 1e-6)  # relative noise between these is that of float32


class NotJudged(Exception):
    """No gradient can be judged, for what a function was found to be.

    Args:
      verdict: of VERDICTS.
      note: what was seen.
    """

    def __init__(self, verdict: str, note: str):
        super().__init__(f"{verdict}: {note}")
        self.verdict = verdict


class Reference(NamedTuple):
    """What differences say of a gradient.

    Args:
      gradient: the differences.
      tolerance: the most that the relative error against them may be.
      note: why it is more than was asked for; None where it is not.
    """

    gradient: Factors
    tolerance: float
    note: str | None = None


def reference(loss: Own, arguments: Arguments, oracle: Oracle) -> Reference:
    """The differences of a loss, with the tolerance that it allows.

    The loss is called twice at the same arguments, and differences are taken at h and at h/2: what
    they are apart is the truncation or the noise of either.

    Args:
      loss: a user's function.
      arguments: where it is called.
      oracle: h, and the tolerance that is asked for.

    Returns:
      The differences at h.

    Raises:
      NotJudged: the loss is not finite, not deterministic, or too coarse for any tolerance.
      InputError: it is no loss.
    """
    first, second = (loss_of(loss, arguments) for _ in range(2))
    if not np.isfinite([first, second]).all():
        raise NotJudged(NOT_FINITE, f"the loss is {first:g}")
    refuse_different("loss", abs(first - second), abs(first))
    coarse = differences(loss, arguments, oracle.step)
    fine = differences(loss, arguments, oracle.step / 2)
    _refuse_not_finite(coarse, fine)
    if not any(map(np.any, coarse)):
        raise NotJudged(TOO_COARSE, "the loss is the same wherever a factor moves by h")
    apart = max(map(relative_error, fine, coarse))
    cause = _cause(coarse, fine, oracle.step, abs(first) or 1.0)
    return _judged(coarse, apart, cause, oracle)


def refuse_different(what: str, apart: float, size: float) -> None:
    """Raise NotJudged where two calls at one point, of such a size, say different things."""
    if apart > SAME * size:
        note = f"two calls of the {what} at one point differ by {apart:.2g}"
        raise NotJudged(NOT_DETERMINISTIC, note)


def _refuse_not_finite(*gradients: Factors) -> None:
    for gradient in gradients:
        for name, side in zip(Factors._fields, gradient, strict=True):
            for row, column in np.argwhere(~np.isfinite(side)):
                raise NotJudged(NOT_FINITE, f"the loss is not finite near {name}[{row}, {column}]")


def _judged(gradient: Factors, apart: float, cause: str, oracle: Oracle) -> Reference:
    """Differences that are so far apart from those at h/2."""
    tolerance = MARGIN * apart
    if tolerance <= oracle.tolerance:
        return Reference(gradient, oracle.tolerance)
    if tolerance <= COARSEST:
        return Reference(gradient, tolerance, f"{cause}, tolerance raised to {tolerance:.0e}")
    raise NotJudged(
        TOO_COARSE,
        f"{cause}: differences at h and h/2 are {apart:.0%} apart; try another job.candidate.step",
    )


def _cause(coarse: Factors, fine: Factors, step: float, size: float) -> str:
    """What sets differences at h and h/2 apart, of a loss of such a size.

    Noise does so in every entry alike, and a kink or a step in few.
    """
    apart = np.concatenate([np.abs(a - b).ravel() for a, b in zip(fine, coarse, strict=True)])
    typical = np.median(apart)
    if apart.max() > KINK * typical:
        return "a kink or a step in the loss"
    noise = float(typical * step / PER_NOISE / size)
    least, most = FLOAT32
    kind = "float32: " if least < noise < most else ""
    return f"{kind}noise of {noise:.0e} in the loss"


# the differences themselves


def differences(loss: Own, arguments: Arguments, step: float) -> Factors:
    """Five-point central differences of a loss in both sides."""
    sides = (difference(loss, arguments, side, step) for side in Factors._fields)
    return Factors(*sides)


def difference(loss: Own, arguments: Arguments, side: str, step: float) -> Side:
    """Five-point central differences in one side, entry by entry.

    They have no truncation error for polynomials of up to the fourth degree in an entry, and O(h⁴)
    for others. h is `step`, and as much longer as an entry is larger than 1.
    """
    start = getattr(arguments, side)

    def moved(entry: tuple[int, ...], by: float) -> float:
        changed = start.copy()
        changed[entry] += by
        return loss_of(loss, arguments._replace(**{side: changed}))

    result = np.empty_like(start)
    for entry in np.ndindex(start.shape):
        h = step * max(1.0, abs(start[entry]))
        near = moved(entry, h) - moved(entry, -h)
        far = moved(entry, 2 * h) - moved(entry, -2 * h)
        result[entry] = (8 * near - far) / (12 * h)
    return result
