"""How good runs are against what they took: seconds, or factors."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mfjax.reporting.formats import in_figure
from mfjax.reporting.style import (
    DECADE,
    capitalized,
    legend_below,
    line_style,
    log_ticks,
    panels,
    styled,
)

MARKERS = "osv^D"


@styled()
def against(
    rows: Sequence[Any],
    at: Sequence[float],
    groups: Sequence[str],
    *,
    what: str,
    label: str,
) -> Figure:
    """The mean of each run with its interval, over what it took, a line a group.

    Args:
      rows: those of `mfjax.reporting.report.table.compare`.
      at: what each took, above 0; logarithmic over more than a decade.
      groups: of each row, what to call its line: a method of several ranks, or a run.
      what: is measured by `at`, such as `seconds of training`.
      label: what the column is called, such as `test RMSE`.

    Returns:
      One panel; of one test set a mean has no interval.
    """
    figure, (axes,) = panels(f"{capitalized(label)} by {what}", size=(7, 4.2))
    for i, group in enumerate(dict.fromkeys(groups)):
        own = [place for place in range(len(rows)) if groups[place] == group]
        own.sort(key=lambda place: at[place])
        intervals = [rows[place].interval for place in own]
        means = np.array([of.mean for of in intervals], float)
        highs = np.array([of.high for of in intervals], float)  # NaN of None
        style = line_style(i) | {"marker": MARKERS[i % len(MARKERS)]}
        xs = [at[place] for place in own]
        axes.plot(xs, means, label=in_figure(group), **style)
        axes.errorbar(xs, means, yerr=highs - means, color=style["color"], linestyle="none")
    if max(at) > DECADE * min(at):
        axes.set_xscale("log")
        log_ticks(axes.xaxis)
    else:
        axes.set_xlim(left=0)
    axes.set(xlabel=what, ylabel=f"{label} (line: 95 % interval)")
    legend_below(figure, axes)
    return figure
