"""Ratings as a file or a frame has them: named columns, and the place of each row."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mfjax.data.columns import Columns, Wanted, of_names

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


def reason_of(error: BaseException) -> str:
    """The first line of an error's message, or the error's name where it has none."""
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0][:100]


def of_frame(path: str, frame: "pl.DataFrame", wanted: Wanted) -> Table:
    """The table of a frame with names, its columns numbers or strings; rows count from 1.

    Args:
      path: what messages call it.
      frame: its columns.
      wanted: which of them to read.

    Raises:
      InputError: a column is not there, the names do not decide, or a column holds no values.
    """
    import polars as pl
    import polars.selectors as cs

    columns = of_names(path, frame.columns, wanted, "it has names")
    chosen = frame.select(pl.nth(list(columns.at.values())))
    chosen.columns = list(columns.at)
    times = cs.temporal().dt.epoch("s") if "timestamp" in columns.at else cs.temporal()
    plain = chosen.with_columns(times).with_columns((~cs.numeric()).cast(pl.String))
    return Table(path, plain, columns, lambda row: f"row {row + 1}")
