"""Full-batch descent: one step of any optax optimiser an epoch, on any gradient."""

from typing import Any

import optax
from jaxtyping import Array, Int

from mfjax.gradients import as_loss
from mfjax.methods.initial import initial_factors
from mfjax.objective import columns, lane_terms, zero_pinned
from mfjax.types import Factors, Gradient, Hparams, Info, Method, Optimizer, Spec, State


def descent(spec: Spec, *, gradient: Gradient, optimizer: Optimizer) -> Method:
    """x ← x + optimiser(∂L/∂x) once an epoch.

    L-BFGS and other line searches evaluate L as often as they need.

    Source: gradient descent on equation (1) of `mfjax.objective`, all ratings at once; how far and
    where to is the optimiser's, as optax documents it.

    Args:
      spec: the shapes and the conventions.
      gradient: any entry of `mfjax.gradients.GRADIENTS`, made for `spec`.
      optimizer: what makes an update of the gradient.

    Returns:
      A Method on the gradient's layout.
    """
    loss = as_loss(gradient)

    def init(
        key: Array,
        layout: Any,
        hparams: Hparams,
        factors: Factors | None = None,
    ) -> State:
        lane = lane_terms(layout.sums, hparams, spec)
        start = initial_factors(key, lane, hparams, spec, factors)
        return State(start, optimizer.make(hparams, 1).init(start))

    def step(
        state: State, layout: Any, hparams: Hparams, epoch: Int[Array, ""] | int
    ) -> tuple[State, Info]:
        value, grad = gradient.value_and_grad(state.factors, layout, hparams)
        updates, memory = optimizer.make(hparams, 1).update(
            grad,
            state.optimizer,
            state.factors,
            value=value,
            grad=grad,
            value_fn=lambda factors: loss(factors, layout, hparams),
        )
        updates = zero_pinned(updates, columns(hparams, spec))
        after = optax.apply_updates(state.factors, updates)
        return State(after, memory), Info(value, optax.tree.norm(updates))

    return Method(
        prepare=gradient.prepare,
        init=init,
        step=step,
        reads=optimizer.reads,
        work_bytes=gradient.work_bytes,
        shares_rows=gradient.shares_rows,
        errors=gradient.errors,
    )
