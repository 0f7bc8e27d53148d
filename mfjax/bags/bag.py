r"""The sparse features X of one side, and the two sums over them.

An entry of X in a lane is X_if = x_if a_i·b_f: x_if is laid out once, and is 0 in a lane that holds
out the rating that it comes of; a_i are the lane's SCALES of row i, of which the one-hot b_f takes
that of feature f. With scale k, whose numbers are a_k and whose features b_k,

    X T = Σ_k a_k ∘ x (b_k ∘ T)        Xᵀ R = Σ_k b_k ∘ xᵀ (a_k ∘ R)                             (1)

and products with x are sums of a kernel, as of ratings whose weights are its entries.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mfjax.bags.features import SCALES, Source, is_rated, num_rows
from mfjax.kernels import KERNELS
from mfjax.kernels.choice import choice
from mfjax.objective import LaneTerms
from mfjax.types import ASKED, AnyArray, Ratings, Spec


class Block(NamedTuple):
    """Features that come of one source: how many, and their row of SCALES."""

    num_features: int
    scale: str


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["layout", "asked"],
    meta_fields=["side", "blocks", "kernel", "spec"],
)
@dataclass(frozen=True)
class Bag:
    """The features X of one side, laid out for sums.

    Args:
      layout: the kernel's, of rows and features; it and `asked` are traced.
      asked: `[rows]`, the pairs to be tested of each row, which a transductive bag counts.
      side: whose rows have the features: 0, users, or 1, items.
      blocks: the features in their order.
      kernel: a row of KERNELS.
      spec: the kernel's, of rows and features in place of users and items.
    """

    layout: Any
    asked: Any
    side: int
    blocks: tuple[Block, ...]
    kernel: str
    spec: Spec

    @property
    def num_features(self) -> int:
        """F, the rows of an embedding."""
        return self.spec.num_items


def prepare_bag(
    sources: Sequence[Source],
    ratings: Ratings,
    side: int,
    spec: Spec,
    *,
    kernel: str | None = None,
) -> Bag | None:
    """The bag of one side, on the host.

    Args:
      sources: of its features, one after the other; `rated` comes first.
      ratings: to train and validate on, in NumPy; padding of weight 0 may stand anywhere, and
        pairs to be tested, of fold `ASKED`.
      side: whose rows have the features: 0, users, or 1, items.
      spec: the shapes, the dtype and the tiling.
      kernel: a row of KERNELS, which sums; None: the best there is.

    Returns:
      The Bag; None without sources.

    Raises:
      InputError: a source has no features of these rows.
      OutOfMemory: the layout would not fit.
    """
    if not sources:
        return None
    in_order = sorted(sources, key=lambda source: not is_rated(source))
    parts = [source(ratings, side, spec) for source in in_order]
    before = np.cumsum([0, *(part.num_features for part in parts)])
    entries = Ratings.of(
        np.concatenate([part.row for part in parts]),
        np.concatenate([part.feature + first for part, first in zip(parts, before, strict=False)]),
        np.zeros(sum(len(part.row) for part in parts)),
        weight=np.concatenate([part.value for part in parts]),
        fold=np.concatenate([part.fold for part in parts]),
        dtype=spec.dtype,
    )
    of_entries = replace(
        spec,
        num_users=num_rows(spec, side),
        num_items=int(before[-1]),
        bias=False,
        missing="ignore",
        loss=Spec.loss,
    )
    name = kernel or choice().name
    asked = ratings.taken(ratings.fold == ASKED)
    rows_asked = (asked.user, asked.item)[side]
    return Bag(
        layout=KERNELS[name](of_entries).prepare(entries),
        asked=np.bincount(rows_asked, minlength=num_rows(spec, side)).astype(spec.dtype),
        side=side,
        blocks=tuple(Block(part.num_features, part.scale) for part in parts),
        kernel=name,
        spec=of_entries,
    )


def spread(
    bag: Bag, table: Float[AnyArray, "features columns"], lane: LaneTerms
) -> Float[Array, "rows columns"]:
    """X T: what the features of each row sum to, in O(entries · columns).

    Derivation: equation (1) of this module.

    Args:
      bag: X of one side.
      table: T, `[features, columns]`.
      lane: whose fold is left out and whose counts scale.

    Returns:
      `[rows, columns]`, a row a row of the side.
    """
    return _product(bag, table, 0, lane)


def collect(
    bag: Bag, rows: Float[AnyArray, "rows columns"], lane: LaneTerms
) -> Float[Array, "features columns"]:
    """Xᵀ R: what the rows that have each feature sum to, in O(entries · columns).

    Derivation: equation (1) of this module.

    Args:
      bag: X of one side.
      rows: R, `[rows, columns]`, a row a row of the side.
      lane: whose fold is left out and whose counts scale.

    Returns:
      `[features, columns]`.
    """
    return _product(bag, rows, 1, lane)


def dense(bag: Bag, lane: LaneTerms) -> Float[Array, "rows features"]:
    """X as a full matrix, in O(entries · features).

    Args:
      bag: X of one side.
      lane: whose fold is left out and whose counts scale.

    Returns:
      `[rows, features]`, 0 where a row has no such feature.
    """
    return spread(bag, jnp.eye(bag.num_features, dtype=bag.spec.dtype), lane)


def _product(
    bag: Bag, table: Float[AnyArray, "others columns"], side: int, lane: LaneTerms
) -> Float[Array, "n columns"]:
    """X T, of side 0, or Xᵀ R, of side 1, by equation (1)."""
    kernel = KERNELS[bag.kernel](bag.spec)
    sums = [
        scales[side][:, None]
        * kernel.sums(scales[1 - side][:, None] * table, side, bag.layout, lane)
        for scales in _scales(bag, lane, table)
    ]
    return sum(sums[1:], start=sums[0])


def _scales(
    bag: Bag, lane: LaneTerms, like: Float[AnyArray, "n columns"]
) -> list[tuple[Float[Array, " rows"], Float[Array, " features"]]]:
    """a_k and b_k of equation (1), of every scale."""
    count = lane.counts[bag.side]
    own = [block.scale for block in bag.blocks for _ in range(block.num_features)]
    return [
        (
            jnp.asarray(SCALES[name](count, bag.asked), like.dtype),
            jnp.asarray([scale == name for scale in own], like.dtype),
        )
        for name in dict.fromkeys(own)
    ]
