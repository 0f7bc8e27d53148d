"""How the time and the memory of one gradient grow with the number of ratings.

Where a dense matrix would not fit.
"""

import re
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from omegaconf import DictConfig, OmegaConf

from mfjax.app import terminal
from mfjax.app.build import call
from mfjax.app.drawing import saving_of
from mfjax.app.jobs import _points
from mfjax.app.table import Table
from mfjax.checks.compare import errors_at, gradient_at
from mfjax.checks.cost import compiled, cost_of_calls
from mfjax.checks.points import Point, in_float64
from mfjax.data import SOURCES
from mfjax.errors import InputError
from mfjax.gradients import GRADIENTS
from mfjax.kernels.shards import placement
from mfjax.reporting.files import write_csv
from mfjax.reporting.formats import Shown, cells, markdown
from mfjax.types import Spec

# what the exponent of time should be at most; told, and not enforced: a busy machine moves it
GOAL = 1.05
SHOWN = {
    "ratings": Shown("ratings", ","),
    "layout s": Shown("layout_s", ".3g"),
    "compile s": Shown("compile_s", ".2f"),
    "ms": Shown("ms", ".4g"),
    "25 %": Shown("ms_low", ".4g"),
    "75 %": Shown("ms_high", ".4g"),
    "exponent": Shown("exponent", ".2f"),
    "layout MB": Shown("layout_bytes", ".4g", 1e6),
    "temp MB": Shown("temp_bytes", ".4g", 1e6),
    "peak GB": Shown("peak_bytes", ".3g", 1e9),
}
GROUPS = (  # the most important first
    ("ratings", "ms", "exponent", "layout MB", "temp MB", "peak GB"),
    ("layout s", "compile s"),
    ("25 %", "75 %"),
)
Row = dict[str, Any]


class Power(NamedTuple):
    """y = factor · x^exponent."""

    factor: float
    exponent: float

    def at(self, x: np.ndarray) -> np.ndarray:
        return self.factor * x**self.exponent


def run(cfg: DictConfig, folder: Path, began: float) -> bool:
    """Write scale.csv, .md, results.json and the plot to `folder`.

    False where the gradient disagrees with `matrix`. Raises InputError for data that are not
    synthetic, and for fewer than two sizes.
    """
    rows = with_exponents([measured(cfg, count) for count in sizes_of(cfg)])
    figures = figures_of(cfg, rows)
    write_csv(folder / "scale.csv", rows)
    lines = [cells(row, SHOWN) for row in rows]
    (folder / "scale.md").write_text(markdown(list(SHOWN), lines))
    if cfg.plots.draw:
        draw(cfg, figures, folder)
    show(cfg, figures)
    as_expected = terminal.finish(cfg, folder, began, content=figures, figures=figures)
    errors = figures["errors"]
    most = errors["tolerance_float64"]
    return as_expected and all(error <= most for error in errors["float64"].values())


def sizes_of(cfg: DictConfig) -> list[int]:
    """The numbers of ratings, smallest first. Raises InputError for fewer than two."""
    sizes = sorted(set(cfg.job.ratings))
    if len(sizes) < 2:
        raise InputError(
            "job.ratings: expected at least two numbers of ratings, to fit a line through; "
            f"got {sizes}"
        )
    return sizes


def figures_of(cfg: DictConfig, rows: Sequence[Row]) -> dict[str, Any]:
    """What the rows of all sizes say together, and the agreement with `matrix`."""
    ratings = [row["ratings"] for row in rows]
    time_law = power_law(ratings, [row["ms"] for row in rows])
    memory_law = power_law(ratings, [row["peak_bytes"] for row in rows])
    steepest = max(time_law.exponent, rows[-1]["exponent"])
    entries = cfg.data.num_users * cfg.data.num_items
    return {
        "sizes": rows,
        "fits": {"time": time_law, "memory": memory_law},
        "goal": {"time_exponent_at_most": GOAL, "reached": steepest <= GOAL},
        "errors": {
            "float64": errors_in_float64(cfg),
            "float32": error_in_float32(cfg),
            "tolerance_float64": tolerance(cfg),
        },
        "dense_bytes": entries * np.dtype(cfg.dtype).itemsize,
    }


# one size


def measured(cfg: DictConfig, num_ratings: int) -> Row:
    """The row of one size, the rows of the factors shared out over the devices.

    Seconds of the layout and of compiling, ms of a call, bytes, and the peak of the process so far.
    """
    section = OmegaConf.merge(cfg.data, {"num_ratings": num_ratings})
    assert isinstance(section, DictConfig)  # as what it is made of is
    with terminal.working(f"{num_ratings:,} ratings"):
        dataset = call(SOURCES, section, "data")()
        terminal.say_data(section, dataset)
        point = _points.full(cfg, dataset)
        tiling = point.spec.tiling
        gradient = GRADIENTS["tiles"](point.spec)
        began = time.perf_counter()
        layout = gradient.prepare(point.ratings)
        layout_s = time.perf_counter() - began
        arguments = (point.factors, layout, point.hparams)
        arguments = jax.device_put(arguments, placement(arguments, tiling))
        program, compile_s = compiled(gradient.value_and_grad, arguments)
        cost = cost_of_calls(program, compile_s, arguments, cfg.job.repeats)
    return {
        "ratings": num_ratings,
        "layout_s": layout_s,
        "compile_s": compile_s,
        "ms": cost.ms,
        "ms_low": cost.ms_low,
        "ms_high": cost.ms_high,
        "temp_bytes": cost.temp_bytes,
        "layout_bytes": sum(leaf.nbytes for leaf in jax.tree.leaves(layout)),
        "peak_bytes": peak_bytes(),
        "width": tiling.width,
        "devices": tiling.shards,
    }


def peak_bytes() -> int:
    """The most memory that this process has held so far.

    Of the kernel's own count where there is one.
    """
    status = Path("/proc/self/status")
    if status.exists() and (peak := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
        return int(peak[1]) * 1024
    import resource  # not everywhere

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


# what the sizes say together


def power_law(x: Sequence[float], y: Sequence[float]) -> Power:
    """The least-squares line through the logarithms.

    Examples:
      >>> fit = power_law([1, 10, 100], [3, 30, 300])
      >>> round(fit.factor, 6), round(fit.exponent, 6)
      (3.0, 1.0)
    """
    exponent, intercept = np.polyfit(np.log(x), np.log(y), 1)
    return Power(float(np.exp(intercept)), float(exponent))


def with_exponents(rows: Sequence[Row]) -> list[Row]:
    """The rows, each with the exponent of time from the size before it to its own."""
    exponents: list[float | None] = [None]
    for before, row in pairwise(rows):
        ratings = (before["ratings"], row["ratings"])
        law = power_law(ratings, (before["ms"], row["ms"]))
        exponents.append(law.exponent)
    return [row | {"exponent": own} for row, own in zip(rows, exponents, strict=True)]


# agreement


def errors_in_float64(cfg: DictConfig) -> dict[str, float]:
    """The relative error of `tiles` against `matrix` on the small problem, in float64.

    With each kind of background.
    """
    points = {missing: _points.small(cfg, missing=missing) for missing in ("item_mean", "zero")}
    return {missing: error_of(point, point) for missing, point in points.items()}


def error_in_float32(cfg: DictConfig) -> float:
    """The relative error of `tiles` in float32 on the bundled ratings.

    Against `matrix` in float64.
    """
    bundled = SOURCES["file"]("bundled:ml-latest-small")
    point = _points.full(cfg, bundled, dtype="float32")
    return error_of(point, in_float64(point))


def error_of(point: Point, oracle: Point) -> float:
    """The larger relative error of the two sides.

    Of `tiles` at a point, against `matrix` at the same point in float64.
    """
    with jax.enable_x64(True):
        ours = gradient_at(GRADIENTS["tiles"], point)
        theirs = gradient_at(GRADIENTS["matrix"], oracle)
    return max(errors_at(ours, theirs).values())


def tolerance(cfg: DictConfig) -> float:
    """The most that the error may be."""
    return GRADIENTS["tiles"](Spec(1, 1, max_rank=cfg.hparams.rank)).tolerance


# what a reader sees


def draw(cfg: DictConfig, figures: Mapping[str, Any], folder: Path) -> None:
    """The growth of both, with the fitted lines."""
    from mfjax.reporting import plots

    rank = f"rank {cfg.hparams.rank}"
    shape = f"{cfg.data.num_users:,} users and {cfg.data.num_items:,} items, {rank}"
    what = f"One gradient with missing={cfg.missing} by number of ratings"
    title = f"{what}\n{shape}, {cfg.dtype}"
    rows = figures["sizes"]
    figure = plots.growth(rows, figures["fits"], figures["dense_bytes"], title)
    plots.save(figure, folder, "scale", saving_of(cfg))


def show(cfg: DictConfig, figures: Mapping[str, Any]) -> None:
    """All figures on the terminal."""
    rows = figures["sizes"]
    shape = f"{cfg.data.num_users:,} x {cfg.data.num_items:,}"
    devices = f"{rows[0]['devices']} devices"
    title = f"One gradient, missing={cfg.missing}, rank {cfg.hparams.rank}, {shape}, {devices}"
    lines = [cells(row, SHOWN) for row in rows]
    terminal.show(Table(title, list(SHOWN), lines, GROUPS, file="scale.csv"))
    growth = {name: f"ratings^{law.exponent:.2f}" for name, law in figures["fits"].items()}
    at_the_end = f"ratings^{rows[-1]['exponent']:.2f} at the end (goal: at most {GOAL})"
    terminal.say(f"time grows as {growth['time']}, and as {at_the_end}")
    terminal.say(f"peak memory grows as {growth['memory']}")
    terminal.say(f"a dense matrix would take {figures['dense_bytes'] / 1e9:,.3g} GB")
    errors = figures["errors"]
    pairs = (f"{missing} {error:.1e}" for missing, error in errors["float64"].items())
    most = f"(at most {errors['tolerance_float64']:g})"
    terminal.say(f"error against matrix, float64: {', '.join(pairs)} {most}")
    said = "error of float32 against float64 on the bundled ratings"
    terminal.say(f"{said}: {errors['float32']:.1e}")
