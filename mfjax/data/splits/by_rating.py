"""Splits that take each rating for itself, whoever rated what and when."""

import numpy as np

from mfjax.data.dataset import Dataset
from mfjax.data.splits.split import (
    Split,
    Validation,
    check_folds,
    check_fractions,
    count_of,
    folds_of,
    generator,
    percent,
)
from mfjax.errors import InputError


def random(data: Dataset, split_seed: int, *, validation: float = 0.1, test: float = 0.1) -> Split:
    """Shuffled: round(n·test) test ratings, round(n·validation) that validate; the rest trains.

    Source: hold-out, once for the choice and once for the test (Kohavi, "A Study of
    Cross-Validation and Bootstrap for Accuracy Estimation and Model Selection", 1995, section 2.1).

    Args:
      data: n ratings.
      split_seed: of the shuffle, from 0.
      validation: share of the ratings that validates, or a number of folds of the rest, from 2.
      test: share of the ratings, from 0; below 1 with that of validation.

    Returns:
      Of one test fold; of one fold, or as many as are asked for, or of none with `validation=0`.

    Raises:
      InputError: a share or `split_seed` is out of range, or a part would be empty.
    """
    n = len(data.value)
    held_out = Validation(validation)
    check_fractions(validation=held_out.share, test=test)
    shuffled = generator(split_seed).permutation(n)
    num_test = count_of(n, "test", test)
    num_validation = count_of(n, "validation", held_out.share)
    if num_test + num_validation >= n:
        raise InputError(
            "expected at least one training rating, "
            f"got {num_test} test and {num_validation} validation of {n}"
        )
    drawn = num_test + held_out.num_folds > 0
    parts = "/".join(map(percent, (1 - held_out.share - test, held_out.share, test)))
    protocol = f"random {parts} split by rating (training/validation/test)"
    if held_out.in_folds:
        protocol += f", {held_out.words}"
    return Split(
        fold=held_out.drawn(n, shuffled[num_test:], of=n),
        test=folds_of(n, shuffled[:num_test]),
        num_folds=held_out.num_folds,
        num_tests=1,
        protocol=f"{protocol}, split_seed {split_seed}" if drawn else protocol,
        drawn=drawn,
    )


def kfold(data: Dataset, split_seed: int, *, folds: int = 5, validation: float = 0.1) -> Split:
    """Shuffled test folds whose sizes differ by at most one, each tested in turn.

    Source: k-fold cross-validation (Kohavi, "A Study of Cross-Validation and Bootstrap for Accuracy
    Estimation and Model Selection", 1995, section 2.2), not stratified; what validates is drawn
    among the other folds.

    Args:
      data: n ratings.
      split_seed: of the shuffle, from 0.
      folds: how many test folds, from 2 to n.
      validation: share of the ratings that validates where it is not tested, or a number of folds.

    Returns:
      Of `folds` test folds.

    Raises:
      InputError: `folds`, `validation` or `split_seed` is out of range.
    """
    n = len(data.value)
    check_folds(folds, n)
    held_out = Validation(validation)
    rng = generator(split_seed)
    return Split(
        test=folds_of(n, rng.permutation(n), np.arange(n) % folds),
        fold=held_out.drawn(n, rng.permutation(n)),
        num_folds=held_out.num_folds,
        num_tests=folds,
        protocol=f"{_in_turn(f'{folds} random folds', held_out)}, split_seed {split_seed}",
    )


def blocks(data: Dataset, split_seed: int, *, folds: int = 5, validation: float = 0.1) -> Split:
    """Consecutive blocks in file order, each tested in turn, as u1 to u5 of MovieLens 100k.

    Block k is rows n·k//folds to n·(k+1)//folds.

    Source: `mku.sh` of MovieLens 100k, whose blocks are 20,000 lines each; what validates is drawn
    among the other blocks.

    Args:
      data: n ratings, in the order of their file.
      split_seed: draws the validation ratings.
      folds: the number of blocks, from 2 to n.
      validation: share of the ratings that validates where it is not tested, or a number of folds.

    Returns:
      Of `folds` test folds.

    Raises:
      InputError: `folds`, `validation` or `split_seed` is out of range.
    """
    n = len(data.value)
    check_folds(folds, n)
    held_out = Validation(validation)
    edges = n * np.arange(folds + 1) // folds
    block = np.repeat(np.arange(folds, dtype=np.int32), np.diff(edges))
    drawn = held_out.num_folds > 0
    protocol = _in_turn(f"{folds} consecutive blocks in file order", held_out)
    return Split(
        test=block,
        fold=held_out.drawn(n, generator(split_seed).permutation(n)),
        num_folds=held_out.num_folds,
        num_tests=folds,
        protocol=f"{protocol}, split_seed {split_seed}" if drawn else protocol,
        drawn=drawn,
    )


def files(data: Dataset, split_seed: int, *, validation: float = 0.1) -> Split:
    """The ratings of `data.test` are tested; what validates is drawn among the others.

    Source: a training and a test file, as sets are published with, such as `u1.base` and `u1.test`
    of MovieLens 100k.

    Args:
      data: n ratings, of which `data.of_test` says which came from the file of test ratings.
      split_seed: draws the validation ratings.
      validation: share of the other ratings, or a number of folds of them.

    Returns:
      Of one test fold.

    Raises:
      InputError: the data have no file of test ratings, or `validation` or `split_seed` is out of
        range.
    """
    if data.of_test is None:
        raise InputError("split=files needs a file of test ratings: data.test=FILE")
    n = len(data.value)
    held_out = Validation(validation)
    among = generator(split_seed).permutation(np.flatnonzero(~data.of_test))
    protocol = "test ratings in a file of their own"
    if held_out.num_folds:
        protocol += f", {held_out.words}, split_seed {split_seed}"
    return Split(
        test=folds_of(n, np.flatnonzero(data.of_test)),
        fold=held_out.drawn(n, among),
        num_folds=held_out.num_folds,
        num_tests=1,
        protocol=protocol,
        drawn=held_out.num_folds > 0,
    )


def _in_turn(what: str, held_out: Validation) -> str:
    words = f", {held_out.words}" if held_out.num_folds else ""
    return f"{what}, each tested in turn{words}"
