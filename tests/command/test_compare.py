"""`job=compare`: variants side by side, of which the best by validation is tested."""

import pytest
from commands import QUIET, assert_refused, rows_of, strict_json

TEST = ("test_rmse", "test_mae")
COMPARE = (
    *("job=compare", *QUIET),
    "+job.variants={low:{hparams:{reg:0.05}},high:{hparams:{reg:3.0}},als:{method:{name:als}}}",
)


@pytest.fixture(scope="module", params=["chosen", pytest.param("all", marks=pytest.mark.slow)])
def compared(request, succeeded, tmp_path_factory):
    """(what is tested, what it said, the figures by variant, folder)."""
    folder = tmp_path_factory.mktemp(request.param)
    done = succeeded(folder, *COMPARE, f"test={request.param}")
    figures = strict_json(folder / "out/results.json")["figures"]
    return request.param, done, figures, folder / "out"


def test_the_best_by_validation_alone_is_tested_or_all_and_that_is_said(compared):
    test, done, figures, folder = compared
    assert list(figures) == ["low", "high", "als"]
    best = min(figures, key=lambda name: figures[name]["metrics"]["validation_rmse"]["mean"])
    tested = [name for name, of in figures.items() if "test_rmse" in of["metrics"]]
    assert tested == (list(figures) if test == "all" else [best])
    for name, of in figures.items():
        is_tested = name in tested
        assert bool(of["baselines"]) == is_tested
        assert ("not tested" in of["protocol"]) == (not is_tested)
        assert ("all are tested (test=all)" in of["protocol"]) == (test == "all")
        rows = rows_of(folder / name / "lanes.csv")
        assert any(row[column] for row in rows for column in TEST) == is_tested
        assert of["remarks"] is not None
    said = "all are tested" if test == "all" else f"{best}, the best by validation RMSE"
    assert f"Tested: {said}" in done.stdout


TWO = (
    *("job=compare", *QUIET, "replicates=1", "epochs=2"),
    "+job.variants={low:{hparams:{reg:0.05}},high:{hparams:{fold:-2}}}",
)


def test_a_finished_result_in_the_folder_of_a_variant_stays_until_it_is_overwritten(
    command, succeeded, tmp_path
):
    folder = tmp_path / "out" / "low"
    folder.mkdir(parents=True)
    (folder / "results.json").write_text('{"status": "finished", "run": {"epochs": 7}}')
    (folder / ".lanes.csv.part").touch()
    refused = command(tmp_path, *TWO)
    assert refused.returncode == 1
    assert "low/results.json is of another run" in refused.stderr
    assert strict_json(folder / "results.json")["run"] == {"epochs": 7}
    done = succeeded(tmp_path, *TWO, "overwrite=true")
    assert strict_json(folder / "results.json")["run"]["epochs"] == 2
    assert not list(folder.glob(".*"))
    # the other is judged by ratings that it has seen
    assert "Tested: low, the best by validation RMSE" in done.stdout
    assert "Not compared: high, of which nothing is held out" in done.stdout


def test_variants_of_other_ratings_are_refused(command, tmp_path):
    variants = "+job.variants={one:{},two:{implicit:3}}"
    done = command(tmp_path, "job=compare", *QUIET, "clip=false", variants)
    assert_refused(done, "job.variants.two: expected the implicit of one, got another")


@pytest.mark.slow
def test_a_variant_that_sees_which_pairs_are_tested_is_not_compared_with_another(command, tmp_path):
    variants = "+job.variants={one:{},two:{bags:{item:rated,transductive:true}}}"
    done = command(tmp_path, "job=compare", *QUIET, "method=als", variants)
    assert_refused(done, "job.variants.two: not comparable with one, since the bags of one alone")
