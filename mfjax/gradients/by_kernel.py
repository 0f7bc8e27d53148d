"""The default gradient: sums over tiles of ratings, by user and by item, and no scatter-add a rating."""

from mfjax.kernels import tiles as engine
from mfjax.kernels.tiles import Tiles, error_sums, in_rows, tables
from mfjax.objective import everywhere, free, pinned, terms
from mfjax.types import Factors, Gradient, Hparams, Spec


def tiles(spec: Spec) -> Gradient:
    """Hand-derived, ∂U from the ratings by user and ∂V from the ratings by item; missing entries through Gram matrices.

    Derivation: equation (1) of `mfjax.objective` has E = 0 off Ω under `ignore`, so that (E V)_i is a sum over the ratings of
    user i alone, and (Eᵀ U)_j one over the ratings of item j: two passes, each over rows that lie together, where `coo` adds
    each rating to two rows. With a background, equation (3) counts every entry and each rating takes its own share off again,
    e_ij = w_ij (u_i·v_j − r_ij) − α (u_i·v_j − b_j): O(ratings · k + (users + items) · k²), whatever the missing treatment.
    """

    def value_and_grad(factors: Factors, layout: Tiles, hparams: Hparams):
        t = terms(layout.margins, hparams, spec)
        factors = pinned(factors, t.columns)
        both = tables(factors, t, layout, spec)
        loss, user_sums = error_sums("user", both, layout, hparams, t, spec)
        _, item_sums = error_sums("item", both, layout, hparams, t, spec)
        rest, grad = everywhere(factors, t, spec)
        by_user = t.scale * (grad.user + in_rows(user_sums, "user", layout, spec))
        by_item = t.scale * (grad.item + in_rows(item_sums, "item", layout, spec))
        return t.scale * (loss + rest), free(Factors(by_user, by_item), t.columns)

    return Gradient(lambda ratings: engine.prepare(ratings, spec), value_and_grad)
