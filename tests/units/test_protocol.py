"""The protocol: what chooses, what is trained again, what is reported.

The test ratings decide nothing.
"""

import dataclasses

import jax
import numpy as np
import pytest
from helpers import fit_at

from mfjax import Factors, Hparams, Ratings, grid, tune
from mfjax.training.protocol import predictions, refit_lanes, settings_of
from mfjax.types import NO_FOLD

HPARAMS = Hparams(learning_rate=0.15, reg=0.05, rank=4, init_scale=0.3)


def test_settings_are_ordered_by_their_mean_and_diverged_ones_are_last():
    ends = "finished", "diverged at epoch 3"
    fits = [
        *(fit_at(rmse, reg=0.1, fold=fold) for fold, rmse in enumerate((1.0, 2.0, 0.6))),
        *(fit_at(1.1, reg=0.2, split_seed=seed) for seed in range(2)),
        *(fit_at(0.1, reg=0.3, init_seed=seed, status=end) for seed, end in enumerate(ends)),
        fit_at(1.15, reg=0.4, status="stopped at epoch 4"),
    ]
    settings = settings_of(fits, "validation_rmse")
    assert [s.hparams["reg"] for s in settings] == [0.2, 0.4, 0.1, 0.3]
    assert [s.score for s in settings] == pytest.approx([1.1, 1.15, 1.2, np.inf])
    assert [s.criterion for s in settings[:3]] == pytest.approx([1.1, 1.15, 1.2])
    assert [len(s.fits) for s in settings] == [2, 1, 3, 2]
    assert [s.alive for s in settings] == [True, True, True, False]
    assert not {"fold", "init_seed", "split_seed"} & set(settings[0].hparams)
    assert settings[0].hparams["rank"] == 16


def test_a_setting_without_validation_is_not_chosen_over_one_with():
    fits = [fit_at(np.nan, reg=0.1, fold=NO_FOLD), fit_at(0.9, reg=0.2)]
    assert settings_of(fits, "validation_rmse")[0].hparams["reg"] == 0.2


def test_refit_lanes_hold_nothing_out_for_the_mean_best_epoch():
    best = {0: (1, 2, 4), 7: (3, 4)}  # of each split, by fold
    fits = [
        fit_at(1.0, epoch, fold=fold, split_seed=seed)
        for seed, epochs in best.items()
        for fold, epoch in enumerate(epochs)
    ]
    lanes = refit_lanes(fits)
    trained = [(lane.hparams.split_seed, lane.epochs) for lane in lanes]
    assert trained == [(0, 2), (7, 4)]  # 7/3, and 3.5 to even
    for lane in lanes:
        expected = Hparams(fold=NO_FOLD, split_seed=lane.hparams.split_seed)
        assert lane.hparams == expected


def test_every_start_is_refitted():
    lanes = refit_lanes([fit_at(1.0, init_seed=3), fit_at(1.0, init_seed=5)])
    assert [lane.hparams.init_seed for lane in lanes] == [3, 5]


@pytest.fixture(scope="module")
def outcome(sweep):
    axes = {"reg": [3.0, 0.05], "split_seed": [0, 1], "fold": [0, 1]}
    return tune(sweep, grid(HPARAMS, axes), refit=True)


def test_validation_chooses_and_the_chosen_setting_is_trained_again(sweep, outcome):
    chosen = outcome.chosen
    assert [s.hparams["reg"] for s in outcome.settings] == [0.05, 3.0]
    assert outcome.chosen_by == "validation_rmse"
    best = [np.nanmin(fit.history["validation_rmse"]) for fit in chosen.fits]
    assert chosen.criterion == pytest.approx(np.mean(best))
    assert outcome.refitted
    assert [fit.lane for fit in outcome.final] == refit_lanes(chosen.fits)
    for final, seed in zip(outcome.final, (0, 1), strict=True):
        epochs = [fit.best_epoch for fit in chosen.fits if fit.lane.hparams.split_seed == seed]
        assert final.best_epoch == len(final.history["loss"]) == round(np.mean(epochs))
        mean = sweep.plan.problems[seed, 0].ratings.value.mean()
        assert final.mean == pytest.approx(mean, rel=1e-6)


def test_test_errors_are_those_of_the_final_fits(sweep, outcome):
    for final, errors in zip(outcome.final, outcome.test, strict=True):
        test = sweep.plan.problems[final.lane.hparams.cut].test
        user, item = final.factors
        dots = [user[i] @ item[j] for i, j in zip(test.user, test.item, strict=True)]
        prediction = np.asarray(dots) + final.mean
        np.testing.assert_allclose(predictions(final, test), prediction, rtol=1e-5)
        error = np.clip(prediction, 1, 5) - test.value
        assert errors["test_rmse"] == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-5)
        assert errors["test_mae"] == pytest.approx(np.abs(error).mean(), rel=1e-5)
        assert errors["test_rmse"] < test.value.std()


def test_predictions_are_the_dot_and_the_mean_and_not_clipped():
    factors = Factors(np.array([[1.0], [2.0]]), np.array([[2.0], [-3.0], [1.0]]))
    fit = fit_at(1.0)._replace(factors=factors, mean=0.5)
    pairs = Ratings.of([1, 0, 0], [0, 1, 2], [1, 2, 2], dtype="float64")
    assert predictions(fit, pairs).tolist() == [4.5, -2.5, 1.5]


def test_without_refit_the_chosen_fits_are_tested(sweep, outcome):
    again = tune(sweep, [fit.lane.hparams for fit in outcome.chosen.fits], refit=False)
    assert not again.refitted
    assert again.final == again.chosen.fits
    assert len(again.test) == 4
    ours, theirs = again.final[0], outcome.chosen.fits[0]
    np.testing.assert_array_equal(ours.factors.user, theirs.factors.user)


def test_where_nothing_is_held_out_the_training_error_chooses(sweep):
    nothing_out = grid(HPARAMS._replace(fold=NO_FOLD), {"reg": [3.0, 0.05]})
    outcome = tune(sweep, nothing_out, refit=True)
    chosen = outcome.chosen
    assert (outcome.chosen_by, outcome.refitted) == ("train_rmse", False)
    assert chosen.hparams["reg"] == 0.05
    assert chosen.criterion == pytest.approx(chosen.fits[0].history["train_rmse"][-1])


def test_a_sweep_that_diverges_everywhere_is_not_trained_again(sweep):
    hot = grid(HPARAMS._replace(learning_rate=1e30), {"reg": [0.05, 0.1]})
    outcome = tune(sweep, hot, refit=True)
    assert not outcome.chosen.alive
    assert not outcome.refitted
    assert len(outcome.final) == 1


def test_another_column_chooses_the_best_epoch_and_the_best_setting(descent_sweep):
    """The column is static: a program a `choose_by`, and the same epochs in each."""
    lanes = grid(HPARAMS, {"reg": [3.0, 0.05]})
    own = dataclasses.replace(descent_sweep, programs={})
    every_epoch = dataclasses.replace(own.plan.schedule, eval_every=1, choose_by="validation_mae")
    own.plan = dataclasses.replace(own.plan, schedule=every_epoch)
    outcome = tune(own, lanes, refit=False)
    assert outcome.chosen_by == "validation_mae"
    for setting in outcome.settings:
        (fit,) = setting.fits
        mae = fit.history["validation_mae"]
        assert fit.best_epoch == np.nanargmin(mae) + 1
        assert setting.criterion == fit.at_best("validation_mae") == np.nanmin(mae)
    assert outcome.settings[0].criterion < outcome.settings[1].criterion


def test_test_ratings_decide_nothing(descent_sweep):
    """Splits 0 and 2 differ in the values of their test ratings alone."""

    def tuned(split_seed):
        lanes = grid(HPARAMS._replace(split_seed=split_seed), {"reg": [3.0, 0.05]})
        return tune(descent_sweep, lanes, refit=True)

    first, other = tuned(0), tuned(2)
    ours, theirs = (
        [(setting.hparams, setting.criterion) for setting in outcome.settings]
        for outcome in (first, other)
    )
    assert ours == theirs
    fits = zip([*first.chosen.fits, *first.final], [*other.chosen.fits, *other.final], strict=True)
    for a, b in fits:
        jax.tree.map(np.testing.assert_array_equal, a.factors, b.factors)
        assert a.mean == b.mean
    assert first.test != other.test


def test_predictions_are_the_same_however_many_are_made_at_once(monkeypatch):
    rng = np.random.default_rng(0)
    factors = Factors(*(rng.normal(size=(9, 5)).astype(np.float32) for _ in range(2)))
    ratings = Ratings.of(rng.integers(0, 9, 50), rng.integers(0, 9, 50), np.zeros(50))
    fit = fit_at(1.0)._replace(factors=factors, mean=3.0)
    together = predictions(fit, ratings)
    monkeypatch.setattr("mfjax.training.protocol.AT_ONCE", 7)
    np.testing.assert_array_equal(predictions(fit, ratings), together)
