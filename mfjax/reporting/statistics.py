"""A mean and its interval, over what is independent."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mfjax.training.lanes import Fit


class Interval(NamedTuple):
    """A mean with its 95 % t-interval over `n` replicates; no interval (None) for fewer than 2."""

    mean: float | None
    low: float | None
    high: float | None
    n: int


def interval(values: Sequence[float]) -> Interval:
    """The mean and the two-sided 95 % Student t-interval of independent values.

    Those not finite are left out of `n`.
    """
    from scipy.special import stdtrit

    every = np.asarray(values, float)
    finite = every[np.isfinite(every)]
    n = len(finite)
    if n == 0:
        return Interval(None, None, None, 0)
    mean = float(finite.mean())
    if n == 1:
        return Interval(mean, None, None, 1)
    quantile = stdtrit(n - 1, 0.975)
    half = float(quantile * finite.std(ddof=1) / np.sqrt(n))
    return Interval(mean, mean - half, mean + half, n)


def over_splits(fits: Sequence[Fit], values: Sequence[float]) -> tuple[Interval, str]:
    """The interval of a value a fit over splits, and what it is over.

    A split is a (split_seed, fold); the starts of one split are averaged, but where it is the only
    one, the interval is over them.
    """
    by_split: dict[tuple[int, int], list[float]] = {}
    for fit, value in zip(fits, values, strict=True):
        hparams = fit.lane.hparams
        split = (hparams.split_seed, hparams.fold)
        by_split.setdefault(split, []).append(value)
    if len(by_split) == 1 and len(values) > 1:
        return interval(values), "initialisations of one split (init_seed)"
    means = [float(np.mean(of_split)) for of_split in by_split.values()]
    split_seeds = {split_seed for split_seed, _ in by_split}
    if len(by_split) <= 1:
        over = "one split"
    else:
        over = "splits (split_seed)" if len(split_seeds) > 1 else "folds"
    return interval(means), over
