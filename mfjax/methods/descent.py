"""Full-batch descent: one step of any optax optimiser an epoch, on any gradient of the objective."""

import optax

from mfjax.gradients import as_loss
from mfjax.methods.initial import initial_factors
from mfjax.objective import free, pinned, terms
from mfjax.types import Factors, Gradient, Hparams, Info, Method, Optimizer, Spec, State


def descent(spec: Spec, gradient: Gradient, optimizer: Optimizer) -> Method:
    """x ← x + optimiser(∂L/∂x) once an epoch; L-BFGS and other line searches evaluate L as often as they need."""
    loss = as_loss(gradient)

    def init(key, layout, hparams: Hparams, factors: Factors | None = None) -> State:
        t = terms(layout.margins, hparams, spec)
        start = initial_factors(key, t, hparams, spec) if factors is None else pinned(factors, t.columns)
        return State(start, optimizer.make(hparams).init(start))

    def step(state: State, layout, hparams: Hparams, order) -> tuple[State, Info]:
        value, grad = gradient.value_and_grad(state.factors, layout, hparams)
        updates, memory = optimizer.make(hparams).update(
            grad,
            state.optimizer,
            state.factors,
            value=value,
            grad=grad,
            value_fn=lambda factors: loss(factors, layout, hparams),
        )
        updates = free(updates, terms(layout.margins, hparams, spec).columns)
        return State(optax.apply_updates(state.factors, updates), memory), Info(value, optax.tree.norm(updates))

    return Method(gradient.prepare, init, step, order=lambda num_ratings, data_seed, epoch: None, takes=optimizer.takes)
