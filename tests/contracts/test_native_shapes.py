"""The compiled kernels at shapes about the width of a register, of a tile and of a block of rows.

`tests/native/sanitize.py` runs these under sanitizers, on every instruction set.
"""

import functools
import itertools
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from helpers import assert_close, configured
from marks import often

from mfjax import KERNELS, Bounds, Factors, Hparams, Kernel, Ratings, Spec, Tiling
from mfjax.checks.compare import relative_error
from mfjax.kernels.kernel import ITEM, USER
from mfjax.kernels.native import calls
from mfjax.kernels.native.library import Missing, library
from mfjax.objective import LaneTerms, lane_terms, pin
from mfjax.testing import random_factors
from mfjax.types import MISSING, REG_BY

pytestmark = pytest.mark.skipif(
    isinstance(library(), Missing), reason="there are no compiled kernels here"
)
TOLERANCE = {"float64": 1e-10, "float32": 1e-4}  # relative; sums of up to 300 products of 130
SIZES = [(1, 1, 1), (6, 5, 16), (3, 140, 331), (140, 3, 331), (7, 4, 0)]  # users, items, ratings
RANKS = [1, 2, 3, 5, 8, 9, 15, 16, 17, 31, 33, 64, 65, 80, 128, 130]
OFTEN = [1, 130]  # the others are slow tests
LAZY = ["sgd", "lazy_adagrad", "lazy_adam"]  # of conf/optimizer


class Case(NamedTuple):
    """A kernel and what it works on."""

    spec: Spec
    hparams: Hparams
    ratings: Ratings
    kernel: Kernel
    layout: Any
    lane: LaneTerms
    factors: Factors  # pinned


def specs():
    """Each rank in both types, with a size, a convention and a number of threads in turn."""
    for n, (rank, dtype) in enumerate(itertools.product(RANKS, TOLERANCE)):
        users, items, count = SIZES[n % len(SIZES)]
        spec = Spec(
            users,
            items,
            max_rank=rank,
            bias=n % 4 < 2,
            missing=MISSING[n % 3],
            reg_by=REG_BY[n // 2 % 3],
            dtype=dtype,
            tiling=Tiling(shards=1 + n % 2),
        )
        marks = () if rank in OFTEN else pytest.mark.slow
        yield pytest.param((spec, count), id=f"native-{rank}-{dtype}-{users}x{items}", marks=marks)


@functools.cache
def made(spec: Spec, count: int) -> Case:
    values = {"reg": 0.3, "reg_bias": 0.07, "rank": spec.max_rank, "fold": 1}
    hparams = jax.device_put(Hparams.of(spec.dtype, **values))
    ratings = some_ratings(spec, count)
    kernel = KERNELS["native"](spec)
    layout = jax.device_put(kernel.prepare(ratings))
    lane = lane_terms(layout.sums, hparams, spec)
    factors = pin(random_factors(spec), lane.columns)
    return Case(spec, hparams, ratings, kernel, layout, lane, factors)


def some_ratings(spec: Spec, count: int) -> Ratings:
    """In no order, with weights and folds -1, 0 and 1."""
    rng = np.random.default_rng(count)
    place = rng.permutation(spec.num_users * spec.num_items)[:count]
    user, item = np.divmod(place, spec.num_items)
    n = len(place)
    value = 3 + rng.normal(size=n)
    weight = rng.uniform(0.5, 2, n)
    return Ratings.of(user, item, value, weight, np.arange(n) % 3 - 1, dtype=spec.dtype)


@pytest.fixture(params=specs())
def case(request) -> Case:
    return made(*request.param)


def by_hand(case: Case, factors: Factors) -> tuple[float, list[np.ndarray]]:
    """(L, ∂L) in float64 by whole matrices: equations (1) and (3) of `mfjax.objective`."""
    lane = jax.tree.map(lambda x: np.asarray(x, np.float64), case.lane)
    sides = [np.asarray(side, np.float64) for side in factors]
    ratings = case.ratings
    train = ratings.fold != int(case.hparams.fold)
    rated = (ratings.user[train], ratings.item[train])
    weight = np.full((len(sides[0]), len(sides[1])), lane.alpha)
    target = np.broadcast_to(lane.background, weight.shape).copy()
    weight[rated] = ratings.weight[train]
    target[rated] = ratings.value[train] - lane.centre
    residual = sides[0] @ sides[1].T - target
    error = weight * residual
    loss = (error * residual).sum() / 2
    gradient = []
    for side, sums in enumerate((error @ sides[1], error.T @ sides[0])):
        columns = lane.columns[side]
        decay = lane.row_reg[side][:, None] * columns.reg * sides[side]
        loss += (decay * sides[side]).sum() / 2
        gradient.append(lane.scale * (sums + decay) * columns.free)
    return lane.scale * loss, gradient


def test_the_gradient_and_the_objective(case):
    loss, gradient = case.kernel.gradient(case.factors, case.layout, case.lane)
    true_loss, true_gradient = by_hand(case, case.factors)
    tolerance = TOLERANCE[case.spec.dtype]
    assert float(loss) == pytest.approx(true_loss, rel=tolerance)
    for ours, theirs in zip(gradient, true_gradient, strict=True):
        assert relative_error(np.asarray(ours), theirs) <= tolerance
    objective = case.kernel.objective(case.factors, case.layout, case.lane)
    assert float(objective) == pytest.approx(true_loss, rel=tolerance)


@pytest.mark.parametrize("side", [USER, ITEM])
def test_rows_at_their_minimum_have_no_gradient(case, side):
    before = by_hand(case, case.factors)[1][side]
    rows = case.kernel.solve_rows(case.factors, side, case.layout, case.lane)
    there = case.factors._replace(**{Factors._fields[side]: rows})
    after = by_hand(case, there)[1][side]
    scale = max(np.abs(before).max(), 1)
    assert np.abs(after).max() <= 10 * TOLERANCE[case.spec.dtype] * scale


@pytest.mark.parametrize("side", [USER, ITEM])
def test_each_step_of_conjugate_gradients_is_lower(case, side):
    def after(steps):
        rows, loss = case.kernel.approach_rows(
            case.factors, side, case.layout, case.lane, steps=steps
        )
        there = by_hand(case, case.factors._replace(**{Factors._fields[side]: rows}))[0]
        assert float(loss) == pytest.approx(there, rel=TOLERANCE[case.spec.dtype])
        return there

    rounding = TOLERANCE[case.spec.dtype] * after(0)
    assert after(0) == pytest.approx(by_hand(case, case.factors)[0], rel=1e-6)
    assert after(3) <= after(1) + rounding <= after(0) + 2 * rounding


def test_the_sums_of_errors(case):
    ratings = case.ratings
    bounds = Bounds(2.5, 3.25)
    user, item = (np.asarray(side, np.float64) for side in case.factors)
    products = (user[ratings.user] * item[ratings.item]).sum(1)
    error = np.clip(products + float(case.lane.centre), *bounds) - ratings.value
    is_held_out = ratings.fold == 1
    found = calls.errors(case.factors, jax.device_put(ratings), case.lane, bounds, case.spec)
    for of_part, is_of in zip(found, (~is_held_out, is_held_out), strict=True):
        weight = ratings.weight * is_of
        sums = (weight * error**2).sum(), (weight * abs(error)).sum(), weight.sum()
        np.testing.assert_allclose(of_part, sums, rtol=10 * TOLERANCE[case.spec.dtype], atol=1e-30)


@pytest.mark.parametrize("name", often(LAZY, one_of=3))
@pytest.mark.parametrize("batch_size", often([7, 1], one_of=2))
@pytest.mark.parametrize(
    "rank, dtype", often([(33, "float64"), (1, "float64"), (5, "float32")], one_of=3)
)
def test_an_epoch_is_that_of_xla(name, batch_size, rank, dtype):
    spec = Spec(6, 5, max_rank=rank, bias=rank > 1, dtype=dtype)
    case = made(spec, 16)
    after = {}
    for kernel in ("native", "xla"):
        visitor = KERNELS[kernel](spec).visitor(configured(name), batch_size)
        layout = jax.device_put(visitor.prepare(case.ratings))
        state = visitor.init(case.factors, layout, case.hparams)
        for epoch in range(2):
            state, info = visitor.visit(state, layout, case.hparams, case.lane, epoch)
        after[kernel] = (*state.factors, *map(np.asarray, info))
    assert_close(after["native"], after["xla"], TOLERANCE[dtype])
