"""What a call of a gradient costs: time, compile time, memory and FLOPs."""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from mfjax.checks.points import Point
from mfjax.types import Gradient, Spec


class Cost(NamedTuple):
    """What a call costs: median and quartiles of milliseconds, and seconds of compiling.

    The bytes of temporaries and the FLOPs are XLA's own count, of the body of a loop once; None
    where it has none.
    """

    ms: float
    ms_low: float
    ms_high: float
    compile_s: float
    temp_bytes: int | None
    flops: float | None


def cost_of(make: Callable[[Spec], Gradient], point: Point, repeats: int) -> Cost:
    """What a call of a variant costs on the default device."""
    gradient = make(point.spec)
    layout = gradient.prepare(point.ratings)
    arguments = (point.factors, layout, point.hparams)
    program, compile_s = compiled(gradient.value_and_grad, arguments)
    placed = jax.device_put(arguments, program.input_shardings[0])
    return cost_of_calls(program, compile_s, placed, repeats)


def compiled(function: Callable, arguments: tuple) -> tuple[jax.stages.Compiled, float]:
    """The program of `function` for such arguments, and the seconds that compiling took."""
    began = time.perf_counter()
    program = jax.jit(function).lower(*arguments).compile()
    return program, time.perf_counter() - began


def cost_of_calls(
    program: jax.stages.Compiled,
    compile_s: float,
    arguments: tuple,
    repeats: int,
) -> Cost:
    """What a call of a compiled program costs.

    It is warmed up once, then timed `repeats` times until ready.
    """
    jax.block_until_ready(program(*arguments))
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        jax.block_until_ready(program(*arguments))
        seconds.append(time.perf_counter() - began)
    ms, ms_low, ms_high = milliseconds(seconds)
    memory = program.memory_analysis()
    counts = program.cost_analysis() or {}
    return Cost(
        ms=ms,
        ms_low=ms_low,
        ms_high=ms_high,
        compile_s=compile_s,
        temp_bytes=None if memory is None else int(memory.temp_size_in_bytes),
        flops=counts.get("flops"),
    )


def milliseconds(seconds: Sequence[float]) -> tuple[float, float, float]:
    """Median, lower and upper quartile."""
    quartiles = np.quantile(seconds, (0.25, 0.5, 0.75))
    low, median, high = quartiles * 1e3
    return float(median), float(low), float(high)
