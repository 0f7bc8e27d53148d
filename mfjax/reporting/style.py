"""What every figure shares: sizes, colours, panels, legends, ranges, ticks and cells.

Colours are Okabe and Ito's or viridis, and line styles and markers differ with them, so that
figures read in grey too. Nothing stays in matplotlib's global state.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import LogLocator, NullFormatter

RC: dict[str, Any] = {
    "font.size": 10,
    "figure.titlesize": "large",
    "axes.titlesize": "medium",
    "axes.labelsize": "medium",
    "xtick.labelsize": "small",
    "ytick.labelsize": "small",
    "legend.fontsize": "small",
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.alpha": 0.3,
    "lines.linewidth": 1.5,
    "lines.markersize": 5,
    "errorbar.capsize": 3,
    "savefig.dpi": 150,
    "pdf.fonttype": 42,  # TrueType, which publishers take
    "svg.hashsalt": "mfjax",  # the same names in the same figure
}
SMALL = "small"  # text within a panel
SMALLER = "x-small"
LEAST = 4.5  # points that can be read
THIN = 0.8  # lines that stay behind
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
BELOW = "outside lower center"
DECADE = 10  # a wider range is logarithmic

Values = Float[np.ndarray, "*shape"]


@contextmanager
def styled() -> Iterator[None]:
    """Within it, and in functions that it decorates, figures are made by `RC`."""
    with rc_context(RC):
        yield


# a figure and its legend


def panels(
    title: str,
    names: Sequence[str] = ("",),
    size: tuple[float, float] = (8, 4),
    **options: Any,
) -> tuple[Figure, list[Axes]]:
    """A figure of `size` inches with a panel a name, side by side, and the panels."""
    figure = Figure(size, layout="constrained")
    figure.suptitle(title, wrap=True)
    (row,) = figure.subplots(1, len(names), squeeze=False, **options)
    for axes, name in zip(row, names, strict=True):
        axes.set_title(name)
        axes.grid()
    return figure, list(row)


def legend_below(figure: Figure, axes: Axes) -> None:
    """The legend of one panel below all, in as many columns as there is room for."""
    _place_legend(figure, *axes.get_legend_handles_labels())


def refit_legends(figure: Figure) -> None:
    """Give each `legend_below` as many columns as the figure has room for now."""
    for legend in [one for one in figure.legends if one.get_gid() == BELOW]:
        handles = [handle for handle in legend.legend_handles if handle is not None]
        labels = [text.get_text() for text in legend.get_texts()]
        legend.remove()
        _place_legend(figure, handles, labels)


def _place_legend(figure: Figure, handles: Sequence[Artist], labels: Sequence[str]) -> None:
    for columns in range(len(labels), 0, -1):
        legend = figure.legend(handles, labels, loc=BELOW, ncols=columns)
        legend.set_gid(BELOW)
        if columns == 1 or legend.get_window_extent().width < figure.bbox.width:
            return
        legend.remove()


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


def with_width(low: float, high: float) -> tuple[float, float]:
    """The range; where it has next to no width, one from its low end on: colours need one."""
    size = abs(low)
    has_width = high - low > 1e-9 * size
    return (low, high) if has_width else (low, low + (0.1 * size or 1.0))


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
    style["fontsize"] = SMALL if values.shape[1] <= 6 else SMALLER
    for (row, column), value in np.ndenumerate(values):
        if text := write(float(value)):
            color = "white" if is_dark[row, column] else "black"
            axes.text(column, row, text, color=color, **style)
    return image


def fit_cells(figure: Figure) -> None:
    """Shrink what is written in cells that are too narrow for it; hide what could not be read."""
    for axes in figure.axes:
        for image in axes.images:
            columns = image.get_size()[1]
            room = 0.9 * axes.bbox.width / columns
            widths = [text.get_window_extent().width for text in axes.texts]
            share = min(1, room / max(widths, default=room))
            for text in axes.texts:
                size = share * float(text.get_fontsize())
                text.set(fontsize=size, visible=size >= LEAST)
