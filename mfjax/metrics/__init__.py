"""Every metric in one table; histories, tables, plots and the choice of a setting read it.

A column is a metric on a part of the ratings, such as `validation_rmse`.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple

from mfjax.errors import InputError
from mfjax.metrics import ranking
from mfjax.metrics.rating import mae, r2, rmse, user_rmse
from mfjax.types import ErrorSums

PARTS = ("train", "validation", "test")
OF_LISTS = frozenset(
    ["gain", "ideal", "relevant", "beaten", "unseen", "listed"]
)  # of what is needed


class Metric(NamedTuple):
    """How good predictions, or lists of the best items, are.

    Args:
      of: a pure function of the arrays that it `needs`, by keyword. Of predictions: to a scalar; of
        NumPy and jax arrays alike, and NaN where every weight is 0. Of lists: to a value a user,
        `[users]`, whose mean over the users with a relevant item is the metric; or, of what it
        needs of items alone, to a scalar, of the lists of all users together.
      needs: of `prediction`, `value`, `error` (prediction less value, after clipping), `weight` and
        `user` (rows), each `[n]`; and of the sums `squares`, `absolutes` and `weights` of an
        `ErrorSums`: what needs these alone costs next to nothing in training. Or, of lists, of
        `gain` and `ideal`, `[users, k]`; `relevant`, `beaten` and `unseen`, `[users]`; `listed` and
        `information`, `[items]`.
      better: whether lower or higher values are better.
      label: what tables and plots call it.
      parts: of which ratings it is always measured; what chooses is measured of all. One of lists
        is measured on test ratings, and of validation where it chooses.
    """

    of: Callable[..., Any]
    needs: tuple[str, ...]
    better: Literal["lower", "higher"]
    label: str
    parts: tuple[str, ...] = PARTS

    @property
    def sign(self) -> int:
        """What to multiply a value by, so that lower is better."""
        return 1 if self.better == "lower" else -1

    @property
    def is_of_lists(self) -> bool:
        """Whether it is of lists of items, and not of predicted ratings."""
        return not OF_LISTS.isdisjoint(self.needs)

    @property
    def is_by_user(self) -> bool:
        """Of lists: whether it is a mean over users, and not of all lists together."""
        return "listed" not in self.needs


METRICS: dict[str, Metric] = {
    "rmse": Metric(rmse, needs=("squares", "weights"), better="lower", label="RMSE"),
    "mae": Metric(mae, needs=("absolutes", "weights"), better="lower", label="MAE"),
    "r2": Metric(r2, ("error", "value", "weight"), better="higher", label="R²", parts=("test",)),
    "user_rmse": Metric(
        user_rmse,
        needs=("error", "weight", "user"),
        better="lower",
        label="RMSE a user",
        parts=("test",),
    ),
    "recall": Metric(ranking.recall, ("gain", "relevant"), "higher", "recall"),
    "precision": Metric(ranking.precision, ("gain",), "higher", "precision"),
    "ndcg": Metric(ranking.ndcg, ("gain", "ideal"), "higher", "NDCG"),
    "map": Metric(ranking.average_precision, ("gain", "relevant"), "higher", "MAP"),
    "mrr": Metric(ranking.reciprocal_rank, ("gain",), "higher", "MRR"),
    "hit_rate": Metric(ranking.hit_rate, ("gain",), "higher", "hit rate"),
    "auc": Metric(ranking.auc, ("beaten", "relevant", "unseen"), "higher", "AUC"),
    "coverage": Metric(ranking.coverage, ("listed",), "higher", "coverage"),
    "novelty": Metric(ranking.novelty, ("listed", "information"), "higher", "novelty"),
    "gini": Metric(ranking.gini, ("listed",), "lower", "Gini index"),
}


def names(part: str, chooses: str | None = None) -> list[str]:
    """The metrics of predictions that are measured of a part, in the order of the table.

    Args:
      part: of PARTS.
      chooses: the column that chooses, whose metric is measured of every part.
    """
    also = None if chooses is None else _name(chooses)
    return [
        name
        for name, metric in METRICS.items()
        if not metric.is_of_lists and (part in metric.parts or name == also)
    ]


def names_of_lists() -> list[str]:
    """The metrics of lists, in the order of the table."""
    return [name for name, metric in METRICS.items() if metric.is_of_lists]


def columns(*parts: str, chooses: str | None = None) -> list[str]:
    """The columns of `parts`, in the order of the table; `chooses` as in `names`."""
    found = [f"{part}_{name}" for part in parts for name in names(part, chooses)]
    if chooses and metric_of(chooses).is_of_lists and part_of(chooses) in parts:
        found.append(chooses)
    return found


def part_of(column: str) -> str:
    """The part of a column, such as `validation`; empty where it is none."""
    part, _, name = column.partition("_")
    return part if part in PARTS and name in METRICS else ""


def _name(column: str) -> str:
    return column.partition("_")[2]


def metric_of(column: str) -> Metric:
    """The metric of a column. Raises InputError where there is no such column."""
    if not part_of(column):
        known = ", ".join(choosing())
        raise InputError(f"choose_by: expected one of {known}, got {column!r}")
    return METRICS[_name(column)]


def of_training(column: str) -> str:
    """The column of the same metric on the training ratings; of one of lists, of the first."""
    first, *_ = METRICS
    return f"train_{first if metric_of(column).is_of_lists else _name(column)}"


def choosing() -> list[str]:
    """The columns that may choose."""
    return [f"validation_{name}" for name in METRICS]


def label(column: str) -> str:
    """What a reader calls a column: `validation RMSE`."""
    part, _, _ = column.partition("_")
    named = {"train": "training"}.get(part, part)
    return f"{named} {metric_of(column).label}"


def measured(
    wanted: Iterable[str], *, prediction: Any, value: Any, weight: Any, user: Any
) -> Mapping[str, Any]:
    """The metrics of some predictions, `[n]` each, by name.

    Args:
      wanted: names in METRICS.
      prediction, value: in rating units, the predictions clipped.
      weight: from 0.
      user: rows.
    """
    error = prediction - value
    arrays = {
        "prediction": prediction,
        "value": value,
        "error": error,
        "weight": weight,
        "user": user,
        "squares": (weight * error**2).sum(),
        "absolutes": (weight * abs(error)).sum(),
        "weights": weight.sum(),
    }
    return {name: _of(METRICS[name], arrays) for name in wanted}


def of_sums(wanted: Iterable[str], sums: ErrorSums) -> Mapping[str, Any]:
    """The metrics that need no more than those sums, by name."""
    arrays = sums._asdict()
    enough = [name for name in wanted if arrays.keys() >= set(METRICS[name].needs)]
    return {name: _of(METRICS[name], arrays) for name in enough}


def _of(metric: Metric, arrays: Mapping[str, Any]) -> Any:
    return metric.of(**{need: arrays[need] for need in metric.needs})
