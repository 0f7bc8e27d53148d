"""What the check of a gradient says: what is wrong with the loss, and what the mistake may be."""

import re
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from by_hand import ORACLE, POINT, gradient, loss, planted, wraps
from marks import often

from mfjax import GRADIENTS, Hparams
from mfjax.checks.compare import gradient_at
from mfjax.checks.differences import VERDICTS
from mfjax.checks.explanations import EXPLANATIONS
from mfjax.checks.own import check_own, own_loss
from mfjax.checks.points import small_point

# what is wrong with the loss, or with the gradient at every other call


def in_float32(*arguments):
    return loss(*(np.asarray(one, np.float32) for one in arguments))


def in_float32_within(user, item, ratings, mask, reg):
    """float32 that comes back as float64."""
    error = mask * (user.astype(np.float32) @ item.astype(np.float32).T - ratings)
    squares = np.float32((error**2).sum() / 2)
    return float(squares) + reg / 2 * float((user**2).sum() + (item**2).sum())


def drawn(*arguments):
    return loss(*arguments) + 1e-3 * np.random.default_rng().normal()


def now_and_then():
    """A loss that is another one at every seventh call."""
    calls = iter(range(10**6))
    return lambda *arguments: loss(*arguments) + 1e-3 * (next(calls) % 7 == 6)


def infinite_beyond(*arguments):
    is_start = np.array_equal(arguments[0], POINT.factors.user)
    return loss(*arguments) if is_start else np.inf


UNJUDGED = {
    "not finite": (lambda *arguments: np.nan, "not finite: the loss is nan"),
    "not finite nearby": (infinite_beyond, r"not finite: the loss is not finite near user\[0, 0\]"),
    "not deterministic": (drawn, "not deterministic: two calls of the loss at one point differ by"),
    "now and then": (
        now_and_then(),
        "too coarse: .*: differences at h and h/2 are .* apart",
    ),
    "rounded": (
        lambda *arguments: round(float(loss(*arguments))),
        "too coarse: the loss is the same",
    ),
}


@pytest.mark.parametrize("of, note", UNJUDGED.values(), ids=UNJUDGED)
def test_a_loss_that_judges_nothing_is_said_to_be_what_it_is(of, note):
    columns, worst = check_own(gradient, of, POINT, 0.5, ORACLE)
    assert columns["status"] in VERDICTS and note.startswith(columns["status"])
    assert re.match(note, columns["note"])
    assert worst == []


def test_a_gradient_that_differs_from_call_to_call_is_not_judged():
    noisy = lambda *arguments: [side * np.random.rand() for side in gradient(*arguments)]  # noqa: E731
    columns, _ = check_own(noisy, loss, POINT, 0.5, ORACLE)
    assert columns["note"].startswith("not deterministic: two calls of the gradient")


def test_a_kink_near_an_entry_is_not_taken_for_noise():
    kink = POINT.factors.user[1, 1] + ORACLE.step

    def bent(user, item, *rest):
        return loss(user, item, *rest) + 0.01 * abs(user[1, 1] - kink)

    def of_bent(user, item, *rest):
        to_user, to_item = gradient(user, item, *rest)
        to_user[1, 1] += 0.01 * np.sign(user[1, 1] - kink)
        return to_user, to_item

    columns, _ = check_own(of_bent, bent, POINT, 0.5, ORACLE)
    assert columns["status"] == "ok"
    assert columns["note"].startswith("a kink or a step in the loss, tolerance raised to")


@pytest.mark.parametrize("of", [in_float32, in_float32_within])
def test_a_loss_in_float32_raises_the_tolerance_and_says_so(of):
    columns, _ = check_own(gradient, of, POINT, 0.5, ORACLE)
    assert columns["status"] == "ok"
    assert re.fullmatch("float32: noise of .* in the loss, tolerance raised to .*", columns["note"])
    assert 1e-5 < columns["tolerance"] < 0.1
    wrong, worst = check_own(planted(0, 1, 1, 1.0), of, POINT, 0.5, ORACLE)
    assert wrong["status"] == "FAILED"
    assert [(w.side, w.row, w.column) for w in worst] == [("user", 1, 1)]


# what explains a gradient that disagrees

SQUARE = small_point(POINT.spec, Hparams(init_seed=3), 4, 4, 2)


def of_all_entries(user, item, ratings, mask, reg):
    return gradient(user, item, ratings, np.ones_like(mask), reg)


def turned(user, item, ratings, mask, reg):
    error = mask * (user @ item.T - ratings)
    return error.T @ item + reg * user, error @ user + reg * item


def by_count(user, item, ratings, mask, reg):
    error = mask * (user @ item.T - ratings)
    to_user = error @ item + reg * mask.sum(1)[:, None] * user
    return to_user, error.T @ user + reg * mask.sum(0)[:, None] * item


def user_first(user, item, *rest):
    to_user, _ = gradient(user, item, *rest)
    user -= 0.05 * to_user
    return to_user, gradient(user, item, *rest)[1]


def twice_the_error(user, item, ratings, mask, reg):
    return [2 * side for side in gradient(user, item, ratings, mask, reg / 2)]


MISTAKES = {
    "multiplied": (wraps(lambda pair, of: [-pair[0], 2 * pair[1]]), POINT),
    "without_reg": (lambda *arguments: gradient(*arguments[:4], 0), POINT),
    "without_mask": (of_all_entries, POINT),
    "other_side": (wraps(lambda pair, of: pair[::-1]), SQUARE),
    "transposed": (turned, SQUARE),
    "other_conventions": (by_count, POINT),
    "updated": (user_first, POINT),
    "weighted": (twice_the_error, POINT),
}
EXPLAINED = {
    "multiplied": ["has the other sign", "is twice the gradient"],
    "without_reg": ["agrees without λ"] * 2,
    "without_mask": ["agrees without the mask"] * 2,
    "other_side": ["is that of the other side"] * 2,
    "transposed": ["agrees with the error matrix transposed"] * 2,
    "other_conventions": ["agrees under reg_by=count"] * 2,
    "updated": ["agrees after a step of 0.05 of the user factors"],
    "weighted": ["is 2 times the part of the error and 1 times that of λ"] * 2,
}


LOSSES_OF = ("their loss", "our loss")


@pytest.mark.parametrize("name, of", often(product(EXPLANATIONS, LOSSES_OF), one_of=3))
def test_every_mistake_is_explained(name, of):
    wrong, point = MISTAKES[name]
    own = loss if of == "their loss" else own_loss(point)
    columns, worst = check_own(wrong, own, point, 0.5, ORACLE)
    assert columns["status"] == "FAILED"
    assert [w.explanation for w in worst] == EXPLAINED[name]


@pytest.mark.parametrize(
    "changed, said",
    [
        ({"reg_by": "total"}, "agrees under reg_by=total"),
        ({"loss_scale": "mean"}, "agrees under loss_scale=mean"),
        ({"loss_scale": "sum", "reg_by": "count"}, "agrees under loss_scale=sum, reg_by=count"),
        ({"missing": "item_mean"}, "agrees under missing=item_mean"),
    ],
)
def test_another_convention_is_named(changed, said):
    other = POINT._replace(spec=replace(POINT.spec, **changed))

    def in_another(user, item, ratings, mask, reg):
        hparams = POINT.hparams._replace(reg=np.float64(reg))
        return gradient_at(GRADIENTS["matrix"], other._replace(hparams=hparams))

    _, worst = check_own(in_another, loss, POINT, 0.5, ORACLE)
    assert [w.explanation for w in worst] == [said, said]


def test_a_loss_in_no_convention_has_all_named_beside():
    absolute = lambda user, item, *rest: loss(user, item, *rest) + np.abs(user).sum()  # noqa: E731
    _, (worst,) = check_own(gradient, absolute, POINT, 0.5, ORACLE)
    named = "agrees with mfjax's loss under missing=ignore, loss_scale=half, reg_by=row"
    assert worst.explanation == named


def test_what_nothing_explains_has_no_explanation():
    _, (worst,) = check_own(planted(0, 1, 1, 0.1), loss, POINT, 0.5, ORACLE)
    assert worst.explanation is None
