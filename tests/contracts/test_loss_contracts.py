"""Every row of LOSSES: its contract, every gradient of it, SGD by it, and what does not take it."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close, assert_same, at, compiled, epochs, held_in, make, pinned_factors

import mfjax
from mfjax import GRADIENTS, KERNELS, LOSSES, METHODS, InputError, Loss, Ratings, Tiling, loss_of
from mfjax.kernels.choice import available, choice
from mfjax.kernels.order import order
from mfjax.losses import HPARAMS, LINKS, refuse_ratings
from mfjax.objective import lane_terms
from mfjax.testing import LANE, SPEC, lane, loss_checks, small_ratings

OWN = "own"  # infinite where there is no rating


def squared_logarithm(prediction, rating):
    return (prediction - jnp.log(rating)) ** 2 / 2


@pytest.fixture(autouse=True)
def own(monkeypatch):
    monkeypatch.setitem(LOSSES, OWN, squared_logarithm)


ALL = (*LOSSES, OWN)
OTHERS = [name for name in ALL if name != SPEC.loss]


def spec_of(loss, **changes):
    return replace(SPEC, loss=loss, **changes)


# the table


@pytest.mark.parametrize("loss", ALL)
def test_every_loss_keeps_its_contract(loss):
    for check in loss_checks(loss_of(loss)).values():
        check()


def test_a_slope_that_is_another_is_seen():
    broken = loss_of("huber")._replace(slope=lambda p, r, delta: p - r)
    checks = loss_checks(broken)
    for name in ("its slope is jax.grad", "its slope is the difference"):
        with pytest.raises(AssertionError, match="relative error"):
            checks[name]()


BY_HAND = {  # the value and the slope of one prediction, of hyperparameters d and w
    "squared": lambda p, r, d, w: ((p - r) ** 2 / 2, p - r),
    "huber": lambda p, r, d, w: (
        ((p - r) ** 2 / 2, p - r)
        if abs(p - r) <= d
        else (d * (abs(p - r) - d / 2), d * np.sign(p - r))
    ),
    "absolute": lambda p, r, d, w: (np.hypot(p - r, w) - w, (p - r) / np.hypot(p - r, w)),
    "logistic": lambda p, r, d, w: (np.log1p(np.exp(p)) - r * p, 1 / (1 + np.exp(-p)) - r),
    "poisson": lambda p, r, d, w: (np.exp(p) - r * p, np.exp(p) - r),
    OWN: lambda p, r, d, w: ((p - np.log(r)) ** 2 / 2, p - np.log(r)),
}
CENTRES = {"logistic": lambda mean: np.log(mean / (1 - mean)), "poisson": np.log}


def test_every_loss_is_written_by_hand_too():
    assert set(BY_HAND) == set(ALL)


def test_a_link_is_a_rating_wherever_the_prediction_is():
    scores = np.array([-1e4, -3.0, 0.0, 3.0, 1e4])
    for numbers in (scores, jnp.asarray(scores), scores.astype("float32")):
        shares = np.asarray(LINKS["logit"].rating(numbers))
        rates = np.asarray(LINKS["log"].rating(numbers))
        assert shares.min() == 0 and shares.max() == 1 and shares[2] == 0.5
        assert rates.min() == 0 and rates[2] == 1 and np.isfinite(rates).all()
    for link, means in (("logit", (0.0, 1.0)), ("log", (0.0,))):
        assert all(np.isfinite(LINKS[link].inverse(np.asarray(mean))) for mean in means)


# gradients

DERIVED = [name for name in GRADIENTS if name not in ("autodiff", "native")]
OFTEN = ("huber",)  # the others are slow tests


def with_marks(losses):
    return [pytest.param(loss, marks=[] if loss in OFTEN else pytest.mark.slow) for loss in losses]


@pytest.mark.parametrize("loss", with_marks(OTHERS))
@pytest.mark.parametrize("name", DERIVED)
def test_every_gradient_is_jax_grad_of_every_loss(name, loss):
    spec = spec_of(loss)
    ratings = small_ratings(loss=loss)
    theirs = at("autodiff", spec, ratings)
    assert all(np.isfinite(side).all() for side in theirs[1])
    assert_same(at(name, spec, ratings), theirs, compiled(name, spec).tolerance)


@pytest.mark.slow
def test_devices_share_the_rows_and_a_kernel_has_the_objective_alone():
    spec = spec_of("huber", tiling=Tiling(shards=2))
    ratings = small_ratings()
    kernel = KERNELS["xla"](spec)
    layout = jax.device_put(kernel.prepare(ratings))
    of_lane = lane_terms(layout.sums, LANE, spec)
    factors = pinned_factors()
    theirs = at("autodiff", spec_of("huber"), ratings, factors=factors)
    assert_same(jax.jit(kernel.gradient)(factors, layout, of_lane), theirs, 1e-10)
    objective = jax.jit(kernel.objective)(factors, layout, of_lane)
    assert float(objective) == pytest.approx(float(theirs[0]), rel=1e-12)


@pytest.mark.parametrize("loss", with_marks(OTHERS))
def test_the_objective_is_the_sum_by_hand(loss):
    """Without biases, whose μ the test of SGD has."""
    spec = spec_of(loss, bias=False)
    ratings = small_ratings(loss=loss)
    factors = mfjax.testing.random_factors(spec)
    user, item = (side * (np.arange(3) < 2) for side in factors)
    kept = held_in(ratings)
    expected = 0.0
    for n in np.flatnonzero(kept):
        i, j = ratings.user[n], ratings.item[n]
        cost, _ = BY_HAND[loss](user[i] @ item[j], ratings.value[n], 1.0, 0.1)
        expected += ratings.weight[n] * cost
    for side, rows in zip((user, item), (ratings.user, ratings.item), strict=True):
        counts = np.bincount(rows[kept], minlength=len(side))
        expected += 0.3 / 2 * (np.maximum(counts, 1) @ (side**2)).sum()
    found, _ = at("coo", spec, ratings, factors=factors)
    assert float(found) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    "loss, key", [(loss, key) for loss in LOSSES for key in loss_of(loss).reads]
)
def test_another_value_is_no_other_trace_and_vmap_is_a_loop(loss, key):
    gradient = GRADIENTS["coo"](spec_of(loss))
    ratings = small_ratings(loss=loss)
    layout = jax.device_put(gradient.prepare(ratings))
    factors = pinned_factors()
    traces = []

    @jax.jit
    def counted(hparams):
        traces.append(hparams)
        return gradient.value_and_grad(factors, layout, hparams)

    values = np.array([0.05, 0.4, 1.5])
    alone = [counted(lane(**{key: value})) for value in values]
    assert len(traces) == 1
    assert len({float(value) for value, _ in alone}) == 3
    lanes = jax.tree.map(lambda leaf: np.repeat(leaf, 3), LANE)._replace(**{key: values})
    together = jax.jit(jax.vmap(gradient.value_and_grad, (None, None, 0)))(factors, layout, lanes)
    for i, one in enumerate(alone):
        jax.tree.map(
            lambda ours, theirs, i=i: np.testing.assert_allclose(ours[i], theirs, rtol=1e-10),
            together,
            one,
        )


def test_what_is_read_is_a_hyperparameter_of_one_loss_alone():
    assert sorted(HPARAMS) == sorted({*HPARAMS})
    assert {*HPARAMS} <= {*mfjax.Hparams._fields}


# sgd


@pytest.mark.parametrize("loss", with_marks(ALL))
def test_batches_of_one_are_one_pair_at_a_time(loss):
    ratings = small_ratings(loss=loss)
    start = pinned_factors()
    method = make("sgd", spec_of(loss), kernel="xla", batch_size=1)
    (_, after), (info,) = epochs(method, ratings, LANE, 1, start)
    kept = held_in(ratings)
    mean = np.average(ratings.value[kept], weights=ratings.weight[kept])
    centre = CENTRES.get(loss, lambda mean: mean)(mean)
    user_reg = np.array([0.3, 0.3, 0, 0.07, 0])
    item_reg = np.array([0.3, 0.3, 0, 0, 0.07])
    user, item = map(np.copy, start)
    cost = 0.0
    for n in order(19, 0, 0, np):
        if kept[n]:
            i, j = ratings.user[n], ratings.item[n]
            u, v = user[i].copy(), item[j].copy()
            value, slope = BY_HAND[loss](centre + u @ v, ratings.value[n], 1.0, 0.1)
            cost += ratings.weight[n] * value
            error = ratings.weight[n] * slope
            user[i] -= 0.02 * (error * v * [1, 1, 0, 1, 0] + user_reg * u)
            item[j] -= 0.02 * (error * u * [1, 1, 0, 0, 1] + item_reg * v)
    assert_close(after, (user, item), 1e-12)
    for side, reg, rows in (
        (user, user_reg, ratings.user),
        (item, item_reg, ratings.item),
    ):
        counts = np.maximum(np.bincount(rows[kept], minlength=len(side)), 1)
        cost += (counts @ (side**2 * reg)).sum() / 2
    assert float(info.loss) == pytest.approx(cost, rel=1e-10)


# what needs squares


def test_missing_entries_need_squares():
    with pytest.raises(InputError, match=r"missing=zero needs loss=squared, got loss=huber; use"):
        spec_of("huber", missing="zero")


@pytest.mark.parametrize("name", ["als", "als_cg"])
def test_what_solves_for_squares_refuses_other_losses(name):
    said = f"method={name} solves for squares and needs loss=squared, got loss=poisson; use method="
    with pytest.raises(InputError, match=said):
        METHODS[name](spec_of("poisson"))


@pytest.mark.parametrize("make", [KERNELS["native"], GRADIENTS["native"]], ids=["kernel", "grad"])
def test_the_compiled_kernel_refuses_other_losses(make):
    with pytest.raises(InputError, match="needs loss=squared, got loss=absolute; use kernel=xla"):
        make(spec_of("absolute"))


def test_the_kernel_that_is_chosen_has_the_loss():
    chosen = choice(loss="huber")
    assert (chosen.name, chosen.is_lacking) == ("xla", False)
    if choice().name == "native":
        assert chosen.reason == "the compiled kernels have loss=squared alone, not huber"
    assert choice("native", loss="huber").name == "native"  # which refuses by itself
    assert "native" not in available(GRADIENTS, "huber")


@pytest.mark.parametrize(
    "loss, message",
    [
        ("logistic", "loss=logistic takes ratings from 0 to 1, and 2 of 3 are others, such as 2"),
        ("poisson", "loss=poisson takes ratings of 0 or more, and 1 of 3 are others, such as -1"),
    ],
)
def test_a_rating_that_a_loss_does_not_take_is_refused(loss, message):
    ratings = Ratings.of([0, 1, 2], [0, 0, 0], [0.5, 2, -1]).padded(5)
    with pytest.raises(InputError, match=message):
        refuse_ratings(loss, ratings)
    refuse_ratings(loss, ratings._replace(weight=np.float32([1, 0, 0, 0, 0])))
    refuse_ratings("huber", ratings)


def test_a_loss_of_ones_own_is_one_of_scalars():
    made = loss_of(OWN)
    assert isinstance(made, Loss)
    assert (made.link, made.reads) == ("identity", ())
    prediction = jnp.linspace(-1, 1, 6).reshape(2, 3)
    rating = jnp.full((2, 3), 2.0)
    np.testing.assert_allclose(made.slope(prediction, rating), prediction - np.log(2))


# a whole fit


def made(value_of, seed=0):
    """300 ratings by 30 users of 20 items, whose score is of rank 1."""
    rng = np.random.default_rng(seed)
    user, item = np.unravel_index(rng.permutation(30 * 20)[:300], (30, 20))
    score = np.outer(rng.normal(size=30), rng.normal(size=20))[user, item]
    return mfjax.from_ids("made", user, item, value_of(rng, score))


def yes_or_no(rng, score):
    return rng.random(300) < 1 / (1 + np.exp(-4 * score))


def counts(rng, score):
    return rng.poisson(np.exp(np.clip(score, -2, 2)))


@pytest.mark.slow
@pytest.mark.parametrize("loss, value_of", [("poisson", counts), ("logistic", yes_or_no)])
def test_predictions_are_of_ratings_and_a_saved_model_knows_its_loss(loss, value_of, tmp_path):
    data = made(value_of)
    model = mfjax.fit(data, loss=loss, rank=2, epochs=60, learning_rate=0.03, clip=False)
    users = data.user_ids[data.user]
    items = data.item_ids[data.item]
    predicted = model.predict(users, items)
    assert predicted.min() > 0
    assert loss != "logistic" or predicted.max() < 1
    value = np.asarray(data.value, float)
    assert ((predicted - value) ** 2).mean() < 0.8 * value.var()
    user, item = users[0], items[0]
    (best, rating), *_ = model.top(user, n=1)
    assert rating == pytest.approx(model.predict(user, best), rel=1e-6)
    model.save(tmp_path / "model")
    loaded = mfjax.load(tmp_path / "model")
    assert loaded.loss == loss
    assert loaded.predict(user, item) == model.predict(user, item)
    with pytest.raises(
        InputError, match=f"needs a model of loss=squared, and this one is of .*{loss}"
    ):
        loaded.fold_in(99, {int(item): 1})


def test_metrics_in_training_are_of_ratings_too():
    data = made(counts)
    split = mfjax.SPLITS["random"](data, 0)
    problem = mfjax.Problem.of(data, split)
    plan = mfjax.Plan(
        spec=mfjax.Spec(30, 20, max_rank=2, loss="poisson"),
        method=lambda spec: METHODS["descent"](
            spec, gradient=GRADIENTS["coo"](spec), optimizer=mfjax.optimizer("adam")
        ),
        problems={(0, 0): problem},
        schedule=mfjax.Schedule(epochs=5),
    )
    (fit,) = mfjax.Sweep(plan, 1).train([mfjax.Lane(mfjax.Hparams(rank=2), 5)])
    assert fit.loss == "poisson"
    validation = problem.ratings.fold == 0
    predicted = np.clip(mfjax.predictions(fit, problem.ratings), *problem.bounds)
    errors = (predicted - problem.ratings.value)[validation]
    rmse = np.sqrt((errors**2).mean())
    assert fit.at_best("validation_rmse") == pytest.approx(rmse, rel=1e-5)


def test_new_users_are_folded_in_by_squares_alone():
    data = made(counts)
    fold_in = {"method": "sgd", "split": "users", "rank": 2, "epochs": 1}
    with pytest.raises(InputError, match="folding new users in needs loss=squared, got loss=huber"):
        mfjax.fit(data, loss="huber", **fold_in)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"loss": "hubert"}, "loss: expected one of squared, huber, "),
        ({"huber_delta": 2.0}, "huber_delta has no effect with loss='squared'"),
        ({"loss": "huber", "absolute_width": 1}, "absolute_width has no effect with loss='huber'"),
        ({"loss": "huber", "huber_delta": 0}, "huber_delta: expected a positive number, got 0"),
        ({"loss": "huber", "method": "als"}, "method=als solves for squares and needs loss=sq"),
        ({"loss": "huber", "kernel": "native"}, "native .* needs loss=squared, got loss=huber"),
        ({"loss": "logistic"}, "loss=logistic takes ratings from 0 to 1, and "),
    ],
)
def test_a_setting_that_does_not_suit_the_loss_is_refused(settings, message):
    with pytest.raises(InputError, match=message):
        mfjax.fit(made(counts), rank=2, epochs=1, **settings)
