"""The gradient from a kernel's sums, by user and by item, and no scatter-add a rating."""

from collections.abc import Callable

from jaxtyping import Array, Float

from mfjax.kernels import Kernel
from mfjax.kernels.layout import Tiles
from mfjax.objective import lane_terms, off_ratings, pin, zero_pinned
from mfjax.types import Factors, Gradient, Hparams, Spec


def by_kernel(make_kernel: Callable[[Spec], Kernel], spec: Spec) -> Gradient:
    """Hand-derived, ∂U from the ratings by user and ∂V from the ratings by item.

    Derivation: equation (1) of `mfjax.objective` has E = 0 off Ω under `ignore`, so that (E V)_i is
    a sum over the ratings of user i alone, and (Eᵀ U)_j one over the ratings of item j: two passes,
    each over rows that lie together, where `coo` adds each rating to two rows. With a background,
    equation (3) counts every entry and each rating takes its own share off again,
    e_ij = w_ij (u_i·v_j − r_ij) − α (u_i·v_j − b_j): O(ratings · k + (users + items) · k²),
    whatever the missing treatment.

    Args:
      make_kernel: an entry of `mfjax.kernels.KERNELS`.
      spec: the shapes, the conventions and the tiling.

    Returns:
      A Gradient on the kernel's layout, whose rows devices may share.
    """
    kernel = make_kernel(spec)

    def value_and_grad(
        factors: Factors, layout: Tiles, hparams: Hparams
    ) -> tuple[Float[Array, ""], Factors]:
        lane = lane_terms(layout.sums, hparams, spec)
        factors = pin(factors, lane.columns)
        tables = kernel.tables(factors, lane, layout)
        views = kernel.views(tables, lane, layout)
        loss, user_sums = kernel.error_sums(views.user, lane)
        _, item_sums = kernel.error_sums(views.item, lane)
        rest, grad = off_ratings(factors, lane, spec)
        user = grad.user + kernel.in_rows(user_sums, views.user)
        item = grad.item + kernel.in_rows(item_sums, views.item)
        scaled = Factors(lane.scale * user, lane.scale * item)
        return lane.scale * (loss + rest), zero_pinned(scaled, lane.columns)

    return Gradient(
        prepare=kernel.prepare,
        value_and_grad=value_and_grad,
        work_bytes=kernel.work_bytes,
        shares_rows=True,
    )
