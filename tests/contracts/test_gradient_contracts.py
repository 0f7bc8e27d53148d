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


@pytest.mark.parametrize("check", CASES.values(), ids=CASES)
def test_every_gradient_keeps_its_contract(check):
    check()
