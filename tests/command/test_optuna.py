"""Optuna through Hydra: batches are lanes, failures are failed trials, and a second command goes on with the study."""

import signal
import time

import pytest
from test_checkpoint import popen
from test_run import SMALL, command, rows_of, strict_json

optuna = pytest.importorskip("optuna")
SEARCH = (
    *(
        "-m",
        *SMALL,
        "hydra/sweeper=mfjax_optuna",
        "hydra.sweeper.n_trials=6",
        "hydra.sweeper.batch=3",
        "hydra.sweep.dir=out",
    ),
    *(
        "hparams.learning_rate=tag(log,interval(0.001,1000))",
        "hparams.rank=range(2,9,2)",
        "optimizer=sgd,momentum",
    ),
)


def trials(folder):
    return optuna.load_study(
        study_name="mfjax", storage=f"sqlite:///{folder / 'out/study.db'}"
    ).trials


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("searched")
    done = command(folder, *SEARCH)
    assert done.returncode == 0, done.stdout + done.stderr
    return done, folder, trials(folder)


def test_a_trial_is_a_job_and_its_value_the_validation_rmse(searched):
    done, folder, found = searched
    assert done.stdout.count("Launching 3 jobs") == 2 and "Warning" not in done.stderr
    assert [trial.number for trial in found] == list(range(6))
    for trial in found:
        results = strict_json(folder / f"out/{trial.number}/results.json")
        if trial.state == optuna.trial.TrialState.COMPLETE:
            assert trial.value == results["metrics"]["validation_rmse"]["mean"]
            assert results["chosen"]["learning_rate"] == pytest.approx(
                trial.params["hparams.learning_rate"]
            )
        else:
            assert trial.state == optuna.trial.TrialState.FAIL and results["status"] == "diverged"
        assert 0.001 <= trial.params["hparams.learning_rate"] <= 1000 and trial.params[
            "hparams.rank"
        ] in (2, 4, 6, 8)
    states = {trial.state for trial in found}
    assert states == {
        optuna.trial.TrialState.COMPLETE,
        optuna.trial.TrialState.FAIL,
    }  # both were seen
    assert len(rows_of(folder / "out/sweep.csv")) == 6 and (folder / "out/heat_map.png").is_file()


def test_a_second_command_goes_on_with_the_study_and_its_numbers(searched):
    _, folder, first = searched
    done = command(folder, *SEARCH, "hydra.sweeper.n_trials=2")
    assert done.returncode == 0, done.stderr
    found = trials(folder)
    assert [trial.number for trial in found] == list(range(8))
    assert [trial.params for trial in found[:6]] == [trial.params for trial in first]
    assert strict_json(folder / "out/7/results.json")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            (*SEARCH, "hydra.sweeper.n_trials=0"),
            "hydra.sweeper.n_trials: expected a positive number, got 0",
        ),
        (
            (*SEARCH, "hydra.sweeper.batch=0"),
            "hydra.sweeper.batch: expected a positive number, got 0",
        ),
        (
            (*SEARCH[:-3], "optimizer=sgd"),
            "expected an axis to search, such as 'hparams.reg=interval(0.02,0.3)'",
        ),
    ],
)
def test_a_search_of_nothing_is_refused(tmp_path, arguments, expected):
    done = command(tmp_path, *arguments)
    assert done.returncode == 1 and expected in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_trials_under_way_when_a_run_ended_are_its_first_with_resume(tmp_path):
    arguments = (
        *SEARCH,
        "optimizer=sgd",
        "epochs=1000",
        "chunk=10",
        "checkpoint.every=1",
        "hparams.learning_rate=0.001,0.002",
    )
    process = popen(tmp_path, *arguments)
    while not list(tmp_path.glob("out/checkpoint/*/*.ckpt")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert (
        "resume=true" in "".join(process.communicate(timeout=100))
        and process.returncode == 128 + signal.SIGTERM
    )
    before = [trial.params for trial in trials(tmp_path)]
    assert len(before) == 3
    done = command(tmp_path, *arguments, "resume=true")
    assert done.returncode == 0, done.stderr
    found = trials(tmp_path)
    assert [trial.params for trial in found[:3]] == before and len(found) == 6
    assert {trial.state for trial in found} == {optuna.trial.TrialState.COMPLETE}
    all_results = [strict_json(tmp_path / f"out/{trial.number}/results.json") for trial in found]
    assert {of["compilations"] for of in all_results} == {1}
    assert (
        all_results[0]["seconds"]["compile"] > 0 == all_results[5]["seconds"]["compile"]
    )  # of the batch after it
    done = command(tmp_path, *arguments, "epochs=900")
    assert done.returncode == 1 and "differ in epochs=1000, epochs=900" in done.stderr
