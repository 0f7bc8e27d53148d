"""What a gradient and an epoch take on the device at hand, beside the floors that its memory and its arithmetic set."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from omegaconf import DictConfig, OmegaConf

from mfjax.app import build as config
from mfjax.app import terminal as report
from mfjax.checks import compare as check
from mfjax.checks.compare import Cost, Point
from mfjax.data import SOURCES
from mfjax.data.dataset import Dataset
from mfjax.errors import InputError
from mfjax.gradients import GRADIENTS
from mfjax.kernels.tiles import prepare, tile_width
from mfjax.methods import METHODS
from mfjax.methods.optimizers import optimizer
from mfjax.metrics.rating import Bounds
from mfjax.reporting import files as results
from mfjax.training.epochs import Schedule
from mfjax.training.program import Lane, Problem
from mfjax.training.sweep import Sweep, grid
from mfjax.types import NO_FOLD, Factors, Ratings, Spec, State, Tiling

COLUMNS = (
    *("operation", "rank", "lanes", "ratings", "ms", "ms_low", "ms_high", "bytes", "flops", "floor_ms", "bound", "ratio"),
    *("compile_s", "temp_bytes", "peak_bytes", "error", "tolerance", "same_bits", "status"),
)
SHOWN: dict[str, tuple[str, str, float]] = {  # what a reader sees: heading, column, format and unit
    "operation": ("operation", "", 1),
    "rank": ("rank", "", 1),
    "ms": ("ms", ".4g", 1),
    "25 %": ("ms_low", ".4g", 1),
    "75 %": ("ms_high", ".4g", 1),
    "GB": ("bytes", ".3g", 1e9),
    "GFLOP": ("flops", ".3g", 1e9),
    "floor ms": ("floor_ms", ".3g", 1),
    "ratio": ("ratio", ".3g", 1),
    "peak GB": ("peak_bytes", ".3g", 1e9),
    "error": ("error", ".1e", 1),
    "at most": ("tolerance", ".0e", 1),
    "same bits": ("same_bits", "", 1),
    "status": ("status", "", 1),
}
TOLERANCE = 1e-4  # float32 against float64; seen on a CPU: below 1e-6


class Work(NamedTuple):
    """The bytes that an operation must move and the floating-point operations that it must do, by count."""

    bytes: float
    flops: float


class Rates(NamedTuple):
    """What the device was measured to do in a second: bytes read and written by a copy, and FLOPs of a matrix product."""

    bytes: float
    flops: float


class Shape(NamedTuple):
    """What the work of an operation is counted from; `columns` are those of a row: the rank's, and its bias; `itemsize` is
    that of a float, in bytes."""

    ratings: int
    rows: int  # users and items
    columns: int
    itemsize: int


class Bench(NamedTuple):
    """What every operation is timed with."""

    cfg: DictConfig
    dataset: Dataset
    rates: Rates


Oracle = Callable[[Point, Factors], Factors]  # the gradient of a point's setting at any factors


def run(cfg: DictConfig, folder: Path, began: float) -> bool:
    """Write device.csv, .md and results.json to `folder`; False where the device disagrees with the CPU.

    Raises InputError where there is more than one device, where a lane diverges, for what does not fit in memory, and for
    missing entries that count, which SGD cannot see.
    """
    device, *others = jax.local_devices()
    if others:
        raise InputError(
            f"job=device times one device, and jax sees {1 + len(others)}\nset devices=1 on a CPU, else CUDA_VISIBLE_DEVICES=0"
        )
    METHODS["sgd"](config.build_spec(cfg, 1, 1), None, optimizer())  # refuses what it cannot train, before anything is timed
    bench = Bench(cfg, config.build_dataset(cfg), measured_rates(cfg.dtype))
    oracle = cpu_gradients(cfg, bench.dataset)
    rows = gradient_rows(bench, oracle) + als_rows(bench, oracle) + sgd_rows(bench) + [sweep_row(cfg, bench.rates)]
    rows = [dict.fromkeys(COLUMNS) | {key: value for key, value in row.items() if key in COLUMNS} for row in rows]
    results.write_csv(folder / "device.csv", rows)
    (folder / "device.md").write_text(results.markdown(list(SHOWN), [report.cells(row, SHOWN) for row in rows]))
    hardware = {"kind": device.device_kind, "platform": device.platform, "matmul_precision": cfg.matmul_precision}
    hardware |= {"copy_bytes_a_second": bench.rates.bytes, "matmul_flops_a_second": bench.rates.flops}
    about = {"experiment": report.experiment_name(), "seconds": {"total": time.perf_counter() - began}}
    figures = {"device": hardware, "operations": rows, "provenance": results.provenance()}
    results.write_json(folder / "results.json", about | figures)
    show(bench, rows, f"{device.device_kind} ({device.platform})")
    report.say(f"Files: {folder}")
    return all(row["status"] != "FAILED" for row in rows)


def show(bench: Bench, rows: Sequence[dict[str, Any]], device: str) -> None:
    data, rates = bench.dataset, bench.rates
    title = f"{device}: {data.num_users:,} x {data.num_items:,}, {len(data.value):,} ratings, {bench.cfg.dtype}"
    report.show(report.plain_table(title, list(SHOWN), [report.cells(row, SHOWN) for row in rows]))
    report.say(f"als, sgd and sweep: an epoch; the sweep: {rows[-1]['lanes']:,} lanes of {rows[-1]['ratings']:,} ratings")
    report.say(f"measured: a copy at {rates.bytes / 1e9:.4g} GB/s, a matrix product at {rates.flops / 1e9:.4g} GFLOP/s")
    for row in rows:
        if row["status"] == "FAILED":
            report.warn(f"{row['operation']} at rank {row['rank']} is {row['error']:.1e} from the CPU (at most {TOLERANCE:g})")


# floors


def gradient_work(shape: Shape) -> Work:
    """A full gradient, from the ratings by user and from the ratings by item.

    Bytes: on each side a rating's column and value, 4 + s, and the other side's row, s k; every row read, and its gradient
    written, 2 s k: 2 n (4 + s + s k) + 2 s k rows. A row counts each time it is gathered; where a whole table stays in cache,
    a shorter time than this floor is possible.
    FLOPs: a rating's prediction and its share of the gradient, 2 k each, on both sides, and the regulariser: 8 n k + 2 k rows.
    """
    n, rows, k, s = shape
    return Work(2 * n * (4 + s + s * k) + 2 * s * k * rows, 8 * n * k + 2 * k * rows)


def als_work(shape: Shape) -> Work:
    """An exact epoch of both sides.

    Bytes: those of the gradient; normal equations never leave the cache.
    FLOPs: A is symmetric, so that a rating adds k (k + 1) to it and 2 k to c, on both sides; a row's Cholesky factor takes
    k³ / 3 and its two substitutions 2 k²: 2 n (k² + 3 k) + rows (k³ / 3 + 2 k²).
    """
    n, rows, k, _ = shape
    return Work(gradient_work(shape).bytes, 2 * n * (k**2 + 3 * k) + rows * (k**3 / 3 + 2 * k**2))


def sgd_work(shape: Shape) -> Work:
    """An epoch of plain SGD.

    Bytes: a rating's place in the order, its user, item and value, 12 + s, and both its rows, read and written, 4 s k:
    n (12 + s + 4 s k).
    FLOPs: its prediction, 2 k, and two rows that become a u + b v, 3 k each: 8 n k.
    """
    n, _, k, s = shape
    return Work(n * (12 + s + 4 * s * k), 8 * n * k)


def sweep_work(shape: Shape, lanes: int) -> Work:
    """An epoch of full-batch descent in every lane: its gradient, whose rows are written as the new factors, and the step.

    Bytes: those of `lanes` gradients. FLOPs: as many, and 2 k rows a lane.
    """
    work = gradient_work(shape)
    return Work(lanes * work.bytes, lanes * (work.flops + 2 * shape.columns * shape.rows))


WORK = {"gradient": gradient_work, "als": als_work, "sgd": sgd_work}


def shape_of(spec: Spec, num_ratings: int) -> Shape:
    return Shape(num_ratings, spec.num_users + spec.num_items, spec.max_rank + spec.bias, np.dtype(spec.dtype).itemsize)


def measured_rates(dtype: str) -> Rates:
    """The best rates of this device: of adding 1 to 512 MiB in place, and of a square matrix product at the set precision."""
    size = 2048 if jax.default_backend() == "cpu" else 8192
    numbers = jnp.zeros(2**29 // np.dtype(dtype).itemsize, dtype)
    copy = best_seconds(jax.jit(lambda x: x + 1, donate_argnums=0), numbers)
    matrix = jax.random.normal(jax.random.key(0), (size, size), dtype) / np.asarray(size**0.5, dtype)
    product = jax.jit(jnp.matmul)
    return Rates(2**30 / copy, 2 * size**3 / best_seconds(lambda x: product(x, matrix), matrix))


def best_seconds(function: Callable[[jax.Array], jax.Array], x: jax.Array, calls: int = 5, repeats: int = 4) -> float:
    """The seconds of a call in the fastest of some runs of `calls` calls x ← f(x), one after the other."""
    x, seconds = jax.block_until_ready(function(x)), []
    for _ in range(repeats):
        began = time.perf_counter()
        for _ in range(calls):
            x = function(x)
        jax.block_until_ready(x)
        seconds.append((time.perf_counter() - began) / calls)
    return min(seconds)


# operations


def gradient_rows(bench: Bench, oracle: Oracle) -> list[dict[str, Any]]:
    """The full gradient at each rank, and its error against float64 on the CPU."""
    points, rows = points_of(bench, "descent"), []
    layout = jax.device_put(GRADIENTS["tiles"](points[0].spec).prepare(points[0].ratings))  # the same for all ranks
    for point in points:
        arguments = jax.device_put((point.factors, layout, point.hparams))
        row, (_, gradient) = timed(bench, "gradient", point, GRADIENTS["tiles"](point.spec).value_and_grad, arguments)
        error = max(check.errors_at(gradient, oracle(point, point.factors)).values())
        rows.append(row | judged(error))
    return rows


def als_rows(bench: Bench, oracle: Oracle) -> list[dict[str, Any]]:
    """An epoch of `als` at each rank, and what it leaves of the gradient that it should bring to 0."""
    points, rows = points_of(bench, "als"), []
    layout = jax.device_put(METHODS["als"](points[0].spec, None, optimizer()).prepare(points[0].ratings))
    for point in points:
        method = METHODS["als"](point.spec, None, optimizer())
        arguments = jax.device_put((State(point.factors, ()), layout, point.hparams, None))
        row, (state, _) = timed(bench, "als", point, method.step, arguments)
        rows.append(row | judged(als_error(point, state.factors, oracle)))
    return rows


def als_error(point: Point, after: Factors, oracle: Oracle) -> float:
    """What an epoch of `als` left of the gradient, of the side where more was left: max|∂L after| / max|∂L before|.

    Each half of the epoch ends at the minimum over its side, where ∂L of that side is 0 in exact arithmetic: with the item
    factors of the start for the users, and with the users' new ones for the items.
    """
    between = Factors(after.user, point.factors.item)
    start, middle, end = (oracle(point, factors) for factors in (point.factors, between, after))
    left = Factors(*(np.abs(side).max() for side in (middle.user, end.item)))
    return float(max(left.user / np.abs(start.user).max(), left.item / np.abs(middle.item).max()))


def sgd_rows(bench: Bench) -> list[dict[str, Any]]:
    """An epoch of plain SGD at each rank, in batches of `batch_size`."""
    points, rows = points_of(bench, "sgd"), []
    for point in points:
        method = METHODS["sgd"](point.spec, None, optimizer())
        layout = method.prepare(point.ratings)
        state = jax.jit(method.init)(jax.random.key(0), layout, point.hparams, point.factors)
        order = method.order(len(point.ratings.value), 0, 0)
        rows.append(timed(bench, "sgd", point, method.step, jax.device_put((state, layout, point.hparams, order)))[0])
    return rows


def sweep_row(cfg: DictConfig, rates: Rates) -> dict[str, Any]:
    """An epoch of full-batch descent in every lane of a sweep, between two looks of the host at it."""
    dataset, of, repeats = (
        config.call(SOURCES, cfg.device.lane_data, "source", "device.lane_data")(),
        cfg.device,
        cfg.check.repeats,
    )
    spec = replace(config.build_spec(cfg, dataset.num_users, dataset.num_items), max_rank=of.lane_rank)
    spec = replace(spec, tiling=config.build_tiling(cfg, dataset, spec))
    ratings = Ratings.of(dataset.user, dataset.item, dataset.value, dtype=cfg.dtype)
    problem = Problem(ratings, Ratings.of([], [], [], dtype=cfg.dtype), Bounds(*dataset.scale))
    epochs = repeats + 2  # the first compiles, and the last is evaluated
    schedule = Schedule(epochs, eval_every=epochs, chunk=1)
    method = lambda spec: METHODS["descent"](spec, GRADIENTS["tiles"](spec), optimizer())  # noqa: E731
    sweep = Sweep(spec, method, {0: problem}, schedule, width=of.lanes, lane_batch=cfg.lane_batch)
    setting = config.build_hparams(cfg)._replace(rank=of.lane_rank, fold=NO_FOLD, data_seed=0)
    looks: list[float] = []
    fits = sweep.train(
        [Lane(h, epochs) for h in grid(setting, {"seed": range(of.lanes)})], lambda _: looks.append(time.perf_counter())
    )
    if dead := [fit.status for fit in fits if not fit.alive]:
        raise InputError(
            f"{len(dead):,} of {of.lanes:,} lanes {dead[0]}; a dead lane takes no time: set a lower hparams.learning_rate"
        )
    cost = Cost(*check.milliseconds(np.diff(looks)[:-1].tolist()), sweep.compile_seconds, None, None)
    shape = shape_of(spec, len(ratings.value))
    return row_of("sweep", shape, cost, sweep_work(shape, of.lanes), rates) | {"rank": of.lane_rank, "lanes": of.lanes}


def points_of(bench: Bench, method: str) -> list[Point]:
    """The data at each rank, cut as suits the method; none held out."""
    cfg, data = OmegaConf.merge(bench.cfg, {"method": method}), bench.dataset
    ratings = Ratings.of(data.user, data.item, data.value, dtype=cfg.dtype)
    spec = config.build_spec(cfg, data.num_users, data.num_items)
    spec = replace(spec, tiling=config.build_tiling(cfg, data, spec))
    hparams = config.build_hparams(cfg)
    return [check.full_point(replace(spec, max_rank=k), ratings, hparams._replace(rank=k)) for k in cfg.device.ranks]


def timed(bench: Bench, operation: str, point: Point, function: Callable, arguments: tuple) -> tuple[dict[str, Any], Any]:
    """The row of an operation without a verdict, and on the host what it computed."""
    with report.console.status(f"{operation}, rank {point.spec.max_rank}"):
        program, compile_s = check.compiled(function, arguments)
        cost = check.cost_of_calls(program, compile_s, arguments, bench.cfg.check.repeats)
        once, again = (jax.tree.map(np.asarray, program(*arguments)) for _ in range(2))
    same = all(a.tobytes() == b.tobytes() for a, b in zip(*map(jax.tree.leaves, (once, again)), strict=True))
    shape = shape_of(point.spec, len(point.ratings.value))
    row = row_of(operation, shape, cost, WORK[operation](shape), bench.rates)
    return row | {"rank": point.spec.max_rank, "same_bits": "yes" if same else "no"}, once


def row_of(operation: str, shape: Shape, cost: Cost, work: Work, rates: Rates) -> dict[str, Any]:
    """The columns of every operation: its cost, its work by count (not XLA's), and the floor of the slower of the two rates."""
    floors = {"bytes": work.bytes / rates.bytes * 1e3, "FLOPs": work.flops / rates.flops * 1e3}
    bound = max(floors, key=floors.__getitem__)
    stats = jax.local_devices()[0].memory_stats() or {}
    about = {"operation": operation, "ratings": shape.ratings, "peak_bytes": stats.get("peak_bytes_in_use"), "status": "timed"}
    floor = {"floor_ms": floors[bound], "bound": bound, "ratio": cost.ms / floors[bound]}
    return about | cost._asdict() | work._asdict() | floor


# agreement


def cpu_gradients(cfg: DictConfig, dataset: Dataset) -> Oracle:
    """`tiles` in float64 on the CPU, cut as suits a CPU. Raises InputError where jax was told of another platform alone."""
    try:
        cpu = jax.devices("cpu")[0]
    except RuntimeError as error:
        raise InputError(f"platform={cfg.platform} leaves jax no CPU to compare with; leave platform out") from error
    ratings = Ratings.of(dataset.user, dataset.item, dataset.value, dtype="float64")
    spec = replace(config.build_spec(cfg, dataset.num_users, dataset.num_items), dtype="float64")
    tiling = Tiling(width=tile_width(ratings, spec))
    layout = prepare(ratings, replace(spec, tiling=tiling))
    program = cache(lambda spec: jax.jit(GRADIENTS["tiles"](spec).value_and_grad))

    def gradient(point: Point, factors: Factors) -> Factors:
        wide = check.in_float64(point._replace(factors=factors))
        with jax.enable_x64(True), jax.default_device(cpu):
            at = jax.device_put((wide.factors, layout, wide.hparams), cpu)
            return jax.tree.map(np.asarray, program(replace(wide.spec, tiling=tiling))(*at)[1])

    return gradient


def judged(error: float) -> dict[str, Any]:
    """The columns of the verdict; NaN fails."""
    return {"error": error, "tolerance": TOLERANCE, "status": "ok" if error <= TOLERANCE else "FAILED"}
