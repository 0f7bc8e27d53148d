"""Lanes: a sweep is a loop of fits in one compiled program, and no lane knows of another."""

import itertools
from dataclasses import replace

import jax
import numpy as np
import pytest

from mfjax import (
    GRADIENTS,
    METHODS,
    Factors,
    Hparams,
    InputError,
    Lane,
    Problem,
    Ratings,
    Schedule,
    Spec,
    Sweep,
    carry_out,
    grid,
    optimizer,
)
from mfjax.training.program import Program
from mfjax.training.protocol import predictions
from mfjax.training.sweep import rank_group
from mfjax.types import NO_FOLD

HPARAMS = Hparams(learning_rate=0.1, reg=0.02, rank=4, init_scale=0.3)
LANES = [  # five lanes of one rank group that differ in all that a lane may
    Lane(HPARAMS, 12),
    Lane(HPARAMS._replace(learning_rate=0.05, fold=1), 12),
    Lane(HPARAMS._replace(reg=0.1, data_seed=1), 12),
    Lane(HPARAMS._replace(rank=8, seed=3), 8),
    Lane(HPARAMS._replace(rank=0, fold=NO_FOLD, data_seed=1), 12),
]


def sgd(spec):
    return METHODS["sgd"](spec, None, optimizer("sgd"))


def bitwise(fits, others):
    for ours, theirs in zip(fits, others, strict=True):
        assert ours.lane == theirs.lane
        jax.tree.map(np.testing.assert_array_equal, (ours.factors, ours.history), (theirs.factors, theirs.history))


@pytest.fixture(scope="module")
def fits(sweep):
    return sweep.train(LANES)


def test_order_subset_and_company_change_no_bit(sweep, fits):
    bitwise(sweep.train(LANES[::-1]), fits[::-1])
    bitwise(sweep.train(LANES[1:4:2]), fits[1:4:2])
    differing = [fit.factors.user.tobytes() for fit in fits]
    assert len(set(differing)) == len(LANES)


def close(fits, others):
    for ours, theirs in zip(fits, others, strict=True):  # float32: another program rounds otherwise, 1e-7 an operation
        assert (ours.status, ours.best_epoch) == (theirs.status, theirs.best_epoch)
        for a, b in zip(ours.factors, theirs.factors, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max())
        np.testing.assert_allclose(ours.history.validation_rmse, theirs.history.validation_rmse, rtol=1e-5)


@pytest.mark.parametrize("width, lane_batch", [(1, 1), (3, 3)])
def test_a_lane_is_the_same_fit_alone_or_under_vmap(sweep, fits, width, lane_batch):
    close(replace(sweep, width=width, lane_batch=lane_batch, programs={}).train(LANES), fits)


def test_a_surplus_column_changes_nothing(sweep, fits, monkeypatch):
    monkeypatch.setattr("mfjax.training.sweep.RANK_GROUP", 8)
    small = replace(sweep, programs={})
    eight = small.train([LANES[3]])
    assert list(small.programs) == [(8, 3)] and eight[0].factors.user.shape == (40, 10)
    latent, biases = fits[3].factors.user[:, :8], fits[3].factors.user[:, 16:]
    item = fits[3].factors.item
    same = Factors(np.hstack([latent, biases]), np.hstack([item[:, :8], item[:, 16:]]))
    close(eight, [fits[3]._replace(factors=same)])
    assert not fits[3].factors.user[:, 8:16].any() and not item[:, 8:16].any()


def test_lanes_are_grouped_by_rank():
    assert [rank_group(rank) for rank in (0, 1, 16, 17, 32)] == [16, 16, 16, 32, 32]


def test_one_trace_for_every_lane_and_the_refit(sweep, monkeypatch):
    traces, block = [], Program._block
    monkeypatch.setattr(Program, "_block", lambda self, *args: traces.append(self) or block(self, *args))
    counted = replace(sweep, programs={})
    lanes = [lane.hparams for lane in LANES[:4]]
    outcome = carry_out(counted, lanes, refit=True)
    counted.train([LANES[4]])
    assert outcome.refitted and len(outcome.settings) == 4
    assert (len(traces), counted.compilations) == (1, 1)
    assert counted.compile_seconds > 0


def test_the_history_is_what_the_factors_give(sweep, fits):
    for fit in fits:
        problem, fold = sweep.problems[fit.lane.hparams.data_seed], fit.lane.hparams.fold
        ratings = problem.ratings
        held_out = (ratings.fold == fold) & (fold >= 0)
        assert fit.mean == pytest.approx(ratings.value[~held_out].mean(), rel=1e-6)
        error = np.clip(predictions(fit, ratings), *problem.bounds) - ratings.value
        for name, rows in (("train", ~held_out), ("validation", held_out)):
            if rows.any():
                assert fit.at_best(f"{name}_rmse") == pytest.approx(np.sqrt(np.mean(error[rows] ** 2)), rel=1e-5)
                assert fit.at_best(f"{name}_mae") == pytest.approx(np.abs(error[rows]).mean(), rel=1e-5)


def test_watch_is_told_of_every_epoch(sweep):
    seen = []
    fits = sweep.train(LANES, seen.append)
    assert {progress.total for progress in seen} == {sum(lane.epochs for lane in LANES)}
    assert [p.done for p in seen] == sorted(p.done for p in seen)
    assert seen[-1].done == seen[-1].total
    best = min(fit.at_best("validation_rmse") for fit in fits[:3])
    assert min(p.validation_rmse for p in seen[:3]) == pytest.approx(best)


TILED = {  # trained by their own layout of tiles
    "als": lambda spec: METHODS["als"](spec, None, optimizer("sgd")),
    "descent": lambda spec: METHODS["descent"](spec, GRADIENTS["tiles"](spec), optimizer("adam")),
}


@pytest.mark.parametrize("name, splits", [("als", (0, 1)), ("descent", (1,))])
def test_a_lane_alone_shares_its_rows_out_and_splits_of_other_sizes_stack(problem, name, splits):
    rows = np.flatnonzero(problem.ratings.user != 7)[:500]  # other strips, and fewer tiles
    fewer = problem._replace(ratings=Ratings(*(x[rows] for x in problem.ratings))._replace(fold=rows % 2))
    problems, hparams = {0: problem, 1: fewer}, Hparams(learning_rate=0.05, reg=0.1, rank=4, fold=1)
    both = Sweep(Spec(40, 30), TILED[name], problems, Schedule(4, chunk=2), width=2)
    alone = replace(both, problems={seed: problems[seed] for seed in splits}, width=1, programs={})
    lanes = [Lane(hparams, 4), Lane(hparams._replace(reg=0.2, data_seed=1), 4)]
    fits = both.train(lanes)
    close(alone.train([lanes[seed] for seed in splits]), [fits[seed] for seed in splits])
    together, apart = both.programs[16, 2], alone.programs[16, 1]
    assert (together.by_row, apart.by_row, jax.device_count()) == (False, True, 2)
    assert [p.data.layout.user.value.shape[:2] for p in (together, apart)] == [(2, 1), (len(splits), 2)]  # splits and shards


def test_sgd_alone_does_not_share_its_rows_out(sweep):
    assert not Program(sweep, 16, 1).by_row


@pytest.mark.parametrize("width, padded", [(1, 1), (3, 4)])
def test_a_program_that_does_not_fit_is_refused(sweep, monkeypatch, width, padded):
    small = replace(sweep, width=width, programs={})
    for place in ("mfjax.memory.memory_bytes", "mfjax.training.program.memory_bytes"):
        monkeypatch.setattr(place, lambda: 40_000)
    with pytest.raises(InputError, match=rf"(?s){padded} lanes of rank .* need about [\d.]+ GB.* 4e-05 GB.*a lower width"):
        small.train(LANES[:1])
    assert not small.programs


def test_held_out_ratings_do_not_train(descent_sweep):
    held_out, trained = (
        descent_sweep.train([Lane(HPARAMS._replace(fold=fold, data_seed=seed), 10) for seed in (0, 1)]) for fold in (0, 1)
    )
    jax.tree.map(np.testing.assert_array_equal, held_out[0].factors, held_out[1].factors)
    np.testing.assert_array_equal(held_out[0].history.loss, held_out[1].history.loss)
    assert held_out[0].mean == held_out[1].mean
    assert held_out[0].at_best("validation_rmse") != held_out[1].at_best("validation_rmse")
    assert not np.array_equal(trained[0].factors.user, trained[1].factors.user)  # the values do differ


def test_warm_factors_start_every_lane(descent_sweep):
    rng = np.random.default_rng(5)
    narrow = Factors(rng.normal(size=(40, 3)).astype(np.float32), rng.normal(size=(30, 3)).astype(np.float32))
    warm = replace(descent_sweep, programs={}, warm=narrow)
    fits = warm.train([Lane(HPARAMS._replace(rank=rank), 1) for rank in (4, 2)])
    for rank, fit in zip((3, 2), fits, strict=True):  # the fourth column starts at 0, and rank 2 leaves the third out
        gradient = GRADIENTS["matrix"](replace(warm.spec, max_rank=rank, bias=False))
        centred = warm.problems[0].ratings
        centred = centred._replace(value=centred.value - fit.mean)
        hparams = Hparams.of(**HPARAMS._replace(rank=rank)._asdict())
        factors = Factors(*(side[:, :rank] for side in narrow))
        expected, _ = jax.jit(gradient.value_and_grad)(factors, gradient.prepare(centred), hparams)
        assert float(fit.history.loss[0]) == pytest.approx(float(expected), rel=1e-5)


def test_full_rank_and_no_regulariser_recover_a_planted_matrix():
    rng = np.random.default_rng(4)
    planted = rng.normal(size=(6, 2)) @ rng.normal(size=(2, 5))
    user, item = np.indices(planted.shape).reshape(2, -1)
    whole = Ratings.of(user, item, planted.ravel(), dtype="float64")
    nothing = Ratings.of([], [], [], dtype="float64")
    spec = Spec(6, 5, bias=False, reg_by="row", dtype="float64")
    lbfgs = lambda spec: METHODS["descent"](spec, GRADIENTS["coo"](spec), optimizer("lbfgs", takes=()))  # noqa: E731
    bounds = Problem(whole, nothing, np.array([-np.inf, np.inf]))
    sweep = Sweep(spec, lbfgs, {0: bounds}, Schedule(200, eval_every=200, chunk=200), width=1)
    full, low = (sweep.train([Lane(Hparams(rank=rank, reg=0.0, fold=NO_FOLD), 200)])[0] for rank in (5, 2))
    for fit in (full, low):
        product = fit.factors.user @ fit.factors.item.T
        np.testing.assert_allclose(product, planted, atol=1e-4)  # 200 epochs from the bottom of a flat valley: 6e-6
        assert fit.history.train_rmse[-1] < 1e-5 and fit.factors.user.dtype == np.float64
    one = sweep.train([Lane(Hparams(rank=1, reg=0.0, fold=NO_FOLD), 200)])[0]
    singular = np.linalg.svd(planted, compute_uv=False)
    assert one.history.train_rmse[-1] == pytest.approx(singular[1] / np.sqrt(30), rel=1e-6)  # Eckart and Young


def test_grid_is_every_combination_in_order():
    lanes = grid(HPARAMS, {"reg": [0.1, 0.2], "seed": [0, 1, 2]})
    assert [(h.reg, h.seed) for h in lanes] == list(itertools.product([0.1, 0.2], [0, 1, 2]))
    assert {h._replace(reg=0, seed=0) for h in lanes} == {HPARAMS._replace(reg=0, seed=0)}
    assert grid(HPARAMS, {}) == [HPARAMS]
