"""Made data against what is planted in it."""

import inspect
import itertools

import numpy as np
import pytest

from mfjax.data import SOURCES, SPLITS, from_ids, read
from mfjax.data.problem import Problem
from mfjax.data.splits import Split
from mfjax.errors import InputError

# --- made data ---


def dense(dataset):
    matrix = np.full((dataset.num_users, dataset.num_items), np.nan)
    matrix[dataset.user, dataset.item] = dataset.value
    return matrix


def test_toy_has_its_rank_and_misses_no_row_or_column():
    assert np.linalg.matrix_rank(dense(SOURCES["toy"]())) == 2
    assert np.linalg.matrix_rank(dense(SOURCES["toy"](noise=0.1))) == 20
    for observed, entries in ((0.5, 300), (0.05, 30)):
        seen = ~np.isnan(dense(SOURCES["toy"](observed=observed, seed=3)))
        assert seen.sum() == entries and seen.any(0).all() and seen.any(1).all()


def test_a_matrix_keeps_its_shape():
    nan = float("nan")
    dataset = SOURCES["matrix"](rows=[[5, None, 1], [nan, None, 2.5]])
    np.testing.assert_array_equal(dense(dataset), [[5, nan, 1], [nan, nan, 2.5]])
    assert dataset.item_ids.tolist() == [0, 1, 2]


PLANTED = {
    "default": {},
    "all": {"num_ratings": 150_000},
    "steep": {"popularity": 3.0},
    "flat": {"popularity": 0.0},
}


@pytest.mark.parametrize("arguments", PLANTED.values(), ids=PLANTED)
def test_synthetic_pairs_are_unique_and_seeded(arguments):
    make = SOURCES["synthetic"]
    dataset, again, other = make(**arguments), make(**arguments), make(**arguments, seed=1)
    n = arguments.get("num_ratings", 20_000)
    assert (
        len(set(zip(dataset.user.tolist(), dataset.item.tolist(), strict=True)))
        == len(dataset.value)
        == n
    )
    assert dataset.sha256 == again.sha256 != other.sha256
    assert (dataset.user == again.user).all() and (dataset.value == again.value).all()
    assert min(dataset.user.min(), dataset.item.min()) >= 0 and (
        dataset.num_users,
        dataset.num_items,
    ) == (500, 300)


def test_synthetic_plants_rank_biases_and_noise():
    full = {"num_users": 60, "num_items": 40, "num_ratings": 2400, "rank": 3}
    plain = dense(SOURCES["synthetic"](**full, bias_scale=0.0, noise=0.0)) - 3
    assert np.linalg.matrix_rank(plain) == 3 and 0.5 < plain.std() < 1.5
    assert (
        np.linalg.matrix_rank(dense(SOURCES["synthetic"](**full, noise=0.0))) == 5
    )  # two columns of biases and mean
    flat = SOURCES["synthetic"](**full | {"rank": 0}, bias_scale=0.0, noise=0.3)
    assert abs(flat.value.mean() - 3) < 0.03 and abs(flat.value.std() - 0.3) < 0.02


def test_half_stars_are_on_the_grid():
    value = SOURCES["synthetic"](half_stars=True).value
    assert set(value.tolist()) == set(np.arange(0.5, 5.5, 0.5).tolist())


def test_popularity_is_the_power_law():
    def counts(exponent):
        return np.sort(
            np.bincount(SOURCES["synthetic"](num_ratings=3000, popularity=exponent).item)
        )[::-1]

    rank = np.arange(1, 301)
    assert set(counts(0.0)) == {10}
    np.testing.assert_allclose(counts(1.0), 3000 / rank / (1 / rank).sum(), atol=1)
    steep = counts(2.0)
    assert (
        steep[0] == 500 and abs(steep[9] / steep[19] - 4) < 0.5
    )  # at most the users there are; then rank**-2


MADE_WRONG = [
    ("synthetic", {"num_ratings": 7, "num_users": 2, "num_items": 3}, "at most num_users"),
    ("synthetic", {"num_ratings": 0}, "num_ratings: expected 1 or more, got 0"),
    ("synthetic", {"noise": -0.1}, "noise: expected 0 or more, got -0.1"),
    ("synthetic", {"bias_scale": float("nan")}, "bias_scale"),
    ("synthetic", {"seed": -1}, "seed"),
    ("toy", {"observed": 0.0}, "observed: expected a fraction"),
    ("toy", {"rank": 0}, "rank: expected 1 or more, got 0"),
    ("matrix", {"rows": []}, "rows"),
    ("matrix", {"rows": [1, 2]}, "rows: expected lists"),
    ("matrix", {"rows": [[1, 2], [3]]}, r"lengths \[2, 1\]"),
    ("matrix", {"rows": [[1, "x"]]}, r"rows\[0\]\[1\].*'x'"),
    ("matrix", {"rows": [[1], [float("inf")]]}, r"rows\[1\]\[0\]"),
    ("matrix", {"rows": [[None, None]]}, "missing entries only"),
]


@pytest.mark.parametrize("source, arguments, message", MADE_WRONG, ids=str)
def test_wrong_arguments_are_refused(source, arguments, message):
    with pytest.raises(InputError, match=message):
        SOURCES[source](**arguments)


# --- splits ---


@pytest.mark.parametrize("clip, high", [(True, 4.0), ((0.5, 5.0), 5.0), (False, np.inf)])
def test_predictions_are_clipped_to_what_is_not_kept_for_the_test(clip, high):
    """The highest rating is a test rating, the lowest one of validation."""
    data = from_ids("made", range(6), range(6), [1.0, 2.0, 3.0, 4.0, 5.0, 2.0])
    fold = np.array([0, -1, -1, -1, -1, -1], np.int32)
    test = np.where(np.arange(6) == 4, 0, -1).astype(np.int32)
    problem = Problem.of(data, Split(fold, test, 1, 1, "by hand"), clip=clip)
    assert problem.bounds.high == high
    assert problem.bounds.low == {4.0: 1.0, 5.0: 0.5, np.inf: -np.inf}[high]
    assert problem.test.value.tolist() == [5.0]


# --- for the config and the start-up ---


def test_the_config_can_be_made_of_the_signatures():
    plain = {int, float, str, bool, list}
    plain |= {kind | None for kind in plain}
    for function in itertools.chain(SOURCES.values(), SPLITS.values()):
        for parameter in inspect.signature(function, eval_str=True).parameters.values():
            if parameter.name == "data":
                continue
            assert parameter.annotation in plain and parameter.name not in {
                "items",
                "keys",
                "values",
            }


def test_the_bundled_films_have_titles_and_genres():
    data = read("bundled:ml-latest-small")
    (film,) = np.flatnonzero(data.item_ids == 2571)
    assert data.items[int(film)].to_dicts() == [
        {"title": "Matrix, The (1999)", "genres": ["Action", "Sci-Fi", "Thriller"]}
    ]
    assert len(data.items) == data.num_items
    assert data.items["title"].null_count() == 5
