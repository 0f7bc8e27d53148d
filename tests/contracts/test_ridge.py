"""The ridge of embeddings, and their draw by it: in the basis of eigenvectors, and by gradients."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import often

from mfjax.bags import BAGS, dense, prepare_bag, ridge
from mfjax.bags.ridge import TOLERANCE, is_dual, prepare_basis, solve_ridge
from mfjax.methods.gibbs import Population, _draw_embeddings
from mfjax.objective import fold_sums, lane_terms
from mfjax.testing import LANES, SPEC

SOURCES = {"popularity": [BAGS["popularity"]], "rated": [BAGS["rated"], BAGS["popularity"]]}
RIDGE = 0.7
COLUMNS = 3
DRAWS = 4_000


def prepared(ratings, sources, monkeypatch, *, most=ridge.MOST):
    """The bag of the users, and its basis; None where `most` rows or features are more."""
    monkeypatch.setattr(ridge, "MOST", most)
    bag = prepare_bag(SOURCES[sources], ratings, 0, SPEC)
    return jax.device_put((bag, prepare_basis(bag, fold_sums(ratings, SPEC), SPEC)))


def lane_of(ratings, hparams):
    return lane_terms(jax.device_put(fold_sums(ratings, SPEC)), hparams, SPEC)


def normal_matrix(bag, lane):
    x = np.asarray(dense(bag, lane))
    return x.T @ x + RIDGE * np.eye(bag.num_features)


def most_by_gradients(matrix, right):
    """The most that a solution may be off whose residual is `TOLERANCE` of the right side."""
    return TOLERANCE * np.linalg.norm(right) / np.linalg.eigvalsh(matrix).min()


@pytest.mark.parametrize("sources", SOURCES)
def test_both_solve_the_ridge_of_every_lane(ratings, sources, monkeypatch):
    bag, basis = prepared(ratings, sources, monkeypatch)
    _, nothing = prepared(ratings, sources, monkeypatch, most=0)
    assert nothing is None
    assert is_dual(bag) == (sources == "rated")
    rng = np.random.default_rng(0)
    right = rng.normal(size=(bag.num_features, COLUMNS))
    start = rng.normal(size=right.shape)
    solve = jax.jit(solve_ridge)
    for hparams in LANES:
        lane = lane_of(ratings, hparams)
        matrix = normal_matrix(bag, lane)
        expected = np.linalg.solve(matrix, right)
        in_basis = solve(bag, basis, RIDGE, right, start, lane)
        np.testing.assert_allclose(in_basis, expected, rtol=1e-10, atol=1e-10)
        by_gradients = solve(bag, None, RIDGE, right, start, lane)
        assert np.linalg.norm(by_gradients - expected) <= most_by_gradients(matrix, right)


@pytest.mark.parametrize("sources", often(SOURCES, one_of=2))
def test_embeddings_are_drawn_from_their_conditional_either_way(ratings, sources, monkeypatch):
    bag, basis = prepared(ratings, sources, monkeypatch)
    lane = lane_of(ratings, LANES[0])
    rng = np.random.default_rng(1)
    rows = jnp.asarray(rng.normal(size=(SPEC.num_users, COLUMNS)))
    root = rng.normal(size=(COLUMNS, COLUMNS))
    mean, precision = rng.normal(size=COLUMNS), root @ root.T + np.eye(COLUMNS)
    start = jnp.zeros((bag.num_features, COLUMNS))
    one = jnp.ones(())
    own = Population(
        mean=jnp.asarray(mean),
        precision=jnp.asarray(precision),
        of_row=jnp.ones(SPEC.num_users),
        freedom=one,
        embeddings=start,
        ridge=RIDGE * one,
    )

    def draw(basis, key):
        free = jnp.ones(COLUMNS)
        drawn = _draw_embeddings(key, one, rows, own, start, bag, basis, lane, free)
        return drawn.embeddings, drawn.ridge

    keys = jax.random.split(jax.random.key(0), DRAWS)
    in_basis, ridges = jax.jit(jax.vmap(partial(draw, basis)))(keys)
    by_gradients, _ = jax.jit(jax.vmap(partial(draw, None)))(keys)
    matrix = normal_matrix(bag, lane)
    for ours, theirs in zip(by_gradients, in_basis, strict=True):
        most = most_by_gradients(matrix, matrix @ theirs)
        assert np.linalg.norm(ours - theirs) <= 1.001 * most
    squares = np.einsum("nfc,cd,nfd->n", in_basis, precision, in_basis)
    np.testing.assert_allclose(ridges, 1 / (1 + squares / 2), rtol=1e-10)
    # equation (3): mean and covariance
    inverse = np.linalg.inv(matrix)
    expected = inverse @ np.asarray(dense(bag, lane)).T @ (rows - mean[None])
    covariance = np.kron(inverse, np.linalg.inv(precision))
    found = np.asarray(in_basis).reshape(DRAWS, -1)
    error = np.sqrt(np.diag(covariance) / DRAWS)
    assert np.all(abs(found.mean(0) - expected.ravel()) < 5 * error)
    error = np.sqrt((np.outer(*[np.diag(covariance)] * 2) + covariance**2) / DRAWS)
    assert np.all(abs(np.cov(found.T) - covariance) < 5 * error)
