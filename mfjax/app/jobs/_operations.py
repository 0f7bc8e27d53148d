"""What `job=device` times: a gradient, and epochs of ALS, of SGD and of a sweep."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import numpy as np
from omegaconf import DictConfig

from mfjax.app import terminal
from mfjax.app.build import build_hparams, build_spec, build_tiling, call
from mfjax.app.jobs._floors import (
    Rates,
    Shape,
    Work,
    als_work,
    gradient_work,
    sgd_work,
    shape_of,
    sweep_work,
)
from mfjax.checks.compare import errors_at
from mfjax.checks.cost import Cost, compiled, cost_of_calls, milliseconds
from mfjax.checks.points import Point, full_point
from mfjax.data import SOURCES
from mfjax.data.dataset import Dataset
from mfjax.data.problem import Problem
from mfjax.errors import InputError
from mfjax.gradients import GRADIENTS
from mfjax.kernels import KERNELS
from mfjax.methods import METHODS
from mfjax.methods.optimizers import optimizer
from mfjax.training.epochs import Schedule
from mfjax.training.lanes import Fit, Lane, Plan, grid
from mfjax.training.sweep import Sweep
from mfjax.types import NO_FOLD, Bounds, Factors, Method, Ratings, Spec, State

Row = dict[str, Any]
Oracle = Callable[[Point, Factors], Factors]  # the gradient of a point's setting at any factors


class Bench(NamedTuple):
    """What every operation is timed with."""

    cfg: DictConfig
    dataset: Dataset
    rates: Rates


class Operation(NamedTuple):
    """What is timed: its name, and its work on a shape."""

    name: str
    work: Callable[[Shape], Work]


GRADIENT = Operation("gradient", gradient_work)
ALS = Operation("als", als_work)
SGD = Operation("sgd", sgd_work)


def als(spec: Spec) -> Method:
    """Exact ALS on tiles."""
    return METHODS["als"](spec, kernel=KERNELS["xla"](spec))


def sgd(cfg: DictConfig, spec: Spec) -> Method:
    """Plain SGD, in batches of `method.batch_size`, in XLA."""
    batch_size = cfg.method.batch_size
    given = {} if batch_size is None else {"batch_size": batch_size}
    return METHODS["sgd"](spec, kernel=KERNELS["xla"](spec), optimizer=optimizer(), **given)


def descent(spec: Spec) -> Method:
    """Plain full-batch descent on tiles."""
    return METHODS["descent"](spec, gradient=GRADIENTS["tiles"](spec), optimizer=optimizer())


def gradient_rows(bench: Bench, oracle: Oracle) -> list[Row]:
    """The full gradient at each rank, and its error against float64 on the CPU."""
    points = points_of(bench)
    layout = prepared_once(points, GRADIENTS["tiles"])
    rows = []
    for point in points:
        function = GRADIENTS["tiles"](point.spec).value_and_grad
        arguments = jax.device_put((point.factors, layout, point.hparams))
        row, (_, gradient) = timed(bench, GRADIENT, point, function, arguments)
        with terminal.working(f"gradient, rank {row['rank']}, in float64 on the CPU"):
            error = max(errors_at(gradient, oracle(point, point.factors)).values())
        rows.append(row | {"error": error})
    return rows


def als_rows(bench: Bench, oracle: Oracle) -> list[Row]:
    """An epoch of `als` at each rank.

    And what it leaves of the gradient that it should bring to 0.
    """
    points = points_of(bench, als)
    layout = prepared_once(points, als)
    rows = []
    for point in points:
        state = State(point.factors, ())
        arguments = jax.device_put((state, layout, point.hparams, 0))
        row, (after, _) = timed(bench, ALS, point, als(point.spec).step, arguments)
        with terminal.working(f"als, rank {row['rank']}, in float64 on the CPU"):
            error = als_error(point, after.factors, oracle)
        rows.append(row | {"error": error})
    return rows


def als_error(point: Point, after: Factors, oracle: Oracle) -> float:
    """What an epoch of `als` left of the gradient, of the side where more was left.

    max|∂L after| / max|∂L before|: each half of the epoch ends at the minimum over its side, where
    ∂L of that side is 0 in exact arithmetic: with the item factors of the start for the users, and
    with the users' new ones for the items.
    """
    halfway = Factors(after.user, point.factors.item)
    start = oracle(point, point.factors)
    middle = oracle(point, halfway)
    end = oracle(point, after)
    of_user = np.abs(middle.user).max() / np.abs(start.user).max()
    of_item = np.abs(end.item).max() / np.abs(middle.item).max()
    return float(max(of_user, of_item))


def sgd_rows(bench: Bench) -> list[Row]:
    """An epoch of plain SGD at each rank."""
    rows = []
    for point in points_of(bench):
        method = sgd(bench.cfg, point.spec)
        layout = method.prepare(point.ratings)
        init = jax.jit(method.init)
        state = init(jax.random.key(0), layout, point.hparams, point.factors)
        arguments = jax.device_put((state, layout, point.hparams, 0))
        row, _ = timed(bench, SGD, point, method.step, arguments)
        rows.append(row)
    return rows


def points_of(bench: Bench, method: Callable[[Spec], Method] | None = None) -> list[Point]:
    """The data at each rank, cut as suits a gradient, or the method; none held out."""
    cfg = bench.cfg
    data = bench.dataset
    spec = build_spec(cfg, data.num_users, data.num_items)
    solves_rows = method is not None and method(spec).solves_rows
    spec = replace(spec, tiling=build_tiling(cfg, data, spec, solves_rows))
    ratings = data.ratings(dtype=cfg.dtype)
    hparams = build_hparams(cfg)
    return [
        full_point(replace(spec, max_rank=rank), ratings, hparams._replace(rank=rank))
        for rank in cfg.job.ranks
    ]


def prepared_once(points: Sequence[Point], make: Callable[[Spec], Any]) -> Any:
    """The layout of the ratings on the device, the same for all ranks."""
    first = points[0]
    return jax.device_put(make(first.spec).prepare(first.ratings))


def timed(
    bench: Bench, operation: Operation, point: Point, function: Callable, arguments: tuple
) -> tuple[Row, Any]:
    """The row of an operation without a verdict, and on the host what it computed."""
    rank = point.spec.max_rank
    with terminal.working(f"{operation.name}, rank {rank}"):
        program, compile_s = compiled(function, arguments)
        cost = cost_of_calls(program, compile_s, arguments, bench.cfg.job.repeats)
        once = jax.tree.map(np.asarray, program(*arguments))
        again = jax.tree.map(np.asarray, program(*arguments))
    shape = shape_of(point.spec, len(point.ratings.value))
    row = row_of(operation.name, shape, cost, operation.work(shape), bench.rates)
    same_bits = "yes" if have_same_bits(once, again) else "no"
    return row | {"rank": rank, "same_bits": same_bits}, once


def have_same_bits(a: Any, b: Any) -> bool:
    """Whether two trees of arrays have."""
    leaves = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(one.tobytes() == other.tobytes() for one, other in leaves)


def row_of(operation: str, shape: Shape, cost: Cost, work: Work, rates: Rates) -> Row:
    """The columns of every operation.

    Its cost, its work by count (not XLA's), and the floor of the slower of the two rates.
    """
    floors = {
        "bytes": work.bytes / rates.bytes * 1e3,
        "FLOPs": work.flops / rates.flops * 1e3,
    }
    bound = max(floors, key=lambda rate: floors[rate])
    stats = jax.local_devices()[0].memory_stats() or {}
    measured = {
        "operation": operation,
        "ratings": shape.ratings,
        "peak_bytes": stats.get("peak_bytes_in_use"),
        "status": "timed",
    }
    floor = {
        "floor_ms": floors[bound],
        "bound": bound,
        "ratio": cost.ms / floors[bound],
    }
    return measured | cost._asdict() | work._asdict() | floor


# the sweep


def sweep_row(bench: Bench) -> Row:
    """An epoch of full-batch descent in every lane of a sweep, between two looks of the host."""
    cfg = bench.cfg
    job = cfg.job
    dataset = call(SOURCES, job.lane_data, "job.lane_data")()
    spec = build_spec(cfg, dataset.num_users, dataset.num_items)
    spec = replace(spec, max_rank=job.lane_rank)
    spec = replace(spec, tiling=build_tiling(cfg, dataset, spec))
    epochs = job.repeats + 2  # the first compiles, and the last is evaluated
    plan = Plan(
        spec=spec,
        method=descent,
        problems={(0, 0): untested(dataset, cfg.dtype)},
        schedule=Schedule(epochs, eval_every=epochs, epochs_per_call=1),
        lane_batch=cfg.lane_batch,
    )
    sweep = Sweep(plan, lanes_per_program=job.lanes)
    setting = build_hparams(cfg)._replace(rank=job.lane_rank, fold=NO_FOLD, split_seed=0)
    hparams = grid(setting, {"init_seed": range(job.lanes)})
    looks: list[float] = []
    with terminal.working(f"sweep, {job.lanes:,} lanes"):
        fits = sweep.train(
            [Lane(one, epochs) for one in hparams],
            lambda progress: looks.append(time.perf_counter()),
        )
    refuse_dead(fits)
    ms, ms_low, ms_high = milliseconds(np.diff(looks)[:-1].tolist())
    cost = Cost(ms, ms_low, ms_high, sweep.compile_seconds, temp_bytes=None, flops=None)
    shape = shape_of(spec, len(dataset.value))
    row = row_of("sweep", shape, cost, sweep_work(shape, job.lanes), bench.rates)
    return row | {"rank": job.lane_rank, "lanes": job.lanes}


def untested(dataset: Dataset, dtype: str) -> Problem:
    """All ratings to train on, and none to test."""
    return Problem(
        ratings=dataset.ratings(dtype=dtype),
        test=Ratings.of([], [], [], dtype=dtype),
        bounds=Bounds(*dataset.scale),
    )


def refuse_dead(fits: Sequence[Fit]) -> None:
    """Raises InputError where a lane diverged."""
    dead = [fit.status for fit in fits if not fit.alive]
    if dead:
        raise InputError(
            f"{len(dead):,} of {len(fits):,} lanes {dead[0]}; a dead lane takes no time: "
            "set a lower hparams.learning_rate"
        )
