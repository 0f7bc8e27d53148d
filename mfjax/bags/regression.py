"""Embeddings given the factors: ridge regression of rows on the features that they have."""

from jaxtyping import Array, Float

from mfjax.bags.bag import Bag, collect, spread
from mfjax.kernels.conjugate import conjugate_gradients
from mfjax.objective import LaneTerms
from mfjax.types import AnyArray

STEPS = 5  # of conjugate gradients, which start from where the embeddings are

Table = Float[Array, "features columns"]


def regressed(
    bag: Bag,
    table: Table,
    rows: Float[Array, "rows columns"],
    lane: LaneTerms,
    reg_bag: Float[AnyArray, ""],
) -> Table:
    """Embeddings nearer to the minimum of L given U~.

    Derivation: with U = U~ - X B in equation (2) of `mfjax.bags`, L depends on B as
    ½ Σ_ic reg_c ρ_i (u~_ic − x_i·b_c)² + ½ reg_bag Σ_fc b_fc², a ridge regression a column:
    (reg_c Xᵀ diag(ρ) X + reg_bag I) b_c = reg_c Xᵀ diag(ρ) u~_c. Conjugate gradients lower it with
    every step, so that L never rises.

    Args:
      bag: X.
      table: B.
      rows: U~, pinned.
      lane: whose features and λ they are.
      reg_bag: λ of B.

    Returns:
      B of the same shape, 0 in the pinned columns.
    """
    weight = lane.row_reg[bag.side][:, None] * lane.columns[bag.side].reg[None]

    def product(table: Table) -> Table:
        return collect(bag, weight * spread(bag, table, lane), lane) + reg_bag * table

    residual = collect(bag, weight * rows, lane) - product(table)
    nearer, _ = conjugate_gradients(
        lambda columns: product(columns.T).T, table.T, residual.T, STEPS
    )
    return nearer.T
