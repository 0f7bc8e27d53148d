"""Batches of ratings in XLA: what stochastic gradient descent does with them.

Rating (i, j) carries the share ½ ρ_i/n_i ‖u_i‖² + ½ σ_j/m_j ‖v_j‖² of the regulariser, so that one
epoch sums to the objective L of `mfjax.objective` exactly (a row without ratings is never visited:
it stays as it is); with e = w ∂ℓ/∂p at (u_i·v_j, r_ij), its gradient is

    u_i: s · (e v_j + reg ρ_i/n_i u_i)        v_j: s · (e u_i + reg σ_j/m_j v_j)                 (1)

with u_i − x_i in place of the u_i that decays, and v_j alike, where rows are drawn towards x_i, and
a batch sums its ratings'. A batch of 1 is the one-pair-at-a-time update. The factors are one
`joint` table during an epoch, which XLA updates in place.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree, UInt32

from mfjax.kernels.kernel import Visitor
from mfjax.kernels.order import order
from mfjax.objective import (
    FoldSums,
    LaneTerms,
    fold_sums,
    regulariser,
    train_weight,
    weighted_loss,
)
from mfjax.types import Factors, Hparams, Info, Optimizer, Ratings, Spec, State


class Listed(NamedTuple):
    """The ratings as they came, padded to whole batches, and the sums of the folds."""

    ratings: Ratings
    sums: FoldSums


def visitor(spec: Spec, optimizer: Optimizer, batch_size: int) -> Visitor:
    """Batches of `batch_size` ratings, in the order of `mfjax.kernels.order`.

    What a batch moves is the optimiser's to say: see MOVES.
    """
    move = MOVES[optimizer.moves]

    def make(layout: Listed, hparams: Hparams) -> optax.GradientTransformationExtraArgs:
        updates_per_epoch = len(layout.ratings.value) // batch_size
        return optimizer.make(hparams, updates_per_epoch)

    def init(factors: Factors, layout: Listed, hparams: Hparams) -> State:
        return State(factors, make(layout, hparams).init(joint(factors)))

    def visit_towards(
        state: State,
        layout: Listed,
        hparams: Hparams,
        lane: LaneTerms,
        epoch: Int[Array, ""] | int,
        towards: Factors | None,
    ) -> tuple[State, Info]:
        same = _epoch(make(layout, hparams), lane, spec.loss, towards)
        visits = order(len(layout.ratings.value), hparams.split_seed, epoch)
        ahead = batches(layout.ratings, visits.reshape(-1, batch_size), lane)
        before = (joint(state.factors), state.optimizer)
        table, memory, loss = visit_all(move, same, before, ahead)
        after = apart(table, spec)
        decays = after if towards is None else jax.tree.map(jnp.subtract, after, towards)
        regularised, _ = regulariser(decays, lane)
        change = jax.tree.map(jnp.subtract, after, state.factors)
        info = Info(loss + lane.scale * regularised, optax.tree.norm(change))
        return State(after, memory), info

    lay_out = partial(prepare, spec=spec, batch_size=batch_size)
    return Visitor(lay_out, init, partial(visit_towards, towards=None), visit_towards=visit_towards)


def prepare(ratings: Ratings, spec: Spec, batch_size: int) -> Listed:
    """The ratings, with padding that fills the last batch up."""
    n = len(ratings.value)
    padded = ratings.padded(n + -n % batch_size)
    return Listed(padded, fold_sums(padded, spec))


# one table of both sides

Joint = Float[Array, "users_and_items k"]
Moved = tuple[Joint, PyTree]  # a joint table, and the optimiser's memory of it


class Epoch(NamedTuple):
    """What is the same in every batch of an epoch; `free` and `reg` are of users, then of items."""

    opt: Any  # an optax transformation
    cost: Callable  # of predictions, ratings and weights: w ∂ℓ/∂p and w ℓ
    free: Float[Array, "2 1 k"]
    reg: Float[Array, "2 1 k"]
    scale: Float[Array, ""]  # s
    num_rows: tuple[int, ...]
    towards: Joint | None


def _epoch(opt: Any, lane: LaneTerms, loss: str, towards: Factors | None) -> Epoch:
    user, item = lane.columns

    def of_both(user: Float[Array, " columns"], item: Float[Array, " columns"]):
        return with_spare_columns(jnp.stack([user, item]))[:, None]

    return Epoch(
        opt=opt,
        cost=partial(weighted_loss, lane=lane, loss=loss),
        free=of_both(user.free, item.free),
        reg=of_both(user.reg, item.reg),
        scale=lane.scale,
        num_rows=tuple(map(len, lane.counts)),
        towards=None if towards is None else joint(towards),
    )


def joint(factors: Factors) -> Joint:
    """Both sides in one table, users first."""
    return with_spare_columns(jnp.concatenate(factors))


def apart(table: Joint, spec: Spec) -> Factors:
    """The factors in a joint table."""
    rows = table[:, : spec.columns]
    return Factors(*jnp.split(rows, [spec.num_users]))


def with_spare_columns(rows: Float[Array, "rows columns"]) -> Float[Array, "rows k"]:
    """Rows with columns of zeros up to a multiple of 8, and of 64 to 79 up to 80.

    XLA's CPU compiler moves a row of such a length as vectors and one of another as single numbers,
    which takes twice as long (experiments/tiles).
    """
    columns = rows.shape[1]
    spare = 80 - columns if 64 <= columns < 80 else -columns % 8
    return jnp.pad(rows, ((0, 0), (0, spare)))


# batches


class Batch(NamedTuple):
    """Ratings to step on together, or an epoch of such, one more axis in front."""

    rows: Int[Array, "*epoch 2 batch"]  # of the joint table
    value: Float[Array, "*epoch batch"]
    weight: Float[Array, "*epoch batch"]
    share: Float[Array, "*epoch 2 batch"]  # ρ_i/n_i and σ_j/m_j; 0 for padding and held-out ratings


def batches(ratings: Ratings, visits: UInt32[Array, "batches batch"], lane: LaneTerms) -> Batch:
    """The epoch's ratings in their order: one gather for the epoch is cheaper than one a batch."""
    weight = train_weight(ratings.weight, ratings.fold, lane)[visits]
    user = ratings.user[visits]
    item = ratings.item[visits] + len(lane.counts.user)
    rows = jnp.stack([user, item], 1)
    share = jnp.concatenate(shares(lane))
    return Batch(
        rows=rows,
        value=ratings.value[visits],
        weight=weight,
        share=jnp.where(weight[:, None] > 0, share[rows], 0),
    )


def shares(lane: LaneTerms) -> list[Float[Array, " rows"]]:
    """ρ_i/n_i of users and σ_j/m_j of items, of equation (1)."""
    sides = zip(lane.row_reg, lane.counts, strict=True)
    return [row_reg / jnp.maximum(count, 1) for row_reg, count in sides]


def visit_all(
    move: Callable[..., Moved], epoch: Epoch, start: Moved, ahead: Batch
) -> tuple[Joint, PyTree, Float[Array, ""]]:
    """The joint table and the optimiser's memory after all batches, and the sum of their losses."""

    def visit(carry, batch: Batch):
        table, memory, loss = carry
        grads, batch_loss = batch_gradient(table[batch.rows], batch, epoch)
        table, memory = move(epoch, table, memory, batch, grads * epoch.free)
        return (table, memory, loss + batch_loss), None

    carry, _ = jax.lax.scan(visit, (*start, jnp.zeros_like(epoch.scale)), ahead)
    return carry


def batch_gradient(
    own: Float[Array, "2 batch k"], batch: Batch, epoch: Epoch
) -> tuple[Float[Array, "2 batch k"], Float[Array, ""]]:
    """The gradient of a batch in its users' and its items' rows, `own`, and what it costs."""
    other = own[::-1]
    error, cost = epoch.cost(own.prod(0).sum(-1), batch.value, batch.weight)
    decays = own if epoch.towards is None else own - epoch.towards[batch.rows]
    decay = batch.share[..., None] * epoch.reg * decays
    grads = error[None, :, None] * other + decay
    return epoch.scale * grads, epoch.scale * cost.sum()


# what a batch moves, given its gradient


def move_rows(
    epoch: Epoch,
    table: Joint,
    memory: PyTree,
    batch: Batch,
    grads: Float[Array, "2 batch k"],
) -> Moved:
    """The rows that the batch touches, by an optimiser that is linear and has no moments."""
    updates, memory = epoch.opt.update(grads, memory)
    return table.at[batch.rows].add(updates), memory


def move_lazily(
    epoch: Epoch,
    table: Joint,
    memory: PyTree,
    batch: Batch,
    grads: Float[Array, "2 batch k"],
) -> Moved:
    """The rows that the batch touches, and their moments.

    The gradients of a row that comes twice are summed before the optimiser sees them; both places
    then hold, and write back, the same row. Padding and held-out ratings touch nothing.
    """
    nowhere = len(table)
    rows = jnp.where(batch.weight > 0, batch.rows, nowhere).ravel()

    def has_rows(leaf) -> bool:
        return leaf.shape == table.shape

    def touched(leaf):
        return leaf.at[rows].get(mode="clip") if has_rows(leaf) else leaf

    def with_touched(leaf, new):
        return leaf.at[rows].set(new, mode="drop") if has_rows(leaf) else new

    before = touched(table)
    flat = before.shape
    summed = _summed_by_row(grads.reshape(flat), rows, nowhere)
    moments = jax.tree.map(touched, memory)
    updates, moments = epoch.opt.update(summed, moments, before)
    updates = updates.reshape(grads.shape) * epoch.free
    table = with_touched(table, before + updates.reshape(flat))
    return table, jax.tree.map(with_touched, memory, moments)


def _summed_by_row(
    grads: Float[Array, "n k"], rows: Int[Array, " n"], num_rows: int
) -> Float[Array, "n k"]:
    """At every place of a row, the sum of the gradients at all of its places."""
    nth = jnp.arange(len(rows), dtype=jnp.int32)
    one_place = jnp.zeros(num_rows + 1, jnp.int32).at[rows].set(nth)
    place = one_place[rows]
    sums = jnp.zeros_like(grads).at[place].add(grads)
    return sums[place]


def move_table(
    epoch: Epoch,
    table: Joint,
    memory: PyTree,
    batch: Batch,
    grads: Float[Array, "2 batch k"],
) -> Moved:
    """Every row, by an optimiser whose moments move rows that the batch does not touch."""
    dense = jnp.zeros_like(table).at[batch.rows].add(grads)
    updates, memory = epoch.opt.update(dense, memory, table)
    free = jnp.repeat(
        epoch.free[:, 0],
        jnp.array(epoch.num_rows),
        axis=0,
        total_repeat_length=len(table),
    )
    return table + updates * free, memory


MOVES = {"rows": move_rows, "lazy": move_lazily, "table": move_table}
