"""Tables as text: a row's cells as a reader sees them, Markdown and LaTeX."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

LATEX = {character: f"\\{character}" for character in "_%&#${}"} | {
    "–": "--",
    "λ": r"$\lambda$",
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
}


class Shown(NamedTuple):
    """How a column of a row is shown: in what format, and in what unit."""

    column: str
    form: str = ""
    unit: float = 1


def cells(row: Mapping[str, Any], shown: Mapping[str, Shown]) -> list[str]:
    """A row as a reader sees it: a cell for each heading of `shown`."""
    return [cell(row.get(column), form, unit) for column, form, unit in shown.values()]


def cell(value: Any, form: str, unit: float = 1) -> str:
    """A value in its format and unit, and a dash for None."""
    if value is None:
        return "–"
    if unit != 1:
        value = value / unit
    return format(value, form)


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table of ready cells."""
    escaped = [[text.replace("|", r"\|") for text in row] for row in rows]
    lines = [headings, ["---"] * len(headings), *escaped]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def latex(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A LaTeX `tabular` of ready cells, the first column left and the others right."""

    def escape(text: str) -> str:
        return "".join(LATEX.get(character, character) for character in text)

    def line(row: Sequence[str]) -> str:
        return " & ".join(map(escape, row)) + r" \\"

    alignment = "l" + "r" * (len(headings) - 1)
    lines = [
        rf"\begin{{tabular}}{{{alignment}}}",
        r"\hline",
        line(headings),
        r"\hline",
        *map(line, rows),
        r"\hline",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"
