"""Compare every gradient variant, and a user's own, on the data at hand and on a small problem."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from omegaconf import DictConfig

from mfjax.app import build as config
from mfjax.app import terminal as report
from mfjax.checks import compare as check
from mfjax.checks.compare import Point
from mfjax.data.dataset import Dataset, from_ids
from mfjax.gradients import GRADIENTS
from mfjax.reporting import files as results
from mfjax.types import Ratings

COLUMNS = (
    *("gradient", "ratings", "entries", "ms", "ms_low", "ms_high", "compile_s", "temp_bytes", "flops"),
    *("error_user", "error_item", "error_user_full", "error_item_full", "elementwise_user", "elementwise_item"),
    *("own_checker", "tolerance", "status"),
)
SHOWN: dict[str, tuple[str, str, float]] = {  # what a reader sees: heading, column, format and unit
    "gradient": ("gradient", "", 1),
    "ratings": ("ratings", ",", 1),
    "error U": ("error_user", ".1e", 1),
    "error V": ("error_item", ".1e", 1),
    "full, U": ("error_user_full", ".1e", 1),
    "full, V": ("error_item_full", ".1e", 1),
    "ms": ("ms", ".3g", 1),
    "25 %": ("ms_low", ".3g", 1),
    "75 %": ("ms_high", ".3g", 1),
    "compile s": ("compile_s", ".2f", 1),
    "temp MB": ("temp_bytes", ".4g", 1e6),
    "MFLOP": ("flops", ".4g", 1e6),
    "status": ("status", "", 1),
}
OWN = SHOWN | {
    "elementwise U": ("elementwise_user", ".1e", 1),
    "elementwise V": ("elementwise_item", ".1e", 1),
    "own checker": ("own_checker", ".1e", 1),
}


def run(cfg: DictConfig, folder: Path, began: float) -> bool:
    """Write gradients.csv, .md and .tex, results.json and the plots to `folder`; False where a variant failed."""
    names = list(GRADIENTS) if cfg.check.gradients is None else list(cfg.check.gradients)
    for name in names:
        config.choose("check.gradients", GRADIENTS, name)
    sizes = variants(cfg, names) if names else []
    own, worst = candidate(cfg) if cfg.check.candidate.gradient else ([], [])
    largest = sizes[-len(names) :] if names else []
    write(folder, sizes + own)
    if cfg.plots and sizes:
        draw(largest, sizes, folder)
    own_loss = ", ".join(f"{key}={cfg[key]}" for key in ("missing", "loss_scale", "reg_by"))
    show(largest, own, worst, "its loss" if cfg.check.candidate.loss else f"mfjax's loss ({own_loss})")
    figures = {"variants": {row["gradient"]: row for row in largest}, "candidate": own, "worst": worst}
    about = {"experiment": report.experiment_name(), "seconds": {"total": time.perf_counter() - began}}
    results.write_json(folder / "results.json", about | figures | {"provenance": results.provenance()})
    as_expected = report.meets_expectations(cfg, results.plain(figures))
    report.say(f"Files: {folder}")
    return as_expected and all(row["status"] != "FAILED" for row in largest + own)


def variants(cfg: DictConfig, names: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of every size, smallest first."""
    of, dataset, rows = cfg.check, config.build_dataset(cfg), []
    for share in sorted(of.shares):
        full = full_point(cfg, part_of(dataset, share))
        shape = f"{full.spec.num_users} x {full.spec.num_items}"
        with report.console.status(f"{len(full.ratings.value):,} ratings, {shape}"):
            compared = check.compare(names, small_point(cfg, cfg.bias), full, of.step, of.tolerance, of.repeats)
        rows += [row | {"entries": full.spec.num_users * full.spec.num_items} for row in compared]
    return rows


def candidate(cfg: DictConfig) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """A row for every λ at which the user's own gradient is tried, and the worst entries where it disagrees."""
    of, point, rows, worst = cfg.check.candidate, small_point(cfg, bias=False), [], []
    gradient = check.load_function(of.gradient, "check.candidate.gradient")
    loss = check.load_function(of.loss, "check.candidate.loss") if of.loss else check.own_loss(point)
    checker = check.load_function(of.checker, "check.candidate.checker") if of.checker else None
    for reg in of.reg or [cfg.hparams.reg]:
        columns, disagreeing = check.check_own(gradient, loss, point, reg, of.step, of.tolerance)
        claim = {} if checker is None else {"own_checker": float(check.call_own(checker, point, reg))}
        name = f"{of.gradient.rpartition(':')[2]} (λ = {reg:g})"
        rows.append({"gradient": name, "ratings": len(point.ratings.value)} | columns | claim)
        worst += [{"gradient": name, **entry._asdict()} for entry in disagreeing]
    return rows, worst


def small_point(cfg: DictConfig, bias: bool) -> Point:
    """The small problem of the config, with its biases or without."""
    of, spec = cfg.check, replace(config.build_spec(cfg, 1, 1), bias=bias)
    return check.small_point(spec, config.build_hparams(cfg), of.small_users, of.small_items, of.small_rank)


def full_point(cfg: DictConfig, dataset: Dataset) -> Point:
    """The data at hand, nothing held out; tiles share its rows out over the devices."""
    ratings = Ratings.of(dataset.user, dataset.item, dataset.value, dtype=cfg.dtype)
    spec = config.build_spec(cfg, dataset.num_users, dataset.num_items)
    tiling = replace(config.build_tiling(cfg, dataset, spec), shards=len(jax.local_devices()))
    spec = replace(spec, tiling=tiling)
    return check.full_point(spec, ratings, config.build_hparams(cfg))


def part_of(dataset: Dataset, share: float) -> Dataset:
    """The ratings of a random share of the users, and of the items that they rated."""
    if share == 1:
        return dataset
    users = np.random.default_rng(0).permutation(dataset.num_users)[: max(round(share * dataset.num_users), 2)]
    rows = np.isin(dataset.user, users)
    ids = (dataset.user_ids[dataset.user[rows]], dataset.item_ids[dataset.item[rows]])
    return from_ids(dataset.name, *ids, dataset.value[rows])


def write(folder: Path, rows: Sequence[dict[str, Any]]) -> None:
    """The comparison as CSV, Markdown and LaTeX; every column in every row."""
    whole = [{column: row.get(column) for column in COLUMNS} for row in rows]
    results.write_csv(folder / "gradients.csv", whole)
    cells = [report.cells(row, SHOWN) for row in whole]
    (folder / "gradients.md").write_text(results.markdown(list(SHOWN), cells))
    (folder / "gradients.tex").write_text(results.latex(list(SHOWN), cells))


def draw(largest: Sequence[dict[str, Any]], sizes: Sequence[dict[str, Any]], folder: Path) -> None:
    from mfjax.reporting import plots

    # the numerical gradient was timed on the small problem: its time has no place beside the others'
    untimed = {"ms": None, "ratings": max(row["ratings"] for row in largest)}
    timed = [row | untimed if row["gradient"] == "numerical" else row for row in largest]
    plots.save(plots.gradients([dict.fromkeys(COLUMNS) | row for row in timed]), folder, "gradients")
    if len({row["entries"] for row in sizes}) > 1:
        running = [row for row in sizes if row["gradient"] != "numerical"]
        plots.save(plots.scaling([dict.fromkeys(COLUMNS) | row for row in running]), folder, "scaling")


def show(largest: Sequence[dict[str, Any]], own: Sequence[dict[str, Any]], worst: Sequence[dict[str, Any]], loss: str) -> None:
    if largest:
        title = "Gradients: errors on the small problem (float64), then everything on the full one"
        report.show(report.plain_table(title, list(SHOWN), [report.cells(row, SHOWN) for row in largest]))
    if own:
        columns = ("gradient", "error U", "error V", "elementwise U", "elementwise V", "own checker", "status")
        cells = [report.cells(row, {heading: OWN[heading] for heading in columns}) for row in own]
        report.show(report.plain_table(f"A gradient against differences of {loss}", columns, cells))
    for w in worst:
        report.warn(
            "{gradient} disagrees at {side}[{row}, {column}]: analytic {analytic:.6g}, numerical {numerical:.6g}, "
            "relative error {relative_error:.2g}".format_map(w)
        )
