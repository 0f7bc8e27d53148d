"""Tables in Markdown, and values as a config writes them."""

import json
from collections.abc import Iterable, Sequence
from typing import Any


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; a cell that is empty is a dash."""
    lines = [_line(headings), _line(["---"] * len(headings))]
    lines += [_line([_cell(text) for text in row]) for row in rows]
    return "\n".join(lines) + "\n"


def code(text: Any) -> str:
    """The text as code; nothing of nothing."""
    return f"`{text}`" if text != "" else ""


def codes(texts: Iterable[Any]) -> str:
    """Several, with commas."""
    return ", ".join(map(code, texts))


def value(given: Any) -> str:
    """A value as a config writes it, as code."""
    return code(given if isinstance(given, str) else json.dumps(given))


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ") or "–"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
