"""Which settings to try, and for how long: random draws, and halving as it trains."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np

from mfjax.errors import InputError
from mfjax.metrics import label
from mfjax.training.halving import SEARCH, Halving, epochs_in_all, lanes_that_hold, promote
from mfjax.training.lanes import (
    Axes,
    Fit,
    Lane,
    OnProgress,
    Progress,
    Track,
    grid,
    refuse_many,
    unwatched,
)
from mfjax.training.sweep import Sweep
from mfjax.types import REPLICATES, Hparams

Settings = list[list[int]]  # the lanes of each setting, by their index


def sample(base: Hparams, axes: Axes, samples: int, seed: int) -> list[Hparams]:
    """`samples` settings, each of whose axes is log-uniform between its least and greatest value.

    Every setting comes on every combination of `split_seed`, `fold` and `init_seed`. A pure
    function of its arguments.

    Raises InputError for an axis that reaches 0 or below, which has no logarithm, and for more than
    ten million lanes.
    """
    replicates = {key: values for key, values in axes.items() if key in REPLICATES}
    refuse_many(samples * prod(len(values) for values in replicates.values()))
    rng = np.random.default_rng([SEARCH, seed])
    drawn = {
        key: _log_uniform(rng, key, values, samples)
        for key, values in axes.items()
        if key not in REPLICATES
    }

    def setting(i: int) -> Hparams:
        values = {key: _cast(base, key, draw[i]) for key, draw in drawn.items()}
        return base._replace(**values)

    settings = dict.fromkeys(map(setting, range(samples)))  # whole ranks may coincide
    return [lane for one in settings for lane in grid(one, replicates)]


def _log_uniform(
    rng: np.random.Generator,
    key: str,
    values: Sequence[float],
    samples: int,
) -> np.ndarray:
    low = min(values)
    high = max(values)
    if low <= 0:
        raise InputError(
            f"sweep.{key}: search.name=random draws log-uniformly, above 0; got {low}\n"
            "raise it, or use grid"
        )
    logarithm = rng.uniform(np.log(low), np.log(high), samples)
    return np.exp(logarithm)


def _cast(base: Hparams, key: str, value: float) -> float:
    """A drawn value of the type of the Hparams: a rank is whole."""
    if isinstance(getattr(base, key), int):
        return round(value)
    return float(value)


def halve(
    sweep: Sweep,
    lanes: Sequence[Hparams],
    halving: Halving,
    on_progress: OnProgress = unwatched,
) -> list[Fit]:
    """The Fits of `lanes`, of which only the settings that lead at each rung train on.

    A setting is its lanes on all splits and seeds, judged by the mean of their best scores so far;
    one that diverged in any lane is never promoted. Survivors are gathered in a program of as many
    lanes as they need (a power of two, and at most `sweep.lanes_per_program`), and train on from
    where they were, so that a fit is bitwise that of the same lane without halving, up to the rung
    at which it was dropped. (A survivor that is alone shares its rows out where its method can, and
    is so up to the rounding of its sums.)

    Raises InputError where nothing is held out to judge by.
    """
    groups: dict[tuple, list[int]] = {}
    for i, hparams in enumerate(lanes):
        groups.setdefault(hparams.setting, []).append(i)
    settings = list(groups.values())
    epochs = sweep.plan.schedule.epochs
    eval_every = sweep.plan.schedule.eval_every
    fits: dict[int, Fit] = {}
    dealt = halving.deal(len(settings), epochs, eval_every)
    for bracket, members in enumerate(dealt):
        competing = [settings[i] for i in members]
        rungs = halving.rungs(epochs, eval_every, bracket)
        sizes = [len(setting) for setting in competing]
        total = epochs_in_all(sizes, halving.eta, rungs)
        climb = Climb(sweep, lanes, total, on_progress)
        fits |= _fits_of_bracket(climb, competing, rungs, halving.eta)
    return [fits[i] for i in range(len(lanes))]


def _fits_of_bracket(
    climb: "Climb",
    settings: Settings,
    rungs: Sequence[int],
    eta: int,
) -> dict[int, Fit]:
    """The Fits of a bracket's lanes by their index."""
    fits: dict[int, Fit] = {}
    for rung in rungs[:-1]:
        climb.train_to(rung, settings)
        leading = promote(settings, climb.scores(settings), eta)
        behind = [setting for setting in settings if setting not in leading]
        last = climb.fits(behind)
        fits |= {i: dropped(fit, rung) for i, fit in last.items()}
        settings = leading
    climb.train_to(rungs[-1], settings)
    return fits | climb.fits(settings)


@dataclass
class Climb:
    """The lanes of a bracket, by their index, on their way up its rungs."""

    sweep: Sweep
    lanes: Sequence[Hparams]
    total: int  # epochs of all lanes, at most
    on_progress: OnProgress
    tracks: dict[int, Track] = field(default_factory=dict)  # of the lanes that reached `rung`
    rung: int = 0
    done: int = 0  # epochs of all lanes, those of the dropped ones too

    def train_to(self, rung: int, settings: Settings) -> None:
        """Train the lanes of `settings` on, from where they are."""
        members = [i for setting in settings for i in setting]
        lanes = [Lane(self.lanes[i], rung) for i in members]
        before = [self.tracks[i] for i in members] if self.tracks else None
        began = self.rung * len(lanes)
        offset = self.done - began

        def ahead(now: Progress) -> None:
            done = max(now.done + offset, 0)
            self.on_progress(now._replace(done=done, total=self.total))

        size = lanes_that_hold(len(lanes), self.sweep.lanes_per_program)
        after = self.sweep.advance(lanes, before, size, ahead)
        self.tracks = dict(zip(members, after, strict=True))
        self.rung = rung
        self.done += rung * len(lanes) - began

    def scores(self, settings: Settings) -> list[float]:
        """The score of each setting. Raises InputError where nothing is held out to judge by."""
        tracks = [[self.tracks[i] for i in setting] for setting in settings]
        scores = [score_of(of_setting) for of_setting in tracks]
        if np.isnan(scores).any():
            column = label(self.sweep.plan.schedule.choose_by)
            raise InputError(
                f"search.eta drops settings by their {column}, and nothing is held out: "
                "hparams.fold=0"
            )
        return scores

    def fits(self, settings: Settings) -> dict[int, Fit]:
        """What came of the lanes of `settings`, if they train no further."""

        def summary(i: int) -> Fit:
            lane = Lane(self.lanes[i], self.rung)
            return self.sweep.summary_of(lane, self.tracks[i])

        return {i: summary(i) for setting in settings for i in setting}


def dropped(fit: Fit, rung: int) -> Fit:
    """The fit of a lane that is not promoted; one that ended earlier keeps its reason."""
    if fit.status != "finished":
        return fit
    return fit._replace(status=f"dropped at epoch {rung}")


def score_of(tracks: Sequence[Track]) -> float:
    """The mean of the lanes' best scores; lower is better.

    Infinite where one diverged, NaN where none was held out.
    """
    if not all(track.run.alive for track in tracks):
        return float("inf")
    if any(not np.isfinite(track.run.best_score) for track in tracks):
        return float("nan")
    return float(np.mean([track.run.best_score for track in tracks]))
