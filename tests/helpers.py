"""What tests of several files share: compiled variants, the optimisers of conf/, and agreement."""

import functools
import inspect
from pathlib import Path

import jax
import numpy as np
import pytest
from omegaconf import OmegaConf

from mfjax import GRADIENTS, KERNELS, METHODS, Factors, Hparams, Lane, optimizer
from mfjax.checks.compare import relative_error
from mfjax.objective import columns, pin
from mfjax.testing import LANE, SPEC, random_factors
from mfjax.training.epochs import history_columns
from mfjax.training.lanes import Fit

REPO = Path(__file__).resolve().parents[1]
CONF = REPO / "conf"
OPTIMIZERS = sorted(path.stem for path in (CONF / "optimizer").glob("*.yaml"))


@functools.cache
def configured(name):
    """The optimiser of a file of conf/optimizer."""
    return optimizer(**OmegaConf.to_container(OmegaConf.load(CONF / f"optimizer/{name}.yaml")))


PLAIN = configured("sgd")


# gradients


@functools.cache
def compiled(name, spec):
    """A gradient of the table, compiled once."""
    gradient = GRADIENTS[name](spec)
    return gradient._replace(value_and_grad=jax.jit(gradient.value_and_grad))


def at(name, spec, ratings, hparams=LANE, factors=None):
    """(loss, gradient) of a variant, at random factors where none are given."""
    gradient = compiled(name, spec)
    point = random_factors(spec) if factors is None else factors
    return gradient.value_and_grad(point, gradient.prepare(ratings), hparams)


def assert_same(ours, theirs, tolerance):
    """The same loss and gradients."""
    assert float(ours[0]) == pytest.approx(float(theirs[0]), rel=1e-12)
    for side, a, b in zip(Factors._fields, ours[1], theirs[1], strict=True):
        assert relative_error(np.asarray(a), np.asarray(b)) <= tolerance, side


def assert_close(ours, theirs, tolerance):
    """The same arrays: max|a - b| is at most `tolerance` times the larger of max|b| and 1."""
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(np.abs(b).max(), 1))


# methods


def method_of(name, spec, *, gradient="coo", kernel=None, opt=PLAIN, **own):
    """A method of the table with what it wants of a gradient, a kernel and an optimiser."""
    parts = {
        "gradient": lambda: GRADIENTS[gradient](spec),
        "kernel": lambda: KERNELS[kernel](spec) if kernel else None,
        "optimizer": lambda: opt,
    }
    wants = inspect.signature(METHODS[name]).parameters
    given = {part: make() for part, make in parts.items() if part in wants}
    return METHODS[name](spec, **given, **own)


@functools.cache
def make(name, spec=SPEC, **given):
    """`method_of`, its step compiled once; to compile `init` takes longer than to run it."""
    method = method_of(name, spec, **given)
    return method._replace(step=jax.jit(method.step))


def laid_out(method, ratings):
    """The ratings as the method reads them, on the device."""
    return jax.device_put(method.prepare(ratings))


def epochs(method, ratings, hparams, count, factors=None):
    """The factors before the first of `count` epochs and after each, and what each said."""
    layout = laid_out(method, ratings)
    state = method.init(jax.random.key(0), layout, hparams, factors)
    trained = [state.factors]
    infos = []
    for epoch in range(count):
        state, info = method.step(state, layout, hparams, epoch)
        trained.append(state.factors)
        infos.append(info)
    return trained, infos


def pinned_factors(spec=SPEC, hparams=LANE):
    """Random factors with the pinned columns at their pins."""
    return Factors(*map(np.array, pin(random_factors(spec), columns(hparams, spec))))


def held_in(ratings):
    """The places of the ratings that LANE trains with."""
    return (ratings.weight > 0) & (ratings.fold != LANE.fold)


# fits


def assert_bitwise(fits, others):
    """The same fits to the last bit."""
    for ours, theirs in zip(fits, others, strict=True):
        assert ours.lane == theirs.lane
        assert (ours.status, ours.best_epoch, ours.mean) == (
            theirs.status,
            theirs.best_epoch,
            theirs.mean,
        )
        jax.tree.map(np.testing.assert_array_equal, ours.factors, theirs.factors)
        jax.tree.map(np.testing.assert_array_equal, ours.history, theirs.history)


def fit_at(rmse, epoch=2, status="finished", **hparams):
    """A Fit whose metrics are `rmse` at its best epoch and 9 at the three others."""
    values = np.full(4, 9.0)
    values[epoch - 1] = rmse
    no_factors = Factors(np.zeros((1, 1)), np.zeros((1, 1)))
    return Fit(
        lane=Lane(Hparams(**hparams), 4),
        factors=no_factors,
        mean=0.0,
        status=status,
        best_epoch=epoch,
        history=dict.fromkeys(history_columns("validation_rmse"), values),
    )
