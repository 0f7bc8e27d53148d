"""A comparison in words: its cells, its caption, and what each run was."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from mfjax.reporting.formats import MINUS
from mfjax.reporting.paired import LEVEL
from mfjax.reporting.report.runs import (
    AS_READ,
    Run,
    column_label,
    device_of,
    seconds_of,
    sign_of,
)
from mfjax.reporting.report.table import Comparison, Row
from mfjax.reporting.statistics import CORRECTED, Interval

TO_BEST = "to the best"
VERDICT = "verdict"
BEST = "best"
NOT_WORSE = "not worse"
WORSE = "worse"
# else a convention
FACTS = ("data", AS_READ, "weights", "implicit", "protocol", "chosen by", "clipping")


class Cell(NamedTuple):
    """What a reader sees, and what it is sorted by: None last."""

    text: str
    value: float | str | None


class Column(NamedTuple):
    """A heading, the cell of a row, and whether it says how far a run is from the best."""

    heading: str
    cell: Callable[[Row], Cell]
    is_of_best: bool = False


def columns_of(comparison: Comparison, *, verdict: bool = False) -> list[Column]:
    """The columns that have anything to say, the most important first.

    Args:
      comparison: of runs.
      verdict: whether one says in words what else a mark does.
    """
    every = [
        Column("run", lambda row: Cell(row.name, row.name)),
        Column(column_label(comparison.column), lambda row: _measured(row.interval)),
        Column("n", lambda row: Cell(str(row.interval.n), row.interval.n)),
        Column(TO_BEST, _difference, is_of_best=True),
        Column("p (Holm)", lambda row: _p(row.holm), is_of_best=True),
        Column(VERDICT, _verdict, is_of_best=True),
        Column("p (t)", lambda row: _p(row.to_best and row.to_best.t_test), is_of_best=True),
        Column("p (Wilcoxon)", lambda row: _p(row.to_best and row.to_best.wilcoxon), True),
    ]
    idle = set() if len(_counts(comparison)) > 1 else {"n"}
    if not any(row.to_best for row in comparison.rows):
        idle |= {column.heading for column in every if column.is_of_best}
    elif not comparison.tested:
        idle |= {column.heading for column in every if column.is_of_best} - {TO_BEST}
    if len(comparison.tested) == 1:
        idle |= {"p (Holm)"}
    if not verdict:
        idle |= {VERDICT}
    return [column for column in every if column.heading not in idle]


def _counts(comparison: Comparison) -> list[int]:
    """Over how many test sets the means are, ascending."""
    return sorted({row.interval.n for row in comparison.rows})


def cells_of(comparison: Comparison, columns: Sequence[Column]) -> list[list[Cell]]:
    """The cells of every row, one a column."""
    return [[column.cell(row) for column in columns] for row in comparison.rows]


def _measured(of: Interval) -> Cell:
    return Cell(_with_half(of, ".4f"), of.mean)


def _difference(row: Row) -> Cell:
    if row.to_best is None:
        return Cell("–", 0.0 if row.is_best else None)
    of = row.to_best.interval
    return Cell(_with_half(of, "+.4f"), of.mean)


def _with_half(of: Interval, form: str) -> str:
    """A mean with half of its interval, where it has one."""
    if of.mean is None:
        return "–"
    mean = format(of.mean, form).replace("-", MINUS)
    return mean if of.high is None else f"{mean} ± {of.high - of.mean:.4f}"


def _p(value: float | None) -> Cell:
    if value is None:
        return Cell("–", None)
    return Cell("<0.001" if value < 0.001 else f"{value:.3f}", value)


def _verdict(row: Row) -> Cell:
    if row.is_best:
        said = BEST
    elif row.holm is None:
        said = "–"
    else:
        said = NOT_WORSE if row.is_not_worse else WORSE
    return Cell(said, said)


# the caption


def caption(comparison: Comparison, *, best: str, not_worse: str) -> list[str]:
    """Sentences on what the table shows: metric, data, protocol, conventions and tests.

    Args:
      comparison: that it is of.
      best: how the best is marked, such as `in bold`.
      not_worse: how one that is not significantly worse is, such as `with a dagger`.
    """
    said = [_of_metric(comparison)]
    for key, of_all in comparison.shared.items():
        if key in FACTS and key != AS_READ:
            said.append(f"{key.capitalize()}: {of_all}.")
    conventions = [f"{key}={of}" for key, of in comparison.shared.items() if key not in FACTS]
    if conventions:
        said.append(f"Conventions: {', '.join(conventions)}.")
    for key, values in comparison.differing.items():
        said.append(f"Runs differ in {key} ({_by_run(values)}).")
    said += _of_tests(comparison, best, not_worse)
    return [*said, *(f"{remark.capitalize()}." for remark in comparison.remarks)]


def _by_run(values: Mapping[str, str]) -> str:
    """Each value once, after the names of the runs that have it."""
    names: dict[str, list[str]] = {}
    for name, value in values.items():
        names.setdefault(value, []).append(name)
    return "; ".join(f"{', '.join(same)}: {value}" for value, same in names.items())


def _of_metric(comparison: Comparison) -> str:
    label = column_label(comparison.column)
    better = "lower" if sign_of(comparison.column) > 0 else "higher"
    counts = _counts(comparison)
    n = " or ".join(map(str, counts))
    head = f"{label[0].upper()}{label[1:]} ({better} is better)"
    if counts == [1]:
        return f"{head}, n = 1 test set: no interval and no test."
    return f"{head}, mean ± half of the 95 % interval over n = {n} test sets; {CORRECTED}."


def _of_tests(comparison: Comparison, best: str, not_worse: str) -> list[str]:
    said = []
    if any(row.is_best for row in comparison.rows):
        said.append(f"The best mean on the same test sets {best}.")
    if count := len(comparison.tested):
        several = f", adjusted by Holm for {count} comparisons" if count > 1 else ""
        said.append(
            f"Those not significantly worse {not_worse}: p ≥ {LEVEL} of the corrected resampled "
            f"t-test{several}. Wilcoxon's signed-rank p is not adjusted."
        )
    alone = [row.name for row in comparison.rows if not (row.to_best or row.is_best)]
    if alone and len(comparison.rows) > 1:
        said.append(f"Of other test sets, and compared with none: {', '.join(alone)}.")
    return said


# what each run was


def about(run: Run) -> dict[str, str]:
    """What a run was and what is needed to run it again, in words, by what it is."""
    results = run.results
    provenance = results["provenance"]
    method = {key: _said(value) for key, value in results["method"].items()}
    commit = provenance["git_commit"]
    version = f"mfjax {provenance['versions']['mfjax']}"
    return {
        "method": ", ".join([method.pop("name"), *(f"{key}={of}" for key, of in method.items())]),
        "chosen": ", ".join(f"{key}={value:g}" for key, value in results["chosen"].items()),
        "search": f"{results['lanes']} lanes, {seconds_of(run):.1f} s of compiling and training",
        "version": f"{version}, commit {commit[:12]}" if commit else version,
        "device": device_of(run),
        "command": _command(provenance["command"]),
        "digest": results["digest"],
        "folder": str(run.folder),
    }


def _command(argv: Sequence[str]) -> str:
    """What to type again, on any machine."""
    program, *words = argv
    is_ours = program.endswith(("mfjax/run.py", "mfjax\\run.py", "mfjax"))
    return shlex.join([*(["python", "-m", "mfjax.run"] if is_ours else [program]), *words])


def _said(value: Any) -> str:
    """A part of a method: its name, where it is a section."""
    return str(value["name"]) if isinstance(value, dict) else str(value)
