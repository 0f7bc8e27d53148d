"""Checkpoints: whole or passed over.

A run that goes on from one is the run that was never stopped, to the bit.
"""

import os
import resource
import signal
import time

import numpy as np
import pytest
from helpers import assert_bitwise, method_of

from mfjax import (
    Bounds,
    Halving,
    Hparams,
    InputError,
    Lane,
    Plan,
    Problem,
    Ratings,
    Schedule,
    Spec,
    Sweep,
    optimizer,
)
from mfjax.errors import Interrupted
from mfjax.training.checkpoint import (
    ENDING,
    SPEED,
    Block,
    Checkpoints,
    finishing_the_chunk,
    remove,
)
from mfjax.training.search import halve
from mfjax.training.whole import Damaged, Saved, read, write

RUN_IDENTITY = {"reg": 0.1, "data": "abc"}
HPARAMS = Hparams(learning_rate=0.05, reg=0.1, rank=4, init_scale=0.3)
LANES = [
    Lane(HPARAMS, 12),
    Lane(HPARAMS._replace(init_seed=1, learning_rate=1e30), 12),  # which diverges
    Lane(HPARAMS._replace(reg=0.3, fold=1), 12),
]
METHODS_TRIED = {
    "sgd": lambda spec: method_of("sgd", spec, batch_size=32),
    "adam": lambda spec: method_of("sgd", spec, batch_size=32, opt=optimizer("adam")),
    "als": lambda spec: method_of("als", spec),
}


def tried(method, lanes_per_program=2) -> Sweep:
    """A sweep that the host sees after every epoch."""
    rng = np.random.default_rng(0)
    user, item = np.unravel_index(rng.permutation(120)[:90], (12, 10))
    ratings = Ratings.of(user, item, rng.normal(3, 1, 90), fold=np.arange(90) % 3)
    plan = Plan(
        spec=Spec(12, 10),
        method=METHODS_TRIED[method],
        problems={(0, 0): Problem(ratings, ratings, Bounds(1.0, 5.0))},
        schedule=Schedule(12, epochs_per_call=1),
    )
    return Sweep(plan, lanes_per_program)


def stop_after(sweep, chunks):
    """The signal that comes in the chunk of that number, over all blocks."""
    seen = []

    def on_progress(progress):
        seen.append(progress)
        if len(seen) == chunks:
            sweep.checkpoints.stop.signal = signal.SIGTERM

    return on_progress


# resuming


@pytest.mark.parametrize(
    "method",
    [
        pytest.param(name, marks=() if name == "adam" else pytest.mark.slow)
        for name in METHODS_TRIED
    ],
)
def test_a_resumed_sweep_is_bitwise_the_uninterrupted_one(monkeypatch, method, tmp_path):
    monkeypatch.setattr("mfjax.training.lanes.RANK_GROUP", 4)  # which compiles in less time
    sweep = tried(method)
    whole = sweep.train(LANES)
    for chunks in (1, 5, 11, 13, 20):  # in the first block of two lanes, and in the second
        folder = tmp_path / f"{chunks}"
        sweep.checkpoints = Checkpoints(folder, RUN_IDENTITY)
        with pytest.raises(Interrupted) as stop:
            sweep.train(LANES, stop_after(sweep, chunks))
        assert stop.value.kept
        assert stop.value.signal == signal.SIGTERM
        sweep.checkpoints = Checkpoints(folder, RUN_IDENTITY, resume=True)
        assert_bitwise(sweep.train(LANES), whole)
        assert sweep.checkpoints.restored == (1 if chunks < 13 else 2)
        remove(folder)
        assert not any(folder.iterdir())


@pytest.mark.slow
def test_halving_resumes_bitwise_too(tmp_path):
    sweep = tried("sgd", lanes_per_program=4)
    lanes = [HPARAMS._replace(reg=reg) for reg in (0.01, 0.02, 0.05, 0.1, 0.2, 0.4)]
    whole = halve(sweep, lanes, Halving(eta=2, first=3))
    for chunks in (2, 5, 9, 13):
        folder = tmp_path / f"{chunks}"
        sweep.checkpoints = Checkpoints(folder, RUN_IDENTITY)
        with pytest.raises(Interrupted):
            halve(sweep, lanes, Halving(eta=2, first=3), stop_after(sweep, chunks))
        sweep.checkpoints = Checkpoints(folder, RUN_IDENTITY, resume=True)
        assert_bitwise(halve(sweep, lanes, Halving(eta=2, first=3)), whole)


def test_a_checkpoint_of_another_run_is_refused_with_what_differs(tmp_path):
    saved = Checkpoints(tmp_path, RUN_IDENTITY, every=1)
    saved.after_chunk("block", Block(24, lambda: {"x": np.arange(3)}))
    with pytest.raises(InputError, match="unfinished run\nresume=true"):
        Checkpoints(tmp_path, RUN_IDENTITY)
    with pytest.raises(InputError, match=r"(?s)another run.*reg: 0.1 there, 0.2 here"):
        Checkpoints(tmp_path, RUN_IDENTITY | {"reg": 0.2}, resume=True)


def test_never_means_never(tmp_path):
    never = Checkpoints(tmp_path, RUN_IDENTITY, every=0)
    never.finished("a", Block(8, dict))
    never.flush()
    never.after_chunk("b", Block(8, dict))
    assert not any(tmp_path.iterdir())
    never.stop.signal = signal.SIGINT
    with pytest.raises(Interrupted) as stop:
        never.after_chunk("b", Block(8, dict))
    assert not stop.value.kept


# what is saved, and when


def saved_in(checkpoints: Checkpoints) -> list[str]:
    return sorted(path.stem for path in checkpoints.folder.glob("*.ckpt"))


HALF_A_SECOND = Block(int(SPEED / 2), lambda: {"x": np.arange(3)})  # by estimate


def test_by_default_nothing_is_saved_in_the_first_minute(tmp_path):
    early = Checkpoints(tmp_path, RUN_IDENTITY, began=time.monotonic() - 50)
    early.after_chunk("a", HALF_A_SECOND)
    assert saved_in(early) == []


def test_by_default_a_hundredth_of_the_time_is_taken_for_what_is_finished_first(tmp_path):
    late = Checkpoints(tmp_path, RUN_IDENTITY, began=time.monotonic() - 100)
    late.finished("done", HALF_A_SECOND)
    late.finished("too big", Block(10**15, dict))
    late.after_chunk("running", HALF_A_SECOND)
    assert saved_in(late) == ["done"]
    assert 0 < late.spent < 1
    late.stop.signal = signal.SIGTERM  # then all is saved, whatever it costs
    with pytest.raises(Interrupted):
        late.after_chunk("running", HALF_A_SECOND)
    assert saved_in(late) == ["done", "running", "too big"]


def test_what_a_file_holds_is_not_written_again(tmp_path):
    asked: list[str] = []

    def block(name):
        def arrays():
            asked.append(name)
            return {"x": np.arange(1)}

        return Block(8, arrays)

    first = Checkpoints(tmp_path, RUN_IDENTITY, every=1)
    first.after_chunk("a", block("a"))
    first.finished("a", block("a"))  # as it was saved after its last chunk
    first.after_chunk("b", block("b"))
    again = Checkpoints(tmp_path, RUN_IDENTITY, every=1, resume=True)
    again.find("a")
    again.finished("a", block("a"))  # of which nothing was left to train
    again.after_chunk("c", block("c"))
    assert asked == ["a", "b", "c"]


@pytest.mark.parametrize("number", ENDING)
def test_signals_are_noted_and_their_handlers_put_back(number):
    before = signal.signal(number, own := lambda *_: None)  # which may have been to ignore it
    try:
        with finishing_the_chunk() as stop:
            assert stop.signal is None
            os.kill(os.getpid(), number)
            assert stop.signal == number
            assert signal.getsignal(number) == own
        assert signal.getsignal(number) == own
    finally:
        signal.signal(number, before)


def test_a_signal_that_is_ignored_stays_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup has it
    try:
        with finishing_the_chunk() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.signal is None
    finally:
        signal.signal(signal.SIGHUP, before)


# files


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a.ckpt"
    arrays = {"x": np.arange(40.0), "alive": np.array([True, False])}
    write(path, Saved(arrays, RUN_IDENTITY))
    return path


def test_a_file_is_read_as_it_was_written(file):
    arrays, run_identity = read(file)
    assert run_identity == RUN_IDENTITY
    assert set(arrays) == {"x", "alive"}
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
    def filled(value):
        return Block(24, lambda: {"x": np.full(3, value)})

    checkpoints = Checkpoints(tmp_path, RUN_IDENTITY, every=1)
    for i in range(3):
        checkpoints.after_chunk("block", filled(i))
    (newest,) = checkpoints.folder.glob("block.ckpt")
    assert checkpoints.find("block")["x"][0] == 2
    newest.write_bytes(newest.read_bytes()[:-1])
    again = Checkpoints(tmp_path, RUN_IDENTITY, every=1, resume=True)
    assert again.find("block")["x"][0] == 1
    again.after_chunk("block", filled(7))  # in place of the damaged one, not of the one before
    newest.write_bytes(newest.read_bytes()[:-1])
    assert again.find("block")["x"][0] == 1
    assert checkpoints.find("another") is None


def test_a_full_disk_leaves_the_checkpoint_before_and_no_other_file(tmp_path):
    checkpoints = Checkpoints(tmp_path, RUN_IDENTITY, every=1)
    checkpoints.after_chunk("block", Block(80, lambda: {"x": np.zeros(10)}))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    expected = r"(?s)no checkpoint could be written.*the one before it is whole"
    try:
        with pytest.raises(InputError, match=expected):
            checkpoints.after_chunk("block", Block(80_000, lambda: {"x": np.zeros(10_000)}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in checkpoints.folder.iterdir()] == ["block.ckpt"]
    assert len(checkpoints.find("block")["x"]) == 10
