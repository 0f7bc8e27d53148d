"""The model that is read back: ids of every kind, lists of items, and users folded in."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import polars as pl
import pytest
from helpers import epochs, make, pinned_factors

import mfjax
from mfjax import Bounds, Factors, Hparams, InputError, Lane, Problem, Spec, from_ids
from mfjax import model as model_module
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


@pytest.mark.parametrize("frame", [pl.DataFrame, pd.DataFrame])
def test_a_frame_is_predicted_as_its_columns_are(model, frame):
    pairs = frame({"item": [0, 1, 99], "user": [10, 20, 30], "other": [1.0, 2.0, 3.0]})
    expected = model.predict([10, 20, 30], [0, 1, 99], unknown="mean")
    np.testing.assert_array_equal(model.predict(pairs, unknown="mean"), expected)
    assert model.known(pairs).tolist() == [True, True, False]
    with pytest.raises(InputError, match="columns user and item, got a frame of user, other"):
        model.predict(pairs[["user", "other"]])


def test_users_alone_are_no_pairs(model):
    with pytest.raises(InputError, match=r"expected users and items, or a frame .*, got list"):
        model.predict([10, 20])


def test_one_user_and_one_item_are_one_number(model):
    one = model.predict(10, 0)
    assert np.ndim(one) == 0
    assert one == model.predict([10], [0])[0]
    np.testing.assert_array_equal(model.predict(10, [0, 1]), model.predict([10, 10], [0, 1]))
    np.testing.assert_array_equal(model.predict([10, 20], 1), model.predict([10, 20], [1, 1]))
    with pytest.raises(InputError, match="unknown user 99: expected one of the 9 user ids"):
        model.predict(99, 0)


def test_what_is_known_is_what_the_data_have(model):
    assert model.known([99, 10, 10, 99], [0, 99, 0, 99]).tolist() == [False, False, True, False]
    assert model.known(10, 0)
    assert not model.known(99, 0)
    assert model.known(10, [0, 99]).tolist() == [True, False]


def test_what_was_seen_is_what_was_trained_on(model, dataset):
    users, items = np.divmod(np.arange(USERS * ITEMS), ITEMS)
    rated = np.zeros((USERS, ITEMS), bool)
    rated[dataset.user, dataset.item] = True
    seen = model.seen(model.user_ids[users], model.item_ids[items])
    np.testing.assert_array_equal(seen, rated.ravel())
    assert model.seen([10, 99, 99], [99, 0, 99]).tolist() == [False] * 3
    assert model.fold_in(5, {3: 1.0}).seen(5, [2, 3]).tolist() == [False, True]
    nothing = replace(model, seen_items=model.seen_items[:0], seen_starts=0 * model.seen_starts)
    assert nothing.seen(10, 0) is False


# lists


def lists_by_loop(model, dataset, n, exclude_seen=True):
    """(user, rank, item) of every user, by sorting what is predicted of every item."""
    found = []
    for i, user in enumerate(model.user_ids.tolist()):
        score = model.item_bias + model.item_factors @ model.user_factors[i]
        order = np.argsort(-score.astype(np.float32), kind="stable")
        seen = set(dataset.item[dataset.user == i].tolist()) if exclude_seen else set()
        best = [model.item_ids[j].item() for j in order if j not in seen][:n]
        found += [(user, rank, item) for rank, item in enumerate(best, start=1)]
    return found


@pytest.mark.parametrize("exclude_seen", [True, False], ids=["exclude seen", "include seen"])
@pytest.mark.parametrize("n", [1, 3, 100])
def test_lists_are_those_of_sorting_every_prediction(model, dataset, n, exclude_seen):
    lists = model.recommend(n=n, exclude_seen=exclude_seen)
    assert lists.columns == ["user", "rank", "item", "prediction"]
    rows = lists.select("user", "rank", "item").rows()
    assert rows == lists_by_loop(model, dataset, n, exclude_seen)
    np.testing.assert_array_equal(lists["prediction"].to_numpy(), model.predict(lists))


def test_lists_of_some_users_are_in_the_order_asked(model):
    every = model.recommend(n=2)
    asked = model.recommend(np.array([50, 20]), n=2)
    expected = pl.concat([every.filter(pl.col("user") == user) for user in (50, 20)])
    assert asked.equals(expected)
    assert model.recommend(20, n=2).equals(every.filter(pl.col("user") == 20))
    assert model.recommend([], n=2).rows() == []


def test_how_many_are_ranked_at_once_changes_nothing(model, monkeypatch):
    at_once = model.recommend()
    for scores in (1, 2 * ITEMS, 5 * ITEMS):
        monkeypatch.setattr(model_module, "SCORES", scores)
        assert model.recommend().equals(at_once)


def test_equal_items_stand_in_the_order_of_their_rows(model):
    nothing = np.zeros_like(model.item_factors)
    same = replace(model, item_factors=nothing, item_bias=np.zeros(ITEMS))
    lists = same.recommend(10, n=4, exclude_seen=False)
    assert lists["item"].to_list() == [0, 1, 2, 3]


def test_what_is_recommended_is_told_by_its_title(dataset, tmp_path):
    titles = ["Alien", None, *"cdefg"]
    named = replace(dataset, items=pl.DataFrame({"title": titles}))
    model = written(tmp_path, named, pinned_factors(spec_of(named), HPARAMS), spec_of(named))
    by_id = dict(enumerate(titles))
    for frame in (model.recommend(), model.similar(3), model.to_frame()):
        assert frame["title"].to_list() == [by_id[item] for item in frame["item"]]


def test_wrong_lists_are_refused(model):
    with pytest.raises(InputError, match="unknown user 99"):
        model.recommend([10, 99])
    for call in (lambda: model.recommend(n=0), lambda: model.similar(0, n=0)):
        with pytest.raises(InputError, match="n: expected at least 1 item, got 0"):
            call()


def test_similar_items_are_those_of_the_highest_cosine(model):
    factors = model.item_factors
    for row, item in enumerate(model.item_ids.tolist()):
        product = factors @ factors[row]
        cosine = product / np.linalg.norm(factors, axis=1) / np.linalg.norm(factors[row])
        others = [other for other in np.argsort(-cosine) if other != row]
        found = model.similar(item, n=4)
        assert found["item"].to_list() == model.item_ids[others[:4]].tolist()
        np.testing.assert_allclose(found["similarity"].to_numpy(), cosine[others[:4]])


def test_a_rotation_of_the_factors_changes_no_similarity(model):
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    turned = replace(model, item_factors=model.item_factors @ rotation)
    for item in range(ITEMS):
        ours, theirs = model.similar(item), turned.similar(item)
        assert ours["item"].to_list() == theirs["item"].to_list()
        np.testing.assert_allclose(ours["similarity"].to_numpy(), theirs["similarity"].to_numpy())


def test_nothing_is_similar_to_an_item_without_factors(model):
    factors = model.item_factors.copy()
    factors[2] = 0
    without = replace(model, item_factors=factors)
    with pytest.raises(InputError, match="item 2: its factors are 0"):
        without.similar(2)
    found = without.similar(0)
    assert found.filter(pl.col("item") == 2)["similarity"].to_list() == [0]


def test_what_was_learnt_as_a_table(model, dataset):
    for side, row in (("user", dataset.user), ("item", dataset.item)):
        frame = model.to_frame(side)
        ids = getattr(model, f"{side}_ids")
        assert frame[side].to_list() == ids.tolist()
        assert frame["ratings"].to_list() == np.bincount(row, minlength=len(ids)).tolist()
        np.testing.assert_array_equal(frame["bias"], getattr(model, f"{side}_bias"))
        factors = frame.select(f"factor_{k}" for k in range(3)).to_numpy()
        np.testing.assert_array_equal(factors, getattr(model, f"{side}_factors"))
    with pytest.raises(InputError, match="side: expected one of user, item, got 'items'"):
        model.to_frame("items")


# files


def test_a_saved_model_is_read_back_bit_by_bit(model, tmp_path):
    folder = tmp_path / "new" / "model"
    for saved in (model, model.fold_in(5, {0: 3.0})):
        saved.save(folder)
        read = mfjax.load(folder)
        for name, array in vars(saved).items():
            found = getattr(read, name)
            assert found.dtype == array.dtype, name
            np.testing.assert_array_equal(found, array)
    assert {path.name for path in folder.iterdir()} == {"factors.npz", "model.json"}


def test_the_model_of_a_run_is_not_replaced(dataset, tmp_path):
    spec = spec_of(dataset)
    model = written(tmp_path, dataset, pinned_factors(spec, HPARAMS), spec)
    with pytest.raises(InputError, match="holds the results of a run"):
        model.save(tmp_path)


def test_a_model_without_what_users_rated_is_of_another_version(model, tmp_path):
    model.save(tmp_path)
    older = {name: array for name, array in vars(model).items() if name != "seen_items"}
    np.savez(tmp_path / "factors.npz", **older)
    with pytest.raises(InputError, match=r"of another version of mfjax: .*seen_items"):
        mfjax.load(tmp_path)


def test_no_pickle_is_loaded(model, tmp_path):
    model.save(tmp_path)
    np.savez(tmp_path / "factors.npz", **{**vars(model), "titles": np.array([{}], object)})
    with pytest.raises(InputError, match="allow_pickle=False"):
        mfjax.load(tmp_path)


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


def test_what_a_folded_user_rated_is_not_recommended(model):
    every = set(range(ITEMS))
    for user in (5, 40, 999):
        folded = model.fold_in(user, {6: 1.0, 2: 5.0})
        assert set(folded.recommend(user, n=ITEMS)["item"]) == every - {2, 6}
        others = [other for other in model.user_ids.tolist() if other != user]
        assert folded.recommend(others).equals(model.recommend(others))


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
