"""What the two searches say together, and the figure of it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mfjax.reporting.style import GUIDE, SMALL, line_style, log_ticks, panels, styled

TOGETHER = 16  # settings that the full sweep trains before the next point of its curve
ORDERS = 200  # of the settings, over which its curve is averaged
NEAR = 0.001  # of the full sweep's best

Row = dict[str, Any]


class Ran(NamedTuple):
    """What one search took and reached; its rows are of settings, or of rungs where it halves."""

    seconds: float
    epochs: int
    best: float
    compilations: int
    compile_seconds: float
    rows: list[Row]


def compared(size: int, full: Ran, halved: Ran) -> Row:
    """What both took and reached at one size."""
    row: Row = {"settings": size}
    for name, ran in (("full", full), ("halving", halved)):
        row[f"{name}_seconds"] = round(ran.seconds, 2)
        row[f"{name}_compile_seconds"] = round(ran.compile_seconds, 2)
        row[f"{name}_compilations"] = ran.compilations
        row[f"{name}_epochs"] = ran.epochs
        row[f"{name}_validation_rmse"] = round(ran.best, 6)
    row["share_of_the_time"] = round(halved.seconds / full.seconds, 3)
    row["regret"] = round(halved.best - full.best, 6)
    return row


def pays_from(sizes: Sequence[Row]) -> int | None:
    """The least size from which on halving took less time than the full sweep; None if at none."""
    least = None
    for row in reversed(sizes):
        if row["share_of_the_time"] >= 1:
            break
        least = row["settings"]
    return least


def over_orders(full: Ran) -> list[Row]:
    """The best so far by seconds, over random orders of the settings.

    The mean and where 10 % and 90 % of the orders are. A setting takes the seconds that it took,
    and the settings come in blocks, as they did.
    """
    rmse = np.array([row["validation_rmse"] for row in full.rows])
    seconds = np.array([row["seconds"] for row in full.rows])
    rng = np.random.default_rng(0)
    orders = [rng.permutation(len(rmse)) for _ in range(ORDERS)]
    last = len(rmse) - 1
    block = [*range(TOGETHER - 1, last, TOGETHER), last]
    ends = [full.compile_seconds + np.cumsum(seconds[order])[block] for order in orders]
    best = [np.minimum.accumulate(rmse[order])[block] for order in orders]
    began = max(of_order[0] for of_order in ends)  # before, some order has none yet
    at = np.linspace(began, max(of_order[-1] for of_order in ends), 100)
    place = [np.searchsorted(of_order, at, side="right") - 1 for of_order in ends]
    so_far = np.array([one[i] for one, i in zip(best, place, strict=True)])
    low, high = np.quantile(so_far, (0.1, 0.9), axis=0)
    columns = {
        "seconds": at,
        "validation_rmse": so_far.mean(axis=0),
        "low": low,
        "high": high,
    }
    by_time = zip(*(values.round(6).tolist() for values in columns.values()), strict=True)
    return [{"search": "full", **dict(zip(columns, values, strict=True))} for values in by_time]


# the figure


@styled()
def draw(curves: Sequence[Row], sizes: Sequence[Row]) -> Figure:
    """Best validation RMSE so far by seconds, and seconds by the number of settings."""
    most = sizes[-1]["settings"]
    title = "Successive halving and the full sweep on ml-latest-small, 3 splits"
    figure, (left, right) = panels(title, (f"{most} settings", "by number"), (11, 4.4))
    draw_curves(left, curves)
    near = {"label": f"{NEAR:g} above the full sweep's best"} | GUIDE
    left.axhline(sizes[-1]["full_validation_rmse"] + NEAR, **near)
    left.legend()
    draw_sizes(right, sizes)
    return figure


def draw_curves(axes: Axes, curves: Sequence[Row]) -> None:
    """The mean of the full sweep in its band, and the rungs of halving."""
    full = [row for row in curves if row["search"] == "full"]
    halved = [row for row in curves if row["search"] == "halving"]
    seconds, rmse = columns_of(full, "seconds", "validation_rmse")
    axes.plot(seconds, rmse, label=f"full sweep, mean of {ORDERS} orders", **line_style(0))
    low, high = columns_of(full, "low", "high")
    axes.fill_between(seconds, low, high, alpha=0.2, label="10 to 90 % of the orders")
    seconds, rmse = columns_of(halved, "seconds", "validation_rmse")
    steps = {"where": "post", "marker": "s", "label": "successive halving"} | line_style(1)
    axes.step(seconds, rmse, **steps)
    axes.set(xlabel="seconds, compilation included", xlim=(0, None))
    axes.set_ylabel("best mean validation RMSE so far")


def draw_sizes(axes: Axes, sizes: Sequence[Row]) -> None:
    """Seconds of both, and how far above the full sweep's best halving came."""
    settings, full, halved, regret = columns_of(
        sizes, "settings", "full_seconds", "halving_seconds", "regret"
    )
    axes.plot(settings, full, marker="o", label="full sweep", **line_style(0))
    label = "successive halving (and its RMSE less the full sweep's)"
    axes.plot(settings, halved, marker="s", label=label, **line_style(1))
    for x, y, above in zip(settings, halved, regret, strict=True):
        place = {"xytext": (0, -14), "textcoords": "offset points", "ha": "center"}
        axes.annotate(f"{above:+.4f}", (x, y), fontsize=SMALL, **place)
    axes.set(xscale="log", yscale="log", xlabel="settings", ylabel="seconds")
    axes.set_xticks(settings, map(str, settings))
    axes.xaxis.minorticks_off()
    log_ticks(axes.yaxis)
    axes.margins(x=0.08, y=0.15)
    axes.legend()


def columns_of(rows: Sequence[Row], *keys: str) -> list[list]:
    """The values of some keys, a list a key."""
    return [[row[key] for row in rows] for key in keys]
