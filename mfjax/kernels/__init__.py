"""Sums over the ratings of each row, which must be fast: every way to take them, in one table.

A row here is a `kernel` for the methods that want one, and a gradient in
`mfjax.gradients.GRADIENTS`.
"""

from collections.abc import Callable

from mfjax.kernels.kernel import Kernel
from mfjax.kernels.native.kernel import native_kernel
from mfjax.kernels.xla import xla_kernel
from mfjax.types import Spec

KERNELS: dict[str, Callable[[Spec], Kernel]] = {
    "xla": xla_kernel,
    "native": native_kernel,
}

__all__ = ["KERNELS", "Kernel"]
