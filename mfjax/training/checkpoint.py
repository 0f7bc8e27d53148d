"""Checkpoints: how far each block of lanes has come, in files that are whole or not used at all.

A block is known by its lanes, so that the same command finds the same blocks again, whatever came before them. Its file is
written under another name, flushed to the disk and renamed; the one before it is kept beside it. The first 32 bytes are the
SHA-256 of all others: a file of which a bit is wrong, or the end is missing, is passed over for the one before.
"""

import hashlib
import io
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mfjax.errors import CheckpointError, Interrupted

FOLDER = "checkpoint"  # of an output folder
ABOUT = "about"  # the array that holds, as JSON, what a file is a checkpoint of
SHARE = 0.01  # of a run's time, the most that checkpoints take where `every` is not given
MINUTE = 60.0  # a run that is shorter saves none
SPEED = 2e8  # bytes a second, until one has been written: of a slow disk
DIGEST_BYTES = hashlib.sha256().digest_size

Arrays = dict[str, np.ndarray]


class Damaged(Exception):
    """A file that is not what was written."""


@dataclass
class Stop:
    """Whether a signal has asked the run to end, and which."""

    signal: int | None = None


class Block(NamedTuple):
    """What may be saved of a block: about how many bytes, and its arrays, which are asked for only then."""

    size: int
    arrays: Callable[[], Arrays]


class Saved(NamedTuple):
    """The content of a checkpoint: its arrays, and what it is of."""

    arrays: Arrays
    about: dict[str, Any]


class Checkpoints:
    """The checkpoints of one run, a file a block.

    Args:
      of: the output folder that a run is resumed in; the files go to its subfolder `checkpoint/name`.
      about: what identifies the run, flat: a block saved by a run of which any value differs is refused.
      every: save after so many chunks; 0: never; None: after a minute, as much as `SHARE` of the time allows, and first what
        is finished.
      resume: go on from what is in the folder.
      stop: when it is set, the chunk at hand is the last.
      began: when the run began (`time.monotonic()`), if not now.

    Raises CheckpointError where the folder holds the checkpoints of another run, or of this one and `resume` is false.
    """

    def __init__(
        self,
        of: Path,
        about: Mapping[str, Any],
        every: int | None = None,
        resume: bool = False,
        name: str = "",
        stop: Stop | None = None,
        began: float | None = None,
    ):
        self.of, self.folder, self.about, self.every = of, of / FOLDER / name, dict(about), every
        self.stop = stop or Stop()
        self.restored = 0  # blocks
        self.spent = 0.0  # seconds of saving
        self._began, self._speed, self._chunks = began or time.monotonic(), SPEED, 0
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
            theirs = read(file).about
        except Damaged:
            return
        if keys := sorted(key for key in {*theirs, *self.about} if theirs.get(key) != self.about.get(key)):
            lines = [f"  {key}: {theirs.get(key)} there, {self.about.get(key)} here" for key in keys[:3]]
            more = f" ({len(keys) - 3} keys more)" if len(keys) > 3 else ""
            head = f"{file.parent} is of another run: choose another folder, or give these as there{more}"
            raise CheckpointError("\n".join([head, *lines]))

    def find(self, name: str) -> Arrays | None:
        """What was saved of a block, or None: the newest file that is whole."""
        for file in (self._file(name), self._file(name, before=True)):
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
        """Save the finished blocks that no file holds: all where `every` says so or the run is to end now, else what may be."""
        self._save(self._finished, all_of_it=bool(self.every or self.stop.signal))

    def after_chunk(self, name: str, block: Block) -> None:
        """Save what no file holds, where it is time to. Raises Interrupted after the chunk in which `stop` was set."""
        self._chunks += 1
        self._held.discard(name)
        if self.every != 0:
            due = self.every is not None and self._chunks % self.every == 0
            self._save({**self._finished, name: block}, all_of_it=due or bool(self.stop.signal))
        self.end_if_asked()

    def end_if_asked(self) -> None:
        """Raises Interrupted where `stop` is set: all that is trained has been saved."""
        if self.stop.signal:
            raise Interrupted(self.stop.signal, kept=self.every != 0, folder=self.of)

    def _save(self, blocks: Mapping[str, Block], all_of_it: bool) -> None:
        for name, block in list(blocks.items()):
            if not (all_of_it or self._may_take(block.size / self._speed)):
                return
            began = time.monotonic()
            self._write(name, block.arrays())
            self._finished.pop(name, None)
            self._held.add(name)
            took = time.monotonic() - began
            self.spent, self._speed = self.spent + took, block.size / took

    def _may_take(self, seconds: float) -> bool:
        elapsed = time.monotonic() - self._began
        return self.every is None and elapsed > MINUTE and self.spent + seconds <= SHARE * elapsed

    def _write(self, name: str, arrays: Arrays) -> None:
        file = self._file(name)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with _whole(file) as part:
                write(part, Saved(arrays, self.about))
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


def unfinished(folder: Path) -> CheckpointError:
    """What is raised where a folder has checkpoints, and none were asked for."""
    return CheckpointError(f"{folder} is of an unfinished run\nresume=true goes on with it; or remove that folder")


def remove(of: Path) -> None:
    """Remove the checkpoints of an output folder: the run is finished, and its results are written."""
    shutil.rmtree(of / FOLDER, ignore_errors=True)


@contextmanager
def finishing_the_chunk() -> Iterator[Stop]:
    """Within it SIGTERM and SIGINT set the Stop: the chunk at hand is finished and saved. A second one ends all at once."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():  # only there may a handler be set
        yield stop
        return

    def note(number: int, frame: Any) -> None:
        stop.signal = number
        signal.signal(number, before[number])

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def write(path: Path, saved: Saved) -> None:
    """Write a checkpoint to a new file and flush it to the disk; nothing is left of it where that fails."""
    about = np.frombuffer(json.dumps(saved.about).encode(), np.uint8)
    with path.open("w+b") as file:
        file.write(bytes(DIGEST_BYTES))
        np.savez(file, **saved.arrays, **{ABOUT: about})
        file.seek(DIGEST_BYTES)
        digest = hashlib.file_digest(file, "sha256").digest()
        file.seek(0)
        file.write(digest)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A name to write to beside `path`, whose place it takes at the end; removed where the writing fails."""
    part = path.with_suffix(".part")
    try:
        yield part
        part.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the new name too
        finally:
            os.close(folder)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def read(path: Path) -> Saved:
    """A checkpoint, as it was written. Raises Damaged where it is not, or is not there."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Damaged(path) from error
    if hashlib.sha256(memoryview(content)[DIGEST_BYTES:]).digest() != content[:DIGEST_BYTES]:
        raise Damaged(path)
    stream = io.BytesIO(content)
    stream.seek(DIGEST_BYTES)
    with np.load(stream) as arrays:
        saved = dict(arrays)
    return Saved(saved, json.loads(saved.pop(ABOUT).tobytes()))
