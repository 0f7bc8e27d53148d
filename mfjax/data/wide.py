"""Tables of users by items, a rating a cell: with names (`pivot`) or without (`dense`)."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mfjax.data.arrays import NUMBERS, of_entries
from mfjax.data.columns import NOTHING, Columns, Wanted
from mfjax.data.files import Content
from mfjax.data.formats import parsed, reader_of
from mfjax.data.messages import quoted
from mfjax.data.table import Table
from mfjax.data.text import Text, all_fields, first_records, line_of, opened
from mfjax.errors import InputError

if TYPE_CHECKING:
    import polars as pl

LAYOUTS = ("long", "pivot", "dense")


def wide_table(
    content: Content, wanted: Wanted, layout: str, separator: str | None, encoding: str | None
) -> Table:
    """The ratings of a table of users by items, row after row.

    Args:
      content: text; or a matrix of NumPy, with `dense`.
      wanted: neither columns nor a header: every cell is a rating.
      layout: `pivot`: users in the first column, items in the first line; `dense`: neither, and
        both are numbered from 0.
      separator, encoding: as `mfjax.data.read` takes them.

    Raises:
      InputError: an item stands twice, a row is shorter, or columns are asked for.
    """
    for key, value in {"columns": wanted.asked, "header": wanted.header}.items():
        if value not in ([], None):
            raise InputError(f"data.{key} has no effect with data.layout={layout}: leave it out")
    if reader_of(content):
        return _of_array(content, layout)
    text = opened(content, separator, encoding)
    width = len(first_records(text)[0])
    frame = all_fields(text, width)
    if layout == "pivot":
        return _melted(text, _with_names(text, frame), layout)
    if _counts_ratings(frame):
        text = text.noting("the first column counts the ratings of its row, and is left out")
        frame = frame.drop(frame.columns[0])
    frame.columns = [f"item {i}" for i in range(frame.width)]
    return _melted(text, frame.with_row_index("user"), layout)


def _of_array(content: Content, layout: str) -> Table:
    """The entries of a NumPy matrix that are not NaN."""
    if layout != "dense" or not content.data.startswith(b"\x93NUMPY"):
        raise InputError(
            f"{content.path}: data.layout={layout} is read from text, and dense from .npy too"
        )
    array = parsed(content, "NumPy", lambda file: np.load(file, allow_pickle=False))
    if array.ndim != 2 or array.dtype.kind not in NUMBERS:
        raise InputError(
            f"{content.path}: expected a matrix of numbers, got {array.shape} of {array.dtype}"
        )
    user, item = np.nonzero(~np.isnan(array))
    table = of_entries(content.path, user, item, array[user, item].astype(np.float64))
    return replace(table, columns=_columns(layout))


def _columns(layout: str) -> Columns:
    why = "line 1 names the items" if layout == "pivot" else "rows and columns are numbered from 0"
    at = {"user": 0, "item": 1, "rating": 2}
    return Columns(at, ["row", "column", "cell"], layout == "pivot", why)


def _with_names(text: Text, frame: "pl.DataFrame") -> "pl.DataFrame":
    """The rows under their items, the users in a column of their own."""
    items = [name or "" for name in frame.row(0)[1:]]
    place = f"{text.path}, line {line_of(text, 0)}"
    if not items:
        raise InputError(f"{place}: no items\nset data.separator=...")
    if len(set(items)) < len(items):
        twice = next(name for name in items if items.count(name) > 1)
        raise InputError(f"{place}: the item {quoted(twice)} stands twice")
    named = frame.slice(1)
    named.columns = ["user", *(f"item {name}" for name in items)]
    return named


def _counts_ratings(frame: "pl.DataFrame") -> bool:
    """Whether the first column is the number of ratings of its row, as in Jester (99: none)."""
    import polars as pl

    numbers = frame.select(pl.all().cast(pl.Float64, strict=False)).to_numpy()
    rest = numbers[:, 1:]
    rated = (~np.isnan(rest) & (rest != 99)).sum(1)
    return bool((numbers[:, 0] == rated).all()) and len(set(rated)) > 1


def _melted(text: Text, table: "pl.DataFrame", layout: str) -> Table:
    """A row a cell that is not blank."""
    import polars as pl

    numbered = table.with_row_index("record", offset=int(layout == "pivot"))
    long = numbered.unpivot(index=["record", "user"], variable_name="item", value_name="rating")
    cells = long.with_columns(pl.col("item").str.strip_prefix("item "), pl.col("user").cast(str))
    word = pl.col("rating").str.to_lowercase()
    rated = cells.filter(word.is_not_null() & ~word.is_in(list(NOTHING)))
    rated = rated.sort("record", maintain_order=True)
    records = rated["record"]
    note = f"{len(cells) - len(rated):,} of {len(cells):,} cells are blank"
    return Table(
        path=text.path,
        frame=rated.select("user", "item", "rating"),
        columns=_columns(layout),
        place=lambda row: f"line {line_of(text, records[row])}",
        notes=(*text.notes, note),
        separator=text.separator,
    )
