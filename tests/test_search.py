"""Search: what random draws are, and that halving trains less, drops the worst and changes no bit of those it keeps."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from mfjax import Halving, Hparams, InputError, Lane, carry_out, grid
from mfjax.training.protocol import carry_out_together
from mfjax.training.search import halve, sample

HPARAMS = Hparams(learning_rate=0.05, reg=0.1, rank=4, init_scale=0.3)
AXES = {"learning_rate": [0.001, 0.01, 0.1], "reg": [0.01, 1.0], "rank": [2, 64], "fold": [0, 1], "seed": [7]}


# random draws


def test_draws_are_log_uniform_between_the_ends_and_seeded():
    lanes = sample(HPARAMS, AXES, 2000, seed=3)
    assert lanes == sample(HPARAMS, AXES, 2000, seed=3) != sample(HPARAMS, AXES, 2000, seed=4)
    for key, low, high in (("learning_rate", 0.001, 0.1), ("reg", 0.01, 1.0)):
        share = np.log([getattr(lane, key) / low for lane in lanes]) / np.log(high / low)
        assert share.min() > -1e-9 and share.max() < 1 + 1e-9
        assert np.abs(np.quantile(share, [0.25, 0.5, 0.75]) - [0.25, 0.5, 0.75]).max() < 0.05
    ranks = {lane.rank for lane in lanes}
    assert ranks <= set(range(2, 65)) and len(ranks) > 40 and all(type(rank) is int for rank in ranks)
    assert {lane.reg_bias for lane in lanes} == {HPARAMS.reg_bias}


def test_every_setting_is_drawn_for_all_folds_and_seeds():
    lanes = sample(HPARAMS, AXES, 5, seed=0)
    assert len(lanes) == 10 and len({lane.setting for lane in lanes}) == 5
    assert [(lane.fold, lane.seed) for lane in lanes] == [(0, 7), (1, 7)] * 5
    more = sample(HPARAMS, {"reg": [0.01, 1.0]}, 5, seed=0)
    assert more == sample(HPARAMS, {"reg": [1.0, 0.3, 0.01]}, 5, seed=0)  # only the ends count


def test_an_axis_without_a_logarithm_is_refused():
    with pytest.raises(InputError, match=r"sweep.reg.*above 0; got 0\.0"):
        sample(HPARAMS, {"reg": [0.0, 1.0]}, 2, seed=0)


# rungs and brackets


@pytest.mark.parametrize(
    "halving, epochs, eval_every, rungs",
    [
        (Halving(eta=4, first=4), 50, 1, [4, 16, 50]),
        (Halving(eta=2, first=3), 12, 1, [3, 6, 12]),
        (Halving(eta=3, first=2), 40, 5, [5, 10, 20, 40]),  # 2, 6, 18, 54: to the next evaluation
        (Halving(eta=3, first=60), 50, 1, [50]),
        (Halving(eta=2, first=1), 40, 5, [5, 10, 20, 35, 40]),
    ],
)
def test_rungs_end_at_the_last_epoch_and_fall_on_evaluations(halving, epochs, eval_every, rungs):
    assert halving.rungs(epochs, eval_every) == rungs


def test_brackets_share_the_settings_and_begin_later():
    halving = Halving(eta=4, first=3, brackets=3)
    dealt = halving.deal(100, 50, 1)
    assert sorted(i for bracket in dealt for i in bracket) == list(range(100))
    assert len(dealt[0]) > len(dealt[1]) > len(dealt[2]) > 0
    assert [halving.rungs(50, 1, bracket)[0] for bracket in range(3)] == [3, 12, 48]
    assert Halving(brackets=1).deal(5, 50, 1) == [[0, 1, 2, 3, 4]]


# halving


def test_jobs_of_one_setting_train_together(sweep):
    seen = []
    jobs = [[HPARAMS._replace(reg=reg)] for reg in (0.1, 0.2, 0.3)]
    outcomes = carry_out_together(sweep, jobs, False, seen.append, Halving(eta=2, first=3))
    assert len(seen) == 3 and [outcome.chosen.fits[0].status for outcome in outcomes] == ["finished"] * 3  # one block of chunks


@pytest.fixture(scope="module")
def lanes():
    return grid(HPARAMS, {"learning_rate": [0.02, 0.1, 1e30, 0.3], "reg": [0.02, 0.3], "fold": [0, 1]})


@pytest.fixture(scope="module")
def full(sweep, lanes):
    """Every lane trained to the end."""
    return sweep.train([Lane(lane, 12) for lane in lanes])


def test_survivors_are_bitwise_those_of_the_full_sweep_and_the_dropped_their_beginnings(sweep, lanes, full):
    narrow = replace(sweep, width=16, programs={})
    fits = halve(narrow, lanes, Halving(eta=2, first=3))
    assert [fit.lane.hparams for fit in fits] == lanes
    ends = {3: 4 + 4, 6: 4, 12: 4}  # 8 settings of 2 lanes: 4 go on, one pair of the 4 that go diverged; then 2, then 2
    seen = {}
    for fit, whole in zip(fits, full, strict=True):
        jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b[: len(a)]), fit.history, whole.history)
        if fit.lane.epochs == 12 and fit.alive:
            assert (fit.status, fit.best_epoch) == (whole.status, whole.best_epoch)
            jax.tree.map(np.testing.assert_array_equal, fit.factors, whole.factors)
        elif fit.alive:
            assert fit.status == f"dropped at epoch {len(fit.history.loss)}"
        seen[fit.lane.epochs] = seen.get(fit.lane.epochs, 0) + 1
    assert seen == ends
    assert sorted(width for _, width in narrow.programs) == [4, 8, 16]  # powers of two, each compiled once
    assert narrow.compilations == 3


def test_those_that_lead_are_kept(sweep, lanes, full):
    fits = halve(replace(sweep, width=16, programs={}), lanes, Halving(eta=2, first=3))
    at_rung = {}
    for whole in full:
        rmse = np.nanmin(whole.history.validation_rmse[:3]) if whole.alive else np.inf
        at_rung.setdefault(whole.lane.hparams.setting, []).append(rmse)
    first = sorted(at_rung, key=lambda setting: np.mean(at_rung[setting]))[:4]
    kept = {fit.lane.hparams.setting for fit in fits if fit.lane.epochs > 3}
    assert kept == set(first)


def test_a_diverged_setting_is_never_promoted(sweep):
    hot = [HPARAMS._replace(learning_rate=1e30, reg=reg) for reg in (0.1, 0.2, 0.3)]
    fits = halve(sweep, [*hot, HPARAMS], Halving(eta=2, first=3))
    assert [fit.alive for fit in fits] == [False, False, False, True]
    assert [fit.lane.epochs for fit in fits] == [3, 3, 3, 12]
    half_hot = [HPARAMS, HPARAMS._replace(fold=1), *(HPARAMS._replace(reg=0.9, fold=fold) for fold in (0, 1))]
    outcome = carry_out(sweep, [*half_hot, *hot], refit=False, halving=Halving(eta=2, first=3))
    assert outcome.chosen.alive and [s.alive for s in outcome.settings] == [True, True, False, False, False]
    none = halve(sweep, hot, Halving(eta=2, first=3))
    assert all(fit.status.startswith("diverged") for fit in none)


def test_halving_needs_ratings_held_out(sweep):
    with pytest.raises(InputError, match=r"nothing is held out: hparams\.fold=0"):
        halve(sweep, [HPARAMS._replace(fold=-2), HPARAMS._replace(fold=-2, reg=0.2)], Halving(eta=2, first=3))


def test_progress_ends_at_its_total(sweep, lanes):
    seen = []
    halve(replace(sweep, width=8, programs={}), [lane for lane in lanes if lane.learning_rate < 1], Halving(2, 3), seen.append)
    assert all(now.done <= now.total for now in seen) and seen[-1].done == seen[-1].total
    assert [now.done for now in seen] == sorted(now.done for now in seen)
