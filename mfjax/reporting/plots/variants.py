"""Variants of the gradient: their errors, what they cost, and how the cost grows."""

from collections.abc import Mapping, Sequence
from textwrap import shorten
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mfjax.reporting.formats import in_figure
from mfjax.reporting.style import (
    BLUE,
    GREEN,
    GUIDE,
    SMALL,
    VERMILLION,
    Values,
    legend_below,
    line_style,
    log_ticks,
    panels,
    styled,
    value_range,
)

MARKERS = "osv^D"
BESIDE: dict[str, Any] = {  # a point, on white
    "xytext": (6, 0),
    "textcoords": "offset points",
    "va": "center",
    "fontsize": SMALL,
    "bbox": {"color": "white", "pad": 1},
}

Row = Mapping[str, Any]


@styled()
def gradients(rows: Sequence[Row]) -> Figure:
    """Relative errors (left) and milliseconds a call (right), a line a variant in their order.

    Args:
      rows: those of `mfjax.checks.compare.compare_gradients`; None where a figure is not known.

    Returns:
      Two panels with a line a row.
    """
    counts = sorted({row["ratings"] for row in rows})
    ratings = " and ".join(f"{count:,}" for count in counts)
    title = f"Gradient variants: error against the oracle, and time a call on {ratings} ratings"
    size = (9, 1.8 + 0.32 * len(rows))
    names = ("error", "time")
    figure, (left, right) = panels(title, names, size, sharey=True)
    _draw_errors(left, rows)
    _draw_times(right, rows)
    variants = [in_figure(row["gradient"]) for row in rows]
    left.set_yticks(range(len(rows)), variants)
    left.set_ylim(len(rows) - 0.4, -0.6)
    ticks = left.get_yticklabels()
    for tick, row in zip(ticks, rows, strict=True):
        tick.set_color(_text_color(row))
    legend_below(figure, left)
    return figure


def _draw_errors(axes: Axes, rows: Sequence[Row]) -> None:
    user = _column(rows, "error_user")
    item = _column(rows, "error_item")
    tolerance = _column(rows, "tolerance")
    known = np.concatenate([user, item, tolerance])
    low, high = value_range(known[known > 0], fenced=False)
    floor = low / 30  # where an error of 0 stands
    y = range(len(rows))
    axes.set_xscale("log")
    axes.set_xlim(floor / 2, high * 3)
    axes.set_xlabel("relative error, max|a − b| / max|b| (b: oracle)")
    round_ = {"color": BLUE, "mfc": "none", "label": "error, user factors"}
    cross = {"color": GREEN, "label": "error, item factors"}
    bar = {"color": "black", "markersize": 14, "label": "tolerance"}
    axes.plot(_above(floor, user), y, "o", **round_)
    axes.plot(_above(floor, item), y, "x", **cross)
    axes.plot(tolerance, y, "|", **bar)
    if (known == 0).any():
        _tick_at_zero(axes, floor, high * 3)


def _above(floor: float, errors: Values) -> Values:
    """The errors, with those of 0 at the floor."""
    return np.where(errors == 0, floor, errors)


def _tick_at_zero(axes: Axes, floor: float, end: float) -> None:
    """Ticks at powers of 10, and one at the floor that says 0."""
    ticks = [tick for tick in axes.get_xticks() if 10 * floor < tick < end]
    powers = [f"$10^{{{np.log10(tick):.0f}}}$" for tick in ticks]
    axes.set_xticks([floor, *ticks], ["0", *powers])
    axes.xaxis.minorticks_off()


def _draw_times(axes: Axes, rows: Sequence[Row]) -> None:
    ms = _column(rows, "ms")
    low = _column(rows, "ms_low")
    high = _column(rows, "ms_high")
    known = np.concatenate([ms, low, high])
    least, most = value_range(known, fenced=False)
    axes.set_xscale("log")
    axes.set_xlim(least / 2, most * 8)
    axes.set_xlabel("time a call (ms; whiskers: quartiles)")
    log_ticks(axes.xaxis)
    whiskers = np.stack([ms - low, high - ms])
    ends = np.fmax(np.fmax(ms, high), least / 2)
    for y, row in enumerate(rows):
        color = VERMILLION if _has_failed(row) else BLUE
        axes.errorbar(ms[y], y, xerr=whiskers[:, [y]], fmt="o", color=color)
        place = (ends[y], y)
        axes.annotate(_note(row), place, color=_text_color(row), **BESIDE)


def _note(row: Row) -> str:
    """What stands beside a point: the time, and how the variant did where that is not `ok`."""
    parts = []
    if row["ms"] is not None:
        parts.append(f"{row['ms']:.3g} ms")
    if row["status"] != "ok":
        parts.append(row["status"])
    return in_figure(shorten(", ".join(parts), 50, placeholder=" …"))


def _has_failed(row: Row) -> bool:
    return row["status"] == "FAILED"


def _text_color(row: Row) -> str:
    return VERMILLION if _has_failed(row) else "black"


@styled()
def scaling(rows: Sequence[Row]) -> Figure:
    """Milliseconds a call by number of ratings, a line a variant, the slowest first in the legend.

    Args:
      rows: as those of `gradients`, of several numbers of ratings.

    Returns:
      One panel, both axes logarithmic.
    """
    timed = [row for row in rows if row["ms"] is not None]
    timed.sort(key=lambda row: row["ratings"])
    figure, (axes,) = panels("Time of a gradient call by number of ratings", size=(7.5, 4.2))
    for i, name in enumerate(_slowest_first(timed)):
        of_variant = [row for row in timed if row["gradient"] == name]
        has_failed = any(map(_has_failed, of_variant))
        style = line_style(i) | {"marker": MARKERS[i % len(MARKERS)]}
        style["label"] = in_figure(f"{name} (FAILED)" if has_failed else name)
        ratings = _column(of_variant, "ratings")
        axes.plot(ratings, _column(of_variant, "ms"), **style)
    sizes = np.unique([row["ratings"] for row in timed])
    if len(sizes):
        at_least = [row["ms"] for row in timed if row["ratings"] == sizes[0]]
        proportional = min(at_least) * sizes / sizes[0]
        axes.plot(sizes, proportional, label="proportional to ratings", **GUIDE)
    axes.set(xscale="log", yscale="log")
    axes.set(xlabel="number of ratings", ylabel="time a call (ms)")
    axes.set_xticks(sizes, [f"{count:,}" for count in sizes])
    axes.xaxis.minorticks_off()
    log_ticks(axes.yaxis)
    figure.legend(loc="outside right center")
    return figure


def _slowest_first(timed: Sequence[Row]) -> list[str]:
    """The variants by their time on the most ratings that they were timed on."""
    last = {row["gradient"]: row["ms"] for row in timed}
    return sorted(last, key=lambda name: -last[name])


@styled()
def growth(
    rows: Sequence[Row],
    fits: Mapping[str, Any],
    dense_bytes: int,
    title: str,
) -> Figure:
    """Milliseconds a call (left) and bytes of memory (right) by number of ratings.

    Args:
      rows: a row a number of ratings, ascending: ratings, ms, ms_low, ms_high, peak_bytes and
        layout_bytes.
      fits: the lines of `time` (s) and `memory` (bytes), each with `a`, `b` and `at(ratings)`.
      dense_bytes: what one dense matrix would take.
      title: of the figure.

    Returns:
      Two panels, all axes logarithmic.
    """
    figure, (left, right) = panels(title, ("time", "memory"), (9, 4.8))
    _draw_time_growth(left, rows, fits["time"])
    _draw_memory_growth(right, rows, fits["memory"], dense_bytes)
    for axes in (left, right):
        axes.set(xscale="log", yscale="log", xlabel="number of ratings")
        log_ticks(axes.yaxis)
        below = (0.5, -0.15)
        axes.legend(loc="upper center", bbox_to_anchor=below)
    return figure


def _draw_time_growth(axes: Axes, rows: Sequence[Row], line: Any) -> None:
    ratings = _column(rows, "ratings")
    ms = _column(rows, "ms")
    below = ms - _column(rows, "ms_low")
    above = _column(rows, "ms_high") - ms
    calls = {"fmt": "o", "label": "a call (whiskers: quartiles)"}
    axes.errorbar(ratings, ms, yerr=[below, above], color=BLUE, **calls)
    fitted = f"{line.a:.3g} s + {1e9 * line.b:.3g} ns a rating, fitted"
    between = _between(ratings)
    axes.plot(between, 1e3 * line.at(between), color=BLUE, label=fitted)
    proportional = ms[-1] * ratings / ratings[-1]
    axes.plot(ratings, proportional, label="proportional to ratings", **GUIDE)
    axes.set_ylabel("time a call (ms)")


def _draw_memory_growth(
    axes: Axes,
    rows: Sequence[Row],
    line: Any,
    dense_bytes: int,
) -> None:
    ratings = _column(rows, "ratings")
    peak = _column(rows, "peak_bytes") / 1e9
    fitted = f"{line.a / 1e9:.3g} GB + {line.b:.3g} bytes a rating, fitted"
    between = _between(ratings)
    layout = _column(rows, "layout_bytes") / 1e9
    dense = dense_bytes / 1e9
    named = f"one dense matrix, {dense:,.3g} GB"
    triangle = {"color": GREEN, "mfc": "none", "label": "layout of the ratings"}
    axes.plot(ratings, peak, "s", color=VERMILLION, label="peak of the process")
    axes.plot(between, line.at(between) / 1e9, "-", color=VERMILLION, label=fitted)
    axes.plot(ratings, layout, "^", **triangle)
    axes.axhline(dense, color="black", linestyle="--", label=named)
    axes.set_ylabel("memory (GB)")


def _between(ratings: Values) -> Float[np.ndarray, " points"]:
    """Numbers of ratings from the least to the greatest: a line bends on logarithmic axes."""
    return np.geomspace(ratings[0], ratings[-1], 100)


def _column(rows: Sequence[Row], key: str) -> Values:
    """One key of the rows, `[rows]`, NaN for None."""
    return np.array([row.get(key) for row in rows], float)
