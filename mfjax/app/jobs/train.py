"""The main job: train a sweep, choose on validation, report test once, and write it all down."""

import json
import logging
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from omegaconf import DictConfig

from mfjax.app import build as config
from mfjax.app import multirun
from mfjax.app import terminal as report
from mfjax.app.build import Experiment
from mfjax.errors import InputError
from mfjax.reporting import files as results
from mfjax.training import protocol
from mfjax.training.checkpoint import FOLDER, Checkpoints, finishing_the_chunk, remove
from mfjax.training.protocol import Interval, Outcome

log = logging.getLogger("mfjax")
DENSE = 60  # users and items of a problem small enough to show as matrices


class Trained(NamedTuple):
    """What came of an experiment, the seconds that it took, and how many jobs were trained at once."""

    experiment: Experiment
    outcome: Outcome
    seconds: dict[str, float]
    jobs: int


def run(cfg: DictConfig, folder: Path, began: float) -> bool:
    """Train what `cfg` describes and write its results to `folder`; False where an expected figure did not come out.

    The results of a finished run of the same config and data stand where `resume` asks for them.
    """
    ready, checkpoints = multirun.handed(), None
    if ready is None:
        experiment = config.build(cfg)
        data_seconds = time.perf_counter() - began
        of_run = about(config.flat(cfg), experiment)
        if cfg.resume and is_finished(folder, of_run):
            ready = multirun.FINISHED
        else:
            if cfg.resume and not (folder / FOLDER).exists():
                report.warn(f"resume=true: nothing to go on from in {folder}, so from the start; hydra.run.dir=… says where")
            with finishing_the_chunk() as stop:
                checkpoints = Checkpoints(folder, of_run, cfg.checkpoint.every, cfg.resume, stop=stop)
                (ready,) = train([cfg], [experiment], checkpoints)
            ready.seconds["data"] = data_seconds
    elif ready != multirun.FINISHED:
        began -= ready.seconds["compile"] + ready.seconds["train"]  # which were before this job
    if ready == multirun.FINISHED:
        report.say(f"finished already: {folder / 'results.json'}")
        return report.meets_expectations(cfg, json.loads((folder / "results.json").read_text()))
    if not is_first():
        return True
    summary = write(cfg, folder, ready, began)
    if checkpoints is not None:
        remove(folder)
    show(ready.experiment, ready.outcome, summary, folder)
    as_expected = report.meets_expectations(cfg, results.plain(summary))
    report.say(f"Files: {folder}")
    return as_expected


def is_first() -> bool:
    """Whether this is the process that writes (`jax.distributed`)."""
    import jax

    return jax.process_index() == 0


def about(of_config: dict[str, Any], experiment: Experiment) -> dict[str, Any]:
    """What a result or a checkpoint is of: the config's values, the data's digest and the version."""
    return of_config | {"data": experiment.dataset.sha256, "mfjax": version("mfjax")}


def is_finished(folder: Path, of_run: dict[str, Any]) -> bool:
    """Whether `folder` has the results of this very run."""
    path = folder / "results.json"
    if not path.is_file():
        return False
    found = json.loads(path.read_text())
    return found.get("status") == "finished" and found.get("digest") == results.digest(of_run)


def train(
    cfgs: Sequence[DictConfig], experiments: Sequence[Experiment], checkpoints: Checkpoints | None = None
) -> list[Trained]:
    """Carry the protocol of experiments that share one sweep out, under one progress bar."""
    cfg, sweep = cfgs[0], experiments[0].sweep
    began, compiled, sweep.checkpoints = time.perf_counter(), sweep.compile_seconds, checkpoints
    count = len(dict.fromkeys(lane for experiment in experiments for lane in experiment.lanes))
    lanes = f"{count} lane{'s' * (count > 1)}"
    log.info("%s; %s; %s", lanes, experiments[0].protocol, experiments[0].conventions)
    with report.progress(f"{cfg.method}, {lanes}") as watch:
        jobs = [experiment.lanes for experiment in experiments]
        outcomes = protocol.carry_out_together(sweep, jobs, cfg.refit, watch, experiments[0].halving)
    if checkpoints and checkpoints.restored:
        report.say(f"went on from {checkpoints.restored} checkpoint(s)")
    took, compiling = time.perf_counter() - began, sweep.compile_seconds - compiled
    seconds = {"compile": compiling, "train": took - compiling, "checkpoints": checkpoints.spent if checkpoints else 0.0}
    return [Trained(e, o, dict(seconds), len(experiments)) for e, o in zip(experiments, outcomes, strict=True)]


def write(cfg: DictConfig, folder: Path, trained: Trained, began: float) -> dict[str, Any]:
    """Measure what was trained, and write it all to `folder`; the content of its results.json."""
    experiment, outcome, seconds, jobs = trained
    evaluating = time.perf_counter()
    metrics, over = measure(outcome)
    baselines = {k: protocol.interval(v) for k, v in protocol.baselines(experiment.sweep.problems).items()}
    write_tables(cfg, experiment, outcome, folder)
    if cfg.plots and outcome.chosen.alive:
        draw(experiment, outcome, folder)
    now = time.perf_counter()
    summary = summarise(cfg, experiment, outcome) | {
        "metrics": metrics,
        "interval_over": over,
        "baselines": baselines,
        "trained_together": jobs,
        "seconds": {"total": now - began, **seconds, "evaluate": now - evaluating},
    }
    if not outcome.chosen.alive:
        summary["reason"] = diverged(outcome)
    results.write_json(folder / "results.json", summary)
    return summary


def measure(outcome: Outcome) -> tuple[dict[str, Interval], str]:
    """The chosen setting's metrics with their intervals, and what the intervals are over."""
    chosen, final = outcome.chosen.fits, outcome.final
    train, over = protocol.over_splits(final, [fit.at_best("train_rmse") for fit in final])
    validation, validation_over = protocol.over_splits(chosen, [fit.at_best("validation_rmse") for fit in chosen])
    rmse, mae = (protocol.over_splits(final, [errors[i] for errors in outcome.test])[0] for i in (0, 1))
    metrics = {"train_rmse": train, "validation_rmse": validation, "test_rmse": rmse, "test_mae": mae}
    return metrics, over if rmse.n else validation_over


def summarise(cfg: DictConfig, experiment: Experiment, outcome: Outcome) -> dict[str, Any]:
    """What results.json says beside the metrics and the seconds."""
    dataset, sweep = experiment.dataset, experiment.sweep
    died = [fit for fit in results.all_fits(outcome) if not fit.alive]
    return {
        "experiment": report.experiment_name(),
        "status": "finished" if outcome.chosen.alive else "diverged",
        "chosen": {k: v for k, v in outcome.chosen.hparams.items() if k not in experiment.idle},
        "final_loss": float(np.mean([fit.history.loss[-1] for fit in outcome.final])),
        "chosen_by": f"mean {outcome.criterion}",
        "conventions": experiment.conventions,
        "method": {"name": cfg.method, "gradient": cfg.gradient if cfg.method == "descent" else None}
        | {key: cfg[key] for key in ("epochs", "batch_size", "eval_every", "patience")}
        | {"optimizer": config.plain(cfg.optimizer)},
        "data": {
            "name": dataset.name,
            "users": dataset.num_users,
            "items": dataset.num_items,
            "ratings": len(dataset.value),
            "sha256": dataset.sha256,
        },
        "protocol": experiment.protocol + (", refitted on training and validation ratings" if outcome.refitted else ""),
        "lanes": len(results.all_fits(outcome)),
        "diverged": [{**fit.lane.hparams._asdict(), "status": fit.status} for fit in died],
        "search": config.plain(cfg.search),
        "compilations": sweep.compilations,
        "digest": results.digest(about(config.flat(cfg), experiment)),
        "provenance": results.provenance(),
    }


def write_tables(cfg: DictConfig, experiment: Experiment, outcome: Outcome, folder: Path) -> None:
    results.write_csv(folder / "lanes.csv", results.lane_rows(outcome))
    results.write_csv(folder / "history.csv", results.history_rows(outcome))
    bounds = next(iter(experiment.sweep.problems.values())).bounds
    results.write_factors(folder / "factors.npz", outcome.final[0], experiment.dataset, bounds, cfg.bias)


def draw(experiment: Experiment, outcome: Outcome, folder: Path) -> None:
    from mfjax.reporting import plots

    fit, dataset = outcome.final[0], experiment.dataset
    problem = experiment.sweep.problems[fit.lane.hparams.data_seed]
    plots.save(plots.learning_curves(outcome), folder, "learning_curves")
    if heat_map := plots.heat_map(outcome, experiment.axes):
        plots.save(heat_map, folder, "heat_map")
    tested = len(problem.test.value) > 0
    ratings, label = (problem.test, "test ratings") if tested else (problem.ratings, "training ratings")
    predicted = np.clip(protocol.predictions(fit, ratings), *problem.bounds)
    label = f"{label}, data_seed {fit.lane.hparams.data_seed}"
    plots.save(plots.predictions(predicted, ratings.value, problem.bounds, label), folder, "predictions")
    if max(dataset.num_users, dataset.num_items) <= DENSE:
        actual = np.full((dataset.num_users, dataset.num_items), np.nan)
        actual[dataset.user, dataset.item] = dataset.value
        user, item = (np.asarray(side, np.float64) for side in fit.factors)
        plots.save(plots.matrices(actual, user @ item.T + fit.mean, np.isnan(actual)), folder, "matrices")


def diverged(outcome: Outcome) -> str:
    """Why there is nothing to choose from, and what to try."""
    return (
        f"every setting diverged, the first at epoch {outcome.final[0].status.split()[-1]}\n"
        f"try a learning rate below {outcome.chosen.hparams['learning_rate']:g}, or a smaller hparams.init_scale"
    )


def show(experiment: Experiment, outcome: Outcome, summary: dict[str, Any], folder: Path) -> None:
    """The end of the run on the terminal. Raises InputError where every setting diverged, after all has been written."""
    for fit in [fit for fit in results.all_fits(outcome) if not fit.alive][:3]:
        report.warn(f"{fit.status} (learning_rate={fit.lane.hparams.learning_rate:g}): try a lower learning rate or init_scale")
    if not outcome.chosen.alive:
        raise InputError(f"{diverged(outcome)}\nhistory and lanes: {folder}")
    report.show(report.settings_table(outcome, list(experiment.axes), summary["baselines"]))
    report.show(report.metrics_table(summary["metrics"]))
    report.note("Chosen", summary["chosen"])
    report.note("Conventions", summary["conventions"])
    report.say(f"Protocol: {summary['protocol']}; intervals over {summary['interval_over']}")
    took = summary["seconds"]
    report.say(
        f"Lanes {summary['lanes']}, {summary['compilations']} compilation(s), "
        + ", ".join(f"{k} {v:.1f} s" for k, v in took.items())
    )
