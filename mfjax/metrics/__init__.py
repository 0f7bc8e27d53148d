"""Every metric in one table; histories, tables, plots and the choice of a setting read it.

A column is a metric on a part of the ratings, such as `validation_rmse`.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from mfjax.errors import InputError
from mfjax.metrics.rating import mae, rmse

PARTS = ("train", "validation", "test")


class Metric(NamedTuple):
    """How good predictions are.

    Args:
      of: a pure function of the arrays that it `needs`, by keyword, to a scalar; of NumPy and jax
        arrays alike, and NaN where every weight is 0.
      needs: of `prediction`, `value`, `error` (prediction less value, after clipping) and `weight`,
        each `[n]`.
      better: whether lower or higher values are better.
      label: what tables and plots call it.
    """

    of: Callable[..., Any]
    needs: tuple[str, ...]
    better: Literal["lower", "higher"]
    label: str

    @property
    def sign(self) -> int:
        """What to multiply a value by, so that lower is better."""
        return 1 if self.better == "lower" else -1


METRICS: dict[str, Metric] = {
    "rmse": Metric(rmse, needs=("error", "weight"), better="lower", label="RMSE"),
    "mae": Metric(mae, needs=("error", "weight"), better="lower", label="MAE"),
}


def columns(*parts: str) -> list[str]:
    """The columns of `parts`, in the order of the table."""
    return [f"{part}_{name}" for part in parts for name in METRICS]


def metric_of(column: str) -> Metric:
    """The metric of a column. Raises InputError where there is no such column."""
    part, _, name = column.partition("_")
    if part not in PARTS or name not in METRICS:
        known = ", ".join(columns("validation"))
        raise InputError(f"choose_by: expected one of {known}, got {column!r}")
    return METRICS[name]


def label(column: str) -> str:
    """What a reader calls a column: `validation RMSE`."""
    part, _, _ = column.partition("_")
    named = {"train": "training"}.get(part, part)
    return f"{named} {metric_of(column).label}"


def measured(prediction: Any, value: Any, weight: Any) -> Mapping[str, Any]:
    """Every metric of some predictions, `[n]` each, by name."""
    arrays = {"prediction": prediction, "value": value, "weight": weight}
    arrays["error"] = prediction - value
    return {
        name: metric.of(**{need: arrays[need] for need in metric.needs})
        for name, metric in METRICS.items()
    }
