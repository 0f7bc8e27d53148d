"""Which tiles, how many at once, and how to gather: `python experiments/tiles/measure.py`. README.md says what came out."""

import argparse
import csv
import itertools
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
from matplotlib.figure import Figure

import mfjax
from mfjax.kernels.tiles import gathered
from mfjax.types import WIDTHS

FOLDER = Path(__file__).parent
RANKS, CHUNKS = (16, 64), (256, 1024, 4096, 16384)
COLUMNS = (8, 16, 18, 24, 32, 48, 64, 66, 72, 80, 96, 128)


def main() -> None:
    """Measure, and write a CSV and a plot of each question."""
    parser = argparse.ArgumentParser(description="Measure the tile engine on one CPU device.")
    parser.add_argument("--calls", type=int, default=15, help="calls a figure, of which the median is taken")
    calls = parser.parse_args().calls
    gathers = write("gathers", gather_rows(calls))
    tiles = write("tiles", tile_rows(calls))
    draw(gathers, tiles).savefig(FOLDER / "tiles.png", dpi=150)


def median_ms(function: Callable, *arguments: Any, calls: int) -> float:
    """The median milliseconds of a call, once it is compiled and warm."""
    compiled, seconds = jax.jit(function).lower(*arguments).compile(), []
    arguments = jax.device_put(arguments)
    for _ in range(calls + 1):
        began = time.perf_counter()
        jax.block_until_ready(compiled(*arguments))
        seconds.append(time.perf_counter() - began)
    return 1e3 * float(np.median(seconds[1:]))


def gather_rows(calls: int) -> Iterable[dict[str, Any]]:
    """A million rows of a table gathered, 1,024 at a time, and summed by 32: as XLA does it, as pieces of a vector, as a part
    of a product, and as the engine does it."""
    table_rows, width, chunk = 3706, 32, 32
    rng = np.random.default_rng(0)
    col = rng.integers(0, table_rows, (1_000_000 // (width * chunk), chunk, width)).astype(np.int32)
    seen = np.ones(col.shape, np.float32)

    def pieces(table, col, seen):
        part = col[..., None] * (table.shape[1] // 8) + jnp.arange(table.shape[1] // 8)
        return table.reshape(-1, 8).at[part].get(mode="promise_in_bounds").reshape(*col.shape, -1)

    ways = {
        "bare": lambda table, col, seen: table.at[col].get(mode="promise_in_bounds"),
        "pieces of 8": pieces,
        "in a product": lambda table, col, seen: table.at[col].get(mode="promise_in_bounds") * seen[..., None],
        "engine": gathered,
    }
    for columns, (way, gather) in itertools.product(COLUMNS, ways.items()):
        if columns % 8 and way in ("pieces of 8", "engine"):
            continue  # the engine pads these

        def sums(table, col, seen, gather=gather):
            def step(_, chunk):
                return None, jnp.einsum("nwc,nw->nc", gather(table, *chunk), chunk[1])

            return jax.lax.scan(step, None, (col, seen))[1]

        table = rng.normal(size=(table_rows, columns)).astype(np.float32)
        yield {"columns": columns, "way": way, "ms": median_ms(sums, table, col, seen, calls=calls)}


def tile_rows(calls: int) -> Iterable[dict[str, Any]]:
    """A gradient and an epoch of ALS, by width (at the default chunk) and by chunk (at the width of `tile_width`)."""
    small = mfjax.read("bundled:ml-latest-small")
    large = mfjax.SOURCES["synthetic"](num_users=6040, num_items=3706, num_ratings=1_000_000)
    for (name, data), rank in itertools.product({"100k": small, "1M": large}.items(), RANKS):
        ratings = mfjax.Ratings.of(data.user, data.item, data.value)
        spec = mfjax.Spec(data.num_users, data.num_items, max_rank=rank)
        own = mfjax.tile_width(ratings, spec)
        shapes = dict.fromkeys([*((width, mfjax.Tiling().chunk) for width in WIDTHS), *((own, chunk) for chunk in CHUNKS)])
        for width, chunk in shapes:
            tiled = replace(spec, tiling=mfjax.Tiling(width=width, chunk=chunk))
            of = {"data": name, "rank": rank, "width": width, "chunk": chunk}
            yield of | {"what": "gradient", "ms": gradient_ms(tiled, ratings, calls)}
            yield of | {"what": "als", "ms": als_ms(tiled, ratings, max(calls // 4, 3))}


def gradient_ms(spec: mfjax.Spec, ratings: mfjax.Ratings, calls: int) -> float:
    gradient, hparams = mfjax.GRADIENTS["tiles"](spec), mfjax.Hparams.of(rank=spec.max_rank, fold=-2)
    rng = np.random.default_rng(0)
    sides = (rng.normal(size=(n, spec.columns)).astype(np.float32) for n in (spec.num_users, spec.num_items))
    return median_ms(gradient.value_and_grad, mfjax.Factors(*sides), gradient.prepare(ratings), hparams, calls=calls)


def als_ms(spec: mfjax.Spec, ratings: mfjax.Ratings, calls: int) -> float:
    method, hparams = mfjax.METHODS["als"](spec, None, None), mfjax.Hparams.of(rank=spec.max_rank, reg=0.1, fold=-2)
    layout = method.prepare(ratings)
    state = jax.jit(method.init)(jax.random.key(0), layout, hparams)
    return median_ms(lambda *arguments: method.step(*arguments, None), state, layout, hparams, calls=calls)


def write(name: str, rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows as NAME.csv, shown as they come."""
    kept = []
    for row in rows:
        row["ms"] = round(row["ms"], 3)
        print(*row.values(), flush=True)
        kept.append(row)
    with (FOLDER / f"{name}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(kept[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept)
    return kept


def draw(gathers: Sequence[dict], tiles: Sequence[dict]) -> Figure:
    """The time of a gather by columns, and of a gradient and an ALS epoch by width and by chunk."""
    figure = Figure(figsize=(12, 7), layout="constrained")
    axes = figure.subplots(2, 3)
    for way in dict.fromkeys(row["way"] for row in gathers):
        of_way = [row for row in gathers if row["way"] == way]
        style = {"marker": "o", "markersize": 4, "linewidth": 2.5 if way == "engine" else 1.2}
        axes[0, 0].plot([row["columns"] for row in of_way], [row["ms"] for row in of_way], label=way, **style)
    axes[0, 0].set(title="Gathering a million rows", xlabel="columns", ylabel="ms", ylim=(0, None))
    axes[0, 0].legend(frameon=False, fontsize=9)
    axes[1, 0].set_axis_off()
    default = mfjax.Tiling().chunk
    for row, what in enumerate(("gradient", "als")):
        for column, key in enumerate(("width", "chunk")):
            for data, rank in dict.fromkeys((r["data"], r["rank"]) for r in tiles):
                of = [r for r in tiles if (r["what"], r["data"], r["rank"]) == (what, data, rank)]
                if key == "width":
                    of = [r for r in of if r["chunk"] == default]
                else:
                    varied = {r["width"] for r in of if r["chunk"] != default}
                    of = [r for r in of if r["width"] in varied]
                of.sort(key=lambda r: r[key])
                best = min(r["ms"] for r in of)
                axes[row, column + 1].plot(
                    [r[key] for r in of], [r["ms"] / best for r in of], marker="o", label=f"{data}, rank {rank}: {best:.3g} ms"
                )
            label = {"width": "ratings of a row in a tile", "chunk": "ratings at once"}[key]
            title = {"gradient": "Full gradient", "als": "Epoch of ALS"}[what]
            axes[row, column + 1].set(title=f"{title}, by {key}", xlabel=label, ylabel="time / least", ylim=(0.9, None))
            axes[row, column + 1].set_xscale("log", base=2)
            axes[row, column + 1].xaxis.set_major_formatter(lambda x, position: f"{x:g}")
            axes[row, column + 1].legend(frameon=False, fontsize=8)
    return figure


if __name__ == "__main__":
    main()
