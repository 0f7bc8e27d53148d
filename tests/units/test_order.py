"""The order of visits is a permutation, the same in NumPy and XLA, and as good as a drawn one."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mfjax.kernels.order import order

N = 90_000
CHANCE = N**-0.5  # the standard deviation of a correlation of what is independent
KEYS = [(0, 0), (0, 1), (1, 0), (7, 3), (2**31 - 1, 10**6)]  # split_seed, epoch


def in_xla(n, split_seed, epoch):
    return np.asarray(jax.jit(order, static_argnums=0)(n, split_seed, epoch))


def by_definition(n, split_seed, epoch):
    """Equation (1) of `mfjax.kernels.order`, place by place, in integers without an end."""

    def mix(x, key):
        x = (x + key) * 0x9E3779B1 % 2**32
        x = (x ^ x >> 15) * 0x85EBCA77 % 2**32
        x = (x ^ x >> 13) * 0xC2B2AE3D % 2**32
        return x ^ x >> 16

    a = int(np.ceil(np.sqrt(n)))
    b = int(np.ceil(n / a))
    key = mix(mix(0x5F, split_seed), epoch)

    def image(place):
        left, right = divmod(place, b)
        for nth in range(0, 6, 2):
            left = (left + ((mix(right, mix(key, nth)) >> 16) * a >> 16)) % a
            right = (right + ((mix(left, mix(key, nth + 1)) >> 16) * b >> 16)) % b
        return left * b + right

    def walked(place):
        place = image(place)
        return place if place < n else walked(place)

    return [walked(place) for place in range(n)]


def test_it_is_a_permutation_whatever_the_number():
    for n in range(1, 151):
        for key in (KEYS[n % 4], KEYS[4]):
            assert sorted(order(n, *key, np)) == list(range(n)), n


@pytest.mark.parametrize("n", [65_537, 1_000_003])
@pytest.mark.parametrize("key", KEYS[-2:])
def test_it_is_a_permutation_of_many(n, key):
    ours = order(n, *key, np)
    assert ours.dtype == np.uint32
    np.testing.assert_array_equal(np.bincount(ours, minlength=n), np.ones(n))
    if key == KEYS[-1]:
        np.testing.assert_array_equal(in_xla(n, *key), ours)


@pytest.mark.parametrize("n", [1, 2, 3, 17, 100, 101, 257, 4_097])
def test_it_is_its_definition_in_numpy_and_in_xla(n):
    for key in KEYS:
        expected = by_definition(n, *key)
        assert order(n, *key, np).tolist() == expected
        assert in_xla(n, *key).tolist() == expected


def test_lanes_have_each_their_own():
    seeds, epochs = map(jnp.array, zip(*KEYS[:3], strict=True))
    together = jax.vmap(order, (None, 0, 0))(1_000, seeds, epochs)
    for ours, key in zip(together, KEYS, strict=False):
        np.testing.assert_array_equal(ours, order(1_000, *key, np))


def test_another_seed_or_epoch_is_another_order_and_no_other_program():
    traces = []

    @jax.jit
    def visits(split_seed, epoch):
        traces.append(epoch)
        return order(1_000, split_seed, epoch)

    every = {np.asarray(visits(*key)).tobytes() for key in np.ndindex(5, 5)}
    assert (len(every), len(traces)) == (25, 1)


# as good as a drawn one; the keys are fixed, and what is bounded comes out the same every time


@pytest.fixture(scope="module")
def orders():
    """Of two splits and four epochs, `[2, 4, N]`."""
    every = [[order(N, seed, epoch, np) for epoch in range(4)] for seed in range(2)]
    return np.array(every, np.int64)


def correlation(a, b):
    return abs(np.corrcoef(a, b)[0, 1])


@pytest.mark.parametrize("blocks", [7, 64, 300])
def test_places_are_spread_evenly(orders, blocks):
    """Chi-square of how often a block of visits meets a block of places."""
    when = np.arange(N) * blocks // N
    freedom = (blocks - 1) ** 2
    for places in orders.reshape(-1, N):
        count = np.bincount(when * blocks + places * blocks // N, minlength=blocks**2)
        expected = N / blocks**2
        square = ((count - expected) ** 2 / expected).sum()
        assert abs(square - freedom) < 4 * np.sqrt(2 * freedom)


@pytest.mark.parametrize("lag", [1, 2, 256, 299, 300, 301])
def test_visits_do_not_depend_on_those_before(orders, lag):
    """Nor on those a row or a column of the network's domain, 300 × 300, before."""
    for places in orders.reshape(-1, N):
        assert correlation(places[:-lag], places[lag:]) < min(0.01, 4 * CHANCE)


def test_half_of_the_visits_ascend(orders):
    for places in orders.reshape(-1, N):
        ascents = (np.diff(places) > 0).mean()
        assert abs(ascents - 0.5) < 4 * np.sqrt(1 / 12 / N)  # the deviation of a random order's


def test_epochs_and_splits_are_independent(orders):
    first, second = orders
    pairs = [*pairwise(first), *zip(first, second, strict=True)]
    for a, b in pairs:
        assert correlation(a, b) < 4 * CHANCE
        assert (a == b).sum() < 10  # 1 is expected
