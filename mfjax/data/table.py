"""Ratings as a file or a frame has them: named columns, and the place of each row."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mfjax.data.columns import Columns, Wanted, of_names
from mfjax.data.messages import shortened
from mfjax.errors import InputError

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Table:
    """Columns user, item and rating, and weight and timestamp where they are read.

    Args:
      path: what messages call the source.
      frame: the columns, numbers or strings, null where there is no value.
      columns: where they stood, and how that was decided.
      place: what a message calls row i, such as "line 17".
      notes: what was done to read them, in words.
      separator: of the fields of text; None: it was no text.
    """

    path: str
    frame: "pl.DataFrame"
    columns: Columns
    place: Callable[[int], str]
    notes: tuple[str, ...] = ()
    separator: str | None = None


def of_frame(path: str, frame: "pl.DataFrame | pl.LazyFrame", wanted: Wanted) -> Table:
    """The table of a frame with names, its columns numbers or strings; rows count from 1.

    Args:
      path: what messages call it.
      frame: its columns.
      wanted: which of them to read.

    Raises:
      InputError: a column is not there, the names do not decide, or a column holds no values.
    """
    import polars as pl

    lazy = frame.lazy()
    columns = of_names(path, lazy.collect_schema().names(), wanted, "it has names")
    chosen = lazy.select(pl.nth(list(columns.at.values()))).collect()
    chosen.columns = list(columns.at)
    plain = [_plain(path, column) for column in chosen]
    return Table(path, pl.DataFrame(plain), columns, lambda row: f"row {row + 1}")


def _plain(path: str, column: "pl.Series") -> "pl.Series":
    """A column as numbers or strings; times as seconds."""
    import polars as pl

    kind = column.dtype
    try:
        if column.name == "timestamp" and kind in (pl.Date, pl.Datetime):
            return column.dt.epoch("s")
        if kind.is_decimal():
            return column.cast(pl.Float64)
        if kind.is_numeric():
            return column
        if not kind.is_nested():
            return column.cast(pl.String)
    except pl.exceptions.PolarsError:  # bytes that are no text
        pass
    raise InputError(
        f"{path}: the {column.name} column holds {shortened(kind)}, neither numbers nor text"
    )
