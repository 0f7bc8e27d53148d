"""A hand-derived gradient as a loss that JAX can differentiate."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from mfjax.types import Factors, Gradient, Hparams


def as_loss(gradient: Gradient) -> Callable:
    """A scalar loss `(factors, layout, hparams) -> L` whose derivative in the factors is given.

    It is `gradient`'s own, and works inside `jax.grad`, `jax.hessian`, `jax.jvp` and `optax.lbfgs`.

    Args:
      gradient: any entry of `mfjax.gradients.GRADIENTS`, made for a Spec, or one of yours.

    Returns:
      The loss, a pure function to a scalar.

    Raises:
      TypeError: later, where the loss is differentiated in the layout or the hyperparameters: a
        hand-derived gradient does not know those derivatives, and 0 would be wrong.
    """

    @jax.custom_jvp
    def loss(factors: Factors, layout: Any, hparams: Hparams):
        value, _ = gradient.value_and_grad(factors, layout, hparams)
        return value

    def jvp(primals, tangents):
        tangent, *unknown = tangents
        if not all(map(_is_zero, _leaves(unknown))):
            raise TypeError(
                "a hand-derived gradient knows its derivative in the factors alone, and this "
                "differentiates it in the ratings or hyperparameters; use jax.grad of an autodiff "
                "variant (autodiff, coo_autodiff)"
            )
        value, grad = gradient.value_and_grad(*primals)
        pairs = zip(_leaves(grad), _leaves(tangent), strict=True)
        dots = [jnp.vdot(g, t) for g, t in pairs if not _is_zero(t)]
        return value, sum(dots, start=jnp.zeros_like(value))

    loss.defjvp(jvp, symbolic_zeros=True)
    return loss


def _leaves(tree: Any) -> list:
    return jax.tree.leaves(tree, is_leaf=_is_zero)


def _is_zero(leaf: Any) -> bool:
    return isinstance(leaf, SymbolicZero)
