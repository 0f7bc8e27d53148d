"""How near the compiled kernels come to what a core can do, and how they grow with the ratings.

`python experiments/kernels/run.py`; README.md says what came out.
"""

import argparse
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("PJRT_NPROC", str(os.cpu_count()))  # XLA's threads, before jax is imported
import jax
import numpy as np
from matplotlib.figure import Figure

import mfjax
from mfjax.app.jobs.scale import line_through
from mfjax.kernels.native.build import compiler
from mfjax.reporting.course import say, waiting
from mfjax.reporting.files import write_csv
from mfjax.reporting.style import legend_below, line_style, log_ticks, panels, styled

FOLDER = Path(__file__).parent
RANKS = (16, 64, 128)  # those of bounds.cpp
SHAPE = (6040, 3706, 1_000_000)  # of ml-1m: users, items and ratings, beside the bounds
LARGE = (162_541, 59_047)  # of ml-25m: users and items, for the growth
SIZES = (100_000, 300_000, 1_000_000, 3_000_000, 10_000_000, 25_000_000)
RANK = 64  # of the growth
CG_STEPS = 3
LEAST_CALLS, LEAST_SECONDS = 5, 1.0  # of a figure

Row = dict[str, Any]


class Work(NamedTuple):
    """What an operation must do: multiply-adds, and rows of users and of items to gather."""

    multiply_adds: float
    user_rows: float
    item_rows: float


class Operation(NamedTuple):
    """A kernel's work on some ratings at a rank, and a function that does it once."""

    work: Callable[[mfjax.Ratings, int], Work]
    make: Callable[[mfjax.Spec, mfjax.Ratings], Callable[[], None]]


# what must be done


def of_gradient(ratings: mfjax.Ratings, k: int) -> Work:
    """On each side a rating's product and its share of the gradient, k each."""
    n = len(ratings.value)
    return Work(4 * n * k, n, n)


def of_sgd(ratings: mfjax.Ratings, k: int) -> Work:
    """A visit's product, k, and two rows that become a u + b v, 3 k; both read and written."""
    n = len(ratings.value)
    return Work(4 * n * k, 2 * n, 2 * n)


def of_als(ratings: mfjax.Ratings, k: int) -> Work:
    """A row's normal equations and their solution, or the same of size m × m where that is less.

    A row of m ratings: k (k + 1) / 2 + k each for A and c, k³ / 6 + k² for the factor and the
    substitutions; or m (m + 1) / 2 products of k, m³ / 6 + m², and m k to come back.
    """
    n = len(ratings.value)
    total = 0.0
    for side in (ratings.user, ratings.item):
        m = np.bincount(side).astype(float)
        direct = m * (k * (k + 1) / 2 + k) + k**3 / 6 + k**2
        dual = m * (m + 1) / 2 * k + m**3 / 6 + m**2 + m * k
        total += np.minimum(direct, dual).sum()
    return Work(total, n, n)


def of_als_cg(ratings: mfjax.Ratings, k: int) -> Work:
    """On each side, at the start and in each step, a rating's product and its share, k each.

    The last step needs no share. A row's ratings are gathered once: they stay in cache from step to
    step.
    """
    n = len(ratings.value)
    return Work((2 * (CG_STEPS + 1) - 1) * 2 * n * k, n, n)


# what is timed


def gradient(spec: mfjax.Spec, ratings: mfjax.Ratings) -> Callable[[], None]:
    """One gradient of both sides and the loss."""
    variant = mfjax.GRADIENTS["native"](spec)
    factors = mfjax.testing.random_factors(spec)
    arguments = jax.device_put((factors, variant.prepare(ratings), setting(spec)))
    program = jax.jit(variant.value_and_grad).lower(*arguments).compile()
    return lambda: jax.block_until_ready(program(*arguments))


def epochs_of(name: str, **own: Any) -> Callable[[mfjax.Spec, mfjax.Ratings], Callable[[], None]]:
    """One epoch of a method more, at each call."""

    def make(spec: mfjax.Spec, ratings: mfjax.Ratings) -> Callable[[], None]:
        method = mfjax.METHODS[name](spec, kernel=mfjax.KERNELS["native"](spec), **own)
        layout, hparams = jax.device_put((method.prepare(ratings), setting(spec)))
        state = jax.jit(method.init)(jax.random.key(0), layout, hparams)
        step = jax.jit(method.step, donate_argnums=0)

        def epoch() -> None:
            nonlocal state
            state, _ = jax.block_until_ready(step(state, layout, hparams, 0))

        return epoch

    return make


def setting(spec: mfjax.Spec) -> mfjax.Hparams:
    """A setting that holds nothing out, and does not diverge."""
    return mfjax.Hparams.of(rank=spec.max_rank, fold=-2, reg=0.1, reg_bias=0.1, learning_rate=0.01)


OPERATIONS = {
    "gradient": Operation(of_gradient, gradient),
    "sgd": Operation(of_sgd, epochs_of("sgd", optimizer=mfjax.optimizer("sgd"), batch_size=1)),
    "als": Operation(of_als, epochs_of("als")),
    "als_cg": Operation(of_als_cg, epochs_of("als_cg", cg_steps=CG_STEPS)),
}


def main() -> None:
    """Measure, and write both CSV files and the figure."""
    parser = argparse.ArgumentParser(description="Time the compiled kernels beside their bounds.")
    add = parser.add_argument
    add("--sizes", type=int, nargs="+", default=SIZES, help="numbers of ratings, for the growth")
    add("--output", type=Path, default=FOLDER, help="folder of the results")
    arguments = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", 1)
    bounds = told(beside_bounds())
    write_csv(arguments.output / "bounds.csv", bounds)
    growth = told(by_size(arguments.sizes))
    fitted = with_lines(growth)
    write_csv(arguments.output / "growth.csv", fitted)
    figure = draw(fitted)
    mfjax.plots.save(figure, arguments.output, "growth", mfjax.plots.Saving(format=("png",)))


def told(rows: Iterator[Row]) -> list[Row]:
    """The rows, shown as they come."""
    kept = []
    for row in rows:
        say(*row.values())
        kept.append(row)
    return kept


def beside_bounds() -> Iterator[Row]:
    """A row an operation and rank, on one thread.

    Milliseconds, those that its multiply-adds and its gathers take at the rates of this core, and
    how often the larger of the two goes into them.
    """
    num_users, num_items, count = SHAPE
    with waiting("the bounds of a core"):
        rates = measured_rates(num_users, num_items)
    ratings = drawn(num_users, num_items, count)
    for rank in RANKS:
        for name, operation in OPERATIONS.items():
            spec = mfjax.Spec(num_users, num_items, max_rank=rank)
            with waiting(f"{name}, rank {rank}"):
                ms = 1e3 * median_seconds(operation.make(spec, ratings))
            work = operation.work(ratings, rank)
            fma_ms = 1e3 * work.multiply_adds / rates["fma", 0, 0]
            user_ms = 1e3 * work.user_rows / rates["gather", num_users, rank]
            item_ms = 1e3 * work.item_rows / rates["gather", num_items, rank]
            bound = max(fma_ms, user_ms + item_ms)
            figures = {"ms": ms, "fma_ms": fma_ms, "gather_ms": user_ms + item_ms}
            rounded = {key: round(figure, 3) for key, figure in figures.items()}
            yield {"operation": name, "rank": rank, **rounded, "ratio": round(ms / bound, 2)}


def measured_rates(*rows: int) -> dict[tuple[str, int, int], float]:
    """What `bounds.cpp` measures: a second's multiply-adds, and its rows of each table."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, "bounds")
        source = FOLDER / "bounds.cpp"
        words = [*compiler(), "-O3", "-std=c++17", "-march=native", str(source), "-o", str(program)]
        subprocess.run(words, check=True)
        command = [str(program), *map(str, rows)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    lines = [line.split() for line in done.stdout.splitlines()]
    return {(name, int(rows), int(k)): float(rate) for name, rows, k, rate in lines}


def by_size(sizes: Sequence[int]) -> Iterator[Row]:
    """A row an operation and number of ratings, on all cores, at the shape of ml-25m."""
    threads = os.cpu_count() or 1
    for count in sizes:
        with waiting(f"{count:,} ratings"):
            ratings = drawn(*LARGE, count)
        for name, operation in OPERATIONS.items():
            tiling = mfjax.Tiling(shards=threads)
            spec = mfjax.Spec(*LARGE, max_rank=RANK, tiling=tiling)
            with waiting(f"{name}, {count:,} ratings"):
                ms = 1e3 * median_seconds(operation.make(spec, ratings))
            yield {"operation": name, "ratings": count, "ms": round(ms, 3)}


def drawn(num_users: int, num_items: int, count: int) -> mfjax.Ratings:
    """Long-tailed ratings, all to train on."""
    dataset = mfjax.SOURCES["synthetic"](
        num_users=num_users, num_items=num_items, num_ratings=count
    )
    return dataset.ratings()


def median_seconds(call: Callable[[], None]) -> float:
    """The median of a call's seconds, once it is warm."""
    call()
    seconds: list[float] = []
    while len(seconds) < LEAST_CALLS or sum(seconds) < LEAST_SECONDS:
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return float(np.median(seconds))


def with_lines(rows: Sequence[Row]) -> list[Row]:
    """The rows with what the line of their operation says, a + b·n, and its a and b."""
    fitted = []
    for name in OPERATIONS:
        own = [row for row in rows if row["operation"] == name]
        line = line_through([row["ratings"] for row in own], [row["ms"] for row in own])
        say(f"{name}: {line.a:.3g} ms + {1e6 * line.b:.3g} ns a rating")
        for row in own:
            fitted.append(row | {"ms_fitted": round(line.at(row["ratings"]), 3)})
    return fitted


@styled()
def draw(rows: Sequence[Row]) -> Figure:
    """Milliseconds by number of ratings, and the lines."""
    title = f"The compiled kernels by number of ratings, rank {RANK}"
    figure, (axes,) = panels(title, [f"{LARGE[0]:,} users and {LARGE[1]:,} items"], (5.5, 4.5))
    for i, name in enumerate(OPERATIONS):
        own = [row for row in rows if row["operation"] == name]
        sizes = [row["ratings"] for row in own]
        style = line_style(i)
        axes.plot(sizes, [row["ms_fitted"] for row in own], label=f"{name}: a + b n", **style)
        axes.plot(sizes, [row["ms"] for row in own], "o", color=style["color"])
    axes.set(xscale="log", yscale="log", xlabel="ratings n", ylabel="time (ms)")
    log_ticks(axes.yaxis)
    legend_below(figure, axes)
    return figure


if __name__ == "__main__":
    main()
