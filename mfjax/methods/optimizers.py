"""optax optimisers by name, with a learning rate that is traced and a schedule that is not."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mfjax.errors import InputError
from mfjax.types import Hparams, Optimizer, Rule

# `(updates, final)`: a factor on the learning rate, which runs from 1 to `final`
SCHEDULES: dict[str, Callable[..., optax.Schedule]] = {
    "constant": lambda updates: optax.constant_schedule(1.0),
    "linear": lambda updates, final: optax.linear_schedule(1.0, final, updates),
    "exponential": lambda updates, final: optax.exponential_decay(1.0, updates, final),
    "cosine": lambda updates, final: optax.cosine_decay_schedule(1.0, updates, final),
    "warmup_cosine": lambda updates, final: optax.warmup_cosine_decay_schedule(
        0.0, 1.0, max(updates // 10, 1), updates, final
    ),
}


def optimizer(
    name: str | Callable[..., Any] = "sgd",
    reads: Sequence[str] = ("learning_rate",),
    options: dict | None = None,
    *,
    schedule: str = "constant",
    final: float = 0.01,
    lazy: bool = False,
    epochs: int = 1,
) -> Optimizer:
    """Any optax optimiser as an `Optimizer`.

    Source: optax, whose documentation has the update and the paper of each alias.

    Args:
      name: an optax alias, such as `adam`; or a function like one, such as `optax.contrib.prodigy`,
        which returns an `optax.GradientTransformation`.
      reads: the Hparams handed to it by keyword: `learning_rate`, `momentum`; none for a line
        search such as `lbfgs`'s.
      options: its other keyword arguments, the same in every lane.
      schedule: one of SCHEDULES, a factor on the learning rate that runs from 1 to `final`.
      final: where it ends, a share of the learning rate, from 0.
      lazy: whether a batch of `method=sgd` updates only the rows that it touches, and their
        moments. Dense Adam, say, also moves every other row by what is left of its momentum, and
        lets its moments decay; a lazy row stays as it is until it is next touched. The count of
        updates, and with it Adam's bias correction, is of batches in both.
      epochs: how long the schedule runs.

    Returns:
      One whose learning rate, and whatever else it `reads`, is traced.

    Raises:
      InputError: for an optimiser, option or schedule that does not exist, for a schedule that
        never changes the rate, and for a lazy one that is not elementwise.

    Examples:
      >>> optimizer("adam", options={"b1": 0.8}).moves
      'table'
    """
    options = dict(options or {})
    alias = _alias(name)
    called = getattr(alias, "__name__", str(name))
    _check_keywords(alias, called, {*options, *reads})
    _check_schedule(schedule, final, called, reads)

    def transformation(**traced: Any) -> optax.GradientTransformationExtraArgs:
        return optax.with_extra_args_support(alias(**traced, **options))

    def rate(hparams: Hparams, updates_per_epoch: int) -> Any:
        if schedule == "constant":
            return hparams.learning_rate
        factor = SCHEDULES[schedule](epochs * updates_per_epoch, final)
        return lambda count: hparams.learning_rate * factor(count)

    def make(hparams: Hparams, updates_per_epoch: int) -> optax.GradientTransformationExtraArgs:
        traced = _fields(hparams, reads)
        if "learning_rate" in traced:
            traced["learning_rate"] = rate(hparams, updates_per_epoch)
        return transformation(**traced)

    if lazy and not _is_elementwise(transformation(**_fields(Hparams(), reads))):
        raise InputError(
            "optimizer.lazy=true needs an optimiser that treats each entry by itself, "
            f"such as adam; {called} does not"
        )
    is_linear = alias is optax.sgd and "momentum" not in (*reads, *options)
    moves = "rows" if is_linear else "lazy" if lazy else "table"
    rule = Rule(called, tuple(options.items()), tuple(reads), rate) if alias in _NAMED else None
    return Optimizer(make, tuple(reads), moves, rule)


_NAMED = (optax.sgd, optax.adam, optax.adagrad)  # that a kernel may know


def _fields(hparams: Hparams, names: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(hparams, name) for name in names}


def _alias(name: str | Callable[..., Any]) -> Callable[..., Any]:
    """A function as it is, or optax's own of that name. Raises InputError where it has none."""
    if callable(name):
        return name
    alias = getattr(optax, name, None)
    if not callable(alias) or "learning_rate" not in inspect.signature(alias).parameters:
        raise InputError(
            f"optimizer.name: expected an optax optimiser (such as sgd, adam, lbfgs), got {name!r}"
        )
    return alias


def _check_keywords(alias: Callable[..., Any], called: str, keywords: set[str]) -> None:
    """Raises InputError where an optimiser has no such keywords, or needs others."""
    known = inspect.signature(alias).parameters
    kinds = {one.kind for one in known.values()}
    unknown = keywords - set(known)
    if unknown and inspect.Parameter.VAR_KEYWORD not in kinds:
        raise InputError(
            f"optax.{called} has no {', '.join(sorted(unknown))}\nit takes: {', '.join(known)}"
        )
    for key, one in known.items():
        is_needed = one.default is one.empty and one.kind in (
            one.POSITIONAL_OR_KEYWORD,
            one.KEYWORD_ONLY,
        )
        if is_needed and key not in keywords:
            raise InputError(
                f"optax.{called} needs {key}: name it in optimizer.reads, or give optimizer.options"
            )


UPDATES = 100  # in which a schedule shows whether it changes anything


def _check_schedule(schedule: str, final: float, called: str, reads: Sequence[str]) -> None:
    if schedule not in SCHEDULES:
        known = ", ".join(SCHEDULES)
        raise InputError(f"optimizer.schedule: expected one of {known}, got {schedule!r}")
    if schedule == "constant":
        return
    if "learning_rate" not in reads:
        raise InputError(
            f"optimizer.schedule={schedule} scales a learning rate, and {called} here takes none"
        )
    factor = SCHEDULES[schedule](UPDATES, final)
    if all(float(factor(count)) == 1 for count in range(0, UPDATES + 1, UPDATES // 2)):
        raise InputError(
            f"optimizer.schedule={schedule} has no effect with optimizer.final={final:g}: "
            "the learning rate stays as it is\n"
            "set optimizer.final between 0 and 1, or leave out the schedule"
        )


def _is_elementwise(transformation: optax.GradientTransformationExtraArgs) -> bool:
    """Whether two steps on two rows are the two steps on each alone."""

    def after_two_steps(rows: jax.Array) -> jax.Array:
        state = transformation.init(rows)
        for _ in range(2):
            updates, state = transformation.update(rows**2 - 1, state, rows)
            rows = jnp.add(rows, updates)
        return rows

    rows = jnp.arange(1.0, 7.0).reshape(2, 3)
    try:
        alone = jnp.concatenate([after_two_steps(rows[:1]), after_two_steps(rows[1:])])
        return bool(jnp.allclose(after_two_steps(rows), alone, rtol=1e-6))
    except (TypeError, ValueError):  # a line search needs the loss
        return False
