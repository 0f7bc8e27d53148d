"""Hydra's callback: a results.json of every job, and one summary of a multirun."""

import logging
import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from mfjax.app import terminal
from mfjax.app.drawing import saving_of
from mfjax.app.folders import LOCK, RESULTS, stands
from mfjax.app.measures import at_the_end
from mfjax.app.messages import short
from mfjax.app.sealed import ALL_TESTED, NOT_TESTED, SEALED, discard, unseal
from mfjax.app.session import as_written, ending
from mfjax.app.tables import jobs_table, rank_of
from mfjax.errors import InputError, Interrupted
from mfjax.reporting.files import write_csv, write_json
from mfjax.reporting.formats import printable
from mfjax.reporting.saving import Saving
from mfjax.training.whole import read_json
from mfjax.types import REPLICATES

log = logging.getLogger("mfjax")
ENDS = {"": "mean", "_low": "low", "_high": "high"}  # of a metric's columns
SAID = ("chosen", "conventions", "protocol")  # of a job's results, in its row
CHOICES = ("hparams", "optimizer", "method")  # whose keys may be tried lower or higher
NO_TEST = "it has no test ratings"


class Summary(Callback):
    """Gives every job its results.json, and the multirun its sweep.csv, a table and a heat map."""

    def __init__(self) -> None:
        self._job_began = 0.0

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """The summary is due at the end, even where a job fails, of which Hydra tells nothing."""
        folder = Path(config.hydra.sweep.dir)
        saving = None if config.plots.draw is False else saving_of(config)

        since = _written(folder / LOCK)  # which its owner has just written

        def at_the_end(kind: Any, error: BaseException | None, trace: Any) -> None:
            is_whole = not isinstance(error, Interrupted | KeyboardInterrupt)
            if began_since(since, folder):
                summarise(folder, config.choose_by, saving, is_whole=is_whole)

        ending.get().push(at_the_end)

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        self._job_began = time.time()

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """A job of a multirun that failed says so in its results, and in its log."""
        in_multirun = config.hydra.mode == RunMode.MULTIRUN
        if job_return.status != JobStatus.FAILED or not in_multirun:
            return
        error = job_return._return_value
        reason = short(error)
        log.error(printable(reason))
        error.add_note(f"job {config.hydra.job.num}")
        path = Path(config.hydra.runtime.output_dir) / RESULTS
        is_its_own = path.exists() and path.stat().st_mtime >= self._job_began
        if is_its_own or not stands(path.parent):
            found = read_json(path) if is_its_own else {}
            write_json(path, {"status": "failed", "reason": reason} | found)
        else:  # what stands there is of another launch
            os.utime(asked(path.parent), (0, 0))


class Best(NamedTuple):
    """The job that is chosen, and the column by which."""

    job: str
    column: str


def summarise(
    folder: Path, choose_by: str, saving: Saving | None, *, is_whole: bool = True
) -> None:
    """Write sweep.csv, draw the heat map of the two numbers that vary most, show the best jobs.

    Args:
      folder: of the multirun.
      choose_by: the column that chooses.
      saving: None: nothing is drawn.
      is_whole: whether the jobs came to their end; else none is chosen yet.
    """
    by = (choose_by, of_part("test", choose_by))
    best = choose(folder, choose_by) if is_whole else None
    rows = job_rows(folder, by)
    if not rows:
        return
    write_csv(folder / "sweep.csv", rows)
    varied = varied_keys(rows, by)
    terminal.show(jobs_table(rows, varied, by))
    if saving is not None:
        _draw(folder, rows, varied, choose_by, saving)
    _say_shared(rows)
    if best is not None:
        _say_chosen(best, rows, varied, by[1])
    elif any(ALL_TESTED in str(row["protocol"]) for row in rows):
        terminal.say(f"Tested: {ALL_TESTED}")
    terminal.say(f"Files: {folder / 'sweep.csv'}")


def _say_chosen(
    best: Best, rows: Sequence[Mapping[str, Any]], varied: Sequence[str], tested_by: str
) -> None:
    """The chosen job with its setting, and what to try next."""
    (row,) = (row for row in rows if row["job"] == best.job)
    tested = NO_TEST if row[tested_by] is None else "the one that is tested"
    terminal.say(f"Chosen: job {best.job}, by {best.column}; {tested}")
    if row["chosen"]:
        terminal.say(f"  {row['chosen']}")
    if at_ends := ends_of_axes(rows, varied, best.job):
        terminal.say(f"Remark: {'; '.join(at_ends)}")


def _say_shared(rows: Sequence[Mapping[str, Any]]) -> None:
    """The conventions and the protocol, where all finished jobs have the same."""
    finished = [row for row in rows if row["status"] == "finished"]
    for key in ("conventions", "protocol"):
        of_jobs = {str(row[key]).replace(f"; {NOT_TESTED}", "") for row in finished if row[key]}
        if len(of_jobs) == 1:
            terminal.say(f"{key.capitalize()}: {of_jobs.pop()}")


def ends_of_axes(
    rows: Sequence[Mapping[str, Any]], varied: Sequence[str], chosen: str
) -> list[str]:
    """A line a key of which the chosen job has the least or the greatest value that was tried."""
    said = []
    for key in varied:
        section, _, name = key.rpartition(".")
        tried = _numbers(rows, key)
        if section in CHOICES and name not in REPLICATES and chosen in tried:
            named = key.removeprefix("hparams.")
            said += at_the_end(named, tried[chosen], list(tried.values()))
    return said


def _numbers(rows: Sequence[Mapping[str, Any]], key: str) -> dict[str, float]:
    """The values of a key by job; none where one is no number."""
    try:
        return {row["job"]: float(row[key]) for row in rows if key in row}
    except ValueError:
        return {}


def choose(folder: Path, column: str) -> Best | None:
    """Unseal what the best finished job measured on the test ratings, and forget the others'.

    Args:
      folder: of the multirun.
      column: what chooses; where no job has it, as nothing was held out, the same metric of the
        training ratings.

    Returns:
      None where nothing is sealed, as with `test=all`.
    """
    training = of_part("train", column)
    rows = job_rows(folder, (column, training))
    sealed = [row["job"] for row in rows if (folder / row["job"] / SEALED).is_file()]
    if not sealed:
        return None
    best = best_of(rows, column)
    for job in sealed:
        if best is None or job != best.job:
            discard(folder / job)
    if best is not None:
        unseal(folder / best.job)
    return best


def best_of(rows: Sequence[Mapping[str, Any]], column: str) -> Best | None:
    """The best job by `column`, which those without it cannot be; None where none was measured.

    Where no row has it, as nothing was held out, the same metric of the training ratings chooses.
    """
    by = of_part("train", column) if all(row[column] is None for row in rows) else column
    measured = [row for row in rows if row[by] is not None]
    best = min(measured, key=rank_of(by), default=None)
    return None if best is None else Best(best["job"], by)


def of_part(part: str, column: str) -> str:
    """The column of the same metric on another part of the ratings."""
    _, _, metric = column.partition("_")
    return f"{part}_{metric}"


def job_rows(folder: Path, by: Sequence[str]) -> list[dict[str, Any]]:
    """A row a job that has results: its overrides, and the columns `by` with their intervals.

    In the order of the jobs.
    """
    rows = [_job_row(path, by) for path in launched(folder)]
    return sorted(rows, key=_number)


def launched(folder: Path) -> list[Path]:
    """The results of the jobs of a multirun's launch, or of its study: of no other before it.

    A sweeper writes multirun.yaml before its jobs; one that goes on with a study leaves it be.
    """
    return began_since(_written(folder / "multirun.yaml"), folder)


def began_since(time: int, folder: Path) -> list[Path]:
    """The results of the jobs in a multirun's folder that began at a time or later."""
    results = folder.glob(f"*/{RESULTS}")
    return [path for path in results if _written(asked(path.parent)) >= max(time, 1)]


def asked(folder: Path) -> Path:
    """The overrides of a job, which Hydra writes as it begins."""
    return folder / ".hydra" / "overrides.yaml"


def _written(path: Path) -> int:
    """When a file was written, in nanoseconds; 0 where it is not there."""
    return path.stat().st_mtime_ns if path.is_file() else 0


def _job_row(path: Path, by: Sequence[str]) -> dict[str, Any]:
    results: dict[str, Any]
    try:
        results = read_json(path)
    except InputError as error:
        results = {"status": "damaged", "reason": str(error)}
    status = results.get("status", "finished")
    metrics = results.get("metrics", {}) if status == "finished" else {}
    intervals = {
        f"{column}{end}": metrics.get(column, {}).get(part)
        for column in by
        for end, part in ENDS.items()
    }
    return {
        "job": path.parent.name,
        **_overrides(path.parent),
        **intervals,
        **{key: _in_words(results.get(key)) for key in SAID},
        "status": status,
        "reason": results.get("reason"),
    }


def _in_words(said: Any) -> Any:
    """A section of results as it would be written on the command line."""
    if not isinstance(said, dict):
        return said
    return " ".join(terminal.to_paste(said))


def _overrides(folder: Path) -> dict[str, str]:
    """A job's own keys and values."""
    lines = [as_written(str(one)) for one in OmegaConf.load(asked(folder))]
    parted = (line.partition("=") for line in lines)
    return {key.lstrip("+~"): value for key, _, value in parted if key != "job"}


def _number(row: Mapping[str, Any]) -> list[int | str]:
    parts = re.split(r"(\d+)", row["job"])
    return [int(part) if part.isdigit() else part for part in parts]


def varied_keys(rows: Sequence[Mapping[str, Any]], by: Sequence[str]) -> list[str]:
    """The keys in whose overrides the jobs differ."""
    outcome = {"job", "status", "reason", *SAID}
    outcome |= {f"{column}{end}" for column in by for end in ENDS}
    keys = dict.fromkeys(key for row in rows for key in row)
    own = [key for key in keys if key not in outcome]
    return [key for key in own if len({row.get(key) for row in rows}) > 1]


def _draw(
    folder: Path,
    rows: Sequence[Mapping[str, Any]],
    varied: Sequence[str],
    column: str,
    saving: Saving,
) -> None:
    from mfjax.reporting import plots

    if figure := plots.jobs_map(rows, varied, column):
        plots.save(figure, folder, "heat_map", saving)
