"""The main job: train a sweep, choose on validation, report test once, and write it all down."""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jaxtyping import Float
from omegaconf import DictConfig

from mfjax.app import tables, terminal
from mfjax.app.adopted import provenance_of
from mfjax.app.bags import bags_in_words, known_in_words
from mfjax.app.build import Experiment, build, plain_section
from mfjax.app.contracts import hold_to_contracts
from mfjax.app.drawing import drawing_apart, saving_of
from mfjax.app.folders import PREDICTIONS, RESULTS
from mfjax.app.handover import Failed, Finished, Nothing, Ready, handed_over
from mfjax.app.identity import flat, run_identity
from mfjax.app.idle import Idle, idle, reason_of
from mfjax.app.measures import measure, remarks, untested, was_tested
from mfjax.app.sealed import SEALED_PREDICTIONS, discard, seal
from mfjax.app.session import experiment_name, is_multirun
from mfjax.app.tested import rows_of_tests, write_predictions, write_splits
from mfjax.app.training import Trained, is_finished, train
from mfjax.data.dataset import Dataset
from mfjax.errors import InputError
from mfjax.losses import link_of
from mfjax.model import Model
from mfjax.reporting.apart import Apart
from mfjax.reporting.files import (
    all_fits,
    as_json,
    history_rows,
    lane_rows,
    write_csv,
    write_json,
)
from mfjax.reporting.loggers import LOGGERS, record_of
from mfjax.reporting.provenance import digest_of_run, provenance
from mfjax.training.checkpoint import FOLDER, Checkpoints, finishing_the_chunk, remove
from mfjax.training.folding import with_given
from mfjax.training.protocol import Outcome, predictions
from mfjax.training.whole import read_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
            terminal.say_data(trained.experiment.dataset, trained.experiment.start)
            say_method(cfg, trained.experiment)
            return write_and_show(cfg, folder, trained, began - before)
        case Nothing():
            return run_alone(cfg, folder, began)


def run_alone(cfg: DictConfig, folder: Path, began: float) -> bool:
    """Train, write and show, with checkpoints until the results are written."""
    hold_to_contracts(cfg)
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
    terminal.say_data(experiment.dataset, experiment.start)
    say_method(cfg, experiment)
    with drawing_apart(cfg) as apart:
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
        return write_and_show(cfg, folder, trained, began, apart, own_checkpoints=True)


def say_method(cfg: DictConfig, experiment: Experiment) -> None:
    """The features, and what sums over the ratings, and why.

    A warning where compiled kernels are lacking.
    """
    if bags := experiment.method.get("bags"):
        for part in bags_in_words(bags):
            terminal.say(part.capitalize())
        for line in known_in_words(cfg, experiment.dataset):
            terminal.say(f"  {line}")
    if kernel := experiment.method.get("kernel"):
        say = terminal.warn if kernel["is_lacking"] else terminal.say
        say(f"Kernel: {kernel['name']} ({kernel['reason']})")


def finished_already(cfg: DictConfig, folder: Path) -> bool:
    """Say so, and whether the figures in `folder` are as expected."""
    path = folder / RESULTS
    terminal.say(f"finished already: {path}")
    return terminal.meets_expectations(cfg, read_json(path))


def write_and_show(
    cfg: DictConfig,
    folder: Path,
    trained: Trained,
    began: float,
    apart: Apart | None = None,
    *,
    own_checkpoints: bool = False,
) -> bool:
    """Write what was trained, remove its checkpoints, and show it.

    Of several processes (`jax.distributed`) the first alone does. False where an expected figure
    did not come out.
    """
    if jax.process_index() > 0:
        return True
    results = write(cfg, folder, trained, began, apart)
    send(cfg, folder, trained.outcome, results)
    if own_checkpoints:
        remove(folder)
    show(trained, results, folder)
    as_expected = terminal.meets_expectations(cfg, as_json(results))
    terminal.say(f"Files: {folder}")
    return as_expected


# what is written


def write(
    cfg: DictConfig,
    folder: Path,
    trained: Trained,
    began: float,
    apart: Apart | None = None,
) -> dict[str, Any]:
    """Measure what was trained, and write it all to `folder`; the content of its results.json.

    What a job of a multirun measured on the test ratings is sealed until one is chosen.
    """
    experiment, outcome, seconds, jobs = trained
    evaluating = time.perf_counter()
    beside_others = is_multirun() and was_tested(outcome)
    waits = beside_others and cfg.test == "chosen"
    shown = untested(outcome) if waits else outcome
    measured = measure(experiment, shown, all_tested=beside_others and not waits)
    discard(folder)  # of a run before
    if waits and outcome.chosen.alive:
        tests = {"tests": rows_of_tests(experiment, outcome)}
        seal(folder, measure(experiment, outcome) | tests)
        write_predictions(experiment, outcome, folder / SEALED_PREDICTIONS)
    write_files(experiment, shown, folder)
    drawing = time.perf_counter()
    draw(cfg, experiment, shown, folder, apart)
    now = time.perf_counter()
    after = {"evaluate": drawing - evaluating, "plots": now - drawing}
    results = summarise(cfg, experiment, shown) | {
        **measured,
        "tests": rows_of_tests(experiment, shown),
        "remarks": remarks(experiment, outcome),
        "trained_together": jobs,
        "seconds": {"total": now - began, **seconds, **after},
    }
    if not outcome.chosen.alive:
        results["reason"] = diverged(outcome)
    write_json(folder / RESULTS, results)
    return results


def summarise(cfg: DictConfig, experiment: Experiment, outcome: Outcome) -> dict[str, Any]:
    """What results.json says beside the metrics and the seconds."""
    chosen = outcome.chosen
    schedule = {key: cfg[key] for key in ("epochs", "eval_every", "patience")}
    fits = all_fits(outcome)
    died = [fit for fit in fits if not fit.alive]
    values = flat(cfg)
    run = run_identity(values, experiment)
    return {
        "experiment": experiment_name(),
        "status": "finished" if chosen.alive else "diverged",
        "chosen": _without(idle(cfg), outcome.in_common),
        "final_loss": float(np.mean([fit.history["loss"][-1] for fit in outcome.final])),
        "chosen_by": f"mean {outcome.chosen_by}",
        "conventions": experiment.conventions,
        "method": experiment.method | schedule,
        "data": _described(experiment.dataset),
        "lanes": len(fits),
        "diverged": [{**fit.lane.hparams._asdict(), "status": fit.status} for fit in died],
        "search": plain_section(cfg.search),
        "compilations": experiment.sweep.compilations,
        "run": run,
        "digest": digest_of_run(run),
        "provenance": provenance() | {"own": provenance_of(values)},
    }


def _without(found: Idle, hparams: Mapping[str, float]) -> dict[str, float]:
    """The Hparams that the program reads."""
    return {key: value for key, value in hparams.items() if not reason_of(f"hparams.{key}", found)}


def _described(dataset: Dataset) -> dict[str, Any]:
    return {
        "name": dataset.name,
        "users": dataset.num_users,
        "items": dataset.num_items,
        "ratings": len(dataset.value),
        "sha256": dataset.sha256,
        "reading": dataset.reading and dataset.reading._asdict(),
        "implicit": dataset.made_of and dataset.made_of._asdict(),
    }


def diverged(outcome: Outcome) -> str:
    """Why there is nothing to choose from, and what to try."""
    *_, epoch = outcome.final[0].status.split()
    rate = outcome.chosen.hparams["learning_rate"]
    return (
        f"every setting diverged, the first at epoch {epoch}\n"
        f"try a learning rate below {rate:g}, or a smaller hparams.init_scale"
    )


def write_files(experiment: Experiment, outcome: Outcome, folder: Path) -> None:
    """Lanes, histories and factors."""
    write_csv(folder / "lanes.csv", lane_rows(outcome))
    write_csv(folder / "history.csv", history_rows(outcome))
    plan = experiment.sweep.plan
    fit = outcome.final[0]
    problem = plan.problems[fit.lane.hparams.cut]
    model = Model.of(with_given(fit, problem, plan.spec), experiment.dataset, problem, plan.spec)
    model.write(folder / "factors.npz")
    seeds = sorted({one.lane.hparams.split_seed for one in all_fits(outcome)})
    write_splits(experiment, seeds, folder)
    if was_tested(outcome):
        write_predictions(experiment, outcome, folder / PREDICTIONS)


def send(cfg: DictConfig, folder: Path, outcome: Outcome, results: Mapping[str, Any]) -> None:
    """Send what was written to where `logger` says; a warning where it cannot be reached."""
    to_send = LOGGERS[cfg.logger]()
    if to_send is None:
        return
    try:
        where = to_send(folder, record_of(folder, outcome, results))
    except Exception as error:  # whatever a library raises, the results stand
        terminal.warn(f"logger={cfg.logger} did not take the run, whose files stand: {error}")
        return
    terminal.say(f"Logger: {where}")


def draw(
    cfg: DictConfig,
    experiment: Experiment,
    outcome: Outcome,
    folder: Path,
    apart: Apart | None = None,
) -> None:
    """The plots of an outcome, where there are to be any, saved by `apart` if there is one."""
    if not (cfg.plots.draw and outcome.chosen.alive):
        return
    from mfjax.reporting import plots

    saving = saving_of(cfg)
    save = apart.save if apart else plots.save
    for name, figure in figures_of(experiment, outcome):
        save(figure, folder, name, saving)
    if apart:
        apart.finish()


def figures_of(experiment: Experiment, outcome: Outcome) -> Iterator[tuple[str, "Figure"]]:
    """The figures of an outcome by name; those of predictions are of its first final fit."""
    from mfjax.reporting import plots

    dataset = experiment.dataset
    fit = outcome.final[0]
    yield "learning_curves", plots.learning_curves(outcome)
    if heat_map := plots.heat_map(outcome, experiment.axes):
        yield "heat_map", heat_map
    yield "predictions", predictions_of(experiment, outcome)
    if max(dataset.num_users, dataset.num_items) <= DENSE:
        actual = ratings_matrix(dataset)
        user, item = (np.asarray(table, np.float64) for table in fit.factors)
        predicted = link_of(fit.loss).rating(user @ item.T + fit.mean)
        yield "matrices", plots.matrices(actual, predicted, np.isnan(actual))


def predictions_of(experiment: Experiment, outcome: Outcome) -> "Figure":
    """The first final fit's predictions of the test ratings, else of the others."""
    from mfjax.reporting import plots

    fit = outcome.final[0]
    split_seed, test_fold = cut = fit.lane.hparams.cut
    problem = experiment.sweep.plan.problems[cut]
    is_of_test = was_tested(outcome)
    ratings = problem.test if is_of_test else problem.ratings
    part = "test" if is_of_test else "training"
    label = f"{part} ratings, split_seed {split_seed}, test fold {test_fold}"
    clipped = np.clip(predictions(fit, ratings), *problem.bounds)
    return plots.predictions(clipped, ratings.value, problem.bounds, label)


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
            "try a lower hparams.learning_rate or hparams.init_scale"
        )
    if not outcome.chosen.alive:
        raise InputError(f"{results['reason']}\nhistory and lanes: {folder}")
    terminal.show(tables.settings_table(outcome, list(experiment.axes)))
    terminal.show(tables.metrics_table(results["metrics"], outcome))
    if tests_table := tables.tests_table(results["tests"]):
        terminal.show(tests_table)
    if baselines_table := tables.baselines_table(results["baselines"]):
        terminal.show(baselines_table)
    if samples := results["samples"]:
        terminal.say(of_samples_in_words(samples))
    if outcome.pooled:
        terminal.say(
            f"Chosen: none; pooled are the samples of {tables.in_words(outcome.tested_settings)}"
        )
    elif outcome.own:
        terminal.say("Chosen: by each split its own setting, in results.json under tests")
    else:
        terminal.say_to_paste("Chosen:", results["chosen"], section="hparams.")
    terminal.say_to_paste("Conventions:", results["conventions"])
    terminal.say(f"Protocol: {results['protocol']}; intervals over {results['interval_over']}")
    for remark in results["remarks"]:
        terminal.say(f"Remark: {remark}")
    terminal.say(in_numbers(results))


def of_samples_in_words(samples: Mapping[str, float]) -> str:
    """How many samples a mean is over, how its chains mix, and what its intervals hold."""
    mixing = "one chain a setting"
    if np.isfinite(samples["r_hat"]):
        mixing = f"R̂ at most {samples['r_hat']:.2f}, {samples['effective']:.0f} effective at least"
    covered = f"intervals of {samples['covered']:.0%} hold {samples['coverage']:.1%} of the test"
    return f"Samples: {samples['samples']:,} ({mixing}); {covered}"


def in_numbers(results: Mapping[str, Any]) -> str:
    """The lanes, the programs, and the seconds that each part took."""
    total, *parts = results["seconds"].items()
    took = ", ".join(f"{what} {seconds:.1f}" for what, seconds in parts if seconds)
    counts = f"{results['lanes']} lanes, {results['compilations']} compilation(s)"
    return f"{counts}, {total[1]:.1f} s in all: {took}"
