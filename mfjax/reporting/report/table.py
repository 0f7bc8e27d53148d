"""Runs compared on the same folds: one table, which every writer shows."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mfjax.errors import InputError
from mfjax.reporting.paired import LEVEL, Difference, difference, holm
from mfjax.reporting.report.runs import AS_READ, Run, facts, remarks_of, sign_of
from mfjax.reporting.statistics import Interval, interval


class Row(NamedTuple):
    """A run in a comparison.

    Args:
      name: of the run.
      interval: of its values over the folds.
      to_best: its difference to the best run of the same folds; None of that one, and of a run
        whose folds no other has.
      by_fold: those differences, one a fold.
      holm: the p-value of the t-test, adjusted for all comparisons; None without one.
      is_best: whether its mean is the best of several runs of the same folds.
    """

    name: str
    interval: Interval
    to_best: Difference | None
    by_fold: Sequence[float]
    holm: float | None
    is_best: bool

    @property
    def is_not_worse(self) -> bool:
        """Whether it was tested against the best, and is not significantly worse."""
        return self.holm is not None and self.holm >= LEVEL


class Comparison(NamedTuple):
    """Runs side by side, by one column.

    Args:
      column: such as `test_rmse`.
      rows: in the order of the runs.
      shared: what all runs have in common, in words, by what it is: data, protocol, clipping, …
      differing: what they do not, by what it is and the name of the run.
      remarks: what a reader must know of the tests.
    """

    column: str
    rows: Sequence[Row]
    shared: Mapping[str, str]
    differing: Mapping[str, Mapping[str, str]]
    remarks: Sequence[str]

    @property
    def tested(self) -> Sequence[Row]:
        """The rows that were tested against the best."""
        return [row for row in self.rows if row.holm is not None]


def compare(runs: Sequence[Run], column: str, *, mixed: bool = False) -> Comparison:
    """Each run beside the one with the best mean, on the same folds.

    Args:
      runs: at least one, of other names.
      column: that every run has, such as `test_rmse`.
      mixed: whether runs of other data, protocols or conventions may stand side by side; then only
        those of the same folds are compared.

    Returns:
      A row a run.

    Raises:
      InputError: runs differ in what makes them comparable, and not `mixed`; with what differs.
    """
    shared, differing = _agreement(runs)
    if not mixed:
        _refuse_differing(differing)
        _refuse_other_folds(runs)
    best = _best_of_each(runs, column)
    differences = {run.name: _to_best(run, best[run.name], column) for run in runs}
    p_values = {
        name: of_run.t_test
        for name, of_run in differences.items()
        if of_run is not None and of_run.t_test is not None
    }
    adjusted = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    rows = [
        Row(
            name=run.name,
            interval=_interval(run, column),
            to_best=differences[run.name],
            by_fold=[value - of_best for value, of_best in _pairs(run, best[run.name], column)],
            holm=adjusted.get(run.name),
            is_best=run is best[run.name] and len(_of_the_folds(run, runs)) > 1,
        )
        for run in runs
    ]
    remarks = dict.fromkeys(remark for run in runs for remark in remarks_of(run))
    return Comparison(column, rows, shared, differing, list(remarks))


# what must agree


def _agreement(runs: Sequence[Run]) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """What all runs share, and what they do not, by the name of the run."""
    of_runs = {run.name: facts(run) for run in runs}
    keys = dict.fromkeys(key for of_run in of_runs.values() for key in of_run)
    shared: dict[str, str] = {}
    differing: dict[str, dict[str, str]] = {}
    for key in keys:
        values = {name: of_run.get(key, "none") for name, of_run in of_runs.items()}
        if len(set(values.values())) == 1:
            shared[key] = next(iter(values.values()))
        else:
            differing[key] = values
    return shared, differing


def _refuse_differing(differing: Mapping[str, Mapping[str, str]]) -> None:
    if not differing:
        return
    what, values = next(iter(differing.items()))
    first, *others = values
    other = next(name for name in others if values[name] != values[first])
    more = [key for key in differing if key not in (what, AS_READ)]
    also = f"; they differ in {', '.join(more)} too" if more else ""
    raise InputError(
        f"runs that are not comparable, {what}{also}\n"
        f"  {first}: {values[first]}\n  {other}: {values[other]}\n"
        "--mixed shows them side by side all the same"
    )


def _refuse_other_folds(runs: Sequence[Run]) -> None:
    """Raises InputError where a fold was tested in one run and not in another."""
    for run in runs:
        for other in runs:
            missing = [of.place for key, of in other.folds.items() if key not in run.folds]
            if missing:
                raise InputError(
                    f"runs of other folds: {run.name} has no test of {missing[0]} of {other.name}, "
                    f"one of {len(missing)}\n"
                    "train them on the same split_seeds and test folds, or compare none: --mixed"
                )


# numbers


def _interval(run: Run, column: str) -> Interval:
    values = [fold.values[column] for fold in run.folds.values()]
    return interval(values, _overlap(run))


def _overlap(run: Run) -> float:
    return float(np.mean([fold.overlap for fold in run.folds.values()]))


def _best_of_each(runs: Sequence[Run], column: str) -> dict[str, Run]:
    """The run with the best mean among those of the same folds, by the name of each run."""

    def score(run: Run) -> float:
        mean = _interval(run, column).mean
        return float("inf") if mean is None else sign_of(column) * mean

    return {run.name: min(_of_the_folds(run, runs), key=score) for run in runs}


def _of_the_folds(run: Run, runs: Sequence[Run]) -> list[Run]:
    """The runs that were tested on the same folds, itself among them."""
    return [other for other in runs if set(other.folds) == set(run.folds)]


def _pairs(run: Run, best: Run, column: str) -> list[tuple[float, float]]:
    """Its value and that of the best, fold by fold; none of the best itself."""
    if run is best:
        return []
    return [(run.folds[key].values[column], best.folds[key].values[column]) for key in best.folds]


def _to_best(run: Run, best: Run, column: str) -> Difference | None:
    pairs = _pairs(run, best, column)
    if not pairs:
        return None
    values, of_best = zip(*pairs, strict=True)
    return difference(values, of_best, max(_overlap(run), _overlap(best)))
