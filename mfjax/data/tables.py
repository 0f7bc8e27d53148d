"""Text and Parquet bytes -> a table of three columns, and the place of each row in its file."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mfjax.errors import InputError

if TYPE_CHECKING:
    import polars as pl

NAMES = ["user", "item", "rating"]
SEPARATORS = ("::", "\t", ",", ";", "|")


@dataclass(frozen=True)
class Table:
    """Columns user, item and rating as the file has them, and what a message calls row i ("line 17")."""

    frame: "pl.DataFrame"
    place: Callable[[int], str]


def show(value: object) -> str:
    """A value from a file as a message shows it: quoted, and no longer than 40 characters."""
    text = str(value)
    return repr(text if len(text) <= 40 else text[:37] + "...")


def parquet_table(path: str, data: bytes, columns: list) -> Table:
    """The table of a Parquet file's bytes, all numbers or strings; `place` counts rows from 1."""
    import polars as pl
    import polars.selectors as cs

    try:
        names = list(pl.read_parquet_schema(io.BytesIO(data)))
        chosen = [names[i] for i in _positions(path, names, columns)]
        frame = pl.read_parquet(io.BytesIO(data), columns=chosen).select(chosen).with_columns((~cs.numeric()).cast(pl.String))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise InputError(f"{path}: cannot be read as Parquet ({_reason(error)})\nfetch or write the file again") from error
    frame.columns = NAMES
    return Table(frame, lambda row: f"row {row + 1}")


def text_table(path: str, data: bytes, columns: list, separator: str | None, header: bool | None) -> Table:
    """The table of a text file's bytes, all strings, None where a field is missing; `place` counts lines from 1."""
    import polars as pl

    text = _text(path, data, separator)
    try:
        first = _fields(text, _first_record(text))
        positions = _positions(f"{path}, line 1", first, columns)
        header = _has_header(path, columns, first[positions[2]], header)
        frame = _scan(text, text.data, len(first)).select(pl.nth(positions)).collect().slice(int(header))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise InputError(f"{path}: not a table ({_reason(error)})\nexpected one rating a line") from error
    frame.columns = NAMES
    table = Table(frame, lambda row: f"line {_record(text, row + header)[0]}")
    _check_width(path, text, table, header, max(positions) + 1)
    return table


@dataclass(frozen=True)
class _Text:
    data: bytes  # UTF-8 without a byte order mark, and without empty lines at its end
    separator: str  # one byte
    quote: str | None  # '"' if every quote in the data opens or closes a field; None if they are ordinary characters


def _text(path: str, data: bytes, separator: str | None) -> _Text:
    """Checks the encoding and settles the separator and the quotes."""
    data = data.removeprefix(b"\xef\xbb\xbf").rstrip(b" \r\n")
    if not data:
        raise InputError(f"{path}: empty file\nexpected one rating a line")
    try:
        if not data.isascii():
            data.decode()
    except UnicodeDecodeError as error:
        line, byte = data.count(b"\n", 0, error.start) + 1, data[error.start]
        raise InputError(
            f"{path}, line {line}: not UTF-8 (byte 0x{byte:02x})\nconvert it: iconv -f latin1 -t utf-8 FILE"
        ) from error
    separator = _separator(path, _first_line(data).decode(), separator)
    if len(separator.encode()) > 1:  # Polars wants one byte, so take one that is not in the data
        byte = next(byte for byte in "\x1f\x1e\x1d\x1c" if byte.encode() not in data)
        data, separator = data.replace(separator.encode(), byte.encode()), byte
    return _Text(data, separator, '"' if _well_quoted(data, separator) else None)


def _separator(path: str, line: str, separator: str | None) -> str:
    """The separator asked for, or the first of SEPARATORS in the first line, outside quotes."""
    separator = "\t" if separator == r"\t" else separator
    unquoted = "".join(line.split('"')[::2])
    if "\r" in line.rstrip("\r"):
        raise InputError(f"{path}, line 1: a carriage return inside the line\nend lines with LF or CRLF")
    if separator is None:
        separator = next((s for s in SEPARATORS if s in unquoted), None)
    if separator is None:
        known = ", ".join(map(repr, SEPARATORS))
        raise InputError(f"{path}, line 1: expected a separator ({known}), got {show(line)}\nset data.separator=...")
    if not 1 <= len(separator) <= 2 or set(separator) & set('"\r\n'):
        raise InputError(f"separator: expected one or two characters, no quote or line break, got {separator!r}")
    return separator


def _first_line(data: bytes) -> bytes:
    return io.BytesIO(data).readline().rstrip(b"\n")


def _well_quoted(data: bytes, separator: str) -> bool:
    """Whether each quote opens or closes a field or is doubled (RFC 4180): none is plain text, as in 5" disc."""
    if b'"' not in data:
        return True
    text = np.frombuffer(b"\n" + data + b"\n", np.uint8)
    quotes = np.flatnonzero(text == ord('"'))
    border = np.frombuffer(separator.encode() + b'\r\n"', np.uint8)
    opens, closes = text[quotes[::2] - 1], text[quotes[1::2] + 1]
    return len(opens) == len(closes) and bool(np.isin(opens, border).all() and np.isin(closes, border).all())


def _scan(text: _Text, data: bytes, width: int | None = None) -> "pl.LazyFrame":
    """Stripped fields, column by column; fields beyond `width` are dropped and fields short of it are null."""
    import polars as pl

    scan = pl.scan_csv(
        data,
        has_header=False,
        separator=text.separator,
        quote_char=text.quote,
        schema=pl.Schema({f"column_{i}": pl.String for i in range(width)}) if width else None,
        infer_schema=False,
        truncate_ragged_lines=True,
    )
    return scan.with_columns(pl.all().str.strip_chars(None if text.quote else ' \t\r"'))


def _fields(text: _Text, line: bytes) -> list[str]:
    return [field or "" for field in _scan(text, line).collect().row(0)] if line.strip(b"\r") else []


def _first_record(text: _Text) -> bytes:
    """`_record(text, 0)` without a look at the rest of a large file."""
    lines = io.BytesIO(text.data)
    record = lines.readline()
    while text.quote and record.count(b'"') % 2:
        record += lines.readline()
    return record.rstrip(b"\r\n")


def _record(text: _Text, index: int) -> tuple[int, bytes]:
    """The line (from 1) on which a record starts, and its text; a quoted field may hold line breaks."""
    characters = np.frombuffer(text.data + b"\n", np.uint8)
    breaks = np.flatnonzero(characters == ord("\n"))
    ends = breaks
    if text.quote:
        inside = np.searchsorted(np.flatnonzero(characters == ord('"')), breaks) % 2
        ends = breaks[inside == 0]
    start = ends[index - 1] + 1 if index else 0
    return int(np.searchsorted(breaks, start)) + 1, text.data[start : ends[index]]


def _positions(place: str, names: list[str], columns: list) -> list[int]:
    """The positions of the user, item and rating columns among those there are."""
    positions = [names.index(c) if c in names else c for c in columns]
    for c in positions:
        if c not in range(len(names)):
            there = ", ".join(map(show, names[:8])) + (", ..." if len(names) > 8 else "")
            raise InputError(
                f"{place}: no column {c!r}\nthere are {len(names)} columns: {there}\n"
                f"set data.columns=[user, item, rating] to names, or positions 0 to {len(names) - 1}; or set data.separator=..."
            )
    if len(set(positions)) != 3 or len(positions) != 3:
        raise InputError(f"columns: expected three different columns (user, item, rating), got {list(columns)}")
    return positions


def _has_header(path: str, columns: list, rating: str, header: bool | None) -> bool:
    """Whether the first line is a header: as told; or if columns are named; or if its rating is some other text."""
    named = any(isinstance(c, str) for c in columns)
    if named and header is False:
        raise InputError(f"{path}: header=False, yet columns={list(columns)} are names\ngive positions, or header=True")
    return named or (bool(rating) and not _is_number(rating) if header is None else header)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _check_width(path: str, text: _Text, table: Table, header: bool, need: int) -> None:
    """Refuses the first row with a gap if that is because the row ends too early."""
    import polars as pl

    gaps = table.frame.select(pl.any_horizontal(pl.all().is_null())).to_series().arg_true()
    if not len(gaps):
        return
    line, record = _record(text, gaps[0] + header)
    if (width := len(_fields(text, record))) < need:
        raise InputError(
            f"{path}, line {line}: too few fields: expected at least {need}, got {width}\n"
            "complete or delete the line, or set data.separator=..."
        )


def _reason(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:100]
