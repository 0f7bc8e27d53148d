"""Tables as text: a row's cells as a reader sees them, Markdown and LaTeX.

Names come from configs and files. What a terminal, a figure, Markdown or LaTeX would take for more
than text is escaped here, once, as they are shown; results have them as they are.
"""

import html
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

MINUS = "−"  # as on the axes of figures
LATEX = {character: f"\\{character}" for character in "_%&#${}"} | {
    "–": "--",
    MINUS: "$-$",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "²": "$^2$",
    "≥": r"$\geq$",
    "λ": r"$\lambda$",
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
}


# escapes


def printable(text: str) -> str:
    """Text for a terminal, in which a control character stands as Python writes it."""

    def shown(character: str) -> str:
        is_plain = character.isprintable() or character in "\n\t"
        return character if is_plain else repr(character)[1:-1]

    return "".join(map(shown, text))


def in_figure(text: str) -> str:
    """Text for a figure, in which a dollar begins no formula."""
    return printable(text).replace("$", r"\$")


def _in_markdown(text: str) -> str:
    escaped = html.escape(_in_one_line(text), quote=False)
    return escaped.replace("|", r"\|")


def in_latex(text: str) -> str:
    """Text for LaTeX, in one line, in which no character is a command."""
    return "".join(LATEX.get(character, character) for character in _in_one_line(text))


def _in_one_line(text: str) -> str:
    return " ".join(printable(text).split())


# tables


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
    escaped = [list(map(_in_markdown, row)) for row in (headings, *rows)]
    lines = [escaped[0], ["---"] * len(headings), *escaped[1:]]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def latex(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A LaTeX `tabular` of ready cells, the first column left and the others right."""

    def line(row: Sequence[str]) -> str:
        return " & ".join(map(in_latex, row)) + r" \\"

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
