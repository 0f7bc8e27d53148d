"""Stochastic gradient descent on batches of ratings, each epoch in an order of its own."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from mfjax.bags import Sources, is_transductive
from mfjax.bags.regression import regressed
from mfjax.bags.tables import Bagged, combined, no_embeddings, of_rated, prepare_bagged
from mfjax.errors import InputError
from mfjax.kernels import Kernel
from mfjax.kernels.choice import best_kernel
from mfjax.kernels.kernel import Visitor
from mfjax.methods.initial import initial_factors
from mfjax.objective import LaneTerms, lane_terms
from mfjax.types import Factors, Hparams, Info, Method, Optimizer, Sides, Spec, State


def sgd(
    spec: Spec,
    *,
    optimizer: Optimizer,
    kernel: Kernel | None = None,
    batch_size: int | None = None,
    bags: Sources | None = None,
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
      bags: the sources of features of each side, whose embeddings start at 0 and are regressed on
        the rows of their side after each epoch; None: none.

    Returns:
      A Method that takes the ratings, and the padding of the last batch, in the order of
      `mfjax.kernels.order`.

    Raises:
      InputError: unless `missing` is `ignore` (a sample of the ratings says nothing of the missing
        entries), and for an optimiser that searches along a line, which a batch cannot evaluate;
        and where there are bags, and the kernel takes no batches with them.
    """
    _refuse_what_batches_cannot(spec, optimizer)
    kernel = kernel or best_kernel(spec, optimizer, has_bags=bags is not None)
    batch_size = batch_size or kernel.usual_batch_size(optimizer)
    visitor = kernel.visitor(optimizer, batch_size)
    if bags is not None:
        return _with_bags(visitor, kernel, optimizer, bags, spec)

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
        abreast=visitor.abreast,
    )


# with bags


def _with_bags(
    visitor: Visitor, kernel: Kernel, optimizer: Optimizer, bags: Sources, spec: Spec
) -> Method:
    """As `sgd`; the visits move U~ and V~, which decay towards what their features sum to.

    Derivation: with U = U~ − X B, the regulariser of U in equation (2) of `mfjax.bags` is one of
    U~ − X B, of which a rating carries the share of equation (1) of `mfjax.kernels.batches`; given
    U~, the embeddings are those of `mfjax.bags.regression`. A row without training ratings is what
    its features sum to. The loss is of the embeddings that the visits began with.
    """
    visit_towards = visitor.visit_towards
    if visit_towards is None:
        raise InputError("method=sgd with bags: this kernel has no such batches; use kernel=xla")

    def init(
        key: Array, layout: Bagged, hparams: Hparams, factors: Factors | None = None, /
    ) -> State:
        lane = lane_terms(layout.sums, hparams, spec)
        start = initial_factors(key, lane, hparams, spec, factors)
        state = visitor.init(start, layout.ratings, hparams)
        return state._replace(embeddings=no_embeddings(layout.bags, spec))

    def step(
        state: State, layout: Bagged, hparams: Hparams, epoch: Int[Array, ""] | int
    ) -> tuple[State, Info]:
        lane = lane_terms(layout.sums, hparams, spec)
        before = state.embeddings
        assert before is not None  # as `init` has them
        nothing = jax.tree.map(jnp.zeros_like, state.factors)
        sums = combined(nothing, before, layout.bags, lane)
        start = _with_unrated_at(sums, state.factors, lane)
        begun = State(start, state.optimizer)
        after, info = visit_towards(begun, layout.ratings, hparams, lane, epoch, sums)
        embeddings = Sides(
            *(
                bag and regressed(bag, table, rows, lane, hparams.reg_bag)
                for bag, table, rows in zip(layout.bags, before, after.factors, strict=True)
            )
        )
        squares = optax.tree.norm(before, squared=True)
        loss = info.loss + lane.scale * hparams.reg_bag * squares / 2
        return after._replace(embeddings=embeddings), info._replace(loss=loss)

    return Method(
        prepare=partial(
            prepare_bagged, prepare=visitor.prepare, sources=bags, spec=spec, shares_rows=False
        ),
        init=init,
        step=step,
        reads=(*optimizer.reads, "split_seed", "reg_bag"),
        errors=kernel.errors,
        rated=of_rated(bags, spec),
        transductive=is_transductive(bags),
    )


def _with_unrated_at(sums: Factors, factors: Factors, lane: LaneTerms) -> Factors:
    """The factors with the rows that no visit moves at the sums of their features, pinned."""
    sides = zip(factors, sums, lane.counts, lane.columns, strict=True)
    return Factors(
        *(
            jnp.where(count[:, None] > 0, rows, of_features + columns.pin[None])
            for rows, of_features, count, columns in sides
        )
    )


# what `sgd` cannot do


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
