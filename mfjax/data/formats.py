"""Files that are no tables of text: Parquet, Arrow, NumPy, SciPy, MATLAB; and JSON lines."""

import io
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from mfjax.data.arrays import of_array, of_arrays, of_matrix
from mfjax.data.columns import Wanted
from mfjax.data.files import PIECE, Content, check_room, is_npz
from mfjax.data.market import BANNER, market_table
from mfjax.data.messages import listed, reason_of
from mfjax.data.table import Table, of_frame
from mfjax.errors import InputError

if TYPE_CHECKING:
    import polars as pl

COMPRESSED = 15  # the kind of a variable of MATLAB that is packed by zlib
CELL = 8  # bytes of memory, at least, that a rating takes in a column


def reader_of(content: Content) -> Callable[[Content, Wanted], Table] | None:
    """What reads a file, by its first bytes; None where it is a table of text."""
    for start, reader in READERS.items():
        if content.data.startswith(start):
            return reader
    if is_npz(content.data):
        return _npz
    endings = {".parquet": _parquet, ".jsonl": _json_lines, ".ndjson": _json_lines}
    if content.data.lstrip()[:1] == b"{":
        return _json_lines
    return endings.get(PurePosixPath(content.name).suffix)


def parsed(content: Content, what: str, parse: Callable[[io.BytesIO], Any]) -> Any:
    """What a parser makes of a file.

    Raises:
      InputError: it raised, whatever that was.
    """
    try:
        return parse(io.BytesIO(content.data))
    except InputError:
        raise
    except Exception as error:  # whatever damage makes a parser do
        raise InputError(
            f"{content.path}: cannot be read as {what} ({reason_of(error)})\n"
            "fetch or write the file again"
        ) from error


# by Polars


def _parquet(content: Content, wanted: Wanted) -> Table:
    import polars as pl

    return _by_polars(
        content, "Parquet", lambda file: _counted(content, pl.scan_parquet(file), wanted)
    )


def _arrow(content: Content, wanted: Wanted) -> Table:
    import polars as pl

    return _by_polars(content, "Arrow", lambda file: _counted(content, pl.scan_ipc(file), wanted))


def _counted(content: Content, frame: "pl.LazyFrame", wanted: Wanted) -> Table:
    """The table of a frame that is not read yet, refused where its rows do not fit."""
    import polars as pl

    rows = frame.select(pl.len()).collect().item()
    check_room(content.path, CELL * 3 * rows)
    return of_frame(content.path, frame, wanted)


def _json_lines(content: Content, wanted: Wanted) -> Table:
    import polars as pl

    def parse(file: io.BytesIO) -> Table:
        frame = pl.scan_ndjson(file, infer_schema_length=None)  # 3.5 may come after many a 3
        return of_frame(content.path, frame, wanted)

    return _by_polars(content, "JSON lines", parse)


def _by_polars(content: Content, what: str, parse: Callable[[io.BytesIO], Table]) -> Table:
    import polars as pl

    try:
        with _quietly():
            return parsed(content, what, parse)
    except pl.exceptions.PanicException as error:  # no Exception, but what damage makes it do
        raise InputError(
            f"{content.path}: cannot be read as {what} ({reason_of(error)})\n"
            "fetch or write the file again"
        ) from error


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the trace that a panic of Polars writes, of which a message is made."""
    try:
        terminal = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)


# by NumPy and SciPy


def _npy(content: Content, wanted: Wanted) -> Table:
    array = parsed(content, "NumPy", lambda file: np.load(file, allow_pickle=False))
    return of_array(content.path, array, wanted)


def _npz(content: Content, wanted: Wanted) -> Table:
    from scipy import sparse

    def parse(file: io.BytesIO) -> Any:
        with np.load(file, allow_pickle=False) as archive:
            check_room(content.path, sum(info.file_size for info in archive.zip.infolist()))
            arrays = dict(archive)
        if "format" not in arrays:
            return arrays
        return sparse.load_npz(io.BytesIO(content.data))

    loaded = parsed(content, "NumPy", parse)
    read = of_matrix if sparse.issparse(loaded) else of_arrays
    return read(content.path, loaded, wanted)


def matlab(content: Content, wanted: Wanted) -> Table:
    """The one variable of a MATLAB file, or the one asked for.

    Raises:
      InputError: there are several, or none of that name; or it is no table of ratings.
    """
    from scipy import io as scipy_io
    from scipy import sparse

    def parse(file: io.BytesIO) -> Any:
        _check_unpacked(content)
        return scipy_io.loadmat(file)

    loaded = parsed(content, "MATLAB", parse)
    values = {name: value for name, value in loaded.items() if not name.startswith("__")}
    asked = content.member or next(iter(values), None)
    if asked not in values or (content.member is None and len(values) > 1):
        there = listed([f"{name} {np.shape(value)}" for name, value in values.items()])
        raise InputError(
            f"{content.path}: {len(values)} variables: {there}\nsay which: data.member=NAME"
        )
    value = values[asked]
    read = of_matrix if sparse.issparse(value) else of_array
    return read(content.path, value, wanted)


def _check_unpacked(content: Content) -> None:
    """Refuses a MATLAB file whose variables unpack to more than there is room for."""
    order = "<" if content.data[126:128] == b"IM" else ">"
    at, size = 128, 0
    while at + 8 <= len(content.data):
        kind, length = struct.unpack_from(f"{order}II", content.data, at)
        packed = content.data[at + 8 : at + 8 + length] if kind == COMPRESSED else b""
        unpacker = zlib.decompressobj()
        while packed:
            size += len(unpacker.decompress(packed, PIECE))
            check_room(content.path, size)
            packed = unpacker.unconsumed_tail
        at += 8 + length


READERS = {
    b"PAR1": _parquet,
    b"ARROW1": _arrow,
    b"\x93NUMPY": _npy,
    b"MATLAB 5.0": matlab,
    BANNER: market_table,
}
