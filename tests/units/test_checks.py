"""The check of a user's gradient finds a planted mistake, and passes a right gradient."""

import jax
import numpy as np
import pytest
from by_hand import ORACLE, POINT, TOLERANCE, gradient, loss, planted
from marks import often

from mfjax import GRADIENTS, Factors, Hparams, InputError, Spec
from mfjax.checks.compare import (
    Oracle,
    compare_gradients,
    elementwise_error,
    errors_at,
    gradient_at,
    relative_error,
)
from mfjax.checks.examples import draft_checker, draft_gradient, draft_loss
from mfjax.checks.own import call_own, check_own, own_loss
from mfjax.checks.points import full_point, small_point
from mfjax.reporting.expected import compare_figures


@pytest.mark.parametrize("reg", [0.0, 0.5])
@pytest.mark.parametrize("of", [loss, own_loss(POINT)], ids=["their loss", "our loss"])
def test_a_right_gradient_passes(of, reg):
    columns, worst = check_own(gradient, of, POINT, reg, ORACLE)
    assert (columns["status"], worst) == ("ok", [])
    assert (
        max(columns["error_user"], columns["error_item"])
        < 1e-10
        < columns["tolerance"]
        == TOLERANCE
    )


@pytest.mark.parametrize("side, row, column", [(0, 3, 1), (0, 0, 0), (1, 4, 0), (1, 2, 1)])
@pytest.mark.parametrize("by", often([1e-6, -1e-2], one_of=2))
def test_a_planted_error_is_found_where_it_is(side, row, column, by):
    columns, worst = check_own(planted(side, row, column, by), loss, POINT, 0.5, ORACLE)
    right = float(call_own(gradient, POINT, 0.5)[side][row, column])
    (found,) = worst
    assert columns["status"] == "FAILED"
    assert (found.side, found.row, found.column) == (("user", "item")[side], row, column)
    assert (found.analytic, found.numerical) == pytest.approx((right + by, right), abs=1e-10)
    assert found.relative_error == pytest.approx(abs(by) / (abs(right + by) + abs(right)), rel=1e-2)
    errors = [columns["error_user"], columns["error_item"]]
    assert errors[side] > TOLERANCE > errors[1 - side]


def test_both_sides_are_reported():
    twice = lambda *arguments: [2 * side for side in gradient(*arguments)]  # noqa: E731
    _, worst = check_own(twice, loss, POINT, 0.5, ORACLE)
    assert [w.side for w in worst] == ["user", "item"]
    assert [w.analytic / w.numerical for w in worst] == pytest.approx([2, 2])


@pytest.mark.parametrize("side", [0, 1])
def test_a_nan_fails(side):
    columns, (worst,) = check_own(planted(side, 2, 1, np.nan), loss, POINT, 0.5, ORACLE)
    assert columns["status"] == "FAILED"
    assert (worst.side, worst.row, worst.column) == (("user", "item")[side], 2, 1)
    assert worst.explanation == "is not finite"


def test_a_user_function_that_overwrites_its_arguments_spoils_nothing():
    def greedy(user, item, ratings, mask, reg):
        grads = gradient(user, item, ratings, mask, reg)
        for array in (user, item, ratings, mask):
            array[:] = 0
        return grads

    def greedy_loss(*arguments):
        value = loss(*arguments)
        arguments[0][:] = 7
        return value

    assert check_own(greedy, greedy_loss, POINT, 0.5, ORACLE)[0]["status"] == "ok"


def test_a_wrong_shape_is_refused():
    transposed = lambda *arguments: [side.T for side in gradient(*arguments)]  # noqa: E731
    with pytest.raises(InputError, match=r"user gradient of shape \(4, 2\), got \(2, 4\)"):
        check_own(transposed, loss, POINT, 0.5, ORACLE)


def test_the_draft_satisfies_its_own_checker_and_not_ours():
    spec = Spec(1, 1, bias=False, reg_by="row")
    point = small_point(spec, Hparams(), 3, 3, 4)
    for reg, status in ((0.0, "ok"), (0.5, "FAILED")):
        assert call_own(draft_checker, point, reg) < 1e-8
        columns, worst = check_own(draft_gradient, draft_loss, point, reg, Oracle(1e-5, TOLERANCE))
        assert columns["status"] == status
        assert [w.explanation for w in worst] == (["agrees without λ"] * 2 if reg else [])


# the comparison of the variants


@pytest.mark.parametrize("ratings", [1.0, 1e6])
@pytest.mark.parametrize("factors", [1e-3, 1.0, 1e3])
def test_the_numerical_gradient_is_right_at_large_ratings_and_factors(ratings, factors):
    point = POINT._replace(
        ratings=POINT.ratings._replace(value=ratings * POINT.ratings.value),
        factors=Factors(*(factors * side for side in POINT.factors)),
    )
    differences, exact = (gradient_at(GRADIENTS[name], point) for name in ("numerical", "matrix"))
    assert max(errors_at(differences, exact).values()) < 1e-10


def test_metrics_of_error_by_hand():
    a, b = np.array([[1.0, 0.0], [2.0, -4.0]]), np.array([[1.0, 0.1], [2.0, -5.0]])
    assert relative_error(a, b) == pytest.approx(1 / 5)
    assert elementwise_error(a, b) == pytest.approx(1.0)  # |0 − 0.1| / (0 + 0.1)
    assert relative_error(a, np.zeros((2, 2))) == 4


def test_compare_times_every_variant_and_names_a_failing_one(monkeypatch):
    def to_float32(x):
        return x.astype(np.float32) if x.dtype.kind == "f" else x

    ratings = jax.tree.map(to_float32, POINT.ratings)
    full = full_point(Spec(4, 5, max_rank=2), ratings, Hparams(rank=2))

    def wrong(spec):
        gradient = GRADIENTS["matrix"](spec)

        def double(*arguments):
            _, grad = gradient.value_and_grad(*arguments)
            return 0.0, Factors(*(2 * side for side in grad))

        return gradient._replace(value_and_grad=double)

    monkeypatch.setitem(GRADIENTS, "wrong", wrong)
    names = ["coo", "wrong", "numerical"]
    rows = compare_gradients(names, POINT, full, Oracle(0.1, TOLERANCE), repeats=2)
    assert [row["status"] for row in rows] == ["ok", "FAILED", "oracle"]
    assert rows[0]["error_user_full"] < 1e-5
    assert rows[1]["error_user_full"] == pytest.approx(1, rel=1e-4)
    for row in rows:
        assert 0 < row["ms_low"] <= row["ms"] <= row["ms_high"]
        assert row["compile_s"] > 0


# expected figures


def test_expected_figures():
    seen = {"test": {"rmse": 0.9012}, "rows": [{"x": [1.0, 2.0]}]}
    figures = {"test.rmse": (0.9, 0.002), "rows.0.x": ([1, 2.5], 0.1)}
    rows = compare_figures({k: {"value": v, "within": w} for k, (v, w) in figures.items()}, seen)
    assert [row["status"] for row in rows] == ["ok", "FAILED"]
    assert (rows[0]["expected"], rows[0]["seen"], rows[0]["tolerance"]) == (
        "0.900",
        "0.901",
        "0.002",
    )
    for missing in ("test.mae", "rows.1.x", "rows.x", "nothing"):
        with pytest.raises(InputError, match=f"expected.{missing}: .*test, rows"):
            compare_figures({missing: {"value": 1, "within": 1}}, seen)
    said = {"a": {"value": "FAILED"}}
    assert [compare_figures(said, {"a": a})[0]["status"] for a in ("FAILED", "ok", 1)] == [
        "ok",
        "FAILED",
        "FAILED",
    ]
    assert compare_figures({"a": {"value": 1, "within": 1}}, {"a": "ok"})[0]["status"] == "FAILED"
    for stated in ({"value": 1}, {"value": "ok", "within": 1}, {"within": 1}):
        with pytest.raises(InputError, match=r"expected\.a: expected {value: …"):
            compare_figures({"a": stated}, {"a": 1})
    nan = compare_figures({"a": {"value": 1.0, "within": 9.0}}, {"a": float("nan")})
    other_shape = compare_figures({"a": {"value": [1.0, 1.0], "within": 9.0}}, {"a": 1.0})
    assert nan[0]["status"] == other_shape[0]["status"] == "FAILED"
