"""Power laws through measured sizes, and the figure of them."""

import numpy as np
import pytest

from mfjax.app.jobs.scale import Power, power_law, with_exponents
from mfjax.reporting import plots


def test_a_power_law_is_recovered():
    x = np.array([10, 100, 3000, 1e6])
    law = power_law(x, 0.5 * x**0.9)
    assert law == pytest.approx((0.5, 0.9))
    np.testing.assert_allclose(law.at(x), 0.5 * x**0.9)


def test_every_size_but_the_first_has_an_exponent():
    rows = [{"ratings": n, "ms": n**1.1} for n in (10, 100, 1000)]
    first, *others = (row["exponent"] for row in with_exponents(rows))
    assert first is None
    assert others == pytest.approx([1.1, 1.1])


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
    laws = {"time": Power(0.1, 1.0), "memory": Power(1e9, 0.5)}
    figure = plots.growth(rows, laws, 38 * 10**9, "growth")
    figure.draw_without_rendering()
    lines = {line.get_label(): line for axes in figure.axes for line in axes.lines}
    peak = lines["peak of the process"].get_xydata()
    np.testing.assert_allclose(peak, np.stack([sizes, sizes**0.5], 1))
    np.testing.assert_allclose(lines["proportional to ratings"].get_ydata(), sizes / 10)
    assert set(lines["one dense matrix, 38 GB"].get_ydata()) == {38}
    fitted = [line.get_ydata() for label, line in lines.items() if "fitted" in str(label)]
    np.testing.assert_allclose(fitted, [sizes / 10, sizes**0.5])
