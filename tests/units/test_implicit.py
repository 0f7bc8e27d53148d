"""Implicit feedback: interactions of ratings, and where they are said, recorded and refused."""

from pathlib import Path

import numpy as np
import pytest
from configs import TINY, built, composed, refusal
from helpers import fit_at

from mfjax import Dataset, InputError, from_ids, tune
from mfjax.app import terminal
from mfjax.app.build import build_dataset
from mfjax.app.jobs.train import _described
from mfjax.app.measures import _of_tests
from mfjax.data.dataset import Interactions
from mfjax.data.synthetic import synthetic
from mfjax.reporting.report.runs import Run, facts
from mfjax.training.protocol import Outcome, settings_of
from mfjax.types import NO_FOLD

RATINGS = from_ids("five", ["a", "a", "b", "c", "c"], [1, 2, 1, 2, 3], [5, 3, 4, 3.5, 2])
ASKED = ("implicit=4", "missing=zero", "method=als", "bias=false", "clip=false")
LISTS = ("lists.relevant=1", "lists.k=3", "choose_by=validation_ndcg")


# the data


def test_ratings_that_are_high_enough_are_ones_and_the_others_are_left_out():
    liked = RATINGS.interactions(4)
    assert (liked.user.tolist(), liked.item.tolist()) == ([0, 1], [0, 0])
    assert liked.value.tolist() == [1.0, 1.0]
    assert liked.made_of == Interactions(least=4.0, left_out=3)
    assert (liked.num_users, liked.num_items) == (3, 3)
    assert len(RATINGS.value) == 5 and RATINGS.made_of is None


def test_every_column_keeps_its_rows():
    source = {
        "user": [0, 0, 1],
        "item": [0, 1, 1],
        "rating": [1.0, 5.0, 4.0],
        "weight": [2.0, 3.0, 4.0],
        "timestamp": [7, 8, 9],
    }
    liked = Dataset.of(source, weight="weight").interactions(4)
    assert liked.weight.tolist() == [3.0, 4.0]
    assert liked.timestamp.tolist() == [8, 9]


def test_no_interaction_is_refused_and_so_are_interactions_of_interactions():
    with pytest.raises(InputError, match="got 6; they are from 2 to 5"):
        RATINGS.interactions(6)
    with pytest.raises(InputError, match="expected ratings, got interactions"):
        RATINGS.interactions(4).interactions(1)


# the key


def test_it_is_said_and_recorded(capsys):
    dataset = build_dataset(composed("data=synthetic", "data.num_ratings=500", "implicit=4"))
    terminal.say_data(dataset)
    left_out = dataset.made_of.left_out
    assert f"implicit: ratings of 4 or more, as 1; {left_out} others" in capsys.readouterr().out
    described = _described(dataset)
    assert described["implicit"] == {"least": 4.0, "left_out": left_out}
    assert described["ratings"] == 500 - left_out


def test_runs_of_other_interactions_are_not_alike():
    data = {"name": "five", "users": 3, "items": 3, "ratings": 5, "sha256": "0" * 64}
    results = {
        "run": {"choose": "overall"},
        "conventions": {"clip": False},
        "chosen_by": "mean validation_ndcg",
        "protocol": "random 80/10/10 split",
    }

    def of(implicit):
        own = {"data": data | {"implicit": implicit}}
        return facts(Run("a", Path(), results | own, "digest", {}))

    whole, liked = of(None), of({"least": 4.0, "left_out": 3})
    assert set(whole.items()) < set(liked.items())
    assert liked["implicit"] == "ratings from 4 on, as 1"
    assert liked != of({"least": 3.5, "left_out": 2})


@pytest.mark.parametrize(
    "given, said",
    [
        (("implicit=4",), "clip: with implicit every interaction is 1"),
        ((*ASKED, "lists.relevant=4"), "say lists.relevant=1"),
        ((*ASKED, "lists.relevant=0"), "say lists.relevant=1"),
        ((*ASKED, *LISTS, "lists.graded=true"), "lists.graded=true has no effect with implicit"),
        (("job=scale", "data=synthetic", "implicit=4"), "no effect with job=scale"),
        (("implicit=90", "clip=false"), "implicit: expected a rating that some reach, got 90"),
    ],
)
def test_what_cannot_be_is_refused(given, said):
    assert said in refusal(*TINY, *given)


# training


@pytest.fixture(scope="module")
def experiment():
    shape = ("data.num_users=40", "data.num_items=30", "data.num_ratings=600")
    sweep = ("sweep.missing_weight=[0.1,0.5]", "hparams.rank=4", "hparams.reg=0.5", "epochs=3")
    return built("data=synthetic", *shape, "replicates=2", *ASKED, *LISTS, *sweep)


@pytest.mark.slow
def test_a_sweep_of_interactions_is_chosen_by_its_lists(experiment):
    outcome = tune(experiment.sweep, experiment.lanes, refit=True)
    assert outcome.chosen_by == "validation_ndcg"
    assert outcome.refitted
    best, other = outcome.settings
    assert best.criterion >= other.criterion
    weights = sorted(setting.hparams["missing_weight"] for setting in outcome.settings)
    assert weights == pytest.approx([0.1, 0.5])
    assert all(0 < of_fit["test_ndcg"] <= 1 for of_fit in outcome.test)


def test_a_mean_of_interactions_is_no_baseline(experiment):
    final = [fit_at(1.0, split_seed=seed, fold=NO_FOLD) for seed in range(2)]
    outcome = Outcome(settings_of(final, "train_rmse"), "train_rmse", final, [], refitted=False)
    assert _of_tests(experiment, outcome) == {}
    of_ratings = experiment._replace(dataset=synthetic(num_users=40, num_items=30, num_ratings=600))
    assert _of_tests(of_ratings, outcome).keys() == {"global mean", "item mean"}


def test_interactions_alone_are_trained_on_and_tested(experiment):
    dataset = synthetic(num_users=40, num_items=30, num_ratings=600)
    counts = np.count_nonzero(dataset.value >= 4)
    for problem in experiment.sweep.plan.problems.values():
        values = np.concatenate([problem.ratings.value, problem.test.value])
        assert len(values) == counts
        assert (values == 1).all()
