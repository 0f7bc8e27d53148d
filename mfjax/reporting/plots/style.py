"""What every figure shares: colours, panels, ranges, ticks and cells.

Colours are Okabe and Ito's or viridis, and line styles and markers differ with them, so that
figures read in grey too. Nothing touches pyplot's global state.
"""

from collections.abc import Callable, Sequence
from textwrap import fill
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import LogLocator, NullFormatter

BLUE = "#0072B2"
VERMILLION = "#D55E00"
GREEN = "#009E73"
ORANGE = "#E69F00"
PURPLE = "#CC79A7"
SKY = "#56B4E9"
COLORS = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY)
LINES = ("-", "--", "-.", ":")
GUIDE = {"color": "0.5", "linestyle": (0, (6, 4))}  # of a line to compare others with
LUMA = (0.3, 0.59, 0.11)  # how bright red, green and blue are
DECADE = 10  # a wider range is logarithmic

Values = Float[np.ndarray, "*shape"]


def panels(
    title: str,
    names: Sequence[str] = ("",),
    size: tuple[float, float] = (8, 4),
    **options: Any,
) -> tuple[Figure, list[Axes]]:
    """A figure of `size` inches with a panel a name, side by side, and the panels."""
    figure = Figure(size, layout="constrained")
    letters = int(11 * size[0])  # in a line
    lines = [fill(line, letters) for line in title.splitlines()]
    figure.suptitle("\n".join(lines), fontsize="large")
    (row,) = figure.subplots(1, len(names), squeeze=False, **options)
    for axes, name in zip(row, names, strict=True):
        axes.set_title(name, fontsize="medium")
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_axisbelow(True)
        axes.grid(alpha=0.3)
    return figure, list(row)


def legend_below(figure: Figure, axes: Axes, **options: Any) -> None:
    """The legend of one panel below all."""
    handles, labels = axes.get_legend_handles_labels()
    place = "outside lower center"
    figure.legend(handles, labels, loc=place, frameon=False, **options)


def line_style(i: int) -> dict[str, Any]:
    """The colour and line of the i-th of several curves; both change from one to the next."""
    color = COLORS[i % len(COLORS)]
    line = LINES[i % len(LINES)]
    return {"color": color, "linestyle": line}


def capitalized(text: str) -> str:
    """The text with a capital first letter and all others as they are."""
    return text[0].upper() + text[1:]


# ranges


def value_range(values: Values, *, fenced: bool = True) -> tuple[float, float]:
    """The least and the greatest finite value, (1, 1) if none is.

    `fenced`, at most Tukey's outer fence of the logarithms, because what lies above it would
    flatten the rest.
    """
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 1.0, 1.0
    low = float(finite.min())
    high = float(finite.max())
    if fenced and low > 0:
        high = _fenced(high, np.log(finite))
    return low, high


def _fenced(high: float, logarithms: Values) -> float:
    quarter, three_quarters = np.quantile(logarithms, [0.25, 0.75])
    fence = three_quarters + 3 * (three_quarters - quarter)
    return high if np.log(high) <= fence else float(np.exp(fence))


def scale_y(axes: Axes, values: Values, *, fenced: bool = False) -> None:
    """Fit the y axis to `value_range`, and make it logarithmic over more than a decade."""
    low, high = value_range(values, fenced=fenced)
    if 0 < DECADE * low < high:
        factor = (high / low) ** 0.05
        axes.set_yscale("log")
        axes.set_ylim(low / factor, high * factor)
    elif low < high:
        margin = 0.05 * (high - low)
        axes.set_ylim(low - margin, high + margin)


def log_ticks(axis: Axis) -> None:
    """Label a logarithmic axis at 1, 2, 5, 10, …; one of three decades or more at 1, 10, 100, …"""
    low, high = axis.get_view_interval()
    steps = (1, 2, 5) if high < 1000 * low else (1,)
    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


# matrices


def draw_cells(
    axes: Axes,
    values: Float[np.ndarray, "rows columns"],
    write: Callable[[float], str],
    **scale: Any,
) -> AxesImage:
    """The matrix as cells, each with what `write` makes of its value.

    Args:
      axes: where to draw.
      values: what is not finite is hatched.
      write: a value to its text, which may be empty.
      **scale: `vmin`, `vmax` and `cmap` (viridis by default) of matplotlib.
    """
    known = np.ma.masked_invalid(values)
    axes.patch.set(facecolor="0.92", edgecolor="0.75", hatch="////")
    axes.grid(visible=False)
    image = axes.imshow(known, aspect="auto", **({"cmap": "viridis"} | scale))
    brightness = image.to_rgba(known)[..., :3] @ LUMA
    is_dark = np.isfinite(values) & (brightness < 0.5)
    style = {"ha": "center", "va": "center"}
    style["fontsize"] = "small" if values.shape[1] <= 6 else "x-small"
    for (row, column), value in np.ndenumerate(values):
        if text := write(float(value)):
            color = "white" if is_dark[row, column] else "black"
            axes.text(column, row, text, color=color, **style)
    return image
