"""Differences between methods, with their intervals."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mfjax.reporting.formats import in_figure
from mfjax.reporting.paired import LEVEL
from mfjax.reporting.style import (
    BLUE,
    GUIDE,
    VERMILLION,
    capitalized,
    legend_below,
    panels,
    styled,
)

WORSE: dict[str, Any] = {"color": VERMILLION, "marker": "s"}
NOT_WORSE: dict[str, Any] = {"color": BLUE, "marker": "o"}


@styled()
def forest(rows: Sequence[Any], label: str) -> Figure:
    """The difference of each run to the best, with its interval and that of every fold.

    Args:
      rows: those of `mfjax.reporting.report.table.compare`; one without a difference is left out,
        but for the best.
      label: what the column is called, such as `test RMSE`.

    Returns:
      One panel with a line a run, the best at 0.
    """
    best = [in_figure(row.name) for row in rows if row.is_best]
    to = best[0] if len(best) == 1 else "the best"
    shown = [row for row in rows if row.to_best is not None]
    title = f"{capitalized(label)} on the same test sets: difference to {to}"
    figure, (axes,) = panels(title, size=(7.5, 1.9 + 0.42 * len(shown)))
    axes.axvline(0, **GUIDE)
    for y, row in enumerate(shown):
        _draw_row(axes, y, row)
    axes.set_yticks(range(len(shown)), [in_figure(row.name) for row in shown])
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xlabel(f"{label}, less that of {to} (line: 95 % interval)")
    _legend(figure, axes)
    return figure


def _draw_row(axes: Axes, y: int, row: Any) -> None:
    of = row.to_best.interval
    is_worse = row.holm is not None and not row.is_not_worse
    style = WORSE if is_worse else NOT_WORSE
    below = np.full(len(row.by_fold), y + 0.25)
    axes.plot(row.by_fold, below, "|", color="0.4", markersize=7, label="a test set")
    axes.plot([of.mean], [y], linestyle="none", label=_label(row, is_worse), **style)
    if of.high is not None:
        axes.errorbar([of.mean], [y], xerr=of.high - of.mean, linestyle="none", **style)


def _label(row: Any, is_worse: bool) -> str:
    """What the mark of a mean says."""
    if row.holm is None:
        return "mean"
    return f"worse (p < {LEVEL})" if is_worse else f"not worse (p ≥ {LEVEL})"


def _legend(figure: Figure, axes: Axes) -> None:
    """Each label once."""
    seen: set[str] = set()
    for line in axes.lines:
        label = str(line.get_label())
        if label in seen:
            line.set_label("")
        seen.add(label)
    legend_below(figure, axes)
