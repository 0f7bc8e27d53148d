"""Stochastic gradient descent on shuffled batches of ratings; a batch of 1 is the one-pair-at-a-time update."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from mfjax.errors import InputError
from mfjax.gradients.coo import Coo, prepare
from mfjax.methods.initial import initial_factors
from mfjax.objective import Terms, free, pinned, regulariser, terms, train_weight
from mfjax.types import Factors, Gradient, Hparams, Info, Method, Optimizer, Ratings, Spec, State


def sgd(spec: Spec, gradient: Gradient | None, optimizer: Optimizer) -> Method:
    """One epoch visits every rating once, `batch_size` at a time, in an order that the host shuffles.

    The loss that it reports is the squared error as the batches saw it, plus the regulariser of the epoch's last factors.

    Derivation: rating (i, j) carries the share ½ ρ_i/n_i ‖u_i‖² + ½ σ_j/m_j ‖v_j‖² of the regulariser, so that one epoch
    sums to the objective L of `mfjax.objective` exactly; with e = w (u_i·v_j − r_ij), its gradient is

        u_i: s · (e v_j + reg ρ_i/n_i u_i)        v_j: s · (e u_i + reg σ_j/m_j v_j)

    and a batch sums its ratings'. Plain SGD updates the rows that the batch touches and no other; any other optimiser
    has moments, and takes the batch's gradient of all rows. `gradient` is not used: the batch is its own layout.
    The factors are one [users + items, columns] table during an epoch, which XLA updates in place.

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
        return State(start, optimizer.make(hparams).init(jnp.concatenate(start)))

    def step(state: State, layout: Coo, hparams: Hparams, order) -> tuple[State, Info]:
        t, ratings, opt = terms(layout.margins, hparams, spec), layout.ratings, optimizer.make(hparams)
        weight = train_weight(ratings.weight, ratings.fold, hparams)
        share = jnp.concatenate([r / jnp.maximum(n, 1) for r, n in zip(t.row_reg, t.counts, strict=True)])
        free_side = jnp.stack([c.free for c in t.columns])[:, None]

        def batch(carry, index):
            table, memory, loss = carry
            rows = jnp.stack([ratings.user[index], spec.num_users + ratings.item[index]])  # [2, batch]
            grads, batch_loss = _batch_gradient(table[rows], ratings.value[index], weight[index], share[rows], t)
            grads = grads * free_side
            if optimizer.rowwise:
                updates, memory = opt.update(grads, memory)
                table = table.at[rows].add(updates)
            else:
                dense = jnp.zeros_like(table).at[rows].add(grads)
                updates, memory = opt.update(dense, memory, table)
                table += jnp.concatenate(free(Factors(*jnp.split(updates, [spec.num_users])), t.columns))
            return (table, memory, loss + batch_loss), None

        before = jnp.concatenate(state.factors)
        (after, memory, loss), _ = jax.lax.scan(batch, (before, state.optimizer, jnp.zeros_like(t.scale)), order)
        factors = Factors(*jnp.split(after, [spec.num_users]))
        loss += t.scale * regulariser(factors, t)[0]  # once an epoch: a sum over every visit costs a third of the epoch
        return State(factors, memory), Info(loss, jnp.linalg.norm(after - before))

    return Method(prepare_batches, init, step, order=partial(shuffle, spec.batch_size))


def _batch_gradient(own, value, weight, share, t: Terms):
    """Gradient `[2, batch, columns]` and squared error of a batch; `own` [2, batch, columns] are its users' and items' rows."""
    reg = jnp.stack([c.reg for c in t.columns])[:, None]
    residual = own.prod(0).sum(-1) - (value - t.centre)
    decay = jnp.where(weight > 0, share, 0)[..., None] * reg * own
    grads = t.scale * ((weight * residual)[None, :, None] * own[::-1] + decay)
    return grads, t.scale * (weight * residual**2).sum() / 2


def shuffle(batch_size: int, num_ratings: int, data_seed: int, epoch: int) -> np.ndarray:
    """The order of one epoch, `[batches, batch_size]` int32: a pure function of (data_seed, epoch), drawn on the host.

    Padding fills the last batch up, and is shuffled in with the ratings.
    """
    order = np.random.default_rng([_SHUFFLE, data_seed, epoch]).permutation(num_ratings + -num_ratings % batch_size)
    return order.astype(np.int32).reshape(-1, batch_size)


_SHUFFLE = 0x5F  # keeps these draws apart from those of the splits
