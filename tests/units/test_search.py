"""Search: what random draws are, and that halving drops the worst.

It trains less, and changes no bit of those that it keeps.
"""

import dataclasses

import jax
import numpy as np
import pytest

from mfjax import Halving, Hparams, InputError, Lane, grid, tune
from mfjax.training.protocol import tune_jobs
from mfjax.training.search import epochs_in_all, halve, promote, sample

HPARAMS = Hparams(learning_rate=0.05, reg=0.1, rank=4, init_scale=0.3)
AXES = {
    "learning_rate": [0.001, 0.01, 0.1],
    "reg": [0.01, 1.0],
    "rank": [2, 64],
    "fold": [0, 1],
    "init_seed": [7],
}


# random draws


def test_draws_are_log_uniform_between_the_ends_and_seeded():
    lanes = sample(HPARAMS, AXES, 2000, seed=3)
    assert lanes == sample(HPARAMS, AXES, 2000, seed=3)
    assert lanes != sample(HPARAMS, AXES, 2000, seed=4)
    quarters = [0.25, 0.5, 0.75]
    for key, low, high in (("learning_rate", 0.001, 0.1), ("reg", 0.01, 1.0)):
        share = np.log([getattr(lane, key) / low for lane in lanes]) / np.log(high / low)
        assert share.min() > -1e-9
        assert share.max() < 1 + 1e-9
        np.testing.assert_allclose(np.quantile(share, quarters), quarters, atol=0.05)
    ranks = {lane.rank for lane in lanes}
    assert ranks <= set(range(2, 65))
    assert len(ranks) > 40
    assert all(type(rank) is int for rank in ranks)
    assert {lane.reg_bias for lane in lanes} == {HPARAMS.reg_bias}


def test_every_setting_is_drawn_for_all_folds_and_seeds():
    lanes = sample(HPARAMS, AXES, 5, seed=0)
    assert len(lanes) == 10
    assert len({lane.setting for lane in lanes}) == 5
    assert [(lane.fold, lane.init_seed) for lane in lanes] == [(0, 7), (1, 7)] * 5


def test_only_the_ends_of_an_axis_count():
    ends = sample(HPARAMS, {"reg": [0.01, 1.0]}, 5, seed=0)
    assert ends == sample(HPARAMS, {"reg": [1.0, 0.3, 0.01]}, 5, seed=0)


def test_an_axis_without_a_logarithm_is_refused():
    with pytest.raises(InputError, match=r"sweep.reg.*above 0; got 0\.0"):
        sample(HPARAMS, {"reg": [0.0, 1.0]}, 2, seed=0)


def test_more_lanes_than_are_ever_made_are_refused_before_any_is():
    many = {"reg": [0.01, 0.3], "split_seed": list(range(1000))}
    with pytest.raises(InputError, match="expected at most 10,000,000 lanes, got 1,000,000,000"):
        sample(HPARAMS, many, 1_000_000, seed=0)
    with pytest.raises(InputError, match="got 100,000,000\ntake fewer"):
        grid(HPARAMS, {"reg": range(10_000), "rank": range(10_000)})


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


@pytest.mark.parametrize(
    "scores, eta, leading",
    [
        ([0.3, 0.1, 0.2, 0.4], 2, [1, 2]),
        ([0.3, 0.1, 0.2, 0.4], 4, [1]),
        ([0.3, 0.1, 0.2], 2, [1, 2]),  # half of three, rounded up
        ([0.1, 0.1, 0.1], 2, [0, 1]),  # the first of equals
        ([np.inf, 0.1, np.inf, np.inf], 2, [1]),
        ([np.inf, np.inf], 2, []),
    ],
)
def test_the_best_are_promoted_and_none_that_diverged(scores, eta, leading):
    assert promote(range(len(scores)), scores, eta) == leading


def test_the_epochs_of_a_bracket():
    # 4 settings of 2 lanes to epoch 3, two of them to 6, one to 12
    assert epochs_in_all([2, 2, 2, 2], 2, [3, 6, 12]) == 8 * 3 + 4 * 3 + 2 * 6


# halving


def halved(sweep, lanes_per_program):
    """The same sweep with programs of its own."""
    return dataclasses.replace(sweep, lanes_per_program=lanes_per_program, programs={})


def test_jobs_of_one_setting_train_together(sweep):
    seen = []
    jobs = [[HPARAMS._replace(reg=reg)] for reg in (0.1, 0.2, 0.3)]
    outcomes = tune_jobs(sweep, jobs, False, seen.append, Halving(eta=2, first=3))
    assert len(seen) == 3  # one block of three calls
    assert [outcome.chosen.fits[0].status for outcome in outcomes] == ["finished"] * 3


@pytest.fixture(scope="module")
def lanes():
    axes = {"learning_rate": [0.02, 0.1, 1e30, 0.3], "reg": [0.02, 0.3], "fold": [0, 1]}
    return grid(HPARAMS, axes)


@pytest.fixture(scope="module")
def full(sweep, lanes):
    """Every lane trained to the end."""
    return sweep.train([Lane(lane, 12) for lane in lanes])


@pytest.fixture(scope="module")
def climbed(sweep, lanes):
    """(sweep, fits, progress): the lanes halved, in programs of at most 16."""
    own = halved(sweep, 16)
    seen = []
    return own, halve(own, lanes, Halving(eta=2, first=3), seen.append), seen


def test_survivors_are_bitwise_those_of_the_full_sweep_and_the_dropped_their_beginnings(
    climbed, lanes, full
):
    _, fits, _ = climbed
    assert [fit.lane.hparams for fit in fits] == lanes
    for fit, whole in zip(fits, full, strict=True):
        for column, values in fit.history.items():
            np.testing.assert_array_equal(values, whole.history[column][: len(values)])
        if fit.lane.epochs == 12 and fit.alive:
            assert (fit.status, fit.best_epoch) == (whole.status, whole.best_epoch)
            jax.tree.map(np.testing.assert_array_equal, fit.factors, whole.factors)
        elif fit.alive:
            assert fit.status == f"dropped at epoch {len(fit.history['loss'])}"


def test_halving_trains_less_in_narrower_programs(climbed):
    own, fits, _ = climbed
    ends = [fit.lane.epochs for fit in fits]
    # 8 settings of 2 lanes: 4 go on, a pair of the 4 that stay diverged; then 2, and they to 12
    assert {epochs: ends.count(epochs) for epochs in set(ends)} == {3: 4 + 4, 6: 4, 12: 4}
    assert sorted(size for _, size in own.programs) == [4, 8, 16]  # powers of two
    assert own.compilations == 3


def test_those_that_lead_are_kept(climbed, full):
    _, fits, _ = climbed
    at_rung = {}
    for whole in full:
        rmse = np.nanmin(whole.history["validation_rmse"][:3]) if whole.alive else np.inf
        at_rung.setdefault(whole.lane.hparams.setting, []).append(rmse)
    first = sorted(at_rung, key=lambda setting: np.mean(at_rung[setting]))[:4]
    kept = {fit.lane.hparams.setting for fit in fits if fit.lane.epochs > 3}
    assert kept == set(first)


def test_progress_ends_at_its_total(climbed):
    _, _, seen = climbed
    assert all(now.done <= now.total for now in seen)
    assert seen[-1].done == seen[-1].total
    assert [now.done for now in seen] == sorted(now.done for now in seen)


def test_a_diverged_setting_is_never_promoted(sweep):
    hot = [HPARAMS._replace(learning_rate=1e30, reg=reg) for reg in (0.1, 0.2, 0.3)]
    fits = halve(sweep, [*hot, HPARAMS], Halving(eta=2, first=3))
    assert [fit.alive for fit in fits] == [False, False, False, True]
    assert [fit.lane.epochs for fit in fits] == [3, 3, 3, 12]
    none = halve(sweep, hot, Halving(eta=2, first=3))
    assert all(fit.status.startswith("diverged") for fit in none)


def test_a_diverged_setting_is_never_chosen(sweep):
    hot = [HPARAMS._replace(learning_rate=1e30, reg=reg) for reg in (0.1, 0.2, 0.3)]
    tame = grid(HPARAMS, {"reg": [0.1, 0.9], "fold": [0, 1]})
    outcome = tune(sweep, [*tame, *hot], refit=False, halving=Halving(eta=2, first=3))
    assert outcome.chosen.alive
    assert [setting.alive for setting in outcome.settings] == [True, True, False, False, False]


def test_halving_needs_ratings_held_out(sweep):
    nothing_out = grid(HPARAMS._replace(fold=-2), {"reg": [0.1, 0.2]})
    with pytest.raises(InputError, match=r"nothing is held out: hparams\.fold=0"):
        halve(sweep, nothing_out, Halving(eta=2, first=3))
