"""Stochastic gradient descent on shuffled batches of ratings; a batch of 1 is the one-pair-at-a-time update."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mfjax.errors import InputError
from mfjax.gradients.coo import Coo, prepare
from mfjax.methods.initial import initial_factors
from mfjax.objective import Terms, pinned, regulariser, terms, train_weight
from mfjax.types import Factors, Gradient, Hparams, Info, Method, Optimizer, Ratings, Spec, State


def sgd(spec: Spec, gradient: Gradient | None, optimizer: Optimizer) -> Method:
    """One epoch visits every rating once, `batch_size` at a time, in an order that the host shuffles.

    The loss that it reports is the squared error as the batches saw it, plus the regulariser of the epoch's last factors.

    Derivation: rating (i, j) carries the share ½ ρ_i/n_i ‖u_i‖² + ½ σ_j/m_j ‖v_j‖² of the regulariser, so that one epoch
    sums to the objective L of `mfjax.objective` exactly (a row without ratings is never visited: it stays as it is); with
    e = w (u_i·v_j − r_ij), its gradient is

        u_i: s · (e v_j + reg ρ_i/n_i u_i)        v_j: s · (e u_i + reg σ_j/m_j v_j)

    and a batch sums its ratings'. Plain SGD, and an optimiser that is lazy (`mfjax.methods.optimizers`), update the rows that the
    batch touches and no other; any other has moments, and takes the batch's gradient of all rows. `gradient` is not used:
    the batch is its own layout.
    The factors are one `joint` table during an epoch, which XLA updates in place.

    Raises InputError unless `missing` is `ignore` (a sample of the ratings says nothing of the missing entries), and for
    an optimiser that searches along a line, which a batch cannot evaluate.
    """
    if spec.missing != "ignore":
        raise InputError(f"method=sgd sees only ratings and needs missing=ignore, got {spec.missing}; use method=descent")
    if "learning_rate" not in optimizer.takes:
        raise InputError("method=sgd needs an optimiser with a learning rate; use method=descent for a line search (lbfgs)")

    def prepare_batches(ratings: Ratings) -> Coo:
        n = len(ratings.value)
        return prepare(ratings.padded(n + -n % spec.batch_size), spec)

    def init(key, layout: Coo, hparams: Hparams, factors: Factors | None = None) -> State:
        t = terms(layout.margins, hparams, spec)
        start = initial_factors(key, t, hparams, spec) if factors is None else pinned(factors, t.columns)
        return State(start, optimizer.make(hparams).init(joint(start)))

    def step(state: State, layout: Coo, hparams: Hparams, order) -> tuple[State, Info]:
        t, opt, sides = (
            terms(layout.margins, hparams, spec),
            optimizer.make(hparams),
            jnp.array([spec.num_users, spec.num_items]),
        )
        free_side, reg_side = (
            wide(jnp.stack(side))[:, None] for side in zip(*((c.free, c.reg) for c in t.columns), strict=True)
        )

        def update(carry, batch: Batch):
            table, memory, loss = carry
            grads, batch_loss = batch_gradient(table[batch.rows], batch, reg_side, t.scale)
            grads *= free_side
            if optimizer.rowwise:
                updates, memory = opt.update(grads, memory)
                table = table.at[batch.rows].add(updates)
            elif optimizer.lazy:
                table, memory = lazy_update(opt, table, memory, batch, grads, free_side)
            else:
                dense = jnp.zeros_like(table).at[batch.rows].add(grads)
                updates, memory = opt.update(dense, memory, table)
                table += updates * jnp.repeat(free_side[:, 0], sides, axis=0, total_repeat_length=len(table))
            return (table, memory, loss + batch_loss), None

        before = joint(state.factors)
        start = (before, state.optimizer, jnp.zeros_like(t.scale))
        (after, memory, loss), _ = jax.lax.scan(update, start, batches(layout.ratings, hparams, t, order))
        factors = Factors(*jnp.split(after[:, : spec.columns], [spec.num_users]))
        loss += t.scale * regulariser(factors, t)[0]  # once an epoch: a sum over every visit costs a third of the epoch
        return State(factors, memory), Info(loss, jnp.linalg.norm(after - before))

    def batches(ratings: Ratings, hparams: Hparams, t: Terms, order) -> Batch:
        """The epoch's ratings in their order: one gather for the whole epoch is cheaper than one a batch."""
        weight = train_weight(ratings.weight, ratings.fold, hparams)[order]
        share = jnp.concatenate([r / jnp.maximum(n, 1) for r, n in zip(t.row_reg, t.counts, strict=True)])
        rows = jnp.stack([ratings.user[order], spec.num_users + ratings.item[order]], 1)
        return Batch(rows, ratings.value[order] - t.centre, weight, jnp.where(weight[:, None] > 0, share[rows], 0))

    return Method(prepare_batches, init, step, order=partial(shuffle, spec.batch_size), takes=optimizer.takes)


def joint(factors: Factors) -> Float[Array, "users_and_items wide"]:
    """Both sides in one table, users first."""
    return wide(jnp.concatenate(factors))


def wide(rows: Float[Array, "rows columns"]) -> Float[Array, "rows wide"]:
    """Rows with columns of zeros up to a multiple of 8, and of 64 to 79 up to 80: XLA's CPU compiler moves a row of such a
    length as vectors and one of another as single numbers, which takes twice as long (experiments/tiles)."""
    columns = rows.shape[1]
    return jnp.pad(rows, ((0, 0), (0, (80 - columns if 64 <= columns < 80 else -columns % 8))))


class Batch(NamedTuple):
    """Ratings to step on together, or an epoch of such, one more axis in front. `rows` are rows of the joint table."""

    rows: Int[Array, "*epoch 2 batch"]
    value: Float[Array, "*epoch batch"]  # centred
    weight: Float[Array, "*epoch batch"]
    share: Float[Array, "*epoch 2 batch"]  # ρ_i/n_i and σ_j/m_j; 0 for padding and held-out ratings


def batch_gradient(own: Float[Array, "2 batch k"], batch: Batch, reg: Float[Array, "2 1 k"], scale: Float[Array, ""]):
    """Gradient `[2, batch, columns]` of a batch and its squared error; `own` are its users' and its items' rows."""
    residual = own.prod(0).sum(-1) - batch.value
    error = batch.weight * residual
    grads = scale * (error[None, :, None] * own[::-1] + batch.share[..., None] * reg * own)
    return grads, scale * (error * residual).sum() / 2


def lazy_update(opt, table: Float[Array, "rows k"], memory, batch: Batch, grads: Float[Array, "2 batch k"], free_side):
    """The table and the optimiser's memory after one update of the rows that a batch touches, from `[2, batch, k]` gradients.

    The gradients of a row that comes twice are summed before the optimiser sees them; both places then hold, and write back,
    the same row. Padding and held-out ratings touch nothing.
    """
    rows = jnp.where(batch.weight > 0, batch.rows, len(table)).ravel()
    place = jnp.zeros(len(table) + 1, jnp.int32).at[rows].set(jnp.arange(rows.size, dtype=jnp.int32))[rows]
    summed = jnp.zeros((rows.size, table.shape[1]), table.dtype).at[place].add(grads.reshape(rows.size, -1))[place]
    is_moment = lambda leaf: leaf.shape == table.shape  # noqa: E731
    moments = jax.tree.map(lambda leaf: leaf.at[rows].get(mode="clip") if is_moment(leaf) else leaf, memory)
    touched = table.at[rows].get(mode="clip")
    updates, moments = opt.update(summed, moments, touched)
    updates = (updates.reshape(grads.shape) * free_side).reshape(touched.shape)
    memory = jax.tree.map(lambda leaf, new: leaf.at[rows].set(new, mode="drop") if is_moment(leaf) else new, memory, moments)
    return table.at[rows].set(touched + updates, mode="drop"), memory


def shuffle(batch_size: int, num_ratings: int, data_seed: int, epoch: int) -> np.ndarray:
    """The order of one epoch, `[batches, batch_size]` int32: a pure function of (data_seed, epoch), drawn on the host.

    Padding fills the last batch up, and is shuffled in with the ratings.
    """
    order = np.random.default_rng([_SHUFFLE, data_seed, epoch]).permutation(num_ratings + -num_ratings % batch_size)
    return order.astype(np.int32).reshape(-1, batch_size)


_SHUFFLE = 0x5F  # keeps these draws apart from those of the splits
