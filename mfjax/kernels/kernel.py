"""What a kernel gives: the sums of the ratings of one side, and the rows that minimise them."""

from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

from jaxtyping import Array, Float

from mfjax.kernels.layout import Side, Tiles
from mfjax.objective import Columns, LaneTerms
from mfjax.types import Factors, Ratings, Sides

USER, ITEM = 0, 1  # the places of the sides in `Sides`, `Factors` and `Tiles`


class Table(NamedTuple):
    """One side's rows in the order of their positions.

    `latent` columns are padded with zeros to a multiple of `mfjax.kernels.layout.ROWS`;
    `background` is what b takes from this side (b_j of an item, 0 of a user).
    """

    latent: Float[Array, "positions latent"]
    bias: Float[Array, " positions"]
    background: Float[Array, " positions"]


class View(NamedTuple):
    """A lane as one side sees it: its own rows, and the other side's beside its ratings.

    `columns` are those of x = [latent | own bias], or of the latent ones alone; `row_reg` is ρ (or
    σ) of each row; `bias_column` is the place of the own bias in the factor table.
    """

    side: Side
    own: Table
    other: Table
    columns: Columns
    row_reg: Float[Array, " rows"]
    bias_column: int


@runtime_checkable
class ErrorSumsFn(Protocol):
    """`(view, lane) -> (loss, sums)`: the loss of the ratings and its gradient in the own rows.

    Both are without s and the regulariser. With a background, they are what the ratings add to
    those of `mfjax.objective.off_ratings`. Without `of_values` ratings and background count as 0,
    which leaves the part of the gradient that is linear in the side's rows.
    """

    def __call__(
        self, view: View, lane: LaneTerms, *, of_values: bool = True
    ) -> tuple[Float[Array, ""], Table]: ...


@runtime_checkable
class SolveRowsFn(Protocol):
    """`(view, lane) -> rows`: the own rows at their minimum, given the other side's."""

    def __call__(self, view: View, lane: LaneTerms) -> Table: ...


class Kernel(NamedTuple):
    """One way to sum over ratings, for the `Spec` that it was made for.

    Args:
      prepare: the layout of the ratings, on the host. May raise InputError.
      tables: pinned factors and the background of a lane, a `Table` a side.
      views: what each side sees of those tables.
      error_sums: the loss of the ratings and its gradient in the rows of one side.
      solve_rows: the rows of one side at their minimum.
      in_rows: the rows of a view's table in the order of the factors, 0 in the pinned column.
      work_bytes: an estimate of the temporaries of one lane.
    """

    prepare: Callable[[Ratings], Tiles]
    tables: Callable[[Factors, LaneTerms, Tiles], Sides]  # of Table
    views: Callable[[Sides, LaneTerms, Tiles], Sides]  # of View
    error_sums: ErrorSumsFn
    solve_rows: SolveRowsFn
    in_rows: Callable[[Table, View], Float[Array, "rows columns"]]
    work_bytes: int
