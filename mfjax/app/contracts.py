"""What a user's own functions are held to before anything trains with them."""

import time
from collections.abc import Callable

from omegaconf import DictConfig

from mfjax.app import terminal
from mfjax.app.adopted import row_of
from mfjax.app.build import (
    build_gradient,
    build_method,
    build_optimizer,
    build_spec,
    build_split,
    wanted,
)
from mfjax.data.contracts import Checks, split_checks
from mfjax.losses import loss_of
from mfjax.methods.optimizers import optimizer
from mfjax.testing import gradient_checks, loss_checks, method_checks

OF_A_METHOD = (  # of its contract, what every sweep needs and costs no other program
    "its layout has the sums of the folds",
    "lowers the objective",
    "pinned columns stay",
    "starts where it is told",
    "held-out ratings change no bit",
    "a lower rank is the fit of that rank",
    "the same bits every time",
    "three settings are one trace",
    "vmap is a loop",
    "float32 stays float32",
)
OF_AN_OPTIMIZER = ("lowers the objective", "three settings are one trace", "float32 stays float32")
_held: set[str] = set()  # by this process


def hold_to_contracts(cfg: DictConfig) -> None:
    """Hold the user's own split, loss, gradient, method and optimiser to their contracts.

    Each is held once. Those of gradients and methods are tried under the conventions of `cfg`, on
    the small problem of `mfjax.testing`. Ratings and splits are held to theirs as they are made,
    too.

    Raises:
      InputError: with the check that fails, and what disagrees.
    """
    parts = ("split", "loss", "method", *wanted(cfg.method.name))
    for key, checks_of in CONTRACTS.items():
        row = row_of(cfg, key)
        if row is None or key.partition(".")[0] not in parts:
            continue
        sections = [cfg[section] for section in ("split", "method", "gradient", "optimizer")]
        once = f"{key} {row.digest} {build_spec(cfg, 1, 1)} {sections}"
        if once in _held:
            continue
        began = time.perf_counter()
        checks = checks_of(cfg)
        row.hold_to(checks)
        _held.add(once)
        took = time.perf_counter() - began
        terminal.say(f"{key}={row.name} keeps its contract: {len(checks)} checks in {took:.1f} s")


def _of_split(cfg: DictConfig) -> Checks:
    return split_checks(build_split(cfg))


def _of_loss(cfg: DictConfig) -> Checks:
    return loss_checks(loss_of(cfg.loss))


def _of_gradient(cfg: DictConfig) -> Checks:
    return gradient_checks(build_gradient(cfg), build_spec(cfg, 1, 1))


def _of_method(cfg: DictConfig) -> Checks:
    """By plain SGD, which blows up no rounding, where the method wants an optimiser."""
    make = build_method(cfg, optimizer())
    every = method_checks(make, build_spec(cfg, 1, 1), alternates=True)
    return {name: every[name] for name in OF_A_METHOD if name in every}


def _of_optimizer(cfg: DictConfig) -> Checks:
    make = build_method(cfg, build_optimizer(cfg))
    every = method_checks(make, build_spec(cfg, 1, 1))
    return {name: every[name] for name in OF_AN_OPTIMIZER}


CONTRACTS: dict[str, Callable[[DictConfig], Checks]] = {
    "split.name": _of_split,
    "loss": _of_loss,
    "gradient": _of_gradient,
    "method.name": _of_method,
    "optimizer.name": _of_optimizer,
}
