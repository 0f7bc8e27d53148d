"""Train several variants of one config on the same ratings, and show their curves side by side."""

import time
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mfjax.app import build as config
from mfjax.app import terminal as report
from mfjax.app.jobs import train
from mfjax.errors import InputError
from mfjax.reporting import files as results


def run(cfg: DictConfig, folder: Path, began: float) -> bool:
    """Each entry of `variants` overrides the config; its results go to a subfolder, the comparison to `folder`."""
    if not cfg.variants:
        raise InputError("job=compare needs variants: {NAME: {KEY: VALUE, …}, …}, each a set of keys to override")
    outcomes, figures = {}, {}
    for name, overrides in cfg.variants.items():
        variant = OmegaConf.merge(cfg, overrides, {"variants": {}, "expected": {}})
        assert isinstance(variant, DictConfig)  # as both it is made of are
        experiment = config.build(variant)
        ((_, outcome, seconds, _),) = train.train([variant], [experiment])
        own = folder / str(name)
        own.mkdir(exist_ok=True)
        train.write_tables(variant, experiment, outcome, own)
        if cfg.plots:
            train.draw(experiment, outcome, own)
        outcomes[str(name)] = outcome
        metrics, over = train.measure(outcome)
        summary = train.summarise(variant, experiment, outcome)
        figures[str(name)] = summary | {"metrics": metrics, "interval_over": over, "seconds": seconds}
    if cfg.plots:
        from mfjax.reporting import plots

        plots.save(plots.side_by_side(outcomes), folder, "side_by_side")
    about: dict[str, Any] = {"experiment": report.experiment_name(), "seconds": {"total": time.perf_counter() - began}}
    results.write_json(folder / "results.json", about | {"figures": figures})
    cells = [
        [name, f"{of['final_loss']:.6g}", *(f"{m.mean:.5f}" if m.mean is not None else "–" for m in of["metrics"].values())]
        for name, of in figures.items()
    ]
    columns = ("variant", "final objective", *(key.replace("_", " ") for key in next(iter(figures.values()))["metrics"]))
    report.show(report.plain_table("The same ratings, side by side", columns, cells))
    as_expected = report.meets_expectations(cfg, results.plain(figures))
    report.say(f"Files: {folder}")
    return as_expected
