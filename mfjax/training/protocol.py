"""Choose on validation, report test once."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from mfjax.averages import factors_of, pooled
from mfjax.data.problem import Problem
from mfjax.errors import InputError
from mfjax.losses import link_of
from mfjax.metrics import METRICS, label, metric_of, names_of_lists, of_training
from mfjax.metrics.baselines import on_test
from mfjax.metrics.lists import ListRule, Lists, compiled_metrics, prepare_lists
from mfjax.training.epochs import Schedule
from mfjax.training.folding import with_given
from mfjax.training.lanes import Fit, Lane, OnProgress, Plan, Progress, not_defaults, unwatched
from mfjax.training.prepared import asked_places, padded_together
from mfjax.training.search import Halving, halve
from mfjax.training.sweep import Sweep
from mfjax.types import NO_FOLD, Cut, Hparams, Ratings, Spec

AT_ONCE = 2**18  # ratings whose rows of factors are gathered to predict them


class Setting(NamedTuple):
    """The fits of one setting.

    Args:
      hparams: by name, but for those that repeat a setting.
      fits: of all its splits, folds and starts.
      criterion: the mean of the column that chooses, at the best epochs.
      score: the same with lower better, infinite where any lane diverged or was not measured.
    """

    hparams: dict[str, float]
    fits: list[Fit]
    criterion: float
    score: float

    def __repr__(self) -> str:
        """One line: how many fits, what they chose by, and what of the setting is special."""
        fits = f"{len(self.fits)} fit{'s' * (len(self.fits) > 1)}"
        return f"Setting({', '.join([fits, f'{self.criterion:.5f}', *not_defaults(self.hparams)])})"

    @property
    def alive(self) -> bool:
        """Whether none of its fits diverged."""
        return all(fit.alive for fit in self.fits)


class Outcome(NamedTuple):
    """All that a sweep came to.

    Args:
      settings: every one, the best first.
      chosen_by: the column of `Setting.criterion`, such as `validation_rmse`.
      final: the fits that are tested: the chosen setting's, or those of its refit.
      test: the errors of each final fit by column, `test_rmse`, …; NaN without test ratings, and
        empty where it was not tested.
      refitted: whether the chosen setting was trained once more.
      own: where each split and test fold chose for itself, the setting of each, in their order.
      predicted: of each final fit `[n]` predictions of its test ratings, in their order, not
        clipped.
      pooled: whether the final fits are the means of the samples of all settings.
    """

    settings: list[Setting]
    chosen_by: str
    final: list[Fit]
    test: list[dict[str, float]]
    refitted: bool
    own: Sequence[Setting] = ()
    predicted: Sequence[Float[np.ndarray, " n"]] = ()
    pooled: bool = False

    def __repr__(self) -> str:
        """One line: of how many settings which is the best, and its errors."""
        values = {key: {one.hparams[key] for one in self.settings} for key in self.chosen.hparams}
        varied = [key for key in values if len(values[key]) > 1]
        chosen = " ".join(f"{key}={self.chosen.hparams[key]}" for key in varied)
        best = f"best of {len(self.settings)} settings: {chosen}" if varied else "one setting"
        if self.pooled:
            best = f"{len(self.tested_settings)} settings pooled"
        errors = [f"{label(self.chosen_by)} {self.chosen.criterion:.5f}"]
        metric, *_ = METRICS
        tested = [of_fit[f"test_{metric}"] for of_fit in self.test if of_fit]
        if np.isfinite(tested).any():
            errors.append(f"{label(f'test_{metric}')} {np.mean(tested):.5f}")
        refitted = ["refitted"] if self.refitted else []
        return f"Outcome({', '.join([best, *errors, *refitted])})"

    @property
    def chosen(self) -> Setting:
        """The best setting of all."""
        return self.settings[0]

    @property
    def tested_settings(self) -> Sequence[Setting]:
        """The best setting, that of each split, or all that are pooled and did not diverge."""
        if self.pooled:
            return [setting for setting in self.settings if setting.alive] or self.settings[:1]
        return self.own or [self.chosen]

    @property
    def in_common(self) -> dict[str, float]:
        """The hyperparameters that the tested settings have in common, by name."""
        of_each = [setting.hparams.items() for setting in self.tested_settings]
        return dict(pair for pair in of_each[0] if all(pair in pairs for pairs in of_each))

    @property
    def best_is(self) -> str:
        """What the best setting is, in a word: of those that are pooled none is chosen."""
        return "best" if self.pooled else "chosen"

    @property
    def chosen_fits(self) -> list[Fit]:
        """The fits of those."""
        return [fit for setting in self.tested_settings for fit in setting.fits]


def settings_of(fits: Sequence[Fit], column: str) -> list[Setting]:
    """The fits grouped by setting, best first; one of which any lane diverged comes last."""
    groups: dict[tuple, list[Fit]] = {}
    for fit in fits:
        groups.setdefault(fit.lane.hparams.setting, []).append(fit)
    settings = [_setting(group, column) for group in groups.values()]
    return sorted(settings, key=lambda setting: setting.score)


def _setting(fits: list[Fit], column: str) -> Setting:
    values = [fit.at_best(column) for fit in fits]
    criterion = float(np.mean(values))
    score = metric_of(column).sign * criterion
    alive = all(fit.alive for fit in fits)
    return Setting(
        hparams=dict(fits[0].lane.hparams.setting),
        fits=fits,
        criterion=criterion,
        score=np.inf if np.isnan(score) or not alive else score,  # NaN compares with nothing
    )


def tune(
    sweep: Sweep,
    lanes: Sequence[Hparams],
    refit: bool,
    on_progress: OnProgress = unwatched,
    halving: Halving | None = None,
    ensemble: bool = False,
) -> Outcome:
    """Train every lane, choose the best setting, and measure it on the test ratings once.

    The best has the best mean of `schedule.choose_by`, such as `validation_rmse`; where nothing is
    held out, the same metric of the training ratings chooses.

    Args:
      sweep: what trains.
      lanes: at least one, of any settings, splits, folds and starts.
      refit: whether the chosen setting is trained once more a split on training and validation
        ratings together, for as many epochs as validation chose, and that model is tested.
      on_progress: called between chunks of epochs.
      halving: drops the settings that fall behind on the way; None: all train to their end.
      ensemble: whether the samples of all settings and starts are pooled, and their mean is tested,
        of a method that samples.

    Returns:
      The settings, the final fits and their test errors.

    Raises:
      InputError: as `Sweep.train`; or nothing is held out, by which `halving` could judge.
    """
    return tune_jobs(sweep, [lanes], refit, on_progress, halving, ensemble)[0]


def tune_jobs(
    sweep: Sweep,
    jobs: Sequence[Sequence[Hparams]],
    refit: bool,
    on_progress: OnProgress = unwatched,
    halving: Halving | None = None,
    ensemble: bool = False,
) -> list[Outcome]:
    """As `tune`, for several jobs, each with its own lanes to choose from.

    All train as lanes of the same programs.
    """
    for lanes in jobs:
        if len(set(lanes)) < len(lanes):
            raise InputError("lanes: one stands twice, and a copy of a fit is no replicate")
    plan = sweep.plan
    fits = _searched(sweep, jobs, halving, on_progress)
    outcomes = [_choose(of_job, plan.schedule, refit, ensemble) for of_job in fits]
    again = [_again(job) if job.refitted else [] for job in outcomes]
    refits = _refitted(sweep, again, on_progress)
    finals = [final or job.final for job, final in zip(outcomes, refits, strict=True)]
    if ensemble:
        finals = [pooled_fits(final, plan.spec) for final in finals]
    return [_tested(job, final, plan) for job, final in zip(outcomes, finals, strict=True)]


def _searched(
    sweep: Sweep,
    jobs: Sequence[Sequence[Hparams]],
    halving: Halving | None,
    on_progress: OnProgress,
) -> list[list[Fit]]:
    """The Fits of each job's lanes; the jobs that are not halved train first, together.

    Of a job of one setting there is none to drop.
    """
    epochs = sweep.plan.schedule.epochs
    halved = [halving is not None and num_settings(lanes) > 1 for lanes in jobs]
    whole = [
        [] if is_halved else [Lane(hparams, epochs) for hparams in lanes]
        for lanes, is_halved in zip(jobs, halved, strict=True)
    ]
    fits = _trained(sweep, whole, on_progress)
    for job, lanes in enumerate(jobs):
        if halving is not None and halved[job]:
            fits[job] = halve(sweep, lanes, halving, on_progress)
    return fits


def _trained(
    sweep: Sweep, jobs: Sequence[Sequence[Lane]], on_progress: OnProgress
) -> list[list[Fit]]:
    """The Fits of each job's lanes; a lane that several have is trained once."""
    lanes = list(dict.fromkeys(lane for of_job in jobs for lane in of_job))
    if not lanes:
        return [[] for _ in jobs]
    trained = sweep.train(lanes, on_progress)
    fits = dict(zip(lanes, trained, strict=True))
    return [[fits[lane] for lane in of_job] for of_job in jobs]


def _refitted(
    sweep: Sweep, jobs: Sequence[Sequence[Lane]], on_progress: OnProgress
) -> list[list[Fit]]:
    """As `_trained`, which is told to be a refit, and that it begins."""

    def on_refit(now: Progress) -> None:
        on_progress(now._replace(refit=True))

    if any(jobs):
        on_refit(Progress(done=0, total=0, loss=np.nan, score=np.nan))
    return _trained(sweep, jobs, on_refit)


def _choose(fits: Sequence[Fit], schedule: Schedule, refit: bool, ensemble: bool) -> Outcome:
    """What a job chooses, before it is trained again and tested."""
    column = choose_by = schedule.choose_by
    if not _holds_out(fits, choose_by):
        column = of_training(choose_by)
    settings = settings_of(fits, column)
    own = _of_each_cut(fits, column) if schedule.choose == "per_split" else ()
    outcome = Outcome(settings, column, [], [], refitted=False, own=own, pooled=ensemble)
    chosen = outcome.chosen_fits
    is_measured = all(np.isfinite(setting.score) for setting in outcome.tested_settings)
    refitted = refit and is_measured and _holds_out(chosen, choose_by)
    return outcome._replace(final=chosen, refitted=refitted)


def _of_each_cut(fits: Sequence[Fit], column: str) -> list[Setting]:
    """The best setting of each split and test fold, by its own fits alone."""
    cuts: dict[Cut, list[Fit]] = {}
    for fit in fits:
        cuts.setdefault(fit.lane.hparams.cut, []).append(fit)
    return [settings_of(of_cut, column)[0] for of_cut in cuts.values()]


def _again(outcome: Outcome) -> list[Lane]:
    """The lanes of the refit: those of what was chosen for all, or of what each split chose."""
    return [lane for setting in outcome.tested_settings for lane in refit_lanes(setting.fits)]


def _tested(
    outcome: Outcome,
    final: list[Fit],
    plan: Plan,
) -> Outcome:
    """The outcome with its final fits, their predictions of the test ratings, and the errors."""
    problems = [plan.problems[fit.lane.hparams.cut] for fit in final]
    pairs = zip(final, problems, strict=True)
    folded = [with_given(fit, problem, plan.spec) for fit, problem in pairs]
    predicted = [
        tested_predictions(fit, problem) for fit, problem in zip(folded, problems, strict=True)
    ]
    test = [on_test(of_fit, problem) for of_fit, problem in zip(predicted, problems, strict=True)]
    if plan.schedule.lists is not None:
        of_lists = on_lists(folded, plan, plan.schedule.lists)
        test = [errors | more for errors, more in zip(test, of_lists, strict=True)]
    return outcome._replace(final=final, test=test, predicted=predicted)


def on_lists(fits: Sequence[Fit], plan: Plan, rule: ListRule) -> list[dict[str, float]]:
    """The metrics of each fit's lists on its test ratings, by column; all its others are seen.

    Users who are new in the test are folded in.
    """
    shape = (plan.spec.num_users, plan.spec.num_items)
    names = tuple(names_of_lists())

    def lists_of(problem: Problem) -> Lists:
        sides = zip(problem.ratings, problem.given, strict=True)
        seen = Ratings(*(np.concatenate(both) for both in sides))
        test = problem.test
        return prepare_lists(seen, test, shape, relevant=rule.relevant, graded=rule.graded)

    own = {fit.lane.hparams.cut: plan.problems[fit.lane.hparams.cut] for fit in fits}
    each = {cut: lists_of(problem) for cut, problem in own.items()}
    alike = jax.tree.map(padded_together, *each.values())  # so that one program measures all
    found = []
    for fit in fits:
        cut = fit.lane.hparams.cut
        nth = list(each).index(cut)
        lists = jax.tree.map(lambda array, nth=nth: array[nth], alike)
        metrics = compiled_metrics(fit.factors, lists, names, rule.k)
        found.append({f"test_{name}": float(metrics[name]) for name in names})
    return found


def num_settings(lanes: Sequence[Hparams]) -> int:
    return len({hparams.setting for hparams in lanes})


def _holds_out(fits: Sequence[Fit], column: str) -> bool:
    return any(np.isfinite(fit.at_best(column)) for fit in fits)


def refit_lanes(fits: Sequence[Fit]) -> list[Lane]:
    """One lane a (split_seed, test_fold, init_seed), which holds nothing out.

    It trains for the mean best epoch of the folds of those seeds.
    """
    epochs: dict[Hparams, list[int]] = {}
    for fit in fits:
        whole = fit.lane.hparams._replace(fold=NO_FOLD)
        epochs.setdefault(whole, []).append(fit.best_epoch)
    return [Lane(whole, max(round(float(np.mean(best))), 1)) for whole, best in epochs.items()]


def pooled_fits(fits: Sequence[Fit], spec: Spec) -> list[Fit]:
    """One fit of each split and test fold, of the samples of all; its errors were not followed."""
    cuts: dict[Cut, list[Fit]] = {}
    for fit in fits:
        cuts.setdefault(fit.lane.hparams.cut, []).append(fit)

    def of_cut(fits: Sequence[Fit]) -> Fit:
        first, *_ = fits
        averages = pooled([fit.averages for fit in fits if fit.averages is not None], spec)
        unmeasured = {name: np.full_like(values, np.nan) for name, values in first.history.items()}
        return first._replace(
            averages=averages,
            factors=factors_of(averages, spec),
            history=unmeasured | {"loss": np.mean([fit.history["loss"] for fit in fits], axis=0)},
        )

    return [*map(of_cut, cuts.values())]


def tested_predictions(fit: Fit, problem: Problem) -> Float[np.ndarray, " n"]:
    """Of the test ratings of the fit's problem, not clipped: its averages, where it has them."""
    if fit.averages is None:
        return predictions(fit, problem.test)
    return np.asarray(fit.averages.mean, np.float64)[asked_places(problem)]


def predictions(fit: Fit, ratings: Ratings) -> Float[np.ndarray, " n"]:
    """The fit's predictions of `ratings`, in float64 and not clipped.

    Args:
      fit: of any lane.
      ratings: whose users and items are predicted.

    Returns:
      `[n]`, in rating units.
    """
    user, item = fit.factors
    predicted = np.empty(len(ratings.user))
    for first in range(0, len(predicted), AT_ONCE):
        some = slice(first, first + AT_ONCE)
        of_user = user[ratings.user[some]].astype(np.float64)
        of_item = item[ratings.item[some]].astype(np.float64)
        predicted[some] = np.einsum("nk,nk->n", of_user, of_item)
    return np.asarray(link_of(fit.loss).rating(predicted + fit.mean))
