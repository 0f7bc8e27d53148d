"""The axes of a search, as Hydra's grammar writes them and as Optuna takes them.

Optuna is imported when it is needed: Hydra loads every plugin to look for its own.
"""

import math
from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep

LOG_AXIS = "tag(log,interval(0.001,1))"


def distribution(key: str, override: Override) -> Any:
    """Where Optuna looks for the value of an axis.

    Raises InputError for one that cannot be searched, with what can.
    """
    from mfjax.errors import InputError

    try:
        return _distribution(override)
    except (ValueError, ZeroDivisionError, OverflowError) as error:
        raise InputError(f"{override.input_line or key}: {error}") from error


def _distribution(override: Override) -> Any:
    """As `distribution`. Raises ValueError."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    axis = override.value()
    if override.is_choice_sweep():
        return CategoricalDistribution(list(override.sweep_string_iterator()))
    is_range = isinstance(axis, RangeSweep)
    _refuse_tags(axis, () if is_range else ("log",))
    if is_range:
        last = _last(axis)
        is_whole = isinstance(axis.start, int) and isinstance(axis.step, int)
        kind = IntDistribution if is_whole else FloatDistribution
        return kind(axis.start, last, step=axis.step)
    assert isinstance(axis, IntervalSweep)  # there is no other
    is_log = "log" in axis.tags
    if not (math.isfinite(axis.start) and math.isfinite(axis.end)):
        raise ValueError("an interval has two finite ends")
    if axis.start > axis.end:
        raise ValueError(f"an interval ascends: interval({axis.end:g},{axis.start:g})")
    if is_log and axis.start <= 0:
        raise ValueError(f"a logarithmic axis begins above 0, such as {LOG_AXIS}")
    is_whole = isinstance(axis.start, int) and isinstance(axis.end, int)
    kind = IntDistribution if is_whole else FloatDistribution
    return kind(axis.start, axis.end, log=is_log)


def _refuse_tags(axis: Any, known: Sequence[str]) -> None:
    if others := sorted(axis.tags - set(known)):
        raise ValueError(
            f"tag({others[0]},…) has no meaning here; a logarithmic axis is {LOG_AXIS}"
        )


def _last(axis: RangeSweep) -> float:
    """The last value of a range."""
    if axis.step == 0:
        raise ValueError("a range has a step above 0")
    steps = math.ceil((axis.stop - axis.start) / axis.step) - 1
    last = axis.start + axis.step * steps
    if steps < 0:
        raise ValueError("a range has at least one value")
    if axis.step < 0:
        end = axis.start - axis.step
        raise ValueError(f"a range ascends: range({last},{end},{-axis.step})")
    return last


def _in_words(axis: Any) -> str:
    """A distribution as a reader knows it."""
    choices = getattr(axis, "choices", None)
    if choices is not None:
        return f"a choice of {', '.join(map(str, choices))}"
    return f"numbers from {axis.low:g} to {axis.high:g}"


def refuse_other_axes(study: Any, axes: dict[str, Any]) -> None:
    """Raises InputError where a trial of the study has an axis of another kind."""
    from optuna.distributions import check_distribution_compatibility

    from mfjax.errors import InputError

    for trial in study.get_trials(deepcopy=False):
        for key in trial.distributions.keys() & axes.keys():
            try:
                check_distribution_compatibility(trial.distributions[key], axes[key])
            except ValueError as error:
                raise InputError(
                    f"{key}: the study has {_in_words(trial.distributions[key])}, and here it is "
                    f"{_in_words(axes[key])}\nchoose another hydra.sweep.dir, or the axis of there"
                ) from error
