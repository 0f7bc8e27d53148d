"""The comparison of gradients: its files, and a user's own gradient beside it."""

import re

import pytest
from commands import assert_refused, rows_of, strict_json
from helpers import REPO

from mfjax import GRADIENTS
from mfjax.kernels.choice import available

OWN = """
def loss(user, item, ratings, mask, reg):
    error = mask * (user @ item.T - ratings)
    return (error**2).sum() / 2 + reg * ((user**2).sum() + (item**2).sum()) / 2

def right(user, item, ratings, mask, reg):
    error = mask * (user @ item.T - ratings)
    return error @ item + reg * user, error.T @ user + reg * item

def wrong(user, item, ratings, mask, reg):
    du, dv = right(user, item, ratings, mask, reg)
    dv[2, 1] += 1e-3
    return du, dv

def turned(user, item, ratings, mask, reg):
    return item, user

def doubled(*arguments):
    return [2 * side for side in right(*arguments)]

def leaves(*arguments):
    raise SystemExit(3)

def raises(user, item, *rest):
    return user @ item, item

def endless(*arguments):
    return float("inf")

def coarse(*arguments):
    import numpy as np
    return loss(*(np.float32(one) for one in arguments))
"""
ALONE = ("job=gradients", "job.gradients=[]")
SMALLEST = ("job.small_users=3", "job.small_items=3", "job.small_rank=2")


def test_it_writes_the_comparison(succeeded, tmp_path):
    tiny = ("data=synthetic", "data.num_users=40", "data.num_items=30", "data.num_ratings=300")
    of_the_child = ("threads=1", "compilation_cache=true")
    job = ("job.shares=[1.0]", "job.repeats=2")
    succeeded(tmp_path, "+exp=gradients", *tiny, *of_the_child, *job)
    out = tmp_path / "out"
    rows = rows_of(out / "gradients.csv")
    assert [row["gradient"] for row in rows] == available(GRADIENTS)
    for row in rows:
        assert max(float(row["error_user"]), float(row["error_item"])) <= 1e-9
        assert row["status"] == ("oracle" if row["gradient"] == "numerical" else "ok")
        costs = ("ms", "compile_s", "temp_bytes", "flops")
        assert min(float(row[column]) for column in costs) > 0
    assert (out / "gradients.md").read_text().count("\n") == len(rows) + 2
    assert r"\begin{tabular}" in (out / "gradients.tex").read_text()
    assert (out / "gradients.png").stat().st_size > 1000
    assert (out / "gradients.pdf").exists()
    assert set(strict_json(out / "results.json")["variants"]) == set(available(GRADIENTS))


@pytest.mark.parametrize(
    "function, more, code, says",
    [
        ("right", ["job.candidate.loss=mine.py:loss"], 0, "ok"),
        # against mfjax's own loss, in these conventions
        ("right", ["reg_by=row", *SMALLEST], 0, "ok"),
        ("wrong", ["job.candidate.loss=mine.py:loss"], 2, "disagrees at item[2, 1]"),
        # against mfjax's own loss, in another convention
        ("right", ["reg_by=count"], 2, "; it agrees under reg_by=row\n"),
        ("right", ["job.candidate.loss=mine.py:endless"], 2, "is not judged: not finite"),
    ],
    ids=["right", "right for mfjax", "wrong", "another convention", "not judged"],
)
def test_a_users_own_gradient(command, tmp_path, function, more, code, says):
    (tmp_path / "mine.py").write_text(OWN)
    done = command(tmp_path, *ALONE, f"job.candidate.gradient=mine.py:{function}", *more)
    assert done.returncode == code, done.stdout + done.stderr
    assert says in done.stdout


def test_what_is_found_is_in_the_results(command, tmp_path):
    (tmp_path / "mine.py").write_text(OWN)
    own = ("job.candidate.gradient=mine.py:doubled", "job.candidate.loss=mine.py:coarse")
    assert command(tmp_path, *ALONE, *own).returncode == 2
    results = strict_json(tmp_path / "out/results.json")
    (row,) = results["candidate"]
    (as_text,) = rows_of(tmp_path / "out/gradients.csv")
    assert row["note"].startswith("float32: noise of ")
    assert as_text["note"] == row["note"]
    assert [at["explanation"] for at in results["worst"]] == ["is twice the gradient"] * 2


OUTSIDE = [  # (gradient, loss, exit code, what is said) of tests/outside.py
    ("one_array", "loss", 1, r"outside.py:\d+: one_array returned a float64 array of shape"),
    ("value_and_grad", "loss", 1, r"outside.py:\d+: value_and_grad returned a tuple of 3"),
    ("right", "in_float32", 0, "right .*: float32: noise of .*, tolerance raised to"),
    ("right", "not_deterministic", 2, "right .* is not judged: not deterministic: two"),
]


@pytest.mark.parametrize("gradient, loss, code, says", OUTSIDE)
def test_a_case_from_outside(command, tmp_path, gradient, loss, code, says):
    file = REPO / "tests/outside.py"
    own = (f"job.candidate.gradient={file}:{gradient}", f"job.candidate.loss={file}:{loss}")
    done = command(tmp_path, *ALONE, *own)
    assert done.returncode == code, done.stdout + done.stderr
    assert re.search(says, done.stdout + done.stderr)
    assert "Traceback" not in done.stderr
    assert "disagrees" not in done.stdout


@pytest.mark.parametrize(
    "given, message",
    [
        ("job.candidate.gradient=nope", "expected module:function or file.py:function"),
        ("job.candidate.gradient=none.py:f", "cannot import none.py"),
        ("job.candidate.gradient=nomodule:f", "cannot import nomodule"),
        ("job.candidate.gradient=mine.py:nope", "mine.py has no function 'nope'"),
        (
            "job.candidate.gradient=mine.py:turned",
            "expected a user gradient of shape (8, 3), got (7, 3)",
        ),
        ("job.candidate.gradient=mine.py:leaves", "mine.py:22: leaves raised SystemExit: 3"),
        ("job.candidate.gradient=mine.py:raises", "mine.py:25: raises raised ValueError: matmul"),
        ("job.gradients=[]", "job.gradients=[] leaves nothing to compare"),
        ("job.gradients=[nope]", "job.gradients: expected one of autodiff"),
    ],
)
def test_what_is_no_gradient_is_refused(command, tmp_path, given, message):
    (tmp_path / "mine.py").write_text(OWN)
    assert_refused(command(tmp_path, *ALONE, given), message)
