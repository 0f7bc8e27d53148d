"""What a user's function may take, return and raise; else one message with file and line."""

import sys

import jax
import numpy as np
import pytest
from by_hand import ORACLE, POINT, gradient, loss, wraps

from mfjax import Factors, InputError
from mfjax.checks.functions import load_function
from mfjax.checks.own import check_own

# what is no pair of gradients, and no loss


PAIR = r"expected the pair of gradients alone: of user \(4, 2\) and of item \(5, 2\)"
NO_PAIRS = {
    "one array": (lambda pair, of: pair[0], r"a float64 array of shape \(4, 2\)\n" + PAIR),
    "a flat array": (lambda pair, of: np.concatenate(pair), PAIR),
    "a triple": (lambda pair, of: (of, *pair), "a tuple of 3\n" + PAIR),
    "value_and_grad": (lambda pair, of: (of, pair), "a tuple of 2 as the item gradient"),
    "nothing": (lambda pair, of: None, "returned nothing\n" + PAIR),
    "a dict": (lambda pair, of: dict(enumerate(pair)), "a dict\n" + PAIR),
    "a generator": (lambda pair, of: iter(pair), "a tuple_iterator\n" + PAIR),
    "transposed": (lambda pair, of: [side.T for side in pair], r"got \(2, 4\); it is transposed"),
    "the other order": (
        lambda pair, of: pair[::-1],
        r"got \(5, 2\); the two are in the other order",
    ),
    "complex numbers": (
        lambda pair, of: [side + 0j for side in pair],
        "complex128 .* real numbers",
    ),
    "ragged lists": (lambda pair, of: ([[1], [1, 2]], pair[1]), "user gradient\nNumPy cannot read"),
    "words": (lambda pair, of: ("to user", "to item"), "a str as the user gradient; expected real"),
}
NO_LOSSES = {
    "nothing": (lambda pair, of: None, "returned nothing; expected real numbers"),
    "a list": (lambda pair, of: [[of]], "a list of 1; expected a number"),
    "an array": (lambda pair, of: np.array([of]), r"float64 array of shape \(1,\); expected a num"),
    "a complex number": (lambda pair, of: of + 0j, "complex128 .*; expected real numbers"),
    "a word": (lambda pair, of: "low", "a str; expected real numbers"),
}


@pytest.mark.parametrize("returned, message", NO_PAIRS.values(), ids=NO_PAIRS)
def test_what_is_no_pair_of_gradients_is_refused(returned, message):
    with pytest.raises(InputError, match=rf"by_hand\.py:\d+: .*(.|\n)*{message}"):
        check_own(wraps(returned), loss, POINT, 0.5, ORACLE)


@pytest.mark.parametrize("returned, message", NO_LOSSES.values(), ids=NO_LOSSES)
def test_what_is_no_loss_is_refused(returned, message):
    with pytest.raises(InputError, match=rf"by_hand\.py:\d+: .*{message}"):
        check_own(gradient, wraps(returned), POINT, 0.5, ORACLE)


PAIRS = {
    "a list of lists": lambda pair, of: [side.tolist() for side in pair],
    "arrays of jax": lambda pair, of: Factors(*map(jax.numpy.asarray, pair)),
}
LOSSES = {
    "a number of Python": lambda pair, of: float(of),
    "an array without axes": lambda pair, of: np.array(of),
    "an array of jax": lambda pair, of: jax.numpy.asarray(of),
    "many digits": lambda pair, of: np.longdouble(of),
}


@pytest.mark.parametrize("returned", PAIRS.values(), ids=PAIRS)
def test_what_is_a_pair_of_gradients_passes(returned):
    assert check_own(wraps(returned), loss, POINT, 0.5, ORACLE)[0]["status"] == "ok"


@pytest.mark.parametrize("returned", LOSSES.values(), ids=LOSSES)
def test_what_is_a_loss_passes(returned):
    assert check_own(gradient, wraps(returned), POINT, 0.5, ORACLE)[0]["status"] == "ok"


def test_a_buffer_that_every_call_fills_passes():
    buffers = [np.empty_like(side) for side in POINT.factors]

    def filled(*arguments):
        for buffer, side in zip(buffers, gradient(*arguments), strict=True):
            buffer[:] = side
        return buffers

    assert check_own(filled, loss, POINT, 0.5, ORACLE)[0]["status"] == "ok"


BROKEN = """
import sys
from functools import partial

def product(user, item, ratings, mask, reg):
    halves = 2
    return user @ item, item

def leaves(*arguments):
    sys.exit("bye")

def asserts(*arguments):
    assert not arguments

def four(user, item, ratings, mask): ...

def six(user, item, ratings, mask, reg, rate): ...

def by_keyword(user, item, ratings, mask, *, reg): ...

class Model:
    def __call__(self, *arguments):
        return 1 / 0

model = Model()
part = partial(product)
"""
RAISE = {
    "product": r":7: product raised ValueError: matmul.*\n"
    r"called with user \(4, 2\), item \(5, 2\), ratings \(4, 5\), mask \(4, 5\), reg 0.5",
    "part": ":7: product raised ValueError",
    "leaves": ":10: leaves raised SystemExit: bye",
    "asserts": ":13: asserts raised AssertionError\n",
    "model": ":23: __call__ raised ZeroDivisionError: division by zero",
    "four": r":15: four\(user, item, ratings, mask\): too many positional arguments\n"
    r"expected a function of \(user, item, ratings, mask, reg\)",
    "six": ":17: six.*: missing a required argument: 'rate'",
    "by_keyword": ":19: by_keyword.*: too many positional",
}


@pytest.mark.parametrize("name, message", RAISE.items(), ids=RAISE)
@pytest.mark.parametrize("role", ["gradient", "loss"])
def test_what_a_function_raises_is_said_with_its_line(tmp_path, monkeypatch, name, message, role):
    monkeypatch.setattr("sys.path", list(sys.path))
    (tmp_path / "broken.py").write_text(BROKEN)
    broken = load_function(f"{tmp_path}/broken.py:{name}", "key")
    functions = {"gradient": gradient, "loss": loss} | {role: broken}
    with pytest.raises(InputError, match=f"^{tmp_path}/broken.py{message}"):
        check_own(**functions, point=POINT, reg=0.5, oracle=ORACLE)


# the functions themselves


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
    "a file that raises": ("raises.py:f", r"cannot import raises.py\n.*raises.py:2: NameError"),
    "a file that leaves": ("leaves.py:f", r"cannot import leaves.py\n.*leaves.py:2: SystemExit: 3"),
    "a file beside another": ("beside.py:double", None),
}


BESIDE = """
from __future__ import annotations
from dataclasses import dataclass
from mine import double

@dataclass
class Setting:  # which looks its own module up
    reg: float
"""


@pytest.mark.parametrize("place, message", PLACES.values(), ids=PLACES)
def test_functions_are_found_or_refused(tmp_path, monkeypatch, place, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["", *sys.path])  # and put back what load_function adds
    (tmp_path / "mine.py").write_text("two = 2\ndef double(x):\n    return two * x\n")
    (tmp_path / "broken.py").write_text("def f(:\n")
    (tmp_path / "raises.py").write_text("\nno_such_name\n")
    (tmp_path / "leaves.py").write_text("import sys\nsys.exit(3)\n")
    (tmp_path / "beside.py").write_text(BESIDE)
    if message is None:
        assert callable(load_function(place, "key"))
    else:
        with pytest.raises(InputError, match=f"^key: .*{message}"):
            load_function(place, "key")
