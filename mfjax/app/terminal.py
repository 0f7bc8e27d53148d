"""What the terminal shows: progress while training, and tables at the end.

Jobs of a multirun have theirs in their logs.
"""

import io
import logging
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rich.progress as bars
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from mfjax.app.session import experiment_name, is_multirun
from mfjax.metrics import label, metric_of
from mfjax.reporting.expected import compare_figures
from mfjax.reporting.files import as_json, write_json
from mfjax.reporting.formats import Shown, cells
from mfjax.reporting.provenance import provenance
from mfjax.reporting.statistics import Interval
from mfjax.training.lanes import Progress
from mfjax.training.protocol import Outcome, Setting

log = logging.getLogger("mfjax")
WIDTH = 130  # of tables in files and pipes, which have no width of their own
console = Console(width=None if sys.stdout.isatty() else WIDTH)


# lines


def say(line: str) -> None:
    """One line on the terminal and in the log."""
    if not is_multirun():
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    log.info(line)


def note(what: str, values: Mapping[str, Any]) -> None:
    """A line of `key=value` pairs."""
    pairs = (
        f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in values.items()
    )
    say(f"{what}: {', '.join(pairs)}")


def warn(line: str) -> None:
    """A line that a reader must not miss."""
    if not is_multirun():
        console.print(f"[bold yellow]warning:[/] {line}", highlight=False, soft_wrap=True)
    log.warning(line)


@contextmanager
def progress(what: str, column: str) -> Iterator[Callable[[Progress], None]]:
    """A progress bar with the best loss and score so far, and the time left; also in the log.

    `column` is of the metric that the score is.
    """
    named = label(column)
    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.TextColumn("{task.percentage:3.0f} %"),
        bars.TextColumn("loss {task.fields[loss]:.5g}  {task.fields[score]}"),
        bars.TimeElapsedColumn(),
        bars.TextColumn("left"),
        bars.TimeRemainingColumn(),
    )
    with bars.Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=None, loss=math.nan, score="")

        def on_progress(now: Progress) -> None:
            score = f"{named} {now.score:.4f}" if math.isfinite(now.score) else ""
            bar.update(task, completed=now.done, total=now.total, loss=now.loss, score=score)
            log.info(
                "%s: %d of %d epochs, loss %.6g %s", what, now.done, now.total, now.loss, score
            )

        yield on_progress


# tables


def show(table: Table) -> None:
    """Print a table, and write it to the log."""
    if not is_multirun():
        console.print(table)
    text = io.StringIO()
    Console(file=text, width=WIDTH).print(table)
    log.info("\n%s", text.getvalue())


def plain_table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table of ready cells, the first column left and the others right."""
    table = Table(title=title, title_justify="left")
    for i, heading in enumerate(headings):
        table.add_column(
            heading.replace("_", " "),
            justify="right" if i else "left",
            overflow="fold",
            no_wrap=not i,
        )
    for row in rows:
        table.add_row(*row)
    return table


def settings_table(
    outcome: Outcome, axes: Sequence[str], baselines: Mapping[str, Interval], most: int = 5
) -> Table:
    """The best settings, a row each, then the baselines that every reader wants beside them."""
    named = label(outcome.chosen_by)
    title = f"Best of {len(outcome.settings)} settings, by mean {named}"
    table = Table(title=title, title_justify="left")
    keys = [key for key in axes if key in outcome.chosen.hparams]
    for heading in (*(keys or ["setting"]), named, "lanes", "best epoch", "status"):
        table.add_column(heading, justify="right")
    for setting in outcome.settings[:most]:
        table.add_row(*_setting_cells(setting, keys))
    before = [""] * (len(keys or [""]) - 1)
    for baseline, rmse in baselines.items():
        if rmse.mean is not None:
            table.add_row(*before, baseline, f"{rmse.mean:.5f} (test)", "", "", "baseline")
    return table


def _setting_cells(setting: Setting, keys: Sequence[str]) -> list[str]:
    values = [f"{setting.hparams[key]:g}" for key in keys] or ["as configured"]
    lost = [fit.status for fit in setting.fits if fit.status.startswith(("diverged", "dropped"))]
    return [
        *values,
        f"{setting.criterion:.5f}" if setting.alive else "–",
        str(len(setting.fits)),
        "/".join(str(fit.best_epoch) for fit in setting.fits[:5]),
        lost[0] if lost else "finished",
    ]


def metrics_table(metrics: Mapping[str, Interval]) -> Table:
    """Mean and 95 % interval of each metric."""
    table = Table(title="The chosen setting", title_justify="left")
    for heading in ("metric", "mean", "95 % interval", "n"):
        table.add_column(heading, justify="right")
    for metric, value in metrics.items():
        if value.mean is not None:
            span = "–" if value.low is None else f"{value.low:.5f} to {value.high:.5f}"
            table.add_row(metric.replace("_", " "), f"{value.mean:.5f}", span, str(value.n))
    return table


def jobs_table(
    rows: Sequence[Mapping[str, Any]], varied: Sequence[str], by: Sequence[str], most: int = 10
) -> Table:
    """The best jobs of a multirun, then those that failed, with their reason.

    `by` are the columns to show, the first of which ranks.
    """
    sign = metric_of(by[0]).sign

    def score(row: Mapping[str, Any]) -> float:
        value = row[by[0]]
        return math.inf if value is None else sign * value

    good = sorted((row for row in rows if row["status"] == "finished"), key=score)
    bad = [row for row in rows if row["status"] != "finished"]
    shown = {label(column): Shown(column, ".5f") for column in by}
    table_rows = []
    for row in good[:most] + bad[:most]:
        status = "finished" if row in good else str(row["reason"]).splitlines()[0]
        values = (_short(row.get(key, "")) for key in varied)
        table_rows.append([str(row["job"]), *values, *cells(row, shown), status])
    title = f"Best of {len(rows)} jobs, {len(bad)} of them failed"
    return plain_table(title, ("job", *varied, *shown, "status"), table_rows)


def _short(value: str) -> str:
    """An override's value, a number with as many digits as a reader can use."""
    try:
        return f"{float(value):.5g}"
    except ValueError:
        return value


# the end of a job


def finish(
    cfg: DictConfig,
    folder: Path,
    began: float,
    content: Mapping[str, Any],
    figures: Mapping[str, Any],
) -> bool:
    """Write results.json, show expected beside seen, and say where the files are.

    Args:
      content: of results.json, beside the experiment, its seconds and its provenance.
      figures: what the experiment's `expected` is of.

    Returns:
      Whether all came out as expected.
    """
    seconds = {"total": time.perf_counter() - began}
    head = {"experiment": experiment_name(), "seconds": seconds}
    write_json(folder / "results.json", {**head, **content, "provenance": provenance()})
    as_expected = meets_expectations(cfg, as_json(figures))
    say(f"Files: {folder}")
    return as_expected


def meets_expectations(cfg: DictConfig, figures: Mapping[str, Any]) -> bool:
    """Show expected beside seen where the experiment states figures; False where one differs."""
    if not cfg.expected:
        return True
    rows = compare_figures(cfg.expected, figures)
    headings = ("figure", "expected", "seen", "tolerance", "status")
    lines = [[row[heading] for heading in headings] for row in rows]
    show(plain_table("Expected and seen", headings, lines))
    return all(row["status"] == "ok" for row in rows)
