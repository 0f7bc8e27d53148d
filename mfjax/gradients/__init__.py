"""Every way to compute the one gradient, in one table.

Each is checked against `jax.grad` and central differences.
"""

from collections.abc import Callable
from functools import partial

from mfjax.gradients.as_loss import as_loss
from mfjax.gradients.by_kernel import by_kernel
from mfjax.gradients.coo import coo, coo_autodiff
from mfjax.gradients.dense import autodiff, matrix, numerical, rowwise
from mfjax.gradients.with_bags import with_bags
from mfjax.kernels import KERNELS
from mfjax.types import Gradient, Spec

GRADIENTS: dict[str, Callable[[Spec], Gradient]] = {
    "autodiff": autodiff,
    "rowwise": rowwise,
    "matrix": matrix,
    "coo_autodiff": coo_autodiff,
    "coo": coo,
    "tiles": partial(by_kernel, KERNELS["xla"]),
    "native": partial(by_kernel, KERNELS["native"]),
    "numerical": numerical,
}

__all__ = ["GRADIENTS", "as_loss", "with_bags"]
