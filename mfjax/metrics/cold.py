"""Test ratings of users and items that nothing was trained on."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from mfjax.data.problem import Problem


class Cold(NamedTuple):
    """Which test ratings are of a user, and which of an item, without a rating before the test.

    Args:
      user: `[test]`, whether the user has none, neither to train on nor to be folded in by.
      item: `[test]`, whether the item has none.
    """

    user: Bool[np.ndarray, " test"]
    item: Bool[np.ndarray, " test"]

    @property
    def either(self) -> Bool[np.ndarray, " test"]:
        """Whether the user or the item has none."""
        return self.user | self.item


def cold(problem: Problem) -> Cold:
    """The cold test ratings of a problem."""
    known_users = np.concatenate([problem.ratings.user, problem.given.user])
    return Cold(
        user=~np.isin(problem.test.user, known_users),
        item=~np.isin(problem.test.item, problem.ratings.item),
    )
