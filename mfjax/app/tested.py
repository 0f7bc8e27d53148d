"""What was tested, test fold by test fold: errors, cold users and items, predictions, the split."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mfjax.app.build import Experiment
from mfjax.app.measures import was_tested
from mfjax.averages import intervals, spread
from mfjax.data.dataset import Dataset
from mfjax.data.problem import Problem
from mfjax.metrics.baselines import on_test
from mfjax.metrics.cold import cold
from mfjax.metrics.lists import ListRule
from mfjax.training.lanes import Fit
from mfjax.training.prepared import asked_places
from mfjax.training.protocol import Outcome
from mfjax.training.whole import taking_its_place

if TYPE_CHECKING:
    import polars as pl

SPLITS = "splits.parquet"


def rows_of_tests(experiment: Experiment, outcome: Outcome) -> list[dict[str, Any]]:
    """A row a final fit that was tested: its split and setting, its errors, and those of the cold.

    `cold_users`, `cold_items` and `cold_ratings` count what has no rating before the test, and the
    errors `test_…_warm` and `test_…_cold` are of the other test ratings and of these. Where lists
    are measured, `list_users` have something relevant in the test, and `list_users_left_out` not.
    """
    if not was_tested(outcome):
        return []
    rows = []
    tested = zip(outcome.final, outcome.test, outcome.predicted, strict=True)
    for fit, errors, predicted in tested:
        problem = experiment.sweep.plan.problems[fit.lane.hparams.cut]
        is_cold = cold(problem)
        apart = {
            f"{column}_{name}": error
            for name, which in (("warm", ~is_cold.either), ("cold", is_cold.either))
            for column, error in on_test(predicted[which], _part(problem, which)).items()
        }
        rows.append(
            {
                **fit.lane.hparams._asdict(),
                "train_ratings": len(problem.ratings.value),
                "test_ratings": len(problem.test.value),
                **errors,
                **_list_users(problem, experiment.sweep.plan.schedule.lists),
                "cold_users": len(np.unique(problem.test.user[is_cold.user])),
                "cold_items": len(np.unique(problem.test.item[is_cold.item])),
                "cold_ratings": int(is_cold.either.sum()),
                **apart,
            }
        )
    return rows


def _list_users(problem: Problem, rule: ListRule | None) -> dict[str, int]:
    """Over how many users the metrics of lists are means, and how many others have test ratings."""
    if rule is None:
        return {}
    test = problem.test
    measured = len(np.unique(test.user[test.value >= rule.relevant]))
    left_out = len(np.unique(test.user)) - measured
    return {"list_users": measured, "list_users_left_out": left_out}


def _part(problem: Problem, which: np.ndarray) -> Problem:
    """The problem with some of its test ratings alone."""
    return problem._replace(test=problem.test.taken(which))


def write_predictions(experiment: Experiment, outcome: Outcome, path: Path) -> None:
    """Write what was predicted of each test rating, in the ids of the data, clipped."""
    import polars as pl

    dataset = experiment.dataset
    frames = []
    for fit, predicted in zip(outcome.final, outcome.predicted, strict=True):
        hparams = fit.lane.hparams
        problem = experiment.sweep.plan.problems[hparams.cut]
        test = problem.test
        frames.append(
            pl.DataFrame(
                {
                    "user": dataset.user_ids[test.user],
                    "item": dataset.item_ids[test.item],
                    "rating": test.value,
                    "prediction": np.clip(predicted, *problem.bounds),
                    **_intervals(fit, problem),
                }
            ).with_columns(
                split_seed=pl.lit(hparams.split_seed, pl.Int32),
                test_fold=pl.lit(hparams.test_fold, pl.Int32),
                init_seed=pl.lit(hparams.init_seed, pl.Int32),
            )
        )
    _write(pl.concat(frames), path)


def _intervals(fit: Fit, problem: Problem) -> dict[str, np.ndarray]:
    """How far a sampler's predictions are to be trusted; nothing of another fit.

    `sd` is that of the prediction, and the rating lies between `low` and `high` with probability
    `mfjax.averages.COVERED`.
    """
    if fit.averages is None:
        return {}
    asked = asked_places(problem)
    low, high = intervals(fit.averages)
    return {
        "sd": spread(fit.averages)[asked],
        "low": np.clip(low[asked], *problem.bounds),
        "high": np.clip(high[asked], *problem.bounds),
    }


def write_splits(experiment: Experiment, seeds: Sequence[int], folder: Path) -> None:
    """Write how the ratings were split: a row a rating, in their order, and two columns a seed.

    `test_S` is the test fold of split_seed S that keeps it apart, `fold_S` the fold that it
    validates where it is not tested; -1 is none.
    """
    import polars as pl

    dataset: Dataset = experiment.dataset
    columns_of = {
        "user": dataset.user_ids[dataset.user],
        "item": dataset.item_ids[dataset.item],
        "rating": dataset.value,
    }
    for seed in seeds:
        split = experiment.splits[seed]
        columns_of |= {f"test_{seed}": split.test, f"fold_{seed}": split.fold}
        if split.given is not None:
            columns_of[f"given_{seed}"] = split.given
    _write(pl.DataFrame(columns_of), folder / SPLITS)


def _write(frame: "pl.DataFrame", path: Path) -> None:
    with taking_its_place(path) as part:
        frame.write_parquet(part)
