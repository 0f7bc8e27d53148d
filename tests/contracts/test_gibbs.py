"""Gibbs sampling: rows against their dense conditionals, draws, and the joint distribution."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mfjax.bags import BAGS
from mfjax.checks.joint import Case, joint_distribution
from mfjax.errors import InputError
from mfjax.kernels import KERNELS
from mfjax.kernels.choice import available
from mfjax.kernels.kernel import Prior
from mfjax.methods.draws import bartlett_shapes, gamma, wishart
from mfjax.methods.gibbs import FREEDOMS, draw_freedom, gibbs
from mfjax.objective import lane_terms, pin
from mfjax.types import Factors, Hparams, Kept, Ratings, Sides, Spec, Tiling

NUM_USERS, NUM_ITEMS, RANK = 9, 7, 3


def some_ratings(rng):
    is_rated = rng.random((NUM_USERS, NUM_ITEMS)) < 0.6
    user, item = np.nonzero(is_rated)
    return Ratings.of(
        user,
        item,
        rng.normal(3, 1, len(user)),
        rng.choice([0.5, 1, 2], len(user)),
        rng.integers(-1, 2, len(user)),
        dtype="float64",
    )


def dense_draw(factors, side, ratings, lane, prior, spec):
    """Every row by its dense precision, a loop over rows."""
    own, other = ("user", "item")[:: 1 if side == 0 else -1]
    bias = spec.bias
    columns = [*range(spec.max_rank), *([spec.max_rank + side] if bias else [])]
    free = np.asarray(lane.columns[side].free)[columns] > 0
    table = np.asarray(factors[1 - side])
    latent = table[:, : spec.max_rank]
    phi = np.column_stack([latent, np.ones(len(table))]) if bias else latent
    other_bias = table[:, spec.max_rank + 1 - side] if bias else np.zeros(len(table))
    trained = (ratings.weight > 0) & (ratings.fold != int(lane.fold))
    found = np.zeros((len(factors[side]), len(columns)))
    for i in range(len(found)):
        a = prior.scale[i] * prior.precision
        c = prior.scale[i] * prior.linear[i]
        for n in np.flatnonzero(trained & (getattr(ratings, own) == i)):
            j = getattr(ratings, other)[n]
            weight = ratings.weight[n] * prior.of_other[j]
            a = a + weight * np.outer(phi[j], phi[j])
            c = c + weight * (ratings.value[n] - float(lane.centre) - other_bias[j]) * phi[j]
        a, c, z = a[free][:, free], c[free], prior.noise[i][free]
        lower = np.linalg.cholesky(a)
        spread = np.sqrt(prior.scale[i]) * np.linalg.solve(lower.T, z)
        found[i, free] = np.linalg.solve(a, c) + spread
    return found, columns


@pytest.mark.parametrize("side, bias", [(0, True), (1, False)])
@pytest.mark.parametrize("name", available(KERNELS))
def test_rows_are_drawn_from_their_conditional(name, side, bias):
    rng = np.random.default_rng(side)
    ratings = some_ratings(rng)
    spec = Spec(NUM_USERS, NUM_ITEMS, RANK, bias=bias, dtype="float64", tiling=Tiling(8, 64, 8))
    kernel = KERNELS[name](spec)
    layout = jax.device_put(kernel.prepare(ratings))
    hparams = Hparams.of("float64", rank=2, fold=1)
    lane = lane_terms(layout.sums, hparams, spec)
    shapes = [(NUM_USERS, spec.columns), (NUM_ITEMS, spec.columns)]
    factors = pin(Factors(*(jnp.asarray(rng.normal(size=s)) for s in shapes)), lane.columns)
    num_rows, num_others = shapes[side][0], shapes[1 - side][0]
    columns = RANK + bias
    free = np.asarray(lane.columns[side].free)[[*range(RANK), *([RANK + side] if bias else [])]]
    root = rng.normal(size=(columns, columns)) * free[:, None] * free[None]
    prior = jax.device_put(
        Prior(
            precision=root @ root.T + np.eye(columns),
            linear=rng.normal(size=(num_rows, columns)),
            scale=rng.uniform(0.5, 2, num_rows),
            of_other=rng.uniform(0.5, 2, num_others),
            noise=rng.normal(size=(num_rows, columns)) * free[None],
        )
    )
    drawn = jax.jit(kernel.draw_rows, static_argnums=1)(factors, side, layout, lane, prior)
    expected, places = dense_draw(factors, side, ratings, lane, prior, spec)
    np.testing.assert_allclose(np.asarray(drawn)[:, places], expected, rtol=1e-10, atol=1e-10)
    pinned = pin(Factors(*(drawn,) * 2), lane.columns)[side]
    np.testing.assert_array_equal(drawn, pinned)


def test_gamma_has_its_moments():
    shapes = jnp.repeat(jnp.array([1.0, 4.5, 300.0]), 40_000)
    drawn = np.asarray(jax.jit(gamma)(jax.random.key(0), shapes)).reshape(3, -1)
    expected = np.array([1.0, 4.5, 300.0])
    error = np.sqrt(expected / drawn.shape[1])
    assert np.all(abs(drawn.mean(1) - expected) < 4 * error)
    np.testing.assert_allclose(drawn.var(1), expected, rtol=0.05)


def test_a_wishart_has_its_mean_in_the_free_columns():
    rng = np.random.default_rng(0)
    free = np.array([1.0, 1.0, 0.0, 1.0])
    root = rng.normal(size=(4, 4)) * free[:, None] * free[None]
    inverse_scale = jnp.asarray(root @ root.T + np.eye(4))
    keys = jax.random.split(jax.random.key(1), 20_000)
    of_free = jnp.asarray(free)

    def draw(key):
        of_diagonal, of_rest = jax.random.split(key)
        diagonal = gamma(of_diagonal, bartlett_shapes(jnp.asarray(9.0), of_free))
        return wishart(of_rest, diagonal, inverse_scale, of_free)

    drawn = np.asarray(jax.jit(jax.vmap(draw))(keys))
    expected = 9 * np.linalg.inv(inverse_scale)
    is_free = np.ix_(free > 0, free > 0)
    np.testing.assert_allclose(drawn.mean(0)[is_free], expected[is_free], rtol=0.03, atol=0.03)
    np.testing.assert_array_equal(drawn[:, 2], np.broadcast_to(np.eye(4)[2], (20_000, 4)))


def test_the_freedom_of_a_scatter_is_drawn_as_often_as_the_scatter_is_likely():
    of_row = np.random.default_rng(0).gamma(4, 1 / 4, 30)
    keys = jax.random.split(jax.random.key(0), 20_000)
    drawn = np.asarray(jax.jit(jax.vmap(draw_freedom, (0, None)))(keys, jnp.asarray(of_row)))
    log = stats.gamma.logpdf(of_row[:, None], FREEDOMS / 2, scale=2 / FREEDOMS).sum(0)
    expected = np.exp(log - log.max()) / np.exp(log - log.max()).sum()
    seen = (abs(drawn[:, None] - FREEDOMS) < 1e-9).mean(0)
    np.testing.assert_allclose(seen.sum(), 1)
    assert np.all(abs(seen - expected) < 4 * np.sqrt(expected / len(keys)) + 1e-4)


# the joint distribution


@pytest.mark.slow
@pytest.mark.parametrize("bags", [False, True])
def test_sweeps_leave_the_joint_distribution_as_it_is(bags):
    apart = joint_distribution(Case(bags=bags, kernel=available(KERNELS)[-1]), 2_000)
    assert {name: z for name, z in apart.items() if abs(z) > 4.5} == {}


def test_the_averages_and_what_is_kept_are_those_of_the_samples():
    rng = np.random.default_rng(3)
    ratings = some_ratings(rng)
    spec = Spec(NUM_USERS, NUM_ITEMS, RANK, dtype="float64", tiling=Tiling(8, 64, 8))
    bags = Sides((BAGS["popularity"], BAGS["rated"]), ())
    kernel = KERNELS["xla"](spec)
    method = gibbs(spec, kernel=kernel, bags=bags, burn_in=2, thinning=2, samples=3)
    layout = jax.device_put(method.prepare(ratings))
    hparams = Hparams.of("float64", rank=RANK, fold=0)
    state = method.init(jax.random.key(0), layout, hparams)
    step = jax.jit(method.step)
    centre = float(lane_terms(layout.sums, hparams, spec).centre)
    predictions, kept = [], []
    for epoch in range(8):
        state, _ = step(state, layout, hparams, epoch)
        user, item = state.factors
        predictions.append((user[ratings.user] * item[ratings.item]).sum(-1) + centre)
        chain = state.optimizer
        users, items = chain.sides
        of_rated = users.embeddings[:NUM_ITEMS]  # and then that of the popularity
        of_ratings = chain.precision * items.of_row
        kept.append(Kept(user, item, users.mean, users.precision, of_rated, of_ratings))
    averages = method.averages(state)
    counted = np.stack(predictions[2:])
    assert averages.num_samples == 6
    np.testing.assert_allclose(averages.mean, counted.mean(0), rtol=1e-12)
    np.testing.assert_allclose(averages.squares, 6 * counted.var(0), rtol=1e-10)
    expected = Kept(*map(np.stack, zip(*kept[3::2], strict=True)))
    jax.tree.map(np.testing.assert_array_equal, averages.samples, expected)


@pytest.mark.parametrize(
    "given, message",
    [
        ({"noise": "x"}, "noise: expected one of common, user, item, both, got x"),
        ({"noise_freedom": 1.0}, "noise_freedom: expected at least 2 or none, got 1.0"),
        ({"burn_in": -1}, "burn_in: expected 0 or more, got -1"),
        ({"samples": 0}, "samples: expected 1 or more, got 0"),
        ({"thinning": 0}, "thinning: expected 1 or more, got 0"),
    ],
    ids=lambda given: next(iter(given)) if isinstance(given, dict) else "",
)
def test_what_it_cannot_do_is_refused(given, message):
    with pytest.raises(InputError, match=re.escape(message)):
        gibbs(Spec(4, 3), **given)
