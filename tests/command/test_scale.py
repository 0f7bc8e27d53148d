"""The job that measures how a gradient's time and memory grow: its figures and its files."""

import itertools

import numpy as np
import pytest
from commands import assert_refused, rows_of, strict_json

SIZES = (200, 500, 1000)
TINY = (
    *("+exp=imputed_scale", "data.num_users=60", "data.num_items=50", "hparams.rank=4"),
    *("job.repeats=2", "compilation_cache=true"),
)


@pytest.fixture(scope="module")
def measured(succeeded, tmp_path_factory):
    """(what it said, output folder) of the job at SIZES."""
    folder = tmp_path_factory.mktemp("scale")
    ratings = ",".join(map(str, reversed(SIZES)))
    return succeeded(folder, *TINY, f"job.ratings=[{ratings}]"), folder / "out"


@pytest.fixture(scope="module")
def figures(measured):
    return strict_json(measured[1] / "results.json")


def test_a_row_a_size_with_its_costs(measured):
    rows = rows_of(measured[1] / "scale.csv")
    assert [int(row["ratings"]) for row in rows] == list(SIZES)
    for row in rows:
        assert float(row["ms_low"]) <= float(row["ms"]) <= float(row["ms_high"])
        costs = ("ms_low", "layout_s", "compile_s", "layout_bytes", "temp_bytes")
        assert min(float(row[column]) for column in costs) > 0
        # of both sides, each with a column, a value, a weight and a fold
        assert float(row["layout_bytes"]) > 16 * 2 * int(row["ratings"])
    assert [row["exponent"] == "" for row in rows] == [True, False, False]
    peaks = [int(row["peak_bytes"]) for row in rows]
    # the kernel counts pages by thread and adds them up now and then: 4 kB were seen out of order
    assert all(after > before - 2**20 for before, after in itertools.pairwise(peaks))
    assert peaks[0] > 5e7


def test_the_line_is_through_the_rows(figures):
    rows = figures["sizes"]
    fits = figures["fits"]
    for name, column in (("time", "ms"), ("memory", "peak_bytes")):
        x, y = (np.log([row[key] for row in rows]) for key in ("ratings", column))
        exponent = ((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()
        intercept = y.mean() - exponent * x.mean()
        assert fits[name]["exponent"] == pytest.approx(exponent, abs=1e-9)
        assert np.log(fits[name]["factor"]) == pytest.approx(intercept)
    last = np.log(rows[2]["ms"] / rows[1]["ms"]) / np.log(SIZES[2] / SIZES[1])
    assert rows[2]["exponent"] == pytest.approx(last)
    goal = figures["goal"]
    steepest = max(last, fits["time"]["exponent"])
    assert goal["reached"] == (steepest <= goal["time_exponent_at_most"])


def test_the_gradient_is_that_of_the_dense_matrix(figures):
    errors = figures["errors"]
    assert errors["float64"].keys() == {"item_mean", "zero"}
    assert errors["tolerance_float64"] == 1e-10
    assert 0 < max(errors["float64"].values()) < 1e-10
    assert 0 < errors["float32"] < 1e-4
    assert figures["dense_bytes"] == 4 * 60 * 50


def test_the_job_leaves_its_files_and_says_its_figures(measured, figures):
    done, folder = measured
    files = {"scale.csv", "scale.md", "scale.png", "scale.pdf", "results.json", "run.log"}
    assert {path.name for path in folder.iterdir()} == files | {".hydra"}
    assert (folder / "scale.md").read_text().count("\n") == len(SIZES) + 2
    assert f"ratings^{figures['fits']['time']['exponent']:.2f}" in done.stdout
    assert "1,000" in done.stdout
    assert figures["experiment"] == "imputed_scale"
    assert figures["provenance"]["devices"]["count"] >= 1
    assert done.stderr == ""


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((*TINY, "job.ratings=[100]"), "job.ratings: expected at least two"),
        (
            (*TINY, "job.ratings=[100,9000]"),
            "num_ratings: expected at most num_users * num_items = 3000",
        ),
        (("job=scale",), "data.num_ratings has no effect with data.name=file"),
    ],
)
def test_wrong_sizes_are_refused(command, tmp_path, arguments, message):
    assert_refused(command(tmp_path, *arguments), message)
