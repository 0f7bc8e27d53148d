"""A table that fits a terminal: no number is folded, and what does not fit is in a file."""

from collections.abc import Sequence
from dataclasses import dataclass

import rich.table
from rich.cells import cell_len
from rich.text import Text

from mfjax.reporting.formats import printable

BORDER = 3  # columns of the terminal between two columns of a table
LONGEST_WORD = 20  # of text that may be wrapped; a longer one is folded
Row = Sequence[str]


@dataclass(frozen=True)
class Column:
    """A heading and the cells below it; of `text`, which may be wrapped between words."""

    heading: str
    cells: list[str]
    is_text: bool

    @property
    def least(self) -> int:
        """The narrowest that it may be."""
        words = self.heading.split()
        narrowest = max(map(cell_len, words))
        if not self.is_text:
            return max(narrowest, self._widest_cell)
        in_cells = [word for cell in self.cells for word in cell.split()]
        longest = max(map(cell_len, in_cells), default=0)
        return max(narrowest, min(longest, LONGEST_WORD))

    @property
    def wanted(self) -> int:
        """The width at which nothing is wrapped."""
        return max(cell_len(self.heading), self._widest_cell)

    @property
    def is_on_the_left(self) -> bool:
        return self.is_text or any("\n" in cell for cell in self.cells)

    @property
    def _widest_cell(self) -> int:
        lines = [line for cell in self.cells for line in cell.splitlines()]
        return max(map(cell_len, lines), default=0)


@dataclass(frozen=True)
class Table:
    """Ready cells under headings.

    Args:
      title: above it.
      headings: each of another name.
      rows: a cell a heading each.
      groups: the headings, the most important first; groups of which all appear or none, but for
        the first, of which as many appear as fit. Not given, all are of the first.
      text: headings of columns of words, which are on the left and may be wrapped between two.
      file: what has the columns that do not fit.
    """

    title: str
    headings: Sequence[str]
    rows: Sequence[Row]
    groups: Sequence[Sequence[str]] = ()
    text: Sequence[str] = ()
    file: str = ""

    def fitted(self, width: int) -> rich.table.Table:
        """The table for so many columns of a terminal."""
        columns = self._shown(width)
        left_out = len(self.headings) - len(columns)
        table = rich.table.Table(
            title=_text(self.title, "table.title"),
            title_justify="left",
            caption_justify="left",
        )
        if left_out and self.file:
            table.caption = _text(f"{left_out} more in {self.file}", "table.caption")
        for column, own_width in zip(columns, _widths(columns, width), strict=True):
            table.add_column(
                Text(column.heading),
                justify="left" if column.is_on_the_left else "right",
                width=own_width,
                overflow="fold",
            )
        for row in zip(*(column.cells for column in columns), strict=True):
            table.add_row(*map(Text, row))
        return table

    def _shown(self, width: int) -> list[Column]:
        """The columns for which there is room, in their order."""
        columns = dict(zip(self.headings, self._columns(), strict=True))
        first, *others = self.groups or [self.headings]
        alone = [[heading] for heading in first]
        chosen: list[str] = []
        for group in [*alone, *others]:
            longer = [*chosen, *group]
            least = [columns[heading].least for heading in longer]
            if chosen and _whole(least) > width:
                break
            chosen = longer
        return [column for heading, column in columns.items() if heading in chosen]

    def _columns(self) -> list[Column]:
        by_column = zip(*self.rows, strict=True) if self.rows else [()] * len(self.headings)
        return [
            Column(
                printable(heading).replace("_", " "),
                list(map(printable, cells)),
                heading in self.text,
            )
            for heading, cells in zip(self.headings, by_column, strict=True)
        ]


def _text(text: str, style: str) -> Text:
    """Text in which a bracket or a colon is no markup."""
    return Text(printable(text), style)


def _widths(columns: Sequence[Column], width: int) -> list[int]:
    """The width of each column without its border; words get what numbers leave."""
    widths = [column.least for column in columns]
    spare = width - _whole(widths)
    places = range(len(columns))
    for place in sorted(places, key=lambda place: columns[place].is_text):
        more = columns[place].wanted - widths[place]
        more = max(min(more, spare), 0)
        widths[place] += more
        spare -= more
    return widths


def _whole(widths: Sequence[int]) -> int:
    """The width of a table whose columns have these."""
    return sum(widths) + BORDER * len(widths) + 1
