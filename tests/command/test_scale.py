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

pytestmark = pytest.mark.slow


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
    peaks = [int(row["peak_bytes"]) for row in rows]
    # the kernel counts pages by thread and adds them up now and then: 4 kB were seen out of order
    assert all(after > before - 2**20 for before, after in itertools.pairwise(peaks))
    assert peaks[0] > 5e7


def test_the_line_is_that_of_least_relative_squares(figures):
    rows = figures["sizes"]
    fits = figures["fits"]
    n = np.array([row["ratings"] for row in rows])
    seconds = np.array([row["ms"] for row in rows]) / 1e3
    memory = np.array([row["peak_bytes"] for row in rows])
    for name, measured in (("time", seconds), ("memory", memory)):
        a, b = fits[name]["a"], fits[name]["b"]
        least = ((a + b * n) / measured - 1) @ ((a + b * n) / measured - 1)
        assert min(a, b) >= 0
        for off_a, off_b in itertools.product((0.9, 1, 1.1), repeat=2):
            off = (a * off_a + b * off_b * n) / measured - 1
            assert off @ off >= least - 1e-12
    fitted = fits["time"]["a"] + fits["time"]["b"] * n
    assert [row["ms_fitted"] for row in rows] == pytest.approx(1e3 * fitted)
    goal = figures["goal"]
    assert goal["most_off"] == pytest.approx(np.abs(seconds / fitted - 1).max())
    assert goal["reached"] == (goal["most_off"] <= goal["at_most_off"])


def test_the_gradient_is_that_of_the_dense_matrix(figures):
    errors = figures["errors"]
    assert errors["float64"].keys() == {"item_mean", "zero"}
    assert errors["tolerance_float64"] == 1e-10
    assert 0 < max(errors["float64"].values()) < 1e-10
    assert 0 < errors["float32"] < 1e-4
    assert figures["dense_bytes"] == 4 * 60 * 50


def test_the_job_leaves_its_files_and_says_its_figures(measured, figures):
    done, folder = measured
    files = {"scale.csv", "scale.md", "growth.png", "growth.pdf", "results.json", "run.log"}
    assert {path.name for path in folder.iterdir()} == files | {".hydra"}
    assert (folder / "scale.md").read_text().count("\n") == len(SIZES) + 2
    line = figures["fits"]["time"]
    assert f"a call takes {line['a']:.3g} s + {1e9 * line['b']:.3g} ns a rating" in done.stdout
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
        (
            ("job=scale", "data=synthetic"),
            "job=scale needs data.num_users and data.num_items; "
            "add data.num_users=… data.num_items=…",
        ),
    ],
)
def test_wrong_sizes_are_refused(command, tmp_path, arguments, message):
    assert_refused(command(tmp_path, *arguments), message)
