"""The loop: chunks, evaluation, best-so-far, patience, divergence."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from mfjax import GRADIENTS, METHODS, Bounds, Hparams, Lane, Schedule, Spec, Sweep, optimizer
from mfjax.training import epochs as train
from mfjax.training.epochs import Data, is_live, start
from mfjax.types import NO_FOLD

HPARAMS = Hparams(learning_rate=0.2, reg=0.02, rank=4, init_scale=0.3)


def assert_bitwise(ours, theirs):
    jax.tree.map(np.testing.assert_array_equal, (ours.factors, ours.history), (theirs.factors, theirs.history))
    assert ours._replace(lane=None, factors=None, history=None) == theirs._replace(lane=None, factors=None, history=None)


@pytest.fixture(scope="module")
def chunked(problem):
    """The same three lanes in chunks of 1, 7 and 50 epochs, evaluated every 3 and given up after 9 without a new best."""
    fits = {}
    for chunk in (50, 7, 1):
        schedule, spec = Schedule(50, eval_every=3, patience=9, chunk=chunk), Spec(40, 30, batch_size=120)
        sweep = Sweep(spec, lambda spec: METHODS["sgd"](spec, None, optimizer("sgd")), {0: problem}, schedule, width=3)
        overfits, learns = HPARAMS._replace(rank=8), HPARAMS._replace(learning_rate=0.05, rank=2)
        fits[chunk] = sweep.train([Lane(overfits, 50), Lane(learns, 50), Lane(learns, 20)])
    return fits


@pytest.mark.parametrize("chunk", [1, 7])
def test_the_length_of_a_chunk_changes_no_number(chunked, chunk):
    for ours, theirs in zip(chunked[chunk], chunked[50], strict=True):
        assert_bitwise(ours, theirs)


def test_evaluation_patience_and_best(chunked):
    overfits, learns, short = chunked[50]
    for fit, epochs in ((learns, 50), (short, 20)):
        assert (fit.status, len(fit.history.loss)) == ("finished", epochs)
        evaluated = np.flatnonzero(np.isfinite(fit.history.validation_rmse)) + 1
        assert evaluated.tolist() == [e for e in range(1, epochs + 1) if e % 3 == 0 or e == epochs]
        assert np.isfinite(fit.history.loss).all() and np.isfinite(fit.history.update_norm).all()
    rmse = overfits.history.validation_rmse
    assert overfits.best_epoch == np.nanargmin(rmse) + 1 < 41
    assert overfits.status == f"stopped at epoch {overfits.best_epoch + 9}"
    assert len(rmse) == overfits.best_epoch + 9
    assert overfits.at_best("validation_rmse") == np.nanmin(rmse) < rmse[-1]


def test_the_best_factors_are_those_of_the_best_epoch(sweep):
    fit = sweep.train([Lane(HPARAMS, 12)])[0]
    until_best = sweep.train([Lane(HPARAMS, fit.best_epoch)])[0]
    assert 1 < fit.best_epoch < 12 and until_best.best_epoch == fit.best_epoch
    jax.tree.map(np.testing.assert_array_equal, until_best.factors, fit.factors)


def test_without_validation_the_last_epoch_is_the_best(sweep):
    fit = sweep.train([Lane(HPARAMS._replace(fold=NO_FOLD), 7)])[0]
    assert (fit.best_epoch, len(fit.history.loss), fit.status) == (7, 7, "finished")
    assert np.isnan(fit.history.validation_rmse).all() and np.isfinite(fit.history.train_rmse).all()
    assert fit.history.loss[-1] < fit.history.loss[0]


def test_a_diverging_lane_freezes_alone(sweep):
    wild = HPARAMS._replace(learning_rate=0.3, fold=NO_FOLD)
    first, frozen, last = sweep.train([Lane(HPARAMS, 12), Lane(wild, 12), Lane(HPARAMS._replace(seed=1), 12)])
    calm = sweep.train([Lane(HPARAMS, 12), Lane(HPARAMS._replace(reg=1.0), 12), Lane(HPARAMS._replace(seed=1), 12)])
    assert_bitwise(first, calm[0])
    assert_bitwise(last, calm[2])
    died_at = len(frozen.history.loss)
    assert frozen.status == f"diverged at epoch {died_at}" and not frozen.alive
    assert 1 < died_at < 12 and frozen.best_epoch == died_at - 1
    assert np.isfinite(frozen.history.loss[:-1]).all() and not np.isfinite(frozen.history.loss[-1])
    until_then = sweep.train([Lane(wild, died_at - 1)])[0]
    assert until_then.alive and np.isfinite(until_then.factors.user).all()
    jax.tree.map(np.testing.assert_array_equal, until_then.factors, frozen.factors)


def test_a_lane_that_dies_at_once_has_no_best_epoch(sweep):
    fit = sweep.train([Lane(HPARAMS._replace(learning_rate=1e30), 12)])[0]
    assert (fit.status, fit.best_epoch) == ("diverged at epoch 1", 0)
    assert np.isnan(fit.at_best("validation_rmse")) and np.isfinite(fit.factors.user).all()


def test_a_lane_is_not_given_up_before_it_is_evaluated(sweep):
    blank = next(iter(sweep.programs.values())).blank
    run = jax.tree.map(lambda x: x[0], blank)._replace(epoch=2, best_epoch=0, alive=True)
    assert is_live(run, Schedule(epochs=20, eval_every=5, patience=2), 20)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_run_keeps_its_dtype(problem, dtype):
    """Traced only: x64 is on in tests, so that a stray float64 would show."""
    spec = replace(Spec(40, 30), dtype=dtype)
    ratings = jax.tree.map(lambda x: x.astype(dtype) if x.dtype.kind == "f" else x, problem.ratings)
    for name, opt in (("descent", "adam"), ("sgd", "sgd")):
        method = METHODS[name](spec, GRADIENTS["coo"](spec), optimizer(opt))
        order = None if name == "descent" else np.stack([method.order(720, 0, e) for e in range(10)])
        data = jax.device_put(Data(method.prepare(ratings), ratings, Bounds(*np.asarray(problem.bounds, dtype))))

        def lane(hparams, data=data, order=order, method=method):
            return train.fit(method, spec, Schedule(), start(method, data, hparams), data, hparams, jax.numpy.int32(10), order)

        leaves = jax.tree.leaves(jax.eval_shape(jax.jit(lane), Hparams.of(dtype)))
        assert {leaf.dtype.name for leaf in leaves} == {dtype, "int32", "bool"}
