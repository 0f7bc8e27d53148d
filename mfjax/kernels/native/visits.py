"""Batches of ratings in the compiled kernel: an epoch in one call, both tables in place."""

from collections.abc import Mapping
from functools import partial
from math import isqrt
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mfjax.errors import InputError
from mfjax.kernels.batches import shares
from mfjax.kernels.kernel import BATCH_SIZE, Loss, Visitor
from mfjax.kernels.native import calls
from mfjax.kernels.native.library import require
from mfjax.objective import FoldSums, LaneTerms, fold_sums
from mfjax.types import Factors, Hparams, Optimizer, Ratings, Rule, Spec, State

# where threads share an epoch; these decide the order of visits
STRATA = 8  # of each side
SLICES = 2  # of a block, each visited in a turn of its own
SHARED_FROM = 500_000  # ratings; below, threads wait for each other longer than they save


class Visited(NamedTuple):
    """The ratings by strata, and the sums of the folds.

    `rated` holds the bits of user, item, value and weight, side by side in memory. The ratings of
    block (p, q), of users of stratum p and items of stratum q, are `block[p · strata + q]`
    up to the next.
    """

    fold: Int[Array, " n"]
    rated: Int[Array, "n words"]
    block: Int[Array, " bounds"]
    sums: FoldSums


class Moves(NamedTuple):
    """What a rule of optax is in `src/operands.h`.

    Args:
      code: the number of its `Rule`.
      moments: the fields of optax's state that hold a table of moments.
      options: keywords in the order that the kernel reads them, with optax's defaults.
    """

    code: int
    moments: tuple[str, ...] = ()
    options: tuple[tuple[str, float], ...] = ()


PLAIN = Moves(0)
MOMENTUM = Moves(1, ("trace",), (("momentum", 0.0),))
RULES = {
    "sgd": MOMENTUM,
    "adagrad": Moves(3, ("sum_of_squares",), (("eps", 1e-7),)),
    "adam": Moves(4, ("mu", "nu"), (("b1", 0.9), ("b2", 0.999), ("eps", 1e-8), ("eps_root", 0.0))),
}
NESTEROV = MOMENTUM._replace(code=2)


def moves_of(optimizer: Optimizer) -> Moves:
    """How the kernel moves a row by an optimiser.

    Raises:
      InputError: it does not know how.
    """
    rule = optimizer.rule
    if optimizer.moves == "rows":
        return PLAIN
    if optimizer.moves != "lazy" or rule is None or rule.name not in RULES:
        raise InputError(
            "kernel=native knows plain sgd and lazy momentum, adam and adagrad; use kernel=xla"
        )
    moves = RULES[rule.name]
    known = {name for name, _ in moves.options} | {"learning_rate", "initial_accumulator_value"}
    options = dict(rule.options)
    if rule.name == "sgd" and options.pop("nesterov", False):
        moves = NESTEROV
    unknown = {*options, *rule.reads} - known
    if unknown:
        raise InputError(
            f"kernel=native knows no {', '.join(sorted(unknown))} of {rule.name}; use kernel=xla"
        )
    return moves


def usual_batch_size(optimizer: Optimizer) -> int:
    """One pair at a time by plain SGD, which is the fastest here; moments are of batches."""
    return 1 if moves_of(optimizer) is PLAIN else BATCH_SIZE


def visitor(spec: Spec, optimizer: Optimizer, batch_size: int) -> Visitor:
    """Batches of `batch_size` ratings, in the order of `mfjax.kernels.order`.

    One pair at a time by plain SGD, the threads of a lane that is alone share an epoch of
    `SHARED_FROM` ratings or more: users and
    items are dealt to strata, and blocks that share no row are visited side by side (Gemulla,
    Nijkamp, Haas and Sismanis, "Large-Scale Matrix Factorization with Distributed Stochastic
    Gradient Descent", 2011, section 4).

    Raises:
      InputError: the kernel does not know the optimiser.
    """
    moves = moves_of(optimizer)
    may_share = spec.tiling.shards > 1 and batch_size == 1 and moves is PLAIN

    def init(factors: Factors, layout: Visited, hparams: Hparams) -> State:
        batches = len(layout.fold) // batch_size
        return State(factors, optimizer.make(hparams, batches).init(factors))

    def visit(
        state: State,
        layout: Visited,
        hparams: Hparams,
        lane: LaneTerms,
        epoch: Int[Array, ""] | int,
    ) -> tuple[State, Loss]:
        memory = state.optimizer
        batches = len(layout.fold) // batch_size
        strata = isqrt(len(layout.block) - 1)
        moments = [field_of(memory, name) for name in moves.moments]
        before = field_of(memory, "count")
        updates = jnp.zeros((), jnp.int32) if before is None else before
        rates = _rates(optimizer.rule, hparams, batches, updates, spec)
        factors, moments, loss, _ = calls.epoch(
            state.factors,
            moments,
            (layout.fold, layout.rated, layout.block),
            shares(lane),
            lane,
            rates=rates,
            options=_options(moves, optimizer.rule, hparams, spec),
            updates=updates,
            split_seed=hparams.split_seed,
            number=epoch,
            attributes=calls.attributes(
                spec,
                strata=strata,
                slices=SLICES if strata > 1 else 1,
                batch_size=batch_size,
                rule=moves.code,
                moments=len(moments),
            ),
        )
        fields = dict(zip(moves.moments, moments, strict=True))
        return State(factors, with_fields(memory, fields | {"count": updates + batches})), loss

    lay_out = partial(prepare, spec=spec, batch_size=batch_size, may_share=may_share)
    return Visitor(lay_out, init, visit)


def prepare(ratings: Ratings, spec: Spec, batch_size: int, *, may_share: bool) -> Visited:
    """The ratings by strata, with padding that fills the last batch up.

    Raises InputError without compiled kernels.
    """
    require()
    n = len(ratings.value)
    strata = STRATA if may_share and n >= SHARED_FROM else 1
    padded = ratings.padded(n + -n % batch_size)
    user = _stratum(padded.user, spec.num_users, strata)
    item = _stratum(padded.item, spec.num_items, strata)
    block = user * strata + item
    in_blocks = Ratings(*(column[np.argsort(block, kind="stable")] for column in padded))
    counts = np.bincount(block, minlength=strata**2)
    record = np.dtype(
        [("user", "i4"), ("item", "i4"), ("value", spec.dtype), ("weight", spec.dtype)]
    )
    rated = np.empty(len(in_blocks.value), record)
    for name in record.names or ():
        rated[name] = getattr(in_blocks, name)
    words = record.itemsize // 4
    return Visited(
        fold=in_blocks.fold.astype(np.int32),
        rated=rated.view(np.int32).reshape(-1, words),
        block=np.concatenate([[0], np.cumsum(counts)]).astype(np.int32),
        sums=fold_sums(padded, spec),
    )


def _stratum(row: np.ndarray, num_rows: int, strata: int) -> np.ndarray:
    """The stratum of the row of each rating; rows are dealt, the longest first, forth and back."""
    longest_first = np.argsort(-np.bincount(row, minlength=num_rows), kind="stable")
    turn = np.arange(num_rows) % (2 * strata)
    stratum = np.empty(num_rows, np.int64)
    stratum[longest_first] = np.minimum(turn, 2 * strata - 1 - turn)
    return stratum[row]


# the optimiser, as optax keeps it


def _rates(
    rule: Rule | None,
    hparams: Hparams,
    batches: int,
    updates: Int[Array, ""],
    spec: Spec,
) -> Float[Array, " batches"]:
    """The learning rate of each batch."""
    rate = hparams.learning_rate if rule is None else rule.rate(hparams, batches)
    if callable(rate):
        rates = jax.vmap(rate)(updates + jnp.arange(batches))
        return jnp.asarray(rates, spec.dtype)
    return jnp.full(batches, rate, spec.dtype)


def _options(
    moves: Moves, rule: Rule | None, hparams: Hparams, spec: Spec
) -> Float[Array, " options"]:
    values = [jnp.zeros((), spec.dtype)] * 4
    for nth, (name, default) in enumerate(moves.options):
        given = default if rule is None else dict(rule.options).get(name, default)
        if rule is not None and name in rule.reads:
            given = getattr(hparams, name)
        values[nth] = jnp.asarray(given, spec.dtype)
    return jnp.stack(values)


def field_of(memory: Any, name: str) -> Any:
    """The first field of that name in a nest of optax's states; None where there is none."""
    if not isinstance(memory, tuple):
        return None
    if name in getattr(memory, "_fields", ()):
        return getattr(memory, name)
    found = (field_of(part, name) for part in memory)
    return next((field for field in found if field is not None), None)


def with_fields(memory: Any, fields: Mapping[str, Any]) -> Any:
    """A nest of optax's states with the fields of those names replaced."""
    if not isinstance(memory, tuple):
        return memory
    names = getattr(memory, "_fields", None)
    if names is None:
        return tuple(with_fields(part, fields) for part in memory)
    return type(memory)(*(fields.get(name, old) for name, old in zip(names, memory, strict=True)))
