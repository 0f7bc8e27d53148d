"""What the terminal shows, and the log keeps: lines, progress while training, and tables.

Jobs of a multirun have theirs in their logs.
"""

import errno
import io
import logging
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console
from rich.text import Text

from mfjax.app.adopted import provenance_of
from mfjax.app.identity import flat, run_identity
from mfjax.app.session import experiment_name, is_multirun
from mfjax.app.table import Table
from mfjax.app.tables import figures_table
from mfjax.data.dataset import Dataset
from mfjax.reporting import course
from mfjax.reporting.expected import compare_figures
from mfjax.reporting.files import as_json, write_json
from mfjax.reporting.formats import printable
from mfjax.reporting.provenance import provenance
from mfjax.training.lanes import OnProgress
from mfjax.training.sweep import Sweep

log = logging.getLogger("mfjax")
PASTED = 76  # of lines to paste, without their margin and the mark of a line that goes on
WIDTH = 100  # of tables in files and pipes, which have no width of their own


class Output:
    """The standard output; what is written after the terminal has hung up is nobody's."""

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stdout, name)

    def write(self, text: str) -> None:
        _unless_gone(sys.stdout.write, text)

    def flush(self) -> None:
        _unless_gone(sys.stdout.flush)


def _unless_gone(function: Callable, *arguments: str) -> None:
    try:
        function(*arguments)
    except OSError as error:
        if error.errno != errno.EIO:
            raise


console = Console(file=Output(), width=None if sys.stdout.isatty() else WIDTH)


# lines


def say(line: str) -> None:
    """One line on the terminal and in the log."""
    _print(line)
    log.info(printable(line))


def warn(line: str) -> None:
    """A line that a reader must not miss."""
    _print(line, warning=True)
    log.warning(printable(line))


def _print(said: str, *, warning: bool = False) -> None:
    """Lines, on a terminal wrapped between words; a file has lines of any length."""
    if is_multirun():
        return
    head = "warning: " if warning else ""
    lines = printable(f"{head}{said}").splitlines()
    if console.is_terminal:
        lines = [part for line in lines for part in _wrapped(line, console.width)]
    text = Text("\n".join(lines))
    text.stylize("bold yellow", 0, len(head))
    console.print(text, soft_wrap=True)


def _wrapped(line: str, width: int) -> list[str]:
    if len(line) <= width:
        return [line]
    return textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False)


def say_to_paste(what: str, values: Mapping[str, Any], section: str = "") -> None:
    """Keys and values as a command line takes them, in lines that a shell joins."""
    pairs = to_paste(values, section)
    lines = textwrap.wrap(" ".join(pairs), PASTED, break_long_words=False, break_on_hyphens=False)
    say(f"{what}\n  " + " \\\n  ".join(lines))


def to_paste(values: Mapping[str, Any], section: str = "") -> list[str]:
    """`KEY=VALUE` of each, as a command line takes it."""
    return [f"{section}{key}={_written(value)}" for key, value in values.items()]


def _written(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_written, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def say_data(dataset: Dataset, start: str = "") -> None:
    """What was read: the line of the data in every run, and what was made of a file.

    Args:
      dataset: of the run.
      start: in words, where its factors start; empty where they are drawn, or written out.
    """
    low, high = dataset.scale
    shape = f"{dataset.num_users:,} users × {dataset.num_items:,} items"
    say(f"Data: {dataset.name}, {shape}, {len(dataset.value):,} ratings from {low:g} to {high:g}")
    if dataset.made_of:
        least, left_out = dataset.made_of
        say(f"  implicit: ratings of {least:g} or more, as 1; {left_out:,} others are left out")
    if start:
        say(f"  start: {start}")
    reading = dataset.reading
    if reading is None:
        return
    columns = ", ".join(f"{key} {name}" for key, name in reading.columns.items())
    say(f"  columns: {columns} ({reading.why}), {reading.rows:,} rows")
    first = ", ".join(f"{key} {value}" for key, value in reading.first.items())
    say(f"  first: {first}")
    for note in reading.notes:
        say(f"  {note}")
    for warning in reading.warnings:
        warn(warning)


# what takes a while


@contextmanager
def working(what: str) -> Iterator[None]:
    """A line of what is done now, and one a minute; on a terminal it goes when it is done."""
    _tell(what)
    with console.status(Text(printable(what))), course.waiting(what, _tell):
        yield


def progress(sweep: Sweep, what: str) -> AbstractContextManager[OnProgress]:
    """A bar on a terminal, and now and then a line in the log; elsewhere the line alone."""
    return course.progress(sweep, what, tell=_tell, console=console)


def _tell(line: str) -> None:
    """A line of the log; on a terminal something that moves is in its place."""
    if console.is_terminal:
        log.info(printable(line))
    else:
        say(line)


# tables


def show(table: Table) -> None:
    """Print a table, and write it to the log."""
    if not is_multirun():
        console.print(table.fitted(console.width))
    text = io.StringIO()
    Console(file=text, width=WIDTH).print(table.fitted(WIDTH))
    log.info("\n%s", text.getvalue())


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
    head = {
        "experiment": experiment_name(),
        "status": "finished",
        "seconds": {"total": time.perf_counter() - began},
    }
    values = flat(cfg)
    tail = {
        "run": run_identity(values),
        "provenance": provenance() | {"own": provenance_of(values)},
    }
    write_json(folder / "results.json", {**head, **content, **tail})
    as_expected = meets_expectations(cfg, as_json(figures))
    say(f"Files: {folder}")
    return as_expected


def meets_expectations(cfg: DictConfig, figures: Mapping[str, Any]) -> bool:
    """Show expected beside seen where the experiment states figures; False where one differs."""
    if not cfg.expected:
        return True
    rows = compare_figures(cfg.expected, figures)
    show(figures_table(rows))
    return all(row["status"] == "ok" for row in rows)
