"""Compare every gradient variant, and a user's own, on the data at hand and on a small problem."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from mfjax.app import terminal
from mfjax.app.build import build_dataset, choose
from mfjax.app.drawing import saving_of
from mfjax.app.jobs import _points
from mfjax.app.table import Table
from mfjax.checks.calls import arguments_at, loss_of
from mfjax.checks.compare import Oracle, compare_gradients
from mfjax.checks.cost import Cost
from mfjax.checks.differences import VERDICTS
from mfjax.checks.functions import Own, load_function
from mfjax.checks.ours import own_loss
from mfjax.checks.own import check_own
from mfjax.data import from_ids
from mfjax.data.dataset import Dataset
from mfjax.errors import InputError
from mfjax.gradients import GRADIENTS
from mfjax.gradients.dense import usual_step
from mfjax.kernels.choice import available
from mfjax.reporting.files import write_csv, write_text
from mfjax.reporting.formats import Shown, cells, latex, markdown
from mfjax.reporting.saving import Saving
from mfjax.types import Spec

COLUMNS = (
    "gradient",
    "ratings",
    "entries",
    "ms",
    "ms_low",
    "ms_high",
    "compile_s",
    "temp_bytes",
    "flops",
    "error_user",
    "error_item",
    "error_user_full",
    "error_item_full",
    "elementwise_user",
    "elementwise_item",
    "own_checker",
    "tolerance",
    "status",
    "note",
)
SHOWN = {
    "gradient": Shown("gradient"),
    "ratings": Shown("ratings", ","),
    "error U": Shown("error_user", ".1e"),
    "error V": Shown("error_item", ".1e"),
    "full, U": Shown("error_user_full", ".1e"),
    "full, V": Shown("error_item_full", ".1e"),
    "ms": Shown("ms", ".3g"),
    "25 %": Shown("ms_low", ".3g"),
    "75 %": Shown("ms_high", ".3g"),
    "compile s": Shown("compile_s", ".2f"),
    "temp MB": Shown("temp_bytes", ".4g", 1e6),
    "MFLOP": Shown("flops", ".4g", 1e6),
    "status": Shown("status"),
}
GROUPS = (  # the most important first
    ("gradient", "status", "error U", "error V", "ms", "compile s", "temp MB"),
    ("full, U", "full, V"),
    ("25 %", "75 %"),
    ("ratings",),
    ("MFLOP",),
)
SHOWN_OF_OWN = {
    "gradient": SHOWN["gradient"],
    "error U": SHOWN["error U"],
    "error V": SHOWN["error V"],
    "elementwise U": Shown("elementwise_user", ".1e"),
    "elementwise V": Shown("elementwise_item", ".1e"),
    "own checker": Shown("own_checker", ".1e"),
    "status": SHOWN["status"],
}
GROUPS_OF_OWN = (
    ("gradient", "status", "error U", "error V", "own checker"),
    ("elementwise U", "elementwise V"),
)
SHOWN_CONVENTIONS = ("missing", "loss", "loss_scale", "reg_by")
TEXT = ("gradient", "status")
DISAGREES = (
    "{gradient} disagrees at {side}[{row}, {column}]: analytic {analytic:.6g}, "
    "numerical {numerical:.6g}, relative error {relative_error:.2g}"
)
FAILURES = ("FAILED", *VERDICTS)
Row = dict[str, Any]


def run(cfg: DictConfig, folder: Path, began: float) -> bool:
    """Compare, and write gradients.csv, .md and .tex, results.json and the plots to `folder`.

    False where a gradient failed of which no such status is expected.
    """
    names = _names(cfg)
    if not names and not cfg.job.candidate.gradient:
        raise InputError("job.gradients=[] leaves nothing to compare: give job.candidate.gradient")
    sizes = variants(cfg, names) if names else []
    own, worst = candidate(cfg) if cfg.job.candidate.gradient else ([], [])
    largest = sizes[-len(names) :] if names else []
    write(folder, sizes + own)
    if cfg.plots.draw and sizes:
        draw(largest, sizes, folder, saving_of(cfg))
    if largest:
        show(largest, cfg.loss)
    if own:
        show_own(cfg, own, worst)
    by_name = {row["gradient"]: row for row in largest}
    figures = {"variants": by_name, "candidate": own, "worst": worst}
    content = {"loss": cfg.loss, **figures}
    as_expected = terminal.finish(cfg, folder, began, content=content, figures=figures)
    return as_expected and not unexpected(cfg, figures)


def unexpected(cfg: DictConfig, figures: Mapping[str, Any]) -> list[str]:
    """The statuses of gradients that failed, by their path in the results.

    Without those that `expected` states, which are judged there.
    """
    rows = {f"variants.{name}": row for name, row in figures["variants"].items()}
    rows |= {f"candidate.{i}": row for i, row in enumerate(figures["candidate"])}
    failed = [f"{path}.status" for path, row in rows.items() if row["status"] in FAILURES]
    return [path for path in failed if path not in cfg.expected]


def _names(cfg: DictConfig) -> list[str]:
    """The variants that are asked for. Raises InputError for one that there is not."""
    if cfg.job.gradients is None:
        return available(GRADIENTS, cfg.loss)
    for name in cfg.job.gradients:
        choose("job.gradients", GRADIENTS, name)
    return list(cfg.job.gradients)


# mfjax's variants


def variants(cfg: DictConfig, names: Sequence[str]) -> list[Row]:
    """The rows of every size, smallest first."""
    job = cfg.job
    dataset = build_dataset(cfg)
    terminal.say_data(dataset)
    oracle = Oracle(job.step or usual_step(cfg.loss), job.tolerance)
    rows = []
    for share in sorted(job.shares):
        full = _points.full(cfg, part_of(dataset, share))
        spec = full.spec
        shape = f"{spec.num_users} x {spec.num_items}"
        with terminal.working(f"comparing on {len(full.ratings.value):,} ratings, {shape}"):
            compared = compare_gradients(names, _points.small(cfg), full, oracle, job.repeats)
        entries = spec.num_users * spec.num_items
        rows += [row | {"entries": entries} for row in compared]
    return rows


def part_of(dataset: Dataset, share: float) -> Dataset:
    """The ratings of a random share of the users, and of the items that they rated."""
    if share == 1:
        return dataset
    count = max(round(share * dataset.num_users), 2)
    users = np.random.default_rng(0).permutation(dataset.num_users)[:count]
    rows = np.isin(dataset.user, users)
    user_ids = dataset.user_ids[dataset.user[rows]]
    item_ids = dataset.item_ids[dataset.item[rows]]
    part = from_ids(dataset.name, user_ids, item_ids, dataset.value[rows])
    return replace(
        part,
        weight=None if dataset.weight is None else dataset.weight[rows],
        timestamp=None if dataset.timestamp is None else dataset.timestamp[rows],
    )


# a user's own gradient


def candidate(cfg: DictConfig) -> tuple[list[Row], list[Row]]:
    """A row for every λ at which the user's own gradient is tried.

    And the worst entries where it disagrees.
    """
    own = cfg.job.candidate
    point = _points.small(cfg, bias=False)
    gradient = _function(cfg, "gradient")
    loss = _function(cfg, "loss") if own.loss else own_loss(point)
    checker = _function(cfg, "checker") if own.checker else None
    oracle = Oracle(own.step, own.tolerance)
    rows: list[Row] = []
    worst: list[Row] = []
    for reg in own.reg or [cfg.hparams.reg]:
        columns, disagreeing = check_own(gradient, loss, point, reg, oracle)
        name = f"{own.gradient.rpartition(':')[2]} (λ = {reg:g})"
        row = {"gradient": name, "ratings": len(point.ratings.value)} | columns
        if checker is not None:
            row["own_checker"] = loss_of(checker, arguments_at(point, reg))
        rows.append(row)
        worst += [{"gradient": name, **entry._asdict()} for entry in disagreeing]
    return rows, worst


def _function(cfg: DictConfig, key: str) -> Own:
    """A function that `job.candidate` names."""
    return load_function(cfg.job.candidate[key], f"job.candidate.{key}")


# what a reader sees


def write(folder: Path, rows: Sequence[Row]) -> None:
    """The comparison as CSV, Markdown and LaTeX; every column in every row."""
    whole = [{column: row.get(column) for column in COLUMNS} for row in rows]
    write_csv(folder / "gradients.csv", whole)
    headings = list(SHOWN)
    lines = [cells(row, SHOWN) for row in whole]
    write_text(folder / "gradients.md", markdown(headings, lines))
    write_text(folder / "gradients.tex", latex(headings, lines))


def draw(
    largest: Sequence[Row],
    sizes: Sequence[Row],
    folder: Path,
    saving: Saving,
) -> None:
    """The comparison on the largest size, and the times by size where there are several."""
    from mfjax.reporting import plots

    blank = dict.fromkeys(COLUMNS)
    # the numerical gradient was timed on the small problem: no place beside the others' times
    untimed = {"ms": None, "ratings": max(row["ratings"] for row in largest)}
    rows = [row | (untimed if _is_oracle(row) else {}) for row in largest]
    plots.save(plots.gradients([blank | row for row in rows]), folder, "gradients", saving)
    if len({row["entries"] for row in sizes}) > 1:
        running = [blank | row for row in sizes if not _is_oracle(row)]
        plots.save(plots.scaling(running), folder, "scaling", saving)


def _is_oracle(row: Row) -> bool:
    return row["gradient"] == "numerical"


def show(rows: Sequence[Row], loss: str) -> None:
    """mfjax's variants of the gradient of a loss on the terminal."""
    title = "Gradients: errors on the small problem (float64), then everything on the full one"
    if loss != Spec.loss:
        title = f"{title}; loss={loss}"
    # the numerical gradient was timed on the small problem: no place beside the others' costs
    untimed = dict.fromkeys(Cost._fields)
    lines = [cells(row | (untimed if _is_oracle(row) else {}), SHOWN) for row in rows]
    terminal.show(Table(title, list(SHOWN), lines, GROUPS, TEXT, "gradients.csv"))


def show_own(cfg: DictConfig, rows: Sequence[Row], worst: Sequence[Row]) -> None:
    """The user's own on the terminal."""
    conventions = ", ".join(f"{key}={cfg[key]}" for key in SHOWN_CONVENTIONS)
    loss = "its loss" if cfg.job.candidate.loss else f"mfjax's loss ({conventions})"
    title = f"A gradient against differences of {loss}"
    lines = [cells(row, SHOWN_OF_OWN) for row in rows]
    terminal.show(Table(title, list(SHOWN_OF_OWN), lines, GROUPS_OF_OWN, TEXT, "gradients.csv"))
    for row in rows:
        if row["note"]:
            head = " is not judged" if row["status"] in VERDICTS else ""
            terminal.warn(f"{row['gradient']}{head}: {row['note']}")
    for entry in worst:
        explained = f"; it {entry['explanation']}" if entry["explanation"] else ""
        terminal.warn(DISAGREES.format_map(entry) + explained)
