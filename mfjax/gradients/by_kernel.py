"""The gradient from a kernel's sums, by user and by item, and no scatter-add a rating."""

from collections.abc import Callable
from typing import Any

from jaxtyping import Array, Float

from mfjax.kernels import Kernel
from mfjax.objective import lane_terms
from mfjax.types import Factors, Gradient, Hparams, Spec


def by_kernel(make_kernel: Callable[[Spec], Kernel], spec: Spec) -> Gradient:
    """Hand-derived, ∂U from the ratings by user and ∂V from the ratings by item.

    Derivation: equation (1) of `mfjax.objective` has E = 0 off Ω under `ignore`, so that (E V)_i is
    a sum over the ratings of user i alone, and (Eᵀ U)_j one over the ratings of item j: two passes,
    each over rows that lie together, where `coo` adds each rating to two rows. With a background,
    equation (3) counts every entry and each rating takes its own share off again,
    e_ij = w_ij ∂ℓ/∂p − α (u_i·v_j − b_j): O(ratings · k + (users + items) · k²),
    whatever the missing treatment.

    Args:
      make_kernel: an entry of `mfjax.kernels.KERNELS`.
      spec: the shapes, the conventions and the tiling.

    Returns:
      A Gradient on the kernel's layout.
    """
    kernel = make_kernel(spec)

    def value_and_grad(
        factors: Factors, layout: Any, hparams: Hparams
    ) -> tuple[Float[Array, ""], Factors]:
        return kernel.gradient(factors, layout, lane_terms(layout.sums, hparams, spec))

    return Gradient(
        prepare=kernel.prepare,
        value_and_grad=value_and_grad,
        work_bytes=kernel.work_bytes,
        shares_rows=kernel.shares_rows,
        errors=kernel.errors,
    )
