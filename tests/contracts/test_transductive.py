"""Transductive bags have the pairs to be tested, without their values; others do not."""

import inspect
from functools import partial

import jax
import numpy as np
import pytest
from helpers import assert_close, method_of

from mfjax import METHODS, Bounds, InputError, Plan, Problem, Schedule, Sides, optimizer
from mfjax.bags import BAGS, dense, prepare_bag
from mfjax.objective import fold_sums, held_out, lane_terms
from mfjax.testing import LANES, SPEC, small_ratings
from mfjax.training.prepared import prepared, seen_and_asked
from mfjax.types import Ratings

TAKE_BAGS = [name for name, make in METHODS.items() if "bags" in inspect.signature(make).parameters]
TRANSDUCTIVE = partial(BAGS["rated"], transductive=True)
ASKED = ([0, 0, 3, 3, 5], [0, 4, 0, 2, 2])  # users and items; user 3 and item 2 have no rating


def cut(values=3.0, pairs=slice(None)):
    """The small ratings without two of user 0, which are to be tested with pairs that have none."""
    ratings = small_ratings()
    is_asked = (ratings.user == 0) & np.isin(ratings.item, (0, 4)) & (ratings.weight > 0)
    user, item = (np.array(side)[pairs] for side in ASKED)
    test = Ratings.of(user, item, np.full(len(user), values), dtype="float64")
    return Problem(ratings.taken(~is_asked), test, Bounds(1.0, 5.0))


def matrix_by_hand(problem, side, hparams, transductive):
    ratings = problem.ratings
    is_in = (ratings.weight > 0) & ~held_out(ratings.fold, hparams)
    matrix = np.zeros((SPEC.num_users, SPEC.num_items))
    matrix[ratings.user[is_in], ratings.item[is_in]] = 1
    if transductive:
        matrix[problem.test.user, problem.test.item] = 1
    matrix = matrix if side == 0 else matrix.T
    return matrix / np.sqrt(np.maximum(matrix.sum(1, keepdims=True), 1))


def lane_of(ratings, hparams):
    return lane_terms(jax.device_put(fold_sums(ratings, SPEC)), hparams, SPEC)


@pytest.mark.parametrize("transductive", [False, True])
@pytest.mark.parametrize("side", [0, 1], ids=["user", "item"])
def test_a_bag_has_the_pairs_to_be_tested_where_it_is_transductive(side, transductive):
    problem = cut()
    ratings = seen_and_asked(problem)
    ratings = ratings.padded(len(ratings.value) + 4)
    source = partial(BAGS["rated"], transductive=transductive)
    bag = prepare_bag([source], ratings, side, SPEC)
    for hparams in LANES:
        found = jax.jit(dense)(bag, lane_of(ratings, hparams))
        assert_close([found], [matrix_by_hand(problem, side, hparams, transductive)], 1e-12)


def data_of(name, source, problem):
    """All that a method is trained on."""
    plan = Plan(SPEC, lambda spec: None, {(0, 0): problem}, Schedule())
    own = (
        {"opt": optimizer("adam")}
        if "optimizer" in inspect.signature(METHODS[name]).parameters
        else {}
    )
    method = method_of(name, SPEC, bags=Sides((source,), (source,)), **own)
    (data,) = prepared(plan, method, SPEC)
    return data


def bags_of(data):
    return [dense(bag, lane_of(data.ratings, LANES[0])) for bag in data.layout.bags]


@pytest.mark.parametrize("name", TAKE_BAGS)
def test_a_method_is_given_the_pairs_to_be_tested_and_never_their_values(name):
    ours = data_of(name, TRANSDUCTIVE, cut())
    poisoned = data_of(name, TRANSDUCTIVE, cut(values=1e6))
    jax.tree.map(np.testing.assert_array_equal, ours, poisoned)
    without = data_of(name, TRANSDUCTIVE, cut(pairs=slice(1, None)))
    for one, two in zip(bags_of(ours), bags_of(without), strict=True):
        assert np.any(one != two)


@pytest.mark.parametrize("name", TAKE_BAGS)
def test_the_pairs_to_be_tested_change_nothing_of_other_bags(name):
    ours = data_of(name, BAGS["rated"], cut())
    without = data_of(name, BAGS["rated"], cut(pairs=slice(0)))
    jax.tree.map(np.testing.assert_array_equal, bags_of(ours), bags_of(without))


def test_new_users_in_the_test_are_refused_where_users_have_transductive_bags():
    problem = cut()
    new = problem._replace(given=problem.test)
    with pytest.raises(InputError, match="transductive bags of users: expected no new users"):
        data_of("als", TRANSDUCTIVE, new)
