"""Curves by epoch: of one outcome, and of several side by side."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mfjax.metrics import label, metric_of, of_training
from mfjax.reporting.formats import in_figure
from mfjax.reporting.style import (
    BLUE,
    THIN,
    Values,
    legend_below,
    line_style,
    panels,
    scale_y,
    styled,
)
from mfjax.training.lanes import Fit
from mfjax.training.protocol import Outcome

LOSS = "loss"
FEW_EPOCHS = 25  # are marked one by one


@styled()
def learning_curves(outcome: Outcome) -> Figure:
    """The curves of the best setting by epoch, each in a panel of its own scale.

    The metric that chose on the validation ratings, where any are held out, with the other
    settings in grey; the same metric on the training ratings; and the objective.

    Args:
      outcome: of `mfjax.tune`.

    Returns:
      A panel a curve: the mean of the fits, and a band that holds them.
    """
    fits = outcome.chosen.fits
    validated = _is_validated(outcome)
    columns = _columns(outcome, validated=validated)
    names = [_name(column) for column in columns]
    if not outcome.pooled:
        names[0] += " (chooses)"
    figure, row = _by_epoch(_title(outcome), columns, names)
    _draw_others(row[0], outcome)
    style = {"color": BLUE, "label": f"{outcome.best_is} setting"}
    for axes, column in zip(row, columns, strict=True):
        _fit_scale(axes, column, _draw_curve(axes, fits, column, style))
        if validated:
            _mark_best(axes, fits, column)
    legend_below(figure, row[0])
    return figure


@styled()
def side_by_side(curves: Mapping[str, Outcome]) -> Figure:
    """The curves by epoch of each outcome's best setting: as `learning_curves`, of all at once.

    Args:
      curves: outcomes by what to call them; the metric is the one that chose in the first.

    Returns:
      A panel a curve, and in it a line an outcome.
    """
    curves = {in_figure(name): outcome for name, outcome in curves.items()}
    first = next(iter(curves.values()))
    validated = any(map(_is_validated, curves.values()))
    columns = _columns(first, validated=validated)
    over = {_over(outcome.chosen.fits) for outcome in curves.values()}
    title = f"Side by side: {', '.join(curves)}\n{' or '.join(sorted(over))}"
    figure, row = _by_epoch(title, columns, [_name(column) for column in columns])
    for axes, column in zip(row, columns, strict=True):
        _fit_scale(axes, column, _draw_each(axes, curves, column))
    legend_below(figure, row[-1])
    return figure


# panels


def _is_validated(outcome: Outcome) -> bool:
    return outcome.chosen_by.startswith("validation_")


def _columns(outcome: Outcome, *, validated: bool) -> list[str]:
    """The column of each panel, by the metric that chose."""
    _, _, metric = outcome.chosen_by.partition("_")
    validation = [f"validation_{metric}"] if validated else []
    return [*validation, of_training(outcome.chosen_by), LOSS]


def _by_epoch(
    title: str,
    columns: Sequence[str],
    names: Sequence[str],
) -> tuple[Figure, list[Axes]]:
    """A panel a column, all by epoch."""
    size = (0.6 + 3.5 * len(columns), 4)
    figure, row = panels(title, names, size, sharex=True)
    row[0].xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    for axes, column in zip(row, columns, strict=True):
        axes.set(xlabel="epoch", ylabel=_axis(column))
    return figure, row


def _fit_scale(axes: Axes, column: str, values: Values) -> None:
    """Fit the y axis to a column's values, of errors without those that are far too large."""
    fenced = column != LOSS and metric_of(column).better == "lower"
    scale_y(axes, values, fenced=fenced)


# words


def _name(column: str) -> str:
    return "objective (minimised)" if column == LOSS else label(column)


def _axis(column: str) -> str:
    """What the y axis of a column is called."""
    if column == LOSS:
        return "objective (loss)"
    metric = metric_of(column)
    return f"{metric.label} ({metric.better} is better)"


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
    return f"Learning curves of the {outcome.best_is} setting{values}\n{_over(chosen.fits)}"


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
        axes.fill_between(epochs, low, high, facecolor=inside, edgecolor=edge, linewidth=THIN)
    return values.ravel()


def _draw_each(axes: Axes, curves: Mapping[str, Outcome], column: str) -> Values:
    """A curve an outcome. Returns the values drawn."""
    drawn = []
    for i, (name, outcome) in enumerate(curves.items()):
        style = line_style(i) | {"label": name}
        drawn.append(_draw_curve(axes, outcome.chosen.fits, column, style))
    return np.concatenate(drawn)


def _draw_others(axes: Axes, outcome: Outcome) -> None:
    """The mean curve of every other setting, in grey."""
    style = {"color": "0.75", "linewidth": THIN, "zorder": 1, "label": "other settings"}
    for setting in outcome.settings[1:]:
        epochs, values = _series(setting.fits, outcome.chosen_by)
        axes.plot(epochs, values.mean(axis=0), **style)
        style["label"] = None  # once in the legend


def _mark_best(axes: Axes, fits: Sequence[Fit], column: str) -> None:
    """A ring at the best epoch of every fit."""
    best = [fit for fit in _shown(fits) if fit.best_epoch]
    if best:
        epochs = [fit.best_epoch for fit in best]
        values = [fit.at_best(column) for fit in best]
        ring = {"color": "black", "mfc": "white", "label": "best epoch of a fit"}
        axes.plot(epochs, values, "o", **ring)
