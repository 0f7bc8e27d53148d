r"""Bags of features: what a user or an item is made of beside a row of its own.

With sparse features X `[users, F]` of the users and Z `[items, F']` of the items, and an embedding
of each feature, B and D,

    U~ = U + X B        V~ = V + Z D                                                             (1)

are the factors of `mfjax.objective`, biases among them, and its regulariser is of the tables apart:

    ½ s [Σ reg_c ρ_i u_ic² + Σ reg_c σ_j v_jc² + reg_bag (Σ b_fc² + Σ d_fc²)]                    (2)

With G_U the gradient of the rest of L in U~, the gradients are

    ∂L/∂U = G_U + s reg ∘ ρ ∘ U        ∂L/∂B = Xᵀ G_U + s reg_bag B                              (3)

and those of V and D alike. Where a column of a side is pinned, its embeddings are 0 there.

A row of BAGS is a function `(ratings, side, spec, *, …) -> Features`.
"""

from collections.abc import Callable

from mfjax.bags.bag import Bag, collect, dense, prepare_bag, spread
from mfjax.bags.features import (
    Features,
    Source,
    Sources,
    columns,
    genres,
    is_transductive,
    popularity,
    rated,
)

BAGS: dict[str, Callable[..., Features]] = {
    "rated": rated,
    "genres": genres,
    "columns": columns,
    "popularity": popularity,
}

__all__ = [
    "BAGS",
    "Bag",
    "Features",
    "Source",
    "Sources",
    "collect",
    "dense",
    "is_transductive",
    "prepare_bag",
    "spread",
]
