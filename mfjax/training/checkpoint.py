"""Checkpoints: how far each block of lanes has come.

A block is known by its lanes, so that the same command finds the same blocks again, whatever came
before them. Its file is written whole; the one before it is kept beside it, and takes its place
where it is damaged.
"""

import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from mfjax.errors import CheckpointError, Interrupted
from mfjax.training.whole import Arrays, Damaged, Saved, read, taking_its_place, write

FOLDER = "checkpoint"  # of an output folder
SHARE = 0.01  # of a run's time, the most that checkpoints take where `every` is not given
MINUTE = 60.0  # a run that is shorter saves none
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # but for those that are ignored (nohup)
SHOWN = 3  # keys in which two runs differ, at most
SPEED = 2e8  # bytes a second, until one has been written: of a slow disk


@dataclass
class Stop:
    """Whether a signal has asked the run to end, and which."""

    signal: int | None = None


class Block(NamedTuple):
    """What may be saved of a block.

    About how many bytes, and its arrays, which are asked for only then.
    """

    size: int
    arrays: Callable[[], Arrays]


class Checkpoints:
    """The checkpoints of one run, a file a block.

    Args:
      output: the output folder that a run is resumed in; the files go to its subfolder
        `checkpoint/name`.
      run_identity: what identifies the run, flat: a block saved by a run of which any value differs
        is refused.
      every: save after so many chunks of epochs; 0: never; None: after a minute, as much as `SHARE`
        of the time allows, and first what is finished.
      resume: go on from what is in the folder.
      name: of the subfolder, where an output folder has several.
      stop: when it is set, the chunk at hand is the last.
      began: when the run began (`time.monotonic()`), if not now.

    Raises CheckpointError where the folder holds the checkpoints of another run, or of this one and
    `resume` is false.
    """

    def __init__(
        self,
        output: Path,
        run_identity: Mapping[str, Any],
        *,
        every: int | None = None,
        resume: bool = False,
        name: str = "",
        stop: Stop | None = None,
        began: float | None = None,
    ):
        self.output = output
        self.folder = output / FOLDER / name
        self.run_identity = dict(run_identity)
        self.every = every
        self.stop = stop or Stop()
        self.restored = 0  # blocks
        self.spent = 0.0  # seconds of saving
        self._began = began or time.monotonic()
        self._speed = SPEED
        self._chunks = 0
        self._known_whole: set[Path] = set()  # files that were written or read here
        self._finished: dict[str, Block] = {}  # that no file holds yet
        self._held: set[str] = set()  # blocks that a file holds as they are now
        files = sorted(self.folder.glob("*.ckpt"))
        if files and not resume:
            raise unfinished(self.folder)
        for file in files:
            self._refuse_another_run(file)

    def _refuse_another_run(self, file: Path) -> None:
        try:
            theirs = read(file).run_identity
        except Damaged:
            return
        if differing(theirs, self.run_identity):
            raise another_run(file.parent, theirs, self.run_identity)

    def find(self, name: str) -> Arrays | None:
        """What was saved of a block, or None: the newest file that is whole."""
        newest = self._file(name)
        before = self._file(name, before=True)
        for file in (newest, before):
            try:
                saved = read(file)
            except Damaged:
                continue
            self.restored += 1
            self._known_whole.add(file)
            self._held.add(name)
            return saved.arrays
        return None

    def finished(self, name: str, block: Block) -> None:
        """Note that a block is trained to its end; it is saved when it is time to."""
        if self.every != 0 and name not in self._held:
            self._finished[name] = block

    def flush(self) -> None:
        """Save the finished blocks that no file holds.

        All where `every` says so or the run is to end now, else what may be.
        """
        all_of_it = bool(self.every or self.stop.signal)
        self._save(self._finished, all_of_it)

    def after_chunk(self, name: str, block: Block) -> None:
        """Save what no file holds, where it is time to.

        Raises Interrupted after the chunk in which `stop` was set.
        """
        self._chunks += 1
        self._held.discard(name)
        if self.every != 0:
            due = self.every is not None and self._chunks % self.every == 0
            all_of_it = due or bool(self.stop.signal)
            self._save({**self._finished, name: block}, all_of_it)
        self.end_if_asked()

    def end_if_asked(self) -> None:
        """Raises Interrupted where `stop` is set: all that is trained has been saved."""
        if self.stop.signal:
            kept = self.every != 0
            raise Interrupted(self.stop.signal, kept, folder=self.output)

    def _save(self, blocks: Mapping[str, Block], all_of_it: bool) -> None:
        for name, block in list(blocks.items()):
            if not (all_of_it or self._may_take(block.size / self._speed)):
                return
            began = time.monotonic()
            self._write(name, block.arrays())
            took = time.monotonic() - began
            self._finished.pop(name, None)
            self._held.add(name)
            self.spent += took
            self._speed = block.size / took

    def _may_take(self, seconds: float) -> bool:
        elapsed = time.monotonic() - self._began
        allowed = SHARE * elapsed
        return self.every is None and elapsed > MINUTE and self.spent + seconds <= allowed

    def _write(self, name: str, arrays: Arrays) -> None:
        file = self._file(name)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with taking_its_place(file) as part:
                write(part, Saved(arrays, self.run_identity))
                if file in self._known_whole:  # another would take the place of one that is whole
                    file.replace(self._file(name, before=True))
            self._known_whole.add(file)
        except OSError as error:
            raise CheckpointError(
                f"no checkpoint could be written to {self.folder}: {error.strerror}\n"
                "the one before it is whole: make room, and go on from there with resume=true"
            ) from error

    def _file(self, name: str, before: bool = False) -> Path:
        return self.folder / f"{name}{'.before' if before else ''}.ckpt"


def differing(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """The keys in which what identifies two runs differs."""
    keys = sorted(theirs.keys() | ours.keys())
    return [key for key in keys if theirs.get(key) != ours.get(key)]


def another_run(place: Path, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> CheckpointError:
    """What is raised where a folder is of another run."""
    differ = differing(theirs, ours)
    more = f" ({len(differ) - SHOWN} keys more)" if len(differ) > SHOWN else ""
    lines = [
        f"{place} is of another run{more}",
        *(f"  {key}: {theirs.get(key)} there, {ours.get(key)} here" for key in differ[:SHOWN]),
        "choose another folder, give these as there, or say overwrite=true",
    ]
    return CheckpointError("\n".join(lines))


def unfinished(folder: Path) -> CheckpointError:
    """What is raised where a folder has checkpoints, and none were asked for."""
    return CheckpointError(
        f"{folder} is of an unfinished run\n"
        "resume=true goes on with it, and overwrite=true begins anew"
    )


def remove(output: Path) -> None:
    """Remove the checkpoints of an output folder: the run is finished, and its results written."""
    shutil.rmtree(output / FOLDER, ignore_errors=True)


@contextmanager
def finishing_the_chunk() -> Iterator[Stop]:
    """Within it SIGTERM, SIGINT and SIGHUP set the Stop: the chunk at hand is finished and saved.

    A second one ends all at once.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():  # only there may a handler be set
        yield stop
        return

    def note(number: int, frame: Any) -> None:
        stop.signal = number
        signal.signal(number, before[number])

    heard = [number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in heard}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
