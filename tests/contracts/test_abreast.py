"""Lanes that take an epoch together: each is the fit that it is alone, bit for bit."""

from collections import Counter
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_bitwise, method_of
from marks import often

from mfjax import Bounds, Hparams, Lane, Plan, Problem, Ratings, Schedule, Spec, Sweep, optimizer
from mfjax.kernels.native.library import Missing, library
from mfjax.training.lanes import Places
from mfjax.types import ENDED, NO_FOLD

native = pytest.mark.skipif(
    isinstance(library(), Missing), reason="there are no compiled kernels here"
)
SPEC = Spec(60, 40, max_rank=7)
HPARAMS = Hparams(learning_rate=0.1, reg=0.02, rank=7, init_scale=0.3)


def ratings_of(seed, spec=SPEC):
    rng = np.random.default_rng(seed)
    user, item = np.divmod(rng.permutation(60 * 40)[:900], 40)
    fold = rng.integers(-1, 2, 900)
    weight = rng.choice([0, 0.5, 1, 2], 900)
    value = rng.normal(3, 1, 900)
    return Ratings.of(user, item, value, weight, fold, dtype=spec.dtype)


# the kernel


def assert_same(ours, theirs):
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def at(place, trees):
    return jax.tree.map(lambda array: array[place], trees)


def epochs_of(spec):
    method = method_of("sgd", spec, kernel="native", opt=optimizer("sgd"), batch_size=1)

    def epochs(state, layout, hparams, numbers):
        def one(state, number):
            return method.step(state, layout, hparams, number)

        return jax.lax.scan(one, state, numbers)

    return method, epochs


def lanes_of(spec, count):
    settings = [
        Hparams.of(
            spec.dtype,
            rank=spec.max_rank - n % 2,
            fold=(0, 1, NO_FOLD)[n % 3],
            learning_rate=0.02 + 0.01 * n,
            reg=0.1 * n,
            reg_bias=0.05 * n,
            split_seed=n // 4,
        )
        for n in range(count)
    ]
    return jax.tree.map(lambda *each: np.stack(each), *settings)


@native
@pytest.mark.parametrize(
    "rank, dtype, bias",
    often(
        [(7, "float32", True), (16, "float32", True), (3, "float64", True), (8, "float64", False)],
        one_of=2,
    ),
)
@pytest.mark.parametrize("count", often([7, 2, 3], one_of=3))
def test_lanes_side_by_side_are_those_alone(count, rank, dtype, bias):
    spec = replace(SPEC, max_rank=rank, dtype=dtype, bias=bias)
    method, epochs = epochs_of(spec)
    layout = jax.device_put(method.prepare(ratings_of(0, spec)))
    lanes = lanes_of(spec, count)
    begin = jax.jit(partial(method.init, jax.random.key(0), layout))
    alone = [at(n, lanes) for n in range(count)]
    states = [begin(lane) for lane in alone]
    together = jax.tree.map(lambda *each: jnp.stack(each), *states)
    numbers = np.add.outer(np.arange(3), np.arange(count) % 2).astype(np.int32)
    numbers[1:, 1] = ENDED
    found, info = jax.jit(jax.vmap(epochs, (0, None, 0, 1), (0, 1)))(
        together, layout, lanes, numbers
    )
    for n, (state, lane) in enumerate(zip(states, alone, strict=True)):
        lasting = numbers[:, n] != ENDED
        expected, told = jax.jit(epochs)(state, layout, lane, numbers[lasting, n])
        assert_same(at(n, found), expected)
        assert_same(at(np.s_[lasting, n], info), told)


@native
def test_lanes_of_other_ratings_than_each_others_follow_one_another():
    method, epochs = epochs_of(SPEC)
    layouts = [jax.device_put(method.prepare(ratings_of(seed))) for seed in (0, 1)]
    lane = Hparams.of(rank=7)
    states = [method.init(jax.random.key(0), layout, lane) for layout in layouts]
    stack = partial(jax.tree.map, lambda *each: jnp.stack(each))
    found, _ = jax.jit(jax.vmap(epochs, (0, 0, None, None)))(
        stack(*states), stack(*layouts), lane, jnp.arange(2)
    )
    for n in range(2):
        expected, _ = jax.jit(epochs)(states[n], layouts[n], lane, jnp.arange(2))
        assert_same(at(n, found), expected)


@native
def test_their_tables_are_moved_in_place():
    method, epochs = epochs_of(SPEC)
    layout = jax.device_put(method.prepare(ratings_of(0)))
    lanes = lanes_of(SPEC, 4)
    states = jax.vmap(partial(method.init, jax.random.key(0), layout))(lanes)
    together = jax.vmap(epochs, (0, None, 0, None))
    program = jax.jit(together, donate_argnums=0).lower(states, layout, lanes, jnp.arange(3))
    lines = program.compile().as_text().splitlines()
    copies = [line for line in lines if " copy(" in line and "(f32[" not in line]
    assert not [line for line in copies if "f32[4,60,9]" in line or "f32[4,40,9]" in line]


# a sweep


def swept(lanes, lanes_per_program):
    problems = {
        (seed, 0): Problem(ratings_of(seed), test=Ratings.of([], [], []), bounds=Bounds(1.0, 5.0))
        for seed in (0, 1)
    }
    plan = Plan(
        spec=SPEC,
        method=partial(method_of, "sgd", kernel="native", opt=optimizer("sgd"), batch_size=1),
        problems=problems,
        schedule=Schedule(epochs=12, patience=2, epochs_per_call=3),
    )
    sweep = Sweep(plan, lanes_per_program)
    return sweep.train(lanes), next(iter(sweep.programs.values())).places


@native
def test_company_changes_no_bit_of_a_fit():
    settings = [
        HPARAMS._replace(learning_rate=rate, reg=reg, fold=fold, split_seed=seed)
        for rate in (0.02, 0.1, 30.0)  # the last diverges
        for reg in (0.02, 0.3)
        for fold, seed in ((0, 0), (1, 0), (0, 1))
    ]
    lanes = [Lane(hparams, epochs=12 - n % 3) for n, hparams in enumerate(settings)]
    together, places = swept(lanes, len(lanes))
    alone, by_itself = swept(lanes, 1)
    assert (places.abreast, by_itself.abreast) == (4, 1)
    assert_bitwise(together, alone)
    ends = Counter(fit.status.split()[0] for fit in together)
    assert min(ends["finished"] + ends["stopped"], ends["diverged"]) > 0
    assert len({fit.best_epoch for fit in together}) > 2


@pytest.mark.parametrize(
    "splits", [[0], [0, 0, 0, 0, 0], [0, 1, 0, 1, 2, 0, 0, 0], [*range(7)] * 3]
)
@pytest.mark.parametrize("most_abreast", [1, 4])
@pytest.mark.parametrize("devices", [1, 2, 3])
def test_each_lane_has_a_place_among_lanes_of_its_split(splits, most_abreast, devices):
    places = Places.of(len(splits), devices, len(set(splits)), most_abreast)
    of_lanes = places.of_lanes(splits)
    assert len(set(of_lanes)) == len(splits)
    assert places.groups % devices == 0
    assert places.abreast <= most_abreast
    groups = {}
    for place, split in zip(of_lanes, splits, strict=True):
        groups.setdefault(place // places.abreast, set()).add(split)
    assert all(len(of_group) == 1 for of_group in groups.values())
    of_devices = Counter(group // (places.groups // devices) for group in groups)
    assert max(of_devices.values()) - min(of_devices[device] for device in range(devices)) <= 1
    dealt = places.dealt(list(range(len(splits))), of_lanes, -1)
    assert [dealt[place] for place in of_lanes] == list(range(len(splits)))
    assert places.apart(places.in_groups(np.array(dealt))) == dealt
