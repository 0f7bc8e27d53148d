"""Sums over the ratings of each row, which must be fast: every way to take them, in one table.

A row here is a gradient in `mfjax.gradients.GRADIENTS`, and a `kernel` for the methods that want
one.
"""

from collections.abc import Callable

from mfjax.kernels.kernel import Kernel
from mfjax.kernels.tiles import tiles
from mfjax.types import Spec

KERNELS: dict[str, Callable[[Spec], Kernel]] = {
    "tiles": tiles,
}

__all__ = ["KERNELS", "Kernel"]
