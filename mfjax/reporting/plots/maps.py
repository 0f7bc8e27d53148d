"""Maps of what a run tried: how good settings, or jobs, are over what varies between them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mfjax.metrics import label, metric_of
from mfjax.reporting.formats import in_figure
from mfjax.reporting.plots.landscape import JOB, SETTING, Landscape, Scored, draw_landscape
from mfjax.reporting.style import (
    BLUE,
    DECADE,
    VERMILLION,
    Values,
    legend_below,
    panels,
    scale_y,
    styled,
)
from mfjax.training.protocol import Outcome, Setting
from mfjax.types import REPLICATES


@styled()
def heat_map(
    outcome: Outcome,
    axes: Mapping[str, Sequence[float]],
) -> Figure | None:
    """The choosing metric over the two axes with the most values, at the best of the others.

    Args:
      outcome: of `mfjax.tune`.
      axes: values of Hparams by their names, as `mfjax.grid` took them.

    Returns:
      Cells, or points where they fill no grid; a line over an only axis; None without any.
    """
    swept = {key: axes[key] for key in axes if key not in REPLICATES}
    keys = _varying(swept)
    named = _words(outcome)
    if not keys:
        return None
    if len(keys) == 1:
        return _profile(outcome, keys[0], named)
    points = [Scored(s.hparams, s.score) for s in outcome.settings]
    metric = metric_of(outcome.chosen_by)
    kind = SETTING._replace(best=outcome.best_is)
    return draw_landscape(Landscape(points, keys, metric, named, kind))


def _words(outcome: Outcome) -> str:
    """What chose, and that it chose along the way where settings were dropped."""
    fits = [fit for setting in outcome.settings for fit in setting.fits]
    any_dropped = any(fit.status.startswith("dropped") for fit in fits)
    note = " (to where each was dropped)" if any_dropped else ""
    return label(outcome.chosen_by) + note


@styled()
def jobs_map(
    rows: Sequence[Mapping[str, Any]],
    varied: Sequence[str],
    chosen_by: str,
) -> Figure | None:
    """A column of a multirun's jobs over the two keys with the most values, at the best of others.

    Args:
      rows: a row a job, with the keys that vary and the column; None: it failed.
      varied: the keys that vary.
      chosen_by: the column, such as `validation_rmse`.

    Returns:
      Cells, or points where they fill no grid; None of fewer than two keys with several values.
    """
    metric = metric_of(chosen_by)
    values = {key: _typed(rows, key) for key in varied}
    keys = _varying(values)
    if len(keys) < 2:
        return None
    points = []
    for i, row in enumerate(rows):
        value = row[chosen_by]
        score = np.inf if value is None else metric.sign * value
        of_job = {key: values[key][i] for key in varied}
        points.append(Scored(of_job, score))
    return draw_landscape(Landscape(points, keys, metric, label(chosen_by), JOB))


def _typed(rows: Sequence[Mapping[str, Any]], key: str) -> list[float] | list[str]:
    """The values of a key over the jobs: numbers where all are."""
    values = [row.get(key) for row in rows]
    try:
        return [float(value) for value in values]
    except (TypeError, ValueError):
        return [in_figure(str(value)) for value in values]


def _varying(values: Mapping[str, Sequence[Any]]) -> list[str]:
    """The keys of several values, those with the most first."""
    counts = {key: len(set(values[key])) for key in values}
    several = [key for key in counts if counts[key] > 1]
    return sorted(several, key=lambda key: -counts[key])


# over an only axis


def _profile(outcome: Outcome, key: str, named: str) -> Figure:
    """The choosing metric along one axis: every fit, the mean of each setting, what diverged."""
    column = outcome.chosen_by
    metric = metric_of(column)
    settings = sorted(outcome.settings, key=lambda setting: setting.hparams[key])
    alive = [setting for setting in settings if setting.alive]
    diverged = [setting for setting in settings if not setting.alive]
    figure, (axes,) = panels(f"Mean {named} by {key}", size=(6, 3.8))
    values = _draw_fits(axes, alive, key, column)
    means = [setting.criterion for setting in alive]
    axes.plot(_at(alive, key), means, "o-", color=BLUE, label="mean of the fits")
    if diverged:
        _draw_at_top(axes, _at(diverged, key))
    _ticks_of_values(axes, _at(settings, key))
    scale_y(axes, values, fenced=metric.better == "lower")
    axes.set_xlabel(key)
    axes.set_ylabel(f"{label(column)} ({metric.better} is better)")
    legend_below(figure, axes)
    return figure


def _at(settings: Sequence[Setting], key: str) -> list[float]:
    return [setting.hparams[key] for setting in settings]


def _draw_fits(axes: Axes, settings: Sequence[Setting], key: str, column: str) -> Values:
    """A dot a fit. Returns the values drawn."""
    pairs = [(setting, fit) for setting in settings for fit in setting.fits]
    at = [setting.hparams[key] for setting, _ in pairs]
    values = [fit.at_best(column) for _, fit in pairs]
    axes.plot(at, values, ".", color="0.6", label="a fit")
    return np.array(values, float)


def _draw_at_top(axes: Axes, at: Sequence[float]) -> None:
    """A cross for every setting of which a fit diverged, near the upper edge."""
    top = [0.95] * len(at)
    of_height = axes.get_xaxis_transform()
    axes.plot(at, top, "x", color=VERMILLION, transform=of_height, label="diverged")


def _ticks_of_values(axes: Axes, values: Sequence[float]) -> None:
    """A logarithmic x axis with a tick a value, where they ascend over more than a decade."""
    if 0 < DECADE * values[0] < values[-1]:
        axes.set_xscale("log")
        axes.set_xticks(values, [f"{value:g}" for value in values])
        axes.xaxis.minorticks_off()
