"""A split of ratings, and what all of them are made with.

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
    """For each of n ratings: the test fold that keeps it apart, and the fold that validates it.

    A lane is of one test fold, whose ratings it neither trains nor validates on; it chooses by a
    fold of the others.

    Args:
      fold: `[n]`; f >= 0 is a validation rating of fold f, wherever it is not tested; -1 of none.
      test: `[n]`; t >= 0 is a test rating of test fold t, and -1 of none.
      num_folds: how many folds hold ratings out.
      num_tests: how many test folds there are, at least 1, which may be empty.
      protocol: how it was cut, in words, for the results.
      drawn: whether another split_seed cuts otherwise.
      given: `[n]`, ratings of users that are new in the test: not trained on, but given to fold
        them in; None: no user is new.
    """

    fold: Int32[np.ndarray, " n"]
    test: Int32[np.ndarray, " n"]
    num_folds: int
    num_tests: int
    protocol: str
    drawn: bool = True
    given: Bool[np.ndarray, " n"] | None = None

    def __repr__(self) -> str:
        """One line: of how many ratings, and how they are cut."""
        return f"Split({len(self.test):,} ratings, {self.protocol})"


def generator(split_seed: int) -> np.random.Generator:
    """The random numbers of a split. Raises InputError for a negative seed."""
    if split_seed < 0:
        raise InputError(f"split_seed: expected 0 or more, got {split_seed}")
    return np.random.default_rng([split_seed, STREAM])


def check_fractions(**fractions: float) -> None:
    """Refuses what is no fraction, and fractions that leave nothing to train on together."""
    for name, fraction in fractions.items():
        if not 0 <= fraction < 1:
            raise InputError(f"{name}: expected a fraction from 0 to below 1, got {fraction}")
    if sum(fractions.values()) >= 1:
        given = ", ".join(f"{name}={fraction}" for name, fraction in fractions.items())
        raise InputError(
            f"expected fractions whose sum is below 1, to leave training ratings; got {given}"
        )


def check_folds(folds: int, n: int) -> None:
    """Refuses a number of folds that n ratings cannot fill."""
    if not 2 <= folds <= n:
        raise InputError(f"folds: expected 2 to {n} (the ratings there are), got {folds}")


def count_of(n: int, name: str, fraction: float, what: str = "rating") -> int:
    """round(n·fraction); refuses a fraction above 0 that is none."""
    count = round(n * fraction)
    if fraction > 0 and count == 0:
        raise InputError(
            f"{name}: expected at least one {what}, got {fraction} of {n}; set {name}=0 or more"
        )
    return count


def folds_of(
    n: int, rows: Int[np.ndarray, " rows"], of_rows: Int[np.ndarray, " rows"] | int = 0
) -> Int32[np.ndarray, " n"]:
    """The folds of n ratings: those of `rows` as given, and -1 elsewhere."""
    fold = np.full(n, -1, np.int32)
    fold[rows] = of_rows
    return fold


class Validation:
    """What validates: a share of the ratings, as fold 0; or a whole number of folds, from 2.

    Args:
      asked: the share, from 0 to below 1, or the folds.

    Raises:
      InputError: it is neither.
    """

    def __init__(self, asked: float) -> None:
        self.asked = asked
        self.in_folds = asked >= 1
        if self.in_folds and (asked != int(asked) or asked < 2):
            raise InputError(
                "validation: expected a fraction from 0 to below 1, or a whole number of folds "
                f"from 2, got {asked:g}"
            )
        if not self.in_folds:
            check_fractions(validation=asked)

    @property
    def num_folds(self) -> int:
        return int(self.asked) if self.in_folds else int(self.asked > 0)

    @property
    def share(self) -> float:
        """Of the ratings, what a lane holds out; 0 where folds take turns."""
        return 0.0 if self.in_folds else self.asked

    @property
    def words(self) -> str:
        """What validates, as a part of the protocol's sentence."""
        if self.in_folds:
            return f"{self.num_folds} random folds of the rest as validation, in turn"
        return f"a random {percent(self.asked)}% of the rest as validation"

    def drawn(
        self, n: int, among: Int[np.ndarray, " rows"], of: int | None = None
    ) -> Int32[np.ndarray, " n"]:
        """The folds of n ratings, of shuffled places the first.

        Args:
          n: the ratings there are.
          among: shuffled places of those that may validate.
          of: what the share is of; None: of those.

        Raises:
          InputError: there are fewer ratings than folds, or a share is no rating.
        """
        if self.in_folds:
            check_folds(self.num_folds, len(among))
            return folds_of(n, among, np.arange(len(among)) % self.num_folds)
        count = count_of(len(among) if of is None else of, "validation", self.share)
        return folds_of(n, among[:count])


def percent(fraction: float) -> str:
    return f"{100 * fraction:.4g}"
