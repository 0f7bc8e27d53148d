"""The arithmetic of successive halving and Hyperband: when, and how many settings go on."""

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

SEARCH = 0x5EA  # keeps the draws of a search apart from those of the shuffles and splits

T = TypeVar("T")


class Halving(NamedTuple):
    """Successive halving: the best of the settings train on.

    Every setting trains for `first` epochs, the best 1/`eta` of them for `eta` times as many, and
    so on (Jamieson and Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter
    Optimization", 2016).

    With several `brackets` the settings are dealt to them, and bracket b begins with
    `first` · `eta`^b epochs, so that a setting that is slow to show has its chance (Li, Jamieson,
    DeSalvo, Rostamizadeh and Talwalkar, "Hyperband", 2018).

    Args:
      eta: of the settings of a rung, the best 1/`eta` go on; from 2.
      first: the epochs before settings are first dropped, from 1.
      brackets: how many, each beginning with `eta` times the epochs of the one before (Hyperband).
    """

    eta: int = 4
    first: int = 6
    brackets: int = 1

    def rungs(
        self,
        epochs: int,
        eval_every: int,
        bracket: int = 0,
    ) -> list[int]:
        """The epochs at which settings are dropped, and last `epochs` itself.

        Args:
          epochs: the most that a lane is trained.
          eval_every: epochs between two evaluations.
          bracket: which, from 0.

        Returns:
          They ascend; those before the last are multiples of `eval_every`.

        Examples:
          >>> Halving(eta=4, first=4).rungs(50, 2)
          [4, 16, 50]
        """
        rungs = []
        rung = self.first * self.eta**bracket
        while (rounded := -(-rung // eval_every) * eval_every) < epochs:
            if rounded not in rungs:
                rungs.append(rounded)
            rung *= self.eta
        return [*rungs, epochs]

    def deal(
        self,
        settings: int,
        epochs: int,
        eval_every: int,
    ) -> list[list[int]]:
        """The settings of each bracket, in an order drawn once.

        So many that each bracket trains about as many epochs.

        Args:
          settings: how many there are.
          epochs: the most that a lane is trained.
          eval_every: epochs between two evaluations.

        Returns:
          Of each bracket the places of its settings, from 0 and ascending.
        """
        rungs = [self.rungs(epochs, eval_every, b) for b in range(self.brackets)]
        cost = map(self._epochs_a_setting, rungs)
        share = [1 / c for c in cost]
        ends = np.cumsum(share) / np.sum(share)
        order = np.arange(settings)
        if self.brackets > 1:
            rng = np.random.default_rng([SEARCH, settings])
            order = rng.permutation(settings)
        cuts = np.round(ends[:-1] * settings)
        dealt = np.split(order, cuts.astype(int))
        return [sorted(part.tolist()) for part in dealt]

    def _epochs_a_setting(self, rungs: Sequence[int]) -> float:
        epochs = [end - begin for begin, end in _legs(rungs)]
        return sum(leg / self.eta**i for i, leg in enumerate(epochs))


def promote(
    settings: Sequence[T],
    scores: Sequence[float],
    eta: int,
) -> list[T]:
    """The best 1/`eta` of the settings, in their order; none whose score is infinite."""
    places = -(-len(settings) // eta)
    best = np.argsort(scores, kind="stable")[:places]
    alive = [i for i in best.tolist() if np.isfinite(scores[i])]
    return [settings[i] for i in sorted(alive)]


def lanes_that_hold(lanes: int, most: int) -> int:
    """A power of two that holds the lanes, and at most `most`."""
    return min(1 << max(lanes - 1, 0).bit_length(), most)


def epochs_in_all(
    lanes: Sequence[int],
    eta: int,
    rungs: Sequence[int],
) -> int:
    """The epochs that a bracket would train at most, were its settings all of equal size.

    `lanes` are those of each setting.
    """
    total = 0
    settings = len(lanes)
    size = sum(lanes) / max(settings, 1)
    for begin, end in _legs(rungs):
        total += round(settings * size) * (end - begin)
        settings = -(-settings // eta)
    return total


def _legs(rungs: Sequence[int]) -> Iterable[tuple[int, int]]:
    """From each rung to the next; the first leg begins at 0."""
    return itertools.pairwise([0, *rungs])
