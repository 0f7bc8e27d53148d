"""Train several variants of one config on the same ratings, and show their curves side by side."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from mfjax.app import terminal
from mfjax.app.build import Experiment, build
from mfjax.app.drawing import saving_of
from mfjax.app.jobs.train import draw, measure, summarise, write_files
from mfjax.app.schema import TrainJob
from mfjax.app.table import Table
from mfjax.app.training import train
from mfjax.errors import InputError
from mfjax.metrics import PARTS, columns, label
from mfjax.reporting.formats import Shown, cells
from mfjax.training.protocol import Outcome

SHOWN = {
    "variant": Shown("variant"),
    "final objective": Shown("final_loss", ".6g"),
}


class Compared(NamedTuple):
    """What came of a variant, and what results say of it."""

    outcome: Outcome
    figures: dict[str, Any]


def run(cfg: DictConfig, folder: Path, began: float) -> bool:
    """Train each entry of `job.variants`, which overrides the config.

    Its results go to a subfolder, the comparison to `folder`.
    """
    if not cfg.job.variants:
        raise InputError(
            "job=compare needs job.variants: {NAME: {KEY: VALUE, …}, …}, each a set of keys to "
            "override"
        )
    compared: dict[str, Compared] = {}
    for name, overrides in cfg.job.variants.items():
        variant = variant_of(cfg, overrides)
        experiment = build(variant)
        if not compared:
            terminal.say_data(variant.data, experiment.dataset)
        compared[str(name)] = trained(variant, experiment, folder / str(name))
    if cfg.plots.draw:
        from mfjax.reporting import plots

        outcomes = {name: variant.outcome for name, variant in compared.items()}
        plots.save(plots.side_by_side(outcomes), folder, "side_by_side", saving_of(cfg))
    figures = {name: variant.figures for name, variant in compared.items()}
    show(figures)
    return terminal.finish(cfg, folder, began, content={"figures": figures}, figures=figures)


def variant_of(cfg: DictConfig, overrides: DictConfig) -> DictConfig:
    """The config of one variant, as if it were trained alone."""
    variant = OmegaConf.merge(cfg, overrides)
    assert isinstance(variant, DictConfig)  # as both it is made of are
    variant.job = OmegaConf.structured(TrainJob)
    variant.expected = {}
    return variant


def trained(cfg: DictConfig, experiment: Experiment, folder: Path) -> Compared:
    """Train one variant, and write its files."""
    ((_, outcome, seconds, _),) = train([cfg], [experiment])
    folder.mkdir(exist_ok=True)
    write_files(cfg, experiment, outcome, folder)
    draw(cfg, experiment, outcome, folder)
    metrics, over = measure(outcome)
    measured = {"metrics": metrics, "interval_over": over, "seconds": seconds}
    return Compared(outcome, summarise(cfg, experiment, outcome) | measured)


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
