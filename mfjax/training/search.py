"""Which settings to try, and for how long: random draws, successive halving and Hyperband."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mfjax.errors import InputError
from mfjax.training.program import Lane, Progress, Track
from mfjax.training.sweep import Fit, Sweep, Watch, grid
from mfjax.types import REPLICATES, Hparams


def sample(base: Hparams, axes: Mapping[str, Sequence[float]], samples: int, seed: int) -> list[Hparams]:
    """`samples` settings, each of whose axes is log-uniform between the lowest and the highest of its values; every setting on
    every combination of `data_seed`, `fold` and `seed`. A pure function of its arguments.

    Raises InputError for an axis that reaches 0 or below, which has no logarithm.
    """
    rng, drawn = np.random.default_rng([_SEARCH, seed]), {}
    for key, values in axes.items():
        if key in REPLICATES:
            continue
        low, high = min(values), max(values)
        if low <= 0:
            raise InputError(f"sweep.{key}: search.kind=random draws log-uniformly, above 0; got {low}\nraise it, or use grid")
        draw = np.exp(rng.uniform(np.log(low), np.log(high), samples))
        drawn[key] = [type(getattr(base, key))(round(x) if isinstance(getattr(base, key), int) else x) for x in draw]
    settings = [base._replace(**{key: values[i] for key, values in drawn.items()}) for i in range(samples)]
    again = {key: values for key, values in axes.items() if key in REPLICATES}
    return [lane for setting in settings for lane in grid(setting, again)]


_SEARCH = 0x5EA  # keeps these draws apart from those of the shuffles and splits


class Halving(NamedTuple):
    """Successive halving: every setting trains for `first` epochs, the best 1/`eta` of them for `eta` times as many, and so
    on (Jamieson and Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter Optimization", 2016).

    With several `brackets` the settings are dealt to them, and bracket b begins with `first` · `eta`^b epochs, so that a
    setting that is slow to show has its chance (Li, Jamieson, DeSalvo, Rostamizadeh and Talwalkar, "Hyperband", 2018).
    """

    eta: int = 4
    first: int = 6
    brackets: int = 1

    def rungs(self, epochs: int, eval_every: int, bracket: int = 0) -> list[int]:
        """The epochs at which settings are dropped, each a multiple of `eval_every`, and last `epochs` itself.

        Examples:
          >>> Halving(eta=4, first=4).rungs(50, 2)
          [4, 16, 50]
        """
        rungs, rung = [], self.first * self.eta**bracket
        while (rounded := -(-rung // eval_every) * eval_every) < epochs:
            if rounded not in rungs:
                rungs.append(rounded)
            rung *= self.eta
        return [*rungs, epochs]

    def deal(self, settings: int, epochs: int, eval_every: int) -> list[list[int]]:
        """The settings of each bracket, in an order drawn once: so many that each bracket trains about as many epochs."""
        cost = [self._epochs_a_setting(self.rungs(epochs, eval_every, b)) for b in range(self.brackets)]
        shares = np.cumsum([1 / c for c in cost]) / np.sum([1 / c for c in cost])
        order = np.random.default_rng([_SEARCH, settings]).permutation(settings) if self.brackets > 1 else np.arange(settings)
        return [sorted(part.tolist()) for part in np.split(order, np.round(shares[:-1] * settings).astype(int))]

    def _epochs_a_setting(self, rungs: Sequence[int]) -> float:
        return sum((b - a) / self.eta**i for i, (a, b) in enumerate(zip([0, *rungs], rungs, strict=False)))


def halve(sweep: Sweep, lanes: Sequence[Hparams], halving: Halving, watch: Watch = lambda progress: None) -> list[Fit]:
    """The Fits of `lanes`, of which only the settings that lead at each rung train on.

    A setting is its lanes on all splits and seeds, judged by the mean of their best validation RMSE so far; one that diverged
    in any lane is never promoted. Survivors are gathered in a program as wide as they need (a power of two, and at most
    `sweep.width`), and train on from where they were, so that a fit is bitwise that of the same lane without halving, up to
    the rung at which it was dropped. (A survivor that is alone shares its rows out where it works on tiles, and is so up to
    the rounding of its sums.)

    Raises InputError where nothing is held out to judge by.
    """
    groups: dict[tuple, list[int]] = {}
    for i, lane in enumerate(lanes):
        groups.setdefault(lane.setting, []).append(i)
    settings, schedule = list(groups.values()), sweep.schedule
    brackets = halving.deal(len(settings), schedule.epochs, schedule.eval_every)
    fits: dict[int, Fit] = {}
    for bracket, members in enumerate(brackets):
        rungs = halving.rungs(schedule.epochs, schedule.eval_every, bracket)
        fits |= _bracket(sweep, lanes, [settings[i] for i in members], halving.eta, rungs, watch)
    return [fits[i] for i in range(len(lanes))]


def _bracket(
    sweep: Sweep, lanes: Sequence[Hparams], settings: list[list[int]], eta: int, rungs: list[int], watch: Watch
) -> dict[int, Fit]:
    """The Fits of one bracket's lanes by their index; each of `settings` are the lanes of one."""
    tracks: dict[int, Track] = {}
    fits: dict[int, Fit] = {}
    done, total = 0, _epochs_in_all([len(s) for s in settings], eta, rungs)
    for k, rung in enumerate(rungs):
        members = [i for setting in settings for i in setting]
        here = [Lane(lanes[i], rung) for i in members]
        before = [tracks[i] for i in members] if k else None

        began = (rungs[k - 1] if k else 0) * len(here)

        def ahead(now: Progress, offset: int = done - began) -> None:
            watch(now._replace(done=max(now.done + offset, 0), total=total))

        after = sweep.advance(here, before, _width(sweep, len(here)), ahead)
        tracks = dict(zip(members, after, strict=True))
        done += rung * len(here) - began
        if rung == rungs[-1]:
            kept = settings
        else:
            score = [_score([tracks[i] for i in setting]) for setting in settings]
            if np.isnan(score).any():
                raise InputError("search.eta drops settings by their validation RMSE, and nothing is held out: hparams.fold=0")
            best = sorted(np.argsort(score, kind="stable")[: -(-len(settings) // eta)].tolist())
            kept = [settings[i] for i in best if np.isfinite(score[i])]
        surviving = {i for setting in kept for i in setting}
        for i, lane in zip(members, here, strict=True):
            if i not in surviving or rung == rungs[-1]:
                fit = sweep.fit(lane, tracks[i])
                dropped = fit.status == "finished" and rung < rungs[-1]
                fits[i] = fit._replace(status=f"dropped at epoch {rung}" if dropped else fit.status)
        settings = kept
    return fits


def _score(tracks: Sequence[Track]) -> float:
    """The mean of the lanes' best validation RMSE; infinite where one diverged, NaN where none was held out."""
    if not all(track.run.alive for track in tracks):
        return float("inf")
    if any(not np.isfinite(track.run.best_metric) for track in tracks):
        return float("nan")
    return float(np.mean([track.run.best_metric for track in tracks]))


def _width(sweep: Sweep, lanes: int) -> int:
    """A power of two that holds the lanes, or the sweep's own width where they are more."""
    return min(1 << max(lanes - 1, 0).bit_length(), sweep.width)


def _epochs_in_all(lanes: Sequence[int], eta: int, rungs: Sequence[int]) -> int:
    """The epochs that a bracket would train at most, were its settings all of equal size."""
    total, settings, size = 0, len(lanes), sum(lanes) / max(len(lanes), 1)
    for begin, end in zip([0, *rungs], rungs, strict=False):
        total += round(settings * size) * (end - begin)
        settings = -(-settings // eta)
    return total
