"""Metrics of lists where they choose, and where they are tested: those of `evaluate_lists`."""

import numpy as np
import pytest
from configs import TINY, refusal

from mfjax import METHODS, SPLITS, Hparams, InputError, Plan, Problem, Schedule, Spec, Sweep, tune
from mfjax.data.synthetic import synthetic
from mfjax.metrics import names_of_lists
from mfjax.metrics.lists import ListRule, evaluate_lists
from mfjax.types import Ratings

RULE = ListRule(relevant=3.5, k=4)
DATA = synthetic(num_users=30, num_items=25, num_ratings=320, rank=2)
SPEC = Spec(DATA.num_users, DATA.num_items, max_rank=3, dtype="float64")


def where(ratings, chosen):
    return Ratings(*(column[chosen] for column in ratings))


@pytest.fixture(scope="module")
def tuned():
    """Two settings on two splits of two folds, chosen by NDCG and trained again."""
    problems = {
        (seed, 0): Problem.of(DATA, SPLITS["random"](DATA, seed, validation=2), dtype="float64")
        for seed in range(2)
    }
    schedule = Schedule(epochs=4, choose_by="validation_ndcg", lists=RULE)
    plan = Plan(SPEC, lambda spec: METHODS["als"](spec), problems, schedule)
    lanes = [
        Hparams(reg=reg, rank=3, split_seed=seed, fold=fold)
        for reg in (0.1, 3.0)
        for seed in range(2)
        for fold in range(2)
    ]
    return tune(Sweep(plan, lanes_per_program=8), lanes, refit=True), plan


@pytest.mark.slow
def test_validation_is_of_the_fold_that_the_lane_holds_out(tuned):
    outcome, plan = tuned
    for setting in outcome.settings:
        for fit in setting.fits:
            hparams = fit.lane.hparams
            ratings = plan.problems[hparams.cut].ratings
            seen = where(ratings, ratings.fold != hparams.fold)
            held_out = where(ratings, ratings.fold == hparams.fold)
            expected = evaluate_lists(fit.factors, seen, held_out, **RULE._asdict())
            assert fit.at_best("validation_ndcg") == pytest.approx(expected["ndcg"], rel=1e-9)


def test_the_highest_mean_chooses(tuned):
    outcome, _ = tuned
    means = [
        np.mean([fit.at_best("validation_ndcg") for fit in setting.fits])
        for setting in outcome.settings
    ]
    assert outcome.chosen_by == "validation_ndcg"
    assert outcome.chosen.criterion == means[0] > means[1]
    for fit in outcome.chosen.fits:
        assert np.nanmax(fit.history["validation_ndcg"]) == fit.at_best("validation_ndcg")


def test_the_test_is_measured_by_every_metric(tuned):
    outcome, plan = tuned
    assert outcome.refitted
    for fit, errors in zip(outcome.final, outcome.test, strict=True):
        problem = plan.problems[fit.lane.hparams.cut]
        expected = evaluate_lists(fit.factors, problem.ratings, problem.test, **RULE._asdict())
        for name in names_of_lists():
            assert errors[f"test_{name}"] == pytest.approx(expected[name], rel=1e-9, nan_ok=True)
        assert np.isnan(fit.history["validation_ndcg"]).all()


def test_what_is_relevant_is_asked_for():
    with pytest.raises(InputError, match="what is relevant in a list"):
        Schedule(choose_by="validation_ndcg")
    assert "lists.relevant=4" in refusal(*TINY, "choose_by=validation_ndcg")
    assert "lists.k=5 has no effect without lists.relevant" in refusal(*TINY, "lists.k=5")


@pytest.mark.slow
def test_where_nothing_is_held_out_the_training_error_chooses():
    split = SPLITS["random"](DATA, 0, validation=0, test=0)
    problems = {(0, 0): Problem.of(DATA, split, dtype="float64")}
    schedule = Schedule(epochs=2, choose_by="validation_ndcg", lists=RULE)
    plan = Plan(SPEC, lambda spec: METHODS["als"](spec), problems, schedule)
    outcome = tune(Sweep(plan, lanes_per_program=1), [Hparams(rank=3)], refit=True)
    assert outcome.chosen_by == "train_rmse"
    assert not outcome.refitted
