"""The best of each row, and what each user has rated, against loops."""

import numpy as np
import pytest

from mfjax.rows import Seen, best_of_each

MANY = 200


def by_sorting(scores, n):
    """(row, column, rank) of the n highest of each row, of equal ones the lower column first."""
    found = []
    for row, of_row in enumerate(scores):
        order = np.argsort(-of_row, kind="stable")
        left = [column for column in order if of_row[column] > -np.inf]
        found += [(row, column, rank) for rank, column in enumerate(left[:n], start=1)]
    return found


@pytest.mark.parametrize("n", [1, 3, 40, MANY])
@pytest.mark.parametrize("values", [3, 10**6], ids=["many ties", "none"])
def test_the_best_of_each_row_are_those_of_a_stable_sort(n, values):
    rng = np.random.default_rng(n)
    scores = rng.integers(0, values, (7, 40)).astype(np.float32)
    scores[rng.random(scores.shape) < 0.3] = -np.inf
    scores[2] = -np.inf
    best = best_of_each(scores, n)
    assert list(zip(*(column.tolist() for column in best), strict=True)) == by_sorting(scores, n)


def test_no_row_has_no_best():
    assert all(len(column) == 0 for column in best_of_each(np.zeros((0, 5)), 3))


@pytest.fixture
def rated():
    """The items of each of 6 users, of whom two rated nothing."""
    rng = np.random.default_rng(0)
    counts = (3, 0, 9, 1, 0, 5)
    return [np.sort(rng.choice(9, count, replace=False)).tolist() for count in counts]


def seen_of(rated):
    pairs = [(user, item) for user, items in enumerate(rated) for item in items]
    shuffled = np.random.default_rng(1).permutation(np.array(pairs))
    return Seen.of(*shuffled.T, num_users=len(rated))


def pairs_of(seen, rows):
    place, items = seen.of_rows(np.array(rows, int))
    return [items[place == one].tolist() for one in range(len(rows))]


@pytest.mark.parametrize("rows", [[], [1], [5, 0, 2], [2, 2, 4], range(6)], ids=str)
def test_the_items_of_some_users(rated, rows):
    seen = seen_of(rated)
    assert pairs_of(seen, list(rows)) == [rated[row] for row in rows]
    assert seen.counts.tolist() == list(map(len, rated))


@pytest.mark.parametrize("row", [0, 3, 5])
def test_a_user_who_takes_the_place_of_another(rated, row):
    others = np.arange(len(rated)) != row
    changed = seen_of(rated).of_users(others).inserted(row, np.array([7, 4]))
    expected = [*rated[:row], [4, 7], *rated[row + 1 :]]
    assert pairs_of(changed, range(len(rated))) == expected
    assert changed.starts.dtype == np.int64
    assert changed.items.dtype == np.int32
