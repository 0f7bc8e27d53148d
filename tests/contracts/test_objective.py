"""The objective against a NumPy triple loop that shares no code with it, and its identities."""

import contextlib
import itertools
from dataclasses import replace

import jax
import jaxtyping
import numpy as np
import pytest
from helpers import assert_same, at, compiled, held_in

from mfjax import Factors, Ratings
from mfjax.objective import background, dense_loss, fold_sums, held_out, lane_terms
from mfjax.testing import LANE, SPEC, random_factors

ROUNDING = 1e-12  # relative, float64: sums of some tens of terms


def triple_loop(spec, factors, ratings, hparams):
    """L and both gradients entry by entry, with biases as b_i + c_j and not as columns."""
    user, item = factors
    latent = range(int(hparams.rank))
    bias = spec.max_rank, spec.max_rank + 1
    seen = {
        (u, i): (weight, value)
        for u, i, value, weight, fold in zip(*ratings, strict=True)
        if weight > 0 and not (fold >= 0 and fold == hparams.fold)
    }
    n = len(seen)
    mean = sum(w * r for w, r in seen.values()) / sum(w for w, _ in seen.values())
    s = {"half": 1, "sum": 2, "mean": 1 / n}[spec.loss_scale]
    loss = 0.0
    grad = Factors(np.zeros_like(user), np.zeros_like(item))
    for u, i in itertools.product(range(spec.num_users), range(spec.num_items)):
        prediction = sum(user[u, c] * item[i, c] for c in latent)
        if spec.bias:
            prediction += mean + user[u, bias[0]] + item[i, bias[1]]
        weight, target = weight_and_target(spec, seen, (u, i), mean, float(hparams.missing_weight))
        error = weight * (prediction - target)
        loss += s * weight * (prediction - target) ** 2 / 2
        for c in latent:
            grad.user[u, c] += s * error * item[i, c]
            grad.item[i, c] += s * error * user[u, c]
        if spec.bias:
            grad.user[u, bias[0]] += s * error
            grad.item[i, bias[1]] += s * error
    for side, (table, out) in enumerate(zip(factors, grad, strict=True)):
        decays = [(c, float(hparams.reg)) for c in latent]
        decays += [(bias[side], float(hparams.reg_bias))] * spec.bias
        for row in range(len(table)):
            visits = sum(cell[side] == row for cell in seen)
            strength = s * {"row": 1, "count": max(visits, 1), "total": n}[spec.reg_by]
            for c, reg in decays:
                loss += strength * reg * table[row, c] ** 2 / 2
                out[row, c] += strength * reg * table[row, c]
    return loss, grad


def weight_and_target(spec, seen, cell, mean, missing_weight):
    """What an entry weighs, and what it should be."""
    if cell in seen:
        return seen[cell]
    if spec.missing == "ignore":
        return 0.0, 0.0
    if spec.missing == "zero":
        return missing_weight, 0.0
    rated = [of_cell for (_, item), of_cell in seen.items() if item == cell[1]]
    if not rated:
        return 1.0, mean
    return 1.0, sum(w * r for w, r in rated) / sum(w for w, _ in rated)


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
    by_hand = triple_loop(spec, factors, ratings, LANE)
    assert_same(at("autodiff", spec, ratings, LANE, factors), by_hand, ROUNDING)


@pytest.mark.parametrize("missing", ["item_mean", "zero"])
def test_background_is_the_dense_sum(ratings, missing):
    spec = replace(SPEC, missing=missing)
    factors = random_factors(spec)
    lane = jax.jit(lambda sums: lane_terms(sums, LANE, spec))(fold_sums(ratings, spec))

    def dense(factors):
        gap = factors.user @ factors.item.T - lane.background[None]
        return lane.alpha / 2 * (gap**2).sum()

    expected = jax.jit(jax.value_and_grad(dense))(factors)
    assert_same(jax.jit(background)(factors, lane), expected, ROUNDING)


def test_a_lane_knows_nothing_of_its_fold(ratings):
    out = held_out(ratings.fold, LANE)
    without = Ratings(*(column[~out] for column in ratings))
    of_lane = jax.jit(lambda sums: lane_terms(sums, LANE, SPEC))
    ours, theirs = (of_lane(fold_sums(given, SPEC)) for given in (ratings, without))
    assert out.sum() > 3
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=ROUNDING), ours, theirs)


@pytest.mark.parametrize("name", ["autodiff", "coo"])
def test_nothing_missing_makes_the_missing_treatments_one(name):
    rng = np.random.default_rng(3)
    user, item = np.indices((6, 5)).reshape(2, -1)
    value = rng.normal(size=30)
    whole = Ratings.of(user, item, value, rng.uniform(0.5, 2, 30), dtype="float64")
    ignore, *others = (
        at(name, replace(SPEC, missing=missing), whole)
        for missing in ("ignore", "item_mean", "zero")
    )
    for other in others:
        assert_same(other, ignore, ROUNDING)


def times(factor, of):
    loss, grad = of
    return factor * loss, Factors(*(factor * g for g in grad))


def test_loss_scale_scales_the_whole_objective(ratings):
    half, twice, mean = (
        at("coo", replace(SPEC, loss_scale=scale), ratings) for scale in ("half", "sum", "mean")
    )
    assert_same(twice, times(2, half), ROUNDING)
    assert_same(mean, times(1 / held_in(ratings).sum(), half), ROUNDING)


def test_reg_by_count_and_total_are_row_where_they_must_be(ratings):
    diagonal = Ratings.of(range(5), range(5), [1, 2, 3, 4, 5], dtype="float64")
    row, count, total = (replace(SPEC, reg_by=reg_by) for reg_by in ("row", "count", "total"))
    by_row = at("coo", row, diagonal)
    assert_same(at("coo", count, diagonal), by_row, ROUNDING)  # user 5 has none: max(n_i, 1) = 1
    times_n = LANE._replace(reg=5 * LANE.reg, reg_bias=5 * LANE.reg_bias)
    assert_same(at("coo", total, diagonal), at("coo", row, diagonal, times_n), ROUNDING)
    with pytest.raises(AssertionError):  # and elsewhere they differ
        assert_same(at("coo", count, ratings), at("coo", row, ratings), ROUNDING)


def test_shapes_are_checked_while_testing(ratings):
    dense = compiled("autodiff", SPEC).prepare(ratings)
    lane = jax.eval_shape(lambda sums: lane_terms(sums, LANE, SPEC), dense.sums)
    factors = random_factors(SPEC)
    wrong_way_round = pytest.raises(jaxtyping.TypeCheckError)
    for weight, outcome in (
        (dense.weight, contextlib.nullcontext()),
        (dense.weight.T, wrong_way_round),
    ):
        with outcome:
            jax.eval_shape(dense_loss, factors, dense.value, weight, lane)
