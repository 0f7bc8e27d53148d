"""Gradients on the ratings alone, in coordinate form: O(ratings · k), whatever the missing treatment."""

from typing import NamedTuple

import jax
from jaxtyping import Array, Float

from mfjax.objective import Margins, everywhere, free, margins, observed, pinned, terms, train_weight
from mfjax.types import Factors, Gradient, Hparams, Ratings, Spec


class Coo(NamedTuple):
    """The ratings as they came, and the margins of their folds."""

    ratings: Ratings
    margins: Margins


def prepare(ratings: Ratings, spec: Spec) -> Coo:
    """The coordinate layout, on the host."""
    return Coo(ratings, margins(ratings, spec))


def predict(factors: Factors, ratings: Ratings) -> Float[Array, " n"]:
    """u_i·v_j for every rating, `[n]`; with biases, less μ."""
    return (factors.user[ratings.user] * factors.item[ratings.item]).sum(-1)


def coo_autodiff(spec: Spec) -> Gradient:
    """`jax.grad` through the gathers, which XLA transposes into scatter-adds; equation (2) for the missing entries."""

    def objective(factors: Factors, layout: Coo, hparams: Hparams):
        t = terms(layout.margins, hparams, spec)
        weight = train_weight(layout.ratings.weight, layout.ratings.fold, hparams)
        factors = pinned(factors, t.columns)
        r = layout.ratings
        _, loss = observed(predict(factors, r), r.value, weight, t.background[r.item], t, spec)
        return t.scale * (loss.sum() + everywhere(factors, t, spec)[0])

    return Gradient(lambda ratings: prepare(ratings, spec), jax.value_and_grad(objective))


def coo(spec: Spec) -> Gradient:
    """Hand-derived, one scatter-add of e_ij v_j into user i and of e_ij u_i into item j.

    Derivation: equation (1) of `mfjax.objective` has E = 0 off Ω under `ignore`, so (E V)_i sums e_ij v_j over the
    ratings of user i. With a background, equation (3) counts every entry and each rating takes its own share off again:
    e_ij = w_ij (u_i·v_j − r_ij) − α (u_i·v_j − b_j).
    """

    def value_and_grad(factors: Factors, layout: Coo, hparams: Hparams):
        t, r = terms(layout.margins, hparams, spec), layout.ratings
        factors = pinned(factors, t.columns)
        user, item = factors.user[r.user], factors.item[r.item]
        weight = train_weight(r.weight, r.fold, hparams)
        error, loss = observed((user * item).sum(-1), r.value, weight, t.background[r.item], t, spec)
        rest, grad = everywhere(factors, t, spec)
        grad_user = grad.user.at[r.user].add(error[:, None] * item)
        grad_item = grad.item.at[r.item].add(error[:, None] * user)
        return t.scale * (loss.sum() + rest), free(Factors(t.scale * grad_user, t.scale * grad_item), t.columns)

    return Gradient(lambda ratings: prepare(ratings, spec), value_and_grad)
