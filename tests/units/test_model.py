"""The model that is read back: ids of every kind, pairs that are not known, and users folded in."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import epochs, make, pinned_factors

import mfjax
from mfjax import Bounds, Factors, Hparams, InputError, Lane, Problem, Spec, from_ids
from mfjax.objective import dense_loss, fold_sums, lane_terms, mean_rating
from mfjax.reporting.files import write_json
from mfjax.training.lanes import Fit
from mfjax.types import NO_FOLD

HPARAMS = Hparams(reg=0.3, reg_bias=0.1, rank=3, init_scale=0.5, missing_weight=0.4, fold=NO_FOLD)
USERS, ITEMS = 9, 7


@pytest.fixture(scope="module")
def dataset():
    """Of 40 ratings, of users 10, 20, … and items 0, 1, …"""
    rng = np.random.default_rng(0)
    user, item = np.unravel_index(rng.permutation(USERS * ITEMS)[:40], (USERS, ITEMS))
    value = rng.integers(1, 6, 40)
    return from_ids("made", 10 * (user + 1), item, value)


def spec_of(dataset, **conventions):
    return Spec(dataset.num_users, dataset.num_items, max_rank=3, dtype="float64", **conventions)


def written(folder, dataset, factors, spec):
    """A model of these factors, written and read back."""
    ratings = dataset.ratings(dtype="float64")
    mean = mean_rating(ratings, HPARAMS) if spec.bias else 0.0
    on_host = Factors(*map(np.asarray, factors))
    fit = Fit(Lane(HPARAMS, 1), on_host, mean, "finished", 1, {})
    problem = Problem(ratings, ratings, Bounds(-9.0, 9.0))
    mfjax.Model.of(fit, dataset, problem, spec).write(folder / "factors.npz")
    write_json(folder / "results.json", {"status": "finished"})
    return mfjax.load(folder)


@pytest.fixture(scope="module")
def model(dataset, tmp_path_factory):
    spec = spec_of(dataset)
    factors = pinned_factors(spec, HPARAMS)
    return written(tmp_path_factory.mktemp("model"), dataset, factors, spec)


# ids


def test_ids_may_be_any_iterable(model):
    listed = model.predict([10, 20], [0, 1])
    for users, items in (((10, 20), range(2)), (np.array([10.0, 20.0]), iter([0, 1]))):
        np.testing.assert_array_equal(model.predict(users, items), listed)
    best, *others = model.top(10)
    for exclude in ({best[0]}, iter([best[0]]), np.array([best[0]])):
        assert model.top(10, exclude=exclude) == others
    assert model.predict([], []).shape == (0,)


@pytest.mark.parametrize("wrong", ["10", 10.5, None, float("nan")], ids=repr)
def test_an_id_of_another_type_is_refused_with_theirs(model, wrong):
    with pytest.raises(InputError, match=r"unknown user .*: ids are integers here; expected one"):
        model.predict([10, wrong], [0, 1])
    with pytest.raises(InputError, match=r"unknown user .*: ids are integers here"):
        model.fold_in(wrong, {0: 1})
    with pytest.raises(InputError, match=r"unknown item .*: ids are integers here"):
        model.predict([10], ["0"], unknown="mean")


def test_there_are_as_many_users_as_items(model):
    with pytest.raises(InputError, match="as many users as items, got 3 and 2"):
        model.predict([10, 10, 10], [0, 1])


def test_what_is_not_known_is_predicted_by_the_mean_and_the_bias_that_is(model):
    predicted = model.predict([99, 10, 99], [0, 99, 99], unknown="mean")
    bias = [model.item_bias[0], model.user_bias[0], 0]
    np.testing.assert_allclose(predicted, model.mean + np.array(bias))
    known = model.predict([10], [0], unknown="mean")
    np.testing.assert_array_equal(known, model.predict([10], [0]))
    with pytest.raises(InputError, match="unknown: expected one of error, mean, got 'zero'"):
        model.predict([10], [0], unknown="zero")


def test_a_model_without_biases_has_no_mean_to_predict_by(model):
    plain = replace(model, bias=np.array(False))
    with pytest.raises(InputError, match="needs a model with biases: train with bias=true"):
        plain.predict([99], [0], unknown="mean")


# users who were not in the data


def ratings_of(dataset, row):
    of_user = dataset.user == row
    items = dataset.item_ids[dataset.item[of_user]].tolist()
    return dict(zip(items, dataset.value[of_user].tolist(), strict=True))


CONVENTIONS = {
    "ignore": {},
    "item_mean": {"missing": "item_mean", "reg_by": "row"},
    "zero": {"missing": "zero", "reg_by": "total"},
    "no bias": {"missing": "zero", "bias": False, "loss_scale": "mean"},
}


@pytest.mark.parametrize("conventions", CONVENTIONS.values(), ids=CONVENTIONS)
def test_a_folded_row_is_where_the_objective_has_no_slope(dataset, tmp_path, conventions):
    spec = spec_of(dataset, **conventions)
    factors = pinned_factors(spec, HPARAMS)
    folded = written(tmp_path, dataset, factors, spec).fold_in(40, ratings_of(dataset, 3))
    user = np.array(factors.user)
    user[3, :3] = folded.user_factors[3]
    if spec.bias:
        user[3, 3] = folded.user_bias[3]
    values = np.zeros((USERS, ITEMS))
    values[dataset.user, dataset.item] = dataset.value
    sums = jax.device_put(fold_sums(dataset.ratings(dtype="float64"), spec))
    lane = lane_terms(sums, Hparams.of("float64", **HPARAMS._asdict()), spec)

    def loss(user):
        at = Factors(user, jnp.asarray(factors.item))
        return dense_loss(at, jnp.asarray(values), jnp.asarray(values > 0, float), lane)

    slope = np.abs(jax.jit(jax.grad(loss))(user))
    assert slope[3].max() < 1e-10 < slope[2].max()


def test_a_training_user_is_folded_in_to_where_converged_als_has_it(dataset, tmp_path):
    spec = spec_of(dataset)
    trained, _ = epochs(make("als", spec), dataset.ratings(dtype="float64"), HPARAMS, 200)
    model = written(tmp_path, dataset, trained[-1], spec)
    for row, user in enumerate(dataset.user_ids.tolist()):
        folded = model.fold_in(user, ratings_of(dataset, row))
        np.testing.assert_allclose(folded.user_factors, model.user_factors, atol=1e-12)
        np.testing.assert_allclose(folded.user_bias, model.user_bias, atol=1e-12)


def test_a_new_user_stands_among_the_others_in_order(model, dataset):
    rated = ratings_of(dataset, 3)
    known = model.fold_in(40, rated).predict([40] * ITEMS, range(ITEMS))
    for user in (5, 45, 999):
        folded = model.fold_in(user, rated)
        assert folded.user_ids.tolist() == sorted([*model.user_ids.tolist(), user])
        np.testing.assert_array_equal(folded.predict([user] * ITEMS, range(ITEMS)), known)
        others = model.user_ids.tolist()
        theirs = folded.predict(others, [0] * len(others))
        np.testing.assert_array_equal(theirs, model.predict(others, [0] * len(others)))
    assert len(model.user_ids) == len(dataset.user_ids)


def test_a_user_who_rated_nothing_is_predicted_by_the_mean(model):
    folded = model.fold_in(5, {})
    expected = model.predict([99] * ITEMS, range(ITEMS), unknown="mean")
    np.testing.assert_allclose(folded.predict([5] * ITEMS, range(ITEMS)), expected)


def test_the_longer_id_of_a_new_user_is_whole(model):
    named = replace(model, user_ids=np.array(list("abcdefgyz")))
    folded = named.fold_in("xavier", {0: 1})
    assert folded.user_ids.tolist() == [*"abcdefg", "xavier", *"yz"]


@pytest.mark.parametrize(
    "ratings, message", [({0: np.nan}, "finite"), ({99: 1}, "unknown item 99")]
)
def test_wrong_ratings_of_a_new_user_are_refused(model, ratings, message):
    with pytest.raises(InputError, match=message):
        model.fold_in(5, ratings)
