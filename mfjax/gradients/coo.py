"""Gradients on the ratings alone, in coordinate form: O(ratings · k), whatever is missing."""

from functools import partial
from typing import NamedTuple

import jax
from jaxtyping import Array, Float

from mfjax.objective import (
    FoldSums,
    dot,
    entries_seen,
    lane_terms,
    off_ratings,
    on_ratings,
    pin,
    with_few_missing,
    zero_pinned,
)
from mfjax.types import Factors, Gradient, Hparams, Ratings, Spec


class Coo(NamedTuple):
    """The ratings as they came, missing entries after them where few are, and the folds' sums."""

    ratings: Ratings
    sums: FoldSums


def prepare(ratings: Ratings, spec: Spec) -> Coo:
    """The coordinate layout, on the host."""
    return Coo(*with_few_missing(ratings, spec))


def coo_autodiff(spec: Spec) -> Gradient:
    """`jax.grad` through the gathers, which XLA transposes into scatter-adds.

    Derivation: none by hand; the missing entries come by equation (2) of `mfjax.objective`.

    Args:
      spec: the shapes and the conventions.

    Returns:
      A Gradient on the ratings alone.
    """

    def objective(factors: Factors, layout: Coo, hparams: Hparams) -> Float[Array, ""]:
        lane = lane_terms(layout.sums, hparams, spec)
        ratings = layout.ratings
        seen = entries_seen(ratings, lane.background[ratings.item], lane, spec)
        factors = pin(factors, lane.columns)
        user = factors.user[ratings.user]
        item = factors.item[ratings.item]
        _, loss = on_ratings(dot(user, item), seen, lane, spec)
        rest, _ = off_ratings(factors, lane, spec)
        return lane.scale * (loss.sum() + rest)

    return Gradient(partial(prepare, spec=spec), jax.value_and_grad(objective))


def coo(spec: Spec) -> Gradient:
    """Hand-derived, one scatter-add of e_ij v_j into user i and of e_ij u_i into item j.

    Derivation: equation (1) of `mfjax.objective` has E = 0 off Ω under `ignore`, so (E V)_i sums
    e_ij v_j over the ratings of user i. With a background, equation (3) counts every entry and each
    rating takes its own share off again: e_ij = w_ij ∂ℓ/∂p − α (u_i·v_j − b_j).

    Args:
      spec: the shapes and the conventions.

    Returns:
      A Gradient on the ratings alone.
    """

    def value_and_grad(
        factors: Factors, layout: Coo, hparams: Hparams
    ) -> tuple[Float[Array, ""], Factors]:
        lane = lane_terms(layout.sums, hparams, spec)
        ratings = layout.ratings
        seen = entries_seen(ratings, lane.background[ratings.item], lane, spec)
        factors = pin(factors, lane.columns)
        user = factors.user[ratings.user]
        item = factors.item[ratings.item]
        error, loss = on_ratings(dot(user, item), seen, lane, spec)
        rest, grad = off_ratings(factors, lane, spec)
        grad_user = grad.user.at[ratings.user].add(error[:, None] * item)
        grad_item = grad.item.at[ratings.item].add(error[:, None] * user)
        scaled = Factors(lane.scale * grad_user, lane.scale * grad_item)
        loss = lane.scale * (loss.sum() + rest)
        return loss, zero_pinned(scaled, lane.columns)

    return Gradient(partial(prepare, spec=spec), value_and_grad)
