"""Exact solves against conjugate gradients, by rank: `python experiments/als/crossing.py`. README.md says what came out."""

import argparse
import csv
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("PJRT_NPROC", "1")  # as the command sets it, before jax is imported
import jax
import numpy as np
from matplotlib.figure import Figure

import mfjax
from mfjax.kernels.tiles import ALS_OVERHEAD, GRADIENT_OVERHEAD

FOLDER = Path(__file__).parent
RANKS = (8, 16, 32, 64, 128)
METHODS = {"als": ALS_OVERHEAD, "als_cg": GRADIENT_OVERHEAD}
EPOCHS = 10


def main() -> None:
    """Measure, and write the CSV and the plot."""
    parser = argparse.ArgumentParser(description="Time an epoch of als and of als_cg by rank, the two in turn.")
    parser.add_argument("--calls", type=int, default=5, help="epochs timed, of which the median is taken")
    parser.add_argument("--devices", type=int, default=os.cpu_count(), help="CPU devices that share the rows")
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


def measured(calls: int, devices: int) -> Iterable[dict[str, Any]]:
    """A row a data set and rank: milliseconds an epoch of both methods, and the objective of each after EPOCHS epochs."""
    data = {
        "100k": mfjax.read("bundled:ml-latest-small"),
        "1M": mfjax.SOURCES["synthetic"](num_users=6040, num_items=3706, num_ratings=1_000_000),
    }
    for name, dataset in data.items():
        ratings = mfjax.Ratings.of(dataset.user, dataset.item, dataset.value)
        for rank in RANKS:
            spec = mfjax.Spec(dataset.num_users, dataset.num_items, max_rank=rank)
            fits = {method: Fit(method, spec, ratings, devices) for method in METHODS}
            for _ in range(max(calls, EPOCHS)):
                for fit in fits.values():
                    fit.epoch()
            row: dict[str, Any] = {"data": name, "rank": rank}
            for method, fit in fits.items():
                row |= {f"{method}_ms": round(1e3 * float(np.median(fit.seconds[:calls])), 2)}
                row |= {f"{method}_objective": round(fit.losses[EPOCHS - 1], 1)}
            yield row | {"ratio": round(row["als_ms"] / row["als_cg_ms"], 2)}


class Fit:
    """One fit, epoch after epoch, its rows shared out over the devices."""

    def __init__(self, method: str, spec: mfjax.Spec, ratings: mfjax.Ratings, devices: int):
        width = mfjax.tile_width(ratings, spec, METHODS[method])
        spec = mfjax.Spec(**vars(spec) | {"tiling": mfjax.Tiling(width=width, shards=devices)})
        of, hparams = mfjax.METHODS[method](spec, None, None), mfjax.Hparams.of(rank=spec.max_rank, reg=0.1, fold=-2)
        layout = of.prepare(ratings)
        state = jax.jit(of.init)(jax.random.key(0), layout, hparams)
        step = lambda *arguments: of.step(*arguments, None)  # noqa: E731
        self.program = jax.jit(step).lower(state, layout, hparams).compile()
        self.state, *self.rest = jax.device_put((state, layout, hparams), self.program.input_shardings[0])
        self.seconds: list[float] = []
        self.losses: list[float] = []

    def epoch(self) -> None:
        began = time.perf_counter()
        self.state, info = jax.block_until_ready(self.program(self.state, *self.rest))
        self.seconds.append(time.perf_counter() - began)
        self.losses.append(float(info.loss))


def draw(rows: Sequence[dict[str, Any]]) -> Figure:
    """Milliseconds an epoch by rank, a panel a data set."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    names = list(dict.fromkeys(row["data"] for row in rows))
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False).flat, names, strict=True):
        of = [row for row in rows if row["data"] == name]
        for method, label, style in (("als", "exact (als)", "o-"), ("als_cg", "3 conjugate-gradient steps (als_cg)", "s--")):
            axes.plot([row["rank"] for row in of], [row[f"{method}_ms"] for row in of], style, label=label)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.xaxis.set_major_formatter(lambda x, position: f"{x:g}")
        axes.set(title=f"{name} ratings", xlabel="rank", ylabel="ms an epoch")
        axes.legend(frameon=False)
    return figure


if __name__ == "__main__":
    main()
