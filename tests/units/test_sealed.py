"""The test ratings of a multirun are looked at once, for the job that is chosen."""

import json

import pytest

from mfjax.app.sealed import ALL_TESTED, NOT_TESTED, SEALED, discard, seal, unseal
from mfjax.app.summary import Best, choose, summarise
from mfjax.reporting.files import write_json
from mfjax.reporting.statistics import Interval

TESTED = {
    "metrics": {"validation_rmse": Interval(0.9, 0.8, 1.0, 3), "test_rmse": Interval(1, 0.5, 2, 3)},
    "interval_over": "3 splits (split_seed)",
    "baselines": {"item mean": Interval(1.2, 1.0, 1.4, 3)},
    "protocol": "random 80/10/10",
}


def read(folder):
    return json.loads((folder / "results.json").read_text())


def finished(folder, number, validation=None, train=0.5, sealed=True, **also):
    """A job of a multirun that came to its end, its test errors sealed."""
    job = folder / str(number)
    (job / ".hydra").mkdir(parents=True)
    (job / ".hydra/overrides.yaml").write_text(f"- hparams.reg={number}\n")
    of_validation = Interval(validation, None, None, 1)
    metrics = {"validation_rmse": of_validation, "train_rmse": Interval(train, None, None, 1)}
    said = {"chosen": {"reg": number}, "protocol": f"random 80/10/10; {NOT_TESTED}"}
    write_json(job / "results.json", {"status": "finished", "metrics": metrics, **said, **also})
    if sealed:
        seal(job, TESTED)
    return job


@pytest.fixture
def folder(tmp_path):
    """That of a multirun."""
    (tmp_path / "multirun.yaml").touch()
    return tmp_path


# one job


def test_what_is_sealed_is_not_in_the_results_until_it_is_opened(tmp_path):
    job = finished(tmp_path, 0, 0.9)
    before = read(job)
    assert "test_rmse" not in before["metrics"]
    unseal(job)
    after = read(job)
    assert after["metrics"] == before["metrics"] | {
        "validation_rmse": {"mean": 0.9, "low": 0.8, "high": 1.0, "n": 3},
        "test_rmse": {"mean": 1, "low": 0.5, "high": 2, "n": 3},
    }
    assert after["protocol"] == "random 80/10/10"
    assert after["baselines"]["item mean"]["n"] == 3
    assert after["chosen"] == {"reg": 0}
    assert not (job / SEALED).exists()
    unseal(job)  # nothing is left to merge
    assert read(job) == after


def test_what_is_discarded_is_gone(tmp_path):
    job = finished(tmp_path, 0, 0.9)
    before = read(job)
    discard(job)
    unseal(job)
    assert read(job) == before
    assert not (job / SEALED).exists()
    discard(job)


# several


def test_the_best_by_validation_is_opened_and_the_others_forgotten(folder):
    jobs = [finished(folder, number, rmse) for number, rmse in enumerate((0.9, 0.7, 0.8))]
    assert choose(folder, "validation_rmse") == Best("1", "validation_rmse")
    tested = ["test_rmse" in read(job)["metrics"] for job in jobs]
    assert tested == [False, True, False]
    assert not list(folder.rglob(SEALED))
    assert NOT_TESTED in read(jobs[0])["protocol"]
    assert NOT_TESTED not in read(jobs[1])["protocol"]


def test_where_nothing_is_held_out_the_training_error_chooses(folder):
    for number, rmse in enumerate((0.9, 0.7)):
        finished(folder, number, validation=None, train=rmse)
    assert choose(folder, "validation_rmse") == Best("1", "train_rmse")


def test_a_job_without_validation_is_not_chosen_over_one_with(folder):
    finished(folder, 0, validation=None, train=0.1)
    finished(folder, 1, validation=0.9, train=0.5)
    assert choose(folder, "validation_rmse") == Best("1", "validation_rmse")


def test_jobs_that_failed_are_not_chosen(folder):
    finished(folder, 0, 0.1, status="failed", reason="no memory")
    finished(folder, 1, 0.9)
    assert choose(folder, "validation_rmse") == Best("1", "validation_rmse")
    assert "test_rmse" not in read(folder / "0")["metrics"]


def test_where_all_failed_what_was_sealed_before_is_forgotten(folder):
    finished(folder, 0, 0.1, status="failed", reason="no memory")
    assert choose(folder, "validation_rmse") is None
    assert not list(folder.rglob(SEALED))


def test_with_nothing_sealed_none_is_chosen(folder):
    finished(folder, 0, 0.9, sealed=False)
    assert choose(folder, "validation_rmse") is None


# the summary


def rows(folder):
    from commands import rows_of

    return rows_of(folder / "sweep.csv")


def said_of(folder, capsys):
    summarise(folder, "validation_rmse", None)
    return capsys.readouterr().out


def test_the_table_names_what_each_job_chose_and_how_and_tests_one(folder, capsys):
    conventions = {"missing": "ignore", "clip": [0.5, 5]}
    for number, rmse in enumerate((0.9, 0.7)):
        finished(folder, number, rmse, conventions=conventions)
    summarise(folder, "validation_rmse", None)
    first, second = rows(folder)
    assert (first["chosen"], second["chosen"]) == ("reg=0", "reg=1")
    assert first["conventions"] == "missing=ignore clip=[0.5,5]"
    assert NOT_TESTED in first["protocol"]
    assert first["test_rmse"] == first["test_rmse_low"] == ""
    assert float(second["test_rmse"]) == 1
    assert "Chosen: job 1, by validation_rmse; the one that is tested" in capsys.readouterr().out


def test_of_a_multirun_that_a_signal_ended_none_is_chosen_yet(folder, capsys):
    jobs = [finished(folder, number, 0.9) for number in range(2)]
    summarise(folder, "validation_rmse", None, is_whole=False)
    assert [row["test_rmse"] for row in rows(folder)] == ["", ""]
    assert all((job / SEALED).is_file() for job in jobs)
    assert "Chosen" not in capsys.readouterr().out


def test_that_all_are_tested_is_said(folder, capsys):
    for number in range(2):
        metrics = {"validation_rmse": {"mean": 1, "n": 1}, "test_rmse": {"mean": 1, "n": 1}}
        protocol = f"random 80/10/10; {ALL_TESTED}"
        finished(folder, number, sealed=False, metrics=metrics, protocol=protocol)
    summarise(folder, "validation_rmse", None)
    assert f"Tested: {ALL_TESTED}" in capsys.readouterr().out
    assert [row["test_rmse"] for row in rows(folder)] == ["1", "1"]


def test_the_table_says_what_each_job_chose_and_below_it_what_all_share(folder, capsys):
    for number, rmse in enumerate((0.9, 0.7)):
        finished(folder, number, rmse, chosen={"reg": number, "rank": 2 + number, "beta": 0.9})
    said = said_of(folder, capsys)
    assert " rank=3 " in said  # reg has a column, and beta is the same
    assert "Protocol: random 80/10/10\n" in said
    assert "  reg=1 rank=3 beta=0.9\n" in said


def test_a_choice_at_the_end_of_what_the_jobs_tried_is_said_in_one_line(folder, capsys):
    for number, rmse in enumerate((0.9, 0.8, 0.7)):
        job = finished(folder, number, rmse)
        asked = [f"hparams.rank={number % 2 + 3}", f"hparams.split_seed={number}"]
        lines = "".join(f"- {one}\n" for one in [f"hparams.reg={number}", *asked])
        (job / ".hydra/overrides.yaml").write_text(lines)
    remark = "reg=2 is the highest of its axis: try higher; rank=3 is the lowest of its axis"
    assert f"Remark: {remark}: try lower\n" in said_of(folder, capsys)


def test_no_remark_within_what_was_tried(folder, capsys):
    for number, rmse in enumerate((0.9, 0.7, 0.8)):
        finished(folder, number, rmse)
    assert "Remark" not in said_of(folder, capsys)


def test_a_chosen_job_without_test_ratings_is_not_called_tested(folder, capsys):
    finished(folder, 0, 0.9)
    finished(folder, 1, 0.7, sealed=False)
    said = said_of(folder, capsys)
    assert "Chosen: job 1, by validation_rmse; it has no test ratings" in said
