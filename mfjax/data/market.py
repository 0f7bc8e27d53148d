"""Matrix Market: the entries of a matrix as text, a line each; rows are users, columns items."""

import io

from mfjax.data.arrays import refuse_columns
from mfjax.data.columns import Columns, Wanted
from mfjax.data.files import Content
from mfjax.data.messages import quoted
from mfjax.data.table import Table
from mfjax.data.text import text_table
from mfjax.errors import InputError

BANNER = b"%%MatrixMarket"
FIELDS = ("real", "integer", "double", "unsigned-integer")


def market_table(content: Content, wanted: Wanted) -> Table:
    """The entries of a sparse matrix without symmetry, numbered from 1 as the file has them.

    Args:
      content: text that begins with BANNER.
      wanted: no columns, of which there are none.

    Raises:
      InputError: it is another kind of matrix, or it has not the entries that it says it has.
    """
    refuse_columns(content.path, wanted, "a sparse matrix")
    lines = io.BytesIO(content.data)
    _check_kind(content.path, lines.readline())
    head = 1
    line = b"%"
    while line.startswith(b"%"):
        line = lines.readline()
        head += 1
    size = [int(field) for field in line.split() if field.isdigit() and len(field) < 19]
    if len(size) != 3 or len(line.split()) != 3:
        raise InputError(
            f"{content.path}, line {head}: expected the numbers of rows, columns and entries, "
            f"got {quoted(line.decode(errors='replace').strip())}"
        )
    rest = content._replace(data=content.data[lines.tell() :])
    by_position = Wanted([0, 1, 2], header=False)
    table = text_table(rest, by_position, separator=" ", encoding=None, skipped=head)
    return _checked(table, size, head)


def _check_kind(path: str, banner: bytes) -> None:
    words = banner.decode(errors="replace").lower().split()[1:]
    if words[:2] == ["matrix", "coordinate"] and words[3:] == ["general"] and words[2] in FIELDS:
        return
    raise InputError(
        f"{path}: a Matrix Market file of {quoted(' '.join(words))}\n"
        "`matrix coordinate real general` is read: a rating an entry, rows and columns apart"
    )


def _checked(table: Table, size: list[int], head: int) -> Table:
    """The same with entries inside the matrix, as many as it has."""
    import polars as pl

    rows, columns, entries = size
    ids = table.frame.select(pl.col("user", "item").cast(pl.Int64, strict=False))
    inside = ids["user"].is_between(1, rows) & ids["item"].is_between(1, columns)
    outside = (~inside.fill_null(False)).arg_true()
    if len(outside):
        raise InputError(
            f"{table.path}, {table.place(outside[0])}: no entry of a matrix of {rows:,} rows and "
            f"{columns:,} columns"
        )
    if len(ids) != entries:
        raise InputError(
            f"{table.path}: {len(ids):,} entries, where line {head} says {entries:,}\n"
            "fetch or write the file again"
        )
    at = {"user": 0, "item": 1, "rating": 2}
    why = "its rows are users, its columns items"
    named = Columns(at, ["row", "column", "entry"], False, why)
    return Table(table.path, table.frame.with_columns(ids), named, table.place, table.notes)
