"""Every row of GRADIENTS keeps the contract that `mfjax.testing` offers to a user's own."""

import pytest

from mfjax import GRADIENTS
from mfjax.kernels.choice import available
from mfjax.testing import gradient_checks

CASES = {
    f"{name}: {what}": check
    for name, make in ((name, GRADIENTS[name]) for name in available(GRADIENTS))
    for what, check in gradient_checks(make).items()
}
CONVENTIONS = [name for name in CASES if ": is jax.grad: " in name]
OTHERS = [name for name in CASES if name not in CONVENTIONS]
OFTEN = {*CONVENTIONS[::8], *OTHERS[::2]}  # the others are slow tests


def marked(name):
    marks = () if name in OFTEN else pytest.mark.slow
    return pytest.param(CASES[name], id=name, marks=marks)


@pytest.mark.parametrize("check", [*map(marked, CASES)])
def test_every_gradient_keeps_its_contract(check):
    check()
