"""Which ratings are trained on, which choose the hyperparameters, and which are kept for the end.

A split's random numbers come from `default_rng([split_seed, STREAM])`: they are its own, whatever
else draws from the seed.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int, Int32

from mfjax.errors import InputError

STREAM = 1


@dataclass(frozen=True, eq=False)
class Split:
    """For each of n ratings: the fold that holds it out, and whether it is a test rating.

    A test rating is never trained on nor validated on.

    Args:
      fold: `[n]`; f >= 0 is a validation rating of fold f, and -1 one of none, as of a test rating.
      test: `[n]`, whether it is a test rating.
      num_folds: how many folds hold ratings out.
      protocol: how it was cut, in words, for the results.
      drawn: whether another split_seed cuts otherwise.
    """

    fold: Int32[np.ndarray, " n"]
    test: Bool[np.ndarray, " n"]
    num_folds: int
    protocol: str
    drawn: bool = True


def random(n: int, split_seed: int, *, validation: float = 0.1, test: float = 0.1) -> Split:
    """Shuffled: round(n·test) test ratings, round(n·validation) of fold 0; the rest is trained on.

    Source: hold-out, once for the choice and once for the test (Kohavi, "A Study of
    Cross-Validation and Bootstrap for Accuracy Estimation and Model Selection", 1995, section 2.1).

    Args:
      n: the number of ratings.
      split_seed: of the shuffle, from 0.
      validation, test: shares of the ratings, from 0, below 1 together.

    Returns:
      Of one fold, 0; of none with `validation=0`.

    Raises:
      InputError: a share or `split_seed` is out of range, or a part would be empty.
    """
    _check_fractions(validation=validation, test=test)
    shuffled = _generator(split_seed).permutation(n)
    num_test = _count(n, "test", test)
    num_validation = _count(n, "validation", validation)
    if num_test + num_validation >= n:
        raise InputError(
            "expected at least one training rating, "
            f"got {num_test} test and {num_validation} validation of {n}"
        )
    validated = shuffled[num_test : num_test + num_validation]
    parts = "/".join(map(_percent, (1 - validation - test, validation, test)))
    drawn = num_test + num_validation > 0
    seed = f", split_seed {split_seed}" if drawn else ""
    return Split(
        fold=_folds(n, validated, 0),
        test=_mask(n, shuffled[:num_test]),
        num_folds=int(num_validation > 0),
        protocol=f"random {parts} split by rating (training/validation/test){seed}",
        drawn=drawn,
    )


def kfold(n: int, split_seed: int, *, folds: int = 5, test: float = 0.0) -> Split:
    """Shuffled: round(n·test) test ratings; the rest in folds whose sizes differ by at most one.

    Source: k-fold cross-validation (Kohavi, "A Study of Cross-Validation and Bootstrap for Accuracy
    Estimation and Model Selection", 1995, section 2.2), not stratified.

    Args:
      n: the number of ratings.
      split_seed: of the shuffle, from 0.
      folds: how many, from 2 to the ratings that are not tested on.
      test: share of the ratings that is kept apart first, from 0 to below 1.

    Returns:
      Of `folds` folds.

    Raises:
      InputError: `folds`, `test` or `split_seed` is out of range, or the test set would be empty.
    """
    _check_fractions(test=test)
    num_test = _count(n, "test", test)
    num_rest = n - num_test
    _check_folds(folds, num_rest)
    shuffled = _generator(split_seed).permutation(n)
    beside = f" beside a random {_percent(test)}% test set" if test else ""
    return Split(
        fold=_folds(n, shuffled[num_test:], np.arange(num_rest) % folds),
        test=_mask(n, shuffled[:num_test]),
        num_folds=folds,
        protocol=f"{folds} random folds{beside}, split_seed {split_seed}",
    )


def blocks(
    n: int,
    split_seed: int,
    *,
    folds: int = 5,
    test_fold: int | None = None,
    validation: float | None = None,
) -> Split:
    """Consecutive blocks in file order, as u1 to u5 of MovieLens 100k.

    Block k is rows n·k//folds to n·(k+1)//folds.

    Source: `mku.sh` of MovieLens 100k, whose blocks are 20,000 lines each.

    Args:
      n: the number of ratings.
      split_seed: draws the validation ratings; without a `test_fold` nothing is drawn.
      folds: the number of blocks.
      test_fold: None: the blocks are the folds, held out in turn; t (from 0): block t is the test
        set.
      validation: with a `test_fold`, the fraction of the other ratings that is fold 0; None: 0.1.

    Returns:
      Of `folds` folds; with a `test_fold`, of fold 0 alone, or of none with `validation=0`.

    Raises:
      InputError: fewer than 2 blocks or more than ratings, `test_fold` or `validation` is out of
        range, or `validation` is given without a `test_fold`.
    """
    _check_folds(folds, n)
    if test_fold is None and validation is not None:
        raise InputError(
            f"validation={validation:g} has no effect without test_fold: each block is held out in "
            "turn; leave it out"
        )
    validation = 0.1 if validation is None else validation
    _check_fractions(validation=validation)
    edges = n * np.arange(folds + 1) // folds
    block = np.repeat(np.arange(folds, dtype=np.int32), np.diff(edges))
    if test_fold is None:
        protocol = f"{folds} consecutive blocks in file order, each held out in turn"
        return Split(block, np.zeros(n, bool), folds, protocol, drawn=False)
    if not 0 <= test_fold < folds:
        raise InputError(f"test_fold: expected 0 to {folds - 1} (or none), got {test_fold}")
    test = block == test_fold
    rest = _generator(split_seed).permutation(np.flatnonzero(~test))
    num_validation = _count(len(rest), "validation", validation)
    protocol = f"block {test_fold} of 0 to {folds - 1} in file order as test set"
    if num_validation:
        drawn = f"a random {_percent(validation)}% of the rest as validation"
        protocol += f", {drawn}, split_seed {split_seed}"
    fold = _folds(n, rest[:num_validation], 0)
    return Split(fold, test, int(num_validation > 0), protocol, drawn=num_validation > 0)


def _generator(split_seed: int) -> np.random.Generator:
    if split_seed < 0:
        raise InputError(f"split_seed: expected 0 or more, got {split_seed}")
    return np.random.default_rng([split_seed, STREAM])


def _check_fractions(**fractions: float) -> None:
    for name, fraction in fractions.items():
        if not 0 <= fraction < 1:
            raise InputError(f"{name}: expected a fraction from 0 to below 1, got {fraction}")
    if sum(fractions.values()) >= 1:
        given = ", ".join(f"{name}={fraction}" for name, fraction in fractions.items())
        raise InputError(
            f"expected fractions whose sum is below 1, to leave training ratings; got {given}"
        )


def _check_folds(folds: int, n: int) -> None:
    if not 2 <= folds <= n:
        raise InputError(f"folds: expected 2 to {n} (the ratings there are), got {folds}")


def _count(n: int, name: str, fraction: float) -> int:
    """round(n·fraction); refuses a fraction above 0 that is no rating."""
    count = round(n * fraction)
    if fraction > 0 and count == 0:
        raise InputError(
            f"{name}: expected at least one rating, got {fraction} of {n}; set {name}=0 or more"
        )
    return count


def _mask(n: int, rows: Int[np.ndarray, " rows"]) -> Bool[np.ndarray, " n"]:
    """Whether each of n ratings is one of `rows`."""
    mask = np.zeros(n, bool)
    mask[rows] = True
    return mask


def _folds(
    n: int, rows: Int[np.ndarray, " rows"], of_rows: Int[np.ndarray, " rows"] | int
) -> Int32[np.ndarray, " n"]:
    """The folds of n ratings: those of `rows` as given, and -1 elsewhere."""
    fold = np.full(n, -1, np.int32)
    fold[rows] = of_rows
    return fold


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.4g}"
