"""Files that are whole or not used at all.

Each is written under another name, flushed to the disk, and renamed. The first 32 bytes of a
checkpoint are the SHA-256 of all others, so that a wrong bit or a missing end is noticed.
"""

import hashlib
import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mfjax.errors import InputError

PARTS = ".*.part"  # what is being written, the star its name
RUN_IDENTITY = "about"  # the array that holds, as JSON, what a file is a checkpoint of
DIGEST_BYTES = hashlib.sha256().digest_size

Arrays = dict[str, np.ndarray]


class Damaged(Exception):
    """A file that is not what was written."""


class Saved(NamedTuple):
    """The content of a checkpoint: its arrays, and what identifies the run that it is of."""

    arrays: Arrays
    run_identity: dict[str, Any]


def write(path: Path, saved: Saved) -> None:
    """Write a checkpoint to a new file."""
    run_identity = json.dumps(saved.run_identity).encode()
    arrays = {**saved.arrays, RUN_IDENTITY: np.frombuffer(run_identity, np.uint8)}
    with path.open("w+b") as file:
        file.write(bytes(DIGEST_BYTES))
        np.savez(file, **arrays)
        file.seek(DIGEST_BYTES)
        digest = hashlib.file_digest(file, "sha256").digest()
        file.seek(0)
        file.write(digest)


def read(path: Path) -> Saved:
    """A checkpoint, as it was written. Raises Damaged where it is not, or is not there."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Damaged(path) from error
    digest = hashlib.sha256(memoryview(content)[DIGEST_BYTES:]).digest()
    if digest != content[:DIGEST_BYTES]:
        raise Damaged(path)
    stream = io.BytesIO(content)
    stream.seek(DIGEST_BYTES)
    with np.load(stream) as file:
        arrays = dict(file)
    run_identity = json.loads(arrays.pop(RUN_IDENTITY).tobytes())
    return Saved(arrays, run_identity)


@contextmanager
def taking_its_place(path: Path) -> Iterator[Path]:
    """A name to write to beside `path`, whose place it takes at the end, flushed to the disk.

    Removed where the writing fails.
    """
    part = path.with_name(PARTS.replace("*", path.name))
    try:
        yield part
        _flush(part)
        part.replace(path)
        _flush(path.parent)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _flush(path: Path) -> None:
    """Flush a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_json(path: Path) -> dict[str, Any]:
    """The object of a JSON file that a run wrote.

    Raises InputError where it is damaged, and OSError where it cannot be read.
    """
    try:
        content = json.loads(path.read_bytes())
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise InputError(
            f"{path} is damaged: no JSON object as a run writes it\n"
            "overwrite=true runs anew in its folder; or choose another"
        )
    return content
