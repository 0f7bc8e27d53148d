"""The tables of this folder as they stand, and the picture of them."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox, BboxBase

import mfjax
from mfjax.reporting.style import BLUE, SMALLER, VERMILLION, legend_below, log_ticks, styled

FOLDER = Path(__file__).parent
RUNGS_TABLE = "results.csv"
PEERS_TABLE = "peers.csv"
MARK = 5  # pixels from the middle of a mark to what is not its own

Row = dict[str, Any]


class Side(NamedTuple):
    """Where a label stands: points from its mark, and which of its edges are there."""

    x: int
    y: int
    ha: Literal["left", "center", "right"]
    va: Literal["bottom", "center", "top"]


SIDES = (  # the best to read first
    Side(5, 0, "left", "center"),
    Side(-5, 0, "right", "center"),
    Side(0, 5, "center", "bottom"),
    Side(0, -5, "center", "top"),
    Side(4, 4, "left", "bottom"),
    Side(4, -4, "left", "top"),
    Side(-4, 4, "right", "bottom"),
    Side(-4, -4, "right", "top"),
)


class Point(NamedTuple):
    """A mark of the picture."""

    name: str
    seconds: float
    rmse: float


class Group(NamedTuple):
    """Points that look the same."""

    label: str
    color: str
    is_filled: bool
    points: list[Point]


def known(path: Path, *key: str) -> dict[tuple[str, ...], Row]:
    """The rows of before, by the columns of a key."""
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        return {tuple(row[column] for column in key): row for row in csv.DictReader(file)}


@styled()
def draw(folder: Path) -> None:
    """RMSE on u1 to u5 by the seconds of it all: a point a rung, and a peer's settings."""
    groups = [group for group in groups_of(folder) if group.points]
    if not groups:
        return
    figure = Figure(figsize=(8, 5.4), layout="constrained")
    axes = figure.subplots()
    for group in groups:
        _, seconds, errors = zip(*group.points, strict=True)
        face = group.color if group.is_filled else "none"
        style = {"edgecolor": group.color, "facecolor": face, "s": 22, "zorder": 2}
        axes.scatter(seconds, errors, label=group.label, **style)
    axes.set(xscale="log", xlabel="seconds, search and five folds", ylabel="test RMSE, u1 to u5")
    axes.margins(x=0.1, y=0.06)
    log_ticks(axes.xaxis)
    legend_below(figure, axes)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # labels move nothing
    add_labels(axes, groups)
    mfjax.plots.save(figure, folder, "baselines")


def groups_of(folder: Path) -> list[Group]:
    """The rungs, and the peers at settings of their own and tuned."""
    rungs = [
        row
        for row in known(folder / RUNGS_TABLE, "protocol", "rung").values()
        if row["protocol"] == "u1-u5"
    ]
    peers = known(folder / PEERS_TABLE, "peer", "settings").values()
    tuned = [row for row in peers if row["tried"] != "1"]
    given = [row for row in peers if row["tried"] == "1" and row["rmse"]]
    return [
        Group("mfjax, the ladder", BLUE, True, points(rungs, "rung")),
        Group("peers, tuned", VERMILLION, True, points(tuned, "peer")),
        Group("peers, settings of their own", VERMILLION, False, points(given, "peer")),
    ]


def points(rows: Iterable[Row], name: str) -> list[Point]:
    return [
        Point(row[name], float(row["seconds"]), float(row["rmse"])) for row in rows if row["rmse"]
    ]


def add_labels(axes: Axes, groups: Sequence[Group]) -> None:
    """The name of each point beside it, on the first side where it covers least."""
    every = [(group.color, point) for group in groups for point in group.points]
    marks = axes.transData.transform([(point.seconds, point.rmse) for _, point in every])
    taken = [Bbox.from_extents(*mark, *mark).padded(MARK) for mark in marks]
    for color, point in every:
        labels = [label_of(axes, point, color, side) for side in SIDES]
        boxes = [label.get_window_extent() for label in labels]
        lost = [outside(box, axes.figure.bbox) + covered(box, taken) for box in boxes]
        best = lost.index(min(lost))
        taken.append(boxes[best])
        for label in labels[:best] + labels[best + 1 :]:
            label.remove()


def label_of(axes: Axes, point: Point, color: str, side: Side) -> Annotation:
    return axes.annotate(
        point.name,
        (point.seconds, point.rmse),
        (side.x, side.y),
        textcoords="offset points",
        ha=side.ha,
        va=side.va,
        color=color,
        fontsize=SMALLER,
    )


def outside(box: Bbox, whole: BboxBase) -> float:
    """How much of a box is outside of another, in pixels."""
    return box.width * box.height - covered(box, [whole])


def covered(box: Bbox, taken: Sequence[BboxBase]) -> float:
    """How much of what is taken a box covers, in pixels."""
    overlaps = (Bbox.intersection(box, other) for other in taken)
    return sum(overlap.width * overlap.height for overlap in overlaps if overlap)
