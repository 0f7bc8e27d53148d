"""`-m` through the mfjax launcher: what is trained together, what each job is left with, and what a failure or a kill costs."""

import importlib.util
import signal
import time

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.test_utils.launcher_common_tests import LauncherTestSuite
from test_run import SMALL, command, rows_of, strict_json

from mfjax.app import build as config
from mfjax.app import multirun
from mfjax.errors import InputError, OutOfMemory
from mfjax.training.program import Program

JOBS = ("hparams.learning_rate=0.01,0.02,1e30", "hparams.reg=0.05,0.1", "gradient=tiles,coo")
DESCENT = (*SMALL, "method=descent", "optimizer=adam")


def multi(folder, *arguments, out="out"):
    return command(folder, "-m", *DESCENT, *arguments, f"hydra.sweep.dir={out}")


def factors(folder):
    with np.load(folder / "factors.npz") as arrays:
        return arrays["user_factors"], arrays["item_factors"]


def by_overrides(sweep_dir):
    """The results and the folder of each job, by what it was asked for."""
    return {
        tuple(sorted(overrides(folder))): (strict_json(folder / "results.json"), folder)
        for folder in jobs(sweep_dir)
    }


def jobs(sweep_dir):
    return [path.parent for path in sweep_dir.glob("*/results.json")]


def overrides(folder):
    lines = (folder / ".hydra/overrides.yaml").read_text().splitlines()
    return [
        line.removeprefix("- ") for line in lines if line.startswith(("- hparams", "- gradient"))
    ]


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """(process, folder) of twelve jobs in two groups; four of them diverge."""
    folder = tmp_path_factory.mktemp("together")
    return multi(folder, *JOBS), folder / "out"


# what a multirun leaves


def test_jobs_of_a_group_are_one_program_and_each_has_all_of_its_own(together):
    done, out = together
    assert done.returncode == 1  # as of Hydra, where a job failed
    found = by_overrides(out)
    assert len(found) == 12
    for results, folder in found.values():
        assert (results["compilations"], results["trained_together"]) == (1, 6)
        assert {"lanes.csv", "history.csv", "factors.npz", "run.log"} <= {
            path.name for path in folder.iterdir()
        }
        assert (folder / ".hydra/config.yaml").is_file() and not list(folder.glob("*.png"))
    assert not (out / "checkpoint").exists()


def test_a_diverged_job_fails_with_its_reason_and_epoch_and_the_others_finish(together):
    done, out = together
    for asked, (results, folder) in by_overrides(out).items():
        hot = "hparams.learning_rate=1e+30" in asked
        assert results["status"] == ("diverged" if hot else "finished")
        if hot:
            assert "every setting diverged, the first at epoch 1" in results["reason"]
            assert "diverged" in (folder / "run.log").read_text()
    assert "every setting diverged" in done.stderr and "Traceback" not in done.stderr


def test_one_summary_of_all_jobs(together):
    done, out = together
    rows = rows_of(out / "sweep.csv")
    assert [int(row["job"]) for row in rows] == list(range(12))
    for row in rows:
        results = strict_json(out / row["job"] / "results.json")
        if results["status"] == "finished":
            assert float(row["validation_rmse"]) == results["metrics"]["validation_rmse"]["mean"]
            assert float(row["hparams.reg"]) == results["chosen"]["reg"]
        else:
            assert (row["validation_rmse"], row["status"]) == ("", "diverged")
    assert "Best of 12 jobs, 4 of them failed" in done.stdout
    assert {"heat_map.png", "heat_map.pdf"} <= {path.name for path in out.iterdir()}


def test_order_and_company_change_no_bit(together, tmp_path):
    _, out = together
    assert (
        multi(
            tmp_path, "hparams.reg=0.1", "hparams.learning_rate=0.02,0.01", "gradient=tiles"
        ).returncode
        == 0
    )
    found = by_overrides(out)
    for asked, (results, folder) in by_overrides(tmp_path / "out").items():
        theirs, same = found[asked]
        assert results["trained_together"] == 2 and theirs["trained_together"] == 6
        for name in ("factors.npz", "history.csv", "lanes.csv"):
            assert (folder / name).read_bytes() == (same / name).read_bytes()


LAUNCHERS = {
    "basic": "hydra",
    "joblib": "hydra_plugins.hydra_joblib_launcher",
    "submitit_local": "submitit",
}


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_other_launchers_agree(together, tmp_path, launcher):
    if importlib.util.find_spec(LAUNCHERS[launcher].split(".")[0]) is None or (
        launcher == "joblib" and importlib.util.find_spec(LAUNCHERS[launcher]) is None
    ):
        pytest.skip(f"the {launcher} launcher is not installed")
    asked = ("hparams.reg=0.05,0.1", "hparams.learning_rate=0.02", "gradient=tiles")
    done = multi(tmp_path, *asked, f"hydra/launcher={launcher}")
    assert done.returncode == 0, done.stderr
    found = by_overrides(together[1])
    for asked, (results, folder) in by_overrides(tmp_path / "out").items():
        theirs, same = found[asked]
        assert results["trained_together"] == 1 and results["digest"] == theirs["digest"]
        for metric in ("validation_rmse", "test_rmse"):
            assert results["metrics"][metric]["mean"] == pytest.approx(
                theirs["metrics"][metric]["mean"], rel=1e-5
            )
        for ours, other in zip(factors(folder), factors(same), strict=True):
            np.testing.assert_allclose(ours, other, rtol=1e-5, atol=1e-5)
    assert len(rows_of(tmp_path / "out/sweep.csv")) == 2


def test_the_experiments_own_sweep_expands_in_each_job_and_hides_what_it_sweeps(tmp_path):
    done = multi(
        tmp_path, "sweep.reg=[0.05,0.1]", "hparams.reg=7", "hparams.learning_rate=0.01,0.02"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("hparams.reg has no effect: sweep.reg has its values") == 1
    for results, folder in by_overrides(tmp_path / "out").values():
        assert {float(row["reg"]) for row in rows_of(folder / "lanes.csv")} == {0.05, 0.1}
        assert results["chosen"]["reg"] in (0.05, 0.1)


def test_a_width_below_one_is_refused(tmp_path):
    done = multi(tmp_path, "hparams.reg=0.1,0.2", "hydra.launcher.width=0")
    assert (
        done.returncode == 1
        and "hydra.launcher.width: expected a positive number, got 0" in done.stderr
    )


# a multirun that is killed


def test_a_killed_multirun_loses_nothing_and_trains_nothing_twice(tmp_path):
    arguments = (
        "hparams.learning_rate=0.01,0.02,0.03",
        "epochs=400",
        "chunk=20",
        "checkpoint.every=1",
    )
    whole = multi(tmp_path, *arguments, out="whole")
    assert whole.returncode == 0, whole.stderr
    from test_checkpoint import popen

    command = ("-m", *DESCENT, *arguments, "hydra.sweep.dir=out")
    process = popen(tmp_path, *command)
    while not list(tmp_path.glob("out/checkpoint/*/*.ckpt")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    said = "".join(process.communicate(timeout=100))
    assert (
        process.returncode == 128 + signal.SIGTERM
        and "resume=true" in said
        and "hydra.sweep.dir=" in said
    )
    done = multi(tmp_path, *arguments, "resume=true", "epochs=300")
    assert (
        done.returncode == 1
        and "is of another run" in done.stderr
        and "epochs: 400 there, 300 here" in done.stderr
    )
    process = popen(tmp_path, *command, "resume=true")
    while not jobs(tmp_path / "out") and process.poll() is None:
        time.sleep(0.001)
    process.kill()
    process.communicate()
    before = {
        folder: (folder / "results.json").stat().st_mtime_ns for folder in jobs(tmp_path / "out")
    }
    assert 1 <= len(before) <= 3
    done = multi(tmp_path, *arguments, "resume=true")
    assert done.returncode == 0, done.stderr
    assert all((folder / "results.json").stat().st_mtime_ns == at for folder, at in before.items())
    ours, theirs = by_overrides(tmp_path / "out"), by_overrides(tmp_path / "whole")
    assert ours.keys() == theirs.keys() and len(ours) == 3
    for asked, (results, folder) in ours.items():
        assert results["digest"] == theirs[asked][0]["digest"]
        for name in ("factors.npz", "history.csv", "lanes.csv"):
            assert (folder / name).read_bytes() == (theirs[asked][1] / name).read_bytes()
    assert len(rows_of(tmp_path / "out/sweep.csv")) == 3
    anew = multi(tmp_path, *arguments, "resume=true", "loss_scale=sum")
    assert anew.returncode == 0  # another config: trained, not recognised
    assert all((folder / "results.json").stat().st_mtime_ns != at for folder, at in before.items())


# what goes wrong in a group


@pytest.fixture
def composed(monkeypatch, tmp_path):
    """Jobs as the launcher composes them, trained in this process; of each, what is handed to it."""
    monkeypatch.setattr("mfjax.app.machine.set_up", lambda cfg: None)
    config.register()

    def trained(*jobs, width=8):
        with initialize_config_dir(str(config.CONF), version_base="1.3"):
            cfgs = [compose("config", [*SMALL, *job]) for job in jobs]
        folders = [tmp_path / str(i) for i in range(len(cfgs))]
        return multirun.train_together(cfgs, folders, tmp_path, width, {})

    return trained


GOOD = [(f"hparams.reg={reg}",) for reg in (0.1, 0.2)]
CULPRIT = ("sweep.momentum=[0.5,0.9]",)  # which plain SGD does not read


def same(trained, other):
    for ours, theirs in zip(trained.outcome.final, other.outcome.final, strict=True):
        np.testing.assert_array_equal(ours.factors.user, theirs.factors.user)
        np.testing.assert_array_equal(ours.factors.item, theirs.factors.item)


def test_a_job_that_raises_is_alone_with_its_error(composed):
    whole = composed(*GOOD)
    ready = composed(GOOD[0], CULPRIT, GOOD[1])
    assert isinstance(ready[1], InputError) and "momentum" in str(ready[1])
    for ours, theirs in zip(ready[::2], whole, strict=True):
        same(ours, theirs)


def test_a_wrong_value_is_its_jobs_alone(composed):
    ready = composed(
        ("hparams.learning_rate=-1",), ("hparams.learning_rate=0.01",), ("job=gradients",)
    )
    assert isinstance(ready[0], InputError) and ready[1].jobs == 1 and ready[2] is None


def test_a_group_beyond_memory_goes_on_with_half_its_width_and_says_so(
    composed, monkeypatch, caplog
):
    reference = composed(*GOOD)
    fitting, tried = Program._fitting, []

    def small(program, *args):
        tried.append(program.width)
        if program.width > 2:
            raise OutOfMemory("no room")
        return fitting(program, *args)

    monkeypatch.setattr(Program, "_fitting", small)
    ready = composed(*GOOD)
    assert (
        tried[:3] == [8, 4, 2]
        and "out of memory with 8 lanes a program: going on with 4" in caplog.text
    )
    for ours, theirs in zip(ready, reference, strict=True):
        same(ours, theirs)
    monkeypatch.setattr(
        Program, "_fitting", lambda *args: (_ for _ in ()).throw(OutOfMemory("no room"))
    )
    assert all(isinstance(one, OutOfMemory) for one in composed(*GOOD))


def test_handed_errors_are_raised_in_their_job():
    assert multirun.handed() is None
    with multirun.handing("ready"):
        assert multirun.handed() == "ready"
    with multirun.handing(InputError("no")), pytest.raises(InputError, match="no"):
        multirun.handed()


# the contract of Hydra


@pytest.mark.parametrize("launcher_name, overrides", [("mfjax", ["hydra.job.chdir=true"])])
class TestMfjaxLauncher(LauncherTestSuite):
    """Hydra's own tests of a launcher, whose jobs are not of mfjax: they run one after another."""
