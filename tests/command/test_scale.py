"""The job that measures how a gradient's time and memory grow: its figures, its files, and the line through them."""

import numpy as np
import pytest
from test_run import command, rows_of, strict_json, succeeded

from mfjax.app.jobs import scale
from mfjax.reporting import plots

SIZES = (200, 500, 1000)
TINY = (
    "+exp=imputed_scale",
    "data.num_users=60",
    "data.num_items=50",
    "hparams.rank=4",
    "check.repeats=2",
    "compilation_cache=true",
)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """(process, output folder) of the job at SIZES."""
    folder = tmp_path_factory.mktemp("scale")
    return succeeded(
        folder, *TINY, f"scale.ratings=[{','.join(map(str, reversed(SIZES)))}]"
    ), folder / "out"


@pytest.fixture(scope="module")
def figures(measured):
    return strict_json(measured[1] / "results.json")


def test_a_row_a_size_with_its_costs(measured):
    rows = rows_of(measured[1] / "scale.csv")
    assert [int(row["ratings"]) for row in rows] == list(SIZES)
    for row in rows:
        assert float(row["ms_low"]) <= float(row["ms"]) <= float(row["ms_high"])
        assert (
            min(
                float(row[key])
                for key in ("ms_low", "layout_s", "compile_s", "layout_bytes", "temp_bytes")
            )
            > 0
        )
        entries = 2 * int(
            row["ratings"]
        )  # of both sides, each with a column, a value, a weight and a fold
        assert float(row["layout_bytes"]) > 16 * entries
    assert [row["exponent"] == "" for row in rows] == [True, False, False]
    peaks = [int(row["peak_bytes"]) for row in rows]
    assert peaks == sorted(peaks) and peaks[0] > 5e7


def test_the_line_is_through_the_rows(figures):
    rows, fits = figures["sizes"], figures["fits"]
    for name, column in (("time", "ms"), ("memory", "peak_bytes")):
        x, y = (np.log([row[key] for row in rows]) for key in ("ratings", column))
        exponent = ((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()
        assert fits[name]["exponent"] == pytest.approx(exponent)
        assert np.log(fits[name]["factor"]) == pytest.approx(y.mean() - exponent * x.mean())
    last = np.log(rows[2]["ms"] / rows[1]["ms"]) / np.log(SIZES[2] / SIZES[1])
    assert rows[2]["exponent"] == pytest.approx(last)
    assert figures["goal"]["reached"] == (
        max(last, fits["time"]["exponent"]) <= figures["goal"]["time_exponent_at_most"]
    )


def test_the_gradient_is_that_of_the_dense_matrix(figures):
    errors = figures["errors"]
    assert (
        errors["float64"].keys() == {"item_mean", "zero"} and errors["tolerance_float64"] == 1e-10
    )
    assert 0 < max(errors["float64"].values()) < 1e-10
    assert 0 < errors["float32"] < 1e-4
    assert figures["dense_bytes"] == 4 * 60 * 50


def test_the_job_leaves_its_files_and_says_its_figures(measured, figures):
    done, folder = measured
    assert {path.name for path in folder.iterdir()} == {
        *("scale.csv", "scale.md", "scale.png", "scale.pdf", "results.json", "run.log", ".hydra")
    }
    assert (folder / "scale.md").read_text().count("\n") == len(SIZES) + 2
    assert (
        f"ratings^{figures['fits']['time']['exponent']:.2f}" in done.stdout
        and "1,000" in done.stdout
    )
    assert (
        figures["experiment"] == "imputed_scale" and figures["provenance"]["devices"]["count"] >= 1
    )
    assert done.stderr == ""


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("scale.ratings=[100]",), "scale.ratings: expected at least two"),
        (("scale.ratings=[0,100]",), "scale.ratings: expected a positive number, got 0"),
        (
            ("scale.ratings=[100,9000]",),
            "num_ratings: expected at most num_users * num_items = 3000",
        ),
    ],
)
def test_wrong_sizes_are_refused(tmp_path, arguments, message):
    done = command(tmp_path, *TINY, *arguments)
    assert (
        done.returncode == 1
        and message in done.stderr
        and "Traceback" not in done.stdout + done.stderr
    )


def test_data_that_have_one_size_are_refused(tmp_path):
    done = command(tmp_path, "job=scale")
    assert (
        done.returncode == 1
        and "data.num_ratings has no effect with data.source=file" in done.stderr
    )


def test_a_power_law_is_recovered():
    x = np.array([10, 100, 3000, 1e6])
    fit = scale.power_law(x, 0.5 * x**0.9)
    assert fit == pytest.approx((0.5, 0.9))
    np.testing.assert_allclose(fit.at(x), 0.5 * x**0.9)


def test_the_plot_has_the_measured_the_fitted_and_the_dense():
    sizes = np.array([100, 1000, 10_000])
    rows = [
        {
            "ratings": n,
            "ms": n / 10,
            "ms_low": n / 11,
            "ms_high": n / 9,
            "peak_bytes": 1e9 * n**0.5,
            "layout_bytes": 16 * n,
        }
        for n in sizes
    ]
    figure = plots.growth(
        rows, {"time": scale.Power(0.1, 1.0), "memory": scale.Power(1e9, 0.5)}, 38 * 10**9, "growth"
    )
    figure.draw_without_rendering()
    left, right = figure.axes
    lines = {line.get_label(): line for axes in (left, right) for line in axes.lines}
    np.testing.assert_allclose(
        lines["peak of the process"].get_xydata(), np.stack([sizes, sizes**0.5], 1)
    )
    np.testing.assert_allclose(lines["proportional to ratings"].get_ydata(), sizes / 10)
    assert set(lines["one dense matrix, 38 GB"].get_ydata()) == {38}
    fitted = [line.get_ydata() for label, line in lines.items() if "fitted" in str(label)]
    np.testing.assert_allclose(fitted, [sizes / 10, sizes**0.5])
