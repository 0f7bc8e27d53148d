"""One lane's training as a pure function.

A scan over epochs, with evaluation, the best so far and patience inside.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped, UInt32

from mfjax.errors import InputError
from mfjax.metrics import columns, metric_of
from mfjax.metrics.evaluation import evaluate
from mfjax.metrics.lists import ListRule, Lists, list_metrics
from mfjax.objective import AnyArray, LaneTerms, lane_terms
from mfjax.types import ENDED, Bounds, Factors, Hparams, Method, Ratings, Run, Spec, State

# by column; a value an epoch, NaN where the lane was not evaluated or had stopped
History = Mapping[str, Float[AnyArray, "..."]]
Advance = Callable[..., tuple[Run, History]]
T = TypeVar("T", bound=Any)
Place = UInt32[Array, ""]  # among lanes; unsigned, so that it is not looked at for being negative


def history_columns(chooses: str) -> list[str]:
    """The columns of a History in the order to show them; jax sorts the keys of a dict."""
    return ["loss", "update_norm", *columns("train", "validation", chooses=chooses)]


CHOOSE = ("overall", "per_split")
SCALARS = ("best_score", "best_epoch", "epoch", "alive", "died_at")  # of a Run


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
    """A run before its first epoch. Every random number comes from `hparams.init_seed`.

    Of several lanes, `[lanes]`, one after another: `vmap` would round them otherwise.
    """
    if jnp.ndim(hparams.init_seed):
        return jax.lax.map(partial(start, method, data), hparams)
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
    `last_epoch`. The History is of `[epochs_per_call]`. All but the data may be of several lanes,
    `[lanes, …]`, at most `method.abreast`, which then take each epoch together.
    """
    nan = jnp.full((), jnp.nan, spec.dtype)
    chooses = schedule.choose_by
    unmeasured = dict.fromkeys(columns("train", "validation", chooses=chooses), nan)
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
        last_epoch: Int[Array, "*lanes"],
    ) -> tuple[Run, History]:
        together = jax.vmap if last_epoch.ndim else lambda function: function
        lane = together(lambda hparams: lane_terms(data.layout.sums, hparams, spec))(hparams)
        step = together(lambda state, *own: method.step(state, data.layout, *own))
        untrained = jnp.full(last_epoch.shape, nan)

        def one_epoch(run: Run, live: Bool[Array, "*lanes"]) -> tuple[Run, History]:
            state, info = step(run.state, hparams, jnp.where(live, run.epoch, ENDED))
            finite = jnp.isfinite(info.loss) & jnp.isfinite(info.update_norm)
            due = live & finite & is_due(run.epoch + 1, schedule, last_epoch)
            metrics = where_due(
                due, lambda state, lane: measure(state, data, lane), (state, lane), unmeasured
            )
            score = sign * metrics[chooses]
            after = after_epoch(
                run, state, finite, due, score, is_better=method.averages is not None
            )
            found = {"loss": info.loss, "update_norm": info.update_norm, **metrics}
            scalars = {
                name: jnp.where(live, getattr(after, name), getattr(run, name)) for name in SCALARS
            }
            history = {column: jnp.where(live, value, nan) for column, value in found.items()}
            return after._replace(**scalars), history

        def no_epoch(run: Run, live: Bool[Array, "*lanes"]) -> tuple[Run, History]:
            return run, dict.fromkeys(history_columns(chooses), untrained)

        def body(run: Run, _) -> tuple[Run, History]:
            live = is_live(run, schedule, last_epoch)
            return jax.lax.cond(live.any(), one_epoch, no_epoch, run, live)

        run, history = jax.lax.scan(body, run, length=schedule.epochs_per_call)
        return run, jax.tree.map(lambda column: jnp.moveaxis(column, 0, -1), history)

    return advance


def where_due(
    due: Bool[Array, "*lanes"], function: Callable, operands: Any, otherwise: dict[str, Array]
) -> dict[str, Array]:
    """What a function is of each lane's operands where it is due, one lane after another."""
    if not due.ndim:
        return jax.lax.cond(due, lambda: function(*operands), lambda: otherwise)

    def of_lane(turn: tuple[Place, Bool[Array, ""]]) -> dict[str, Array]:
        place, due = turn
        return jax.lax.cond(due, lambda: function(*taken(operands, place)), lambda: otherwise)

    return jax.lax.map(of_lane, (places_of(due), due))


def best_of(better: Bool[Array, "*lanes"], new: Any, best: Any) -> Any:
    """The new trees of lanes that are better, and the best so far of the others, in place."""
    if not better.ndim:
        return jax.lax.cond(better, lambda: new, lambda: best)

    def with_lane(best: Any, turn: tuple[Place, Bool[Array, ""]]) -> tuple[Any, None]:
        place, better = turn
        return jax.lax.cond(
            better, lambda best: put(best, place, taken(new, place)), lambda best: best, best
        ), None

    best, _ = jax.lax.scan(with_lane, best, (places_of(better), better))
    return best


# lanes among others, in place


def places_of(lanes: Shaped[Array, "places ..."]) -> UInt32[Array, " places"]:
    """The place of each."""
    return jnp.arange(len(lanes), dtype=jnp.uint32)


def taken(trees: T, place: Place) -> T:
    """The tree at a place of arrays `[places, …]`."""

    def of(array: Array) -> Array:
        one = jax.lax.dynamic_slice(array, _first(place, array), (1, *array.shape[1:]))
        return jax.lax.squeeze(one, (0,))

    return jax.tree.map(of, trees)


def put(trees: T, place: Place, one: T) -> T:
    """Arrays `[places, …]` with another tree at a place."""

    def with_own(array: Array, own: Array) -> Array:
        return jax.lax.dynamic_update_slice(array, own[None], _first(place, array))

    return jax.tree.map(with_own, trees, one)


def _first(place: Place, array: Array) -> list[Place | np.uint32]:
    """Where the tree of a place begins: `array[place]` takes three times as long to trace."""
    return [place, *[np.uint32(0)] * (array.ndim - 1)]


def after_epoch(
    run: Run,
    state: State,
    finite: Bool[Array, "*lanes"],
    evaluated: Bool[Array, "*lanes"],
    score: Float[Array, "*lanes"],
    *,
    is_better: bool = False,
) -> Run:
    """The run after one epoch more: its best so far, and whether it is alive; of several lanes too.

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
    best, best_embeddings = best_of(
        better, (state.factors, state.embeddings), (run.best, run.best_embeddings)
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
