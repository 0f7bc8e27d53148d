"""Exact solves against conjugate gradients, by rank: `python experiments/als/run.py`.

README.md says what came out.
"""

import argparse
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("PJRT_NPROC", str(os.cpu_count()))  # XLA's threads, before jax is imported
import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import mfjax
from mfjax.kernels.layout import ALS_OVERHEAD, GRADIENT_OVERHEAD
from mfjax.objective import mean_rating
from mfjax.reporting.course import say, waiting
from mfjax.reporting.files import write_csv
from mfjax.reporting.style import legend_below, line_style, log_ticks, panels, styled

FOLDER = Path(__file__).parent
RANKS = (8, 16, 32, 64, 128)
LABELS = {"als": "exact (als)", "als_cg": "3 conjugate-gradient steps (als_cg)"}
MARKERS = {"100k": "o", "1M": "s"}  # of the data
EPOCHS = 10
PLANTED = 128  # columns of the factors of the 1M ratings, the c-th of amplitude c^-1/2

Row = dict[str, Any]


class Data(NamedTuple):
    """Ratings to train on and to test on, and a λ a rating that suits them."""

    shape: tuple[int, int]
    problem: mfjax.Problem
    reg: float


def main() -> None:
    """Measure, and write the CSV and the plot."""
    parser = argparse.ArgumentParser(
        description="Time an epoch of als and of als_cg by rank, the two in turn."
    )
    add = parser.add_argument
    calls_help = f"epochs timed after the first {EPOCHS}, of which the median is taken"
    add("--calls", type=int, default=25, help=calls_help)
    add(
        "--devices", type=int, default=os.cpu_count(), help="CPU devices, or threads, to share rows"
    )
    add("--kernel", choices=mfjax.KERNELS, default="native", help="which kernel")
    add("--ranks", type=int, nargs="+", default=RANKS, help="at which ranks")
    add("--output", type=Path, default=FOLDER, help="folder of the results")
    arguments = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", arguments.devices)
    rows = []
    for row in measured(arguments):
        say(*row.values())
        rows.append(row)
    write_csv(arguments.output / "crossing.csv", rows)
    mfjax.plots.save(draw(rows), arguments.output, "crossing", mfjax.plots.Saving(format=("png",)))


def measured(arguments: argparse.Namespace) -> Iterable[Row]:
    """A row a data set and rank.

    Milliseconds an epoch of both methods, and what each reached after EPOCHS epochs.
    """
    bundled = mfjax.read("bundled:ml-latest-small")
    data = {"100k": data_of(bundled, reg=0.1), "1M": data_of(planted(), reg=0.02)}
    for name, of_name in data.items():
        for rank in arguments.ranks:
            with waiting(f"{name} ratings, rank {rank}"):
                row = compared(of_name, rank, arguments)
            yield {"data": name, "rank": rank} | row


def planted() -> mfjax.Dataset:
    """A million ratings of the shape of ml-1m, of which every further column explains less.

    Pairs, biases and noise are those of `synthetic`.
    """
    dataset = mfjax.SOURCES["synthetic"](
        num_users=6040,
        num_items=3706,
        num_ratings=1_000_000,
        rank=0,
    )
    rng = np.random.default_rng(0)
    amplitude = np.arange(1, PLANTED + 1) ** -0.5
    amplitude /= np.linalg.norm(amplitude)  # so that u_i·v_j has standard deviation 1
    value = dataset.value.copy()
    for scale in amplitude:
        user = rng.normal(size=dataset.num_users)
        item = rng.normal(size=dataset.num_items)
        value += scale * user[dataset.user] * item[dataset.item]
    return replace(dataset, value=value)


def data_of(dataset: mfjax.Dataset, reg: float) -> Data:
    """90 % of the ratings to train on, and 10 % to test on."""
    split = mfjax.SPLITS["random"](dataset, 0, validation=0.0, test=0.1)
    problem = mfjax.Problem.of(dataset, split)
    return Data((dataset.num_users, dataset.num_items), problem, reg)


def compared(data: Data, rank: int, arguments: argparse.Namespace) -> Row:
    """What both methods reach in EPOCHS epochs, and the time of one after them, in turn."""
    fits = {method: Fit(method, data, rank, arguments) for method in LABELS}
    reached = {method: fit.trained(EPOCHS) for method, fit in fits.items()}
    turns = [{m: fit.epoch() for m, fit in fits.items()} for _ in range(arguments.calls)]
    row = {}
    for method, (objective, test_rmse) in reached.items():
        seconds = float(np.median([turn[method] for turn in turns]))
        row[f"{method}_ms"] = round(1e3 * seconds, 2)
        row[f"{method}_objective"] = round(objective, 1)
        row[f"{method}_test_rmse"] = round(test_rmse, 4)
    ratio = row["als_ms"] / row["als_cg_ms"]
    return row | {"ratio": round(ratio, 2)}


class Fit:
    """One fit, epoch after epoch, its rows shared out over the devices."""

    def __init__(self, name: str, data: Data, rank: int, arguments: argparse.Namespace):
        self.problem = data.problem
        ratings = data.problem.ratings
        spec = mfjax.Spec(*data.shape, max_rank=rank)
        method = made(name, tiled(name, spec, ratings, arguments), arguments.kernel)
        layout = method.prepare(ratings)
        hparams = mfjax.Hparams.of(rank=rank, reg=data.reg, fold=-2)
        init = jax.jit(method.init)
        state = init(jax.random.key(0), layout, hparams)

        def step(state, layout, hparams):
            return method.step(state, layout, hparams, 0)

        arguments = (state, layout, hparams)
        self.program = jax.jit(step, donate_argnums=0).lower(*arguments).compile()
        places = self.program.input_shardings[0]
        self.state, *self.rest = jax.device_put(arguments, places)
        self.mean = mean_rating(ratings, hparams)
        self.loss = np.inf

    def trained(self, epochs: int) -> tuple[float, float]:
        """The objective and the test error after some epochs."""
        for _ in range(epochs):
            self.epoch()
        return self.loss, self.test_rmse()

    def epoch(self) -> float:
        """Train for an epoch; the seconds that it took."""
        began = time.perf_counter()
        after = self.program(self.state, *self.rest)
        self.state, info = jax.block_until_ready(after)
        seconds = time.perf_counter() - began
        self.loss = float(info.loss)
        return seconds

    def test_rmse(self) -> float:
        """The error of the test ratings, clipped to the range of the ratings."""
        test = self.problem.test
        user, item = map(np.asarray, self.state.factors)
        predicted = self.mean + np.einsum("nk,nk->n", user[test.user], item[test.item])
        clipped = np.clip(predicted, *self.problem.bounds)
        return float(np.sqrt(np.mean((clipped - test.value) ** 2)))


def made(name: str, spec: mfjax.Spec, kernel: str) -> mfjax.Method:
    """The method of that name."""
    return mfjax.METHODS[name](spec, kernel=mfjax.KERNELS[kernel](spec))


def tiled(
    name: str, spec: mfjax.Spec, ratings: mfjax.Ratings, arguments: argparse.Namespace
) -> mfjax.Spec:
    """The same with tiles that suit the ratings and the method."""
    solves_rows = made(name, spec, arguments.kernel).solves_rows
    width = mfjax.tile_width(ratings, spec, ALS_OVERHEAD if solves_rows else GRADIENT_OVERHEAD)
    return replace(spec, tiling=mfjax.Tiling(width=width, shards=arguments.devices))


# the figure


@styled()
def draw(rows: Sequence[Row]) -> Figure:
    """Milliseconds an epoch by rank, a panel a data set, and the test error of both."""
    data = list(dict.fromkeys(row["data"] for row in rows))
    title = "An epoch of exact ALS and of ALS by conjugate gradients"
    names = [*(f"{name} ratings" for name in data), f"after {EPOCHS} epochs"]
    figure, (*by_data, last) = panels(title, names, (4 * len(names), 4))
    for axes, name in zip(by_data, data, strict=True):
        own = [row for row in rows if row["data"] == name]
        draw_lines(axes, own, "ms")
        axes.set(yscale="log", ylabel="time an epoch (ms)")
        log_ticks(axes.yaxis)
        draw_lines(last, own, "test_rmse", f", {name}")
    last.set_ylabel("test RMSE (lower is better)")
    for axes in (*by_data, last):
        axes.set(xscale="log", xlabel="rank")
        axes.set_xticks([row["rank"] for row in own], [str(row["rank"]) for row in own])
        axes.xaxis.minorticks_off()
    legend_below(figure, last)
    return figure


def draw_lines(axes: Axes, rows: Sequence[Row], column: str, of: str = "") -> None:
    """A line a method by rank, of one data set."""
    ranks = [row["rank"] for row in rows]
    marker = MARKERS[rows[0]["data"]]
    for i, (method, label) in enumerate(LABELS.items()):
        values = [row[f"{method}_{column}"] for row in rows]
        axes.plot(ranks, values, marker=marker, label=f"{label}{of}", **line_style(i))


if __name__ == "__main__":
    main()
