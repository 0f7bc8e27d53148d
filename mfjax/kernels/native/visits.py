"""Batches of ratings in the compiled kernel: an epoch in one call, both tables in place."""

from functools import partial
from math import isqrt
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from mfjax.errors import InputError
from mfjax.kernels.batches import shares
from mfjax.kernels.kernel import BATCH_SIZE, Visitor
from mfjax.kernels.layout import order_by
from mfjax.kernels.native import calls
from mfjax.kernels.native.library import require
from mfjax.objective import FoldSums, LaneTerms, fold_sums
from mfjax.types import Factors, Hparams, Info, Optimizer, Ratings, Rule, Spec, State

# of an epoch of pairs; these decide the order of visits
STRATA = 8  # of each side
SLICES = 2  # of a block, each visited in a turn of its own
STRATA_FROM = 50_000  # ratings; the blocks of fewer are too small to be worth a thread

ABREAST = 4  # lanes


class Visited(NamedTuple):
    """The ratings by strata, and the sums of the folds.

    Place p of the users, of which those of a stratum are side by side, is row `user[p]` of their
    table. `rated` holds the bits of user and item, by their places, of value and of weight, side by
    side in memory. The ratings of block (p, q), of users of stratum p and items of stratum q, are
    `block[p · strata + q]` up to the next.
    """

    block: Int[Array, " bounds"]
    fold: Int[Array, " n"]
    rated: Int[Array, "n words"]
    user: Int[Array, " users"]
    item: Int[Array, " items"]
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

    One pair at a time by plain SGD, users and items of `STRATA_FROM` ratings or more are dealt to
    strata, and blocks that share no row are visited by several threads side by side, or by one
    (Gemulla, Nijkamp, Haas and Sismanis, "Large-Scale Matrix Factorization with Distributed
    Stochastic Gradient Descent", 2011, section 4). Each epoch begins with other blocks: ones that
    always came last would be fitted best, at 0.001 of the RMSE.

    Raises:
      InputError: the kernel does not know the optimiser.
    """
    moves = moves_of(optimizer)
    by_pair = batch_size == 1 and moves is PLAIN
    lay_out = partial(prepare, spec=spec, batch_size=batch_size, strata=STRATA if by_pair else 1)

    def init(factors: Factors, layout: Visited, hparams: Hparams) -> State:
        batches = len(layout.fold) // batch_size
        return State(factors, optimizer.make(hparams, batches).init(factors))

    if by_pair:
        return Visitor(
            lay_out,
            init,
            partial(_visit_pairs, spec=spec, rule=optimizer.rule),
            lanes_abreast(spec),
        )

    def visit(
        state: State,
        layout: Visited,
        hparams: Hparams,
        lane: LaneTerms,
        epoch: Int[Array, ""] | int,
    ) -> tuple[State, Info]:
        memory = state.optimizer
        batches = len(layout.fold) // batch_size
        moments = [optax.tree.get(memory, name) for name in moves.moments]
        updates, are_counted = _updates(memory)
        _, *ratings, _ = layout
        factors, moments, info = calls.batches(
            state.factors,
            moments,
            ratings,
            [
                share[row]
                for share, row in zip(shares(lane), (layout.user, layout.item), strict=True)
            ],
            lane,
            rates=_rates(optimizer.rule, hparams, batches, updates, spec),
            options=_options(moves, optimizer.rule, hparams, spec),
            updates=updates,
            split_seed=hparams.split_seed,
            number=epoch,
            attributes=calls.attributes(
                spec, batch_size=batch_size, rule=moves.code, moments=len(moments)
            ),
        )
        fields = dict(zip(moves.moments, moments, strict=True))
        if are_counted:
            fields["count"] = updates + batches
        return State(factors, optax.tree.set(memory, **fields)), info

    return Visitor(lay_out, init, visit)


def _visit_pairs(
    state: State,
    layout: Visited,
    hparams: Hparams,
    lane: LaneTerms,
    epoch: Int[Array, ""] | int,
    spec: Spec,
    rule: Rule | None,
) -> tuple[State, Info]:
    memory = state.optimizer
    updates, are_counted = _updates(memory)
    strata = isqrt(len(layout.block) - 1)
    block, *ratings, _ = layout
    visits = len(layout.fold)
    factors, info, _ = calls.pairs(
        state.factors,
        block,
        ratings,
        shares(lane),
        lane,
        rates=_rates(rule, hparams, visits, updates, spec),
        split_seed=hparams.split_seed,
        number=epoch,
        attributes=calls.attributes(
            spec,
            strata=strata,
            slices=SLICES if strata > 1 else 1,
            abreast=lanes_abreast(spec),
        ),
    )
    counted = {"count": updates + jnp.where(epoch < 0, 0, visits)} if are_counted else {}
    return State(factors, optax.tree.set(memory, **counted)), info


def lanes_abreast(spec: Spec) -> int:
    """The lanes to visit pairs side by side, where that is worth it: rows of one cache line."""
    row = spec.max_rank * np.dtype(spec.dtype).itemsize
    return ABREAST if row <= calls.LINE else 1


def prepare(ratings: Ratings, spec: Spec, batch_size: int, strata: int) -> Visited:
    """The ratings, by strata where they are many, with padding that fills the last batch.

    Raises InputError without compiled kernels.
    """
    require()
    n = len(ratings.value)
    strata = strata if n >= STRATA_FROM else 1
    padded = ratings.padded(n + -n % batch_size)
    user, user_stratum = _dealt(padded.user, spec.num_users, strata)
    item, item_stratum = _dealt(padded.item, spec.num_items, strata)
    block = user_stratum[padded.user] * strata + item_stratum[padded.item]
    by_place = padded._replace(
        user=np.argsort(user)[padded.user], item=np.argsort(item)[padded.item]
    )
    order = order_by(block, strata**2)
    in_blocks = by_place.taken(order)
    counts = np.bincount(block, minlength=strata**2)
    record = np.dtype(
        [("user", "i4"), ("item", "i4"), ("value", spec.dtype), ("weight", spec.dtype)]
    )
    rated = np.empty(len(in_blocks.value), record)
    for name in record.names or ():
        rated[name] = getattr(in_blocks, name)
    words = record.itemsize // 4
    return Visited(
        block=np.concatenate([[0], np.cumsum(counts)]).astype(np.int32),
        fold=in_blocks.fold.astype(np.int32),
        rated=rated.view(np.int32).reshape(-1, words),
        user=user,
        item=item,
        sums=fold_sums(padded, spec),
    )


def _dealt(row: np.ndarray, num_rows: int, strata: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows by strata, and the stratum of each: dealt, the longest first, forth and back."""
    longest_first = np.argsort(-np.bincount(row, minlength=num_rows), kind="stable")
    turn = np.arange(num_rows) % (2 * strata)
    dealt = np.minimum(turn, 2 * strata - 1 - turn)
    stratum = np.empty(num_rows, np.int64)
    stratum[longest_first] = dealt
    by_stratum = longest_first[np.argsort(dealt, kind="stable")]
    return by_stratum.astype(np.int32), stratum


# the optimiser, as optax keeps it


def _updates(memory: Any) -> tuple[Int[Array, ""], bool]:
    """The updates so far, and whether the optimiser counts them; 0 where it does not."""
    counts = [count for _, count in optax.tree.get_all_with_path(memory, "count")]
    return (counts[0], True) if counts else (jnp.zeros((), jnp.int32), False)


def _rates(
    rule: Rule | None,
    hparams: Hparams,
    batches: int,
    updates: Int[Array, ""],
    spec: Spec,
) -> Float[Array, " rates"]:
    """The learning rate of each batch, or one for all."""
    rate = hparams.learning_rate if rule is None else rule.rate(hparams, batches)
    if callable(rate):
        rates = jax.vmap(rate)(updates + jnp.arange(batches))
        return jnp.asarray(rates, spec.dtype)
    return jnp.full(1, rate, spec.dtype)


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
