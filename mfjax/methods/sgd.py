"""Stochastic gradient descent on batches of ratings, each epoch in an order of its own."""

from typing import Any

from jaxtyping import Array, Int

from mfjax.errors import InputError
from mfjax.kernels import Kernel
from mfjax.kernels.choice import best_kernel
from mfjax.methods.initial import initial_factors
from mfjax.objective import lane_terms
from mfjax.types import Factors, Hparams, Info, Method, Optimizer, Spec, State


def sgd(
    spec: Spec,
    *,
    optimizer: Optimizer,
    kernel: Kernel | None = None,
    batch_size: int | None = None,
) -> Method:
    """One epoch visits every rating once, `batch_size` at a time, in the order of `split_seed`.

    The loss that it reports is what the ratings cost as the batches saw them, plus the regulariser
    of the epoch's last factors.

    Derivation: equation (1) of `mfjax.kernels.batches`, from the objective. Plain SGD with
    `reg_by=count` and batches of 1 is the update of Koren, Bell and Volinsky, "Matrix Factorization
    Techniques for Recommender Systems", 2009, for their equation (2), and with biases for (5).

    Args:
      spec: the shapes and the conventions.
      optimizer: one with a learning rate.
      kernel: what visits the ratings, made for `spec`; None: `best_kernel`.
      batch_size: the ratings of one update; 1 is one pair at a time; None: the kernel's, 1 of plain
        SGD in `native` and else 256, which reach the same errors.

    Returns:
      A Method that takes the ratings, and the padding of the last batch, in the order of
      `mfjax.kernels.order`.

    Raises:
      InputError: unless `missing` is `ignore` (a sample of the ratings says nothing of the missing
        entries), and for an optimiser that searches along a line, which a batch cannot evaluate.
    """
    _refuse_what_batches_cannot(spec, optimizer)
    kernel = kernel or best_kernel(spec, optimizer)
    batch_size = batch_size or kernel.usual_batch_size(optimizer)
    visitor = kernel.visitor(optimizer, batch_size)

    def init(key: Array, layout: Any, hparams: Hparams, factors: Factors | None = None, /) -> State:
        lane = lane_terms(layout.sums, hparams, spec)
        return visitor.init(initial_factors(key, lane, hparams, spec, factors), layout, hparams)

    def step(
        state: State, layout: Any, hparams: Hparams, epoch: Int[Array, ""] | int
    ) -> tuple[State, Info]:
        lane = lane_terms(layout.sums, hparams, spec)
        return visitor.visit(state, layout, hparams, lane, epoch)

    return Method(
        prepare=visitor.prepare,
        init=init,
        step=step,
        reads=(*optimizer.reads, "split_seed"),
        errors=kernel.errors,
    )


def _refuse_what_batches_cannot(spec: Spec, optimizer: Optimizer) -> None:
    if spec.missing != "ignore":
        raise InputError(
            f"method=sgd sees only ratings and needs missing=ignore, got {spec.missing}; "
            "use method=descent"
        )
    if "learning_rate" not in optimizer.reads:
        raise InputError(
            "method=sgd needs an optimiser with a learning rate; "
            "use method=descent for a line search (lbfgs)"
        )
