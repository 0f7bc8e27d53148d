"""Train several variants of one config on the same ratings, and show their curves side by side."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import jax
from omegaconf import DictConfig

from mfjax.app import terminal
from mfjax.app.build import Experiment, build, check_before_data, method_in_values, variant_of
from mfjax.app.contracts import hold_to_contracts
from mfjax.app.drawing import saving_of
from mfjax.app.folders import RESULTS, make_room, owning, subfolder
from mfjax.app.jobs.train import draw, send, summarise, write_files
from mfjax.app.measures import measure, remarks, untested, was_tested
from mfjax.app.sealed import ALL_TESTED
from mfjax.app.summary import NO_TEST, Best, best_of, of_part
from mfjax.app.table import Table
from mfjax.app.tested import rows_of_tests
from mfjax.app.training import train
from mfjax.errors import InputError
from mfjax.metrics import METRICS, PARTS, label
from mfjax.reporting.files import write_json
from mfjax.reporting.formats import Shown, cells
from mfjax.training.protocol import Outcome

SHOWN = {
    "variant": Shown("variant"),
    "final objective": Shown("final_loss", ".6g"),
}


class Compared(NamedTuple):
    """A variant: its config, its experiment, what came of it and the seconds it took."""

    cfg: DictConfig
    experiment: Experiment
    outcome: Outcome
    seconds: dict[str, float]


def run(cfg: DictConfig, folder: Path, began: float) -> bool:
    """Train each entry of `job.variants`, which overrides the config.

    Its results go to a subfolder, the comparison to `folder`. The best by what chooses is tested;
    with `test=all` each is.
    """
    if not cfg.job.variants:
        raise InputError(
            "job=compare needs job.variants: {NAME: {KEY: VALUE, …}, …}, each a set of keys to "
            "override"
        )
    variants = {str(name): variant_of(cfg, keys) for name, keys in cfg.job.variants.items()}
    folders = {name: subfolder(folder, name, "job.variants") for name in variants}
    _refuse_other_ratings(variants)
    for variant in variants.values():  # before any is trained
        check_before_data(variant)
    _refuse_other_bags(variants)
    with ExitStack() as owned:
        for name, variant in variants.items():
            if jax.process_index() == 0:  # of several, which share the folder
                owned.enter_context(owning(folders[name]))
            make_room(variant, folders[name], job=cfg.job.name)
        return compare(cfg, variants, folder, began)


def _refuse_other_ratings(variants: Mapping[str, DictConfig]) -> None:
    """Raises InputError where two variants are of other ratings: one error chooses between them."""
    (first, one), *others = variants.items()
    for name, other in others:
        for key in ("data", "implicit"):
            if other[key] != one[key]:
                raise InputError(
                    f"job.variants.{name}: expected the {key} of {first}, got another: variants "
                    "are of the same ratings\ntrain them as jobs of -m, or as runs of their own"
                )


def _refuse_other_bags(variants: Mapping[str, DictConfig]) -> None:
    """Raises InputError where one variant sees which pairs are tested, and another does not."""
    sees = {
        name: method_in_values(variant).get("bags", {}).get("transductive", False)
        for name, variant in variants.items()
    }
    first, *others = sees
    for name in others:
        if sees[name] != sees[first]:
            raise InputError(
                f"job.variants.{name}: not comparable with {first}, since the bags of one alone "
                "have the pairs to be tested; set bags.transductive alike"
            )


def compare(
    cfg: DictConfig, variants: Mapping[str, DictConfig], folder: Path, began: float
) -> bool:
    """Train the variants, write their results and show them."""
    compared: dict[str, Compared] = {}
    for name, variant in variants.items():
        hold_to_contracts(variant)
        experiment = build(variant)
        if not compared:
            terminal.say_data(experiment.dataset, experiment.start)
        ((_, outcome, seconds, _),) = train([variant], [experiment])
        compared[name] = Compared(variant, experiment, outcome, seconds)
    best = None if cfg.test == "all" else best_variant(compared, cfg.choose_by)
    shown = compared if cfg.test == "all" else with_one_tested(compared, best)
    are_all_tested = cfg.test == "all" and len(compared) > 1
    figures = {
        name: written(one, folder / name, all_tested=are_all_tested) for name, one in shown.items()
    }
    if cfg.plots.draw:
        from mfjax.reporting import plots

        outcomes = {name: one.outcome for name, one in shown.items()}
        plots.save(plots.side_by_side(outcomes), folder, "side_by_side", saving_of(cfg))
    show(figures)
    if cfg.test != "all":
        say_chosen(shown, best)
    elif are_all_tested:
        terminal.say(f"Tested: {ALL_TESTED}")
    return terminal.finish(cfg, folder, began, content={"figures": figures}, figures=figures)


def best_variant(compared: Mapping[str, Compared], column: str) -> Best | None:
    """The best by `column`, chosen as among the jobs of a multirun; None where all diverged."""
    by = (column, of_part("train", column))
    rows = [{"job": name, **_judged(one, by)} for name, one in compared.items()]
    return best_of(rows, column)


def _judged(one: Compared, by: Sequence[str]) -> dict[str, float | None]:
    """The means of the columns `by` of a variant; None where it has none, or diverged."""
    if not one.outcome.chosen.alive:
        return dict.fromkeys(by)
    metrics = measure(one.experiment, untested(one.outcome))["metrics"]
    return {column: metrics[column].mean for column in by}


def with_one_tested(compared: Mapping[str, Compared], best: Best | None) -> dict[str, Compared]:
    """The same, of which the best alone has its errors on the test ratings."""
    return {
        name: one
        if (best and name == best.job) or not was_tested(one.outcome)
        else one._replace(outcome=untested(one.outcome))
        for name, one in compared.items()
    }


def say_chosen(compared: Mapping[str, Compared], best: Best | None) -> None:
    """Which of several variants is chosen and tested, and which were not compared with it."""
    if len(compared) == 1:
        return
    if best is None:
        terminal.warn("Chosen: none, because every variant diverged")
        return
    if was_tested(compared[best.job].outcome):
        by = label(best.column)
        terminal.say(f"Tested: {best.job}, the best by {by}; test=all measures all")
    else:
        terminal.say(f"Chosen: {best.job}, by {best.column}; {NO_TEST}")
    part, _, _ = best.column.partition("_")
    others = [name for name, one in compared.items() if not one.outcome.chosen_by.startswith(part)]
    if others:
        terminal.warn(f"Not compared: {', '.join(others)}, of which nothing is held out")


def written(one: Compared, folder: Path, *, all_tested: bool) -> dict[str, Any]:
    """Write the files of a variant; what results say of it."""
    cfg, experiment, outcome, seconds = one
    folder.mkdir(exist_ok=True)
    write_files(experiment, outcome, folder)
    draw(cfg, experiment, outcome, folder)
    figures = summarise(cfg, experiment, outcome) | {
        **measure(experiment, outcome, all_tested=all_tested),
        "tests": rows_of_tests(experiment, outcome),
        "remarks": remarks(experiment, outcome),
        "seconds": seconds,
    }
    write_json(folder / RESULTS, figures)
    send(cfg, folder, outcome, figures)
    return figures


def show(figures: Mapping[str, dict[str, Any]]) -> None:
    """The variants on the terminal."""
    there = {column for of in figures.values() for column in of["metrics"]}
    by_metric = [
        [f"{part}_{name}" for part in PARTS if f"{part}_{name}" in there] for name in METRICS
    ]
    measured = {label(column): Shown(column, ".5f") for some in by_metric for column in some}
    shown = SHOWN | measured
    rows = [cells({"variant": name, **of, **_means(of)}, shown) for name, of in figures.items()]
    first, *others = [[label(column) for column in some] for some in by_metric if some]
    table = Table(
        title="The same ratings, side by side",
        headings=list(shown),
        rows=rows,
        groups=[[*SHOWN, *first], *others],
        text=["variant"],
        file="results.json",
    )
    terminal.show(table)


def _means(figures: dict[str, Any]) -> dict[str, float | None]:
    """The mean of each metric of a variant."""
    return {column: interval.mean for column, interval in figures["metrics"].items()}
