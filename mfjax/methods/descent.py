"""Full-batch descent: one step of any optax optimiser an epoch, on any gradient."""

from typing import Any, NamedTuple

import optax
from jaxtyping import Array, Int, PyTree

from mfjax.bags import Sources, is_transductive
from mfjax.bags.tables import apart, combined, no_embeddings, of_rated, stacked
from mfjax.gradients import as_loss, with_bags
from mfjax.methods.initial import initial_factors
from mfjax.objective import LaneTerms, columns, lane_terms, zero_pinned
from mfjax.types import Factors, Gradient, Hparams, Info, Method, Optimizer, Spec, State


class Own(NamedTuple):
    """What stands in a State beside factors that are partly made of features.

    Args:
      factors: U and V, of which the factors of the State are U~ and V~.
      memory: the optimiser's own state.
    """

    factors: Factors
    memory: PyTree


def descent(
    spec: Spec, *, gradient: Gradient, optimizer: Optimizer, bags: Sources | None = None
) -> Method:
    """x ← x + optimiser(∂L/∂x) once an epoch.

    L-BFGS and other line searches evaluate L as often as they need.

    Source: gradient descent on equation (1) of `mfjax.objective`, or on (3) of `mfjax.bags`, all
    ratings at once; how far and where to is the optimiser's, as optax documents it.

    Args:
      spec: the shapes and the conventions.
      gradient: any entry of `mfjax.gradients.GRADIENTS`, made for `spec`.
      optimizer: what makes an update of the gradient.
      bags: the sources of features of each side, whose embeddings start at 0; None: none.

    Returns:
      A Method on the gradient's layout.
    """
    if bags is not None:
        gradient = with_bags(gradient, bags, spec)
    loss = as_loss(gradient)

    def tables_of(state: State) -> tuple[Factors, PyTree]:
        """What the optimiser moves, and its memory."""
        if state.embeddings is None:
            return state.factors, state.optimizer
        own, memory = state.optimizer
        return stacked(own, state.embeddings), memory

    def state_of(tables: Factors, memory: PyTree, layout: Any, lane: LaneTerms) -> State:
        if bags is None:
            return State(tables, memory)
        own, embeddings = apart(tables, spec)
        factors = combined(own, embeddings, layout.bags, lane)
        return State(factors, Own(own, memory), embeddings)

    def init(
        key: Array,
        layout: Any,
        hparams: Hparams,
        factors: Factors | None = None,
    ) -> State:
        lane = lane_terms(layout.sums, hparams, spec)
        start = initial_factors(key, lane, hparams, spec, factors)
        if bags is not None:
            start = stacked(start, no_embeddings(layout.bags, spec))
        return state_of(start, optimizer.make(hparams, 1).init(start), layout, lane)

    def step(
        state: State, layout: Any, hparams: Hparams, epoch: Int[Array, ""] | int
    ) -> tuple[State, Info]:
        tables, memory = tables_of(state)
        value, grad = gradient.value_and_grad(tables, layout, hparams)
        updates, memory = optimizer.make(hparams, 1).update(
            grad,
            memory,
            tables,
            value=value,
            grad=grad,
            value_fn=lambda tables: loss(tables, layout, hparams),
        )
        updates = zero_pinned(updates, columns(hparams, spec))
        after = optax.apply_updates(tables, updates)
        lane = lane_terms(layout.sums, hparams, spec)
        return state_of(after, memory, layout, lane), Info(value, optax.tree.norm(updates))

    return Method(
        prepare=gradient.prepare,
        init=init,
        step=step,
        reads=(*optimizer.reads, *["reg_bag"] * (bags is not None)),
        work_bytes=gradient.work_bytes,
        shares_rows=gradient.shares_rows,
        errors=gradient.errors,
        rated=of_rated(bags, spec),
        transductive=is_transductive(bags),
    )
