"""How the time and the memory of one gradient grow with the number of ratings.

Where a dense matrix would not fit.
"""

import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from omegaconf import DictConfig, OmegaConf
from scipy.optimize import nnls

from mfjax.app import terminal
from mfjax.app.build import build_spec, call
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
from mfjax.losses import require_squared
from mfjax.reporting.files import write_csv, write_text
from mfjax.reporting.formats import Shown, cells, markdown
from mfjax.types import Spec

# how far a size's time should be from the line at most, as a share of the line's; told, and not
# enforced: a busy machine moves it
GOAL = 0.25
SHOWN = {
    "ratings": Shown("ratings", ","),
    "layout s": Shown("layout_s", ".3g"),
    "compile s": Shown("compile_s", ".2f"),
    "ms": Shown("ms", ".4g"),
    "25 %": Shown("ms_low", ".4g"),
    "75 %": Shown("ms_high", ".4g"),
    "a + b n": Shown("ms_fitted", ".4g"),
    "layout MB": Shown("layout_bytes", ".4g", 1e6),
    "temp MB": Shown("temp_bytes", ".4g", 1e6),
    "peak GB": Shown("peak_bytes", ".3g", 1e9),
}
GROUPS = (  # the most important first
    ("ratings", "ms", "a + b n", "layout MB", "temp MB", "peak GB"),
    ("layout s", "compile s"),
    ("25 %", "75 %"),
)
Row = dict[str, Any]


class Line(NamedTuple):
    """y = a + b · x."""

    a: float
    b: float

    def at(self, x: Any) -> Any:
        return self.a + self.b * x


def run(cfg: DictConfig, folder: Path, began: float) -> bool:
    """Write scale.csv, .md, results.json and the plot to `folder`.

    False where the gradient disagrees with `matrix`. Raises InputError for data that are not
    synthetic or of no shape, for fewer than two sizes, and for a loss that has no missing entries.
    """
    require_squared(build_spec(cfg, 1, 1), "job=scale counts missing entries and", "leave out loss")
    refuse_without_shape(cfg)
    figures = figures_of(cfg, [measured(cfg, count) for count in sizes_of(cfg)])
    rows = figures["sizes"]
    write_csv(folder / "scale.csv", rows)
    lines = [cells(row, SHOWN) for row in rows]
    write_text(folder / "scale.md", markdown(list(SHOWN), lines))
    if cfg.plots.draw:
        draw(cfg, figures, folder)
    show(cfg, figures)
    as_expected = terminal.finish(cfg, folder, began, content=figures, figures=figures)
    errors = figures["errors"]
    most = errors["tolerance_float64"]
    return as_expected and all(error <= most for error in errors["float64"].values())


def refuse_without_shape(cfg: DictConfig) -> None:
    """Raises InputError for synthetic data whose matrix no key makes as large as it is to be."""
    shape = [f"data.{key}" for key in ("num_users", "num_items") if cfg.data.get(key) is None]
    if cfg.data.name == "synthetic" and shape:
        raise InputError(
            f"job=scale needs {' and '.join(shape)}; add {' '.join(f'{key}=…' for key in shape)}"
        )


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
    """The rows of all sizes, what they say together, and the agreement with `matrix`.

    The line of time is in seconds, and that of memory in bytes.
    """
    ratings = [row["ratings"] for row in rows]
    of_time = line_through(ratings, [row["ms"] / 1e3 for row in rows])
    of_memory = line_through(ratings, [row["peak_bytes"] for row in rows])
    sizes = [row | {"ms_fitted": 1e3 * of_time.at(row["ratings"])} for row in rows]
    most_off = max(abs(row["ms"] / row["ms_fitted"] - 1) for row in sizes)
    entries = cfg.data.num_users * cfg.data.num_items
    return {
        "sizes": sizes,
        "fits": {"time": of_time, "memory": of_memory},
        "goal": {"at_most_off": GOAL, "most_off": most_off, "reached": most_off <= GOAL},
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
        terminal.say_data(dataset)
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


def line_through(x: Sequence[float], y: Sequence[float]) -> Line:
    """The line of least squares of the relative error, neither a nor b below 0.

    Examples:
      >>> fit = line_through([1, 10, 100], [5, 32, 302])
      >>> round(fit.a, 6), round(fit.b, 6)
      (2.0, 3.0)
    """
    unit = max(x)  # so that both columns are of one size
    columns = np.stack([np.ones(len(x)), np.asarray(x) / unit], axis=1)
    weighted = columns / np.asarray(y)[:, None]
    (a, b), _ = nnls(weighted, np.ones(len(x)))
    return Line(float(a), float(b) / unit)


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
    plots.save(figure, folder, "growth", saving_of(cfg))


def show(cfg: DictConfig, figures: Mapping[str, Any]) -> None:
    """All figures on the terminal."""
    rows = figures["sizes"]
    shape = f"{cfg.data.num_users:,} x {cfg.data.num_items:,}"
    devices = f"{rows[0]['devices']} devices"
    title = f"One gradient, missing={cfg.missing}, rank {cfg.hparams.rank}, {shape}, {devices}"
    lines = [cells(row, SHOWN) for row in rows]
    terminal.show(Table(title, list(SHOWN), lines, GROUPS, file="scale.csv"))
    time_line, memory_line = figures["fits"].values()
    off = f"off by at most {figures['goal']['most_off']:.0%} (goal: {GOAL:.0%})"
    terminal.say(f"a call takes {time_line.a:.3g} s + {1e9 * time_line.b:.3g} ns a rating, {off}")
    memory = f"{memory_line.a / 1e9:.3g} GB + {memory_line.b:.3g} bytes a rating"
    terminal.say(f"the peak of memory is {memory}")
    terminal.say(f"a dense matrix would take {figures['dense_bytes'] / 1e9:,.3g} GB")
    errors = figures["errors"]
    pairs = (f"{missing} {error:.1e}" for missing, error in errors["float64"].items())
    most = f"(at most {errors['tolerance_float64']:g})"
    terminal.say(f"error against matrix, float64: {', '.join(pairs)} {most}")
    said = "error of float32 against float64 on the bundled ratings"
    terminal.say(f"{said}: {errors['float32']:.1e}")
