"""What results say of an outcome: its errors with their intervals, its protocol, what to try."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mfjax.app.bags import bags_in_words
from mfjax.app.build import Experiment
from mfjax.app.sealed import ALL_TESTED, NOT_TESTED
from mfjax.averages import COVERED, intervals, mixing
from mfjax.metrics import columns
from mfjax.metrics.baselines import baseline_errors
from mfjax.reporting.statistics import CORRECTED, Interval, Over, interval, over_splits
from mfjax.training.prepared import asked_places
from mfjax.training.protocol import Outcome, refit_lanes
from mfjax.types import Averages, Hparams, Spec

Measured = dict[str, tuple[Interval, Over]]  # by column


def measure(
    experiment: Experiment, outcome: Outcome, *, all_tested: bool = False
) -> dict[str, Any]:
    """Metrics and baselines with their intervals, what those are over, and the protocol.

    Args:
      experiment: whose splits they are of.
      outcome: what was chosen.
      all_tested: whether other jobs or variants are tested beside this one.
    """
    measured = _by_column(experiment, outcome)
    of_test = _of_tests(experiment, outcome) if all(outcome.test) else {}
    plan = experiment.sweep.plan
    rule = plan.schedule.lists
    said = [
        _how(experiment, outcome),
        *bags_in_words(experiment.method.get("bags", {})),
        *[f"loss={plan.spec.loss}"] * (plan.spec.loss != Spec.loss),
        *([] if rule is None else [rule.words]),
        *[NOT_TESTED] * (not all(outcome.test)),
        *[ALL_TESTED] * all_tested,
        *[f"intervals: {CORRECTED}"] * any(over.overlap for _, over in measured.values()),
    ]
    return {
        "metrics": {column: value for column, (value, _) in measured.items()},
        "interval_over": _over_what(measured),
        "baselines": of_test,
        "samples": of_samples(experiment, outcome) if all(outcome.test) else None,
        "protocol": "; ".join(said),
    }


def of_samples(experiment: Experiment, outcome: Outcome) -> dict[str, float] | None:
    """What a sampler's averages are worth: samples, how chains mix, what intervals hold.

    `r_hat` and `effective` are the worst over the predictions of all splits and settings that are
    tested, and NaN of a chain alone; `coverage` is the share of test ratings in their intervals.
    """
    final = [(fit, fit.averages) for fit in outcome.final if fit.averages is not None]
    if not final:
        return None
    chains: dict[Hparams, list[Averages]] = {}
    for fit in outcome.chosen_fits:
        if fit.averages is not None:
            but_for_the_start = fit.lane.hparams._replace(init_seed=0)
            chains.setdefault(but_for_the_start, []).append(fit.averages)
    mixed = [mixing(alike) for alike in chains.values()]
    inside = []
    for fit, averages in final:
        problem = experiment.sweep.plan.problems[fit.lane.hparams.cut]
        low, high = (bound[asked_places(problem)] for bound in intervals(averages))
        inside.append((low <= problem.test.value) & (problem.test.value <= high))
    are_inside = np.concatenate(inside)
    return {
        "samples": min(int(averages.num_samples) for _, averages in final),
        "r_hat": max(one.r_hat for one in mixed),
        "effective": min(one.effective for one in mixed),
        "covered": COVERED,
        "coverage": float(are_inside.mean()) if are_inside.size else np.nan,
    }


def untested(outcome: Outcome) -> Outcome:
    """The same without its predictions of the test ratings and their errors."""
    return outcome._replace(test=[{} for _ in outcome.final], predicted=())


def was_tested(outcome: Outcome) -> bool:
    """Whether there are errors on test ratings."""
    return any(np.isfinite(error) for errors in outcome.test for error in errors.values())


def remarks(experiment: Experiment, outcome: Outcome) -> list[str]:
    """What to try next: a choice at the end of its axis, a best epoch at the end of training."""
    chosen = outcome.in_common
    axes = {key: axis for key, axis in experiment.axes.items() if key in chosen}
    said = [line for key, axis in axes.items() for line in at_the_end(key, chosen[key], axis)]
    schedule = experiment.sweep.plan.schedule
    judged = outcome.chosen_by.startswith("validation") and schedule.eval_every < schedule.epochs
    ends = (fit.best_epoch for fit in outcome.chosen_fits if fit.averages is None)
    if judged and schedule.epochs in ends:
        said.append(f"the best epoch is the last, {schedule.epochs}: try more epochs")
    return said


def at_the_end(key: str, value: float, axis: Sequence[float]) -> list[str]:
    """A line where a value is at an end of its axis, beyond which there is more."""
    low = min(axis)
    high = max(axis)
    if low == high:
        return []
    if value == low > 0:
        return [f"{key}={value:g} is the lowest of its axis: try lower"]
    if value == high:
        return [f"{key}={value:g} is the highest of its axis: try higher"]
    return []


# the parts of `measure`


def _by_column(experiment: Experiment, outcome: Outcome) -> Measured:
    """The interval of every column that was measured."""
    problems = experiment.sweep.plan.problems
    final = outcome.final
    chosen = outcome.chosen_fits
    measured = {}
    chooses = experiment.sweep.plan.schedule.choose_by
    for column in columns("train", chooses=chooses):
        values = [fit.at_best(column) for fit in final]
        measured[column] = over_splits(final, values, problems)
    for column in columns("validation", chooses=chooses):
        values = [fit.at_best(column) for fit in chosen]
        measured[column] = over_splits(chosen, values, problems)
    for column in outcome.test[0] if all(outcome.test) else ():
        values = [errors[column] for errors in outcome.test]
        measured[column] = over_splits(final, values, problems, of_test=True)
    return measured


def _over_what(measured: Measured) -> str:
    """What the intervals are over: those of the test, and those of validation where they differ."""
    over = {
        part: measured[column][1].words
        for part in ("test", "validation", "train")
        for column in columns(part)[:1]
        if column in measured and measured[column][0].n
    }
    words, *_ = [*over.values(), "nothing"]
    of_validation = over.get("validation", words)
    return words if of_validation == words else f"{words}; of validation {of_validation}"


def _of_tests(experiment: Experiment, outcome: Outcome) -> dict[str, Interval]:
    """The intervals of the baselines, over the splits of the final fits, each once.

    None where every rating is the same, as interactions are: a mean predicts it without an error.
    """
    low, high = experiment.dataset.scale
    if low == high:
        return {}
    problems = experiment.sweep.plan.problems
    cuts = [fit.lane.hparams.cut for fit in outcome.final]
    distinct = {id(problems[cut]): cut for cut in cuts}.values()
    own = {cut: problems[cut] for cut in distinct}
    shares = [len(one.test.value) / len(one.ratings.value) for one in own.values()]
    overlap = float(np.mean(shares))
    return {name: interval(rmse, overlap) for name, rmse in baseline_errors(own).items()}


def _how(experiment: Experiment, outcome: Outcome) -> str:
    """How the ratings were split and the chosen setting trained, in words."""
    refitted = ", refitted on training and validation ratings" if outcome.refitted else ""
    pooled = ""
    if outcome.pooled:
        chains = outcome.chosen_fits
        if outcome.refitted:
            chains = [lane for one in outcome.tested_settings for lane in refit_lanes(one.fits)]
        each = len(chains) // len(outcome.final)
        pooled = f", tested the mean of the samples of {each} chains a split"
    return experiment.protocol + refitted + pooled
