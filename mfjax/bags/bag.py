r"""The sparse features X of one side, and the two sums over them.

An entry of X in a lane is X_if = x_if a_i·b_f: x_if is laid out once, and is 0 in a lane that holds
out the rating that it comes of; a_i are the lane's SCALES of row i, of which the one-hot b_f takes
that of feature f. Sums of such entries are a kernel's. Of rows [a_i | 0] and [b_f | t_f], and
ratings of 0, the errors are X_if and the gradient of row i is

    Σ_f X_if [b_f | t_f]                                                                         (1)

of which X T is a part; Xᵀ R is one of the gradient of the other rows, of [a_i | r_i] and [b_f | 0].
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
from mfjax.objective import Columns, LaneTerms
from mfjax.types import ASKED, AnyArray, Factors, Ratings, Sides, Spec


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
    scales, chosen = _scales(bag, lane, table)
    own = _beside(scales, jnp.zeros((len(scales), table.shape[1]), table.dtype))
    sums = _sums(bag, Factors(own, _beside(chosen, table)), lane)
    return sums.user[:, scales.shape[1] :]


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
    scales, chosen = _scales(bag, lane, rows)
    other = _beside(chosen, jnp.zeros((len(chosen), rows.shape[1]), rows.dtype))
    sums = _sums(bag, Factors(_beside(scales, rows), other), lane)
    return sums.item[:, scales.shape[1] :]


def dense(bag: Bag, lane: LaneTerms) -> Float[Array, "rows features"]:
    """X as a full matrix, in O(entries · features).

    Args:
      bag: X of one side.
      lane: whose fold is left out and whose counts scale.

    Returns:
      `[rows, features]`, 0 where a row has no such feature.
    """
    return spread(bag, jnp.eye(bag.num_features, dtype=bag.spec.dtype), lane)


def _scales(
    bag: Bag, lane: LaneTerms, like: Float[AnyArray, "n columns"]
) -> tuple[Float[Array, "rows scales"], Float[Array, "features scales"]]:
    """The rows a_i and b_f of equation (1)."""
    names = list(dict.fromkeys(block.scale for block in bag.blocks))
    count = lane.counts[bag.side]
    of_rows = jnp.stack([SCALES[name](count, bag.asked) for name in names], axis=1)
    own = [names.index(block.scale) for block in bag.blocks for _ in range(block.num_features)]
    return of_rows.astype(like.dtype), jnp.eye(len(names), dtype=like.dtype)[np.array(own)]


def _beside(
    left: Float[Array, "rows scales"], right: Float[AnyArray, "rows columns"]
) -> Float[Array, "rows both"]:
    return jnp.concatenate([left, right], axis=1)


def _sums(bag: Bag, factors: Factors, lane: LaneTerms) -> Factors:
    """The gradient of the entries as ratings of 0, of which all columns are free."""
    width = factors.user.shape[1]
    kernel = KERNELS[bag.kernel](replace(bag.spec, max_rank=width))
    _, grad = kernel.gradient(factors, bag.layout, _terms(factors, lane))
    return grad


def _terms(factors: Factors, lane: LaneTerms) -> LaneTerms:
    """The constants of an objective that is the squared error alone."""
    dtype = factors.user.dtype
    one = jnp.ones((), dtype)
    width = factors.user.shape[1]
    nothing = jnp.zeros(width, dtype)
    of_side = Columns(free=jnp.ones(width, dtype), pin=nothing, reg=nothing)
    of_rows = Sides(*(jnp.zeros(len(table), dtype) for table in factors))
    return LaneTerms(
        fold=lane.fold,
        columns=Sides(of_side, of_side),
        counts=of_rows,
        row_reg=of_rows,
        centre=0 * one,
        alpha=0 * one,
        gram_alpha=0 * one,
        background=of_rows.item,
        scale=one,
        loss_hparams=(),
    )
