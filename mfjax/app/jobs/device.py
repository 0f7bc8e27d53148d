"""What a gradient and an epoch take on the device at hand.

Beside the floors that its memory and its arithmetic set.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import jax
import numpy as np
from omegaconf import DictConfig

from mfjax.app import terminal
from mfjax.app.build import build_dataset, build_spec
from mfjax.app.jobs._floors import measured_rates
from mfjax.app.jobs._operations import (
    Bench,
    Oracle,
    Row,
    als_rows,
    gradient_rows,
    sgd,
    sgd_rows,
    sweep_row,
)
from mfjax.app.table import Table
from mfjax.checks.points import Point, in_float64
from mfjax.data.dataset import Dataset
from mfjax.errors import InputError
from mfjax.gradients import GRADIENTS
from mfjax.kernels.layout import tile_width
from mfjax.losses import require_squared
from mfjax.reporting.files import write_csv, write_text
from mfjax.reporting.formats import Shown, cells, markdown
from mfjax.types import Factors, Spec, Tiling

COLUMNS = (
    "operation",
    "rank",
    "lanes",
    "ratings",
    "ms",
    "ms_low",
    "ms_high",
    "bytes",
    "flops",
    "floor_ms",
    "bound",
    "ratio",
    "compile_s",
    "temp_bytes",
    "peak_bytes",
    "error",
    "tolerance",
    "same_bits",
    "status",
)
SHOWN = {
    "operation": Shown("operation"),
    "rank": Shown("rank"),
    "ms": Shown("ms", ".4g"),
    "25 %": Shown("ms_low", ".4g"),
    "75 %": Shown("ms_high", ".4g"),
    "GB": Shown("bytes", ".3g", 1e9),
    "GFLOP": Shown("flops", ".3g", 1e9),
    "floor ms": Shown("floor_ms", ".3g"),
    "ratio": Shown("ratio", ".3g"),
    "peak GB": Shown("peak_bytes", ".3g", 1e9),
    "error": Shown("error", ".1e"),
    "at most": Shown("tolerance", ".0e"),
    "same bits": Shown("same_bits"),
    "status": Shown("status"),
}
GROUPS = (  # the most important first
    ("operation", "status", "rank", "ms", "floor ms", "ratio", "error", "peak GB"),
    ("at most",),
    ("25 %", "75 %"),
    ("same bits",),
    ("GB", "GFLOP"),
)
TEXT = ("operation", "status")
TOLERANCE = 1e-4  # float32 against float64; seen on a CPU: below 1e-6


def run(cfg: DictConfig, folder: Path, began: float) -> bool:
    """Write device.csv, .md and results.json to `folder`.

    False where the device disagrees with the CPU. Raises InputError where there is more than one
    device, where a lane diverges, for what does not fit in memory, for missing entries that count,
    which SGD cannot see, and for another loss, which ALS cannot solve.
    """
    device, *others = jax.local_devices()
    if others:
        raise InputError(
            f"job=device times one device, and jax sees {1 + len(others)}\n"
            "set devices=1 on a CPU, else CUDA_VISIBLE_DEVICES=0"
        )
    spec = build_spec(cfg, 1, 1)
    sgd(cfg, spec)  # refuses what it cannot train, before anything is timed
    require_squared(spec, "job=device times als, which", "leave out loss")
    dataset = build_dataset(cfg)
    terminal.say_data(dataset)
    with terminal.working("rates of a copy and of a product"):
        rates = measured_rates(cfg.dtype)
    bench = Bench(cfg, dataset, rates)
    rows = rows_of(bench, cpu_gradients(cfg, bench.dataset))
    write_csv(folder / "device.csv", rows)
    lines = [cells(row, SHOWN) for row in rows]
    write_text(folder / "device.md", markdown(list(SHOWN), lines))
    show(bench, rows, f"{device.device_kind} ({device.platform})")
    hardware = {
        "kind": device.device_kind,
        "platform": device.platform,
        "matmul_precision": cfg.matmul_precision,
        "copy_bytes_a_second": bench.rates.bytes,
        "matmul_flops_a_second": bench.rates.flops,
    }
    figures = {"device": hardware, "operations": rows}
    as_expected = terminal.finish(cfg, folder, began, content=figures, figures=figures)
    return as_expected and all(row["status"] != "FAILED" for row in rows)


def rows_of(bench: Bench, oracle: Oracle) -> list[Row]:
    """A row an operation and rank, and the sweep's; every column in every row."""
    rows = [
        *(row | judged(row["error"]) for row in gradient_rows(bench, oracle)),
        *(row | judged(row["error"]) for row in als_rows(bench, oracle)),
        *sgd_rows(bench),
        sweep_row(bench),
    ]
    return [{column: row.get(column) for column in COLUMNS} for row in rows]


def show(bench: Bench, rows: Sequence[Row], device: str) -> None:
    """All rows and rates on the terminal."""
    data = bench.dataset
    shape = f"{data.num_users:,} x {data.num_items:,}, {len(data.value):,} ratings"
    title = f"{device}: {shape}, {bench.cfg.dtype}"
    lines = [cells(row, SHOWN) for row in rows]
    terminal.show(Table(title, list(SHOWN), lines, GROUPS, TEXT, "device.csv"))
    sweep = rows[-1]
    lanes = f"{sweep['lanes']:,} lanes of {sweep['ratings']:,} ratings"
    terminal.say(f"als, sgd and sweep: an epoch; the sweep: {lanes}")
    copy = f"{bench.rates.bytes / 1e9:.4g} GB/s"
    product = f"{bench.rates.flops / 1e9:.4g} GFLOP/s"
    terminal.say(f"measured: a copy at {copy}, a matrix product at {product}")
    for row in rows:
        if row["status"] == "FAILED":
            what = f"{row['operation']} at rank {row['rank']}"
            error = f"{row['error']:.1e} from the CPU (at most {TOLERANCE:g})"
            terminal.warn(f"{what} is {error}")


# agreement


def cpu_gradients(cfg: DictConfig, dataset: Dataset) -> Oracle:
    """`tiles` in float64 on the CPU, cut as suits a CPU.

    Raises InputError where jax was told of another platform alone.
    """
    try:
        cpu = jax.devices("cpu")[0]
    except RuntimeError as error:
        raise InputError(
            f"platform={cfg.platform} leaves jax no CPU to compare with; leave platform out"
        ) from error
    spec = build_spec(cfg, dataset.num_users, dataset.num_items)
    spec = replace(spec, dtype="float64")
    ratings = dataset.ratings(dtype=spec.dtype)
    tiling = Tiling(width=tile_width(ratings, spec))
    layout = GRADIENTS["tiles"](replace(spec, tiling=tiling)).prepare(ratings)

    @cache
    def program(spec: Spec) -> Callable:
        return jax.jit(GRADIENTS["tiles"](spec).value_and_grad)

    def gradient(point: Point, factors: Factors) -> Factors:
        wide = in_float64(point._replace(factors=factors))
        spec = replace(wide.spec, tiling=tiling)
        with jax.enable_x64(True), jax.default_device(cpu):
            arguments = jax.device_put((wide.factors, layout, wide.hparams), cpu)
            _, grad = program(spec)(*arguments)
            return jax.tree.map(np.asarray, grad)

    return gradient


def judged(error: float) -> Row:
    """The columns of the verdict; NaN fails."""
    is_right = error <= TOLERANCE
    return {
        "error": error,
        "tolerance": TOLERANCE,
        "status": "ok" if is_right else "FAILED",
    }
