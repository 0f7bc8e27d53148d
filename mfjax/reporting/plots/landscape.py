"""Points over two keys, as cells or as dots in the colour of their score."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mfjax.metrics import Metric
from mfjax.reporting.style import (
    DECADE,
    Values,
    capitalized,
    draw_cells,
    log_ticks,
    panels,
    value_range,
    with_width,
)


class Kind(NamedTuple):
    """What a map is of, and the words for the best of them and for one without a value."""

    name: str
    best: str
    lost: str


SETTING = Kind("setting", best="chosen", lost="diverged")
JOB = Kind("job", best="best", lost="failed")


class Scored(NamedTuple):
    """What a setting or a job was run with, and its score: lower is better, infinite: none."""

    keys: Mapping[str, Any]
    score: float


class Landscape(NamedTuple):
    """What a map shows: points over the first two of `keys`, in words and values of a metric."""

    points: Sequence[Scored]
    keys: Sequence[str]
    metric: Metric
    label: str
    kind: Kind


def draw_landscape(land: Landscape) -> Figure:
    """Cells where the points fill at least half of a grid, and else the points."""
    x, y = land.keys[:2]
    pairs = {(point.keys[x], point.keys[y]) for point in land.points}
    columns, rows = map(set, zip(*pairs, strict=True))
    is_sparse = 2 * len(pairs) < len(columns) * len(rows)
    return _points(land) if is_sparse else _grid(land)


# colours, of the metric's own values


def _ends(scores: Values) -> tuple[float, float]:
    """The best score, and the worst that has a colour of its own."""
    return with_width(*value_range(scores))


def _colors(scores: Values, metric: Metric) -> dict[str, Any]:
    """From the best to the worst within the fence, the best brightest."""
    ends = [metric.sign * end for end in _ends(scores)]
    return {
        "cmap": "viridis_r" if metric.better == "lower" else "viridis",
        "vmin": min(ends),
        "vmax": max(ends),
    }


def _colorbar(figure: Figure, drawn: ScalarMappable, scores: Values, metric: Metric) -> None:
    """The bar of `_colors`, pointed at the worst end where a value lies beyond it."""
    _, worst = _ends(scores)
    is_beyond = np.isfinite(scores) & (scores > worst)
    worst_end = "max" if metric.better == "lower" else "min"
    figure.colorbar(
        drawn,
        label=f"{metric.label} ({metric.better} is better)",
        extend=worst_end if is_beyond.any() else "neither",
    )


# a grid


def _grid(land: Landscape) -> Figure:
    """The best over the other keys in a cell a pair of values, the best of all outlined."""
    x, y = land.keys[:2]
    across = _sorted_values(land.points, x)
    down = _sorted_values(land.points, y)
    scores = np.full((len(down), len(across)), np.nan)
    row = column = 0
    worst_first = sorted(land.points, key=lambda point: -point.score)
    for point in worst_first:  # so that a cell keeps its best, and the last is the best of all
        row = down.index(point.keys[y])
        column = across.index(point.keys[x])
        scores[row, column] = point.score
    width = max(6, 0.75 * len(across) + 2.2)
    height = max(3, 0.5 * len(down) + 1.6)
    figure, (panel,) = panels(_grid_title(land), size=(width, height))
    _draw_scores(figure, panel, scores, land)
    if np.isfinite(scores).any():
        _outline(panel, row, column)
    panel.set(xlabel=x, ylabel=y)
    panel.set_xticks(range(len(across)), map(_tick, across))
    panel.set_yticks(range(len(down)), map(_tick, down))
    return figure


def _sorted_values(points: Sequence[Scored], key: str) -> list[Any]:
    """Every value of a key, ascending, those that are no numbers last."""

    def place(value: float | str) -> tuple[float, str]:
        try:
            return float(value), ""
        except ValueError:
            return np.inf, str(value)

    return sorted({point.keys[key] for point in points}, key=place)


def _tick(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _grid_title(land: Landscape) -> str:
    x, y, *others = land.keys
    is_mean = land.kind.name == SETTING.name
    what = f"Mean {land.label}" if is_mean else capitalized(land.label)
    at_best = f"each at its best {', '.join(others)}" if others else ""
    return _title(f"{what} by {x} and {y}", at_best, _outlined(land))


def _outlined(land: Landscape) -> str:
    """What the outline is around; nothing where no point has a value."""
    any_good = any(np.isfinite(point.score) for point in land.points)
    return f"outlined: the {land.kind.best} {land.kind.name}" if any_good else ""


def _title(what: str, *notes: str) -> str:
    """What the figure shows, and below it those of the notes that say something."""
    said = "; ".join(filter(None, notes))
    return f"{what}\n{said}" if said else what


def _draw_scores(figure: Figure, panel: Axes, scores: Values, land: Landscape) -> None:
    """The cells, each with its value or why it has none."""

    def write(value: float) -> str:
        if np.isnan(value):
            return "not run"
        return f"{value:#.4g}" if np.isfinite(value) else land.kind.lost

    values = land.metric.sign * scores
    colors = _colors(scores, land.metric)
    image = draw_cells(panel, values, write, **colors)
    if np.isfinite(scores).any():
        _colorbar(figure, image, scores, land.metric)


def _outline(panel: Axes, row: int, column: int) -> None:
    """A black frame around a cell, and a white one around that."""
    corner = (column - 0.5, row - 0.5)
    for color, width in (("white", 5), ("black", 2)):
        style = {"edgecolor": color, "linewidth": width, "zorder": 3}
        panel.add_patch(Rectangle(corner, 1, 1, fill=False, **style))


# points


def _points(land: Landscape) -> Figure:
    """Points that were drawn, and fill no grid; a cross where there is no value."""
    x, y = land.keys[:2]
    good = [point for point in land.points if np.isfinite(point.score)]
    lost = [point for point in land.points if not np.isfinite(point.score)]
    crosses = f"×: {land.kind.lost}" if lost else ""
    figure, (panel,) = panels(_points_title(land, crosses), size=(6.5, 4.8))
    for axis, key in ((panel.xaxis, x), (panel.yaxis, y)):
        axis.update_units(_sorted_values(land.points, key))
    if good:
        _draw_good(figure, panel, good, land)
    cross = {"marker": "x", "color": "0.6", "zorder": 1}
    panel.scatter(_at(lost, x), _at(lost, y), **cross)
    if _is_wide(_at(land.points, x)):
        panel.set_xscale("log")
        log_ticks(panel.xaxis)
    if _is_wide(_at(land.points, y)):
        panel.set_yscale("log")
        log_ticks(panel.yaxis)
    panel.set(xlabel=x, ylabel=y)
    return figure


def _points_title(land: Landscape, crosses: str) -> str:
    x, y, *others = land.keys
    what = f"{capitalized(land.label)} by {x} and {y}"
    differing = f"differing in {', '.join(others)} too" if others else ""
    return _title(what, differing, _outlined(land), crosses)


def _draw_good(
    figure: Figure,
    panel: Axes,
    good: Sequence[Scored],
    land: Landscape,
) -> None:
    """The points that have a value, in its colour, and a ring around the best."""
    x, y = land.keys[:2]
    scores = np.array([point.score for point in good], float)
    values = land.metric.sign * scores
    colors = _colors(scores, land.metric)
    style = {"c": values, "s": 45, "zorder": 2}
    dots = panel.scatter(_at(good, x), _at(good, y), **style, **colors)
    best = min(good, key=lambda point: point.score).keys
    ring = {"facecolors": "none", "edgecolors": "black", "linewidths": 1.8}
    ring |= {"s": 110, "zorder": 3}
    panel.scatter(best[x], best[y], **ring)
    _colorbar(figure, dots, scores, land.metric)


def _at(points: Sequence[Scored], key: str) -> list[Any]:
    return [point.keys[key] for point in points]


def _is_wide(values: Sequence[Any]) -> bool:
    """Whether they are positive numbers over at least a decade."""
    if any(isinstance(value, str) for value in values):
        return False
    return 0 < DECADE * min(values) <= max(values)
