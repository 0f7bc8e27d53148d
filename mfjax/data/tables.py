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
SPARE_SEPARATORS = "\x1f\x1e\x1d\x1c"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
LONGEST_QUOTE = 40  # characters


@dataclass(frozen=True)
class FileTable:
    """Columns user, item and rating as the file has them.

    `place(i)` is what a message calls row i, such as "line 17".
    """

    frame: "pl.DataFrame"
    place: Callable[[int], str]


def quoted(value: object) -> str:
    """A value from a file as a message shows it: quoted, and no longer than 40 characters."""
    text = str(value)
    if len(text) > LONGEST_QUOTE:
        text = text[: LONGEST_QUOTE - 3] + "..."
    return repr(text)


def parquet_table(path: str, data: bytes, columns: list) -> FileTable:
    """The table of a Parquet file's bytes, all numbers or strings; `place` counts rows from 1.

    Args:
      path: what messages call the file.
      data: its bytes.
      columns: the user, item and rating columns, each a name or a position from 0.

    Raises:
      InputError: the bytes are no such table, or a column is not there.
    """
    import polars as pl
    import polars.selectors as cs

    try:
        names = list(pl.read_parquet_schema(io.BytesIO(data)))
        chosen = [names[i] for i in _positions(path, names, columns)]
        raw = pl.read_parquet(io.BytesIO(data), columns=chosen).select(chosen)
        frame = raw.with_columns((~cs.numeric()).cast(pl.String))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise InputError(
            f"{path}: cannot be read as Parquet ({_reason(error)})\nfetch or write the file again"
        ) from error
    frame.columns = NAMES
    return FileTable(frame, lambda row: f"row {row + 1}")


def text_table(
    path: str, data: bytes, columns: list, separator: str | None, header: bool | None
) -> FileTable:
    """The table of a text file's bytes, all strings, None where a field is missing.

    `place` counts lines from 1.

    Args:
      path: what messages call the file.
      data: its bytes, unzipped.
      columns, separator, header: as `mfjax.data.read` takes them.

    Raises:
      InputError: the bytes are no such table, a column is not there, or a row ends before it.
    """
    import polars as pl

    text = _text(path, data, separator)
    try:
        first = _fields(text, _first_record(text))
        positions = _positions(f"{path}, line 1", first, columns)
        skipped = int(_has_header(path, columns, first[positions[2]], header))
        rows = _scan(text, text.data, len(first)).select(pl.nth(positions)).collect()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise InputError(
            f"{path}: not a table ({_reason(error)})\nexpected one rating a line"
        ) from error
    frame = rows.slice(skipped)
    frame.columns = NAMES
    gap = _first_gap(frame)
    if gap is not None:
        _check_width(path, text, gap + skipped, max(positions) + 1)
    return FileTable(frame, lambda row: f"line {_record(text, row + skipped)[0]}")


def _reason(error: BaseException) -> str:
    """The first line of an error's message, or the error's name where it has none."""
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0][:100]


# which columns


def _positions(place: str, names: list[str], columns: list) -> list[int]:
    """The positions of the user, item and rating columns among those there are."""
    positions = [names.index(column) if column in names else column for column in columns]
    for position in positions:
        if position not in range(len(names)):
            raise InputError(_no_column(place, names, position))
    if len(set(positions)) != 3 or len(positions) != 3:
        raise InputError(
            f"columns: expected three different columns (user, item, rating), got {list(columns)}"
        )
    return positions


def _no_column(place: str, names: list[str], column: int | str) -> str:
    """The message about a column that is not there."""
    there = ", ".join(map(quoted, names[:8]))
    more = ", ..." if len(names) > 8 else ""
    return (
        f"{place}: no column {column!r}\n"
        f"there are {len(names)} columns: {there}{more}\n"
        "set data.columns=[user, item, rating] to names, or positions "
        f"0 to {len(names) - 1}; or set data.separator=..."
    )


def _has_header(path: str, columns: list, rating: str, header: bool | None) -> bool:
    """Whether the first line is a header.

    As told; or if columns are named; or if its rating is some other text than a number.
    """
    named = any(isinstance(column, str) for column in columns)
    if named and header is False:
        raise InputError(
            f"{path}: header=False, yet columns={list(columns)} are names\n"
            "give positions, or header=True"
        )
    if named:
        return True
    if header is not None:
        return header
    return bool(rating) and not _is_number(rating)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


# the encoding, the separator and the quotes


@dataclass(frozen=True)
class _Text:
    """A text file's bytes, and how they are cut into fields."""

    data: bytes  # UTF-8 without a byte order mark, and without empty lines at its end
    separator: str  # one byte
    quote: str | None  # '"' if every quote in the data opens or closes a field; None: all are text


def _text(path: str, data: bytes, separator: str | None) -> _Text:
    """Checks the encoding and settles the separator and the quotes."""
    data = data.removeprefix(BYTE_ORDER_MARK).rstrip(b" \r\n")
    if not data:
        raise InputError(f"{path}: empty file\nexpected one rating a line")
    _check_encoding(path, data)
    first_line = io.BytesIO(data).readline().rstrip(b"\n").decode()
    separator = _separator(path, first_line, separator)
    if len(separator.encode()) > 1:  # Polars wants one byte, so take one that is not in the data
        spare = next(byte for byte in SPARE_SEPARATORS if byte.encode() not in data)
        data = data.replace(separator.encode(), spare.encode())
        separator = spare
    quote = '"' if _is_well_quoted(data, separator) else None
    return _Text(data, separator, quote)


def _check_encoding(path: str, data: bytes) -> None:
    if data.isascii():
        return
    try:
        data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        byte = data[error.start]
        raise InputError(
            f"{path}, line {line}: not UTF-8 (byte 0x{byte:02x})\n"
            "convert it: iconv -f latin1 -t utf-8 FILE"
        ) from error


def _separator(path: str, line: str, separator: str | None) -> str:
    """The separator asked for, or one that the first line has."""
    if "\r" in line.rstrip("\r"):
        raise InputError(
            f"{path}, line 1: a carriage return inside the line\nend lines with LF or CRLF"
        )
    if separator is None:
        return _separator_in(path, line)
    if separator == r"\t":
        return "\t"
    if not 1 <= len(separator) <= 2 or set(separator) & set('"\r\n'):
        raise InputError(
            f"separator: expected one or two characters, no quote or line break, got {separator!r}"
        )
    return separator


def _separator_in(path: str, line: str) -> str:
    """The first of SEPARATORS in a line, outside quotes."""
    unquoted = "".join(line.split('"')[::2])
    for separator in SEPARATORS:
        if separator in unquoted:
            return separator
    known = ", ".join(map(repr, SEPARATORS))
    raise InputError(
        f"{path}, line 1: expected a separator ({known}), got {quoted(line)}\n"
        "set data.separator=..."
    )


def _is_well_quoted(data: bytes, separator: str) -> bool:
    """Whether each quote opens or closes a field or is doubled (RFC 4180).

    None is plain text then, as in 5" disc.
    """
    if b'"' not in data:
        return True
    text = np.frombuffer(b"\n" + data + b"\n", np.uint8)
    quotes = np.flatnonzero(text == ord('"'))
    if len(quotes) % 2:
        return False
    before_opening = text[quotes[::2] - 1]
    after_closing = text[quotes[1::2] + 1]
    border = np.frombuffer(separator.encode() + b'\r\n"', np.uint8)
    return bool(np.isin(before_opening, border).all() and np.isin(after_closing, border).all())


# records and their fields


def _scan(text: _Text, data: bytes, width: int | None = None) -> "pl.LazyFrame":
    """Stripped fields, column by column.

    Fields beyond `width` are dropped, and fields short of it are null.
    """
    import polars as pl

    schema = pl.Schema({f"column_{i}": pl.String for i in range(width)}) if width else None
    scan = pl.scan_csv(
        data,
        has_header=False,
        separator=text.separator,
        quote_char=text.quote,
        schema=schema,
        infer_schema=False,
        truncate_ragged_lines=True,
    )
    blanks = None if text.quote else ' \t\r"'
    return scan.with_columns(pl.all().str.strip_chars(blanks))


def _fields(text: _Text, record: bytes) -> list[str]:
    if not record.strip(b"\r"):
        return []
    return [field or "" for field in _scan(text, record).collect().row(0)]


def _first_record(text: _Text) -> bytes:
    """The text of `_record(text, 0)`, without a look at the rest of a large file."""
    lines = io.BytesIO(text.data)
    record = lines.readline()
    while text.quote and record.count(b'"') % 2:
        record += lines.readline()
    return record.rstrip(b"\r\n")


def _record(text: _Text, index: int) -> tuple[int, bytes]:
    """The line (from 1) on which a record starts, and its text.

    A quoted field may hold line breaks.
    """
    characters = np.frombuffer(text.data + b"\n", np.uint8)
    breaks = np.flatnonzero(characters == ord("\n"))
    ends = breaks
    if text.quote:
        quotes = np.flatnonzero(characters == ord('"'))
        is_inside = np.searchsorted(quotes, breaks) % 2
        ends = breaks[is_inside == 0]
    start = ends[index - 1] + 1 if index else 0
    line = int(np.searchsorted(breaks, start)) + 1
    return line, text.data[start : ends[index]]


def _first_gap(frame: "pl.DataFrame") -> int | None:
    """The first row in which a field is missing."""
    import polars as pl

    gaps = frame.select(pl.any_horizontal(pl.all().is_null())).to_series().arg_true()
    return gaps[0] if len(gaps) else None


def _check_width(path: str, text: _Text, index: int, need: int) -> None:
    """Refuses a record that ends too early."""
    line, record = _record(text, index)
    width = len(_fields(text, record))
    if width < need:
        raise InputError(
            f"{path}, line {line}: too few fields: expected at least {need}, got {width}\n"
            "complete or delete the line, or set data.separator=..."
        )
