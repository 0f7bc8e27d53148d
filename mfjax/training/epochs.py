"""One lane's training as a pure function.

A scan over epochs, with evaluation, the best so far and patience inside.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mfjax.errors import InputError
from mfjax.metrics import columns, metric_of
from mfjax.metrics.evaluation import evaluate
from mfjax.metrics.lists import ListRule, Lists, list_metrics
from mfjax.objective import AnyArray, LaneTerms, lane_terms
from mfjax.types import Bounds, Factors, Hparams, Method, Ratings, Run, Spec, State

# by column; a value an epoch, NaN where the lane was not evaluated or had stopped
History = Mapping[str, Float[AnyArray, "..."]]
Advance = Callable[..., tuple[Run, History]]


def history_columns(chooses: str) -> list[str]:
    """The columns of a History in the order to show them; jax sorts the keys of a dict."""
    return ["loss", "update_norm", *columns("train", "validation", chooses=chooses)]


CHOOSE = ("overall", "per_split")


@dataclass(frozen=True)
class Schedule:
    """How long to train, and what chooses.

    Args:
      epochs: the most that a lane is trained.
      eval_every: epochs between two evaluations; the last epoch is evaluated too.
      patience: give up after so many epochs without a new best; None: never.
      epochs_per_call: the host sees the run so often, and no number depends on that.
      choose_by: the column of which the best value names a lane's best epoch, and a sweep's best
        setting.
      choose: one setting for all splits and test folds, `overall`; or each its own, `per_split`.
      lists: which lists are measured on test ratings, and of validation where one of their metrics
        chooses; None: none.

    Raises:
      InputError: a metric of lists chooses, and there are none.
    """

    epochs: int = 40
    eval_every: int = 1
    patience: int | None = None
    epochs_per_call: int = 10
    choose_by: str = "validation_rmse"
    choose: str = "overall"
    lists: ListRule | None = None

    def __post_init__(self):
        if self.chosen_by_lists and self.lists is None:
            raise InputError(
                f"choose_by={self.choose_by}: expected what is relevant in a list, such as "
                "lists.relevant=4"
            )

    @property
    def chosen_by_lists(self) -> bool:
        """Whether a metric of lists chooses."""
        return metric_of(self.choose_by).is_of_lists


class Data(NamedTuple):
    """What a lane trains and is measured on: the method's layout, the ratings and their range.

    `warm` are the factors of a warm start, and `lists` those of each validation fold, `[folds, …]`,
    where a metric of lists chooses.
    """

    layout: Any
    ratings: Ratings
    bounds: Bounds
    warm: Factors | None = None
    lists: Lists | None = None


def start(method: Method, data: Data, hparams: Hparams) -> Run:
    """A run before its first epoch. Every random number comes from `hparams.init_seed`."""
    key = jax.random.key(hparams.init_seed)
    state = method.init(key, data.layout, hparams, data.warm)
    zero = jnp.zeros((), jnp.int32)
    dtype = state.factors.user.dtype
    return Run(
        state=state,
        best=state.factors,
        best_score=jnp.full((), jnp.inf, dtype),
        best_epoch=zero,
        epoch=zero,
        alive=jnp.array(True),
        died_at=zero,
        best_embeddings=state.embeddings,
    )


def epochs(method: Method, spec: Spec, schedule: Schedule) -> Advance:
    """`advance(run, data, hparams, last_epoch) -> (Run, History)`, a pure function.

    It trains a lane for `schedule.epochs_per_call` epochs more, and for none after its
    `last_epoch`. The History is of `[epochs_per_call]`.
    """
    nan = jnp.full((), jnp.nan, spec.dtype)
    chooses = schedule.choose_by
    unmeasured = dict.fromkeys(columns("train", "validation", chooses=chooses), nan)
    untrained = dict.fromkeys(history_columns(chooses), nan)
    sign = metric_of(chooses).sign

    def measure(state: State, data: Data, lane: LaneTerms) -> dict[str, Array]:
        factors = state.factors
        predicted = None if method.averages is None else method.averages(state).mean
        metrics = evaluate(
            factors, data.ratings, lane, data.bounds, spec, chooses, method.errors, predicted
        )
        if schedule.lists is None or data.lists is None:
            return metrics
        own = jax.tree.map(lambda array: array[jnp.maximum(lane.fold, 0)], data.lists)
        _, _, name = chooses.partition("_")
        found = list_metrics(factors, own, [name], schedule.lists.k)[name]
        return metrics | {chooses: jnp.where(lane.fold < 0, jnp.nan, found)}

    def advance(
        run: Run,
        data: Data,
        hparams: Hparams,
        last_epoch: Int[Array, ""],
    ) -> tuple[Run, History]:
        lane = lane_terms(data.layout.sums, hparams, spec)

        def one_epoch(run: Run) -> tuple[Run, History]:
            state, info = method.step(run.state, data.layout, hparams, run.epoch)
            finite = jnp.isfinite(info.loss) & jnp.isfinite(info.update_norm)
            due = finite & is_due(run.epoch + 1, schedule, last_epoch)
            metrics = jax.lax.cond(
                due,
                lambda: measure(state, data, lane),
                lambda: unmeasured,
            )
            score = sign * metrics[chooses]
            after = after_epoch(
                run, state, finite, due, score, is_better=method.averages is not None
            )
            return after, {"loss": info.loss, "update_norm": info.update_norm, **metrics}

        def no_epoch(run: Run) -> tuple[Run, History]:
            return run, untrained

        def body(run: Run, _) -> tuple[Run, History]:
            live = is_live(run, schedule, last_epoch)
            return jax.lax.cond(live, one_epoch, no_epoch, run)

        return jax.lax.scan(body, run, length=schedule.epochs_per_call)

    return advance


def after_epoch(
    run: Run,
    state: State,
    finite: Bool[Array, ""],
    evaluated: Bool[Array, ""],
    score: Float[Array, ""],
    *,
    is_better: bool = False,
) -> Run:
    """The run after one epoch more: its best so far, and whether it is alive.

    Args:
      run: the run before.
      state: what the epoch came to.
      finite: whether its loss and factors are; a lane where they are not keeps its best, and notes
        the epoch in `died_at`.
      evaluated: whether `score` was measured, as only a finite epoch is.
      score: lower is better; NaN where nothing is held out.
      is_better: whether it is whatever its score: a mean over more epochs is.
    """
    epoch = run.epoch + 1
    # a lane that holds nothing out has no metric to choose by: its last epoch is its best
    better = evaluated & (is_better | ~(score >= run.best_score))
    measured = better & ~jnp.isnan(score)
    best, best_embeddings = jax.lax.cond(
        better,
        lambda: (state.factors, state.embeddings),
        lambda: (run.best, run.best_embeddings),
    )
    return Run(
        state=state,
        best=best,
        best_score=jnp.where(measured, score, run.best_score),
        best_epoch=jnp.where(better, epoch, run.best_epoch),
        epoch=epoch,
        alive=finite,
        died_at=jnp.where(finite, run.died_at, epoch),
        best_embeddings=best_embeddings,
    )


def is_due(epoch, schedule: Schedule, last_epoch):
    """Whether an epoch is to be evaluated."""
    return (epoch % schedule.eval_every == 0) | (epoch == last_epoch)


def is_live(run: Run, schedule: Schedule, last_epoch):
    """Whether the run has an epoch to go: a scalar, or `[lanes]` on the host."""
    live = run.alive & (run.epoch < last_epoch)
    if schedule.patience is None:
        return live
    patience = max(schedule.patience, schedule.eval_every)  # not before it is evaluated
    return live & (run.epoch - run.best_epoch < patience)
