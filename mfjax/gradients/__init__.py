"""Every way to compute the one gradient, in one table; each is checked against `jax.grad` and central differences."""

from collections.abc import Callable

import jax
from jax.custom_derivatives import SymbolicZero

from mfjax.gradients.by_kernel import tiles
from mfjax.gradients.coo import coo, coo_autodiff
from mfjax.gradients.dense import autodiff, matrix, numerical, rowwise
from mfjax.types import Factors, Gradient, Hparams, Spec

GRADIENTS: dict[str, Callable[[Spec], Gradient]] = {
    "autodiff": autodiff,
    "rowwise": rowwise,
    "matrix": matrix,
    "coo_autodiff": coo_autodiff,
    "coo": coo,
    "tiles": tiles,
    "numerical": numerical,
}


def as_loss(gradient: Gradient) -> Callable:
    """A scalar loss `(factors, layout, hparams) -> L` whose derivative in the factors is `gradient`'s own.

    Works inside `jax.grad`, `jax.hessian`, `jax.jvp` and `optax.lbfgs`. Differentiating it in the layout or the
    hyperparameters raises TypeError: a hand-derived gradient does not know those derivatives, and 0 would be wrong.
    """

    @jax.custom_jvp
    def loss(factors: Factors, layout, hparams: Hparams):
        return gradient.value_and_grad(factors, layout, hparams)[0]

    def jvp(primals, tangents):
        tangent, *unknown = tangents
        if not all(isinstance(t, SymbolicZero) for t in jax.tree.leaves(unknown, is_leaf=_is_zero)):
            raise TypeError(
                "a hand-derived gradient knows its derivative in the factors alone, and this differentiates it in the "
                "ratings or hyperparameters; use jax.grad of an autodiff variant (autodiff, coo_autodiff)"
            )
        value, grad = gradient.value_and_grad(*primals)
        pairs = zip(jax.tree.leaves(grad), jax.tree.leaves(tangent, is_leaf=_is_zero), strict=True)
        dots = [jax.numpy.vdot(g, t) for g, t in pairs if not isinstance(t, SymbolicZero)]
        return value, sum(dots, start=jax.numpy.zeros_like(value))

    loss.defjvp(jvp, symbolic_zeros=True)
    return loss


def _is_zero(leaf) -> bool:
    return isinstance(leaf, SymbolicZero)
