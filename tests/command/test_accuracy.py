"""The bar of the main job: the test error that README.md reports."""

import pytest
from commands import NO_PLOTS, Child, assert_succeeded, strict_json

TEST_RMSE = 0.872  # of +exp=movielens, at rank 16
WITHIN = 0.004
CHOSEN = {"learning_rate": 0.01, "reg": 0.1, "reg_bias": 0.04}  # by validation


@pytest.fixture(scope="module")
def optimised():
    """The command, its programs compiled as a user's (conftest.py): there is much to train."""
    child = Child(JAX_DISABLE_MOST_OPTIMIZATIONS="0", XLA_FLAGS="")
    yield lambda folder, *arguments: assert_succeeded(child(folder, *arguments))
    child.close()


@pytest.fixture(scope="module")
def chosen_alone(optimised, tmp_path_factory):
    """The metrics of the setting that the main job chooses, on its three splits."""
    folder = tmp_path_factory.mktemp("chosen")
    setting = [f"hparams.{key}={value}" for key, value in CHOSEN.items()]
    splits = ("sweep=none", "sweep.split_seed=${range:3}")
    optimised(folder, "+exp=movielens", *splits, *setting, NO_PLOTS)
    return strict_json(folder / "out/results.json")["metrics"]


def test_the_chosen_setting_has_the_reported_test_error(chosen_alone):
    assert chosen_alone["test_rmse"]["mean"] == pytest.approx(TEST_RMSE, abs=WITHIN)
    assert chosen_alone["test_rmse"]["n"] == 3


@pytest.mark.slow
def test_the_main_job_chooses_it_and_reports_the_same(chosen_alone, optimised, tmp_path):
    optimised(tmp_path, "+exp=movielens", NO_PLOTS)
    results = strict_json(tmp_path / "out/results.json")
    assert {key: results["chosen"][key] for key in CHOSEN} == CHOSEN
    assert results["metrics"] == chosen_alone
