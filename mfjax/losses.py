"""What a prediction costs: every loss ℓ(p, r) of a prediction p and a rating r, in one table.

The objective (`mfjax.objective`) sums w ℓ(p, r) over the ratings, and all that its gradient needs
of ℓ is the slope ∂ℓ/∂p. p = μ + b_i + c_j + u_i·v_j is on the scale of the loss's link: p itself
predicts the rating, or a function of p does (McCullagh and Nelder, "Generalized Linear Models",
1989, section 2.2).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mfjax.errors import InputError
from mfjax.types import AnyArray, Ratings, Spec

INF = float("inf")
EVERYTHING = (-INF, INF)  # of ratings
LEAST = 1e-6  # the nearest that a mean rating comes to a rating whose p is infinite
MOST_LOG = 80.0  # of a rate that is predicted, which float32 still holds


# links

Numbers = Float[AnyArray, "*n"] | np.floating


class Link(NamedTuple):
    """How p stands for a rating; of NumPy and jax arrays alike.

    Args:
      rating: p, `[*n]`, to the rating that it predicts; rising.
      inverse: a rating, `[*n]`, to its p; of the mean rating it is μ.
    """

    rating: Callable[[Numbers], Numbers]
    inverse: Callable[[Numbers], Numbers]


def _same(x: Numbers) -> Numbers:
    return x


def _sigmoid(p: Numbers) -> Numbers:
    """1 / (1 + exp(−p)), without an exponential that overflows."""
    xp = p.__array_namespace__()
    return (1 + xp.tanh(p / 2)) / 2


def _logit(rating: Numbers) -> Numbers:
    xp = rating.__array_namespace__()
    inside = xp.clip(rating, LEAST, 1 - LEAST)
    return xp.log(inside) - xp.log1p(-inside)


def _exp(p: Numbers) -> Numbers:
    xp = p.__array_namespace__()
    return xp.exp(xp.clip(p, None, MOST_LOG))


def _log(rating: Numbers) -> Numbers:
    xp = rating.__array_namespace__()
    return xp.log(xp.clip(rating, LEAST, None))


LINKS: dict[str, Link] = {
    "identity": Link(_same, _same),
    "logit": Link(_sigmoid, _logit),
    "log": Link(_exp, _log),
}


# losses

Each = Float[Array, "*n"]
Scalar = Float[AnyArray, ""] | np.floating | float


class Loss(NamedTuple):
    """What a prediction costs.

    Args:
      value: `(p, r, *hyperparameters) -> ℓ`, `[*n]` each, a pure function.
      slope: ∂ℓ/∂p of the same.
      link: a row of LINKS.
      reads: names the Hparams that both take after p and r, in their order.
      takes: the lowest and the highest rating that there may be.
      of_difference: whether ℓ knows p − r alone, and rises no faster than its square. Then μ is
        taken off the ratings; else it is added to the predictions.
    """

    value: Callable[..., Each]
    slope: Callable[..., Each]
    link: str = "identity"
    reads: tuple[str, ...] = ()
    takes: tuple[float, float] = EVERYTHING
    of_difference: bool = False


def squared(prediction: Each, rating: Each) -> Each:
    """½ e² of the difference e = p − r, whose minimum is the mean.

    Args:
      prediction, rating: `[*n]`.

    Returns:
      `[*n]`; its slope is e.
    """
    return (prediction - rating) ** 2 / 2


def _squared_slope(prediction: Each, rating: Each) -> Each:
    return prediction - rating


def huber(prediction: Each, rating: Each, delta: Scalar) -> Each:
    """½ e² up to |e| = δ and δ (|e| − δ/2) beyond: squared near the rating, and absolute far off.

    Derivation: with c = e clipped to [−δ, δ] both are c (e − c/2), and the slope is c.

    Source: equation (1.1) of Huber, "Robust Estimation of a Location Parameter", 1964.

    Args:
      prediction, rating: `[*n]`.
      delta: scalar δ > 0, in rating units.

    Returns:
      `[*n]`.
    """
    slope = _huber_slope(prediction, rating, delta)
    return slope * (prediction - rating - slope / 2)


def _huber_slope(prediction: Each, rating: Each, delta: Scalar) -> Each:
    return jnp.clip(prediction - rating, -delta, delta)


def absolute(prediction: Each, rating: Each, width: Scalar) -> Each:
    """√(e² + ε²) − ε: |e| with its kink rounded over a width of ε, whose minimum is a median.

    Derivation: written e² / (√(e² + ε²) + ε), which does not cancel at a small e; the slope is
    e / √(e² + ε²).

    Args:
      prediction, rating: `[*n]`.
      width: scalar ε > 0, in rating units.

    Returns:
      `[*n]`.
    """
    error = prediction - rating
    return error**2 / (jnp.sqrt(error**2 + width**2) + width)


def _absolute_slope(prediction: Each, rating: Each, width: Scalar) -> Each:
    error = prediction - rating
    return error / jnp.sqrt(error**2 + width**2)


def logistic(prediction: Each, rating: Each) -> Each:
    """log(1 + exp(p)) − r p, of a rating from 0 to 1 whose logit is p.

    Derivation: −r log σ(p) − (1 − r) log(1 − σ(p)), the cross-entropy, with
    −log(1 − σ(p)) = log(1 + exp(p)) and −log σ(p) = log(1 + exp(p)) − p; the slope is σ(p) − r.

    Args:
      prediction: `[*n]` logits.
      rating: `[*n]`, from 0 to 1; 0 and 1 are no and yes, and a share is a share of yes.

    Returns:
      `[*n]`, at least 0.
    """
    return jax.nn.softplus(prediction) - rating * prediction


def _logistic_slope(prediction: Each, rating: Each) -> Each:
    return jax.nn.sigmoid(prediction) - rating


def poisson(prediction: Each, rating: Each) -> Each:
    """exp(p) − r p, of a count whose rate has the logarithm p.

    Derivation: −log of exp(−ρ) ρ^r / r! at the rate ρ = exp(p), without log r!, which no p changes;
    the slope is exp(p) − r. Of numbers that are no counts it is the generalised Kullback-Leibler
    divergence, but for what no p changes.

    Args:
      prediction: `[*n]` log rates.
      rating: `[*n]`, from 0.

    Returns:
      `[*n]`, of either sign.
    """
    return jnp.exp(prediction) - rating * prediction


def _poisson_slope(prediction: Each, rating: Each) -> Each:
    return jnp.exp(prediction) - rating


# of a user's own function, `(prediction, rating)` to a scalar, `loss_of` makes a Loss
LOSSES: dict[str, Loss | Callable] = {
    "squared": Loss(squared, _squared_slope, of_difference=True),
    "huber": Loss(huber, _huber_slope, reads=("huber_delta",), of_difference=True),
    "absolute": Loss(absolute, _absolute_slope, reads=("absolute_width",), of_difference=True),
    "logistic": Loss(logistic, _logistic_slope, link="logit", takes=(0.0, 1.0)),
    "poisson": Loss(poisson, _poisson_slope, link="log", takes=(0.0, INF)),
}
HPARAMS = tuple(  # that a loss reads, and nothing else does
    key for row in LOSSES.values() if isinstance(row, Loss) for key in row.reads
)


def loss_of(name: str) -> Loss:
    """The Loss of a row of LOSSES.

    Args:
      name: of the row.

    Returns:
      The row itself; of a function `(prediction, rating)` of scalars to a scalar, it and its
      `jax.grad`, entry by entry, of predictions in rating units.
    """
    row = LOSSES[name]
    if isinstance(row, Loss):
        return row
    return Loss(value=jnp.vectorize(row), slope=jnp.vectorize(jax.grad(row)))


def link_of(name: str) -> Link:
    """The Link of a row of LOSSES.

    Args:
      name: of the row.
    """
    return LINKS[loss_of(name).link]


# refusals


def require_squared(spec: Spec, what: str, instead: str) -> None:
    """Refuse any other loss where squares are solved for.

    Args:
      spec: whose loss it is.
      what: needs it, in words.
      instead: what to do.

    Raises:
      InputError: the loss is another.
    """
    if spec.loss != Spec.loss:
        raise InputError(f"{what} needs loss={Spec.loss}, got loss={spec.loss}; {instead}")


def refuse_ratings(name: str, ratings: Ratings) -> None:
    """Refuse ratings that a loss does not take.

    Args:
      name: of a row of LOSSES.
      ratings: of which those that weigh nothing may have any value.

    Raises:
      InputError: some are out of its range; with their number and the first.
    """
    low, high = loss_of(name).takes
    if (low, high) == EVERYTHING:
        return
    value = ratings.value[ratings.weight > 0]
    others = value[(value < low) | (value > high)]
    if len(others):
        between = f"from {low:g} to {high:g}" if high < INF else f"of {low:g} or more"
        raise InputError(
            f"loss={name} takes ratings {between}, and {len(others):,} of {len(value):,} are "
            f"others, such as {others[0]:g}\nscale the ratings, or choose another loss"
        )
