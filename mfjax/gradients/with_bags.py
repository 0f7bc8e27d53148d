"""The gradient of factors that are partly made of features, from any gradient of factors."""

from functools import partial

import optax
from jaxtyping import Array, Float

from mfjax.bags import Sources
from mfjax.bags.tables import (
    Bagged,
    apart,
    collected,
    combined,
    prepare_bagged,
    stacked,
    without_pinned,
)
from mfjax.objective import lane_terms, pin, regulariser
from mfjax.types import Factors, Gradient, Hparams, Spec


def with_bags(gradient: Gradient, bags: Sources, spec: Spec) -> Gradient:
    """The gradient in U, V and in the embeddings B, D of features.

    Derivation: equation (3) of `mfjax.bags`: G is the given gradient at U~, V~ without its
    regulariser, and U~ = U + X B gives ∂L/∂B = Xᵀ G; each table has a regulariser of its own.

    Args:
      gradient: any entry of `mfjax.gradients.GRADIENTS`, made for `spec`, or one of yours.
      bags: the sources of the features of each side, none of a side without.
      spec: the shapes and the conventions.

    Returns:
      A Gradient whose factors are tables of the own rows and, after them, of the embeddings, as
      `mfjax.bags.tables.stacked` makes them.
    """

    def value_and_grad(
        tables: Factors, layout: Bagged, hparams: Hparams
    ) -> tuple[Float[Array, ""], Factors]:
        lane = lane_terms(layout.sums, hparams, spec)
        own, embeddings = apart(tables, spec)
        own = pin(own, lane.columns)
        embeddings = without_pinned(embeddings, lane.columns)
        factors = combined(own, embeddings, layout.bags, lane)
        of_data = hparams._replace(reg=0 * hparams.reg, reg_bias=0 * hparams.reg_bias)
        loss, grad = gradient.value_and_grad(factors, layout.ratings, of_data)
        own_loss, decay = regulariser(own, lane)
        reg_bag = lane.scale * hparams.reg_bag
        bag_loss = reg_bag * optax.tree.norm(embeddings, squared=True) / 2
        own_grad = optax.tree.add_scale(grad, lane.scale, decay)
        bag_grad = optax.tree.add_scale(collected(grad, layout.bags, lane), reg_bag, embeddings)
        return loss + lane.scale * own_loss + bag_loss, stacked(own_grad, bag_grad)

    return gradient._replace(
        prepare=partial(
            prepare_bagged,
            prepare=gradient.prepare,
            sources=bags,
            spec=spec,
            shares_rows=gradient.shares_rows,
        ),
        value_and_grad=value_and_grad,
    )
