"""Which tiles, how many at once, and how to gather: `python experiments/tiles/run.py`.

README.md says what came out.
"""

import argparse
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("PJRT_NPROC", "1")  # as the command sets it, before jax is imported
import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import mfjax
from mfjax.kernels.gather import gathered
from mfjax.reporting.course import say, waiting
from mfjax.reporting.files import write_csv
from mfjax.reporting.style import SMALLER, line_style, styled
from mfjax.types import WIDTHS

FOLDER = Path(__file__).parent
RANKS = (16, 64)
CHUNKS = (256, 1024, 4096, 16384)
COLUMNS = (8, 16, 18, 24, 32, 48, 64, 66, 72, 80, 96, 128)
TABLE_ROWS = 3706
TITLES = {"gradient": "Full gradient", "als": "Epoch of ALS"}
LABELS = {"width": "ratings of a row in a tile", "chunk": "ratings at once"}

Row = dict[str, Any]


def main() -> None:
    """Measure, and write a CSV and a plot of each question."""
    parser = argparse.ArgumentParser(description="Measure the tile engine on one CPU device.")
    calls_help = "calls a figure, of which the median is taken"
    parser.add_argument("--calls", type=int, default=15, help=calls_help)
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder of the results")
    arguments = parser.parse_args()
    with waiting("measuring"):
        gathers = told(gather_rows(arguments.calls))
        tiles = told(tile_rows(arguments.calls))
    write_csv(arguments.output / "gathers.csv", gathers)
    write_csv(arguments.output / "tiles.csv", tiles)
    figure = draw(gathers, tiles)
    mfjax.plots.save(figure, arguments.output, "tiles", mfjax.plots.Saving(format=("png",)))


def told(rows: Iterable[Row]) -> list[Row]:
    """The rows, shown as they come."""
    rounded = []
    for row in rows:
        row["ms"] = round(row["ms"], 3)
        say(*row.values())
        rounded.append(row)
    return rounded


def median_ms(function: Callable, *arguments: Any, calls: int) -> float:
    """The median milliseconds of a call, once it is compiled and warm."""
    compiled = jax.jit(function).lower(*arguments).compile()
    arguments = jax.device_put(arguments)
    seconds = []
    for _ in range(calls + 1):
        began = time.perf_counter()
        jax.block_until_ready(compiled(*arguments))
        seconds.append(time.perf_counter() - began)
    return 1e3 * float(np.median(seconds[1:]))


def drawn(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Random numbers in float32."""
    return rng.normal(size=shape).astype(np.float32)


# gathers


def bare(table, col, seen):
    """As XLA does it."""
    return table.at[col].get(mode="promise_in_bounds")


def pieces(table, col, seen):
    """As pieces of a vector."""
    count = table.shape[1] // 8
    part = col[..., None] * count + jnp.arange(count)
    rows = table.reshape(-1, 8).at[part].get(mode="promise_in_bounds")
    return rows.reshape(*col.shape, -1)


def in_a_product(table, col, seen):
    """As a part of a product."""
    return bare(table, col, seen) * seen[..., None]


WAYS = {"bare": bare, "pieces of 8": pieces, "in a product": in_a_product, "engine": gathered}


def gather_rows(calls: int) -> Iterable[Row]:
    """A million rows of a table gathered, 1,024 at a time, and summed by 32, in every way."""
    width = 32
    chunk = 32
    rng = np.random.default_rng(0)
    shape = (1_000_000 // (width * chunk), chunk, width)
    col = rng.integers(0, TABLE_ROWS, shape).astype(np.int32)
    seen = np.ones(shape, np.float32)
    for columns in COLUMNS:
        for way, gather in WAYS.items():
            if columns % 8 and gather is pieces:
                continue
            table = drawn(rng, TABLE_ROWS, columns)
            ms = median_ms(summed(gather), table, col, seen, calls=calls)
            yield {"columns": columns, "way": way, "ms": ms}


def summed(gather: Callable) -> Callable:
    """Sums over the rows that `gather` gathers, chunk after chunk."""

    def sums(table, col, seen):
        def step(_, chunk):
            col, seen = chunk
            rows = gather(table, col, seen)
            return None, jnp.einsum("nwc,nw->nc", rows, seen)

        _, of_chunks = jax.lax.scan(step, None, (col, seen))
        return of_chunks

    return sums


# tiles


def tile_rows(calls: int) -> Iterable[Row]:
    """A gradient and an epoch of ALS, by width and by chunk."""
    large = {"num_users": 6040, "num_items": 3706, "num_ratings": 1_000_000}
    data = {
        "100k": mfjax.read("bundled:ml-latest-small"),
        "1M": mfjax.SOURCES["synthetic"](**large),
    }
    for name, dataset in data.items():
        ratings = dataset.ratings()
        for rank in RANKS:
            spec = mfjax.Spec(dataset.num_users, dataset.num_items, max_rank=rank)
            for tiling in tilings(ratings, spec):
                tiled = replace(spec, tiling=tiling)
                place = {
                    "data": name,
                    "rank": rank,
                    "width": tiling.width,
                    "chunk": tiling.chunk,
                }
                ms = gradient_ms(tiled, ratings, calls)
                yield place | {"what": "gradient", "ms": ms}
                ms = als_ms(tiled, ratings, max(calls // 4, 3))
                yield place | {"what": "als", "ms": ms}


def tilings(ratings: mfjax.Ratings, spec: mfjax.Spec) -> list[mfjax.Tiling]:
    """Every width at the default chunk, and every chunk at the width of `tile_width`."""
    own = mfjax.tile_width(ratings, spec)
    by_width = [mfjax.Tiling(width=width) for width in WIDTHS]
    by_chunk = [mfjax.Tiling(width=own, chunk=chunk) for chunk in CHUNKS]
    return list(dict.fromkeys(by_width + by_chunk))


def gradient_ms(spec: mfjax.Spec, ratings: mfjax.Ratings, calls: int) -> float:
    gradient = mfjax.GRADIENTS["tiles"](spec)
    rng = np.random.default_rng(0)
    factors = mfjax.Factors(
        user=drawn(rng, spec.num_users, spec.columns),
        item=drawn(rng, spec.num_items, spec.columns),
    )
    hparams = mfjax.Hparams.of(rank=spec.max_rank, fold=-2)
    layout = gradient.prepare(ratings)
    return median_ms(gradient.value_and_grad, factors, layout, hparams, calls=calls)


def als_ms(spec: mfjax.Spec, ratings: mfjax.Ratings, calls: int) -> float:
    method = mfjax.METHODS["als"](spec, kernel=mfjax.KERNELS["xla"](spec))
    hparams = mfjax.Hparams.of(rank=spec.max_rank, reg=0.1, fold=-2)
    layout = method.prepare(ratings)
    init = jax.jit(method.init)
    state = init(jax.random.key(0), layout, hparams)

    def step(state, layout, hparams):
        return method.step(state, layout, hparams, 0)

    return median_ms(step, state, layout, hparams, calls=calls)


# the figure


@styled()
def draw(gathers: Sequence[Row], tiles: Sequence[Row]) -> Figure:
    """The time of a gather by columns; of a gradient and an ALS epoch by width and by chunk."""
    figure = Figure(figsize=(12, 7), layout="constrained")
    figure.suptitle("The tile engine on one CPU device")
    panels = figure.subplots(2, 3)
    draw_gathers(panels[0, 0], gathers)
    panels[1, 0].set_axis_off()
    for line, what in zip(panels, TITLES, strict=True):
        rows = [row for row in tiles if row["what"] == what]
        for axes, key in zip(line[1:], LABELS, strict=True):
            draw_tiles(axes, rows, key)
            axes.set_title(f"{TITLES[what]}, by {key}")
    return figure


def draw_gathers(axes: Axes, rows: Sequence[Row]) -> None:
    """Milliseconds by columns, a line a way."""
    for i, way in enumerate(WAYS):
        own = [row for row in rows if row["way"] == way]
        columns = [row["columns"] for row in own]
        ms = [row["ms"] for row in own]
        axes.plot(columns, ms, marker="o", label=way, **line_style(i))
    axes.set_title("Gathering a million rows")
    axes.set(xlabel="columns", ylabel="time (ms)", ylim=(0, None))
    axes.grid()
    axes.legend()


def draw_tiles(axes: Axes, rows: Sequence[Row], key: str) -> None:
    """Time over the least by `key`, a line a data set and rank."""
    for i, case in enumerate(dict.fromkeys(map(case_of, rows))):
        own = [row for row in rows if case_of(row) == case]
        line = sorted(varied(own, key), key=lambda row: row[key])
        best = min(row["ms"] for row in line)
        values = [row[key] for row in line]
        times = [row["ms"] / best for row in line]
        axes.plot(values, times, marker="o", label=f"{case}: {best:.3g} ms", **line_style(i))
    axes.set(xlabel=LABELS[key], ylabel="time / least")
    axes.set_ylim(bottom=0.9)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.grid()
    axes.legend(fontsize=SMALLER)


def case_of(row: Row) -> str:
    """The data set and rank of a row."""
    return f"{row['data']}, rank {row['rank']}"


def varied(rows: Sequence[Row], key: str) -> list[Row]:
    """The rows in which `key` was varied, and the other was not."""
    default = mfjax.Tiling().chunk
    if key == "width":
        return [row for row in rows if row["chunk"] == default]
    widths = {row["width"] for row in rows if row["chunk"] != default}
    return [row for row in rows if row["width"] in widths]


if __name__ == "__main__":
    main()
