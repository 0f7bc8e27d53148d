"""The kernel of compiled loops, for CPUs: compressed rows of both sides, each read once."""

from functools import partial

from mfjax.errors import InputError
from mfjax.kernels.kernel import Kernel, Loss, OwnRows
from mfjax.kernels.native import calls
from mfjax.kernels.native.layout import Compressed, less, prepare
from mfjax.kernels.native.visits import usual_batch_size, visitor
from mfjax.losses import require_squared
from mfjax.objective import LaneTerms, background, off_ratings, pin, zero_pinned
from mfjax.types import Factors, Spec

DTYPES = ("float32", "float64")


def native_kernel(spec: Spec) -> Kernel:
    """Sums over compressed rows, in C++ that XLA calls.

    Derivation: equation (1) of `mfjax.objective` for the gradient, (1) and (2) of
    `mfjax.kernels.normal` for the rows at their minimum, and `mfjax.kernels.batches`, each as it
    stands in `src`. The missing entries' part over all entries is XLA's.

    Args:
      spec: the shapes, the conventions and, in its tiling, the threads of a lane that is alone.

    Returns:
      The Kernel, of which the same bits come with any number of threads; its `prepare` refuses
      ratings where there are no compiled kernels.

    Raises:
      InputError: there are none of this dtype, or of this loss.
    """
    require_squared(spec, "native (kernel or gradient)", "use kernel=xla or gradient=tiles")
    if spec.dtype not in DTYPES:
        raise InputError(
            f"kernel=native: expected dtype {' or '.join(DTYPES)}, got {spec.dtype}; use kernel=xla"
        )
    return Kernel(
        prepare=partial(prepare, spec=spec),
        gradient=partial(_gradient, spec=spec),
        objective=partial(_objective, spec=spec),
        solve_rows=partial(calls.solve, spec=spec),
        approach_rows=partial(_approach_rows, spec=spec),
        draw_rows=partial(calls.draw, spec=spec),
        sums=partial(calls.sums, spec=spec),
        less=less,
        visitor=partial(visitor, spec),
        usual_batch_size=usual_batch_size,
        work_bytes=0,
        shares_rows=False,
        errors=partial(calls.errors, spec=spec),
    )


def _gradient(
    factors: Factors, layout: Compressed, lane: LaneTerms, spec: Spec
) -> tuple[Loss, Factors]:
    loss, grad = calls.gradient(factors, layout, lane, spec)
    if spec.missing == "ignore":
        return loss, grad
    missing, missing_grad = background(pin(factors, lane.columns), lane)
    sides = zip(grad, zero_pinned(missing_grad, lane.columns), strict=True)
    return loss + lane.scale * missing, Factors(*(g + lane.scale * m for g, m in sides))


def _objective(factors: Factors, layout: Compressed, lane: LaneTerms, spec: Spec) -> Loss:
    rest, _ = off_ratings(factors, lane, spec)
    return lane.scale * (calls.loss(factors, layout, lane, spec) + rest)


def _approach_rows(
    factors: Factors, side: int, layout: Compressed, lane: LaneTerms, *, steps: int, spec: Spec
) -> tuple[OwnRows, Loss]:
    rows, loss = calls.approach(factors, side, layout, lane, steps, spec)
    rest, _ = off_ratings(factors, lane, spec)
    return rows, lane.scale * (loss + rest)
