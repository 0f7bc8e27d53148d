"""What the terminal shows: progress while training, and tables at the end. Jobs of a multirun have theirs in their logs."""

import io
import logging
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from mfjax.app.jobs import is_multirun
from mfjax.reporting import expected
from mfjax.training import program
from mfjax.training.protocol import Interval, Outcome

log = logging.getLogger("mfjax")
WIDTH = 130  # of tables in files and pipes, which have no width of their own
console = Console(width=None if sys.stdout.isatty() else WIDTH)


@contextmanager
def progress(label: str) -> Iterator[Callable[[program.Progress], None]]:
    """A progress bar with the best loss and validation RMSE so far and the time left; each chunk goes to the log too."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        TextColumn("loss {task.fields[loss]:.5g}  {task.fields[rmse]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(label, total=None, loss=math.nan, rmse="")

        def watch(now: program.Progress) -> None:
            rmse = f"validation RMSE {now.validation_rmse:.4f}" if math.isfinite(now.validation_rmse) else ""
            bar.update(task, completed=now.done, total=now.total, loss=now.loss, rmse=rmse)
            log.info("%s: %d of %d epochs, loss %.6g %s", label, now.done, now.total, now.loss, rmse)

        yield watch


def show(table: Table) -> None:
    """Print a table, and write it to the log."""
    if not is_multirun():
        console.print(table)
    text = io.StringIO()
    Console(file=text, width=WIDTH).print(table)
    log.info("\n%s", text.getvalue())


def settings_table(outcome: Outcome, axes: Sequence[str], baselines: Mapping[str, Interval], most: int = 5) -> Table:
    """The best settings, a row each, then the baselines that every reader wants beside them."""
    name = outcome.criterion.replace("_", " ").replace("rmse", "RMSE")
    table = Table(title=f"Best of {len(outcome.settings)} settings, by mean {name}", title_justify="left")
    keys = [key for key in axes if key in outcome.chosen.hparams]
    for key in keys or ["setting"]:
        table.add_column(key, justify="right")
    for column in (name, "lanes", "best epoch", "status"):
        table.add_column(column, justify="right")
    for setting in outcome.settings[:most]:
        values = [f"{setting.hparams[key]:g}" for key in keys] or ["as configured"]
        criterion = f"{setting.criterion:.5f}" if setting.alive else "–"
        epochs = "/".join(str(fit.best_epoch) for fit in setting.fits[:5])
        status = next((fit.status for fit in setting.fits if fit.status.startswith(("diverged", "dropped"))), "finished")
        table.add_row(*values, criterion, str(len(setting.fits)), epochs, status)
    for baseline, rmse in baselines.items():
        if rmse.mean is not None:
            table.add_row(*[""] * (len(keys or [0]) - 1), baseline, f"{rmse.mean:.5f} (test)", "", "", "baseline")
    return table


def jobs_table(rows: Sequence[Mapping[str, Any]], varied: Sequence[str], most: int = 10) -> Table:
    """The best jobs of a multirun by validation RMSE, then those that failed, with their reason."""
    good = sorted((r for r in rows if r["status"] == "finished"), key=lambda r: r["validation_rmse"] or math.inf)
    bad = [r for r in rows if r["status"] != "finished"]
    columns = ("job", *varied, "validation RMSE", "test RMSE", "status")
    cells = [
        [str(r["job"]), *(_short(r.get(key, "")) for key in varied)]
        + [_cell(r[m], ".5f", 1) for m in ("validation_rmse", "test_rmse")]
        + [r["status"] if r in good else str(r["reason"]).splitlines()[0]]
        for r in good[:most] + bad[:most]
    ]
    return plain_table(f"Best of {len(rows)} jobs, {len(bad)} of them failed", columns, cells)


def _short(value: str) -> str:
    """An override's value, a number with as many digits as a reader can use."""
    try:
        return f"{float(value):.5g}"
    except ValueError:
        return value


def metrics_table(metrics: Mapping[str, Interval]) -> Table:
    """Mean and 95 % interval of each metric."""
    table = Table(title="The chosen setting", title_justify="left")
    for column in ("metric", "mean", "95 % interval", "n"):
        table.add_column(column, justify="right")
    for metric, value in metrics.items():
        if value.mean is not None:
            span = f"{value.low:.5f} to {value.high:.5f}" if value.low is not None else "–"
            table.add_row(metric.replace("_", " "), f"{value.mean:.5f}", span, str(value.n))
    return table


def plain_table(title: str, columns: Sequence[str], cells: Sequence[Sequence[str]]) -> Table:
    """A table of ready cells, the first column left and the others right."""
    table = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column.replace("_", " "), justify="right" if i else "left", overflow="fold", no_wrap=not i)
    for row in cells:
        table.add_row(*row)
    return table


def cells(row: Mapping[str, Any], shown: Mapping[str, tuple[str, str, float]]) -> list[str]:
    """A row as a reader sees it: of each heading of `shown`, its column in its format and unit."""
    return [_cell(row.get(column), form, unit) for column, form, unit in shown.values()]


def _cell(value: Any, form: str, unit: float) -> str:
    if value is None:
        return "–"
    return format(value / unit if unit != 1 else value, form)


def meets_expectations(cfg: DictConfig, figures: Mapping[str, Any]) -> bool:
    """Show expected beside seen where the experiment states figures; False where one did not come out."""
    if not cfg.expected:
        return True
    rows = expected.compare(cfg.expected, figures)
    columns = ("figure", "expected", "seen", "tolerance", "status")
    show(plain_table("Expected and seen", columns, [[str(row[c]) for c in columns] for row in rows]))
    return all(row["status"] == "ok" for row in rows)


def experiment_name() -> str:
    """The name given with `+exp=`, or `run`."""
    return HydraConfig.get().runtime.choices.get("exp", "run")


def say(line: str) -> None:
    """One line on the terminal and in the log."""
    if not is_multirun():
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    log.info(line)


def note(what: str, values: Mapping[str, Any]) -> None:
    """A line of `key=value` pairs."""
    say(f"{what}: " + ", ".join(f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}" for k, v in values.items()))


def warn(line: str) -> None:
    """A line that a reader must not miss."""
    if not is_multirun():
        console.print(f"[bold yellow]warning:[/] {line}", highlight=False, soft_wrap=True)
    log.warning(line)
