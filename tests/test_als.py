"""Alternating least squares: each half-step is the exact minimum, by whatever way, and conjugate gradients come near it."""

import itertools
from dataclasses import replace

import jax
import numpy as np
import pytest
from test_gradients import at
from test_methods import HPARAMS, PLAIN, assert_close, epochs, held_in, make, random_factors

from mfjax import METHODS, Factors, Hparams, InputError, Lane, Problem, Ratings, Schedule, Spec, Sweep, Tiling
from mfjax.checks.compare import relative_error
from mfjax.kernels.normal import _solved, _solved_in_pieces
from mfjax.types import LOSS_SCALE, MISSING, NO_FOLD, REG_BY

LARGE = Spec(20, 310, max_rank=16, reg_by="row", dtype="float64", tiling=Tiling(width=8, group=8))
SMALL = {  # of the 6 x 5 ratings: every missing treatment and every convention with and without bias, all solved by columns
    f"{missing}-{'bias' * bias or 'plain'}": Spec(
        *(6, 5, 3, bias, missing, LOSS_SCALE[i - bias], REG_BY[i + bias - 2]), dtype="float64"
    )
    for (i, missing), bias in itertools.product(enumerate(MISSING), (True, False))
}
CASES = {name: ("ratings", spec) for name, spec in SMALL.items()} | {
    # on the skewed ones, all strips but that of the user with 300 ratings are solved by their few ratings
    "few": ("skewed", LARGE),
    "few-two shards": ("skewed", replace(LARGE, tiling=Tiling(width=8, group=8, shards=2))),
    "columns": ("skewed", replace(LARGE, tiling=Tiling(width=16, group=8))),
    "two shards": ("skewed", replace(LARGE, max_rank=3, missing="item_mean", tiling=Tiling(shards=2))),
}
EVERYONE = HPARAMS._replace(fold=np.int32(NO_FOLD))
RUNS = {}


def lane_of(spec):
    """A setting whose rank is below the program's, with a fold held out."""
    return HPARAMS._replace(rank=np.int32(2 * spec.max_rank // 3))


@pytest.fixture
def train(request):
    """(factors, infos) of three epochs of a method from random factors, `[0]` the start; each case trains once."""

    def of(name, data, spec):
        if (name, data, spec) not in RUNS:
            start = random_factors(spec, lane_of(spec))
            RUNS[name, data, spec] = epochs(make(name, spec), request.getfixturevalue(data), lane_of(spec), 3, start)
        return RUNS[name, data, spec]

    return of


@pytest.fixture
def matrix(request):
    """(loss, gradient) of the dense objective, which shares no code with the tiles."""

    def of(data, spec, factors):
        return at("matrix", replace(spec, tiling=Tiling()), request.getfixturevalue(data), lane_of(spec), factors)

    return of


def largest(side):
    return float(np.abs(side).max())


# the exact minimum


@pytest.mark.parametrize("data, spec", CASES.values(), ids=CASES)
def test_each_half_step_is_the_exact_minimum(train, matrix, data, spec):
    factors, _ = train("als", data, spec)
    at_start = matrix(data, spec, factors[0])[1]
    for before, after in itertools.pairwise(factors):
        half = matrix(data, spec, Factors(after.user, before.item))[1]
        full = matrix(data, spec, after)[1]
        assert largest(half.user) <= 1e-8 * largest(at_start.user) < largest(half.item)  # float64, conditions up to 1e4
        assert largest(full.item) <= 1e-8 * largest(at_start.item)
        assert largest(full.user) > 1e-8 * largest(at_start.user)  # not at the minimum of both already


def test_the_cases_cover_every_treatment_and_convention_with_and_without_bias():
    for field, values in (("missing", MISSING), ("loss_scale", LOSS_SCALE), ("reg_by", REG_BY)):
        assert {(getattr(s, field), s.bias) for s in SMALL.values()} == set(itertools.product(values, (True, False)))


@pytest.mark.parametrize("method, case", [("als", case) for case in CASES] + [("als_cg", f"{m}-bias") for m in MISSING])
def test_the_objective_never_rises_and_is_what_info_says(train, matrix, method, case):
    data, spec = CASES[case]
    factors, infos = train(method, data, spec)
    losses = [float(matrix(data, spec, f)[0]) for f in factors]
    assert [float(info.loss) for info in infos] == pytest.approx(losses[1:], rel=1e-10)
    assert all(after < before for before, after in itertools.pairwise(losses))
    assert all(info.update_norm > 0 for info in infos)


@pytest.mark.parametrize("case, tolerance", [("columns", 1e-10), ("few-two shards", 1e-12)])  # another way; another order
def test_rows_by_their_few_ratings_are_rows_by_columns_and_rows_of_two_shards(train, case, tolerance):
    (few, infos), (others, other_infos) = (train("als", *CASES[name]) for name in ("few", case))
    assert_close(few[-1], others[-1], tolerance)
    assert [float(info.loss) for info in infos] == pytest.approx([float(info.loss) for info in other_infos], rel=tolerance)


@pytest.mark.parametrize("name", ["als", "als_cg"])
def test_cold_rows_stay_at_zero(ratings, name):
    after = epochs(make(name, SMALL["ignore-bias"]), ratings, HPARAMS, 2)[0][-1]
    for side, rows, pin in zip(after, (ratings.user, ratings.item), (4, 3), strict=True):
        cold = sorted(set(range(len(side))) - set(rows[held_in(ratings)]))
        free = np.delete(np.asarray(side), pin, axis=1)
        assert cold and not free[cold].any() and largest(free) > 0.1


def test_the_minimum_of_a_cold_row_is_zero_wherever_it_starts(train):
    factors, _ = train("als", *CASES["ignore-plain"])
    assert factors[0].user[3].any() and not factors[1].user[3].any()


def test_the_scale_of_the_loss_changes_no_factor(train):
    spec = SMALL["zero-bias"]
    ours, theirs = (train("als", "ratings", replace(spec, loss_scale=s)) for s in (spec.loss_scale, "mean"))
    assert spec.loss_scale != "mean"
    assert_close(ours[0][-1], theirs[0][-1], 1e-14)
    assert float(ours[1][-1].loss) > 2 * float(theirs[1][-1].loss)


@pytest.mark.parametrize("missing", MISSING)
def test_as_many_conjugate_gradient_steps_as_columns_solve_the_row(train, missing):
    spec = SMALL[f"{missing}-bias"]
    assert spec.cg_steps == lane_of(spec).rank + 1
    (_, exact, *_), (_, by_steps, *_) = (train(name, "ratings", spec)[0] for name in ("als", "als_cg"))
    assert_close(by_steps, exact, 1e-6)


@pytest.mark.parametrize("name, max_rank", [("als", 5), ("als", 16), ("als_cg", 5)])  # 16: by the row's few ratings
def test_no_regulariser_recovers_a_planted_matrix(name, max_rank):
    rng = np.random.default_rng(4)
    planted = rng.normal(size=(6, 2)) @ rng.normal(size=(2, 5))
    whole = Ratings.of(*np.indices(planted.shape).reshape(2, -1), planted.ravel(), dtype="float64")
    spec = Spec(6, 5, max_rank, bias=False, reg_by="row", cg_steps=10, dtype="float64")
    for rank in (5, 2) if name == "als" else (2,):
        hparams = EVERYONE._replace(reg=np.float64(1e-9), rank=np.int32(rank))
        factors, _ = epochs(make(name, spec), whole, hparams, 6)
        np.testing.assert_allclose(factors[-1].user @ factors[-1].item.T, planted, atol=1e-6)  # λ moves it by about 1e-9


def test_float32_is_close_to_float64(skewed, train):
    to_float32 = lambda x: x.astype(np.float32) if x.dtype.kind == "f" else x  # noqa: E731
    narrow, start, lane = jax.tree.map(to_float32, (skewed, random_factors(LARGE, lane_of(LARGE)), lane_of(LARGE)))
    factors, _ = epochs(make("als", replace(LARGE, dtype="float32")), narrow, lane, 3, start)
    for ours, expected in zip(factors[-1], train("als", *CASES["few"])[0][-1], strict=True):
        assert ours.dtype == np.float32 and np.isfinite(ours).all()
        assert relative_error(np.asarray(ours, "float64"), np.asarray(expected)) < 1e-3  # 1e-7 times the condition


# programs


def test_three_settings_are_one_trace(ratings):
    traces, method = [], METHODS["als"](SMALL["ignore-plain"], None, PLAIN)
    layout = method.prepare(ratings)
    step = jax.jit(lambda *args: traces.append(args) or method.step(*args))
    state = make("als", SMALL["ignore-plain"]).init(jax.random.key(0), layout, HPARAMS)
    for reg in (0.5, 0, np.float32(1)):
        step.eval_shape(state, layout, Hparams.of("float64", reg=reg, rank=2), None)
    assert len(traces) == 1


@pytest.mark.parametrize("name, case", [("als", "few"), ("als_cg", "zero-bias")])
def test_lanes_under_vmap_are_a_loop_of_lanes(request, name, case):
    data, spec = CASES[case]
    method = make(name, spec)
    layout, lanes = method.prepare(request.getfixturevalue(data)), [lane_of(spec), EVERYONE._replace(reg=np.float64(0.05))]
    starts = [method.init(jax.random.key(0), layout, hparams) for hparams in lanes]
    states, hparams = (jax.tree.map(lambda *leaves: np.stack(leaves), *both) for both in (starts, lanes))
    after, infos = jax.jit(jax.vmap(method.step, (0, None, 0, None)))(states, layout, hparams, None)
    for i, (hparams, start) in enumerate(zip(lanes, starts, strict=True)):
        state, info = method.step(start, layout, hparams, None)
        assert_close([side[i] for side in after.factors], state.factors, 1e-10)  # rounding, times the condition
        assert float(infos.loss[i]) == pytest.approx(float(info.loss), rel=1e-10)


@pytest.mark.parametrize("columns", [5, 24, 72])  # all at once, by 8 and one by one
def test_solving_in_pieces_is_solving(columns):
    rng = np.random.default_rng(columns)
    half, right = rng.normal(size=(64, columns, columns)), rng.normal(size=(64, columns))
    a = half @ half.transpose(0, 2, 1) + np.eye(columns)
    pieces, whole = (jax.jit(solve)(a, right) for solve in (_solved_in_pieces, _solved))
    assert_close([pieces], [whole], 1e-10)
    assert_close([np.einsum("ncd,nd->nc", a, pieces)], [right], 1e-10)


# what it refuses


def unregularised(**fields):
    return Hparams(reg=0.0, rank=3, fold=1)._replace(**fields)


def test_a_row_that_nothing_determines_is_refused(ratings):
    spec = SMALL["ignore-plain"]
    check = METHODS["als"](replace(spec, bias=True), None, PLAIN).check
    counts = np.bincount(ratings.user[held_in(ratings)])
    first = np.flatnonzero((counts > 0) & (counts < 4))[0]
    with pytest.raises(
        InputError, match=rf"reg=0: user {first} .* has {counts[first]} training .* 4 free columns(?s:.*)hparams.reg"
    ):
        check(ratings, unregularised())
    enough = ratings._replace(user=np.arange(19) // 16, item=np.arange(19) % 4)  # 16 of user 0, on four items
    with pytest.raises(InputError, match=r"reg=0: item 0 .* has \d training"):
        check(enough, unregularised(fold=NO_FOLD, rank=5))
    for hparams in (unregularised(reg=0.1), unregularised(rank=0)):
        check(ratings, hparams)
    for missing in ("item_mean", "zero"):
        METHODS["als"](replace(spec, missing=missing), None, PLAIN).check(ratings, unregularised())
    METHODS["als_cg"](spec, None, PLAIN).check(ratings, unregularised())


def test_a_sweep_refuses_it_before_it_trains(ratings):
    problem = Problem(ratings, ratings._replace(weight=0 * ratings.weight), np.array([-np.inf, np.inf]))
    sweep = Sweep(SMALL["ignore-plain"], lambda spec: METHODS["als"](spec, None, PLAIN), {0: problem}, Schedule(2), width=1)
    with pytest.raises(InputError, match="method=als with reg=0: user "):
        sweep.train([Lane(Hparams(reg=0.1, fold=1), 2), Lane(unregularised(), 2)])
    assert not sweep.programs
