"""Methods and optimisers: every one trains, and each update is the one that its docstring states."""

import functools
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from omegaconf import OmegaConf

from mfjax import GRADIENTS, METHODS, Factors, Hparams, InputError, Spec, optimizer
from mfjax.methods.optimizers import SCHEDULES
from mfjax.methods.sgd import shuffle
from mfjax.types import LOSS_SCALE, NO_FOLD, REG_BY

CONF = Path(__file__).parents[1] / "conf" / "optimizer"
OPTIMIZERS = {path.stem: optimizer(**OmegaConf.to_container(OmegaConf.load(path))) for path in sorted(CONF.glob("*.yaml"))}
SPEC = Spec(6, 5, max_rank=3, dtype="float64", batch_size=4)
HPARAMS = Hparams.of("float64", reg=0.3, reg_bias=0.07, rank=2, fold=1)
PLAIN = OPTIMIZERS["sgd"]


@functools.cache
def make(name, spec=SPEC, opt=PLAIN):
    method = METHODS[name](spec, GRADIENTS["coo"](spec), opt)
    return method._replace(init=jax.jit(method.init), step=jax.jit(method.step))


@functools.cache
def full(spec):
    gradient = GRADIENTS["coo"](spec)  # which tests/test_gradients.py checks
    return gradient._replace(value_and_grad=jax.jit(gradient.value_and_grad))


def epochs(method, ratings, hparams, count, factors=None):
    """The states and infos of `count` epochs, `[0]` the start."""
    layout = jax.device_put(method.prepare(ratings))
    states, infos = [method.init(jax.random.key(0), layout, hparams, factors)], []
    for epoch in range(count):
        state, info = method.step(states[-1], layout, hparams, method.order(len(ratings.value), 0, epoch))
        states.append(state)
        infos.append(info)
    return [state.factors for state in states], infos


def random_factors(spec=SPEC, hparams=HPARAMS):
    """Normal factors with the pinned columns at their pins."""
    rng = np.random.default_rng(0)
    user, item = rng.normal(size=(spec.num_users, spec.columns)), rng.normal(size=(spec.num_items, spec.columns))
    for side, pin in ((user, spec.max_rank + 1), (item, spec.max_rank)):
        side[:, int(hparams.rank) : spec.max_rank] = 0
        if spec.bias:
            side[:, pin] = 1
    return Factors(user, item)


def held_in(ratings):
    return (ratings.weight > 0) & (ratings.fold != HPARAMS.fold)


def full_gradient(spec, ratings, hparams, factors):
    gradient = full(spec)
    loss, grad = gradient.value_and_grad(factors, gradient.prepare(ratings), hparams)
    return float(loss), jax.tree.map(np.array, grad)


def assert_close(ours, theirs, tolerance):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(np.abs(b).max(), 1))


# every method with every optimiser


@pytest.mark.parametrize(
    "name, opt",
    [(m, o) for m in METHODS for o in OPTIMIZERS if (m, o) != ("sgd", "lbfgs") and (o == "sgd" or make(m).takes)],
)
def test_every_optimiser_lowers_the_loss_and_leaves_pinned_columns(ratings, name, opt):
    hparams = HPARAMS._replace(momentum=np.float64(0.5))
    factors, infos = epochs(make(name, opt=OPTIMIZERS[opt]), ratings, hparams, 6, random_factors())
    losses = [full_gradient(SPEC, ratings, hparams, f)[0] for f in (factors[0], factors[-1])]
    assert losses[1] < 0.98 * losses[0]
    assert all(np.isfinite(info.loss) and info.update_norm > 0 for info in infos)
    for side, pin in zip(factors[-1], (4, 3), strict=True):  # the surplus column 2, then 1 against the other side's bias
        np.testing.assert_array_equal(side[:, 2], 0)
        np.testing.assert_array_equal(side[:, pin], 1)
        assert np.all(np.any(side[:, [0, 1, 7 - pin]] != 0, axis=0))


def test_only_plain_sgd_is_rowwise():
    assert [name for name, opt in OPTIMIZERS.items() if opt.rowwise] == ["sgd"]
    assert not optimizer("sgd", options={"momentum": 0.9}).rowwise


# descent


@pytest.mark.parametrize("missing", ["ignore", "zero"])
def test_descent_with_sgd_is_the_update_by_hand(ratings, missing):
    spec, start = replace(SPEC, missing=missing), random_factors()
    (_, *after), infos = epochs(make("descent", spec), ratings, HPARAMS, 2, start)
    for factors, info in zip(after, infos, strict=True):
        loss, grad = full_gradient(spec, ratings, HPARAMS, start)
        start = Factors(*(x - 0.02 * g for x, g in zip(start, grad, strict=True)))
        assert_close(factors, start, 1e-13)
        assert float(info.loss) == pytest.approx(loss, rel=1e-12)
        assert float(info.update_norm) == pytest.approx(0.02 * np.hypot(*map(np.linalg.norm, grad)), rel=1e-10)


def test_momentum_is_the_heavy_ball(ratings):
    hparams = HPARAMS._replace(momentum=np.float64(0.7))
    factors, _ = epochs(make("descent", opt=OPTIMIZERS["momentum"]), ratings, hparams, 3)
    x, velocity = factors[0], Factors(0.0, 0.0)
    for after in factors[1:]:
        grad = full_gradient(SPEC, ratings, hparams, x)[1]
        velocity = Factors(*(0.7 * v + g for v, g in zip(velocity, grad, strict=True)))
        x = Factors(*(a - 0.02 * v for a, v in zip(x, velocity, strict=True)))
        assert_close(after, x, 1e-12)


def test_lbfgs_reaches_the_ridge_optimum(ratings):
    """Rank 0 is ridge regression on biases, whose normal equations NumPy solves."""
    hparams = HPARAMS._replace(rank=np.int32(0), fold=np.int32(NO_FOLD))
    start = random_factors(hparams=hparams)
    factors, infos = epochs(make("descent", opt=OPTIMIZERS["lbfgs"]), ratings, hparams, 45, start)
    rows = ratings.weight > 0
    user, item, value, weight = (x[rows] for x in ratings[:4])
    design = np.eye(6)[user], np.eye(5)[item]
    x, counts = np.hstack(design), np.maximum(np.concatenate([d.sum(0) for d in design]), 1)
    centred = value - np.average(value, weights=weight)
    biases = np.linalg.solve((x.T * weight) @ x + np.diag(0.07 * counts), (x.T * weight) @ centred)
    np.testing.assert_allclose(np.concatenate([factors[-1].user[:, 3], factors[-1].item[:, 4]]), biases, atol=1e-8)
    assert float(infos[-1].loss) < 0.9 * float(infos[0].loss)


# sgd


@pytest.mark.parametrize("loss_scale", LOSS_SCALE)
@pytest.mark.parametrize("reg_by", REG_BY)
def test_an_epoch_of_batches_sums_to_the_gradient(ratings, reg_by, loss_scale):
    spec, start, rate = replace(SPEC, reg_by=reg_by, loss_scale=loss_scale), random_factors(), 1e-7
    hparams = HPARAMS._replace(learning_rate=np.float64(rate))
    (_, after), (info,) = epochs(make("sgd", spec), ratings, hparams, 1, start)
    loss, grad = full_gradient(spec, ratings, hparams, start)
    moved = [(before - x) / rate for before, x in zip(start, after, strict=True)]
    n = held_in(ratings).sum()
    for side, index in enumerate((ratings.user, ratings.item)):
        (cold,) = set(range(len(grad[side]))) - set(
            index[held_in(ratings)]
        )  # no batch visits it: its regulariser is not in the epoch
        reg = 0.3 * np.array([1, 1, 0, 0, 0]) + 0.07 * np.eye(5)[3 + side]
        decay = {"half": 1, "sum": 2, "mean": 1 / n}[loss_scale] * (n if reg_by == "total" else 1) * reg * start[side][cold]
        grad[side][cold] -= decay
    assert_close(moved, grad, 1e-5)  # the factors move by 1e-7 of the gradient within the epoch
    assert float(info.loss) == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("opt", ["sgd", "momentum", "adam"])
def test_one_batch_of_everything_is_descent(ratings, opt):
    spec, everyone = replace(SPEC, batch_size=32), ratings._replace(user=np.where(ratings.user == 5, 3, ratings.user))
    spec = replace(spec, num_users=5, num_items=5)
    everyone = everyone._replace(item=np.where(np.arange(19) == 2, 2, everyone.item))  # now no row is cold
    hparams, start = HPARAMS._replace(fold=np.int32(NO_FOLD)), random_factors(spec)
    (ours, _), (theirs, _) = (
        epochs(make(name, spec, OPTIMIZERS[opt]), everyone, hparams, 2, start) for name in ("sgd", "descent")
    )
    for a, b in zip(ours, theirs, strict=True):
        assert_close(a, b, 1e-9)  # Adam divides by small gradients; the others agree to 1e-15


def test_batches_of_one_are_one_pair_at_a_time(ratings):
    spec, start = replace(SPEC, batch_size=1), random_factors()
    method = make("sgd", spec)
    (_, after), _ = epochs(method, ratings, HPARAMS, 1, start)
    kept = held_in(ratings)
    mean = np.average(ratings.value[kept], weights=ratings.weight[kept])
    user, item = map(np.copy, start)
    for n in method.order(19, 0, 0)[:, 0]:
        if kept[n]:
            u, v = user[ratings.user[n]].copy(), item[ratings.item[n]].copy()
            error = ratings.weight[n] * (u @ v - (ratings.value[n] - mean))
            user[ratings.user[n]] -= 0.02 * (error * v * [1, 1, 0, 1, 0] + np.array([0.3, 0.3, 0, 0.07, 0]) * u)
            item[ratings.item[n]] -= 0.02 * (error * u * [1, 1, 0, 0, 1] + np.array([0.3, 0.3, 0, 0, 0.07]) * v)
    assert_close(after, (user, item), 1e-12)


@pytest.mark.parametrize(
    "opt, others_move", [("sgd", False), ("momentum", True), ("lazy_adam", False), ("lazy_adagrad", False)]
)
def test_a_batch_moves_the_rows_that_it_touches(ratings, opt, others_move):
    method, hparams = make("sgd", opt=OPTIMIZERS[opt]), HPARAMS._replace(fold=np.int32(NO_FOLD))
    layout = method.prepare(ratings)
    state = method.init(jax.random.key(0), layout, hparams, random_factors())
    state, _ = method.step(state, layout, hparams, np.array([[7, 8, 9, 10]]))  # user 2
    after, _ = method.step(state, layout, hparams, np.array([[4, 5, 6, 18]]))  # user 1, and padding at (0, 0)
    moved = np.any(np.asarray(after.factors.user != state.factors.user), axis=1)
    assert moved.tolist() == [False, True, others_move, False, False, False]
    moved = np.any(np.asarray(after.factors.item != state.factors.item), axis=1)
    touched = set(ratings.item[[4, 5, 6]]) | (set(ratings.item[[7, 8, 9, 10]]) if others_move else set())
    assert set(np.flatnonzero(moved)) == touched and 0 < len(touched) < 5


# lazy optimisers


def moments(state):
    """The rows of users and items in each table of an optimiser's memory."""
    return [np.asarray(leaf)[:11] for leaf in jax.tree.leaves(state.optimizer) if np.ndim(leaf) == 2]


@pytest.mark.parametrize("opt, tables", [("lazy_adam", 2), ("lazy_adagrad", 1)])
def test_a_lazy_batch_leaves_moments_alone_that_it_does_not_touch(ratings, opt, tables):
    method = make("sgd", opt=OPTIMIZERS[opt])
    layout, held_out = method.prepare(ratings), np.flatnonzero(ratings.fold == HPARAMS.fold)
    states = [method.init(jax.random.key(0), layout, HPARAMS, random_factors())]
    for order in ([[7, 9, 10, 4]], [[3, 4, 16, held_out[0]]], [[*held_out[:3], 18]]):
        states.append(method.step(states[-1], layout, HPARAMS, np.array(order))[0])
    first, after, nothing = states[1:]
    assert len(moments(first)) == tables
    touched = {*ratings.user[[3, 4]], *(6 + ratings.item[[3, 4]])}
    for before, now in zip(moments(first), moments(after), strict=True):
        assert set(np.flatnonzero(np.any(before != now, axis=1))) == touched
    jax.tree.map(np.testing.assert_array_equal, (after.factors, moments(after)), (nothing.factors, moments(nothing)))


@pytest.mark.parametrize("opt", ["adam", "adagrad"])
def test_a_row_that_comes_twice_has_one_update_of_the_summed_gradient(ratings, opt):
    hparams, order = HPARAMS._replace(fold=np.int32(NO_FOLD)), np.array([[0, 1, 4, 18]])  # user 0 twice, and padding there
    seen, after = (epochs_in(order, make("sgd", opt=o), ratings, hparams) for o in (PLAIN, OPTIMIZERS[f"lazy_{opt}"]))
    start = random_factors()
    summed = Factors(*((a - b) / 0.02 for a, b in zip(start, seen, strict=True)))  # what plain SGD stepped along
    solver = OPTIMIZERS[opt].make(hparams)
    updates, _ = solver.update(summed, solver.init(start), start)
    assert_close(after, optax.apply_updates(start, updates), 1e-9)  # Adam divides by small gradients


def epochs_in(order, method, ratings, hparams):
    """The factors after one epoch in a given order."""
    layout = method.prepare(ratings)
    return method.step(method.init(jax.random.key(0), layout, hparams, random_factors()), layout, hparams, order)[0].factors


def test_lazy_adagrad_is_adagrad(ratings):
    """A row that no rating touches has no gradient, and Adagrad forgets nothing."""
    dense, lazy = (epochs(make("sgd", opt=OPTIMIZERS[o]), ratings, HPARAMS, 3)[0] for o in ("adagrad", "lazy_adagrad"))
    assert_close(lazy[-1], dense[-1], 1e-12)


def test_lazy_adam_is_adam_only_where_every_batch_touches_every_row(ratings):
    user = np.where(np.arange(19) == 13, 3, ratings.user)
    everyone = ratings._replace(user=user, item=np.where(np.arange(19) == 2, 2, ratings.item))  # now no row is cold
    hparams = HPARAMS._replace(fold=np.int32(NO_FOLD))
    for batch_size, same in ((32, True), (4, False)):
        spec = replace(SPEC, batch_size=batch_size)
        methods = (make("sgd", spec, OPTIMIZERS[o]) for o in ("adam", "lazy_adam"))
        dense, lazy = (epochs(method, everyone, hparams, 3, random_factors())[0][-1] for method in methods)
        assert np.allclose(dense.user, lazy.user, rtol=0, atol=1e-9) == same  # Adam divides by small gradients
        assert np.allclose(dense.item, lazy.item, rtol=0, atol=1e-9) == same


@pytest.mark.parametrize("name", ["sgd", "adam", "adagrad", "rmsprop", "lion", "adamw"])
def test_what_treats_each_entry_by_itself_may_be_lazy(name):
    assert optimizer(name, lazy=True).lazy and not optimizer(name).lazy


@pytest.mark.parametrize("name", ["lamb", "lars", "lbfgs", "adafactor"])
def test_what_mixes_entries_may_not_be_lazy(name):
    with pytest.raises(InputError, match=f"lazy=true.* such as adam; {name} does not"):
        optimizer(name, takes=() if name == "lbfgs" else ("learning_rate",), lazy=True)


@pytest.mark.parametrize("missing", ["item_mean", "zero"])
def test_sgd_refuses_missing_entries(missing):
    with pytest.raises(InputError, match=f"missing=ignore, got {missing}.*method=descent"):
        make("sgd", replace(SPEC, missing=missing))


def test_shuffles_are_a_pure_function_of_seed_and_epoch():
    order = shuffle(4, 19, 7, 3)
    assert (order.shape, order.dtype) == ((5, 4), np.int32)
    assert sorted(order.ravel()) == list(range(20))  # 19 ratings and one of padding, each once
    np.random.default_rng(0).random(5)
    np.testing.assert_array_equal(shuffle(4, 19, 7, 3), order)
    assert make("sgd").order(19, 7, 3).tolist() == order.tolist()
    assert len({shuffle(4, 19, seed, epoch).tobytes() for seed in range(3) for epoch in range(3)}) == 9
    assert make("descent").order(19, 7, 3) is None


# where they start


def test_initial_factors(ratings):
    method, everything = make("descent"), HPARAMS._replace(fold=np.int32(NO_FOLD))
    layout, init = method.prepare(ratings), method.init
    start = init(jax.random.key(1), layout, everything).factors
    for side, cold, pin in zip(start, (3, 2), (4, 3), strict=True):
        drawn = np.delete(np.asarray(side), cold, axis=0)
        assert 0.03 < drawn[:, :2].std() < 0.3 and drawn[:, :2].size == len(np.unique(drawn[:, :2]))  # init_scale 0.1
        expected = np.zeros(5)
        expected[pin] = 1
        np.testing.assert_array_equal(side[cold], expected)  # nobody knows anything of this row
        np.testing.assert_array_equal(drawn[:, 2:], np.tile(expected[2:], (len(drawn), 1)))
    twice = init(jax.random.key(1), layout, everything._replace(init_scale=np.float64(0.2))).factors
    np.testing.assert_allclose(twice.user[:, :2], 2 * start.user[:, :2])
    assert not np.array_equal(init(jax.random.key(2), layout, everything).factors.user, start.user)


def test_a_column_is_drawn_alike_whatever_the_rank(ratings):
    def start(max_rank, rank):
        spec = replace(SPEC, max_rank=max_rank)
        method = make("descent", spec)
        return method.init(jax.random.key(3), method.prepare(ratings), HPARAMS._replace(rank=np.int32(rank))).factors

    small, large, full = start(3, 2), start(6, 2), start(6, 6)
    for a, b, c in zip(small, large, full, strict=True):
        np.testing.assert_array_equal(a[:, :2], b[:, :2])
        np.testing.assert_array_equal(c[:, :2], b[:, :2])
        assert np.any(a[:, :2] != 0)


@pytest.mark.parametrize("name", METHODS)
def test_a_warm_start_is_where_it_starts(ratings, name):
    given = Factors(*(side + 0.5 for side in random_factors()))  # with pinned columns that are not at their pins
    (start, *_), _ = epochs(make(name), ratings, HPARAMS, 0, given)
    free = [[1, 1, 0, 1, 0], [1, 1, 0, 0, 1]]
    pins = [[0, 0, 0, 0, 1], [0, 0, 0, 1, 0]]
    for side, warm, f, pin in zip(start, given, free, pins, strict=True):
        np.testing.assert_array_equal(side, warm * np.array(f) + np.array(pin))


# optimisers and schedules


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules_end_at_their_final_factor(schedule):
    opt = optimizer("sgd", schedule=schedule, final=0.1, updates=20).make(HPARAMS)
    state, rates = opt.init(jnp.zeros(1)), []
    for _ in range(21):
        update, state = opt.update(jnp.ones(1), state)
        rates.append(float(-update[0]) / 0.02)
    first, last = {"constant": (1, 1), "warmup_cosine": (0, 0.1)}.get(schedule, (1, 0.1))
    assert (rates[0], rates[-1], max(rates)) == pytest.approx((first, last, 1))


def test_methods_follow_a_schedule(ratings):
    opt = optimizer("sgd", schedule="linear", final=0.0, updates=2)
    factors, _ = epochs(make("descent", opt=opt), ratings, HPARAMS, 3)
    halved = HPARAMS._replace(learning_rate=np.float64(0.01))
    expected, _ = epochs(make("descent"), ratings, halved, 1, factors[1])
    assert_close(factors[2], expected[1], 1e-14)
    np.testing.assert_array_equal(factors[3].user, factors[2].user)


REFUSED = {
    "no such optimiser": ({"name": "adamm"}, "adamm"),
    "not an optimiser": ({"name": "huber_loss"}, "huber_loss"),
    "unknown option": ({"name": "adam", "options": {"beta": 1}}, "no beta\nit takes: .*b1"),
    "unknown hparam": ({"name": "adam", "takes": ("learning_rate", "momentum")}, "no momentum"),
    "unknown schedule": ({"schedule": "step"}, "constant, linear.*step"),
    "nothing to schedule": ({"name": "lbfgs", "takes": (), "schedule": "cosine"}, "takes none"),
}


@pytest.mark.parametrize("arguments, message", REFUSED.values(), ids=REFUSED)
def test_optimisers_that_do_not_exist_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        optimizer(**arguments)


def test_options_reach_optax():
    update = lambda opt: opt.update(jnp.ones(1), opt.init(jnp.ones(1)), jnp.ones(1))[0]  # noqa: E731
    ours = optimizer("adam", options={"eps": 1.0}).make(HPARAMS)
    assert (
        float(update(ours)[0])
        == pytest.approx(float(update(optax.adam(0.02, eps=1.0))[0]))
        != float(update(optax.adam(0.02))[0])
    )
