"""Which ratings are trained on, which choose the hyperparameters, and which are kept for the end."""

from dataclasses import dataclass

import numpy as np

from mfjax.errors import InputError

STREAM = 1  # default_rng([data_seed, STREAM]): numbers of their own, whatever else draws from data_seed


@dataclass(frozen=True, eq=False)
class Split:
    """For each of n ratings: the fold that holds it out, and whether it is a test rating."""

    fold: np.ndarray  # [n] int32; -1: always trained on; f >= 0: the validation ratings of fold f
    test: np.ndarray  # [n] bool; a test rating is never trained on nor validated on, and its fold is -1
    num_folds: int
    protocol: str  # in words, for the results


def random(n: int, data_seed: int, *, validation: float = 0.1, test: float = 0.1) -> Split:
    """Shuffled: round(n·test) test ratings, round(n·validation) of fold 0; the rest is trained on.

    Raises:
        InputError: a fraction is outside [0, 1), their sum is not below 1, or a part would be empty.
    """
    _check_fractions(validation=validation, test=test)
    order = _generator(data_seed).permutation(n)
    num_test, num_validation = _count(n, test=test), _count(n, validation=validation)
    if num_test + num_validation >= n:
        raise InputError(f"expected at least one training rating, got {num_test} test and {num_validation} validation of {n}")
    fold, is_test = _all_training(n)
    is_test[order[:num_test]] = True
    fold[order[num_test : num_test + num_validation]] = 0
    parts = f"{_percent(1 - validation - test)}/{_percent(validation)}/{_percent(test)}"
    protocol = f"random {parts} split by rating (training/validation/test), data_seed {data_seed}"
    return Split(fold, is_test, int(num_validation > 0), protocol)


def kfold(n: int, data_seed: int, *, folds: int = 5, test: float = 0.0) -> Split:
    """Shuffled: round(n·test) test ratings; the rest in folds whose sizes differ by at most one.

    Raises:
        InputError: `test` is outside [0, 1), or there are fewer than 2 folds or more folds than ratings.
    """
    _check_fractions(test=test)
    num_test = _count(n, test=test)
    _check_folds(folds, n - num_test)
    order = _generator(data_seed).permutation(n)
    fold, is_test = _all_training(n)
    is_test[order[:num_test]] = True
    fold[order[num_test:]] = np.arange(n - num_test) % folds
    kept = f" beside a random {_percent(test)}% test set" if test else ""
    return Split(fold, is_test, folds, f"{folds} random folds{kept}, data_seed {data_seed}")


def blocks(n: int, data_seed: int, *, folds: int = 5, test_fold: int | None = None, validation: float = 0.1) -> Split:
    """Consecutive blocks in file order; block k is rows n·k//folds to n·(k+1)//folds, as u1 to u5 of MovieLens 100k.

    Args:
        n: the number of ratings.
        data_seed: draws the validation ratings; without a `test_fold` nothing is drawn.
        folds: the number of blocks.
        test_fold: None: the blocks are the folds, held out in turn; t (from 0): block t is the test set.
        validation: with a `test_fold`, the fraction of the other ratings that is fold 0.

    Raises:
        InputError: fewer than 2 blocks or more than ratings, `test_fold` or `validation` out of range.
    """
    _check_folds(folds, n)
    _check_fractions(validation=validation)
    edges = n * np.arange(folds + 1) // folds
    block = np.repeat(np.arange(folds, dtype=np.int32), np.diff(edges))
    fold, is_test = _all_training(n)
    if test_fold is None:
        return Split(block, is_test, folds, f"{folds} consecutive blocks in file order, each held out in turn")
    if not 0 <= test_fold < folds:
        raise InputError(f"test_fold: expected 0 to {folds - 1} (or none), got {test_fold}")
    is_test[:] = block == test_fold
    rest = _generator(data_seed).permutation(np.flatnonzero(~is_test))
    held = rest[: _count(len(rest), validation=validation)]
    fold[held] = 0
    drawn = f", a random {_percent(validation)}% of the rest as validation, data_seed {data_seed}" if len(held) else ""
    protocol = f"block {test_fold} of 0 to {folds - 1} in file order as test set{drawn}"
    return Split(fold, is_test, int(len(held) > 0), protocol)


def _generator(data_seed: int) -> np.random.Generator:
    if data_seed < 0:
        raise InputError(f"data_seed: expected 0 or more, got {data_seed}")
    return np.random.default_rng([data_seed, STREAM])


def _check_fractions(**fractions: float) -> None:
    for name, fraction in fractions.items():
        if not 0 <= fraction < 1:
            raise InputError(f"{name}: expected a fraction from 0 to below 1, got {fraction}")
    if sum(fractions.values()) >= 1:
        given = ", ".join(f"{name}={fraction}" for name, fraction in fractions.items())
        raise InputError(f"expected fractions whose sum is below 1, to leave training ratings; got {given}")


def _check_folds(folds: int, n: int) -> None:
    if not 2 <= folds <= n:
        raise InputError(f"folds: expected 2 to {n} (the ratings there are), got {folds}")


def _count(n: int, **fraction: float) -> int:
    """round(n·fraction); refuses a fraction above 0 that is no rating."""
    ((name, value),) = fraction.items()
    count = round(n * value)
    if value > 0 and count == 0:
        raise InputError(f"{name}: expected at least one rating, got {value} of {n}; set {name}=0 or more")
    return count


def _all_training(n: int) -> tuple[np.ndarray, np.ndarray]:
    return np.full(n, -1, np.int32), np.zeros(n, bool)


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.4g}"
