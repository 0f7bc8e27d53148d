"""How the time and the memory of one gradient grow with the number of ratings, where a dense matrix would not fit."""

import re
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from omegaconf import DictConfig, OmegaConf

from mfjax.app import build as config
from mfjax.app import terminal as report
from mfjax.app.jobs.gradients import full_point
from mfjax.checks import compare as check
from mfjax.checks.compare import Point
from mfjax.data import SOURCES
from mfjax.errors import InputError
from mfjax.gradients import GRADIENTS
from mfjax.kernels.tiles import placement
from mfjax.reporting import files as results
from mfjax.types import Spec

GOAL = 1.05  # what the exponent of time should be at most; told, and not enforced, because a busy machine moves it
SHOWN: dict[str, tuple[str, str, float]] = {  # what a reader sees: heading, column, format and unit
    "ratings": ("ratings", ",", 1),
    "layout s": ("layout_s", ".3g", 1),
    "compile s": ("compile_s", ".2f", 1),
    "ms": ("ms", ".4g", 1),
    "25 %": ("ms_low", ".4g", 1),
    "75 %": ("ms_high", ".4g", 1),
    "exponent": ("exponent", ".2f", 1),
    "layout MB": ("layout_bytes", ".4g", 1e6),
    "temp MB": ("temp_bytes", ".4g", 1e6),
    "peak GB": ("peak_bytes", ".3g", 1e9),
}


class Power(NamedTuple):
    """y = factor · x^exponent."""

    factor: float
    exponent: float

    def at(self, x: np.ndarray) -> np.ndarray:
        return self.factor * x**self.exponent


def run(cfg: DictConfig, folder: Path, began: float) -> bool:
    """Write scale.csv, .md, results.json and the plot to `folder`; False where the gradient disagrees with `matrix`.

    Raises InputError for data that are not synthetic, and for fewer than two sizes.
    """
    sizes = sorted(set(cfg.scale.ratings))
    if len(sizes) < 2:
        raise InputError(f"scale.ratings: expected at least two numbers of ratings, to fit a line through; got {sizes}")
    rows: list[dict[str, Any]] = []
    for count in sizes:
        with report.console.status(f"{count:,} ratings"):
            rows.append(measured(cfg, count))
    rows = with_exponents(rows)
    fits = {"time": power_law(sizes, [row["ms"] for row in rows]), "memory": power_law(sizes, [r["peak_bytes"] for r in rows])}
    in_float64, in_float32 = errors_in_float64(cfg), error_in_float32(cfg)
    dense_bytes = cfg.data.num_users * cfg.data.num_items * np.dtype(cfg.dtype).itemsize
    results.write_csv(folder / "scale.csv", rows)
    (folder / "scale.md").write_text(results.markdown(list(SHOWN), [report.cells(row, SHOWN) for row in rows]))
    if cfg.plots:
        draw(cfg, rows, fits, dense_bytes, folder)
    figures = {
        "sizes": rows,
        "fits": fits,
        "goal": {"time_exponent_at_most": GOAL, "reached": max(fits["time"].exponent, rows[-1]["exponent"]) <= GOAL},
        "errors": {"float64": in_float64, "float32": in_float32, "tolerance_float64": tolerance(cfg)},
        "dense_bytes": dense_bytes,
    }
    about = {"experiment": report.experiment_name(), "seconds": {"total": time.perf_counter() - began}}
    results.write_json(folder / "results.json", about | figures | {"provenance": results.provenance()})
    show(cfg, rows, figures)
    report.say(f"Files: {folder}")
    return all(error <= tolerance(cfg) for error in in_float64.values())


def measured(cfg: DictConfig, num_ratings: int) -> dict[str, Any]:
    """The row of one size: seconds of the layout and of compiling, ms of a call, bytes, and the peak of the process so far.

    The rows of the factors are shared out over the devices.
    """
    point = full_point(cfg, config.build_dataset(OmegaConf.merge(cfg, {"data": {"num_ratings": num_ratings}})))
    gradient = GRADIENTS["tiles"](point.spec)
    began = time.perf_counter()
    layout = gradient.prepare(point.ratings)
    layout_s = time.perf_counter() - began
    arguments = (point.factors, layout, point.hparams)
    arguments = jax.device_put(arguments, placement(arguments, point.spec.tiling))
    program, compile_s = check.compiled(gradient.value_and_grad, arguments)
    cost = check.cost_of_calls(program, compile_s, arguments, cfg.check.repeats)
    return {
        "ratings": num_ratings,
        "layout_s": layout_s,
        "compile_s": compile_s,
        **{key: getattr(cost, key) for key in ("ms", "ms_low", "ms_high")},
        "temp_bytes": cost.temp_bytes,
        "layout_bytes": sum(leaf.nbytes for leaf in jax.tree.leaves(layout)),
        "peak_bytes": peak_bytes(),
        "width": point.spec.tiling.width,
        "devices": point.spec.tiling.shards,
    }


def peak_bytes() -> int:
    """The most memory that this process has held so far: of the kernel's own count where there is one."""
    status = Path("/proc/self/status")
    if status.exists() and (peak := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
        return int(peak[1]) * 1024
    import resource  # not everywhere

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


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


def with_exponents(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows, each with the exponent of time from the size before it to its own."""
    exponents = [power_law((a["ratings"], b["ratings"]), (a["ms"], b["ms"])).exponent for a, b in pairwise(rows)]
    return [row | {"exponent": exponent} for row, exponent in zip(rows, [None, *exponents], strict=True)]


# agreement


def errors_in_float64(cfg: DictConfig) -> dict[str, float]:
    """The relative error of `tiles` against `matrix` on the small problem, in float64, with each kind of background."""
    of, hparams = cfg.check, config.build_hparams(cfg)
    spec = config.build_spec(cfg, 1, 1)
    points = {
        missing: check.small_point(replace(spec, missing=missing), hparams, of.small_users, of.small_items, of.small_rank)
        for missing in ("item_mean", "zero")
    }
    return {missing: error_of(point, point) for missing, point in points.items()}


def error_in_float32(cfg: DictConfig) -> float:
    """The relative error of `tiles` in float32 against `matrix` in float64 on the bundled ratings."""
    point = full_point(OmegaConf.merge(cfg, {"dtype": "float32"}), SOURCES["file"]("bundled:ml-latest-small"))
    return error_of(point, check.in_float64(point))


def error_of(point: Point, oracle: Point) -> float:
    """The larger relative error of the two sides: of `tiles` at a point, against `matrix` at the same point in float64."""
    with jax.enable_x64(True):
        ours, theirs = check.gradient_at(GRADIENTS["tiles"], point), check.gradient_at(GRADIENTS["matrix"], oracle)
    return max(check.errors_at(ours, theirs).values())


def tolerance(cfg: DictConfig) -> float:
    return GRADIENTS["tiles"](Spec(1, 1, max_rank=cfg.hparams.rank)).tolerance


# what a reader sees


def draw(cfg: DictConfig, rows: Sequence[dict[str, Any]], fits: dict[str, Power], dense_bytes: int, folder: Path) -> None:
    from mfjax.reporting import plots

    shape = f"{cfg.data.num_users:,} users and {cfg.data.num_items:,} items, rank {cfg.hparams.rank}"
    title = f"One gradient with missing={cfg.missing} by number of ratings\n{shape}, {cfg.dtype}"
    plots.save(plots.growth(rows, fits, dense_bytes, title), folder, "scale")


def show(cfg: DictConfig, rows: Sequence[dict[str, Any]], figures: dict[str, Any]) -> None:
    shape = f"{cfg.data.num_users:,} x {cfg.data.num_items:,}"
    title = f"One gradient, missing={cfg.missing}, rank {cfg.hparams.rank}, {shape}, {rows[0]['devices']} devices"
    report.show(report.plain_table(title, list(SHOWN), [report.cells(row, SHOWN) for row in rows]))
    fits, errors = figures["fits"], figures["errors"]
    time_growth, memory_growth = (f"ratings^{fits[key].exponent:.2f}" for key in ("time", "memory"))
    report.say(f"time grows as {time_growth}, and as ratings^{rows[-1]['exponent']:.2f} at the end (goal: at most {GOAL})")
    report.say(f"peak memory grows as {memory_growth}")
    report.say(f"a dense matrix would take {figures['dense_bytes'] / 1e9:,.3g} GB")
    against = ", ".join(f"{missing} {error:.1e}" for missing, error in errors["float64"].items())
    report.say(f"error against matrix, float64: {against} (at most {errors['tolerance_float64']:g})")
    report.say(f"error of float32 against float64 on the bundled ratings: {errors['float32']:.1e}")
