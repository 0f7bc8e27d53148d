"""Every setting of a sweep as a line over its hyperparameters, to how good it is."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mfjax.metrics import label, metric_of
from mfjax.reporting.style import (
    DECADE,
    GUIDE,
    SMALL,
    VERMILLION,
    Values,
    legend_below,
    panels,
    styled,
    value_range,
    with_width,
)
from mfjax.types import REPLICATES, Hparams

MOST_TICKS = 7  # values of a key that are written one by one

Points = Float[np.ndarray, "settings keys"]


class Scale(NamedTuple):
    """Where values stand on an upright axis, from 0 to 1, and what is written beside it."""

    low: float
    high: float
    is_log: bool
    ticks: Values

    def place(self, values: Values) -> Values:
        """From 0 at the low end to 1 at the high end, and there where a value lies beyond."""
        scaled = np.log if self.is_log else np.asarray
        low, high = scaled(self.low), scaled(self.high)
        return np.clip((scaled(values) - low) / (high - low), 0, 1)


@styled()
def parallel(rows: Sequence[Mapping[str, Any]], column: str) -> Figure | None:
    """The settings of a sweep in parallel coordinates, the best in colour and on top.

    Args:
      rows: those of a lanes.csv that are of the sweep; None where a value is not known.
      column: that chose, such as `validation_rmse`; a setting has the mean of its fits.

    Returns:
      An axis a hyperparameter that varies, and one of the column; None of fewer than two.
    """
    keys = _varying(rows)
    if len(keys) < 2:
        return None
    points, scores = _settings(rows, keys, column)
    title = f"{len(points)} settings, in the colour of their mean {label(column)}"
    figure, (axes,) = panels(title, size=(2.2 + 1.6 * len(keys), 4.2))
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    scales = [_scale_of_key(points[:, i]) for i in range(len(keys))]
    scales.append(_scale_of_scores(scores))
    for x, scale in enumerate(scales):
        _draw_axis(axes, x, scale, is_last=x == len(keys))
    places = np.stack([scale.place(points[:, i]) for i, scale in enumerate(scales[:-1])], axis=1)
    _draw_lines(axes, places, scales[-1], scores, metric_of(column).sign)
    better = metric_of(column).better
    axes.set_xticks(range(len(scales)), [*keys, f"{label(column)}\n({better} is better)"])
    axes.tick_params(axis="x", length=0, pad=8)
    axes.set_yticks([])
    axes.set_xlim(-0.35, len(keys) + 0.35)
    axes.set_ylim(-0.04, 1.04)
    legend_below(figure, axes)
    return figure


def _varying(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The hyperparameters of several values, in their order."""
    own = [key for key in Hparams._fields if key not in REPLICATES]
    return [key for key in own if len({row.get(key) for row in rows}) > 1]


def _settings(
    rows: Sequence[Mapping[str, Any]], keys: Sequence[str], column: str
) -> tuple[Points, Values]:
    """The values of each setting, `[settings, keys]`, and its score, `[settings]`."""
    fits: dict[tuple[float, ...], list[float]] = {}
    for row in rows:
        value = row[column]
        is_lost = value is None or str(row["status"]).startswith("diverged")
        score = np.nan if is_lost else float(value)
        fits.setdefault(tuple(float(row[key]) for key in keys), []).append(score)
    return np.array(list(fits)), np.array([np.mean(scores) for scores in fits.values()])


def _scale_of_key(values: Values) -> Scale:
    distinct = np.unique(values)
    low, high = distinct[0], distinct[-1]
    is_log = bool(0 < DECADE * low < high)
    if len(distinct) <= MOST_TICKS:
        ticks = distinct
    else:
        between = np.geomspace(low, high, 5) if is_log else np.linspace(low, high, 5)
        ticks = np.array([float(f"{tick:.2g}") for tick in between])  # about there
    return Scale(float(low), float(high), is_log, ticks)


def _scale_of_scores(scores: Values) -> Scale:
    low, high = with_width(*value_range(scores))
    ticks = np.asarray(MaxNLocator(6).tick_values(low, high))
    return Scale(low, high, False, ticks[(low <= ticks) & (ticks <= high)])


def _draw_axis(axes: Axes, x: int, scale: Scale, *, is_last: bool) -> None:
    axes.plot([x, x], [0, 1], color="0.3", linewidth=1)
    beside = {"ha": "left" if is_last else "right", "va": "center", "fontsize": SMALL, "zorder": 5}
    behind = {"color": "white", "alpha": 0.75, "pad": 0.6}
    at = x + (0.04 if is_last else -0.04)
    for tick, place in zip(scale.ticks, scale.place(scale.ticks), strict=True):
        axes.text(at, place, f"{tick:.4g}", bbox=behind, **beside)


def _draw_lines(axes: Axes, places: Points, scale: Scale, scores: Values, sign: int) -> None:
    """The worst first; what diverged ends before the last axis."""
    is_known = np.isfinite(scores)
    across = np.arange(places.shape[1] + 1)
    if not is_known.all():
        lost = [np.column_stack([across[:-1], line]) for line in places[~is_known]]
        axes.add_collection(LineCollection(lost, label="diverged", **(GUIDE | {"linewidth": 1})))
    order = np.argsort(-sign * scores[is_known])
    known = scores[is_known][order]
    ends = scale.place(known)
    whole = np.column_stack([places[is_known][order], ends])
    lines = [np.column_stack([across, line]) for line in whole]
    if not lines:
        return
    good = 1 - ends if sign > 0 else ends
    *others, best = lines
    shades = LineCollection(others, cmap="viridis_r", array=good[:-1], linewidth=1, alpha=0.7)
    shades.set_clim(0, 1)
    axes.add_collection(shades)
    axes.plot(*best.T, color=VERMILLION, linewidth=2.5, label="the best", zorder=4)
