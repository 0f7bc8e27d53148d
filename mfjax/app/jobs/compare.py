"""Train several variants of one config on the same ratings, and show their curves side by side."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig

from mfjax.app import terminal
from mfjax.app.build import Experiment, build, check_before_data, variant_of
from mfjax.app.contracts import hold_to_contracts
from mfjax.app.drawing import saving_of
from mfjax.app.folders import RESULTS, subfolder
from mfjax.app.jobs.train import draw, summarise, write_files
from mfjax.app.measures import measure, remarks, untested, was_tested
from mfjax.app.sealed import ALL_TESTED
from mfjax.app.table import Table
from mfjax.app.training import train
from mfjax.errors import InputError
from mfjax.metrics import PARTS, columns, label
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
    for variant in variants.values():  # before any is trained
        check_before_data(variant)
    compared: dict[str, Compared] = {}
    for name, variant in variants.items():
        hold_to_contracts(variant)
        experiment = build(variant)
        if not compared:
            terminal.say_data(experiment.dataset)
        ((_, outcome, seconds, _),) = train([variant], [experiment])
        compared[name] = Compared(variant, experiment, outcome, seconds)
    shown = compared if cfg.test == "all" else best_tested(compared)
    are_all_tested = cfg.test == "all" and len(compared) > 1
    figures = {
        name: written(one, folders[name], all_tested=are_all_tested) for name, one in shown.items()
    }
    if cfg.plots.draw:
        from mfjax.reporting import plots

        outcomes = {name: one.outcome for name, one in shown.items()}
        plots.save(plots.side_by_side(outcomes), folder, "side_by_side", saving_of(cfg))
    show(figures)
    say_tested(shown)
    return terminal.finish(cfg, folder, began, content={"figures": figures}, figures=figures)


def best_tested(compared: Mapping[str, Compared]) -> dict[str, Compared]:
    """The same, of which the best alone has its errors on the test ratings."""
    best = min(compared, key=lambda name: compared[name].outcome.chosen.score)
    return {
        name: one
        if name == best or not was_tested(one.outcome)
        else one._replace(outcome=untested(one.outcome))
        for name, one in compared.items()
    }


def say_tested(compared: Mapping[str, Compared]) -> None:
    """Which of several variants are tested."""
    tested = [name for name, one in compared.items() if was_tested(one.outcome)]
    if 1 == len(tested) < len(compared):
        by = label(compared[tested[0]].outcome.chosen_by)
        terminal.say(f"Tested: {tested[0]}, the best by {by}; test=all measures all")
    elif len(tested) > 1:
        terminal.say(f"Tested: {ALL_TESTED}")


def written(one: Compared, folder: Path, *, all_tested: bool) -> dict[str, Any]:
    """Write the files of a variant; what results say of it."""
    cfg, experiment, outcome, seconds = one
    folder.mkdir(exist_ok=True)
    write_files(experiment, outcome, folder)
    draw(cfg, experiment, outcome, folder)
    figures = summarise(cfg, experiment, outcome) | {
        **measure(experiment, outcome, all_tested=all_tested),
        "remarks": remarks(experiment, outcome),
        "seconds": seconds,
    }
    write_json(folder / RESULTS, figures)
    return figures


def show(figures: Mapping[str, dict[str, Any]]) -> None:
    """The variants on the terminal."""
    measured = {label(column): Shown(column, ".5f") for column in columns(*PARTS)}
    shown = SHOWN | measured
    rows = [cells({"variant": name, **of, **_means(of)}, shown) for name, of in figures.items()]
    by_metric = [[label(column) for column in columns(part)] for part in PARTS]
    first, *others = zip(*by_metric, strict=True)
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
