"""The floors of a device: the work that an operation must do, by count, and the rates measured."""

import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mfjax.types import Spec

COPIED = 2**29  # bytes that a copy reads, and writes again
CALLS = 5  # one after the other, a run
RUNS = 4  # of which the fastest counts


class Work(NamedTuple):
    """What an operation must move, in bytes, and do, in floating-point operations, by count."""

    bytes: float
    flops: float


class Rates(NamedTuple):
    """What the device was measured to do in a second.

    Bytes read and written by a copy, and FLOPs of a matrix product.
    """

    bytes: float
    flops: float


class Shape(NamedTuple):
    """What the work of an operation is counted from.

    `rows` are users and items; `columns` are those of a row: the rank's, and its bias; `itemsize`
    is that of a float, in bytes.
    """

    ratings: int
    rows: int
    columns: int
    itemsize: int


def shape_of(spec: Spec, num_ratings: int) -> Shape:
    """The shape of a problem."""
    return Shape(
        ratings=num_ratings,
        rows=spec.num_users + spec.num_items,
        columns=spec.max_rank + spec.bias,
        itemsize=np.dtype(spec.dtype).itemsize,
    )


# the work


def gradient_work(shape: Shape) -> Work:
    """A full gradient, from the ratings by user and from the ratings by item.

    Bytes: on each side a rating's column and value, 4 + s, and the other side's row, s k; every row
    read, and its gradient written, 2 s k: 2 n (4 + s + s k) + 2 s k rows. A row counts each time it
    is gathered; where a whole table stays in cache, a shorter time than this floor is possible.
    FLOPs: a rating's prediction and its share of the gradient, 2 k each, on both sides, and the
    regulariser: 8 n k + 2 k rows.
    """
    n, rows, k, s = shape
    return Work(
        bytes=2 * n * (4 + s + s * k) + 2 * s * k * rows,
        flops=8 * n * k + 2 * k * rows,
    )


def als_work(shape: Shape) -> Work:
    """An exact epoch of both sides.

    Bytes: those of the gradient; normal equations never leave the cache.
    FLOPs: A is symmetric, so that a rating adds k (k + 1) to it and 2 k to c, on both sides; a
    row's Cholesky factor takes k³ / 3 and its two substitutions 2 k²:
    2 n (k² + 3 k) + rows (k³ / 3 + 2 k²).
    """
    n, rows, k, _ = shape
    return Work(
        bytes=gradient_work(shape).bytes,
        flops=2 * n * (k**2 + 3 * k) + rows * (k**3 / 3 + 2 * k**2),
    )


def sgd_work(shape: Shape) -> Work:
    """An epoch of plain SGD.

    Bytes: a rating's place in the order, its user, item and value, 12 + s, and both its rows,
    read and written, 4 s k: n (12 + s + 4 s k).
    FLOPs: its prediction, 2 k, and two rows that become a u + b v, 3 k each: 8 n k.
    """
    n, _, k, s = shape
    return Work(bytes=n * (12 + s + 4 * s * k), flops=8 * n * k)


def sweep_work(shape: Shape, lanes: int) -> Work:
    """An epoch of full-batch descent in every lane.

    Its gradient, whose rows are written as the new factors, and the step.
    Bytes: those of `lanes` gradients. FLOPs: as many, and 2 k rows a lane.
    """
    work = gradient_work(shape)
    step = 2 * shape.columns * shape.rows
    return Work(bytes=lanes * work.bytes, flops=lanes * (work.flops + step))


# the rates


def measured_rates(dtype: str) -> Rates:
    """The best rates of this device.

    Of adding 1 to 512 MiB in place, and of a square matrix product at the set precision.
    """
    numbers = jnp.zeros(COPIED // np.dtype(dtype).itemsize, dtype)
    add_one = jax.jit(lambda x: x + 1, donate_argnums=0)
    copy_seconds = best_seconds(add_one, numbers)
    size = 2048 if jax.default_backend() == "cpu" else 8192
    drawn = jax.random.normal(jax.random.key(0), (size, size), dtype)
    matrix = drawn / np.asarray(size**0.5, dtype)
    product = jax.jit(jnp.matmul)
    product_seconds = best_seconds(lambda x: product(x, matrix), matrix)
    return Rates(bytes=2 * COPIED / copy_seconds, flops=2 * size**3 / product_seconds)


def best_seconds(
    function: Callable[[Float[Array, "..."]], Float[Array, "..."]], x: Float[Array, "..."]
) -> float:
    """The seconds of a call in the fastest of some runs of calls x ← f(x), one after the other."""
    x = jax.block_until_ready(function(x))
    seconds = []
    for _ in range(RUNS):
        began = time.perf_counter()
        for _ in range(CALLS):
            x = function(x)
        jax.block_until_ready(x)
        seconds.append((time.perf_counter() - began) / CALLS)
    return min(seconds)
