"""optax optimisers by name, with a learning rate that is traced and a schedule that is not."""

import inspect
from collections.abc import Callable, Sequence

import optax

from mfjax.errors import InputError
from mfjax.types import Hparams, Optimizer

SCHEDULES: dict[str, Callable[[int, float], optax.Schedule]] = {
    "constant": lambda updates, final: optax.constant_schedule(1.0),
    "linear": lambda updates, final: optax.linear_schedule(1.0, final, updates),
    "exponential": lambda updates, final: optax.exponential_decay(1.0, updates, final),
    "cosine": lambda updates, final: optax.cosine_decay_schedule(1.0, updates, final),
    "warmup_cosine": lambda updates, final: optax.warmup_cosine_decay_schedule(0.0, 1.0, max(updates // 10, 1), updates, final),
}


def optimizer(
    name: str = "sgd",
    takes: Sequence[str] = ("learning_rate",),
    options: dict | None = None,
    schedule: str = "constant",
    final: float = 0.01,
    updates: int = 1,
) -> Optimizer:
    """Any optax optimiser as an `Optimizer`.

    Args:
      name: an optax alias, such as `adam`.
      takes: the Hparams handed to it by keyword: `learning_rate`, `momentum`; none for a line search such as `lbfgs`'s.
      options: its other keyword arguments, the same in every lane.
      schedule: one of SCHEDULES, a factor on the learning rate that runs from 1 to `final` over `updates` updates.

    Raises InputError for an optimiser, option or schedule that does not exist.

    Examples:
      >>> optimizer("adam", options={"b1": 0.8}).rowwise
      False
    """
    options = dict(options or {})
    alias = getattr(optax, name, None)
    if not callable(alias) or "learning_rate" not in inspect.signature(alias).parameters:
        raise InputError(f"optimizer.name: expected an optax optimiser (such as sgd, adam, lbfgs), got {name!r}")
    if unknown := {*options, *takes} - set(inspect.signature(alias).parameters):
        known = ", ".join(inspect.signature(alias).parameters)
        raise InputError(f"optax.{name} has no {', '.join(sorted(unknown))}\nit takes: {known}")
    if schedule not in SCHEDULES:
        raise InputError(f"optimizer.schedule: expected one of {', '.join(SCHEDULES)}, got {schedule!r}")
    if schedule != "constant" and "learning_rate" not in takes:
        raise InputError(f"optimizer.schedule={schedule} scales a learning rate, and {name} here takes none")
    factor = SCHEDULES[schedule](updates, final)

    def make(hparams: Hparams) -> optax.GradientTransformationExtraArgs:
        traced = {key: getattr(hparams, key) for key in takes}
        if schedule != "constant":
            rate = traced["learning_rate"]
            traced["learning_rate"] = lambda count: rate * factor(count)
        return optax.with_extra_args_support(alias(**traced, **options))

    return Optimizer(make, tuple(takes), rowwise=name == "sgd" and "momentum" not in (*takes, *options))
