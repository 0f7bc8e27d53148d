"""The objective against a NumPy triple loop that shares no code with it, and the identities that it must keep."""

import contextlib
import functools
import itertools
from dataclasses import replace

import jax
import jaxtyping
import numpy as np
import pytest

from mfjax import GRADIENTS, Factors, Hparams, Ratings, Spec
from mfjax.objective import background, dense_loss, margins, terms

SPEC = Spec(6, 5, max_rank=3, dtype="float64")
HPARAMS = Hparams.of("float64", reg=0.3, reg_bias=0.07, missing_weight=0.4, rank=2, fold=1)
ROUNDING = 1e-12  # relative, float64: sums of some tens of terms


def random_factors(spec, seed=0):
    rng = np.random.default_rng(seed)
    return Factors(rng.normal(size=(spec.num_users, spec.columns)), rng.normal(size=(spec.num_items, spec.columns)))


@functools.cache
def compiled(name, spec):
    gradient = GRADIENTS[name](spec)
    return gradient._replace(value_and_grad=jax.jit(gradient.value_and_grad))


def gradient_of(name, spec, factors, ratings, hparams=HPARAMS):
    gradient = compiled(name, spec)
    loss, grad = gradient.value_and_grad(factors, gradient.prepare(ratings), hparams)
    return Factors(*map(np.asarray, grad)), float(loss)


def assert_same(ours, theirs, tolerance=ROUNDING):
    (grad, loss), (expected_grad, expected_loss) = ours, theirs
    assert loss == pytest.approx(expected_loss, rel=tolerance)
    for a, b in zip(grad, expected_grad, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(np.abs(b).max(), 1))


def triple_loop(spec, factors, ratings, hparams):
    """L and both gradients entry by entry, with biases as b_i + c_j and not as columns."""
    user, item = factors
    latent, bias = range(int(hparams.rank)), (spec.max_rank, spec.max_rank + 1)
    seen = {(u, i): (w, r) for u, i, r, w, f in zip(*ratings, strict=True) if w > 0 and not (f >= 0 and f == hparams.fold)}
    n, total = len(seen), sum(w for w, _ in seen.values())
    mean = sum(w * r for w, r in seen.values()) / total
    s = {"half": 1, "sum": 2, "mean": 1 / n}[spec.loss_scale]
    loss, grad = 0.0, Factors(np.zeros_like(user), np.zeros_like(item))
    for u, i in itertools.product(range(spec.num_users), range(spec.num_items)):
        prediction = sum(user[u, c] * item[i, c] for c in latent)
        if spec.bias:
            prediction += mean + user[u, bias[0]] + item[i, bias[1]]
        if (u, i) in seen:
            weight, target = seen[u, i]
        elif spec.missing == "ignore":
            weight, target = 0.0, 0.0
        elif spec.missing == "zero":
            weight, target = float(hparams.missing_weight), 0.0
        else:
            rated = [(w, r) for (_, j), (w, r) in seen.items() if j == i]
            weight, target = 1.0, sum(w * r for w, r in rated) / sum(w for w, _ in rated) if rated else mean
        error = weight * (prediction - target)
        loss += s * weight * (prediction - target) ** 2 / 2
        for c in latent:
            grad.user[u, c] += s * error * item[i, c]
            grad.item[i, c] += s * error * user[u, c]
        if spec.bias:
            grad.user[u, bias[0]] += s * error
            grad.item[i, bias[1]] += s * error
    for side, (table, out) in enumerate(zip(factors, grad, strict=True)):
        for row in range(len(table)):
            visits = sum(cell[side] == row for cell in seen)
            strength = s * {"row": 1, "count": max(visits, 1), "total": n}[spec.reg_by]
            decays = [(c, float(hparams.reg)) for c in latent] + [(bias[side], float(hparams.reg_bias))] * spec.bias
            for c, reg in decays:
                loss += strength * reg * table[row, c] ** 2 / 2
                out[row, c] += strength * reg * table[row, c]
    return grad, loss


@pytest.mark.parametrize(
    "missing, loss_scale, reg_by, bias",
    [
        ("ignore", "half", "count", True),
        ("item_mean", "mean", "total", True),
        ("item_mean", "half", "row", False),
        ("zero", "sum", "row", False),
        ("zero", "half", "count", True),
    ],
)
def test_the_objective_is_the_triple_loop(ratings, missing, loss_scale, reg_by, bias):
    spec = replace(SPEC, missing=missing, loss_scale=loss_scale, reg_by=reg_by, bias=bias)
    factors = random_factors(spec)
    assert_same(gradient_of("autodiff", spec, factors, ratings), triple_loop(spec, factors, ratings, HPARAMS))


@pytest.mark.parametrize("missing", ["item_mean", "zero"])
def test_background_is_the_dense_sum(ratings, missing):
    spec = replace(SPEC, missing=missing)
    t, factors = jax.jit(lambda m: terms(m, HPARAMS, spec))(margins(ratings, spec)), random_factors(spec)

    def dense(factors):
        return t.alpha / 2 * ((factors.user @ factors.item.T - t.background[None]) ** 2).sum()

    loss, grad = jax.jit(background)(factors, t)
    expected_loss, expected_grad = jax.jit(jax.value_and_grad(dense))(factors)
    assert_same((grad, float(loss)), (expected_grad, float(expected_loss)))


def test_a_lane_knows_nothing_of_its_fold(ratings):
    held_out = ratings.fold == HPARAMS.fold
    kept = Ratings(*(column[~held_out] for column in ratings))
    ours, theirs = (jax.jit(lambda m: terms(m, HPARAMS, SPEC))(margins(r, SPEC)) for r in (ratings, kept))
    assert held_out.sum() > 3
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=ROUNDING), ours, theirs)


@pytest.mark.parametrize("name", ["autodiff", "coo"])
@pytest.mark.parametrize("missing", ["ignore", "zero"])
def test_swapping_users_and_items_swaps_the_gradients(ratings, name, missing):
    spec, factors = replace(SPEC, missing=missing, loss_scale="mean"), random_factors(SPEC)
    turn = lambda side: side[:, [0, 1, 2, 4, 3]]  # noqa: E731 (the free bias column changes places with the pinned one)
    other = replace(spec, num_users=spec.num_items, num_items=spec.num_users)
    mirrored = ratings._replace(user=ratings.item, item=ratings.user)
    grad, loss = gradient_of(name, spec, factors, ratings)
    swapped, swapped_loss = gradient_of(name, other, Factors(turn(factors.item), turn(factors.user)), mirrored)
    assert_same((Factors(turn(swapped.item), turn(swapped.user)), swapped_loss), (grad, loss))


@pytest.mark.parametrize("name", ["autodiff", "coo"])
def test_nothing_missing_makes_the_missing_treatments_one(name):
    rng = np.random.default_rng(3)
    user, item = np.indices((6, 5)).reshape(2, -1)
    whole = Ratings.of(user, item, rng.normal(size=30), rng.uniform(0.5, 2, 30), dtype="float64")
    ignore, *others = (
        gradient_of(name, replace(SPEC, missing=missing), random_factors(SPEC), whole)
        for missing in ("ignore", "item_mean", "zero")
    )
    for other in others:
        assert_same(other, ignore)


def test_loss_scale_scales_the_whole_objective(ratings):
    half, twice, mean = (
        gradient_of("coo", replace(SPEC, loss_scale=scale), random_factors(SPEC), ratings) for scale in ("half", "sum", "mean")
    )
    n = int(((ratings.weight > 0) & (ratings.fold != HPARAMS.fold)).sum())
    assert_same(twice, (Factors(*(2 * g for g in half[0])), 2 * half[1]))
    assert_same(mean, (Factors(*(g / n for g in half[0])), half[1] / n))


def test_reg_by_count_and_total_are_row_where_they_must_be(ratings):
    factors = random_factors(SPEC)
    diagonal = Ratings.of(range(5), range(5), [1, 2, 3, 4, 5], dtype="float64")  # user 5 has none: max(n_i, 1) = 1
    row, count, total = (replace(SPEC, reg_by=reg_by) for reg_by in ("row", "count", "total"))
    assert_same(gradient_of("coo", count, factors, diagonal), gradient_of("coo", row, factors, diagonal))
    times_n = HPARAMS._replace(reg=5 * HPARAMS.reg, reg_bias=5 * HPARAMS.reg_bias)
    assert_same(gradient_of("coo", total, factors, diagonal), gradient_of("coo", row, factors, diagonal, times_n))
    with pytest.raises(AssertionError):  # and elsewhere they differ
        assert_same(gradient_of("coo", count, factors, ratings), gradient_of("coo", row, factors, ratings))


def test_shapes_are_checked_while_testing(ratings):
    dense = compiled("autodiff", SPEC).prepare(ratings)
    t = jax.eval_shape(lambda m: terms(m, HPARAMS, SPEC), dense.margins)
    for weight, complaint in ((dense.weight, None), (dense.weight.T, jaxtyping.TypeCheckError)):
        with pytest.raises(complaint) if complaint else contextlib.nullcontext():
            jax.eval_shape(dense_loss, random_factors(SPEC), dense.value, weight, t)
