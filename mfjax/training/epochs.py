"""One lane's training as a pure function: a scan over epochs with evaluation, best-so-far and patience inside."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mfjax.metrics.rating import Bounds, Metrics, evaluate
from mfjax.objective import terms
from mfjax.types import Factors, Hparams, Method, Ratings, Run, Spec


@dataclass(frozen=True)
class Schedule:
    """How long to train: at most `epochs`, evaluated every `eval_every`, given up after `patience` epochs without a new
    best (None: never). The host sees the run every `chunk` epochs, and no number depends on that."""

    epochs: int = 40
    eval_every: int = 1
    patience: int | None = None
    chunk: int = 10


class Data(NamedTuple):
    """What a lane trains and is measured on: the method's layout, the ratings and the range to clip predictions to; and
    the factors of a warm start."""

    layout: Any
    ratings: Ratings
    bounds: Bounds
    warm: Factors | None = None


class History(NamedTuple):
    """A value an epoch (`[epochs]`; NaN where the lane was not evaluated or had stopped)."""

    loss: Float[Array, "*shape"]
    update_norm: Float[Array, "*shape"]
    train_rmse: Float[Array, "*shape"]
    train_mae: Float[Array, "*shape"]
    validation_rmse: Float[Array, "*shape"]
    validation_mae: Float[Array, "*shape"]


def start(method: Method, data: Data, hparams: Hparams) -> Run:
    """A run before its first epoch. Every random number comes from `hparams.seed`."""
    state = method.init(jax.random.key(hparams.seed), data.layout, hparams, data.warm)
    zero = jnp.zeros((), jnp.int32)
    infinite = jnp.full((), jnp.inf, state.factors.user.dtype)
    return Run(state, state.factors, infinite, best_epoch=zero, epoch=zero, alive=jnp.array(True), died_at=zero)


def fit(
    method: Method,
    spec: Spec,
    schedule: Schedule,
    run: Run,
    data: Data,
    hparams: Hparams,
    epochs: Int[Array, ""],
    orders,
) -> tuple[Run, History]:
    """`schedule.chunk` epochs more of one lane, and none after its `epochs` in all.

    Args:
      orders: the host's shuffles of these epochs, `[chunk, batches, batch_size]`, or None.

    A lane whose loss or factors are not finite keeps its last finite state and best, and notes the epoch in `died_at`.
    Returns the Run and a History of `[chunk]`.
    """
    centre = terms(data.layout.margins, hparams, spec).centre
    nothing = Metrics(*[jnp.full((), jnp.nan, spec.dtype)] * 4)

    def one_epoch(run: Run, order) -> tuple[Run, History]:
        state, info = method.step(run.state, data.layout, hparams, order)
        epoch = run.epoch + 1
        finite = jnp.isfinite(info.loss) & jnp.isfinite(info.update_norm)
        due = finite & ((epoch % schedule.eval_every == 0) | (epoch == epochs))
        metrics = jax.lax.cond(
            due,
            lambda: evaluate(state.factors, data.ratings, hparams, centre, data.bounds),
            lambda: nothing,
        )
        # a lane that holds nothing out has no metric to choose by: its last epoch is its best
        better = due & ~(metrics.validation_rmse >= run.best_metric)
        new = Run(
            state=state,
            best=_where(better, state.factors, run.best),
            best_metric=jnp.where(better & ~jnp.isnan(metrics.validation_rmse), metrics.validation_rmse, run.best_metric),
            best_epoch=jnp.where(better, epoch, run.best_epoch),
            epoch=epoch,
            alive=run.alive,
            died_at=run.died_at,
        )
        dead = run._replace(epoch=epoch, alive=jnp.array(False), died_at=epoch)
        return _where(finite, new, dead), History(info.loss, info.update_norm, *metrics)

    def skip(run: Run, order) -> tuple[Run, History]:
        return run, History(*[jnp.full((), jnp.nan, spec.dtype)] * 6)

    def body(run: Run, order):
        return jax.lax.cond(is_live(run, schedule, epochs), one_epoch, skip, run, order)

    return jax.lax.scan(body, run, orders, length=schedule.chunk)


def is_live(run: Run, schedule: Schedule, epochs):
    """Whether the run has an epoch to go: a scalar, or `[lanes]` on the host."""
    live = run.alive & (run.epoch < epochs)
    if schedule.patience is not None:
        live &= run.epoch - run.best_epoch < max(schedule.patience, schedule.eval_every)  # not before it is evaluated
    return live


def _where(condition, new, old):
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)
