"""Optuna through Hydra: batches are lanes, failures are failed trials, and studies go on."""

import signal

import pytest
from commands import NO_PLOTS, SMALL, assert_refused, rows_of, stopped_at_a_checkpoint, strict_json

optuna = pytest.importorskip("optuna")
pytestmark = pytest.mark.slow
SEARCH = (
    *("-m", *SMALL, "hydra/sweeper=mfjax_optuna"),
    *("hydra.sweeper.n_trials=6", "hydra.sweeper.batch=3"),
)
AXES = (
    "hparams.learning_rate=tag(log,interval(0.001,1000))",
    "hparams.rank=range(2,9,2)",
    "optimizer=sgd,momentum",
)


def trials(folder):
    storage = f"sqlite:///{folder / 'out/study.db'}"
    return optuna.load_study(study_name="mfjax", storage=storage).trials


@pytest.fixture(scope="module")
def searched(succeeded, tmp_path_factory):
    """(what it said, folder, trials) of a search, and after a second command of two more."""
    folder = tmp_path_factory.mktemp("searched")
    done = succeeded(folder, *SEARCH, *AXES)
    return done, folder, trials(folder)


def test_a_trial_is_a_job_and_its_value_the_validation_rmse(searched):
    done, folder, found = searched
    assert done.stdout.count("Launching 3 jobs") == 2
    assert "Warning" not in done.stderr
    assert [trial.number for trial in found] == list(range(6))
    state = optuna.trial.TrialState
    for trial in found:
        results = strict_json(folder / f"out/{trial.number}/results.json")
        rate = trial.params["hparams.learning_rate"]
        if trial.state == state.COMPLETE:
            assert trial.value == results["metrics"]["validation_rmse"]["mean"]
            assert results["chosen"]["learning_rate"] == pytest.approx(rate)
        else:
            assert trial.state == state.FAIL
            assert results["status"] == "diverged"
        assert 0.001 <= rate <= 1000
        assert trial.params["hparams.rank"] in (2, 4, 6, 8)
    assert {trial.state for trial in found} == {state.COMPLETE, state.FAIL}  # both were seen
    assert (folder / "out/heat_map.png").is_file()


def test_the_best_trial_alone_is_tested(searched):
    done, folder, found = searched
    state = optuna.trial.TrialState.COMPLETE
    best = min((one for one in found if one.state == state), key=lambda one: one.value)
    results = [strict_json(folder / f"out/{trial.number}/results.json") for trial in found]
    tested = ["test_rmse" in of.get("metrics", {}) for of in results]
    assert [number for number, is_tested in enumerate(tested) if is_tested] == [best.number]
    assert f"Chosen: job {best.number}, by validation_rmse" in done.stdout


def test_a_second_command_goes_on_with_the_study_and_its_numbers(searched, succeeded):
    _, folder, first = searched
    succeeded(folder, *SEARCH, *AXES, "hydra.sweeper.n_trials=2", NO_PLOTS)
    found = trials(folder)
    assert [trial.number for trial in found] == list(range(8))
    assert [trial.params for trial in found[:6]] == [trial.params for trial in first]
    assert strict_json(folder / "out/7/results.json")
    assert len(rows_of(folder / "out/sweep.csv")) == 8


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((*AXES, "hydra.sweeper.n_trials=0"), "n_trials: expected an integer from 1 to 1000000"),
        ((*AXES, "hydra.sweeper.batch=0"), "batch: expected an integer from 1 to 1000000, got 0"),
        (
            ("optimizer=sgd",),
            "expected an axis to search, such as 'hparams.reg=interval(0.02,0.3)'",
        ),
    ],
)
def test_a_search_of_nothing_is_refused(command, tmp_path, arguments, message):
    assert_refused(command(tmp_path, *SEARCH, *arguments), message)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_trials_under_way_when_a_run_ended_are_its_first_with_resume(command, succeeded, tmp_path):
    long = ("epochs=4000", "epochs_per_call=40", "checkpoint.every=1", "eval_every=40", NO_PLOTS)
    arguments = (*SEARCH, *AXES[1:2], "hparams.learning_rate=0.001,0.002", *long)
    done = stopped_at_a_checkpoint(tmp_path, signal.SIGTERM, *arguments)
    assert done.returncode == 128 + signal.SIGTERM
    assert "resume=true" in done.stderr
    before = [trial.params for trial in trials(tmp_path)]
    assert len(before) == 3
    succeeded(tmp_path, *arguments, "resume=true")
    found = trials(tmp_path)
    assert [trial.params for trial in found[:3]] == before
    assert len(found) == 6
    assert {trial.state for trial in found} == {optuna.trial.TrialState.COMPLETE}
    results = [strict_json(tmp_path / f"out/{trial.number}/results.json") for trial in found]
    assert {of["compilations"] for of in results} == {1}
    # the second batch has the programs of the first
    assert results[0]["seconds"]["compile"] > 0 == results[5]["seconds"]["compile"]
    other = command(tmp_path, *arguments, "epochs=300")
    assert_refused(other, "differ in epochs=300, epochs=4000")
