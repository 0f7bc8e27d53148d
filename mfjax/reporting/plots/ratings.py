"""Predicted beside actual ratings: of many, and of a problem small enough to be seen whole."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float, Real
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mfjax.reporting.formats import MINUS
from mfjax.reporting.style import (
    BLUE,
    SKY,
    VERMILLION,
    draw_cells,
    panels,
    styled,
    value_range,
    with_width,
)
from mfjax.types import Bounds

LEVELS = 12  # ratings of at most so many distinct values are shown value by value
FEW_RATINGS = 2000  # fewer are points, and more a density
CELLS = 60  # a matrix of at most so many cells, and 10 columns, has its values written in
NO_ERROR = 0.01  # of the range of the ratings: errors below it look like none

Vector = Float[np.ndarray, " n"]
Matrix = Float[np.ndarray, "users items"]


@styled()
def predictions(
    predicted: Real[np.ndarray, " n"],
    actual: Real[np.ndarray, " n"],
    bounds: Bounds,
    label: str,
) -> Figure:
    """Predictions, clipped to `bounds`, against the ratings (left), and their errors (right).

    Args:
      predicted, actual: `[n]`, in rating units; n >= 1.
      bounds: the range of predictions.
      label: what the ratings are, in words.

    Returns:
      Two panels, under a title with every metric.
    """
    predicted = np.clip(predicted.astype(float), *bounds)
    actual = actual.astype(float)
    levels = np.unique(actual)
    are_boxed = len(levels) <= LEVELS
    boxes = "box: quartiles; whiskers: 5–95 %; " if are_boxed else ""
    title = _title(predicted, actual, label)
    figure, (left, right) = panels(title, (f"{boxes}dashed: exact", "errors"))
    if are_boxed:
        _draw_boxes(left, predicted, actual)
    elif len(actual) < FEW_RATINGS:
        left.scatter(actual, predicted, s=12, color=BLUE, alpha=0.6, linewidths=0)
    else:
        _draw_density(figure, left, predicted, actual)
    ends = levels[[0, -1]]
    left.plot(ends, ends, color=VERMILLION, linestyle="--", zorder=3)
    left.set(xlabel="actual rating", ylabel="predicted rating")
    right.hist(predicted - actual, bins=50, color=BLUE)
    right.axvline(0, color="black", linewidth=1)
    right.set(xlabel="predicted − actual rating", ylabel="number of ratings")
    return figure


def _title(predicted: Vector, actual: Vector, label: str) -> str:
    """How many ratings, and the errors of the predictions."""
    error = predicted - actual
    metrics = {"RMSE": (error**2).mean() ** 0.5, "MAE": abs(error).mean()}
    figures = [f"{name} {value:.4f}" for name, value in metrics.items()]
    bias = error.mean()
    figures.append(f"bias {bias:+.4f}".replace("-", MINUS))
    return f"Predictions of {len(actual):,} {label}\n{', '.join(figures)}"


def _draw_boxes(axes: Axes, predicted: Vector, actual: Vector) -> None:
    """A box of the predictions of each distinct rating."""
    levels = np.unique(actual)
    gap = np.diff(levels).min(initial=np.ptp(levels) or 1)
    axes.boxplot(
        [predicted[actual == level] for level in levels],
        positions=levels,
        widths=0.6 * gap,
        whis=(5, 95),
        showfliers=False,
        manage_ticks=False,
        patch_artist=True,
        boxprops={"facecolor": SKY},
        medianprops={"color": "black"},
    )


def _draw_density(
    figure: Figure,
    axes: Axes,
    predicted: Vector,
    actual: Vector,
) -> None:
    style = {"cmap": "viridis_r", "linewidths": 0.1}
    cells = axes.hexbin(actual, predicted, gridsize=40, bins="log", mincnt=1, **style)
    figure.colorbar(cells, label="ratings in a cell", format="{x:g}")


@styled()
def matrices(
    actual: Matrix,
    predicted: Matrix,
    missing: Bool[np.ndarray, "users items"],
) -> Figure:
    """R, R̂ and R̂ − R of a problem small enough to be seen whole.

    Args:
      actual: `[users, items]`, in rating units; not read where missing.
      predicted: `[users, items]`, in rating units.
      missing: `[users, items]`, the entries that are hatched.

    Returns:
      Three panels, the values written in where there is room.
    """
    known = np.where(missing, np.nan, actual)
    error = predicted - known
    names = ("actual, $R$", r"predicted, $\hat{R}$", r"error, $\hat{R} - R$")
    title = "Ratings, predictions and their difference; hatched: not rated"
    figure, (left, middle, right) = panels(title, names, _size(*known.shape))
    low, high = with_width(*value_range(np.append(known, predicted), fenced=False))
    write = _writer(known.shape, max(abs(low), abs(high)))
    rating = draw_cells(left, known, write, vmin=low, vmax=high)
    draw_cells(middle, predicted, write, vmin=low, vmax=high)
    most = max(_furthest(error), NO_ERROR * (high - low), 1e-12)
    missed = draw_cells(right, error, write, cmap="PuOr", vmin=-most, vmax=most)
    figure.colorbar(rating, ax=[left, middle], label="rating", pad=0.02)
    figure.colorbar(missed, ax=right, label="predicted − actual")
    for axes in (left, middle, right):
        axes.set(xlabel="item", ylabel="user")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
        axes.yaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    return figure


def _size(rows: int, columns: int) -> tuple[float, float]:
    height = np.clip(2.6 * rows / columns, 1.6, 5)
    return 10, 1.5 + height


def _furthest(error: Matrix) -> float:
    """The greatest error in size."""
    least, greatest = value_range(error, fenced=False)
    return max(abs(least), abs(greatest))


def _writer(shape: Sequence[int], greatest: float) -> Callable[[float], str]:
    """What writes the values into the cells, where there is room for them."""
    rows, columns = shape
    has_room = rows * columns <= CELLS and columns <= 10
    wanted = 2 if columns <= 6 else 1
    magnitude = int(np.floor(np.log10(max(greatest, 1e-9))))
    digits = max(0, wanted - magnitude)

    def write(value: float) -> str:
        if not has_room or not np.isfinite(value):
            return ""
        return f"{value:z.{digits}f}".replace("-", MINUS)

    return write
