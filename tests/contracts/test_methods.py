"""Each update is the one that its docstring states, of every method and optimiser."""

from dataclasses import replace
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import (
    OPTIMIZERS,
    PLAIN,
    assert_close,
    at,
    configured,
    epochs,
    held_in,
    laid_out,
    make,
    method_of,
    pinned_factors,
)
from marks import often

from mfjax import Factors, Hparams, InputError, Ratings, optimizer
from mfjax.kernels.order import order
from mfjax.methods.optimizers import SCHEDULES
from mfjax.testing import SPEC, lane
from mfjax.types import LOSS_SCALE, NO_FOLD, REG_BY

HPARAMS = lane()
EVERYONE = lane(fold=NO_FOLD)


def sgd(spec=SPEC, batch_size=4, opt=PLAIN):
    return make("sgd", spec, batch_size=batch_size, opt=opt)


def descent(spec=SPEC, opt=PLAIN):
    return make("descent", spec, opt=opt)


def full_gradient(spec, ratings, hparams, factors):
    """The loss and the gradient of `coo`, which its contract checks."""
    loss, grad = at("coo", spec, ratings, hparams, factors)
    return float(loss), jax.tree.map(np.array, grad)


def without_cold_rows(ratings):
    """The same ratings, of which some are of user 3 and item 2: every row has one."""
    place = np.arange(len(ratings.value))
    return ratings._replace(
        user=np.where(place == 13, 3, ratings.user).astype(np.int32),
        item=np.where(place == 2, 2, ratings.item).astype(np.int32),
    )


# every optimiser, but for those with which test_method_contracts.py holds a method to all of its
# contract

PAIRS = [
    (name, opt)
    for name in ("sgd", "descent")
    for opt in OPTIMIZERS
    if (name, opt) not in {("sgd", "lbfgs"), ("sgd", "sgd")} and opt != "lazy_adam"
]


@pytest.mark.parametrize("name, opt", often(PAIRS, one_of=3))
def test_every_optimiser_lowers_the_loss_and_leaves_pinned_columns(ratings, name, opt):
    own = {"batch_size": 4} if name == "sgd" else {}
    method = make(name, opt=configured(opt), **own)
    factors, infos = epochs(method, ratings, HPARAMS, 6, pinned_factors())
    losses = [full_gradient(SPEC, ratings, HPARAMS, f)[0] for f in (factors[0], factors[-1])]
    assert losses[1] < 0.98 * losses[0]
    assert all(np.isfinite(info.loss) and info.update_norm > 0 for info in infos)
    # the surplus column 2, then 1 against the other side's bias
    for side, pinned in zip(factors[-1], (4, 3), strict=True):
        np.testing.assert_array_equal(side[:, 2], 0)
        np.testing.assert_array_equal(side[:, pinned], 1)
        assert np.all(np.any(side[:, [0, 1, 7 - pinned]] != 0, axis=0))


# descent


@pytest.mark.parametrize("missing", ["ignore", "zero"])
def test_descent_with_sgd_is_the_update_by_hand(ratings, missing):
    spec = replace(SPEC, missing=missing)
    expected = pinned_factors()
    (_, *after), infos = epochs(descent(spec), ratings, HPARAMS, 2, expected)
    for factors, info in zip(after, infos, strict=True):
        loss, grad = full_gradient(spec, ratings, HPARAMS, expected)
        expected = Factors(*(x - 0.02 * g for x, g in zip(expected, grad, strict=True)))
        moved = 0.02 * np.hypot(*map(np.linalg.norm, grad))
        assert_close(factors, expected, 1e-13)
        assert float(info.loss) == pytest.approx(loss, rel=1e-12)
        assert float(info.update_norm) == pytest.approx(moved, rel=1e-10)


def test_momentum_is_the_heavy_ball(ratings):
    hparams = lane(momentum=0.7)
    factors, _ = epochs(descent(opt=configured("momentum")), ratings, hparams, 3)
    x = factors[0]
    velocity = Factors(0.0, 0.0)
    for after in factors[1:]:
        _, grad = full_gradient(SPEC, ratings, hparams, x)
        velocity = Factors(*(0.7 * v + g for v, g in zip(velocity, grad, strict=True)))
        x = Factors(*(a - 0.02 * v for a, v in zip(x, velocity, strict=True)))
        assert_close(after, x, 1e-12)


def test_lbfgs_reaches_the_ridge_optimum(ratings):
    """Rank 0 is ridge regression on biases, whose normal equations NumPy solves."""
    hparams = lane(rank=0, fold=NO_FOLD)
    start = pinned_factors(hparams=hparams)
    (*_, last), infos = epochs(descent(opt=configured("lbfgs")), ratings, hparams, 45, start)
    rows = ratings.weight > 0
    user, item, value, weight, _ = (column[rows] for column in ratings)
    x = np.hstack([np.eye(6)[user], np.eye(5)[item]])
    counts = np.maximum(x.sum(0), 1)
    centred = value - np.average(value, weights=weight)
    normal = (x.T * weight) @ x + np.diag(0.07 * counts)
    biases = np.linalg.solve(normal, (x.T * weight) @ centred)
    found = np.concatenate([last.user[:, 3], last.item[:, 4]])
    np.testing.assert_allclose(found, biases, atol=1e-8)
    assert float(infos[-1].loss) < 0.9 * float(infos[0].loss)


# sgd


@pytest.mark.parametrize("reg_by, loss_scale", often(product(REG_BY, LOSS_SCALE), one_of=4))
def test_an_epoch_of_batches_sums_to_the_gradient(ratings, reg_by, loss_scale):
    spec = replace(SPEC, reg_by=reg_by, loss_scale=loss_scale)
    rate = 1e-7
    start = pinned_factors()
    hparams = lane(learning_rate=rate)
    (_, after), (info,) = epochs(sgd(spec), ratings, hparams, 1, start)
    loss, grad = full_gradient(spec, ratings, hparams, start)
    moved = [(before - x) / rate for before, x in zip(start, after, strict=True)]
    visited = held_in(ratings)
    n = visited.sum()
    strength = {"half": 1, "sum": 2, "mean": 1 / n}[loss_scale] * (n if reg_by == "total" else 1)
    for side, index in enumerate((ratings.user, ratings.item)):
        # no batch visits a cold row: its regulariser is not in the epoch
        (cold,) = set(range(len(grad[side]))) - set(index[visited])
        reg = 0.3 * np.array([1, 1, 0, 0, 0]) + 0.07 * np.eye(5)[3 + side]
        grad[side][cold] -= strength * reg * start[side][cold]
    assert_close(moved, grad, 1e-5)  # the factors move by 1e-7 of the gradient within the epoch
    assert float(info.loss) == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("opt", ["sgd", "momentum", "adam"])
def test_one_batch_of_everything_is_descent(ratings, opt):
    everyone = without_cold_rows(
        ratings._replace(user=np.where(ratings.user == 5, 3, ratings.user))
    )
    spec = replace(SPEC, num_users=5)
    start = pinned_factors(spec)
    methods = sgd(spec, 32, configured(opt)), descent(spec, configured(opt))
    (ours, _), (theirs, _) = (epochs(method, everyone, EVERYONE, 2, start) for method in methods)
    for a, b in zip(ours, theirs, strict=True):
        assert_close(a, b, 1e-9)  # Adam divides by small gradients; the others agree to 1e-15


@pytest.mark.parametrize(
    "schedule, rate, tolerance",
    [
        ("constant", lambda nth: 0.02, 1e-12),
        ("linear", lambda nth: 0.02 * (1 - nth / 19), 1e-7),  # which optax computes in float32
    ],
)
def test_batches_of_one_are_one_pair_at_a_time(ratings, schedule, rate, tolerance):
    """A schedule counts batches."""
    start = pinned_factors()
    method = sgd(batch_size=1, opt=optimizer("sgd", schedule=schedule, final=0.0, epochs=1))
    (_, after), _ = epochs(method, ratings, HPARAMS, 1, start)
    kept = held_in(ratings)
    mean = np.average(ratings.value[kept], weights=ratings.weight[kept])
    user_reg = np.array([0.3, 0.3, 0, 0.07, 0])
    item_reg = np.array([0.3, 0.3, 0, 0, 0.07])
    user, item = map(np.copy, start)
    for nth, n in enumerate(order(19, 0, 0, np)):
        if kept[n]:
            i, j = ratings.user[n], ratings.item[n]
            u, v = user[i].copy(), item[j].copy()
            error = ratings.weight[n] * (u @ v - (ratings.value[n] - mean))
            user[i] -= rate(nth) * (error * v * [1, 1, 0, 1, 0] + user_reg * u)
            item[j] -= rate(nth) * (error * u * [1, 1, 0, 0, 1] + item_reg * v)
    assert_close(after, (user, item), tolerance)


def started(method, ratings, hparams):
    """The state before the first epoch."""
    return method.init(jax.random.key(0), laid_out(method, ratings), hparams, pinned_factors())


def after_batch(places, method, ratings, state, hparams):
    """The state after an epoch of one batch, the ratings at some places."""
    batch = laid_out(method, Ratings(*(column[places] for column in ratings)))
    after, _ = method.step(state, batch, hparams, 0)
    return after


@pytest.mark.parametrize(
    "opt, others_move",
    [("sgd", False), ("momentum", True), ("lazy_adam", False), ("lazy_adagrad", False)],
)
def test_a_batch_moves_the_rows_that_it_touches(ratings, opt, others_move):
    method = sgd(opt=configured(opt))
    state = started(method, ratings, EVERYONE)
    state = after_batch([7, 8, 9, 10], method, ratings, state, EVERYONE)  # user 2
    # user 1, and padding at (0, 0)
    after = after_batch([4, 5, 6, 18], method, ratings, state, EVERYONE)
    users, items = (
        np.any(np.asarray(new != old), axis=1)
        for new, old in zip(after.factors, state.factors, strict=True)
    )
    assert users.tolist() == [False, True, others_move, False, False, False]
    touched = set(ratings.item[[4, 5, 6]])
    touched |= set(ratings.item[[7, 8, 9, 10]]) if others_move else set()
    assert set(np.flatnonzero(items)) == touched
    assert 0 < len(touched) < 5


@pytest.mark.parametrize("missing", ["item_mean", "zero"])
def test_sgd_refuses_missing_entries(missing):
    with pytest.raises(InputError, match=f"missing=ignore, got {missing}.*method=descent"):
        method_of("sgd", replace(SPEC, missing=missing))


# lazy optimisers


def moments(state):
    """The rows of users and items in each table of an optimiser's memory."""
    leaves = jax.tree.leaves(state.optimizer, is_leaf=lambda leaf: isinstance(leaf, Factors))
    tables = [np.concatenate(leaf) if isinstance(leaf, Factors) else leaf for leaf in leaves]
    return [np.asarray(table)[:11] for table in tables if np.ndim(table) == 2]


@pytest.mark.parametrize("opt, tables", [("lazy_adam", 2), ("lazy_adagrad", 1)])
def test_a_lazy_batch_leaves_moments_alone_that_it_does_not_touch(ratings, opt, tables):
    method = sgd(opt=configured(opt))
    out = np.flatnonzero(ratings.fold == HPARAMS.fold)
    state = started(method, ratings, HPARAMS)
    states = []
    for places in ([7, 9, 10, 4], [3, 4, 16, out[0]], [*out[:3], 18]):
        state = after_batch(places, method, ratings, state, HPARAMS)
        states.append(state)
    first, after, nothing = states
    assert len(moments(first)) == tables
    touched = {*ratings.user[[3, 4]], *(6 + ratings.item[[3, 4]])}
    for before, now in zip(moments(first), moments(after), strict=True):
        assert set(np.flatnonzero(np.any(before != now, axis=1))) == touched
    jax.tree.map(np.testing.assert_array_equal, after.factors, nothing.factors)
    jax.tree.map(np.testing.assert_array_equal, moments(after), moments(nothing))


@pytest.mark.parametrize("opt", ["adam", "adagrad"])
def test_a_row_that_comes_twice_has_one_update_of_the_summed_gradient(ratings, opt):
    start = pinned_factors()

    def moved(opt):
        method = sgd(opt=configured(opt))
        state = started(method, ratings, EVERYONE)
        places = [0, 1, 4, 18]  # user 0 twice, and padding there
        return after_batch(places, method, ratings, state, EVERYONE).factors

    plain, lazy = moved("sgd"), moved(f"lazy_{opt}")
    summed = Factors(*((a - b) / 0.02 for a, b in zip(start, plain, strict=True)))
    solver = configured(opt).make(EVERYONE, 1)
    updates, _ = solver.update(summed, solver.init(start), start)
    expected = optax.apply_updates(start, updates)
    assert_close(lazy, expected, 1e-9)  # Adam divides by small gradients


def test_lazy_adagrad_is_adagrad(ratings):
    """A row that no rating touches has no gradient, and Adagrad forgets nothing."""
    (*_, dense), _ = epochs(sgd(opt=configured("adagrad")), ratings, HPARAMS, 3)
    (*_, lazy), _ = epochs(sgd(opt=configured("lazy_adagrad")), ratings, HPARAMS, 3)
    assert_close(lazy, dense, 1e-12)


@pytest.mark.parametrize("batch_size, same", [(32, True), (4, False)])
def test_lazy_adam_is_adam_only_where_every_batch_touches_every_row(ratings, batch_size, same):
    everyone = without_cold_rows(ratings)

    def trained(opt):
        method = sgd(batch_size=batch_size, opt=configured(opt))
        return epochs(method, everyone, EVERYONE, 3, pinned_factors())[0][-1]

    for dense, lazy in zip(trained("adam"), trained("lazy_adam"), strict=True):
        # Adam divides by small gradients
        assert np.allclose(dense, lazy, rtol=0, atol=1e-9) == same


@pytest.mark.parametrize("name", ["sgd", "adam", "adagrad", "rmsprop", "lion", "adamw"])
def test_what_treats_each_entry_by_itself_may_be_lazy(name):
    is_plain = name == "sgd"  # which moves no other rows anyway
    assert optimizer(name, lazy=True).moves == ("rows" if is_plain else "lazy")
    assert optimizer(name).moves == ("rows" if is_plain else "table")


@pytest.mark.parametrize("name", ["lamb", "lars", "lbfgs", "adafactor"])
def test_what_mixes_entries_may_not_be_lazy(name):
    reads = () if name == "lbfgs" else ("learning_rate",)
    with pytest.raises(InputError, match=f"lazy=true.* such as adam; {name} does not"):
        optimizer(name, reads=reads, lazy=True)


def test_only_plain_sgd_moves_rows():
    assert [name for name in OPTIMIZERS if configured(name).moves == "rows"] == ["sgd"]
    assert optimizer("sgd", options={"momentum": 0.9}).moves == "table"


# where they start


def test_initial_factors(ratings):
    method = descent()
    layout = laid_out(method, ratings)
    start = method.init(jax.random.key(1), layout, EVERYONE).factors
    for side, cold, pinned in zip(start, (3, 2), (4, 3), strict=True):
        warm = np.delete(np.asarray(side), cold, axis=0)
        drawn = warm[:, :2]
        assert 0.03 < drawn.std() < 0.3  # init_scale 0.1
        assert drawn.size == len(np.unique(drawn))
        undrawn = np.eye(5)[pinned]
        np.testing.assert_array_equal(side[cold], undrawn)  # nobody knows anything of this row
        np.testing.assert_array_equal(warm[:, 2:], np.tile(undrawn[2:], (len(warm), 1)))
    twice = method.init(jax.random.key(1), layout, lane(fold=NO_FOLD, init_scale=0.2)).factors
    np.testing.assert_allclose(twice.user[:, :2], 2 * start.user[:, :2])
    other = method.init(jax.random.key(2), layout, EVERYONE).factors
    assert not np.array_equal(other.user, start.user)


def test_a_column_is_drawn_alike_whatever_the_rank(ratings):
    def start(max_rank, rank):
        method = descent(replace(SPEC, max_rank=max_rank))
        layout = laid_out(method, ratings)
        return method.init(jax.random.key(3), layout, lane(rank=rank)).factors

    small, large, full = start(3, 2), start(6, 2), start(6, 6)
    for a, b, c in zip(small, large, full, strict=True):
        np.testing.assert_array_equal(a[:, :2], b[:, :2])
        np.testing.assert_array_equal(c[:, :2], b[:, :2])
        assert np.any(a[:, :2] != 0)


# optimisers and schedules


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules_end_at_their_final_factor(schedule):
    opt = optimizer("sgd", schedule=schedule, final=0.1, epochs=4).make(HPARAMS, 5)
    state = opt.init(jnp.zeros(1))
    rates = []
    for _ in range(21):
        update, state = opt.update(jnp.ones(1), state)
        rates.append(float(-update[0]) / 0.02)
    first, last = {"constant": (1, 1), "warmup_cosine": (0, 0.1)}.get(schedule, (1, 0.1))
    assert (rates[0], rates[-1], max(rates)) == pytest.approx((first, last, 1))


def test_descent_follows_a_schedule_an_epoch_an_update(ratings):
    opt = optimizer("sgd", schedule="linear", final=0.0, epochs=2)
    factors, _ = epochs(descent(opt=opt), ratings, HPARAMS, 3)
    expected, _ = epochs(descent(), ratings, lane(learning_rate=0.01), 1, factors[1])
    assert_close(factors[2], expected[1], 1e-14)
    np.testing.assert_array_equal(factors[3].user, factors[2].user)


REFUSED = {
    "no such optimiser": ({"name": "adamm"}, "adamm"),
    "not an optimiser": ({"name": "huber_loss"}, "huber_loss"),
    "unknown option": ({"name": "adam", "options": {"beta": 1}}, "no beta\nit takes: .*b1"),
    "unknown hparam": (
        {"name": "adam", "reads": ("learning_rate", "momentum")},
        "no momentum",
    ),
    "unknown schedule": ({"schedule": "step"}, "constant, linear.*step"),
    "nothing to schedule": ({"name": "lbfgs", "reads": (), "schedule": "cosine"}, "none"),
}


@pytest.mark.parametrize("arguments, message", REFUSED.values(), ids=REFUSED)
def test_optimisers_that_do_not_exist_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        optimizer(**arguments)


def test_options_reach_optax():
    def updated(opt):
        return float(opt.update(jnp.ones(1), opt.init(jnp.ones(1)), jnp.ones(1))[0][0])

    ours = updated(optimizer("adam", options={"eps": 1.0}).make(Hparams(), 1))
    assert ours == pytest.approx(updated(optax.adam(0.02, eps=1.0)))
    assert ours != pytest.approx(updated(optax.adam(0.02)))
