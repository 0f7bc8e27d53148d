"""The main job: train a sweep, choose on validation, report test once, and write it all down."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float
from omegaconf import DictConfig

from mfjax.app import tables, terminal
from mfjax.app.build import Experiment, build, flat, plain_section
from mfjax.app.drawing import saving_of
from mfjax.app.handover import Failed, Finished, Nothing, Ready, handed_over
from mfjax.app.session import experiment_name
from mfjax.app.training import Trained, is_finished, run_identity, train
from mfjax.data.dataset import Dataset
from mfjax.errors import InputError
from mfjax.metrics import columns
from mfjax.metrics.baselines import baselines
from mfjax.reporting.files import (
    all_fits,
    as_json,
    history_rows,
    lane_rows,
    write_csv,
    write_factors,
    write_json,
)
from mfjax.reporting.provenance import digest_of_run, provenance
from mfjax.reporting.saving import Saving
from mfjax.reporting.statistics import Interval, interval, over_splits
from mfjax.training.checkpoint import FOLDER, Checkpoints, finishing_the_chunk, remove
from mfjax.training.lanes import Fit
from mfjax.training.protocol import Outcome, predictions

DENSE = 60  # users and items of a problem small enough to show as matrices


def run(cfg: DictConfig, folder: Path, began: float) -> bool:
    """Train what `cfg` describes and write its results to `folder`.

    The results of a finished run of the same config and data stand where `resume` asks for them.
    False where an expected figure did not come out.
    """
    match handed_over():
        case Failed(error):
            raise error
        case Finished():
            return finished_already(cfg, folder)
        case Ready(trained):
            before = trained.seconds["compile"] + trained.seconds["train"]  # this job began
            terminal.say_data(cfg.data, trained.experiment.dataset)
            return write_and_show(cfg, folder, trained, began - before)
        case Nothing():
            return run_alone(cfg, folder, began)


def run_alone(cfg: DictConfig, folder: Path, began: float) -> bool:
    """Train, write and show, with checkpoints until the results are written."""
    building = time.perf_counter()
    experiment = build(cfg)
    before = {"imports": building - began, "data": time.perf_counter() - building}
    identity = run_identity(flat(cfg), experiment)
    if cfg.resume and is_finished(folder, identity):
        return finished_already(cfg, folder)
    if cfg.resume and not (folder / FOLDER).exists():
        terminal.warn(
            f"resume=true: nothing to go on from in {folder}, so from the start; "
            "hydra.run.dir=… says where"
        )
    terminal.say_data(cfg.data, experiment.dataset)
    with finishing_the_chunk() as stop:
        checkpoints = Checkpoints(
            folder,
            identity,
            every=cfg.checkpoint.every,
            resume=cfg.resume,
            stop=stop,
        )
        (trained,) = train([cfg], [experiment], checkpoints)
    trained = trained._replace(seconds=before | trained.seconds)
    return write_and_show(cfg, folder, trained, began, own_checkpoints=True)


def finished_already(cfg: DictConfig, folder: Path) -> bool:
    """Say so, and whether the figures in `folder` are as expected."""
    path = folder / "results.json"
    terminal.say(f"finished already: {path}")
    return terminal.meets_expectations(cfg, json.loads(path.read_text()))


def write_and_show(
    cfg: DictConfig,
    folder: Path,
    trained: Trained,
    began: float,
    *,
    own_checkpoints: bool = False,
) -> bool:
    """Write what was trained, remove its checkpoints, and show it.

    Of several processes (`jax.distributed`) the first alone does. False where an expected figure
    did not come out.
    """
    if jax.process_index() > 0:
        return True
    results = write(cfg, folder, trained, began)
    if own_checkpoints:
        remove(folder)
    show(trained, results, folder)
    as_expected = terminal.meets_expectations(cfg, as_json(results))
    terminal.say(f"Files: {folder}")
    return as_expected


# what is written


def write(cfg: DictConfig, folder: Path, trained: Trained, began: float) -> dict[str, Any]:
    """Measure what was trained, and write it all to `folder`; the content of its results.json."""
    experiment, outcome, seconds, jobs = trained
    evaluating = time.perf_counter()
    metrics, over = measure(outcome)
    of_baselines = baselines(experiment.sweep.plan.problems)
    write_files(cfg, experiment, outcome, folder)
    drawing = time.perf_counter()
    draw(cfg, experiment, outcome, folder)
    now = time.perf_counter()
    after = {"evaluate": drawing - evaluating, "plots": now - drawing}
    results = summarise(cfg, experiment, outcome) | {
        "metrics": metrics,
        "interval_over": over,
        "baselines": {name: interval(rmse) for name, rmse in of_baselines.items()},
        "trained_together": jobs,
        "seconds": {"total": now - began, **seconds, **after},
    }
    if not outcome.chosen.alive:
        results["reason"] = diverged(outcome)
    write_json(folder / "results.json", results)
    return results


def measure(outcome: Outcome) -> tuple[dict[str, Interval], str]:
    """The chosen setting's metrics with their intervals, and what the intervals are over."""
    final = outcome.final
    measured = {column: _at_best(final, column) for column in columns("train")}
    for column in columns("validation"):
        measured[column] = _at_best(outcome.chosen.fits, column)
    for column in columns("test"):
        measured[column] = over_splits(final, [tested[column] for tested in outcome.test])
    metrics = {column: value for column, (value, _) in measured.items()}
    was_tested = any(metrics[column].n for column in columns("test"))
    last, *_ = columns("test" if was_tested else "validation")
    _, over = measured[last]
    return metrics, over


def _at_best(fits: list[Fit], column: str) -> tuple[Interval, str]:
    return over_splits(fits, [fit.at_best(column) for fit in fits])


def summarise(cfg: DictConfig, experiment: Experiment, outcome: Outcome) -> dict[str, Any]:
    """What results.json says beside the metrics and the seconds."""
    chosen = outcome.chosen
    schedule = {key: cfg[key] for key in ("epochs", "eval_every", "patience")}
    fits = all_fits(outcome)
    died = [fit for fit in fits if not fit.alive]
    refitted = ", refitted on training and validation ratings" if outcome.refitted else ""
    return {
        "experiment": experiment_name(),
        "status": "finished" if chosen.alive else "diverged",
        "chosen": _without(experiment.idle, chosen.hparams),
        "final_loss": float(np.mean([fit.history["loss"][-1] for fit in outcome.final])),
        "chosen_by": f"mean {outcome.chosen_by}",
        "conventions": experiment.conventions,
        "method": experiment.method | schedule,
        "data": _described(experiment.dataset),
        "protocol": experiment.protocol + refitted,
        "lanes": len(fits),
        "diverged": [{**fit.lane.hparams._asdict(), "status": fit.status} for fit in died],
        "search": plain_section(cfg.search),
        "compilations": experiment.sweep.compilations,
        "digest": digest_of_run(run_identity(flat(cfg), experiment)),
        "provenance": provenance(),
    }


def _without(idle: Mapping[str, str], hparams: Mapping[str, float]) -> dict[str, float]:
    return {key: value for key, value in hparams.items() if key not in idle}


def _described(dataset: Dataset) -> dict[str, Any]:
    return {
        "name": dataset.name,
        "users": dataset.num_users,
        "items": dataset.num_items,
        "ratings": len(dataset.value),
        "sha256": dataset.sha256,
    }


def diverged(outcome: Outcome) -> str:
    """Why there is nothing to choose from, and what to try."""
    *_, epoch = outcome.final[0].status.split()
    rate = outcome.chosen.hparams["learning_rate"]
    return (
        f"every setting diverged, the first at epoch {epoch}\n"
        f"try a learning rate below {rate:g}, or a smaller hparams.init_scale"
    )


def write_files(cfg: DictConfig, experiment: Experiment, outcome: Outcome, folder: Path) -> None:
    """Lanes, histories and factors."""
    write_csv(folder / "lanes.csv", lane_rows(outcome))
    write_csv(folder / "history.csv", history_rows(outcome))
    problem = next(iter(experiment.sweep.plan.problems.values()))
    fit = outcome.final[0]
    write_factors(folder / "factors.npz", fit, experiment.dataset, problem.bounds, cfg.bias)


def draw(cfg: DictConfig, experiment: Experiment, outcome: Outcome, folder: Path) -> None:
    """The plots of an outcome, where there are to be any.

    Those of predictions are of its first final fit.
    """
    if not (cfg.plots.draw and outcome.chosen.alive):
        return
    from mfjax.reporting import plots

    saving = saving_of(cfg)
    dataset = experiment.dataset
    fit = outcome.final[0]
    plots.save(plots.learning_curves(outcome), folder, "learning_curves", saving)
    if heat_map := plots.heat_map(outcome, experiment.axes):
        plots.save(heat_map, folder, "heat_map", saving)
    draw_predictions(experiment, fit, folder, saving)
    if max(dataset.num_users, dataset.num_items) <= DENSE:
        actual = ratings_matrix(dataset)
        user, item = (np.asarray(table, np.float64) for table in fit.factors)
        predicted = user @ item.T + fit.mean
        figure = plots.matrices(actual, predicted, np.isnan(actual))
        plots.save(figure, folder, "matrices", saving)


def draw_predictions(experiment: Experiment, fit: Fit, folder: Path, saving: Saving) -> None:
    """Predictions of the test ratings, or of the training ratings where there are none."""
    from mfjax.reporting import plots

    split_seed = fit.lane.hparams.split_seed
    problem = experiment.sweep.plan.problems[split_seed]
    was_tested = len(problem.test.value) > 0
    ratings = problem.test if was_tested else problem.ratings
    part = "test" if was_tested else "training"
    label = f"{part} ratings, split_seed {split_seed}"
    clipped = np.clip(predictions(fit, ratings), *problem.bounds)
    figure = plots.predictions(clipped, ratings.value, problem.bounds, label)
    plots.save(figure, folder, "predictions", saving)


def ratings_matrix(dataset: Dataset) -> Float[np.ndarray, "users items"]:
    """All ratings of a small data set; NaN where there is none."""
    matrix = np.full((dataset.num_users, dataset.num_items), np.nan)
    matrix[dataset.user, dataset.item] = dataset.value
    return matrix


# what a reader sees


def show(trained: Trained, results: Mapping[str, Any], folder: Path) -> None:
    """The end of the run on the terminal.

    Raises InputError where every setting diverged, after all has been written.
    """
    experiment = trained.experiment
    outcome = trained.outcome
    died = [fit for fit in all_fits(outcome) if not fit.alive]
    for fit in died[:3]:
        terminal.warn(
            f"{fit.status} (learning_rate={fit.lane.hparams.learning_rate:g}): "
            "try a lower learning rate or init_scale"
        )
    if not outcome.chosen.alive:
        raise InputError(f"{results['reason']}\nhistory and lanes: {folder}")
    terminal.show(tables.settings_table(outcome, list(experiment.axes)))
    terminal.show(tables.metrics_table(results["metrics"], outcome.refitted))
    if baselines_table := tables.baselines_table(results["baselines"]):
        terminal.show(baselines_table)
    terminal.say_to_paste("Chosen:", results["chosen"], section="hparams.")
    terminal.say_to_paste("Conventions:", results["conventions"])
    terminal.say(f"Protocol: {results['protocol']}; intervals over {results['interval_over']}")
    terminal.say(in_numbers(results))


def in_numbers(results: Mapping[str, Any]) -> str:
    """The lanes, the programs, and the seconds that each part took."""
    total, *parts = results["seconds"].items()
    took = ", ".join(f"{what} {seconds:.1f}" for what, seconds in parts if seconds)
    counts = f"{results['lanes']} lanes, {results['compilations']} compilation(s)"
    return f"{counts}, {total[1]:.1f} s in all: {took}"
