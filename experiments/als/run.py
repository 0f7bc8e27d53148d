"""Exact solves against conjugate gradients, by rank: `python experiments/als/run.py`.

README.md says what came out.
"""

import argparse
import csv
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("PJRT_NPROC", "1")  # as the command sets it, before jax is imported
import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import mfjax
from mfjax.kernels.layout import ALS_OVERHEAD, GRADIENT_OVERHEAD

FOLDER = Path(__file__).parent
RANKS = (8, 16, 32, 64, 128)
LINES = {  # of each method: its label and its style
    "als": ("exact (als)", "o-"),
    "als_cg": ("3 conjugate-gradient steps (als_cg)", "s--"),
}
EPOCHS = 10

Row = dict[str, Any]


def main() -> None:
    """Measure, and write the CSV and the plot."""
    parser = argparse.ArgumentParser(
        description="Time an epoch of als and of als_cg by rank, the two in turn."
    )
    add = parser.add_argument
    add("--calls", type=int, default=5, help="epochs timed, of which the median is taken")
    add("--devices", type=int, default=os.cpu_count(), help="CPU devices that share the rows")
    arguments = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", arguments.devices)
    rows = []
    for row in measured(arguments.calls, arguments.devices):
        print(*row.values(), flush=True)
        rows.append(row)
    with (FOLDER / "crossing.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    draw(rows).savefig(FOLDER / "crossing.png", dpi=150)


def measured(calls: int, devices: int) -> Iterable[Row]:
    """A row a data set and rank.

    Milliseconds an epoch of both methods, and the objective of each after EPOCHS epochs.
    """
    large = {"num_users": 6040, "num_items": 3706, "num_ratings": 1_000_000}
    data = {
        "100k": mfjax.read("bundled:ml-latest-small"),
        "1M": mfjax.SOURCES["synthetic"](**large),
    }
    for name, dataset in data.items():
        for rank in RANKS:
            spec = mfjax.Spec(dataset.num_users, dataset.num_items, max_rank=rank)
            row = compared(spec, dataset.ratings(), calls, devices)
            yield {"data": name, "rank": rank} | row


def compared(
    spec: mfjax.Spec, ratings: mfjax.Ratings, calls: int, devices: int
) -> dict[str, float]:
    """What both methods take and reach, trained in turn."""
    fits = {method: Fit(method, spec, ratings, devices) for method in LINES}
    for _ in range(max(calls, EPOCHS)):
        for fit in fits.values():
            fit.epoch()
    row = {}
    for method, fit in fits.items():
        seconds = float(np.median(fit.seconds[:calls]))
        row[f"{method}_ms"] = round(1e3 * seconds, 2)
        row[f"{method}_objective"] = round(fit.losses[EPOCHS - 1], 1)
    ratio = row["als_ms"] / row["als_cg_ms"]
    return row | {"ratio": round(ratio, 2)}


class Fit:
    """One fit, epoch after epoch, its rows shared out over the devices."""

    def __init__(self, name: str, spec: mfjax.Spec, ratings: mfjax.Ratings, devices: int):
        method = made(name, tiled(name, spec, ratings, devices))
        layout = method.prepare(ratings)
        hparams = mfjax.Hparams.of(rank=spec.max_rank, reg=0.1, fold=-2)
        init = jax.jit(method.init)
        state = init(jax.random.key(0), layout, hparams)

        def step(state, layout, hparams):
            return method.step(state, layout, hparams, None)

        arguments = (state, layout, hparams)
        self.program = jax.jit(step).lower(*arguments).compile()
        places = self.program.input_shardings[0]
        self.state, *self.rest = jax.device_put(arguments, places)
        self.seconds: list[float] = []
        self.losses: list[float] = []

    def epoch(self) -> None:
        began = time.perf_counter()
        after = self.program(self.state, *self.rest)
        self.state, info = jax.block_until_ready(after)
        self.seconds.append(time.perf_counter() - began)
        self.losses.append(float(info.loss))


def made(name: str, spec: mfjax.Spec) -> mfjax.Method:
    """The method of that name."""
    return mfjax.METHODS[name](spec, kernel=mfjax.KERNELS["tiles"](spec))


def tiled(name: str, spec: mfjax.Spec, ratings: mfjax.Ratings, devices: int) -> mfjax.Spec:
    """The same with tiles that suit the ratings and the method."""
    overhead = ALS_OVERHEAD if made(name, spec).solves_rows else GRADIENT_OVERHEAD
    width = mfjax.tile_width(ratings, spec, overhead)
    return replace(spec, tiling=mfjax.Tiling(width=width, shards=devices))


def draw(rows: Sequence[Row]) -> Figure:
    """Milliseconds an epoch by rank, a panel a data set."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    names = list(dict.fromkeys(row["data"] for row in rows))
    panels = figure.subplots(1, len(names), squeeze=False).flat
    for axes, name in zip(panels, names, strict=True):
        own = [row for row in rows if row["data"] == name]
        draw_panel(axes, name, own)
    return figure


def draw_panel(axes: Axes, name: str, rows: Sequence[Row]) -> None:
    """The lines of one data set."""
    ranks = [row["rank"] for row in rows]
    for method, (label, style) in LINES.items():
        times = [row[f"{method}_ms"] for row in rows]
        axes.plot(ranks, times, style, label=label)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter(lambda x, position: f"{x:g}")
    axes.set(title=f"{name} ratings", xlabel="rank", ylabel="ms an epoch")
    axes.legend(frameon=False)


if __name__ == "__main__":
    main()
