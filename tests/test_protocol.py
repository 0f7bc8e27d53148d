"""The protocol: what chooses, what is trained again, what is reported, and that the test ratings decide nothing."""

import numpy as np
import pytest
from scipy import stats

from mfjax import Bounds, Factors, Hparams, Lane, Problem, Ratings, carry_out, grid
from mfjax.training.epochs import History
from mfjax.training.protocol import (
    Interval,
    baselines,
    interval,
    over_splits,
    predictions,
    refit_lanes,
    settings_of,
    test_errors,
)
from mfjax.training.sweep import Fit
from mfjax.types import NO_FOLD

HPARAMS = Hparams(learning_rate=0.15, reg=0.05, rank=4, init_scale=0.3)


def fit(rmse, epoch=2, status="finished", **hparams):
    """A Fit whose validation RMSE is `rmse` at its best epoch and 9 at the others."""
    history = np.full(4, 9.0)
    history[epoch - 1] = rmse
    nothing = Factors(np.zeros((1, 1)), np.zeros((1, 1)))
    return Fit(Lane(HPARAMS._replace(**hparams), 4), nothing, 0.0, status, epoch, History(*[history] * 6))


@pytest.mark.parametrize("values", [[1.0, 2.0], [0.91, 0.87, 0.9, 0.88, 0.93], [3, 1, 2]])
def test_the_interval_is_students(values):
    low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
    assert interval(values) == pytest.approx((np.mean(values), low, high, len(values)), rel=1e-12)


def test_no_interval_without_replicates():
    assert interval([]) == interval([np.nan]) == Interval(None, None, None, 0)
    assert interval([0.9]) == interval([np.nan, 0.9]) == Interval(0.9, None, None, 1)


OVER = {
    "splits": ([{"data_seed": 0}, {"data_seed": 1}, {"data_seed": 2}], [1.0, 2.0, 4.0], "splits (data_seed)"),
    "folds": ([{"fold": 0}, {"fold": 1}, {"fold": 2}], [1.0, 2.0, 4.0], "folds"),
    "seeds of a split are averaged": (
        [{"fold": 0, "seed": 0}, {"fold": 0, "seed": 1}, {"fold": 1}, {"fold": 2}],
        [0.0, 2.0, 2.0, 4.0],
        "folds",
    ),
    "seeds alone": ([{"seed": 0}, {"seed": 1}, {"seed": 2}], [1.0, 2.0, 4.0], "initialisations of one split (seed)"),
}


@pytest.mark.parametrize("replicates, values, over", OVER.values(), ids=OVER)
def test_what_the_interval_is_over(replicates, values, over):
    assert over_splits([fit(1.0, **r) for r in replicates], values) == (interval([1.0, 2.0, 4.0]), over)
    assert over_splits([fit(1.0)], [3.0]) == (Interval(3.0, None, None, 1), "one split")


def test_settings_are_ordered_by_their_mean_and_diverged_ones_are_last():
    fits = [
        *(fit(rmse, reg=0.1, fold=fold) for fold, rmse in enumerate((1.0, 2.0, 0.6))),
        *(fit(rmse, reg=0.2, data_seed=seed) for seed, rmse in enumerate((1.1, 1.1))),
        *(fit(0.1, reg=0.3, seed=seed, status=status) for seed, status in enumerate(("finished", "diverged at epoch 3"))),
        fit(1.15, reg=0.4, status="stopped at epoch 4"),
    ]
    settings = settings_of(fits, "validation_rmse")
    assert [s.hparams["reg"] for s in settings] == [0.2, 0.4, 0.1, 0.3]
    assert [s.criterion for s in settings] == pytest.approx([1.1, 1.15, 1.2, np.inf])
    assert [len(s.fits) for s in settings] == [2, 1, 3, 2]
    assert [s.alive for s in settings] == [True, True, True, False]
    assert not {"fold", "seed", "data_seed"} & set(settings[0].hparams) and settings[0].hparams["rank"] == 4


def test_a_setting_without_validation_is_not_chosen_over_one_with():
    settings = settings_of([fit(np.nan, reg=0.1, fold=NO_FOLD), fit(0.9, reg=0.2)], "validation_rmse")
    assert settings[0].hparams["reg"] == 0.2


def test_refit_lanes_hold_nothing_out_for_the_mean_best_epoch():
    fits = [
        fit(1.0, epoch, fold=fold, data_seed=seed)
        for seed, epochs in ((0, (1, 2, 4)), (7, (3, 4)))
        for fold, epoch in enumerate(epochs)
    ]
    lanes = refit_lanes(fits)
    assert [(lane.hparams.data_seed, lane.epochs) for lane in lanes] == [(0, 2), (7, 4)]  # 7/3, and 3.5 to even
    assert all(lane.hparams == HPARAMS._replace(fold=NO_FOLD, data_seed=lane.hparams.data_seed) for lane in lanes)
    assert [lane.hparams.seed for lane in refit_lanes([fit(1.0, seed=3), fit(1.0, seed=5)])] == [3, 5]


@pytest.fixture(scope="module")
def outcome(sweep):
    return carry_out(sweep, grid(HPARAMS, {"reg": [3.0, 0.05], "data_seed": [0, 1], "fold": [0, 1]}), refit=True)


def test_validation_chooses_and_the_chosen_setting_is_trained_again(sweep, outcome):
    assert [s.hparams["reg"] for s in outcome.settings] == [0.05, 3.0] and outcome.criterion == "validation_rmse"
    assert outcome.chosen.criterion == pytest.approx(
        np.mean([np.nanmin(f.history.validation_rmse) for f in outcome.chosen.fits])
    )
    assert outcome.refitted and [f.lane for f in outcome.final] == refit_lanes(outcome.chosen.fits)
    for final, seed in zip(outcome.final, (0, 1), strict=True):
        best = [f.best_epoch for f in outcome.chosen.fits if f.lane.hparams.data_seed == seed]
        assert final.best_epoch == len(final.history.loss) == round(np.mean(best))
        assert final.mean == pytest.approx(sweep.problems[seed].ratings.value.mean(), rel=1e-6)


def test_test_errors_are_those_of_the_final_fits(sweep, outcome):
    for final, errors in zip(outcome.final, outcome.test, strict=True):
        test = sweep.problems[final.lane.hparams.data_seed].test
        prediction = [
            final.factors.user[u] @ final.factors.item[i] + final.mean for u, i in zip(test.user, test.item, strict=True)
        ]
        np.testing.assert_allclose(predictions(final, test), prediction, rtol=1e-5)
        error = np.clip(prediction, 1, 5) - test.value
        assert errors == pytest.approx((np.sqrt(np.mean(error**2)), np.abs(error).mean()), rel=1e-5)
        assert errors[0] < test.value.std()


def test_without_refit_the_chosen_fits_are_tested(sweep, outcome):
    again = carry_out(sweep, [f.lane.hparams for f in outcome.chosen.fits], refit=False)
    assert not again.refitted and again.final is again.chosen.fits and len(again.test) == 4
    np.testing.assert_array_equal(again.final[0].factors.user, outcome.chosen.fits[0].factors.user)


def test_where_nothing_is_held_out_the_training_error_chooses(sweep):
    outcome = carry_out(sweep, grid(HPARAMS._replace(fold=NO_FOLD), {"reg": [3.0, 0.05]}), refit=True)
    assert (outcome.criterion, outcome.refitted) == ("train_rmse", False)
    assert outcome.chosen.hparams["reg"] == 0.05
    assert outcome.chosen.criterion == pytest.approx(outcome.chosen.fits[0].history.train_rmse[-1])


def test_a_sweep_that_diverges_everywhere_is_not_trained_again(sweep):
    outcome = carry_out(sweep, grid(HPARAMS._replace(learning_rate=1e30), {"reg": [0.05, 0.1]}), refit=True)
    assert not outcome.chosen.alive and not outcome.refitted and len(outcome.final) == 1


def test_test_ratings_decide_nothing(descent_sweep):
    """Splits 0 and 2 differ in the values of their test ratings alone."""
    first, other = (
        carry_out(descent_sweep, grid(HPARAMS._replace(data_seed=seed), {"reg": [3.0, 0.05]}), refit=True) for seed in (0, 2)
    )
    assert [s.hparams | {"criterion": s.criterion} for s in first.settings] == [
        s.hparams | {"criterion": s.criterion} for s in other.settings
    ]
    for a, b in zip([*first.chosen.fits, *first.final], [*other.chosen.fits, *other.final], strict=True):
        np.testing.assert_array_equal(a.factors.user, b.factors.user)
        np.testing.assert_array_equal(a.factors.item, b.factors.item)
        assert a.mean == b.mean
    assert first.test != other.test


# by hand

SMALL = Problem(  # item 0 has mean 2 (weights 1, 3), item 1 has 5, item 2 none; the mean is (1 + 3 · 7/3 + 5) / 5 = 2.6
    Ratings.of([0, 1, 1, 0], [0, 0, 1, 2], [1, 7 / 3, 5, 99], weight=[1, 3, 1, 0], dtype="float64"),
    Ratings.of([1, 0, 0], [0, 1, 2], [1, 2, 2], dtype="float64"),
    Bounds(0.0, 4.0),
)


def test_baselines_by_hand():
    rmse = baselines({0: SMALL, 5: SMALL._replace(bounds=Bounds(-np.inf, np.inf))})
    assert rmse["global mean"] == pytest.approx([np.sqrt((1.6**2 + 0.6**2 + 0.6**2) / 3)] * 2)
    assert rmse["item mean"] == pytest.approx([np.sqrt((1 + 2**2 + 0.6**2) / 3), np.sqrt((1 + 3**2 + 0.6**2) / 3)])


def test_predictions_are_clipped_in_errors_alone():
    three = fit(1.0)._replace(factors=Factors(np.array([[1.0], [2.0]]), np.array([[2.0], [-3.0], [1.0]])), mean=0.5)
    assert predictions(three, SMALL.test).tolist() == [4.5, -2.5, 1.5]
    assert test_errors(three, SMALL) == pytest.approx((np.sqrt((3**2 + 2**2 + 0.5**2) / 3), 5.5 / 3))
    nothing = SMALL._replace(test=Ratings.of([], [], []))
    assert np.isnan(test_errors(three, nothing)).all() and np.isnan(baselines({0: nothing})["item mean"]).all()


test_errors.__test__ = False  # a function of mfjax, not a test
