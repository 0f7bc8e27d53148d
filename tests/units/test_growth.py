"""Lines through measured sizes, and the figure of them."""

import numpy as np
import pytest

from mfjax.app.jobs.scale import Line, line_through
from mfjax.reporting import plots


def test_a_line_is_recovered():
    x = np.array([10, 100, 3000, 25e6])
    line = line_through(x, 0.5 + 4e-8 * x)
    assert line == pytest.approx((0.5, 4e-8))
    np.testing.assert_allclose(line.at(x), 0.5 + 4e-8 * x)


def test_every_size_weighs_alike():
    x = np.array([1, 1e3, 1e6])
    y = (2 + 3 * x) * [1.1, 1.0, 1.0]
    a, b = line_through(x, y)
    assert a == pytest.approx(2.33, abs=0.3)  # the smallest size decides a
    assert b == pytest.approx(3, rel=1e-3)


@pytest.mark.parametrize("y, line", [([10, 20], (0, 10)), ([9, 4], None), ([1, 9], None)])
def test_neither_part_is_negative(y, line):
    a, b = line_through([1, 2], y)
    assert a >= 0
    assert b >= 0
    assert line is None or (a, b) == pytest.approx(line, abs=1e-9)


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
    fits = {"time": Line(0.02, 1e-4), "memory": Line(1e9, 5e6)}
    figure = plots.growth(rows, fits, 38 * 10**9, "growth")
    figure.draw_without_rendering()
    lines = {line.get_label(): line for axes in figure.axes for line in axes.lines}
    peak = lines["peak of the process"].get_xydata()
    np.testing.assert_allclose(peak, np.stack([sizes, sizes**0.5], 1))
    np.testing.assert_allclose(lines["proportional to ratings"].get_ydata(), sizes / 10)
    assert set(lines["one dense matrix, 38 GB"].get_ydata()) == {38}
    fitted = [line.get_xydata()[[0, -1]] for label, line in lines.items() if "fitted" in label]
    np.testing.assert_allclose(fitted[0], [[100, 30], [10_000, 1020]])
    np.testing.assert_allclose(fitted[1], [[100, 1.5], [10_000, 51]])
    assert {"0.02 s + 1e+05 ns a rating, fitted", "1 GB + 5e+06 bytes a rating, fitted"} < set(
        lines
    )
