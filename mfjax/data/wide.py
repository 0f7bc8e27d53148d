"""Tables of users by items, a rating a cell: with names (`pivot`) or without (`dense`)."""

from typing import TYPE_CHECKING

import numpy as np

from mfjax.data.columns import NOTHING, Columns, Wanted, quoted
from mfjax.data.files import Content
from mfjax.data.formats import reader_of
from mfjax.data.table import Table
from mfjax.data.text import all_fields, first_records, opened
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
      wanted: no columns: every cell is a rating.
      layout: `pivot`: users in the first column, items in the first line; `dense`: neither, and
        both are numbered from 0.
      separator, encoding: as `mfjax.data.read` takes them.

    Raises:
      InputError: an item stands twice, a cell is no number, or columns are asked for.
    """
    if wanted.asked:
        raise InputError(f"data.columns has no effect with data.layout={layout}: leave it out")
    if reader_of(content):
        return _of_array(content, layout)
    text = opened(content, separator, encoding)
    width = len(first_records(text)[0])
    frame = all_fields(text, width)
    table = _with_names(content.path, frame) if layout == "pivot" else frame
    notes = text.notes
    if layout == "dense" and _counts_ratings(frame):
        table = frame.drop(frame.columns[0])
        notes = (*notes, "the first column counts the ratings of its row, and is left out")
    return _melted(content.path, table, layout, notes, text.skipped)


def _of_array(content: Content, layout: str) -> Table:
    """The entries of a NumPy matrix that are not NaN."""
    import io

    import polars as pl

    if layout != "dense" or not content.data.startswith(b"\x93NUMPY"):
        raise InputError(
            f"{content.path}: data.layout={layout} is read from text, and dense from .npy too"
        )
    array = np.load(io.BytesIO(content.data), allow_pickle=False)
    if array.ndim != 2 or array.dtype.kind not in "iuf":
        raise InputError(f"{content.path}: expected a matrix of numbers, got {array.shape}")
    user, item = np.nonzero(~np.isnan(array.astype(np.float64)))
    frame = pl.DataFrame({"user": user, "item": item, "rating": array[user, item]})
    return Table(content.path, frame, _columns(layout), lambda row: f"entry {row + 1}")


def _columns(layout: str) -> Columns:
    why = "line 1 names the items" if layout == "pivot" else "rows and columns are numbered from 0"
    at = {"user": 0, "item": 1, "rating": 2}
    return Columns(at, ["row", "column", "cell"], layout == "pivot", why)


def _with_names(path: str, frame: "pl.DataFrame") -> "pl.DataFrame":
    """The rows under their items, the users in a column of their own."""
    items = [name or "" for name in frame.row(0)[1:]]
    if len(set(items)) < len(items):
        twice = next(name for name in items if items.count(name) > 1)
        raise InputError(f"{path}, line 1: the item {quoted(twice)} stands twice")
    named = frame.slice(1)
    named.columns = ["user", *(f"item {name}" for name in items)]
    return named


def _counts_ratings(frame: "pl.DataFrame") -> bool:
    """Whether the first column is the number of ratings of its row, as in Jester (99: none)."""
    import polars as pl

    numbers = frame.select(pl.all().cast(pl.Float64, strict=False)).to_numpy()
    rest = numbers[:, 1:]
    rated = (~np.isnan(rest) & (rest != 99)).sum(1)
    return bool(rest.size) and bool((numbers[:, 0] == rated).all())


def _melted(
    path: str, table: "pl.DataFrame", layout: str, notes: tuple[str, ...], skipped: int
) -> Table:
    """A row a cell that is not blank."""
    import polars as pl

    if layout == "dense":
        table.columns = [f"item {i}" for i in range(table.width)]
        table = table.with_row_index("user")
    table = table.with_row_index("line", offset=1 + skipped + (layout == "pivot"))
    long = table.unpivot(index=["line", "user"], variable_name="item", value_name="rating")
    ordered = long.with_columns(pl.col("item").str.strip_prefix("item ")).sort(
        "line", maintain_order=True
    )
    blank = pl.col("rating").is_null() | pl.col("rating").str.to_lowercase().is_in(NOTHING)
    rated = ordered.filter(~blank)
    lines = rated["line"]
    note = f"{len(ordered) - len(rated):,} of {len(ordered):,} cells are blank"
    frame = rated.select(pl.col("user").cast(pl.String), "item", "rating")
    return Table(path, frame, _columns(layout), lambda row: f"line {lines[row]}", (*notes, note))
