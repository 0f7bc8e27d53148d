"""Text -> a table of strings, and the line of each of its rows."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int

from mfjax.data.columns import Columns, Wanted, is_number, of_text, roles
from mfjax.data.files import Content
from mfjax.data.messages import quoted, reason_of
from mfjax.data.table import Table
from mfjax.errors import InputError

if TYPE_CHECKING:
    import polars as pl

SEPARATORS = ("::", "\t", ",", ";", "|")
BLANKS = "blanks"  # runs of blanks and tabs
LONGEST_FIELD = 1000  # lines of a quoted field
SPARE = "\x1f"  # a separator of our own, in files that have none of it
MARKS = {  # byte order marks, longest first
    b"\xff\xfe\x00\x00": "utf-32",
    b"\x00\x00\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
    b"\xef\xbb\xbf": "utf-8",
}


@dataclass(frozen=True)
class Text:
    """A text file's bytes, and how they are cut into fields.

    Args:
      path: what messages call the file.
      data: UTF-8 without a byte order mark, comments, and empty lines at its end.
      separator: one byte.
      quote: '"' where quotes open and close fields (RFC 4180); None: there are none, or fields
        are cut at SPARE, and quotes are text.
      skipped: lines of the file before `data`.
      is_full: whether each record must have as many fields as the first: no field can be empty.
      notes: what was done to get here, in words.
    """

    path: str
    data: bytes
    separator: str = ","
    quote: str | None = None
    skipped: int = 0
    is_full: bool = False
    notes: tuple[str, ...] = field(default=())

    def noting(self, note: str, **changes) -> "Text":
        """The same with a note and changes."""
        return replace(self, notes=(*self.notes, note), **changes)


def text_table(
    content: Content,
    wanted: Wanted,
    separator: str | None,
    encoding: str | None,
    skipped: int = 0,
) -> Table:
    """The table of a text file, all strings, None where a field is missing.

    Args:
      content: the file.
      wanted: the columns to read.
      separator, encoding: as `mfjax.data.read` takes them.
      skipped: lines of the file before `content`.

    Raises:
      InputError: the bytes are no table, a column is not there, or a row has too few fields or too
        many.
    """
    text = opened(content, separator, encoding, skipped)
    first, second = first_records(text)
    columns = of_text(f"{content.path}, line {1 + text.skipped}", first, second, wanted)
    unasked = {"timestamp"} if wanted.timestamp is None else set()
    need = 1 + max(at for key, at in columns.at.items() if key not in unasked)
    return _table(text, columns, len(first), need)


def _table(text: Text, columns: Columns, width: int, need: int) -> Table:
    """The table of columns; each record has the first `need` of its `width` fields."""
    frame = _read(text, width, list(columns.at.values())).slice(int(columns.header))
    if text.is_full:
        _check_full(text, width)
    frame.columns = list(columns.at)
    _check_gaps(text, frame, columns, need)
    return Table(
        path=text.path,
        frame=frame,
        columns=columns,
        place=lambda row: f"line {line_of(text, row + columns.header)}",
        notes=text.notes,
        separator=text.separator,
    )


def opened(content: Content, separator: str | None, encoding: str | None, skipped: int = 0) -> Text:
    """Text in UTF-8 whose separator and quotes are settled."""
    text = replace(_decoded(content, encoding), skipped=skipped)
    text, named = _without_head(text)
    _refuse_other_kinds(text)
    return _with_quotes(_separated(text, named if separator is None else separator))


def first_records(text: Text) -> tuple[list[str], list[str] | None]:
    """The fields of the first record, and of the second where there is one."""
    lines = io.BytesIO(text.data)
    records = [_fields(text, _next_record(text, lines)) for _ in range(2)]
    return records[0], records[1] or None


def all_fields(text: Text, width: int) -> "pl.DataFrame":
    """Every field of every record, a column each; refuses a record with fewer."""
    frame = _read(text, width, list(range(width)))
    _check_full(text, width)
    return frame


def line_of(text: Text, record: int) -> int:
    """The line of the file, from 1, on which a record begins."""
    return _record(text, record)[0]


# the encoding


def _decoded(content: Content, encoding: str | None) -> Text:
    data = content.data
    mark = next((mark for mark in MARKS if data.startswith(mark)), b"")
    encoding = MARKS.get(mark, "utf-8") if encoding is None else encoding
    text = Text(content.path, data)
    try:
        if encoding != "utf-8":
            data = data.decode(encoding).removeprefix("\ufeff").encode()
            text = text.noting(f"read as {encoding}")
        elif not data.isascii():
            data.decode()
            data = data.removeprefix(b"\xef\xbb\xbf")
    except UnicodeDecodeError as error:
        raise InputError(_not_text(content, error, encoding)) from error
    except (LookupError, ValueError) as error:
        raise InputError(f"data.encoding: no encoding {quoted(encoding)}") from error
    if b"\0" in data:
        raise InputError(
            f"{content.path}, line {_line_at(data, data.index(0))}: a NUL byte: this is no text, "
            "or UTF-16 without its mark\nset data.encoding=utf-16-le, or write it as CSV"
        )
    return replace(text, data=_some(content.path, data.rstrip(b" \r\n")))


def _some(path: str, data: bytes) -> bytes:
    """The same, refused where there is nothing."""
    if not data:
        raise InputError(f"{path}: empty file\nexpected one rating a line")
    return data


def _not_text(content: Content, error: UnicodeDecodeError, encoding: str) -> str:
    line = _line_at(content.data, error.start)
    byte = content.data[error.start]
    return (
        f"{content.path}, line {line}: not {encoding.upper()} (byte 0x{byte:02x})\n"
        "say how it was written: data.encoding=latin-1, cp1252, ..."
    )


def _first_line(data: bytes) -> bytes:
    return io.BytesIO(data).readline().removesuffix(b"\n")  # and no copy of the rest


def _line_at(data: bytes, position: int) -> int:
    return data.count(b"\n", 0, position) + 1


# what stands before the ratings


def _without_head(text: Text) -> tuple[Text, str | None]:
    """Without Excel's `sep=;` and comment lines at the beginning; the separator so named."""
    head = _first_line(text.data)
    named = re.fullmatch(rb"sep=([^\r\"])\r?", head)
    if named:
        separator = named[1].decode()
        note = f"line 1 names the separator ({quoted(separator)})"
        return _after(text, len(head) + 1, note, 1), separator
    lines = io.BytesIO(text.data)
    comments = []
    while (line := lines.readline()).startswith((b"#", b"%")):
        comments.append(line)
    if not comments or not line:
        return text, None
    while comments and not _are_names(line) and _is_row(comments[-1], line):
        line = comments.pop()
    start = sum(map(len, comments))
    if line.startswith((b"#", b"%")) and _are_names(line):
        text = replace(text, data=text.data[:start] + text.data[start:].lstrip(b"#% "))
    _refuse_ratings(text, comments, text.data[start:])
    count = len(comments)
    note = f"{count} comment line{'s' * (count > 1)} at the beginning skipped"
    return (_after(text, start, note, count) if count else text), None


def _after(text: Text, start: int, note: str, lines: int) -> Text:
    """Without the first lines, which are noted."""
    data = _some(text.path, text.data[start:])
    return text.noting(note, data=data, skipped=text.skipped + lines)


def _is_row(comment: bytes, line: bytes) -> bool:
    """Whether a comment line has as many fields as the line after it: names, or a rating."""
    plain = comment.lstrip(b"#% ") if _are_names(comment) else comment
    return len(_rough(plain, line)) == len(_rough(line, line)) > 2


def _rough(line: bytes, like: bytes) -> list[str]:
    """The fields of a line at the separator of another, quotes apart."""
    separator = next((one for one in SEPARATORS if one.encode() in like), None)
    return [one.strip() for one in line.decode().split(separator)]


def _are_names(line: bytes) -> bool:
    """Whether a line names two columns, with a mark of comments before them or not."""
    called = roles(re.split(r"::|[\t,;| ]", line.decode().lstrip("#% ").strip()))
    return sum(bool(columns) for columns in called.values()) > 1


def _refuse_ratings(text: Text, comments: list[bytes], rest: bytes) -> None:
    """Refuses a comment line with numbers where the first rating of the rest has them."""
    lines = io.BytesIO(rest)
    line = next((one for one in islice(lines, 2) if not _are_names(one)), b"")
    numbers = np.flatnonzero([is_number(field) for field in _rough(line, line)])
    for index, comment in enumerate(comments):
        fields = [field.lstrip("#% ") for field in _rough(comment, line)]
        if len(numbers) and _is_row(comment, line) and all(is_number(fields[at]) for at in numbers):
            raise InputError(
                f"{text.path}, line {index + 1 + text.skipped}: a comment, or a rating? "
                f"{quoted(comment.decode().strip())}\ndelete it, or the comments below it"
            )


def _refuse_other_kinds(text: Text) -> None:
    """Refuses what is text, but no table of ratings."""
    head = text.data[:200].lstrip()
    if re.match(rb"\d+:\r?\n", head):
        raise InputError(
            f"{text.path}: blocks of ratings under their item (`1:`), as Netflix wrote them\n"
            "write the item on every line: item,user,rating"
        )
    if head.startswith((b"[", b"{")):
        raise InputError(f"{text.path}: JSON, but not one object a line\nwrite one rating a line")


# the separator


def _separated(text: Text, separator: str | None) -> Text:
    """With its separator, the one asked for or the one of the first line, as one byte."""
    line = _first_line(text.data).decode()
    place = f"{text.path}, line {1 + text.skipped}"
    if "\r" in line.rstrip("\r"):
        raise InputError(f"{place}: a carriage return inside the line\nend lines with LF or CRLF")
    separator = _separator_in(place, line) if separator is None else _asked(separator)
    if separator == BLANKS or (separator == " " and b'"' not in text.data):
        return _without_runs(text)
    if len(separator.encode()) == 1:
        return replace(text, separator=separator)
    _check_spare(text)
    data = text.data.replace(separator.encode(), SPARE.encode())
    return replace(text, data=data, separator=SPARE)


def _asked(separator: str) -> str:
    if separator == r"\t":
        return "\t"
    if not 1 <= len(separator) <= 2 or set(separator) & set('"\r\n\0'):
        raise InputError(
            "data.separator: expected one or two characters, no quote or line break, "
            f"got {separator!r}"
        )
    return separator


def _separator_in(place: str, line: str) -> str:
    """The first of SEPARATORS in a line, outside quotes; else blanks."""
    unquoted = re.sub('"[^"]*"', "", line)
    for separator in SEPARATORS:
        if separator in unquoted:
            return separator
    if len(unquoted.split()) > 2:
        return BLANKS
    known = ", ".join(map(repr, SEPARATORS))
    raise InputError(
        f"{place}: expected a separator ({known} or blanks), got {quoted(line)}\n"
        "set data.separator=..."
    )


def _without_runs(text: Text) -> Text:
    """Cut at runs of blanks, those at the ends of a line apart."""
    text = text.noting("fields are separated by blanks", is_full=True)
    runs = (b"  ", b"\t", b"\r", b" \n", b"\n ")
    if not text.data.startswith(b" ") and not any(run in text.data for run in runs):
        return replace(text, separator=" ")  # one blank each, as it is
    stripped = re.sub(rb"(?m)^[ \t]+|[ \t\r]+$", b"", text.data)
    data = re.sub(rb"[ \t]+", b"\t", stripped)
    return replace(text, data=data, separator="\t")


def _check_spare(text: Text) -> None:
    if SPARE.encode() in text.data:
        line = _line_at(text.data, text.data.index(SPARE.encode()))
        raise InputError(f"{text.path}, line {line}: a control character (0x1f)\ndelete it")


# quotes


def _with_quotes(text: Text) -> Text:
    """With '"' where every quote opens or closes a field; else cut field by field."""
    if b'"' not in text.data:
        return text
    if _is_well_quoted(text):
        text = replace(text, quote='"')
        _refuse_swallowed(text)
        return text
    if text.separator != SPARE:
        _check_spare(text)
    blanks = " \t".replace(text.separator, "")
    field = re.compile(
        rf'[{blanks}]*"((?:[^"\\]|\\.|"")*)"[{blanks}]*|([^{re.escape(text.separator)}]*)'
    )
    lines = text.data.split(b"\n")
    for number, line in enumerate(lines):
        if b'"' in line:
            fields = _cut(text, line.decode().rstrip("\r"), number, field)
            lines[number] = SPARE.join(fields).encode()
        else:
            lines[number] = line.replace(text.separator.encode(), SPARE.encode())
    return replace(text, data=b"\n".join(lines), separator=SPARE)


def _is_well_quoted(text: Text) -> bool:
    """Whether each quote opens or closes a field or is doubled (RFC 4180)."""
    padded = np.frombuffer(b"\n" + text.data + b"\n", np.uint8)
    quotes = np.flatnonzero(padded == ord('"'))
    if len(quotes) % 2:
        return False
    before_opening = padded[quotes[::2] - 1]
    after_closing = padded[quotes[1::2] + 1]
    is_border = np.zeros(256, bool)
    is_border[list(text.separator.encode() + b'\r\n"')] = True
    return bool(is_border[before_opening].all() and is_border[after_closing].all())


def _refuse_swallowed(text: Text) -> None:
    """Refuses a quoted field that holds whole rows: a quote that nothing closes began it."""
    breaks, inside = _breaks(text)
    within = np.flatnonzero(inside[1:] & inside[:-1]) + 1  # lines that are all inside a field
    width = _first_line(text.data).count(text.separator.encode())
    for index in within[:1000]:
        line = text.data[breaks[index - 1] + 1 : breaks[index]]
        if width and line.count(text.separator.encode()) == width:
            raise InputError(
                f"{text.path}, line {index + 1 + text.skipped}: stands inside a quoted field that "
                "began on a line before\nclose the quote, or double it where it is text"
            )


def _cut(text: Text, line: str, number: int, field: re.Pattern[str]) -> list[str]:
    """The fields of a line, each quoted or not: quotes inside a field are doubled, or \\"."""
    fields = []
    position = 0
    while True:
        match = field.match(line, position)
        assert match is not None
        inner = match[1]
        fields.append(match[2] if inner is None else re.sub(r'""|\\"', '"', inner))
        position = match.end()
        if (match[2] or "").lstrip().startswith('"'):
            break
        if position == len(line):
            return fields
        if line[position] != text.separator:
            break
        position += 1
    raise InputError(
        f"{text.path}, line {number + 1 + text.skipped}: a quote opens a field and does not "
        f"close it: {quoted(line)}\nclose it, or double a quote that is text"
    )


# records and their fields


def _read(text: Text, width: int, positions: Sequence[int]) -> "pl.DataFrame":
    """Stripped fields of some columns; null where a row ends before."""
    import polars as pl

    try:
        frame = _scan(text, text.data, width).select(pl.nth(_with_last(positions, width)))
        return _collected(text, frame).select(pl.nth(range(len(positions))))
    except InputError:
        if not _check_ends(text, width):
            raise
    ragged = _scan(text, text.data, width, ragged=True)
    return _collected(text, ragged.select(pl.nth(positions)))


def _collected(text: Text, frame: "pl.LazyFrame") -> "pl.DataFrame":
    import polars as pl

    try:
        return frame.collect()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise InputError(
            f"{text.path}: not a table ({reason_of(error)})\nexpected one rating a line"
        ) from error


def _with_last(positions: Sequence[int], width: int) -> list[int]:
    """With the last column, for whose sake Polars looks at the end of each row."""
    return [*positions, *({width - 1} - set(positions))]


def _scan(
    text: Text, data: bytes, width: int | None = None, ragged: bool = False
) -> "pl.LazyFrame":
    import polars as pl

    schema = pl.Schema({f"column_{i}": pl.String for i in range(width)}) if width else None
    scan = pl.scan_csv(
        data,
        has_header=False,
        separator=text.separator,
        quote_char=text.quote,
        schema=schema,
        infer_schema=False,
        truncate_ragged_lines=ragged or width is None,
    )
    if text.quote:
        return scan.with_columns(pl.all().str.strip_chars())
    if any(blank in data for blank in {b" ", b"\t", b"\r"} - {text.separator.encode()}):
        return scan.with_columns(pl.all().str.strip_chars(" \t\r"))
    return scan  # nothing to strip, which takes as long as to read


def _check_ends(text: Text, width: int) -> bool:
    """Whether rows have more fields, which are empty; refuses a row with more that are not."""
    widths = _widths(text)
    ends = _ends(text)
    starts = np.append(0, ends[:-1] + 1)
    longer = np.flatnonzero(widths > width)
    blanks = b"\r \t".replace(text.separator.encode(), b"")
    for row in longer:
        record = text.data[starts[row] : ends[row]].rstrip(blanks)
        if widths[row] > width + 1 or not record.endswith(text.separator.encode()):
            raise InputError(_too_many(text, int(row), int(widths[row]), width, record))
    return len(longer) > 0


def _check_full(text: Text, width: int) -> None:
    """Refuses the first record with fewer fields."""
    shorter = np.flatnonzero(_widths(text) < width)
    if len(shorter):
        _check_width(text, int(shorter[0]), width)


def _widths(text: Text) -> Int[np.ndarray, " records"]:
    """The number of fields of each record."""
    ends = _ends(text)
    separators = _outside(text, ord(text.separator))
    before = np.searchsorted(separators, ends)
    return np.diff(before, prepend=0) + 1


def _too_many(text: Text, row: int, count: int, width: int, record: bytes) -> str:
    line = line_of(text, row)
    hint = "a separator inside a field? quote the field"
    if text.separator == ",":
        hint = "a comma inside a field, or a decimal comma? quote the field, or write 4.5"
    return (
        f"{text.path}, line {line}: {count} fields, where the first line has {width}: "
        f"{quoted(record.decode(errors='replace'))}\n{hint}"
    )


def _ends(text: Text) -> Int[np.ndarray, " records"]:
    breaks, inside = _breaks(text)
    return breaks[~inside]


def _breaks(text: Text) -> tuple[Int[np.ndarray, " lines"], np.ndarray]:
    """Where each line ends, and whether that is inside a quoted field."""
    characters = np.frombuffer(text.data + b"\n", np.uint8)
    breaks = np.flatnonzero(characters == ord("\n"))
    return breaks, _is_inside(text, breaks)


def _outside(text: Text, character: int) -> Int[np.ndarray, " found"]:
    places = np.flatnonzero(np.frombuffer(text.data, np.uint8) == character)
    return places[~_is_inside(text, places)]


def _is_inside(text: Text, places: Int[np.ndarray, " n"]) -> np.ndarray:
    if not text.quote:
        return np.zeros(len(places), bool)
    quotes = np.flatnonzero(np.frombuffer(text.data, np.uint8) == ord('"'))
    return np.searchsorted(quotes, places) % 2 == 1


def _fields(text: Text, record: bytes) -> list[str]:
    if not record.strip(b"\r"):
        return []
    return [field or "" for field in _collected(text, _scan(text, record)).row(0)]


def _next_record(text: Text, lines: io.BytesIO) -> bytes:
    record = lines.readline()
    for _ in range(LONGEST_FIELD):
        if not text.quote or record.count(b'"') % 2 == 0:
            return record.rstrip(b"\r\n")
        record += lines.readline()
    raise InputError(
        f"{text.path}: a quoted field of more than {LONGEST_FIELD} lines: {quoted(record.decode())}"
        "\nclose the quote, or double it where it is text"
    )


def _record(text: Text, index: int) -> tuple[int, bytes]:
    """The line (from 1) of the file on which a record starts, and its text."""
    breaks, inside = _breaks(text)
    ends = breaks[~inside]
    start = ends[index - 1] + 1 if index else 0
    line = int(np.searchsorted(breaks, start)) + 1
    return line + text.skipped, text.data[start : ends[index]]


def _check_gaps(text: Text, frame: "pl.DataFrame", columns: Columns, need: int) -> None:
    """Refuses the first record of a table that ends too early, among those without a field."""
    import polars as pl

    gaps = frame.select(pl.any_horizontal(pl.all().is_null())).to_series().arg_true().to_numpy()
    if len(gaps):
        records = gaps.astype(np.int64) + columns.header
        for index in records[_widths(text)[records] < need]:
            _check_width(text, int(index), need)


def _check_width(text: Text, index: int, need: int) -> None:
    """Refuses a record that ends too early."""
    line, record = _record(text, index)
    width = len(_fields(text, record))
    if width < need:
        raise InputError(
            f"{text.path}, line {line}: too few fields: expected at least {need}, got {width}\n"
            "complete or delete the line, or set data.separator=..."
        )
