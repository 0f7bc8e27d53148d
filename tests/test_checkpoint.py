"""Checkpoints: whole or passed over, and a run that goes on from one is the run that was never stopped, to the bit."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace

import jax
import numpy as np
import pytest

from mfjax import METHODS, Halving, Hparams, InputError, Lane, Problem, Ratings, Schedule, Spec, Sweep, optimizer
from mfjax.errors import Interrupted
from mfjax.training.checkpoint import SPEED, Block, Checkpoints, Damaged, Saved, finishing_the_chunk, read, remove, write
from mfjax.training.search import halve

ABOUT = {"reg": 0.1, "data": "abc"}
HPARAMS = Hparams(learning_rate=0.05, reg=0.1, rank=4, init_scale=0.3)
DIVERGING = HPARAMS._replace(seed=1, learning_rate=1e30)
LANES = [Lane(HPARAMS, 12), Lane(DIVERGING, 12), Lane(HPARAMS._replace(reg=0.3, fold=1), 12)]
METHODS_TRIED = {
    "sgd": lambda spec: METHODS["sgd"](spec, None, optimizer("sgd")),
    "adam": lambda spec: METHODS["sgd"](spec, None, optimizer("adam")),
    "als": lambda spec: METHODS["als"](spec, None, optimizer("sgd")),
}


@pytest.fixture(scope="module")
def small() -> Problem:
    rng = np.random.default_rng(0)
    user, item = np.unravel_index(rng.permutation(120)[:90], (12, 10))
    ratings = Ratings.of(user, item, rng.normal(3, 1, 90), fold=np.arange(90) % 3)
    return Problem(ratings, ratings, np.array([1.0, 5.0]))


def tried(small, method) -> Sweep:
    return Sweep(Spec(12, 10, batch_size=32), METHODS_TRIED[method], {0: small}, Schedule(12, chunk=1), width=2)


def bitwise(fits, others):
    for ours, theirs in zip(fits, others, strict=True):
        assert (ours.lane, ours.status, ours.best_epoch) == (theirs.lane, theirs.status, theirs.best_epoch)
        jax.tree.map(np.testing.assert_array_equal, (ours.factors, ours.history), (theirs.factors, theirs.history))


def stop_after(sweep, chunks):
    """The signal that comes in the chunk of that number, over all blocks."""

    def watch(progress):
        watch.seen += 1
        if watch.seen == chunks:
            sweep.checkpoints.stop.signal = signal.SIGTERM

    watch.seen = 0
    return watch


# resuming


@pytest.mark.parametrize("method", METHODS_TRIED)
def test_a_resumed_sweep_is_bitwise_the_uninterrupted_one(small, method, tmp_path):
    sweep = tried(small, method)
    whole = sweep.train(LANES)
    for n, chunks in enumerate((1, 5, 11, 13, 20)):  # in the first block of two lanes, and in the second
        sweep.checkpoints = Checkpoints(tmp_path / f"{n}", ABOUT)
        with pytest.raises(Interrupted) as stop:
            sweep.train(LANES, stop_after(sweep, chunks))
        assert stop.value.kept and stop.value.signal == signal.SIGTERM
        sweep.checkpoints = Checkpoints(tmp_path / f"{n}", ABOUT, resume=True)
        bitwise(sweep.train(LANES), whole)
        assert sweep.checkpoints.restored == (1 if chunks < 13 else 2)
        remove(tmp_path / f"{n}")
        assert not any((tmp_path / f"{n}").iterdir())


def test_halving_resumes_bitwise_too(small, tmp_path):
    sweep = replace(tried(small, "sgd"), width=4, programs={})
    lanes = [HPARAMS._replace(reg=reg) for reg in (0.01, 0.02, 0.05, 0.1, 0.2, 0.4)]
    whole = halve(sweep, lanes, Halving(eta=2, first=3))
    for n, chunks in enumerate((2, 5, 9, 13)):
        sweep.checkpoints = Checkpoints(tmp_path / f"{n}", ABOUT)
        with pytest.raises(Interrupted):
            halve(sweep, lanes, Halving(eta=2, first=3), stop_after(sweep, chunks))
        sweep.checkpoints = Checkpoints(tmp_path / f"{n}", ABOUT, resume=True)
        bitwise(halve(sweep, lanes, Halving(eta=2, first=3)), whole)


def test_a_checkpoint_of_another_run_is_refused_with_what_differs(tmp_path):
    saved = Checkpoints(tmp_path, ABOUT, every=1)
    saved.after_chunk("block", Block(24, lambda: {"x": np.arange(3)}))
    with pytest.raises(InputError, match="unfinished run\nresume=true"):
        Checkpoints(tmp_path, ABOUT)
    with pytest.raises(InputError, match=r"(?s)another run.*reg: 0.1 there, 0.2 here"):
        Checkpoints(tmp_path, ABOUT | {"reg": 0.2}, resume=True)


def test_never_means_never(tmp_path):
    never = Checkpoints(tmp_path, ABOUT, every=0)
    never.finished("a", Block(8, dict))
    never.flush()
    never.after_chunk("b", Block(8, dict))
    assert not any(tmp_path.iterdir())
    never.stop.signal = signal.SIGINT
    with pytest.raises(Interrupted) as stop:
        never.after_chunk("b", Block(8, dict))
    assert not stop.value.kept


def saved_in(checkpoints: Checkpoints) -> list[str]:
    return sorted(path.stem for path in checkpoints.folder.glob("*.ckpt"))


def test_by_default_a_minute_passes_and_a_hundredth_of_the_time_is_taken_for_what_is_finished_first(tmp_path):
    half_a_second = Block(int(SPEED / 2), lambda: {"x": np.arange(3)})  # by estimate
    early = Checkpoints(tmp_path / "early", ABOUT, began=time.monotonic() - 50)
    early.after_chunk("a", half_a_second)
    assert saved_in(early) == []
    late = Checkpoints(tmp_path / "late", ABOUT, began=time.monotonic() - 100)
    late.finished("done", half_a_second)
    late.finished("too big", Block(10**15, dict))
    late.after_chunk("running", half_a_second)
    assert saved_in(late) == ["done"] and 0 < late.spent < 1
    late.stop.signal = signal.SIGTERM  # then all is saved, whatever it costs
    with pytest.raises(Interrupted):
        late.after_chunk("running", half_a_second)
    assert saved_in(late) == ["done", "running", "too big"]


def test_what_a_file_holds_is_not_written_again(tmp_path):
    first = Checkpoints(tmp_path, ABOUT, every=1)
    asked: list[str] = []
    block = {name: Block(8, lambda name=name: asked.append(name) or {"x": np.arange(1)}) for name in "abc"}
    first.after_chunk("a", block["a"])
    first.finished("a", block["a"])  # as it was saved after its last chunk
    first.after_chunk("b", block["b"])
    again = Checkpoints(tmp_path, ABOUT, every=1, resume=True)
    again.find("a")
    again.finished("a", block["a"])  # of which nothing was left to train
    again.after_chunk("c", block["c"])
    assert asked == ["a", "b", "c"]


def test_signals_are_noted_and_their_handlers_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with finishing_the_chunk() as stop:
        assert stop.signal is None
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.signal == signal.SIGTERM and signal.getsignal(signal.SIGTERM) == before
    assert signal.getsignal(signal.SIGTERM) == before


# files


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a.ckpt"
    write(path, Saved({"x": np.arange(40.0), "alive": np.array([True, False])}, ABOUT))
    return path


def test_a_file_is_read_as_it_was_written(file):
    arrays, about = read(file)
    assert about == ABOUT and set(arrays) == {"x", "alive"}
    np.testing.assert_array_equal(arrays["x"], np.arange(40.0))


def test_one_wrong_bit_and_every_missing_end_are_noticed(file, tmp_path):
    content = file.read_bytes()
    bad = tmp_path / "bad.ckpt"
    rng = np.random.default_rng(0)
    for bit in rng.choice(8 * len(content), 1000, replace=False):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        bad.write_bytes(changed)
        with pytest.raises(Damaged):
            read(bad)
    for length in range(len(content)):
        bad.write_bytes(content[:length])
        with pytest.raises(Damaged):
            read(bad)


def test_a_damaged_file_gives_way_to_the_one_before(tmp_path):
    checkpoints = Checkpoints(tmp_path, ABOUT, every=1)
    for i in range(3):
        checkpoints.after_chunk("block", Block(24, lambda i=i: {"x": np.full(3, i)}))
    (newest,) = checkpoints.folder.glob("block.ckpt")
    assert checkpoints.find("block")["x"][0] == 2
    newest.write_bytes(newest.read_bytes()[:-1])
    again = Checkpoints(tmp_path, ABOUT, every=1, resume=True)
    assert again.find("block")["x"][0] == 1
    again.after_chunk("block", Block(24, lambda: {"x": np.full(3, 7)}))  # in place of the damaged one, not of the one before
    newest.write_bytes(newest.read_bytes()[:-1])
    assert again.find("block")["x"][0] == 1
    assert checkpoints.find("another") is None


def test_a_full_disk_leaves_the_checkpoint_before_and_no_other_file(tmp_path):
    checkpoints = Checkpoints(tmp_path, ABOUT, every=1)
    checkpoints.after_chunk("block", Block(80, lambda: {"x": np.zeros(10)}))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(InputError, match=r"(?s)no checkpoint could be written.*the one before it is whole"):
            checkpoints.after_chunk("block", Block(80_000, lambda: {"x": np.zeros(10_000)}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in checkpoints.folder.iterdir()] == ["block.ckpt"]
    assert len(checkpoints.find("block")["x"]) == 10


# the command

RUN = ("data=synthetic", "data.num_users=300", "data.num_items=200", "data.num_ratings=20000", "data.rank=2", "epochs=400")
RUN = (*RUN, "chunk=4", "sweep.reg=[0.05,0.1,0.2]", "plots=false", "checkpoint.every=1")


def popen(folder, *arguments):
    """The command under way, its working directory `folder`."""
    command = [sys.executable, "-m", "mfjax.run", *arguments]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def start(folder, *arguments):
    return popen(folder, *RUN, "hydra.run.dir=out", *arguments)


def run(folder, *arguments):
    """The exit code, and what was said."""
    process = start(folder, *arguments)
    said = "".join(process.communicate(timeout=200))
    return process.returncode, said


def saved(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.ckpt")}


def stopped_at_the_next_checkpoint(folder, signal_number, *arguments):
    """As `run`, with a signal as soon as another checkpoint stands there."""
    process, before = start(folder, *arguments), saved(folder)
    while saved(folder) == before and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal_number)
    said = "".join(process.communicate(timeout=200))
    return process.returncode, said


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    code, said = run(folder)
    assert code == 0, said
    return folder / "out"


def test_a_terminated_run_and_then_a_killed_one_go_on_to_the_same_bits(uninterrupted, tmp_path):
    code, said = stopped_at_the_next_checkpoint(tmp_path, signal.SIGTERM)
    assert code == 128 + signal.SIGTERM and "Traceback" not in said
    assert "resume=true" in said and f"hydra.run.dir={tmp_path / 'out'}" in said
    code, said = run(tmp_path)
    assert code == 1 and "resume=true goes on with it" in said
    code, said = run(tmp_path, "hparams.rank=2", "resume=true")
    assert code == 1 and "hparams.rank: 16 there, 2 here" in said
    code, said = stopped_at_the_next_checkpoint(tmp_path, signal.SIGKILL, "resume=true")
    assert code == -signal.SIGKILL
    code, said = run(tmp_path, "resume=true")
    assert code == 0 and "went on from 1 checkpoint" in said, said
    for name in ("factors.npz", "history.csv", "lanes.csv"):
        assert (tmp_path / "out" / name).read_bytes() == (uninterrupted / name).read_bytes(), name
    assert not (tmp_path / "out/checkpoint").exists()
    digests = [json.loads((folder / "results.json").read_text())["digest"] for folder in (tmp_path / "out", uninterrupted)]
    assert digests[0] == digests[1]
    assert "finished already" in run(tmp_path, "resume=true")[1]


def test_a_full_disk_ends_the_command_with_one_message_and_loses_nothing(uninterrupted, tmp_path):
    assert stopped_at_the_next_checkpoint(tmp_path, signal.SIGTERM)[0] == 128 + signal.SIGTERM
    before = {path.name: path.read_bytes() for path in tmp_path.rglob("*.ckpt")}
    limit = "import resource, runpy; resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000)); "
    limited = limit + "runpy.run_module('mfjax.run', run_name='__main__')"
    command = [sys.executable, "-c", limited, *RUN, "hydra.run.dir=out", "resume=true", "compilation_cache=false"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "no checkpoint could be written" in done.stderr and "File too large" in done.stderr
    after = {path.name: path.read_bytes() for path in tmp_path.glob("out/checkpoint/**/*") if path.is_file()}
    assert after.items() <= before.items() and after
    code, said = run(tmp_path, "resume=true")
    assert code == 0 and "went on from 1 checkpoint" in said, said
    assert (tmp_path / "out/factors.npz").read_bytes() == (uninterrupted / "factors.npz").read_bytes()
