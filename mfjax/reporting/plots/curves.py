"""Curves by epoch: of one outcome, and of several side by side."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mfjax.metrics import Metric, label, metric_of
from mfjax.reporting.plots.style import (
    BLUE,
    VERMILLION,
    Values,
    legend_below,
    line_style,
    panels,
    scale_y,
)
from mfjax.training.lanes import Fit
from mfjax.training.protocol import Outcome

PARTS = {
    "train": {"color": BLUE, "linestyle": "--"},
    "validation": {"color": VERMILLION, "linestyle": "-"},
}
OBJECTIVE = "objective, which training minimises"
FEW_EPOCHS = 25  # are marked one by one


def learning_curves(outcome: Outcome) -> Figure:
    """The curves of the chosen setting by epoch, of the metric that chose and of the objective.

    The other settings lie behind them in grey.
    """
    fits = outcome.chosen.fits
    metric = metric_of(outcome.chosen_by)
    words = _words(metric)
    title = _title(outcome)
    figure, (left, right) = panels(title, (words.title, OBJECTIVE), sharex=True)
    _draw_others(left, outcome)
    drawn = []
    for part, column in _columns(outcome.chosen_by).items():
        style = PARTS[part] | {"label": label(column)}
        drawn.append(_draw_curve(left, fits, column, style))
    scale_y(left, np.concatenate(drawn), fenced=metric.better == "lower")
    scale_y(right, _draw_curve(right, fits, "loss", {"color": BLUE}))
    if outcome.chosen_by.startswith("validation_"):
        _mark_best(left, fits, outcome.chosen_by)
        _mark_best(right, fits, "loss")
    _by_epoch(figure, (left, right), words.axis)
    return figure


def side_by_side(curves: Mapping[str, Outcome]) -> Figure:
    """Training by epoch of each outcome's chosen setting: a metric, and the objective.

    The metric is the one that chose in the first outcome.
    """
    first = next(iter(curves.values()))
    metric = metric_of(first.chosen_by)
    words = _words(metric)
    over = {_over(outcome.chosen.fits) for outcome in curves.values()}
    title = f"Training by {', '.join(curves)}\n{' or '.join(sorted(over))}"
    names = (f"{words.title} on the training ratings", OBJECTIVE)
    figure, (left, right) = panels(title, names, sharex=True)
    of_metric = _draw_each(left, curves, _columns(first.chosen_by)["train"])
    scale_y(left, of_metric, fenced=metric.better == "lower")
    scale_y(right, _draw_each(right, curves, "loss"))
    _by_epoch(figure, (left, right), words.axis)
    return figure


# words


class Words(NamedTuple):
    """What a panel of a metric, and its axis, are called."""

    title: str
    axis: str


def _words(metric: Metric) -> Words:
    if "error" in metric.needs:
        return Words("errors", f"{metric.label} (in units of the ratings)")
    return Words(metric.label, f"{metric.label} ({metric.better} is better)")


def _columns(chosen_by: str) -> dict[str, str]:
    """The column of each of `PARTS` with the metric that chose."""
    _, _, metric = chosen_by.partition("_")
    return {part: f"{part}_{metric}" for part in PARTS}


def _title(outcome: Outcome) -> str:
    """Which setting the curves are of, by what was swept, and what they are over."""
    chosen = outcome.chosen
    others = outcome.settings[1:]
    swept = [
        f"{key} {value:.4g}"
        for key, value in chosen.hparams.items()
        if any(setting.hparams[key] != value for setting in others)
    ]
    values = f": {', '.join(swept)}" if swept else ""
    return f"Learning curves of the chosen setting{values}\n{_over(chosen.fits)}"


def _over(fits: Sequence[Fit]) -> str:
    """What the curves of these fits are, in words."""
    n = len(_shown(fits))
    over = f"mean of {n} fits, band from least to greatest" if n > 1 else "one fit"
    diverged = sum(not fit.alive for fit in fits)
    return f"{over} ({diverged} of {len(fits)} diverged)" if diverged else over


# curves


class Series(NamedTuple):
    """A column by epoch: the epochs at which any fit has it, and NaN where a fit has none."""

    epochs: Int[np.ndarray, " epochs"]
    values: Float[np.ndarray, "fits epochs"]


def _shown(fits: Sequence[Fit]) -> Sequence[Fit]:
    """The fits that did not diverge, or all where every one did."""
    return [fit for fit in fits if fit.alive] or fits


def _series(fits: Sequence[Fit], column: str) -> Series:
    histories = [fit.history[column] for fit in _shown(fits)]
    longest = max(map(len, histories))
    values = np.full((len(histories), longest), np.nan)
    for row, history in zip(values, histories, strict=True):
        row[: len(history)] = history
    values[~np.isfinite(values)] = np.nan
    is_evaluated = np.isfinite(values).any(axis=0)
    return Series(np.flatnonzero(is_evaluated) + 1, values[:, is_evaluated])


def _draw_curve(
    axes: Axes,
    fits: Sequence[Fit],
    column: str,
    style: Mapping[str, Any],
) -> Values:
    """Draw the mean over the fits, where all have a value, and the band that holds them.

    Returns the values drawn.
    """
    epochs, values = _series(fits, column)
    if len(epochs):
        marker = "." if len(epochs) <= FEW_EPOCHS else ""
        mean = values.mean(axis=0)
        axes.plot(epochs, mean, marker=marker, **style)
        low = np.nanmin(values, axis=0)
        high = np.nanmax(values, axis=0)
        inside = (style["color"], 0.2)
        edge = (style["color"], 0.5)
        axes.fill_between(epochs, low, high, facecolor=inside, edgecolor=edge, linewidth=0.8)
    return values.ravel()


def _draw_each(axes: Axes, curves: Mapping[str, Outcome], column: str) -> Values:
    """A curve an outcome. Returns the values drawn."""
    drawn = []
    for i, (name, outcome) in enumerate(curves.items()):
        style = line_style(i) | {"label": name}
        drawn.append(_draw_curve(axes, outcome.chosen.fits, column, style))
    return np.concatenate(drawn)


def _draw_others(axes: Axes, outcome: Outcome) -> None:
    """The mean curve of every setting that was not chosen, in grey."""
    style = {"color": "0.75", "linewidth": 0.8, "zorder": 1}
    style["label"] = f"{label(outcome.chosen_by)} of other settings"
    for setting in outcome.settings[1:]:
        epochs, values = _series(setting.fits, outcome.chosen_by)
        axes.plot(epochs, values.mean(axis=0), **style)
        style["label"] = None  # once in the legend


def _mark_best(axes: Axes, fits: Sequence[Fit], column: str) -> None:
    """A ring at the best epoch of every fit."""
    best = [fit for fit in _shown(fits) if fit.best_epoch]
    epochs = [fit.best_epoch for fit in best]
    values = [fit.at_best(column) for fit in best]
    named = "best epoch of a fit"
    axes.plot(epochs, values, "o", color="black", mfc="white", label=named)


def _by_epoch(figure: Figure, both: tuple[Axes, Axes], metric_axis: str) -> None:
    """Label a panel of a metric and one of the objective, and put their legend below them."""
    left, right = both
    left.set(xlabel="epoch", ylabel=metric_axis)
    right.set(xlabel="epoch", ylabel="objective (loss)")
    left.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    legend_below(figure, left, ncols=4, fontsize="small")
