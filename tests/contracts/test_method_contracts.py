"""Every row of METHODS keeps the contract that `mfjax.testing` offers to a user's own."""

import inspect
from functools import partial

import pytest

from mfjax import BAGS, GRADIENTS, KERNELS, METHODS, Sides, optimizer
from mfjax.errors import InputError
from mfjax.kernels.choice import available
from mfjax.kernels.native.visits import moves_of
from mfjax.testing import method_checks

OPTIMIZERS = {
    "sgd": optimizer("sgd"),
    "momentum": optimizer("sgd", reads=("learning_rate", "momentum")),
    "adam": optimizer("adam"),
    "lazy adam": optimizer("adam", lazy=True),
}
ALTERNATING = ("als", "als_cg")
OF_BOTH = Sides((BAGS["rated"],), (BAGS["rated"],))
SMALL = {"batch_size": 4}  # several batches an epoch


def made(make, opt, kernel, spec):
    """A method of the small problem, with what its keywords ask for."""
    offers = {
        "gradient": GRADIENTS["tiles"](spec),
        "kernel": KERNELS[kernel](spec),
        "optimizer": OPTIMIZERS.get(opt),
    }
    asked = inspect.signature(make).parameters
    return make(spec, **{key: x for key, x in (offers | SMALL).items() if key in asked})


def optimizers_of(make):
    return OPTIMIZERS if "optimizer" in inspect.signature(make).parameters else ["none"]


OFTEN = [  # every second check, with the best kernel that is available; the others are slow tests
    ("als", "none"),
    ("descent", "sgd"),
    ("gibbs", "none"),
    ("sgd", "lazy adam"),
]


def kernels_of(make, opt):
    """The kernels that a method is tried with; `native` knows no optimiser that moves every row."""
    if "kernel" not in inspect.signature(make).parameters:
        return ["xla"]
    return [name for name in available(KERNELS) if name == "xla" or knows(OPTIMIZERS.get(opt))]


def knows(opt):
    try:
        return opt is None or bool(moves_of(opt))
    except InputError:
        return False


CASES = {
    f"{name}, {opt}, {kernel}: {what}": pytest.param(
        check,
        marks=[]
        if (name, opt) in OFTEN and kernel == kernels_of(make, opt)[-1] and n % 2 == 0
        else pytest.mark.slow,
    )
    for name, make in METHODS.items()
    for opt in optimizers_of(make)
    for kernel in kernels_of(make, opt)
    for n, (what, check) in enumerate(
        method_checks(
            partial(made, make, opt, kernel),
            alternates=name in ALTERNATING,
        ).items()
    )
}


TAKE_BAGS = [name for name, make in METHODS.items() if "bags" in inspect.signature(make).parameters]
OFTEN_WITH_BAGS = "vmap is a loop"  # of als
CASES |= {
    f"{name}, {opt}, with bags: {what}": pytest.param(
        check,
        marks=[] if (name, opt) == OFTEN[0] and what == OFTEN_WITH_BAGS else pytest.mark.slow,
    )
    for name in TAKE_BAGS
    for opt in optimizers_of(METHODS[name])
    for kernel in (["xla"] if opt in OPTIMIZERS else kernels_of(METHODS[name], opt)[-1:])
    for what, check in method_checks(
        partial(made, partial(METHODS[name], bags=OF_BOTH), opt, kernel),
        alternates=name in ALTERNATING,
    ).items()
}


@pytest.mark.parametrize("check", CASES.values(), ids=CASES)
def test_every_method_keeps_its_contract(check):
    check()
