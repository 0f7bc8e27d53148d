"""The check of a user's gradient finds a planted mistake, and passes a right gradient."""

import sys

import jax
import numpy as np
import pytest

from mfjax import GRADIENTS, Factors, Hparams, InputError, Spec
from mfjax.checks.compare import Oracle, compare_gradients, elementwise_error, relative_error
from mfjax.checks.examples import draft_checker, draft_gradient, draft_loss
from mfjax.checks.own import call_own, check_own, load_function, own_loss
from mfjax.checks.points import full_point, small_point
from mfjax.reporting.expected import compare_figures

POINT = small_point(Spec(1, 1, bias=False, reg_by="row"), Hparams(init_seed=3), 4, 5, 2)
TOLERANCE = 1e-8
ORACLE = Oracle(step=1e-3, tolerance=TOLERANCE)


def loss(user, item, ratings, mask, reg):
    return (mask * (user @ item.T - ratings) ** 2).sum() / 2 + reg / 2 * (
        (user**2).sum() + (item**2).sum()
    )


def gradient(user, item, ratings, mask, reg):
    error = mask * (user @ item.T - ratings)
    return error @ item + reg * user, error.T @ user + reg * item


def planted(side, row, column, by):
    def wrong(*arguments):
        grads = gradient(*arguments)
        grads[side][row, column] += by
        return grads

    return wrong


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
@pytest.mark.parametrize("by", [1e-6, -1e-2])
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
    columns, worst = check_own(planted(side, 0, 0, np.nan), loss, POINT, 0.5, ORACLE)
    assert columns["status"] == "FAILED" and [w.side for w in worst] == [("user", "item")[side]]


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
        assert columns["status"] == status and len(worst) == (2 if reg else 0)


PLACES = {
    "a module": ("mfjax.checks.examples:draft_loss", None),
    "a file": ("mine.py:double", None),
    "no colon": ("mine.py", "module:function or file.py:function, got 'mine.py'"),
    "no module": ("nowhere.at_all:f", "cannot import nowhere.at_all.*No module"),
    "no file": ("none.py:f", "cannot import none.py.*give a module on the path, or a file.py"),
    "no function": ("mfjax.checks.examples:draft", "mfjax.checks.examples has no function 'draft'"),
    "no function in the file": ("mine.py:triple", "mine.py has no function 'triple'"),
    "not a function": ("mine.py:two", "mine.py has no function 'two'"),
    "broken file": ("broken.py:f", "cannot import broken.py"),
}


@pytest.mark.parametrize("place, message", PLACES.values(), ids=PLACES)
def test_functions_are_found_or_refused(tmp_path, monkeypatch, place, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["", *sys.path])  # and put back what load_function adds
    (tmp_path / "mine.py").write_text("two = 2\ndef double(x):\n    return two * x\n")
    (tmp_path / "broken.py").write_text("def f(:\n")
    if message is None:
        assert callable(load_function(place, "key"))
    else:
        with pytest.raises(InputError, match=f"^key: .*{message}"):
            load_function(place, "key")


# the comparison of the variants


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
    nan = compare_figures({"a": {"value": 1.0, "within": 9.0}}, {"a": float("nan")})
    other_shape = compare_figures({"a": {"value": [1.0, 1.0], "within": 9.0}}, {"a": 1.0})
    assert nan[0]["status"] == other_shape[0]["status"] == "FAILED"
