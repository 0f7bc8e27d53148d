"""Hydra's callback: a results.json of every job, and one summary of a multirun.

Importing it loads no jax: Hydra makes the callback before it composes a config.
"""

import atexit
import json
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from mfjax.app.drawing import saving_of
from mfjax.reporting.saving import Saving

log = logging.getLogger("mfjax")
ENDS = {"": "mean", "_low": "low", "_high": "high"}  # of a metric's columns


class Summary(Callback):
    """Gives every job its results.json, and the multirun its sweep.csv, a table and a heat map."""

    def __init__(self) -> None:
        self._write: Callable[[], None] | None = None
        self._job_began = 0.0

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """The summary is due even where a job fails, after which Hydra calls no more.

        Then it is written as the process ends.
        """
        folder = Path(config.hydra.sweep.dir)
        saving = None if config.plots.draw is False else saving_of(config)
        choose_by = config.choose_by
        self._write = lambda: summarise(folder, choose_by, saving)
        atexit.register(self._write)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        if self._write is not None:
            atexit.unregister(self._write)
            self._write()

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        self._job_began = time.time()

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """A job of a multirun that failed says so in its results, and in its log."""
        in_multirun = config.hydra.mode == RunMode.MULTIRUN
        if job_return.status != JobStatus.FAILED or not in_multirun:
            return
        from mfjax.reporting.files import write_json

        reason = str(job_return._return_value)
        log.error(reason)
        path = Path(config.hydra.runtime.output_dir) / "results.json"
        is_its_own = path.exists() and path.stat().st_mtime >= self._job_began
        found = json.loads(path.read_text()) if is_its_own else {}
        write_json(path, {"status": "failed", "reason": reason} | found)


def summarise(folder: Path, choose_by: str, saving: Saving | None) -> None:
    """Write sweep.csv, draw the heat map of the two numbers that vary most, show the best jobs.

    Nothing is drawn where `saving` is None.
    """
    from mfjax.app import terminal
    from mfjax.app.tables import jobs_table
    from mfjax.reporting.files import write_csv

    by = (choose_by, tested(choose_by))
    rows = job_rows(folder, by)
    if not rows:
        return
    write_csv(folder / "sweep.csv", rows)
    varied = varied_keys(rows, by)
    terminal.show(jobs_table(rows, varied, by))
    if saving is not None:
        _draw(folder, rows, varied, choose_by, saving)
    terminal.say(f"Files: {folder / 'sweep.csv'}")


def tested(column: str) -> str:
    """The column of the same metric on the test ratings."""
    _, _, metric = column.partition("_")
    return f"test_{metric}"


def job_rows(folder: Path, by: Sequence[str]) -> list[dict[str, Any]]:
    """A row a job that has results: its overrides, and the columns `by` with their intervals.

    In the order of the jobs.
    """
    rows = [_job_row(path, by) for path in folder.glob("*/results.json")]
    return sorted(rows, key=_number)


def _job_row(path: Path, by: Sequence[str]) -> dict[str, Any]:
    results = json.loads(path.read_text())
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
        "status": status,
        "reason": results.get("reason"),
    }


def _overrides(folder: Path) -> dict[str, str]:
    """A job's own keys and values."""
    lines = [str(one) for one in OmegaConf.load(folder / ".hydra" / "overrides.yaml")]
    parted = (line.partition("=") for line in lines)
    return {key.lstrip("+~"): value for key, _, value in parted if key != "job"}


def _number(row: Mapping[str, Any]) -> list[int | str]:
    parts = re.split(r"(\d+)", row["job"])
    return [int(part) if part.isdigit() else part for part in parts]


def varied_keys(rows: Sequence[Mapping[str, Any]], by: Sequence[str]) -> list[str]:
    """The keys in whose overrides the jobs differ."""
    outcome = {"job", "status", "reason"}
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
