"""Bags of a config: their keys, the sources that read what is known, new users, and a run."""

from dataclasses import replace

import jax
import numpy as np
import polars as pl
import pytest
from commands import QUIET, rows_of, strict_json
from configs import TINY, built, composed, refusal
from test_one_to_add import trained  # noqa: F401 (a fixture)

import mfjax
from mfjax import Bounds, Hparams, InputError, Problem, Sides, Spec, from_ids, tune
from mfjax.app.bags import TRANSDUCTIVE, bags_in_words, bags_of, build_bags
from mfjax.app.idle import idle
from mfjax.bags import BAGS, dense, prepare_bag
from mfjax.data.aside import read_aside
from mfjax.objective import fold_sums, lane_terms
from mfjax.testing import LANE, SPEC, small_ratings
from mfjax.training.folding import minimised, prior_of, solved_row, with_given
from mfjax.training.lanes import Lane

DESCENT = ("method=descent", "optimizer=adam")


# the sources

ABOUT = pl.DataFrame(
    {
        "genres": [["war", "drama"], ["drama"], None, [], ["comedy"]],
        "year": ["1999", "2001", None, "1999", "2001"],
    }
)
GENRES = [[0, 1, 1], [0, 1, 0], [0, 0, 0], [0, 0, 0], [1, 0, 0]]  # comedy, drama, war
YEARS = [[1, 0], [0, 1], [0, 0], [1, 0], [0, 1]]


def features(name, **given):
    ratings = small_ratings()

    def source(*of):
        return BAGS[name](*of, about=ABOUT, **given)

    bag = prepare_bag([source], ratings, 1, SPEC)
    lane = lane_terms(jax.device_put(fold_sums(ratings, SPEC)), LANE, SPEC)
    return np.asarray(dense(bag, lane)).tolist()


def test_every_source_is_tried():
    assert set(BAGS) == {"rated", "popularity", "genres", "columns"}


def test_what_is_known_of_items_gives_a_feature_a_value():
    assert features("genres") == GENRES
    both = features("columns", columns=["year", "genres"])
    assert both == np.concatenate([YEARS, GENRES], 1).tolist()


def test_a_column_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(InputError, match="no column 'sex' of the items, of which genres, year is"):
        features("columns", columns=["sex"])
    with pytest.raises(InputError, match="no column 'genres' of the users, of which nothing is"):
        BAGS["genres"](small_ratings(), 0, SPEC, about=None)
    empty = ABOUT.with_columns(year=pl.lit(None, dtype=pl.String))
    with pytest.raises(InputError, match="column 'year' is empty in every row"):
        BAGS["columns"](small_ratings(), 1, SPEC, about=empty, columns=["genres", "year"])


def test_a_file_of_what_is_known_is_in_the_order_of_the_ids(tmp_path):
    file = tmp_path / "users.csv"
    file.write_text("id,sex\n20,f\n10,m\n99,f\n")
    known = read_aside(str(file), np.array([10, 20, 30]), "bags.user_file")
    assert known.to_dict(as_series=False) == {"sex": ["m", "f", None]}
    with pytest.raises(InputError, match=r"none of the 1 ids of the data is in its id"):
        read_aside(str(file), np.array([7]), "bags.user_file")
    with pytest.raises(InputError, match=r"bags\.user_file=.*: expected a CSV file with a heading"):
        read_aside(str(tmp_path / "none.csv"), np.array([7]), "bags.user_file")


# the keys


def test_a_config_names_its_sources_and_says_so():
    cfg = composed(*TINY, *DESCENT, "bags.user=[rated,popularity]", "bags.item=rated")
    bags = bags_of(cfg)
    assert bags == {"user": ["rated", "popularity"], "item": ["rated"], "transductive": False}
    assert bags_in_words(bags) == ["bags: user [rated,popularity], item rated"]
    assert bags_in_words(bags | {"transductive": True})[1:] == [TRANSDUCTIVE]
    assert [len(of_side) for of_side in build_bags(cfg)] == [2, 1]
    assert "hparams.reg_bag" not in idle(cfg)
    assert build_bags(composed(*TINY, *DESCENT)) is None


@pytest.mark.parametrize(
    "given, said",
    [
        (("bags.item=rated", "kernel=native"), "method=sgd with bags: this kernel has no such"),
        ((*DESCENT, "hparams.reg_bag=3"), "has no effect without bags.user or bags.item"),
        ((*DESCENT, "bags.item=likes"), "bags.item: expected one of none, rated, "),
        ((*DESCENT, "bags.item=[rated,rated]"), "a source stands twice in [rated,rated]"),
        ((*DESCENT, "bags.item=columns"), "bags.item=columns needs bags.item_columns=[NAME,…]"),
        (
            (*DESCENT, "bags.item=rated", "bags.item_columns=[year]"),
            "bags.item_columns=[year] has no effect with bags.item=rated",
        ),
        (
            (*DESCENT, "bags.item=popularity", "bags.transductive=true"),
            "bags.transductive=true has no effect without rated in bags.user or bags.item",
        ),
    ],
)
def test_a_wrong_or_idle_key_is_refused(given, said):
    assert said in refusal(*TINY, *given)


# new users

USERS, ITEMS = 9, 7
HPARAMS = Hparams(reg=0.3, reg_bias=0.1, reg_bag=1.0, rank=3, init_scale=0.5, fold=-2)
BAGS_OF_BOTH = Sides((BAGS["popularity"], BAGS["rated"]), (BAGS["rated"],))


@pytest.fixture(scope="module")
def fitted():
    """A fit given bags, of all but the last user, whose ratings fold it in."""
    rng = np.random.default_rng(0)
    user, item = np.unravel_index(rng.permutation(USERS * ITEMS)[:40], (USERS, ITEMS))
    dataset = from_ids("made", 10 * (user + 1), item, rng.integers(1, 6, 40))
    spec = Spec(USERS, ITEMS, max_rank=3, dtype="float64")
    is_new = dataset.user == USERS - 1
    ratings = dataset.ratings(~is_new, dtype="float64")
    given = dataset.ratings(is_new, dtype="float64")
    problem = Problem(ratings, given, Bounds(-9.0, 9.0), given)

    def method(spec):
        gradient = mfjax.GRADIENTS["coo"](spec)
        adam = mfjax.optimizer("adam")
        return mfjax.METHODS["descent"](spec, gradient=gradient, optimizer=adam, bags=BAGS_OF_BOTH)

    schedule = mfjax.Schedule(epochs=20, eval_every=20)
    plan = mfjax.Plan(spec, method, {(0, 0): problem}, schedule)
    (fit,) = mfjax.Sweep(plan, lanes_per_program=1).train([Lane(HPARAMS, 20)])
    return fit, dataset, problem, replace(spec, max_rank=16)


def test_a_new_user_is_solved_given_the_bag_of_what_the_user_rated(fitted, tmp_path):
    fit, dataset, problem, spec = fitted
    assert fit.rated.shape == (ITEMS, spec.columns)
    assert np.any(fit.rated[:, :3] != 0)
    folded = with_given(fit, problem, spec)
    model = mfjax.Model.of(folded, dataset, problem, spec)
    given = problem.given
    by_ids = dict(zip(given.item.tolist(), given.value.tolist(), strict=True))
    model.save(tmp_path)
    again = mfjax.load(tmp_path).fold_in(990, by_ids)
    new = again.user_factors[-1]
    np.testing.assert_allclose(new, folded.factors.user[-1, :3], rtol=1e-12)
    alone = replace(model, prior_rated=model.prior_rated[:, :0]).fold_in(990, by_ids)
    assert np.abs(new - alone.user_factors[-1]).max() > 1e-3


def test_the_row_of_a_user_is_the_minimum_around_what_its_features_sum_to(fitted):
    fit, dataset, problem, spec = fitted
    model = mfjax.Model.of(fit, dataset, problem, spec)
    rated, values = np.array([0, 2, 5]), np.array([4.0, 2.0, 5.0])
    (table,) = model.prior_rated
    prior = prior_of(table, rated)
    np.testing.assert_allclose(prior, table[rated].sum(0) / np.sqrt(3))
    of = minimised(fit.lane.hparams, problem.ratings, spec)
    row = solved_row(
        of, model.item_factors, model.item_bias, float(model.mean), rated, values, prior=prior
    )

    def loss(row):
        error = model.item_factors[rated] @ row[:3] + row[3] + model.item_bias[rated]
        reg = 3 * np.array([0.3, 0.3, 0.3, 0.1])
        decay = (reg * (row - prior) ** 2).sum()
        return ((error + model.mean - values) ** 2).sum() + decay

    steps = 1e-3 * np.eye(4)
    slopes = [(loss(row + step) - loss(row - step)) / 2e-3 for step in steps]
    np.testing.assert_allclose(slopes, 0, atol=1e-9)


# runs


@pytest.mark.slow
def test_a_test_rating_that_is_poisoned_changes_no_bit():
    given = (*DESCENT, "bags.user=rated", "bags.item=[rated,popularity]", "epochs=4")
    shape = ("data=synthetic", "data.num_users=30", "data.num_items=20", "data.num_ratings=300")
    experiment = built(*shape, *given, "replicates=1", "sweep.fold=[0,1]", "split.validation=2")
    sweep = experiment.sweep
    ours = tune(sweep, experiment.lanes, refit=False)
    poisoned = {
        cut: problem._replace(test=problem.test._replace(value=problem.test.value + 99))
        for cut, problem in sweep.plan.problems.items()
    }
    other = mfjax.Sweep(replace(sweep.plan, problems=poisoned), sweep.lanes_per_program)
    theirs = tune(other, experiment.lanes, refit=False)
    assert sweep.compilations == 1
    for one, two in zip(ours.final, theirs.final, strict=True):
        jax.tree.map(np.testing.assert_array_equal, one.factors, two.factors)
        np.testing.assert_array_equal(one.rated, two.rated)


def test_a_run_says_what_its_items_are_made_of(trained, capsys):  # noqa: F811
    bags = ("bags.item=[rated,popularity]", "bags.transductive=true")
    own = (*bags, "sweep.reg_bag=[1,10]", "split.validation=2")
    results, folder = trained(*QUIET, *DESCENT, "sweep.fold=[0,1]", *own)
    said = "bags: item [rated,popularity]"
    for part in (said, TRANSDUCTIVE):
        assert part in results["protocol"].split("; ")
    names = {"user": [], "item": ["rated", "popularity"]}
    assert results["method"]["bags"] == names | {"transductive": True}
    assert results["chosen"]["reg_bag"] in (1, 10)
    assert results["compilations"] == 1
    shown = capsys.readouterr().out
    assert said.capitalize() in shown
    assert TRANSDUCTIVE.capitalize() in " ".join(shown.split())
    assert {row["reg_bag"] for row in rows_of(folder / "lanes.csv")} == {"1.0", "10.0"}
    assert strict_json(folder / "results.json")["run"]["bags.item"] == ["rated", "popularity"]
