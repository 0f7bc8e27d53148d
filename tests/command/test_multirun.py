"""`-m` through the mfjax launcher: what is trained together, and what each job is left with."""

import importlib.util

import numpy as np
import pytest
from commands import NO_PLOTS, SMALL, assert_refused, process, rows_of, strict_json
from hydra.test_utils.launcher_common_tests import LauncherTestSuite

DESCENT = ("-m", *SMALL, "method=descent", "optimizer=adam")
QUIET_DESCENT = (*DESCENT, NO_PLOTS)
JOBS = ("hparams.learning_rate=0.01,0.02,1e30", "hparams.reg=0.05,0.1", "gradient=tiles,coo")
SAME = ("factors.npz", "history.csv", "lanes.csv")  # to the bit


def by_overrides(sweep_dir):
    """The results and the folder of each job, by what it was asked for."""
    found = {}
    for path in sweep_dir.glob("*/results.json"):
        lines = (path.parent / ".hydra/overrides.yaml").read_text().splitlines()
        asked = (line.removeprefix("- ") for line in lines)
        key = tuple(sorted(one for one in asked if one.startswith(("hparams", "gradient"))))
        found[key] = strict_json(path), path.parent
    return found


def factors(folder):
    with np.load(folder / "factors.npz") as arrays:
        return arrays["user_factors"], arrays["item_factors"]


@pytest.fixture(scope="module")
def together(command, tmp_path_factory):
    """(what it said, folder) of twelve jobs in two groups; four of them diverge."""
    folder = tmp_path_factory.mktemp("together")
    return command(folder, *DESCENT, *JOBS), folder / "out"


def test_jobs_of_a_group_are_one_program_and_each_has_all_of_its_own(together):
    done, out = together
    assert done.returncode == 1  # as of Hydra, where a job failed
    found = by_overrides(out)
    assert len(found) == 12
    for results, folder in found.values():
        assert (results["compilations"], results["trained_together"]) == (1, 6)
        files = {path.name for path in folder.iterdir()}
        assert {"lanes.csv", "history.csv", "factors.npz", "run.log"} <= files
        assert (folder / ".hydra/config.yaml").is_file()
        assert not list(folder.glob("*.png"))
    assert not (out / "checkpoint").exists()


def test_a_diverged_job_fails_with_its_reason_and_epoch_and_the_others_finish(together):
    done, out = together
    for asked, (results, folder) in by_overrides(out).items():
        hot = "hparams.learning_rate=1e+30" in asked
        assert results["status"] == ("diverged" if hot else "finished")
        if hot:
            assert "every setting diverged, the first at epoch 1" in results["reason"]
            assert "diverged" in (folder / "run.log").read_text()
    assert "every setting diverged" in done.stderr
    assert "Traceback" not in done.stderr


def test_one_summary_of_all_jobs(together):
    done, out = together
    rows = rows_of(out / "sweep.csv")
    assert [int(row["job"]) for row in rows] == list(range(12))
    for row in rows:
        results = strict_json(out / row["job"] / "results.json")
        if results["status"] == "finished":
            mean = results["metrics"]["validation_rmse"]["mean"]
            assert float(row["validation_rmse"]) == mean
            assert float(row["hparams.reg"]) == results["chosen"]["reg"]
        else:
            assert (row["validation_rmse"], row["status"]) == ("", "diverged")
    assert "Best of 12 jobs, 4 of them failed" in done.stdout
    assert {"heat_map.png", "heat_map.pdf"} <= {path.name for path in out.iterdir()}


def test_the_test_ratings_are_looked_at_once(together):
    done, out = together
    rows = {row["job"]: row for row in rows_of(out / "sweep.csv")}
    finished = [row for row in rows.values() if row["status"] == "finished"]
    best = min(finished, key=lambda row: float(row["validation_rmse"]))["job"]
    assert f"Chosen: job {best}, by validation_rmse; the one that is tested" in done.stdout
    assert [job for job, row in rows.items() if row["test_rmse"]] == [best]
    for results, folder in by_overrides(out).values():
        is_best = folder.name == best
        assert ("test_rmse" in results.get("metrics", {})) == is_best
        assert bool(results.get("baselines")) == is_best
        assert {row["test_rmse"] for row in rows_of(folder / "lanes.csv")} == {""}
        if results["status"] == "finished":
            assert ("not tested" in results["protocol"]) == (not is_best)
            assert rows[folder.name]["protocol"] == results["protocol"]
            reg = f"reg={results['chosen']['reg']}"
            assert reg in rows[folder.name]["chosen"].split()
            assert "reg_by=count" in rows[folder.name]["conventions"].split()
    assert not list(out.rglob("test.json"))


def test_all_are_tested_where_that_is_asked_for_and_it_is_said(together, succeeded, tmp_path):
    asked = ("hparams.reg=0.05,0.1", "hparams.learning_rate=0.02", "gradient=tiles")
    done = succeeded(tmp_path, *QUIET_DESCENT, *asked, "test=all")
    label = "all are tested (test=all)"
    assert f"Tested: {label}" in done.stdout
    rows = rows_of(tmp_path / "out/sweep.csv")
    assert len(rows) == 2
    assert all(float(row["test_rmse"]) > 0 and label in row["protocol"] for row in rows)
    found = by_overrides(together[1])
    for key, (results, folder) in by_overrides(tmp_path / "out").items():
        assert {row["test_rmse"] for row in rows_of(folder / "lanes.csv")} > {""}
        theirs = found[key][0]["metrics"]
        assert results["metrics"].items() >= theirs.items()


def test_order_and_company_change_no_bit(together, succeeded, tmp_path):
    asked = ("hparams.reg=0.1", "hparams.learning_rate=0.02,0.01", "gradient=tiles")
    succeeded(tmp_path, *QUIET_DESCENT, *asked)
    found = by_overrides(together[1])
    for key, (results, folder) in by_overrides(tmp_path / "out").items():
        theirs, same = found[key]
        assert (results["trained_together"], theirs["trained_together"]) == (2, 6)
        for name in SAME:
            assert (folder / name).read_bytes() == (same / name).read_bytes()


@pytest.mark.slow
def test_a_summary_holds_the_jobs_of_its_launch_alone(command, succeeded, tmp_path):
    three = (*QUIET_DESCENT, "hparams.reg=0.1,0.2,0.3")
    succeeded(tmp_path, *three)
    before = (tmp_path / "out/sweep.csv").read_bytes()
    refused = command(tmp_path, *QUIET_DESCENT, "hparams.reg=0.1,0.4")
    assert refused.returncode == 1
    assert "of this very run, and finished" in refused.stderr
    assert (tmp_path / "out/sweep.csv").read_bytes() == before
    succeeded(tmp_path, *QUIET_DESCENT, "hparams.reg=0.1,0.4", "overwrite=true")
    rows = rows_of(tmp_path / "out/sweep.csv")
    assert [row["hparams.reg"] for row in rows] == ["0.1", "0.4"]
    assert (tmp_path / "out/2/results.json").is_file()


@pytest.mark.slow
def test_under_another_launcher_a_finished_result_stays_too(together, tmp_path):
    asked = (*QUIET_DESCENT, "hydra/launcher=basic", "hparams.learning_rate=0.02")
    assert process(tmp_path, *asked, "hparams.reg=0.1,0.2").returncode == 0
    done = process(tmp_path, *asked, "hparams.reg=0.1,0.3", "resume=true")
    assert_refused(done, "error: job 1: ")
    assert "hparams.reg: 0.2 there, 0.3 here" in done.stderr
    assert [row["job"] for row in rows_of(tmp_path / "out/sweep.csv")] == ["0"]
    assert strict_json(tmp_path / "out/1/results.json")["run"]["hparams.reg"] == 0.2


LAUNCHERS = {"basic": "hydra", "joblib": "hydra_joblib_launcher", "submitit_local": "submitit"}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_other_launchers_agree(together, tmp_path, launcher):
    needed = LAUNCHERS[launcher]
    if not any(map(importlib.util.find_spec, (needed, f"hydra_plugins.{needed}"))):
        pytest.skip(f"the {launcher} launcher is not installed")
    asked = ("hparams.reg=0.05,0.1", "hparams.learning_rate=0.02", "gradient=tiles")
    done = process(tmp_path, *QUIET_DESCENT, *asked, f"hydra/launcher={launcher}")
    assert done.returncode == 0, done.stderr
    found = by_overrides(together[1])
    jobs = by_overrides(tmp_path / "out")
    assert len(jobs) == 2
    for key, (results, folder) in jobs.items():
        theirs, same = found[key]
        assert results["trained_together"] == 1
        mean = theirs["metrics"]["validation_rmse"]["mean"]
        assert results["metrics"]["validation_rmse"]["mean"] == pytest.approx(mean, rel=1e-5)
        for ours, other in zip(factors(folder), factors(same), strict=True):
            np.testing.assert_allclose(ours, other, rtol=1e-5, atol=1e-5)
    rows = rows_of(tmp_path / "out/sweep.csv")
    assert [bool(row["test_rmse"]) for row in rows].count(True) == 1  # the chosen one
    assert len(rows) == 2


def test_the_experiments_own_sweep_expands_in_each_job_and_hides_what_it_sweeps(
    succeeded, tmp_path
):
    swept = ("sweep.reg=[0.05,0.1]", "hparams.reg=7")
    done = succeeded(tmp_path, *QUIET_DESCENT, *swept, "hparams.learning_rate=0.01,0.02")
    assert done.stdout.count("hparams.reg has no effect: sweep.reg has its values") == 1
    jobs = by_overrides(tmp_path / "out").values()
    assert len(jobs) == 2
    for results, folder in jobs:
        assert {float(row["reg"]) for row in rows_of(folder / "lanes.csv")} == {0.05, 0.1}
        assert results["chosen"]["reg"] in (0.05, 0.1)


@pytest.mark.parametrize(
    "override, message",
    [
        ("hydra.launcher.lanes_per_program=0", "expected a positive number, got 0"),
        ("hydra.launcher.width=8", "it is now hydra.launcher.lanes_per_program"),
    ],
)
def test_a_wrong_key_of_the_launcher_is_refused(command, tmp_path, override, message):
    assert_refused(command(tmp_path, *QUIET_DESCENT, "hparams.reg=0.1,0.2", override), message)


# the contract of Hydra


@pytest.mark.parametrize("launcher_name, overrides", [("mfjax", ["hydra.job.chdir=true"])])
class TestMfjaxLauncher(LauncherTestSuite):
    """Hydra's own tests of a launcher, whose jobs are not of mfjax: one runs after another."""
