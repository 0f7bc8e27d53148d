"""The loop: chunks of epochs, evaluation, the best so far, patience, divergence."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from helpers import assert_bitwise, method_of

from mfjax import Bounds, Factors, Hparams, Lane, Plan, Schedule, Spec, Sweep, optimizer
from mfjax.training.epochs import Data, after_epoch, epochs, is_live, start
from mfjax.types import NO_FOLD, Run, State

HPARAMS = Hparams(learning_rate=0.2, reg=0.02, rank=4, init_scale=0.3)


@pytest.fixture(scope="module")
def by_chunk(problem):
    """The same three lanes in chunks of 1, 7 and 50 epochs.

    They are evaluated every 3 epochs, and given up after 9 without a new best.
    """
    overfits = HPARAMS._replace(rank=8)
    learns = HPARAMS._replace(learning_rate=0.05, rank=2)
    fits = {}
    for chunk in (50, 7, 1):
        plan = Plan(
            spec=Spec(40, 30),
            method=lambda spec: method_of("sgd", spec, batch_size=120),
            problems={(0, 0): problem},
            schedule=Schedule(50, eval_every=3, patience=9, epochs_per_call=chunk),
        )
        sweep = Sweep(plan, lanes_per_program=3)
        fits[chunk] = sweep.train([Lane(overfits, 50), Lane(learns, 50), Lane(learns, 20)])
    return fits


@pytest.mark.parametrize("chunk", [1, 7])
def test_the_length_of_a_chunk_changes_no_number(by_chunk, chunk):
    assert_bitwise(by_chunk[chunk], by_chunk[50])


def test_evaluation_patience_and_best(by_chunk):
    overfits, learns, short = by_chunk[50]
    for fit, last in ((learns, 50), (short, 20)):
        history = fit.history
        assert (fit.status, len(history["loss"])) == ("finished", last)
        evaluated = np.flatnonzero(np.isfinite(history["validation_rmse"])) + 1
        assert evaluated.tolist() == [e for e in range(1, last + 1) if e % 3 == 0 or e == last]
        assert np.isfinite(history["loss"]).all()
        assert np.isfinite(history["update_norm"]).all()
    rmse = overfits.history["validation_rmse"]
    assert overfits.best_epoch == np.nanargmin(rmse) + 1 < 41
    assert overfits.status == f"stopped at epoch {overfits.best_epoch + 9}"
    assert len(rmse) == overfits.best_epoch + 9
    assert overfits.at_best("validation_rmse") == np.nanmin(rmse) < rmse[-1]


def test_the_best_factors_are_those_of_the_best_epoch(sweep):
    (fit,) = sweep.train([Lane(HPARAMS, 12)])
    (until_best,) = sweep.train([Lane(HPARAMS, fit.best_epoch)])
    assert 1 < fit.best_epoch < 12
    assert until_best.best_epoch == fit.best_epoch
    jax.tree.map(np.testing.assert_array_equal, until_best.factors, fit.factors)


def test_without_validation_the_last_epoch_is_the_best(sweep):
    (fit,) = sweep.train([Lane(HPARAMS._replace(fold=NO_FOLD), 7)])
    history = fit.history
    assert (fit.best_epoch, len(history["loss"]), fit.status) == (7, 7, "finished")
    assert np.isnan(history["validation_rmse"]).all()
    assert np.isfinite(history["train_rmse"]).all()
    assert history["loss"][-1] < history["loss"][0]


def test_a_diverging_lane_freezes_alone(sweep):
    wild = HPARAMS._replace(learning_rate=0.3, fold=NO_FOLD)
    beside = HPARAMS._replace(init_seed=1)
    first, frozen, last = sweep.train([Lane(HPARAMS, 12), Lane(wild, 12), Lane(beside, 12)])
    tame = HPARAMS._replace(reg=1.0)
    calm = sweep.train([Lane(HPARAMS, 12), Lane(tame, 12), Lane(beside, 12)])
    assert_bitwise([first, last], [calm[0], calm[2]])
    loss = frozen.history["loss"]
    died_at = len(loss)
    assert frozen.status == f"diverged at epoch {died_at}"
    assert not frozen.alive
    assert 1 < died_at < 12
    assert frozen.best_epoch == died_at - 1
    assert np.isfinite(loss[:-1]).all()
    assert not np.isfinite(loss[-1])
    (until_then,) = sweep.train([Lane(wild, died_at - 1)])
    assert until_then.alive
    assert np.isfinite(until_then.factors.user).all()
    jax.tree.map(np.testing.assert_array_equal, until_then.factors, frozen.factors)


def test_a_lane_that_dies_at_once_has_no_best_epoch(sweep):
    (fit,) = sweep.train([Lane(HPARAMS._replace(learning_rate=1e30), 12)])
    assert (fit.status, fit.best_epoch) == ("diverged at epoch 1", 0)
    assert np.isnan(fit.at_best("validation_rmse"))
    assert np.isfinite(fit.factors.user).all()


# the book-keeping, without training


def table(value):
    return Factors(*(np.full((1, 1), value),) * 2)


def run_at(epoch, best_score=np.inf, best_epoch=0, alive=True):
    return Run(
        state=State(table(1.0), ()),
        best=table(0.0),
        best_score=np.asarray(best_score),
        best_epoch=np.asarray(best_epoch, np.int32),
        epoch=np.asarray(epoch, np.int32),
        alive=np.asarray(alive),
        died_at=np.asarray(0, np.int32),
    )


AFTER = {  # of epoch 4, from a best of 0.9 at epoch 2: best value, score and epoch, alive, died_at
    "better": ((True, True, 0.8), (4.0, 0.8, 4, True, 0)),
    "no better": ((True, True, 0.9), (0.0, 0.9, 2, True, 0)),
    "not evaluated": ((True, False, 0.8), (0.0, 0.9, 2, True, 0)),
    "nothing held out": ((True, True, np.nan), (4.0, 0.9, 4, True, 0)),
    "not finite": ((False, False, np.nan), (0.0, 0.9, 2, False, 4)),
}


@pytest.mark.parametrize("arguments, expected", AFTER.values(), ids=AFTER)
def test_after_an_epoch(arguments, expected):
    finite, evaluated, score = map(jax.numpy.asarray, arguments)
    before = jax.tree.map(jax.numpy.asarray, run_at(3, best_score=0.9, best_epoch=2))
    run = after_epoch(
        before, State(jax.tree.map(jax.numpy.asarray, table(4.0)), ()), finite, evaluated, score
    )
    seen = (run.best.user[0, 0], run.best_score, run.best_epoch, run.alive, run.died_at)
    assert tuple(x.item() for x in seen) == expected
    assert run.epoch == 4
    assert run.state.factors.item[0, 0] == 4.0


@pytest.mark.parametrize(
    "run, schedule, live",
    [
        (run_at(2), Schedule(20, eval_every=5, patience=2), True),  # not before it is evaluated
        (run_at(5), Schedule(20, eval_every=5, patience=2), False),
        (run_at(19), Schedule(20), True),
        (run_at(20), Schedule(20), False),
        (run_at(3, alive=False), Schedule(20), False),
        (run_at(8, best_epoch=6), Schedule(20, patience=3), True),
        (run_at(9, best_epoch=6), Schedule(20, patience=3), False),
    ],
)
def test_a_run_is_live_until_it_ends_dies_or_is_given_up(run, schedule, live):
    assert bool(is_live(run, schedule, 20)) == live


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name, opt", [("descent", "adam"), ("sgd", "sgd")])
def test_a_run_keeps_its_dtype(problem, name, opt, dtype):
    """Traced only: x64 is on in tests, so that a stray float64 would show."""

    def to_dtype(x):
        return x.astype(dtype) if x.dtype.kind == "f" else x

    spec = replace(Spec(40, 30), dtype=dtype)
    ratings = jax.tree.map(to_dtype, problem.ratings)
    method = method_of(name, spec, opt=optimizer(opt))
    bounds = Bounds(*np.asarray(problem.bounds, dtype))
    data = jax.device_put(Data(method.prepare(ratings), ratings, bounds))
    advance = epochs(method, spec, Schedule())

    def lane(hparams):
        return advance(start(method, data, hparams), data, hparams, jax.numpy.int32(10))

    leaves = jax.tree.leaves(jax.eval_shape(jax.jit(lane), Hparams.of(dtype)))
    assert {leaf.dtype.name for leaf in leaves} == {dtype, "int32", "bool"}
