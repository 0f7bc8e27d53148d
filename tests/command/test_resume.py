"""Runs that a signal, a kill or a full disk ends, and that go on to the same bits."""

import signal

import pytest
from commands import (
    NO_PLOTS,
    SMALL,
    assert_refused,
    process,
    rows_of,
    stopped_at_a_checkpoint,
    stopped_when,
    strict_json,
)

SAME = ("factors.npz", "history.csv", "lanes.csv")  # to the bit

# one run

RUN = (
    *("data=synthetic", "data.num_users=300", "data.num_items=200", "data.num_ratings=20000"),
    *("data.rank=2", "epochs=200", "epochs_per_call=2", "sweep.reg=[0.05,0.1,0.2]"),
    *(NO_PLOTS, "checkpoint.every=1", "replicates=1"),
)


@pytest.fixture(scope="module")
def uninterrupted(succeeded, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    succeeded(folder, *RUN)
    return folder / "out"


@pytest.mark.slow
def test_a_terminated_run_and_then_a_killed_one_go_on_to_the_same_bits(
    uninterrupted, command, succeeded, tmp_path
):
    done = stopped_at_a_checkpoint(tmp_path, signal.SIGTERM, *RUN)
    assert done.returncode == 128 + signal.SIGTERM
    assert "Traceback" not in done.stderr
    assert "resume=true" in done.stderr
    assert f"hydra.run.dir={tmp_path / 'out'}" in done.stderr
    assert_refused(command(tmp_path, *RUN), "resume=true goes on with it")
    other = command(tmp_path, *RUN, "hparams.rank=2", "resume=true")
    assert_refused(other, "hparams.rank: 16 there, 2 here")
    done = stopped_at_a_checkpoint(tmp_path, signal.SIGKILL, *RUN, "resume=true")
    assert done.returncode == -signal.SIGKILL
    done = succeeded(tmp_path, *RUN, "resume=true")
    assert "went on from 1 checkpoint" in done.stdout
    for name in SAME:
        assert (tmp_path / "out" / name).read_bytes() == (uninterrupted / name).read_bytes()
    assert not (tmp_path / "out/checkpoint").exists()
    ours, theirs = (strict_json(out / "results.json") for out in (tmp_path / "out", uninterrupted))
    assert ours["digest"] == theirs["digest"]
    assert "finished already" in succeeded(tmp_path, *RUN, "resume=true").stdout


@pytest.mark.slow
def test_a_full_disk_ends_the_command_with_one_message_and_loses_nothing(
    uninterrupted, succeeded, tmp_path
):
    done = stopped_at_a_checkpoint(tmp_path, signal.SIGTERM, *RUN)
    assert done.returncode == 128 + signal.SIGTERM
    folder = tmp_path / "out/checkpoint"
    before = {path.name: path.read_bytes() for path in folder.rglob("*.ckpt")}
    full = (
        "import resource, runpy; resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000)); "
        "runpy.run_module('mfjax.run', run_name='__main__')"
    )
    again = (*RUN, "resume=true", "compilation_cache=false")
    done = process(tmp_path, *again, python=("-c", full))
    assert_refused(done, "no checkpoint could be written")
    assert "File too large" in done.stderr
    after = {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert after
    assert after.items() <= before.items()
    done = succeeded(tmp_path, *RUN, "resume=true")
    assert "went on from 1 checkpoint" in done.stdout
    ours, theirs = (out / "factors.npz" for out in (tmp_path / "out", uninterrupted))
    assert ours.read_bytes() == theirs.read_bytes()


# a multirun

MULTIRUN = (
    *("-m", *SMALL, NO_PLOTS, "method=descent", "optimizer=adam"),
    *("hparams.learning_rate=0.01,0.02,0.03", "epochs=200", "epochs_per_call=10"),
    "checkpoint.every=1",
)


def results_of(folder):
    return sorted(folder.glob("out/*/results.json"))


@pytest.mark.slow
def test_a_killed_multirun_loses_nothing_and_trains_nothing_twice(
    command, succeeded, tmp_path_factory, tmp_path
):
    whole = tmp_path_factory.mktemp("whole")
    succeeded(whole, *MULTIRUN)
    done = stopped_at_a_checkpoint(tmp_path, signal.SIGTERM, *MULTIRUN)
    assert done.returncode == 128 + signal.SIGTERM
    assert "resume=true" in done.stderr
    assert "hydra.sweep.dir=" in done.stderr
    other = command(tmp_path, *MULTIRUN, "resume=true", "epochs=300")
    assert_refused(other, "is of another run")
    assert "epochs: 200 there, 300 here" in other.stderr
    again = (*MULTIRUN, "resume=true")
    stopped_when(lambda: results_of(tmp_path), signal.SIGKILL, tmp_path, *again)
    models = [path.with_name("factors.npz") for path in results_of(tmp_path)]
    before = {path: path.stat().st_mtime_ns for path in models}
    assert 1 <= len(before) <= 3
    succeeded(tmp_path, *again)
    assert all(path.stat().st_mtime_ns == written for path, written in before.items())
    ours = results_of(tmp_path)
    theirs = results_of(whole)
    assert len(ours) == len(theirs) == 3
    for path, other in zip(ours, theirs, strict=True):
        assert strict_json(path)["digest"] == strict_json(other)["digest"]
        for name in SAME:
            assert path.with_name(name).read_bytes() == other.with_name(name).read_bytes()
    rows = rows_of(tmp_path / "out/sweep.csv")
    best = min(rows, key=lambda row: float(row["validation_rmse"]))
    assert len(rows) == 3
    assert [row for row in rows if row["test_rmse"]] == [best]
    assert not list(tmp_path.rglob("test.json"))
    other = command(tmp_path, *again, "loss_scale=sum")
    assert_refused(other, "loss_scale: half there, sum here")
    assert all(path.stat().st_mtime_ns == written for path, written in before.items())
