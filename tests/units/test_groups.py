"""What goes wrong in a group of jobs that train together, and what it costs the others."""

import numpy as np
import pytest
from commands import QUIET
from hydra import compose, initialize_config_dir

from mfjax.app import CONF, multirun, schema
from mfjax.app.handover import Failed, Finished, Nothing, Ready, handed_over, handing_over
from mfjax.errors import InputError, OutOfMemory
from mfjax.training.program import Program

DESCENT = (*QUIET, "method=descent", "optimizer=adam")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Jobs as the launcher composes them, trained in this process; what each is handed."""
    schema.register()

    def cases(*jobs, lanes_per_program=8):
        folder = tmp_path_factory.mktemp("launch")
        with initialize_config_dir(str(CONF), version_base="1.3"):
            cfgs = [compose("config", [*DESCENT, *job]) for job in jobs]
        folders = [folder / str(i) for i in range(len(cfgs))]
        return multirun.train_together(cfgs, folders, folder, lanes_per_program, {})

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("mfjax.app.machine.set_up", lambda cfg: None)
        yield cases


GOOD = [(f"hparams.reg={reg}",) for reg in (0.1, 0.2)]
CULPRIT = ("sweep.momentum=[0.5,0.9]",)  # which Adam does not read


def assert_same(case, other):
    ours, theirs = (one.trained.outcome.final for one in (case, other))
    for fit, expected in zip(ours, theirs, strict=True):
        for a, b in zip(fit.factors, expected.factors, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def reference(trained):
    return trained(*GOOD)


@pytest.mark.slow
def test_a_job_that_raises_is_alone_with_its_error(trained, reference):
    first, culprit, last = trained(GOOD[0], CULPRIT, GOOD[1])
    assert isinstance(culprit, Failed)
    assert isinstance(culprit.error, InputError)
    assert "momentum" in str(culprit.error)
    assert_same(first, reference[0])
    assert_same(last, reference[1])


def test_a_wrong_value_is_its_jobs_alone(trained):
    wrong, right, other = trained(
        ("hparams.learning_rate=-1",), ("hparams.learning_rate=0.01",), ("job=gradients",)
    )
    assert isinstance(wrong, Failed)
    assert isinstance(wrong.error, InputError)
    assert isinstance(right, Ready)
    assert right.trained.jobs == 1
    assert other == Nothing()


@pytest.mark.slow
def test_a_group_beyond_memory_goes_on_with_half_its_lanes_and_says_so(
    trained, monkeypatch, caplog
):
    asked = trained(*GOOD, lanes_per_program=2)
    fitting = Program._fitting
    tried = []

    def small(program, *args):
        tried.append(program.places.lanes)
        if program.places.lanes > 2:
            raise OutOfMemory("no room")
        return fitting(program, *args)

    monkeypatch.setattr(Program, "_fitting", small)
    cases = trained(*GOOD)
    assert tried[:3] == [8, 4, 2]
    assert "out of memory with 8 lanes a program: going on with 4" in caplog.text
    for ours, theirs in zip(cases, asked, strict=True):
        assert_same(ours, theirs)


def test_a_job_beyond_memory_by_itself_fails(trained, monkeypatch):
    def never(program, *args):
        raise OutOfMemory("no room")

    monkeypatch.setattr(Program, "_fitting", never)
    for case in trained(*GOOD):
        assert isinstance(case, Failed)
        assert isinstance(case.error, OutOfMemory)


def test_what_is_handed_over_is_there_for_the_job_alone():
    assert handed_over() == Nothing()
    with handing_over(Finished()):
        assert handed_over() == Finished()
    assert handed_over() == Nothing()
