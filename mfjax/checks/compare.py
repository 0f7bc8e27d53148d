"""Compare gradients: error against central differences and against the dense form, time, compile time, memory, FLOPs."""

import importlib
import importlib.util
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from mfjax.errors import InputError
from mfjax.gradients import GRADIENTS
from mfjax.gradients.dense import numerical, prepare
from mfjax.objective import dense_loss, terms
from mfjax.types import Factors, Gradient, Hparams, Ratings, Spec


class Point(NamedTuple):
    """Where a gradient is taken: the ratings, the factors and the setting, and what shapes them."""

    spec: Spec
    ratings: Ratings
    factors: Factors
    hparams: Hparams


class Cost(NamedTuple):
    """What a call costs: median and quartiles of milliseconds, seconds of compiling, and XLA's own count of the bytes of
    temporaries and of FLOPs (the body of a loop is counted once)."""

    ms: float
    ms_low: float
    ms_high: float
    compile_s: float
    temp_bytes: int | None
    flops: float | None


class Worst(NamedTuple):
    """The entry where two gradients differ most, relative to its size."""

    side: str
    row: int
    column: int
    analytic: float
    numerical: float
    relative_error: float


def relative_error(a: np.ndarray, b: np.ndarray) -> float:
    """max|a − b| / max|b|, which stays meaningful where single entries pass through 0."""
    scale = np.abs(b).max()
    return float(np.abs(a - b).max() / (scale if scale else 1.0))


def elementwise_error(a: np.ndarray, b: np.ndarray) -> float:
    """max |a − b| / max(1e-8, |a| + |b|), the metric of many published checks; it fails correct gradients near a minimum."""
    return float(_elementwise(a, b).max())


def _elementwise(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.abs(a - b) / np.maximum(1e-8, np.abs(a) + np.abs(b))


def small_point(spec: Spec, hparams: Hparams, num_users: int, num_items: int, rank: int) -> Point:
    """A small random problem in float64: every rating uniform on [0, 1) and two thirds of them seen (all of a 3 x 3), user
    factors uniform, item factors normal. The conventions are those of `spec`, the setting that of `hparams`."""
    rng = np.random.default_rng(hparams.seed)
    seen = rng.random((num_users, num_items)) < (2 / 3 if num_users * num_items > 9 else 1)
    user, item = np.nonzero(seen)
    spec = replace(spec, num_users=num_users, num_items=num_items, max_rank=rank, dtype="float64")
    factors = Factors(rng.random((num_users, spec.columns)), rng.normal(size=(num_items, spec.columns)))
    ratings = Ratings.of(user, item, rng.random(len(user)), dtype=spec.dtype)
    return Point(spec, ratings, factors, Hparams.of(spec.dtype, **hparams._replace(rank=rank)._asdict()))


def full_point(spec: Spec, ratings: Ratings, hparams: Hparams) -> Point:
    """The data at hand, at random factors of the setting's `init_scale`."""
    rng = np.random.default_rng(hparams.seed)
    sides = (rng.normal(size=(n, spec.columns)) * hparams.init_scale for n in (spec.num_users, spec.num_items))
    factors = Factors(*(side.astype(spec.dtype) for side in sides))
    return Point(spec, ratings, factors, Hparams.of(spec.dtype, **hparams._asdict()))


def in_float64(point: Point) -> Point:
    """The same point in float64."""
    wide = lambda x: x.astype(np.float64) if x.dtype.kind == "f" else x  # noqa: E731
    return Point(replace(point.spec, dtype="float64"), *jax.tree.map(wide, tuple(point[1:])))


def gradient_at(make: Callable[[Spec], Gradient], point: Point) -> Factors:
    """The gradient of a variant at a point, on the host."""
    gradient = make(point.spec)
    layout = gradient.prepare(point.ratings)
    return jax.tree.map(np.asarray, jax.jit(gradient.value_and_grad)(point.factors, layout, point.hparams)[1])


def cost_of(make: Callable[[Spec], Gradient], point: Point, repeats: int) -> Cost:
    """What a call of a variant costs on the default device."""
    gradient = make(point.spec)
    arguments = (point.factors, gradient.prepare(point.ratings), point.hparams)
    program, compile_s = compiled(gradient.value_and_grad, arguments)
    return cost_of_calls(program, compile_s, jax.device_put(arguments, program.input_shardings[0]), repeats)


def compiled(function: Callable, arguments: tuple) -> tuple[jax.stages.Compiled, float]:
    """The program of `function` for such arguments, and the seconds that compiling took."""
    began = time.perf_counter()
    program = jax.jit(function).lower(*arguments).compile()
    return program, time.perf_counter() - began


def cost_of_calls(program: jax.stages.Compiled, compile_s: float, arguments: tuple, repeats: int) -> Cost:
    """What a call of a compiled program costs: warmed up once, then timed `repeats` times until ready."""
    jax.block_until_ready(program(*arguments))
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        jax.block_until_ready(program(*arguments))
        seconds.append(time.perf_counter() - began)
    memory, count = program.memory_analysis(), program.cost_analysis() or {}
    temp_bytes = None if memory is None else int(memory.temp_size_in_bytes)
    return Cost(*milliseconds(seconds), compile_s, temp_bytes, count.get("flops"))


def milliseconds(seconds: Sequence[float]) -> tuple[float, float, float]:
    """Median, lower and upper quartile."""
    low, median, high = (float(x) for x in np.quantile(seconds, (0.25, 0.5, 0.75)) * 1e3)
    return median, low, high


def errors_at(gradient: Factors, oracle: Factors, suffix: str = "") -> dict[str, float]:
    """The relative errors of both sides, as columns of the comparison."""
    pairs = zip(Factors._fields, gradient, oracle, strict=True)
    return {f"error_{side}{suffix}": relative_error(a, b) for side, a, b in pairs}


def against_differences(gradient: Factors, oracle: Factors, tolerance: float) -> dict[str, Any]:
    """The columns that compare a gradient with central differences: both metrics of both sides, and the verdict."""
    errors = errors_at(gradient, oracle)
    elementwise = {
        f"elementwise_{side}": elementwise_error(a, b) for side, a, b in zip(Factors._fields, gradient, oracle, strict=True)
    }
    right = all(error <= tolerance for error in errors.values())  # NaN is not
    return {**errors, **elementwise, "tolerance": tolerance, "status": "ok" if right else "FAILED"}


def compare(names: Sequence[str], small: Point, full: Point, step: float, tolerance: float, repeats: int) -> list[dict]:
    """One row a variant: errors against central differences on `small`, against float64 `matrix` on `full`, and costs.

    The numerical gradient is the oracle of the small problem: it is compared with `matrix` there, and timed there, because
    on the full problem it would take two losses an entry. A variant that does not fit in memory is a row that says so.
    """
    oracle, by_hand = (gradient_at(make, small) for make in (lambda spec: numerical(spec, step), GRADIENTS["matrix"]))
    reference = _reference(full) if set(names) - {"numerical"} else None
    rows = []
    for name in names:
        is_oracle = name == "numerical"
        ours = by_hand if is_oracle else gradient_at(GRADIENTS[name], small)
        point = small if is_oracle else full
        row = {"gradient": name, "ratings": len(point.ratings.value)} | against_differences(ours, oracle, tolerance)
        if is_oracle and row["status"] == "ok":
            row["status"] = "oracle"
        try:
            row |= cost_of(GRADIENTS[name], point, repeats)._asdict()
            if not is_oracle:
                row |= errors_at(gradient_at(GRADIENTS[name], full), reference, "_full")
        except InputError as refusal:
            row["status"] = f"refused: {str(refusal).splitlines()[0]}"
        rows.append(row)
    return rows


def _reference(full: Point) -> Factors:
    """The float64 gradient of the full problem: `matrix`, or `coo` where the matrices do not fit."""
    try:
        return gradient_at(GRADIENTS["matrix"], in_float64(full))
    except InputError:
        return gradient_at(GRADIENTS["coo"], in_float64(full))


# a user's own functions

Own = Callable[..., Any]  # (user [users, k], item [items, k], ratings [users, items], mask [users, items], reg)


def check_own(
    gradient: Own, loss: Own, point: Point, reg: float, step: float, tolerance: float
) -> tuple[dict[str, Any], list[Worst]]:
    """A user's gradient against differences of the loss they gave, at one point, in float64 and on the host.

    Both take `(user, item, ratings, mask, reg)`: factors `[users, k]` and `[items, k]`, the ratings matrix (0 where
    missing), its mask of 0 and 1, and λ; `loss` returns a number, `gradient` the pair of gradients. The five-point
    difference has no truncation error for polynomials of up to the fourth degree in an entry, and O(step⁴) for others.

    Returns the comparison's columns, and the worst entry of each side that disagrees.
    """
    ratings, mask = _matrices(point)

    def at(factors: Factors) -> float:
        return float(loss(*map(np.array, factors), ratings.copy(), mask.copy(), reg))

    analytic = Factors(*(np.asarray(side, np.float64) for side in call_own(gradient, point, reg)))
    for side, ours, theirs in zip(Factors._fields, point.factors, analytic, strict=True):
        if ours.shape != theirs.shape:
            raise InputError(f"check.candidate.gradient: expected a {side} gradient of shape {ours.shape}, got {theirs.shape}")
    oracle = Factors(*(_differences(at, point.factors, side, step) for side in Factors._fields))
    columns = against_differences(analytic, oracle, tolerance)
    wrong = [side for side in Factors._fields if not columns[f"error_{side}"] <= tolerance]
    return columns, [_worst(side, getattr(analytic, side), getattr(oracle, side), tolerance) for side in wrong]


def call_own(function: Own, point: Point, reg: float) -> Any:
    """A user's function at a point, with copies that it may overwrite."""
    return function(*map(np.array, point.factors), *_matrices(point), reg)


def _matrices(point: Point) -> tuple[np.ndarray, np.ndarray]:
    """The ratings matrix and its mask, `[users, items]`."""
    ratings, mask = np.zeros((2, point.spec.num_users, point.spec.num_items))
    cell = (point.ratings.user, point.ratings.item)
    ratings[cell], mask[cell] = point.ratings.value, 1
    return ratings, mask


def _differences(loss: Callable[[Factors], float], factors: Factors, side: str, step: float) -> np.ndarray:
    """Five-point central differences of one side, entry by entry."""
    start = getattr(factors, side)
    result = np.empty_like(start)
    for entry in np.ndindex(start.shape):

        def moved(h: float, entry=entry) -> float:
            changed = start.copy()
            changed[entry] += h
            return loss(factors._replace(**{side: changed}))

        near, far = moved(step) - moved(-step), moved(2 * step) - moved(-2 * step)
        result[entry] = (8 * near - far) / (12 * step)
    return result


def _worst(side: str, a: np.ndarray, b: np.ndarray, tolerance: float) -> Worst:
    """The entry of one side with the largest relative error, of those that rounding does not explain."""
    relative = np.where(np.abs(a - b) > tolerance * np.abs(b).max(), _elementwise(a, b), 0)
    row, column = (int(i) for i in np.unravel_index(relative.argmax(), a.shape))
    return Worst(side, row, column, float(a[row, column]), float(b[row, column]), float(relative[row, column]))


def own_loss(point: Point) -> Own:
    """mfjax's own objective in the form of a user's function, for a user who gives a gradient alone."""

    def loss(user, item, ratings, mask, reg):
        hparams = point.hparams._replace(reg=np.asarray(reg, point.spec.dtype))
        layout = jax.device_put(prepare(point.ratings, point.spec))
        t = terms(layout.margins, hparams, point.spec)
        return dense_loss(jax.device_put(Factors(user, item)), layout.value, layout.weight, t)

    return loss


def load_function(place: str, key: str) -> Own:
    """The function at `module:function` or `path/to/file.py:function`. Raises InputError saying what is not there."""
    module_name, _, name = place.rpartition(":")
    if not module_name:
        raise InputError(f"{key}: expected module:function or file.py:function, got {place!r}")
    try:
        if module_name.endswith(".py"):
            module = _load_file(Path(module_name))
        else:
            sys.path.insert(0, "")  # the console script does not look in the working directory by itself
            module = importlib.import_module(module_name)
    except (ImportError, FileNotFoundError, SyntaxError) as error:
        raise InputError(f"{key}: cannot import {module_name} ({error}); give a module on the path, or a file.py") from error
    if not callable(getattr(module, name, None)):
        raise InputError(f"{key}: {module_name} has no function {name!r}")
    return getattr(module, name)


def _load_file(path: Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None  # a name that ends in .py always has both
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
