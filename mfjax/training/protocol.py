"""Choose on validation, report test once, with an interval over the splits."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mfjax.metrics.rating import errors
from mfjax.training.program import Lane, Problem
from mfjax.training.search import Halving, halve
from mfjax.training.sweep import Fit, Sweep, Watch
from mfjax.types import NO_FOLD, Hparams, Ratings


class Interval(NamedTuple):
    """A mean with its 95 % t-interval over `n` replicates; no interval (None) for fewer than 2."""

    mean: float | None
    low: float | None
    high: float | None
    n: int


class Setting(NamedTuple):
    """The fits of one setting: `hparams` without the replicate keys, and the criterion that chooses (lower is better)."""

    hparams: dict[str, float]
    fits: list[Fit]
    criterion: float

    @property
    def alive(self) -> bool:
        return all(fit.alive for fit in self.fits)


class Outcome(NamedTuple):
    """All that a sweep came to: every setting, best first, and the final fits that predict the test ratings."""

    settings: list[Setting]
    criterion: str
    final: list[Fit]
    test: list[tuple[float, float]]  # (RMSE, MAE) of each final fit; NaN without test ratings
    refitted: bool

    @property
    def chosen(self) -> Setting:
        return self.settings[0]


def interval(values: Sequence[float]) -> Interval:
    """The mean and the two-sided 95 % Student t-interval of independent values; those not finite are left out of `n`."""
    from scipy.special import stdtrit

    finite = np.asarray([v for v in values if np.isfinite(v)], float)
    n = len(finite)
    if n == 0:
        return Interval(None, None, None, 0)
    mean = float(finite.mean())
    if n == 1:
        return Interval(mean, None, None, 1)
    half = float(stdtrit(n - 1, 0.975) * finite.std(ddof=1) / np.sqrt(n))
    return Interval(mean, mean - half, mean + half, n)


def over_splits(fits: Sequence[Fit], values: Sequence[float]) -> tuple[Interval, str]:
    """The interval over splits (data_seed, fold) of a value a fit, and what it is over; seeds of one split are averaged."""
    by_split: dict[tuple, list[float]] = {}
    for fit, value in zip(fits, values, strict=True):
        by_split.setdefault((fit.lane.hparams.data_seed, fit.lane.hparams.fold), []).append(value)
    if len(by_split) == 1 and len(values) > 1:
        return interval(values), "initialisations of one split (seed)"
    over = "splits (data_seed)" if len({seed for seed, _ in by_split}) > 1 else "folds"
    return interval([float(np.mean(group)) for group in by_split.values()]), over if len(by_split) > 1 else "one split"


def settings_of(fits: Sequence[Fit], metric: str) -> list[Setting]:
    """The fits grouped by setting, best first; a setting of which any lane diverged comes last."""
    groups: dict[tuple, list[Fit]] = {}
    for fit in fits:
        groups.setdefault(fit.lane.hparams.setting, []).append(fit)

    def criterion(group: list[Fit]) -> float:
        mean = float(np.mean([fit.at_best(metric) for fit in group])) if all(f.alive for f in group) else np.inf
        return np.inf if np.isnan(mean) else mean  # NaN compares with nothing

    settings = [Setting(dict(key), group, criterion(group)) for key, group in groups.items()]
    return sorted(settings, key=lambda s: s.criterion)


def carry_out(
    sweep: Sweep,
    lanes: Sequence[Hparams],
    refit: bool,
    watch: Watch = lambda progress: None,
    halving: Halving | None = None,
) -> Outcome:
    """Train every lane, choose the setting with the least mean validation RMSE, and measure it on the test ratings once.

    With `refit`, the chosen setting is trained once more a split on training and validation ratings together, for as many
    epochs as validation chose; its test error is reported. Where nothing is held out, the training RMSE chooses. With
    `halving`, the settings that fall behind are dropped on the way.
    """
    return carry_out_together(sweep, [lanes], refit, watch, halving)[0]


def carry_out_together(
    sweep: Sweep,
    jobs: Sequence[Sequence[Hparams]],
    refit: bool,
    watch: Watch = lambda progress: None,
    halving: Halving | None = None,
) -> list[Outcome]:
    """As `carry_out`, for several jobs, each with its own lanes to choose from: all train as lanes of the same programs."""
    epochs = sweep.schedule.epochs
    halved = [halving is not None and len({hparams.setting for hparams in lanes}) > 1 for lanes in jobs]  # one: none to drop
    whole = [[] if h else [Lane(hparams, epochs) for hparams in lanes] for h, lanes in zip(halved, jobs, strict=True)]
    fits = _trained(sweep, whole, watch)
    if halving is not None:
        fits = [
            halve(sweep, lanes, halving, watch) if h else of_job for h, lanes, of_job in zip(halved, jobs, fits, strict=True)
        ]
    metrics = ["validation_rmse" if _holds_out(of_job) else "train_rmse" for of_job in fits]
    settings = [settings_of(of_job, metric) for of_job, metric in zip(fits, metrics, strict=True)]
    refitted = [refit and _holds_out(s[0].fits) and bool(np.isfinite(s[0].criterion)) for s in settings]
    again = _trained(sweep, [refit_lanes(s[0].fits) if r else [] for s, r in zip(settings, refitted, strict=True)], watch)
    finals = [new or s[0].fits for s, new in zip(settings, again, strict=True)]
    return [
        Outcome(s, metric, final, [test_errors(fit, sweep.problems[fit.lane.hparams.data_seed]) for fit in final], r)
        for s, metric, final, r in zip(settings, metrics, finals, refitted, strict=True)
    ]


def _holds_out(fits: Sequence[Fit]) -> bool:
    return any(np.isfinite(fit.at_best("validation_rmse")) for fit in fits)


def _trained(sweep: Sweep, jobs: Sequence[Sequence[Lane]], watch: Watch) -> list[list[Fit]]:
    """The Fits of each job's lanes; a lane that several have is trained once."""
    lanes = list(dict.fromkeys(lane for of_job in jobs for lane in of_job))
    fits = dict(zip(lanes, sweep.train(lanes, watch), strict=True)) if lanes else {}
    return [[fits[lane] for lane in of_job] for of_job in jobs]


def refit_lanes(fits: Sequence[Fit]) -> list[Lane]:
    """One lane a (data_seed, seed) that holds nothing out, for the mean best epoch of that lane's folds."""
    epochs: dict[tuple[int, int], list[int]] = {}
    for fit in fits:
        epochs.setdefault((fit.lane.hparams.data_seed, fit.lane.hparams.seed), []).append(fit.best_epoch)
    base = fits[0].lane.hparams
    return [
        Lane(base._replace(data_seed=data_seed, seed=seed, fold=NO_FOLD), max(round(float(np.mean(best))), 1))
        for (data_seed, seed), best in epochs.items()
    ]


def predictions(fit: Fit, ratings: Ratings) -> np.ndarray:
    """The fit's predictions of `ratings`, `[n]`, in float64 and not clipped."""
    user, item = (np.asarray(side, np.float64) for side in fit.factors)
    return np.einsum("nk,nk->n", user[ratings.user], item[ratings.item]) + fit.mean


def test_errors(fit: Fit, problem: Problem) -> tuple[float, float]:
    """(RMSE, MAE) on the problem's test ratings, clipped to its bounds; NaN without test ratings."""
    return _errors(predictions(fit, problem.test), problem)


def baselines(problems: Mapping[int, Problem]) -> dict[str, list[float]]:
    """Test RMSE, a value a split, of predicting the mean training rating and of predicting each item's."""
    rmse: dict[str, list[float]] = {"global mean": [], "item mean": []}
    for problem in problems.values():
        ratings, test = problem.ratings, problem.test
        mean = float(np.average(ratings.value, weights=ratings.weight))
        size = max(int(ratings.item.max()), int(test.item.max(initial=0))) + 1
        weight = np.bincount(ratings.item, ratings.weight, size)
        total = np.bincount(ratings.item, ratings.weight * ratings.value, size)
        item_mean = np.where(weight > 0, total / np.where(weight > 0, weight, 1), mean)
        rmse["global mean"].append(_errors(np.full(len(test.value), mean), problem)[0])
        rmse["item mean"].append(_errors(item_mean[test.item], problem)[0])
    return rmse


def _errors(prediction: np.ndarray, problem: Problem) -> tuple[float, float]:
    if not len(prediction):
        return float("nan"), float("nan")
    error = np.clip(prediction, *problem.bounds) - problem.test.value.astype(np.float64)
    rmse, mae = errors(error, np.ones_like(error))
    return float(rmse), float(mae)
