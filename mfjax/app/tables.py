"""The tables of a run's and of a multirun's end."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mfjax.app.table import Row, Table
from mfjax.metrics import PARTS, label, metric_of, part_of
from mfjax.reporting.expected import COLUMNS
from mfjax.reporting.formats import Shown, cells
from mfjax.reporting.statistics import Interval
from mfjax.training.protocol import Outcome, Setting

# those of a training run


def settings_table(outcome: Outcome, axes: Sequence[str], most: int = 5) -> Table:
    """The best settings, a row each."""
    named = label(outcome.chosen_by)
    settings = in_words(outcome.settings)
    of_all = f"{settings}, pooled" if outcome.pooled else f"Best of {settings}"
    keys = [key for key in axes if key in outcome.chosen.hparams]
    swept = keys or ["setting"]
    return Table(
        title=f"{of_all}, by mean {named}",
        headings=[*swept, named, "lanes", "best epoch", "status"],
        rows=[_setting_cells(setting, keys) for setting in outcome.settings[:most]],
        groups=[[named, *swept, "status"], ["best epoch"], ["lanes"]],
        text=["setting", "status"],
        file="lanes.csv",
    )


def in_words(settings: Sequence[Setting]) -> str:
    """How many there are."""
    count = len(settings)
    return f"{count} setting{'s' * (count > 1)}"


def _setting_cells(setting: Setting, keys: Sequence[str]) -> Row:
    values = [f"{setting.hparams[key]:g}" for key in keys]
    best_epochs = [str(fit.best_epoch) for fit in setting.fits[:5]]
    return [
        *(values or ["as configured"]),
        f"{setting.criterion:.5f}" if setting.alive else "–",
        str(len(setting.fits)),
        "/".join(best_epochs),
        _status(setting),
    ]


def _status(setting: Setting) -> str:
    """Of the first fit that came to grief, or else of all."""
    for fit in setting.fits:
        if fit.status.startswith(("diverged", "dropped")):
            return fit.status
    return "finished"


def metrics_table(metrics: Mapping[str, Interval], outcome: Outcome) -> Table:
    """Mean and 95 % interval of each metric, by the fits that they are of."""
    title = "The chosen setting"
    if outcome.pooled:
        title = "The pooled settings"
        of_fits = {"chains apart": ("validation",), "pooled chains": ("train", "test")}
    elif outcome.refitted:
        of_fits = {"validation fit": ("validation",), "refit": ("train", "test")}
    else:
        of_fits = {"fit": PARTS}
    rows = []
    for fit, parts in of_fits.items():
        head = fit  # in the first row alone
        for column in (column for part in parts for column in metrics if part_of(column) == part):
            if metrics[column].mean is not None:
                rows.append([head, label(column), *_interval_cells(metrics[column])])
                head = ""
    headings = ["of the", "metric", "mean", "95 % interval", "n"]
    return Table(title, headings, rows, text=["of the", "metric"])


def tests_table(rows: Sequence[Mapping[str, Any]]) -> Table | None:
    """A row a test fold, and how many of its ratings are cold; None where there is one alone."""
    if len({row["test_fold"] for row in rows}) < 2 and not any(row["cold_ratings"] for row in rows):
        return None
    shown = {
        "split_seed": Shown("split_seed"),
        "test fold": Shown("test_fold"),
        "ratings": Shown("test_ratings", ","),
        **{label(column): Shown(column, ".5f") for column in _of_test(rows)},
        "cold users": Shown("cold_users", ","),
        "items": Shown("cold_items", ","),
        "their ratings": Shown("cold_ratings", ","),
        f"{label('test_rmse')}, cold": Shown("test_rmse_cold", ".5f"),
    }
    first, *others = (label(column) for column in _of_test(rows))
    return Table(
        title="Test folds",
        headings=list(shown),
        rows=[cells({key: _or_none(of_key) for key, of_key in row.items()}, shown) for row in rows],
        groups=[["split_seed", "test fold", first, "ratings"], others, list(shown)[-4:]],
        file="results.json",
    )


def _of_test(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return [column for column in rows[0] if part_of(column) == "test"]


def baselines_table(baselines: Mapping[str, Interval]) -> Table | None:
    """What every reader compares with; None where nothing is tested."""
    rows = [
        [name, *_interval_cells(rmse)] for name, rmse in baselines.items() if rmse.mean is not None
    ]
    headings = ["baseline", label("test_rmse"), "95 % interval", "n"]
    return Table("Baselines", headings, rows, text=["baseline"]) if rows else None


def _or_none(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def _interval_cells(value: Interval) -> Row:
    span = "–" if value.low is None else f"{value.low:.5f} to {value.high:.5f}"
    return [f"{value.mean:.5f}", span, str(value.n)]


# that of a multirun


def jobs_table(
    rows: Sequence[Mapping[str, Any]], varied: Sequence[str], by: Sequence[str], most: int = 10
) -> Table:
    """The best jobs of a multirun, then those that failed, with their reason.

    `by` are the columns to show, the first of which ranks.
    """
    finished = [row for row in rows if row["status"] == "finished"]
    failed = [row for row in rows if row["status"] != "finished"]
    finished.sort(key=rank_of(by[0]))
    shown = {label(column): Shown(column, ".5f") for column in by}
    keys = [key.removeprefix("hparams.") for key in varied]
    chooses, *others = shown
    listed = finished[:most] + failed[:most]
    chose = _chose(listed, keys)
    chose_too = ["chose"] * any(chose)
    return Table(
        title=f"Best of {len(rows)} jobs, {len(failed)} of them failed",
        headings=["job", *keys, *shown, *chose_too, "status"],
        rows=[
            _job_cells(row, varied, shown, [said] * any(chose))
            for row, said in zip(listed, chose, strict=True)
        ],
        groups=[["job", chooses, "status", *keys], others, chose_too],
        text=["chose", "status"],
        file="sweep.csv",
    )


def _chose(rows: Sequence[Mapping[str, Any]], told: Sequence[str]) -> list[str]:
    """What each job chose, of what the jobs differ in and no other column tells."""
    settings = [_unpasted(row.get("chosen") or "") for row in rows]
    keys = dict.fromkeys(key for setting in settings for key in setting if key not in told)
    values = {key: {setting[key] for setting in settings if key in setting} for key in keys}
    differ = [key for key in keys if len(values[key]) > 1]
    return [
        " ".join(f"{key}={_short(setting[key])}" for key in differ if key in setting)
        for setting in settings
    ]


def _unpasted(pairs: str) -> dict[str, str]:
    """The values of `KEY=VALUE KEY=VALUE …` by their keys."""
    parted = (pair.partition("=") for pair in pairs.split())
    return {key: value for key, _, value in parted}


def rank_of(column: str) -> Callable[[Mapping[str, Any]], float]:
    """What sorts the rows of jobs by a column, the best first; those without a value last."""

    def rank(row: Mapping[str, Any]) -> float:
        value = row[column]
        return math.inf if value is None else metric_of(column).sign * value

    return rank


def _job_cells(
    row: Mapping[str, Any],
    varied: Sequence[str],
    shown: Mapping[str, Shown],
    chose: Sequence[str],
) -> list[str]:
    values = [_short(row.get(key, "")) for key in varied]
    reason = str(row["reason"]).splitlines()
    status = row["status"] if row["status"] == "finished" else reason[0]
    return [str(row["job"]), *values, *cells(row, shown), *chose, status]


def _short(value: str) -> str:
    """An override's value, a number with as many digits as a reader can use."""
    try:
        return f"{float(value):.5g}"
    except ValueError:
        return value


# that of figures which a run must reproduce


def figures_table(rows: Sequence[Mapping[str, str]]) -> Table:
    """Expected beside seen, a figure a row."""
    return Table(
        title="Expected and seen",
        headings=COLUMNS,
        rows=[[row[heading] for heading in COLUMNS] for row in rows],
        groups=[["figure", "status", "seen", "expected", "tolerance"]],
        text=["figure", "status"],
    )
