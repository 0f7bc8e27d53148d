"""Lanes: a sweep is a loop of fits in one compiled program, and no lane knows of another."""

import itertools
from dataclasses import replace

import jax
import numpy as np
import pytest
from helpers import assert_bitwise, method_of

from mfjax import (
    GRADIENTS,
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
    grid,
    optimizer,
    tune,
)
from mfjax.training.fitting import num_bytes, padded_bytes
from mfjax.training.lanes import rank_group, stacked
from mfjax.training.prepared import padded_together
from mfjax.training.program import Program
from mfjax.training.protocol import predictions
from mfjax.types import NO_FOLD

HPARAMS = Hparams(learning_rate=0.1, reg=0.02, rank=4, init_scale=0.3)
LANES = [  # five lanes of one rank group that differ in all that a lane may
    Lane(HPARAMS, 12),
    Lane(HPARAMS._replace(learning_rate=0.05, fold=1), 12),
    Lane(HPARAMS._replace(reg=0.1, split_seed=1), 12),
    Lane(HPARAMS._replace(rank=8, init_seed=3), 8),
    Lane(HPARAMS._replace(rank=0, fold=NO_FOLD, split_seed=1), 12),
]


def other_programs(sweep, lanes_per_program=None, **plan):
    """The same sweep with a plan that differs in `plan`, and programs of its own."""
    return replace(
        sweep,
        plan=replace(sweep.plan, **plan),
        lanes_per_program=lanes_per_program or sweep.lanes_per_program,
        programs={},
    )


def assert_close(fits, others):
    """The same fits up to rounding: float32, another program, 1e-7 an operation."""
    for ours, theirs in zip(fits, others, strict=True):
        assert (ours.status, ours.best_epoch) == (theirs.status, theirs.best_epoch)
        for a, b in zip(ours.factors, theirs.factors, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max())
        rmse, expected = (fit.history["validation_rmse"] for fit in (ours, theirs))
        np.testing.assert_allclose(rmse, expected, rtol=1e-5)


@pytest.fixture(scope="module")
def fits(sweep):
    return sweep.train(LANES)


def test_order_subset_and_company_change_no_bit(sweep, fits):
    assert_bitwise(sweep.train(LANES[::-1]), fits[::-1])
    assert_bitwise(sweep.train(LANES[1:4:2]), fits[1:4:2])
    differing = [fit.factors.user.tobytes() for fit in fits]
    assert len(set(differing)) == len(LANES)


@pytest.mark.parametrize("lanes_per_program, lane_batch", [(1, 1), (3, 3)])
def test_a_lane_is_the_same_fit_alone_or_under_vmap(sweep, fits, lanes_per_program, lane_batch):
    other = other_programs(sweep, lanes_per_program, lane_batch=lane_batch)
    assert_close(other.train(LANES), fits)


def test_the_devices_that_share_the_lanes_change_no_bit(sweep, fits, monkeypatch):
    first, _ = jax.local_devices()
    monkeypatch.setattr(jax, "local_devices", lambda: [first])
    one = other_programs(sweep)
    assert_bitwise(one.train(LANES), fits)
    (program,) = one.programs.values()
    assert (program.mesh.size, next(iter(sweep.programs.values())).mesh.size) == (1, 2)


def test_a_surplus_column_changes_nothing(sweep, fits, monkeypatch):
    monkeypatch.setattr("mfjax.training.lanes.RANK_GROUP", 8)
    small = other_programs(sweep)
    eight = small.train([LANES[3]])
    user, item = fits[3].factors
    assert list(small.programs) == [(8, 3)]
    assert eight[0].factors.user.shape == (40, 10)
    same = Factors(*(np.hstack([side[:, :8], side[:, 16:]]) for side in (user, item)))
    assert_close(eight, [fits[3]._replace(factors=same)])
    assert not user[:, 8:16].any()
    assert not item[:, 8:16].any()


def test_lanes_are_grouped_by_rank():
    assert [rank_group(rank) for rank in (0, 1, 16, 17, 32)] == [16, 16, 16, 32, 32]


def test_one_trace_for_every_lane_and_the_refit(sweep, monkeypatch):
    traces = []
    traced = Program._train_chunk

    def counted(self, *args):
        traces.append(self)
        return traced(self, *args)

    monkeypatch.setattr(Program, "_train_chunk", counted)
    own = other_programs(sweep)
    outcome = tune(own, [lane.hparams for lane in LANES[:4]], refit=True)
    own.train([LANES[4]])
    assert outcome.refitted
    assert len(outcome.settings) == 4
    assert (len(traces), own.compilations) == (1, 1)
    assert own.compile_seconds > 0


def test_the_history_is_what_the_factors_give(sweep, fits):
    for fit in fits:
        problem = sweep.plan.problems[fit.lane.hparams.cut]
        fold = fit.lane.hparams.fold
        ratings = problem.ratings
        out = (ratings.fold == fold) & (fold >= 0)
        assert fit.mean == pytest.approx(ratings.value[~out].mean(), rel=1e-6)
        error = np.clip(predictions(fit, ratings), *problem.bounds) - ratings.value
        for part, rows in (("train", ~out), ("validation", out)):
            if rows.any():
                rmse = np.sqrt(np.mean(error[rows] ** 2))
                mae = np.abs(error[rows]).mean()
                assert fit.at_best(f"{part}_rmse") == pytest.approx(rmse, rel=1e-5)
                assert fit.at_best(f"{part}_mae") == pytest.approx(mae, rel=1e-5)


def test_tracks_stay_as_they_were_taken_while_the_program_goes_on(sweep):
    program = other_programs(sweep)._program(16, 3)
    lanes = LANES[:3]
    taken = []

    def on_chunk(now, tracks):
        track = tracks()[1]
        taken.append((track, jax.tree.map(np.copy, track)))

    program.run(lanes, [program.blank_track(12)] * 3, on_chunk)
    assert len(taken) == 3  # of 5 epochs each
    for track, as_it_was in taken:
        jax.tree.map(np.testing.assert_array_equal, track, as_it_was)
    assert [track.run.epoch for track, _ in taken] == [5, 10, 12]


def test_what_is_the_same_of_every_lane_is_not_written_out():
    one, other = np.zeros(4), np.ones(4)
    same, different = stacked([(one, one), (one, other)])
    np.testing.assert_array_equal(same, [one, one])
    np.testing.assert_array_equal(different, [one, other])
    assert np.shares_memory(same, one)
    assert not np.shares_memory(different, one)


def test_on_progress_is_told_of_every_epoch(sweep):
    seen = []
    fits = sweep.train(LANES, seen.append)
    assert {now.total for now in seen} == {sum(lane.epochs for lane in LANES)}
    assert [now.done for now in seen] == sorted(now.done for now in seen)
    assert seen[-1].done == seen[-1].total
    best = min(fit.at_best("validation_rmse") for fit in fits[:3])
    assert min(now.score for now in seen[:3]) == pytest.approx(best)


TILED = {  # trained by their own layout of tiles
    "als": lambda spec: method_of("als", spec, kernel="xla"),
    "descent": lambda spec: method_of("descent", spec, gradient="tiles", opt=optimizer("adam")),
}


@pytest.mark.slow
@pytest.mark.parametrize("name, splits", [("als", (0, 1)), ("descent", (1,))])
def test_a_lane_alone_shares_its_rows_out_and_splits_of_other_sizes_stack(
    problem, monkeypatch, name, splits
):
    monkeypatch.setattr("mfjax.training.lanes.RANK_GROUP", 4)  # which compiles in half the time
    rows = np.flatnonzero(problem.ratings.user != 7)[:500]  # other strips, and fewer tiles
    fewer = Ratings(*(column[rows] for column in problem.ratings))
    fewer = fewer._replace(fold=(rows % 2).astype(np.int32))
    problems = {(0, 0): problem, (1, 0): problem._replace(ratings=fewer)}
    hparams = Hparams(learning_rate=0.05, reg=0.1, rank=4, fold=1)
    schedule = Schedule(4, epochs_per_call=2)
    both = Sweep(Plan(Spec(40, 30), TILED[name], problems, schedule), lanes_per_program=2)
    alone = other_programs(both, 1, problems={(seed, 0): problems[seed, 0] for seed in splits})
    lanes = [Lane(hparams, 4), Lane(hparams._replace(reg=0.2, split_seed=1), 4)]
    fits = both.train(lanes)
    assert_close(alone.train([lanes[seed] for seed in splits]), [fits[seed] for seed in splits])
    together = both.programs[4, 2]
    apart = alone.programs[4, 1]
    assert (together.by_row, apart.by_row, jax.device_count()) == (False, True, 2)
    splits_and_shards = [p.data.layout.user.value.shape[:2] for p in (together, apart)]
    assert splits_and_shards == [(2, 1), (len(splits), 2)]


def test_sgd_alone_does_not_share_its_rows_out(sweep):
    assert not Program(sweep.plan, 16, 1).by_row


@pytest.mark.parametrize("lanes_per_program, padded", [(1, 1), (3, 4)])
def test_a_program_that_does_not_fit_is_refused(sweep, monkeypatch, lanes_per_program, padded):
    small = other_programs(sweep, lanes_per_program)
    monkeypatch.setattr("mfjax.memory.memory_bytes", lambda: 40_000)
    expected = (
        rf"(?s){padded} lanes of rank .* need about [\d.]+ GB.* 4e-05 GB"
        r".*a lower lanes_per_program"
    )
    with pytest.raises(InputError, match=expected):
        small.train(LANES[:1])
    assert not small.programs


def test_histories_of_all_lanes_beyond_memory_are_refused(sweep, monkeypatch):
    monkeypatch.setattr("mfjax.memory.machine_bytes", lambda: 10**6)
    expected = "the factors and histories of 300 lanes need about"
    with pytest.raises(InputError, match=expected):
        sweep.train([Lane(HPARAMS._replace(init_seed=seed), 12) for seed in range(300)])


def test_the_size_of_splits_that_are_padded_together_is_known_before_they_are():
    splits = [
        (np.zeros((3, 7), np.float32), np.zeros(4)),
        (np.zeros((5, 2), np.float32), np.ones(9)),
    ]
    together = jax.tree.map(padded_together, *splits)
    assert padded_bytes(splits) == num_bytes(together)


def test_held_out_ratings_do_not_train(descent_sweep):
    def of_both_splits(fold):
        lanes = [Lane(HPARAMS._replace(fold=fold, split_seed=seed), 10) for seed in (0, 1)]
        return descent_sweep.train(lanes)

    ours, theirs = of_both_splits(fold=0)  # in which the two splits differ
    jax.tree.map(np.testing.assert_array_equal, ours.factors, theirs.factors)
    np.testing.assert_array_equal(ours.history["loss"], theirs.history["loss"])
    assert ours.mean == theirs.mean
    assert ours.at_best("validation_rmse") != theirs.at_best("validation_rmse")
    ours, theirs = of_both_splits(fold=1)
    assert not np.array_equal(ours.factors.user, theirs.factors.user)  # the values do differ


def test_warm_factors_start_every_lane(descent_sweep):
    rng = np.random.default_rng(5)
    narrow = Factors(*(rng.normal(size=(rows, 3)).astype(np.float32) for rows in (40, 30)))
    warm = other_programs(descent_sweep, warm=narrow)
    fits = warm.train([Lane(HPARAMS._replace(rank=rank), 1) for rank in (4, 2)])
    # the fourth column starts at 0, and rank 2 leaves the third out
    for rank, fit in zip((3, 2), fits, strict=True):
        spec = replace(warm.plan.spec, max_rank=rank, bias=False)
        gradient = GRADIENTS["matrix"](spec)
        ratings = warm.plan.problems[0, 0].ratings
        layout = gradient.prepare(ratings._replace(value=ratings.value - np.float32(fit.mean)))
        hparams = Hparams.of(**HPARAMS._replace(rank=rank)._asdict())
        factors = Factors(*(side[:, :rank] for side in narrow))
        expected, _ = jax.jit(gradient.value_and_grad)(factors, layout, hparams)
        assert float(fit.history["loss"][0]) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.slow
def test_full_rank_and_no_regulariser_recover_a_planted_matrix():
    rng = np.random.default_rng(4)
    planted = rng.normal(size=(6, 2)) @ rng.normal(size=(2, 5))
    user, item = np.indices(planted.shape).reshape(2, -1)
    whole = Ratings.of(user, item, planted.ravel(), dtype="float64")
    nothing = Ratings.of([], [], [], dtype="float64")
    plan = Plan(
        spec=Spec(6, 5, bias=False, reg_by="row", dtype="float64"),
        method=lambda spec: method_of("descent", spec, opt=optimizer("lbfgs", reads=())),
        problems={(0, 0): Problem(whole, nothing, Bounds(-np.inf, np.inf))},
        schedule=Schedule(200, eval_every=200, epochs_per_call=200),
    )
    sweep = Sweep(plan, lanes_per_program=1)
    unregularised = Hparams(reg=0.0, fold=NO_FOLD)
    full, low, one = sweep.train(
        [Lane(unregularised._replace(rank=rank), 200) for rank in (5, 2, 1)]
    )
    for fit in (full, low):
        product = fit.factors.user @ fit.factors.item.T
        # 200 epochs from the bottom of a flat valley: 6e-6
        np.testing.assert_allclose(product, planted, atol=1e-4)
        assert fit.history["train_rmse"][-1] < 1e-5
        assert fit.factors.user.dtype == np.float64
    second = np.linalg.svd(planted, compute_uv=False)[1]  # Eckart and Young
    assert one.history["train_rmse"][-1] == pytest.approx(second / np.sqrt(30), rel=1e-6)


def test_grid_is_every_combination_in_order():
    lanes = grid(HPARAMS, {"reg": [0.1, 0.2], "init_seed": [0, 1, 2]})
    pairs = [(hparams.reg, hparams.init_seed) for hparams in lanes]
    assert pairs == list(itertools.product([0.1, 0.2], [0, 1, 2]))
    others = {hparams._replace(reg=0, init_seed=0) for hparams in lanes}
    assert others == {HPARAMS._replace(reg=0, init_seed=0)}
    assert grid(HPARAMS, {}) == [HPARAMS]
