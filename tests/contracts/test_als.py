"""Alternating least squares: each half-step is the exact minimum, and steps come near it."""

import itertools
from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest
from helpers import assert_close, at, epochs, held_in, laid_out, make, method_of, pinned_factors

from mfjax import (
    Bounds,
    Factors,
    Hparams,
    InputError,
    Lane,
    Plan,
    Problem,
    Ratings,
    Schedule,
    Spec,
    Sweep,
    Tiling,
)
from mfjax.checks.compare import relative_error
from mfjax.kernels.normal import _solved, in_pieces
from mfjax.testing import LANE, lane
from mfjax.types import LOSS_SCALE, MISSING, NO_FOLD, REG_BY

LARGE = Spec(
    num_users=20,
    num_items=310,
    max_rank=16,
    reg_by="row",
    dtype="float64",
    tiling=Tiling(width=8, group=8),
)
# of the 6 x 5 ratings, all solved by columns: every missing treatment and every convention with
# and without bias
SMALL = {
    f"{missing}-{'bias' * bias or 'plain'}": Spec(
        num_users=6,
        num_items=5,
        max_rank=3,
        bias=bias,
        missing=missing,
        loss_scale=LOSS_SCALE[i - bias],
        reg_by=REG_BY[i + bias - 2],
        dtype="float64",
    )
    for (i, missing), bias in itertools.product(enumerate(MISSING), (True, False))
}
CASES = {name: ("ratings", spec) for name, spec in SMALL.items()} | {
    # of the skewed ones, all strips but that of the user with 300 are solved by their few ratings
    "few": ("skewed", LARGE),
    "few-two shards": ("skewed", replace(LARGE, tiling=Tiling(width=8, group=8, shards=2))),
    "columns": ("skewed", replace(LARGE, tiling=Tiling(width=16, group=8))),
    "two shards": (
        "skewed",
        replace(LARGE, max_rank=3, missing="item_mean", tiling=Tiling(shards=2)),
    ),
}
TRIED = [  # two shards compile twice as long
    pytest.param(*case, id=name, marks=[pytest.mark.slow] * ("shards" in name))
    for name, case in CASES.items()
]
RUNS = {}


def lane_of(spec):
    """A setting whose rank is below the program's, with a fold held out."""
    return lane(rank=2 * spec.max_rank // 3)


@pytest.fixture
def train(request):
    """(factors, infos) of three epochs from random factors; each case trains once."""

    def of(name, data, spec):
        if (name, data, spec) not in RUNS:
            ratings = request.getfixturevalue(data)
            hparams = lane_of(spec)
            start = pinned_factors(spec, hparams)
            RUNS[name, data, spec] = epochs(make(name, spec), ratings, hparams, 3, start)
        return RUNS[name, data, spec]

    return of


@pytest.fixture
def matrix(request):
    """(loss, gradient) of the dense objective, which shares no code with the tiles."""

    def of(data, spec, factors):
        dense = replace(spec, tiling=Tiling())
        return at("matrix", dense, request.getfixturevalue(data), lane_of(spec), factors)

    return of


def largest(side):
    return float(np.abs(side).max())


# the exact minimum


@pytest.mark.parametrize("data, spec", TRIED)
def test_each_half_step_is_the_exact_minimum(train, matrix, data, spec):
    factors, _ = train("als", data, spec)
    at_start = matrix(data, spec, factors[0])[1]
    nothing = Factors(*(1e-8 * largest(side) for side in at_start))  # conditions up to 1e4
    for before, after in itertools.pairwise(factors):
        half = matrix(data, spec, Factors(after.user, before.item))[1]
        full = matrix(data, spec, after)[1]
        assert largest(half.user) <= nothing.user < largest(half.item)
        assert largest(full.item) <= nothing.item
        assert largest(full.user) > nothing.user  # not at the minimum of both already


def test_the_cases_cover_every_treatment_and_convention_with_and_without_bias():
    for field, values in (("missing", MISSING), ("loss_scale", LOSS_SCALE), ("reg_by", REG_BY)):
        seen = {(getattr(spec, field), spec.bias) for spec in SMALL.values()}
        assert seen == set(itertools.product(values, (True, False)))


@pytest.mark.parametrize(
    "method, case",
    [("als", case) for case in CASES] + [("als_cg", f"{missing}-bias") for missing in MISSING],
)
def test_the_objective_never_rises_and_is_what_info_says(train, matrix, method, case):
    data, spec = CASES[case]
    factors, infos = train(method, data, spec)
    losses = [float(matrix(data, spec, f)[0]) for f in factors]
    assert [float(info.loss) for info in infos] == pytest.approx(losses[1:], rel=1e-10)
    assert all(after < before for before, after in itertools.pairwise(losses))
    assert all(info.update_norm > 0 for info in infos)


@pytest.mark.parametrize(
    "case, tolerance",
    [("columns", 1e-10), ("few-two shards", 1e-12)],  # another way; another order
)
def test_rows_by_their_few_ratings_are_rows_by_columns_and_rows_of_two_shards(
    train, case, tolerance
):
    few, infos = train("als", *CASES["few"])
    others, other_infos = train("als", *CASES[case])
    assert_close(few[-1], others[-1], tolerance)
    losses = [float(info.loss) for info in infos]
    assert losses == pytest.approx([float(info.loss) for info in other_infos], rel=tolerance)


@pytest.mark.parametrize("name", ["als", "als_cg"])
def test_cold_rows_stay_at_zero(ratings, name):
    (*_, after), _ = epochs(make(name, SMALL["ignore-bias"]), ratings, LANE, 2)
    for side, rows, pinned in zip(after, (ratings.user, ratings.item), (4, 3), strict=True):
        cold = sorted(set(range(len(side))) - set(rows[held_in(ratings)]))
        free = np.delete(np.asarray(side), pinned, axis=1)
        assert cold
        assert not free[cold].any()
        assert largest(free) > 0.1


def test_the_minimum_of_a_cold_row_is_zero_wherever_it_starts(train):
    factors, _ = train("als", *CASES["ignore-plain"])
    assert factors[0].user[3].any()
    assert not factors[1].user[3].any()


def test_the_scale_of_the_loss_changes_no_factor(train):
    spec = SMALL["zero-bias"]
    ours, theirs = (
        train("als", "ratings", replace(spec, loss_scale=scale))
        for scale in (spec.loss_scale, "mean")
    )
    assert spec.loss_scale != "mean"
    assert_close(ours[0][-1], theirs[0][-1], 1e-14)
    assert float(ours[1][-1].loss) > 2 * float(theirs[1][-1].loss)


@pytest.mark.parametrize("missing", MISSING)
def test_as_many_conjugate_gradient_steps_as_columns_solve_the_row(train, missing):
    spec = SMALL[f"{missing}-bias"]
    assert lane_of(spec).rank + 1 == 3  # the steps of als_cg where none are given
    _, exact, *_ = train("als", "ratings", spec)[0]
    _, by_steps, *_ = train("als_cg", "ratings", spec)[0]
    assert_close(by_steps, exact, 1e-6)


@pytest.mark.parametrize(
    "name, max_rank, own",
    [("als", 5, {}), ("als", 16, {}), ("als_cg", 5, {"cg_steps": 10})],  # 16: by few ratings
    ids=["als-5", "als-16", "als_cg-5"],
)
def test_no_regulariser_recovers_a_planted_matrix(name, max_rank, own):
    rng = np.random.default_rng(4)
    planted = rng.normal(size=(6, 2)) @ rng.normal(size=(2, 5))
    cells = np.indices(planted.shape).reshape(2, -1)
    whole = Ratings.of(*cells, planted.ravel(), dtype="float64")
    spec = Spec(6, 5, max_rank, bias=False, reg_by="row", dtype="float64")
    for rank in (5, 2) if name == "als" else (2,):
        hparams = lane(reg=1e-9, rank=rank, fold=NO_FOLD)
        (*_, after), _ = epochs(make(name, spec, **own), whole, hparams, 6)
        product = after.user @ after.item.T
        np.testing.assert_allclose(product, planted, atol=1e-6)  # λ moves it by about 1e-9


# without a regulariser


def without_regulariser(share, noise, bias):
    """Ratings of a matrix of rank 2, and the factors of two epochs at rank 5 without λ."""
    rng = np.random.default_rng(4)
    matrix = rng.normal(size=(20, 2)) @ rng.normal(size=(2, 16)) + noise * rng.normal(size=(20, 16))
    user, item = np.nonzero(rng.random(matrix.shape) < share)
    ratings = Ratings.of(user, item, matrix[user, item], dtype="float64")
    spec = Spec(20, 16, 5, bias=bias, dtype="float64")
    hparams = lane(reg=0, reg_bias=0, rank=5, fold=NO_FOLD)
    method = make("als", spec)
    method.check(ratings, hparams)
    factors, infos = epochs(method, ratings, hparams, 2)
    return ratings, [jax.tree.map(np.asarray, after) for after in factors], infos


@pytest.mark.parametrize("bias", [True, False])
def test_without_a_regulariser_a_regular_row_is_exact(bias):
    ratings, (*_, before, after), _ = without_regulariser(0.7, 0.3, bias)
    features = before.item[:, [0, 1, 2, 3, 4, *[5] * bias]]  # 5 is pinned at 1
    target = ratings.value.astype(float)
    if bias:
        target -= ratings.value.mean() + before.item[ratings.item, 6]
    for user, ours in enumerate(after.user[:, : 5 + bias]):
        own = ratings.user == user
        exact = np.linalg.lstsq(features[ratings.item[own]], target[own])[0]
        assert_close([ours], [exact], 1e-10)


def test_without_a_regulariser_a_singular_row_is_a_minimum_of_about_the_least_norm():
    ratings, (_, after, _), (info, _) = without_regulariser(1.0, 0.0, bias=False)
    size = np.linalg.svd(after.user, compute_uv=False)
    assert size[2] < 1e-10 * size[0]  # of five columns, two are independent
    target = ratings.value.reshape(20, 16)
    least = np.linalg.pinv(after.user, rcond=1e-8) @ target
    assert_close([after.user @ after.item.T], [target], 1e-10)
    norms = np.linalg.norm(after.item, axis=1)
    assert np.all(norms < 1.05 * np.linalg.norm(least, axis=0))
    assert float(info.loss) < 1e-12


def test_float32_is_close_to_float64(skewed, train):
    def to_float32(x):
        return x.astype(np.float32) if x.dtype.kind == "f" else x

    hparams = lane_of(LARGE)
    wide = (skewed, pinned_factors(LARGE, hparams), hparams)
    narrow, start, narrow_hparams = jax.tree.map(to_float32, wide)
    method = make("als", replace(LARGE, dtype="float32"))
    (*_, after), _ = epochs(method, narrow, narrow_hparams, 3, start)
    for ours, expected in zip(after, train("als", *CASES["few"])[0][-1], strict=True):
        assert ours.dtype == np.float32
        assert np.isfinite(ours).all()
        error = relative_error(np.asarray(ours, "float64"), np.asarray(expected))
        assert error < 1e-3  # 1e-7 times the condition


# programs


@pytest.mark.parametrize("name, case", [("als", "few"), ("als_cg", "zero-bias")])
def test_lanes_under_vmap_are_a_loop_of_lanes(request, name, case):
    data, spec = CASES[case]
    method = make(name, spec)
    layout = laid_out(method, request.getfixturevalue(data))
    lanes = [lane_of(spec), lane(fold=NO_FOLD, reg=0.05)]
    starts = [method.init(jax.random.key(0), layout, hparams) for hparams in lanes]
    states, hparams = (
        jax.tree.map(lambda *leaves: np.stack(leaves), *trees) for trees in (starts, lanes)
    )
    stepped = jax.jit(jax.vmap(method.step, (0, None, 0, None)))
    after, infos = stepped(states, layout, hparams, 0)
    for i, (of_lane, start) in enumerate(zip(lanes, starts, strict=True)):
        state, info = method.step(start, layout, of_lane, 0)
        ours = [side[i] for side in after.factors]
        assert_close(ours, state.factors, 1e-10)  # rounding, times the condition
        assert float(infos.loss[i]) == pytest.approx(float(info.loss), rel=1e-10)


@pytest.mark.parametrize("columns", [5, 24, 72])  # all at once, by 8 and one by one
def test_solving_in_pieces_is_solving(columns):
    rng = np.random.default_rng(columns)
    half = rng.normal(size=(64, columns, columns))
    right = rng.normal(size=(64, columns))
    a = half @ half.transpose(0, 2, 1) + np.eye(columns)
    pieces = jax.jit(partial(in_pieces, _solved))(a, right)
    whole = jax.jit(_solved)(a, right)
    assert_close([pieces], [whole], 1e-10)
    assert_close([np.einsum("ncd,nd->nc", a, pieces)], [right], 1e-10)


# what it refuses


def unregularised(**fields):
    return Hparams(reg=0.0, reg_bias=0.0, rank=3, fold=1)._replace(**fields)


def test_a_row_that_nothing_determines_is_refused(ratings):
    spec = SMALL["ignore-plain"]
    check = method_of("als", replace(spec, bias=True)).check
    counts = np.bincount(ratings.user[held_in(ratings)])
    user = np.flatnonzero((counts > 0) & (counts < 4))[0]
    expected = rf"reg=0: user {user} .* has {counts[user]} training .* 4 free columns"
    with pytest.raises(InputError, match=expected + r"(?s:.*)hparams.reg"):
        check(ratings, unregularised())
    by_user_0 = ratings._replace(user=np.arange(19) // 16, item=np.arange(19) % 4)
    with pytest.raises(InputError, match=r"reg=0: item 0 .* has \d training"):
        check(by_user_0, unregularised(fold=NO_FOLD, rank=5))


@pytest.mark.parametrize("missing, weight, of", [("item_mean", 1.0, 5), ("zero", 0.0, 3)])
def test_missing_entries_determine_a_row_only_if_they_weigh_and_are_as_many(
    ratings, missing, weight, of
):
    spec = replace(SMALL["ignore-plain"], missing=missing, max_rank=6, bias=True)
    hparams = unregularised(missing_weight=weight, rank=6)
    expected = rf"user 0 .* has {of} training entries and 7 free columns"
    with pytest.raises(InputError, match=expected):
        method_of("als", spec).check(ratings, hparams)


@pytest.mark.parametrize(
    "name, missing, hparams",
    [
        ("als", "ignore", unregularised(reg=0.1)),
        ("als", "ignore", unregularised(rank=1, reg_bias=0.1)),  # the λ of a bias holds it
        ("als", "ignore", unregularised(rank=0)),
        ("als", "item_mean", unregularised()),
        ("als", "zero", unregularised()),
        ("als_cg", "ignore", unregularised()),
    ],
)
def test_a_row_that_something_determines_is_not_refused(ratings, name, missing, hparams):
    spec = replace(SMALL["ignore-plain"], missing=missing, bias=True)
    method_of(name, spec).check(ratings, hparams)


def test_a_sweep_refuses_it_before_it_trains(ratings):
    nothing = ratings._replace(weight=0 * ratings.weight)
    problem = Problem(ratings, nothing, Bounds(-np.inf, np.inf))
    plan = Plan(
        spec=SMALL["ignore-plain"],
        method=lambda spec: method_of("als", spec),
        problems={(0, 0): problem},
        schedule=Schedule(2),
    )
    sweep = Sweep(plan, lanes_per_program=1)
    lanes = [Lane(Hparams(reg=0.1, fold=1), 2), Lane(unregularised(), 2)]
    with pytest.raises(InputError, match=r"method=als with hparams.reg=0: user "):
        sweep.train(lanes)
    assert not sweep.programs
