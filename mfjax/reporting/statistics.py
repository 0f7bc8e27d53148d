"""A mean and its interval over replicates, which share training ratings."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mfjax.data.problem import Problem
from mfjax.training.lanes import Fit
from mfjax.types import Cut

CORRECTED = "corrected resampled variance (Nadeau and Bengio 2003)"


class Interval(NamedTuple):
    """A mean and its 95 % t-interval.

    Args:
      mean: of the replicates; None where there is none.
      low, high: of the interval; None for fewer than 2 replicates.
      n: how many replicates.
    """

    mean: float | None
    low: float | None
    high: float | None
    n: int


class Over(NamedTuple):
    """What an interval is over.

    Args:
      words: for results and tables, such as `3 splits (split_seed)`.
      overlap: ratings measured for one trained on, which widens the interval; 0 of replicates that
        are independent.
    """

    words: str
    overlap: float = 0.0


def interval(values: Sequence[float], overlap: float = 0.0) -> Interval:
    """The mean and the two-sided 95 % Student t-interval of replicates.

    Splits of the same ratings share most of what they train on, so that their variance s² says too
    little of how another sample of ratings would come out. The variance of their mean is taken as
    (1/n + overlap)·s², with `overlap` the number of ratings measured over that trained on.

    Source: Nadeau and Bengio 2003, "Inference for the generalization error", the corrected
    resampled t-test; for repeated folds, Bouckaert and Frank 2004.

    Args:
      values: one a replicate; those not finite are left out of `n`.
      overlap: 0 or more; 0: the replicates are independent.

    Returns:
      The interval; without low and high for fewer than 2 values.
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
    half = float(stdtrit(n - 1, 0.975)) * standard_error(finite, overlap)
    return Interval(mean, mean - half, mean + half, n)


def standard_error(values: Float[np.ndarray, " n"], overlap: float) -> float:
    """Of the mean of finite replicates, at least 2: the root of (1/n + overlap)·s²."""
    return float(values.std(ddof=1) * np.sqrt(1 / len(values) + overlap))


def over_splits(
    fits: Sequence[Fit],
    values: Sequence[float],
    problems: Mapping[Cut, Problem],
    *,
    of_test: bool = False,
) -> tuple[Interval, Over]:
    """The interval of a value a fit over splits, and what it is over.

    A split is a fold of the ratings that a split_seed cuts; the fits of one split are averaged, but
    where it is the only one, the interval is over them.

    Args:
      fits: of one setting.
      values: one a fit.
      problems: by split_seed and test_fold; several seeds have one where nothing is drawn.
      of_test: whether the values are of the test ratings, and not of those held out.

    Returns:
      The mean and its interval, and over how many of what it is.
    """
    by_split: dict[tuple[int, int], list[float]] = {}
    kinds: set[tuple[int, int, int]] = set()
    for fit, value in zip(fits, values, strict=True):
        hparams = fit.lane.hparams
        problem = id(problems[hparams.cut])
        by_split.setdefault((problem, hparams.fold), []).append(value)
        kinds.add((problem, hparams.test_fold, hparams.fold))
    if len(by_split) == 1:
        return interval(values), Over(_of_one_split(fits))
    means = [float(np.mean(of_split)) for of_split in by_split.values()]
    over = Over(_in_words(kinds), _overlap(fits, problems, of_test))
    return interval(means, over.overlap), over


def _of_one_split(fits: Sequence[Fit]) -> str:
    """The fits of one split, and the seeds in which they differ."""
    if len(fits) == 1:
        return "one split"
    seeds = [
        key
        for key in ("init_seed", "split_seed")
        if len({getattr(fit.lane.hparams, key) for fit in fits}) > 1
    ]
    return f"{len(fits)} fits of one split ({', '.join(seeds)})"


def _in_words(splits: Collection[tuple[int, int, int]]) -> str:
    """How many splits, and what they are: each a problem, its test fold, and the fold held out."""
    problems, test_folds, folds = (len(set(of_all)) for of_all in zip(*splits, strict=True))
    seeds = problems // test_folds
    if len(splits) == problems == seeds:
        return f"{seeds} splits (split_seed)"
    what = "folds" if folds > 1 else "test folds"
    of_seeds = f", of {seeds} split_seeds" if seeds > 1 else ""
    of_tests = f" of {test_folds} test folds" if folds > 1 and test_folds > 1 else ""
    return f"{len(splits)} {what}{of_tests}{of_seeds}"


def _overlap(fits: Sequence[Fit], problems: Mapping[Cut, Problem], of_test: bool) -> float:
    """The mean of ratings measured for one trained on.

    Those measured are the fold that is held out; of the test, and where none is, the test ratings.
    """
    ratios = []
    for fit in fits:
        problem = problems[fit.lane.hparams.cut]
        held_out = int((problem.ratings.fold == fit.lane.hparams.fold).sum())
        trained = len(problem.ratings.value) - held_out
        tested = len(problem.test.value)
        measured = tested if of_test else held_out or tested
        ratios.append(measured / trained)
    return float(np.mean(ratios))
