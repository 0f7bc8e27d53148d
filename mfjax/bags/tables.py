"""Tables of rows and of embeddings, and the factors that both come to."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Float

from mfjax.bags.bag import Bag, collect, prepare_bag, spread
from mfjax.bags.features import Sources, is_rated, num_rows
from mfjax.objective import Columns, FoldSums, LaneTerms
from mfjax.types import AnyArray, Factors, PrepareFn, Ratings, Sides, Spec


class Bagged(NamedTuple):
    """A layout of ratings with the bags of their lanes.

    Args:
      ratings: the layout of what is within.
      bags: the Bag of each side; None of one without features.
    """

    ratings: Any
    bags: Sides

    @property
    def sums(self) -> FoldSums:
        """The sums of the folds."""
        return self.ratings.sums


def prepare_bagged(
    ratings: Ratings, prepare: PrepareFn, sources: Sources, spec: Spec, *, shares_rows: bool
) -> Bagged:
    """A layout of ratings with their bags, on the host.

    Args:
      ratings: to train and validate on, in NumPy.
      prepare: the layout of what is within.
      sources: of the features of each side.
      spec: the shapes, the dtype and the tiling.
      shares_rows: whether devices may share the rows of a lane, for which XLA's kernel sums.

    Returns:
      Both.

    Raises:
      InputError: as `prepare`, or a source has no features of these rows.
    """
    bags = prepare_bags(ratings, sources, spec, shares_rows=shares_rows)
    return Bagged(prepare(ratings), bags)


def prepare_bags(ratings: Ratings, sources: Sources, spec: Spec, *, shares_rows: bool) -> Sides:
    """The bag of each side, on the host.

    Args:
      ratings, sources, spec, shares_rows: as those of `prepare_bagged`.

    Returns:
      The Bags; None of a side without sources.

    Raises:
      InputError: a source has no features of these rows.
    """
    kernel = "xla" if shares_rows else None
    return Sides(
        *(
            prepare_bag(of_side, ratings, side, spec, kernel=kernel)
            for side, of_side in enumerate(sources)
        )
    )


Embeddings = Sides  # `[features, columns]` of each side; None of one without a bag


def no_embeddings(bags: Sides, spec: Spec) -> Embeddings:
    """The embeddings from which training starts, all 0.

    Args:
      bags: of both sides.
      spec: of which the columns and the dtype are read.

    Returns:
      Zeros.
    """

    def of_side(bag: Bag | None):
        return None if bag is None else jnp.zeros((bag.num_features, spec.columns), spec.dtype)

    return Sides(*map(of_side, bags))


def of_rated(
    sources: Sources | None, spec: Spec
) -> Callable[[Embeddings], Float[AnyArray, "items columns"]] | None:
    """The `rated` of a `mfjax.types.Method`.

    Args:
      sources: of the features of each side; None: none.
      spec: of which the number of items is read.

    Returns:
      What takes the embeddings of items from all; None where users have none of what they rated.
    """
    if sources is None or not any(map(is_rated, sources.user)):
        return None
    return lambda embeddings: embeddings.user[: spec.num_items]  # `prepare_bag` has them first


def stacked(own: Factors, embeddings: Embeddings) -> Factors:
    """Both in one table a side, so that an optimiser works on them as on factors.

    Args:
      own: `[users, columns]` and `[items, columns]`.
      embeddings: of both sides.

    Returns:
      The own rows of each side, and after them its embeddings.
    """

    def of_side(rows, table):
        return rows if table is None else jnp.concatenate([rows, table])

    return Factors(*map(of_side, own, embeddings))


def apart(tables: Factors, spec: Spec) -> tuple[Factors, Embeddings]:
    """What `stacked` put together.

    Args:
      tables: of each side.
      spec: of which the numbers of users and items are read.

    Returns:
      The own rows, and the embeddings.
    """
    ends = [num_rows(spec, side) for side in range(len(tables))]
    sides = list(zip(tables, ends, strict=True))
    own = Factors(*(table[:end] for table, end in sides))
    return own, Sides(*(table[end:] if len(table) > end else None for table, end in sides))


def without_pinned(embeddings: Embeddings, columns: Sides) -> Embeddings:
    """The embeddings with 0 in the pinned columns of their side.

    Args:
      embeddings: of both sides.
      columns: the `mfjax.objective.Columns` of each side.

    Returns:
      Embeddings of the same shapes.
    """

    def of_side(table, own: Columns):
        return None if table is None else table * own.free[None]

    return Sides(*map(of_side, embeddings, columns))


def combined(own: Factors, embeddings: Embeddings, bags: Sides, lane: LaneTerms) -> Factors:
    """U~ and V~ of equation (1) of `mfjax.bags`.

    Args:
      own: U and V, pinned.
      embeddings: B and D, 0 in the pinned columns.
      bags: X and Z.
      lane: whose features they are.

    Returns:
      The factors that predict, pinned.
    """

    def of_side(rows, table, bag: Bag | None):
        return rows if bag is None else rows + spread(bag, table, lane)

    return Factors(*map(of_side, own, embeddings, bags))


def collected(rows: Factors, bags: Sides, lane: LaneTerms) -> Embeddings:
    """Xᵀ and Zᵀ times rows of each side.

    Args:
      rows: `[users, columns]` and `[items, columns]`.
      bags: X and Z.
      lane: whose features they are.

    Returns:
      As the embeddings.
    """

    def of_side(rows, bag: Bag | None):
        return None if bag is None else collect(bag, rows, lane)

    return Sides(*map(of_side, rows, bags))
