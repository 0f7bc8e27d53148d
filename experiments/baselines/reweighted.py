"""Descent on ratings weighted by how far those of each user and of each item scatter."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mfjax.bags import Sources
from mfjax.kernels.predictions import predict
from mfjax.methods.descent import descent
from mfjax.objective import LaneTerms, lane_terms, train_weight
from mfjax.types import Factors, Gradient, Hparams, Info, Method, Optimizer, Ratings, Spec, State

ROUNDS = 3  # of γ given δ, and of δ given γ


def reweighted(
    spec: Spec,
    *,
    gradient: Gradient,
    optimizer: Optimizer,
    bags: Sources | None = None,
    noise_freedom: float = 8.0,
    burn_in: int = 40,
) -> Method:
    """`descent` on ratings whose weights are times γ_i δ_j, at their conditional means.

    Derivation: equation (5) of `mfjax.methods.gibbs`, whose means take the place of draws.

    Args:
      spec: the shapes and the conventions.
      gradient: `coo` or `coo_autodiff`, made for `spec`.
      optimizer: that of `descent`.
      bags: those of `descent`.
      noise_freedom: ν.
      burn_in: epochs before the first weights.

    Returns:
      A Method on the gradient's layout.
    """
    base = descent(spec, gradient=gradient, optimizer=optimizer, bags=bags)

    def step(
        state: State, layout: Any, hparams: Hparams, epoch: Int[Array, ""] | int, /
    ) -> tuple[State, Info]:
        lane = lane_terms(layout.sums, hparams, spec)
        coo = layout if bags is None else layout.ratings
        of_pairs = weights(state.factors, coo.ratings, lane, noise_freedom)
        weight = coo.ratings.weight * jnp.where(epoch < burn_in, 1, of_pairs)
        coo = coo._replace(ratings=coo.ratings._replace(weight=weight))
        return base.step(
            state, coo if bags is None else layout._replace(ratings=coo), hparams, epoch
        )

    return base._replace(step=step)


def weights(
    factors: Factors, ratings: Ratings, lane: LaneTerms, freedom: float
) -> Float[Array, " n"]:
    """γ_i δ_j of every rating, of mean 1 over those that train."""
    weight = train_weight(ratings.weight, ratings.fold, lane)
    error = predict(factors, ratings.user, ratings.item) + lane.centre - ratings.value
    squares = weight * error**2
    precision = weight.sum() / squares.sum()  # τ

    def of_rows(row: Int[Array, " n"], count: Float[Array, " rows"], of_other: Float[Array, " n"]):
        sums = jnp.zeros_like(count).at[row].add(squares * of_other)
        return ((freedom + count) / (freedom + precision * sums))[row]

    of_user = of_item = jnp.ones_like(weight)
    for _ in range(ROUNDS):
        of_user = of_rows(ratings.user, lane.counts.user, of_item)
        of_item = of_rows(ratings.item, lane.counts.item, of_user)
    of_pairs = of_user * of_item
    return of_pairs * weight.sum() / (weight * of_pairs).sum()
