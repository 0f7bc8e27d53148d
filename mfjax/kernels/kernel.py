"""What a kernel does: the sums over ratings of which every method is made."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

from jaxtyping import Array, Float, Int

from mfjax.objective import LaneTerms
from mfjax.types import ErrorsFn, Factors, Hparams, Info, Optimizer, PrepareFn, State

USER, ITEM = 0, 1  # the places of the sides in `Sides` and `Factors`

BATCH_SIZE = 256  # small enough to learn as single ratings do, and large enough for vectors

Loss = Float[Array, ""]
OwnRows = Float[Array, "rows columns"]  # of one side
Pair = TypeVar("Pair", bound=Any)  # Sides or Factors


def with_side(pair: Pair, side: int, value: Any) -> Pair:
    """A pair with one of its sides replaced.

    Args:
      pair: Sides or Factors.
      side: 0, users, or 1, items.
      value: in its place.

    Returns:
      A pair of the same type.
    """
    return pair._replace(**{pair._fields[side]: value})


@runtime_checkable
class KernelGradientFn(Protocol):
    """`(factors, layout, lane) -> (L, ∂L)`: the objective and its gradient.

    What stands in a pinned column of the factors is not read, and the gradient is 0 there.
    """

    def __call__(
        self, factors: Factors, layout: Any, lane: LaneTerms, /
    ) -> tuple[Loss, Factors]: ...


@runtime_checkable
class SolveRowsFn(Protocol):
    """`(factors, side, layout, lane) -> rows`: those of one side at their minimum.

    The factors are pinned, and so are the rows.
    """

    def __call__(self, factors: Factors, side: int, layout: Any, lane: LaneTerms, /) -> OwnRows: ...


@runtime_checkable
class ApproachRowsFn(Protocol):
    """`(factors, side, layout, lane, steps=…) -> (rows, L)`: so many conjugate gradients nearer.

    L is that of the factors with these rows.
    """

    def __call__(
        self, factors: Factors, side: int, layout: Any, lane: LaneTerms, /, *, steps: int
    ) -> tuple[OwnRows, Loss]: ...


class Prior(NamedTuple):
    """What rows of one side are drawn given beside their ratings.

    Row i, x = [latent | own bias], is normal of precision s_i P + Σ_j w_ij δ_j φ_j φ_jᵀ, divided by
    s_i, and of mean its inverse times s_i h_i + Σ_j w_ij δ_j y_ij φ_j, with φ and y of
    `mfjax.kernels.normal`. That is the conditional of a row whose prior has precision Λ and mean m,
    and whose ratings have precision τ γ_i δ_j w_ij, with P = Λ, h_i = Λ m and s_i = 1/(τ γ_i).

    Args:
      precision: P; 0 between a free column and one that is not.
      linear: h.
      scale: s, above 0.
      of_other: δ.
      noise: z, of unit variance; 0 gives the means.
    """

    precision: Float[Array, "columns columns"]
    linear: Float[Array, "rows columns"]
    scale: Float[Array, " rows"]
    of_other: Float[Array, " others"]
    noise: Float[Array, "rows columns"]


@runtime_checkable
class DrawRowsFn(Protocol):
    """`(factors, side, layout, lane, prior) -> rows`: those of one side, drawn given the other.

    The factors are pinned, and so are the rows; missing entries say nothing.
    """

    def __call__(
        self, factors: Factors, side: int, layout: Any, lane: LaneTerms, prior: Prior, /
    ) -> OwnRows: ...


@runtime_checkable
class SumsFn(Protocol):
    """`(rows, side, layout, lane) -> sums`: Σ_j w_ij rows_j over the ratings of each row i.

    Of those that the lane does not hold out; the rows are the other side's, of any columns.
    """

    def __call__(
        self, rows: Float[Array, "others columns"], side: int, layout: Any, lane: LaneTerms, /
    ) -> OwnRows: ...


@runtime_checkable
class LessFn(Protocol):
    """`(layout, side, rows, factors) -> layout`: ratings less what rows of one side predict.

    Only the orientation by that side is changed, which alone its rows are solved with. The rows
    meet those of the other side in `factors`.
    """

    def __call__(self, layout: Any, side: int, rows: OwnRows, factors: Factors, /) -> Any: ...


@runtime_checkable
class VisitFn(Protocol):
    """`(state, layout, hparams, lane, epoch) -> (State, Info)`: every rating once, in batches.

    The loss is s times what the ratings cost as the batches saw them and the regulariser of the
    last factors: a sum of it over every visit would cost a third of the epoch.
    """

    def __call__(
        self,
        state: State,
        layout: Any,
        hparams: Hparams,
        lane: LaneTerms,
        epoch: Int[Array, ""] | int,
        /,
    ) -> tuple[State, Info]: ...


@runtime_checkable
class VisitTowardsFn(Protocol):
    """As `VisitFn`, with a regulariser of the factors less `towards`, which does not move."""

    def __call__(
        self,
        state: State,
        layout: Any,
        hparams: Hparams,
        lane: LaneTerms,
        epoch: Int[Array, ""] | int,
        towards: Factors | None,
        /,
    ) -> tuple[State, Info]: ...


class Visitor(NamedTuple):
    """How a kernel takes the ratings in batches.

    Args:
      prepare: the layout of the ratings, on the host.
      init: `(factors, layout, hparams) -> State` before the first epoch.
      visit: one epoch.
      abreast: lanes that `vmap` had better take together, a power of 2; of more than one, an epoch
        below 0 leaves a lane as it is.
      visit_towards: one whose rows decay towards others in place of 0; None: there is no such form.
    """

    prepare: PrepareFn
    init: Callable[[Factors, Any, Hparams], State]
    visit: VisitFn
    abreast: int = 1
    visit_towards: VisitTowardsFn | None = None


class Kernel(NamedTuple):
    """One way to sum over ratings, for the `Spec` that it was made for.

    Args:
      prepare: the layout of the ratings, on the host; its `sums` are their `fold_sums`. May raise
        InputError.
      gradient: the objective and its gradient.
      objective: `(factors, layout, lane) -> L`, of pinned factors.
      solve_rows: the rows of one side at their minimum.
      approach_rows: the same nearer to it, and L there.
      draw_rows: the rows of one side as a sample of their conditional.
      sums: what rows of the other side sum to, over the ratings of each row.
      less: the ratings of one side less what is known of them, so that its rows are solved around
        rows that are given; of `missing=ignore` alone.
      visitor: `(optimizer, batch_size) -> Visitor`, on a layout of its own.
      usual_batch_size: of an optimiser, where none is asked for.
      work_bytes: an estimate of the temporaries of one lane.
      shares_rows: whether devices may share the rows of a lane that is alone; where they do not,
        its threads do.
      errors: the sums of a lane's errors; None: those of `mfjax.metrics.evaluation`.
    """

    prepare: PrepareFn
    gradient: KernelGradientFn
    objective: Callable[[Factors, Any, LaneTerms], Loss]
    solve_rows: SolveRowsFn
    approach_rows: ApproachRowsFn
    draw_rows: DrawRowsFn
    sums: SumsFn
    less: LessFn
    visitor: Callable[[Optimizer, int], Visitor]
    usual_batch_size: Callable[[Optimizer], int]
    work_bytes: int
    shares_rows: bool
    errors: ErrorsFn | None
