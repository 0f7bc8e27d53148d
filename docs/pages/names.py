"""The reference of the public names: one page a room, rendered from the docstrings."""

from collections.abc import Iterator
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple

import mfjax
from mfjax.losses import Loss
from mfjax.metrics import Metric
from pages.docstrings import summary

WHOLE = ("mfjax.types", "mfjax.objective", "mfjax.errors", "mfjax.testing")


class Entry(NamedTuple):
    """What a page renders: by the path of its definition, under a heading; a module has none."""

    path: str
    heading: str = ""


def rooms() -> dict[str, list[Entry]]:
    """The entries of each page, by its name."""
    of_rooms = {path.split(".")[1]: [Entry(path)] for path in WHOLE}
    for name in mfjax.__all__:
        home = mfjax._HOME[name]
        if home not in WHOLE:
            _, room, *_ = home.split(".")
            of_rooms.setdefault(room, []).extend(_entries(name, home))
    return dict(sorted(of_rooms.items()))


def _entries(name: str, home: str) -> Iterator[Entry]:
    """Those of a public name, and of a table those of its rows."""
    value = getattr(mfjax, name)
    if isinstance(value, ModuleType):
        yield Entry(value.__name__)
        return
    yield Entry(f"{home}.{name}", f"mfjax.{name}")
    if isinstance(value, dict):
        made = {
            _path(made_by): row for row, made_by in reversed(value.items()) if _is_made(made_by)
        }
        for path, row in reversed(made.items()):
            yield Entry(path, f"{name}['{row}']")


def _is_made(row: Any) -> bool:
    """Whether a row has a function of its own to be described."""
    return callable(row) or isinstance(row, Metric | Loss)


def _path(row: Any) -> str:
    """Where the function of a row is defined."""
    if isinstance(row, partial):
        row = row.func
    if isinstance(row, Metric):
        row = row.of
    if isinstance(row, Loss):
        row = row.value
    return f"{row.__module__}.{row.__qualname__}"


def pages() -> dict[str, str]:
    """The pages in Markdown, by the room."""
    return {room: _page(room, entries) for room, entries in rooms().items()}


def _page(room: str, entries: list[Entry]) -> str:
    about = summary(import_module(f"mfjax.{room}"))
    parts = [f"# `mfjax.{room}`\n"]
    if entries[0].path != f"mfjax.{room}" and about:
        parts.append(f"{about}\n")
    parts += map(_directive, entries)
    return "\n".join(parts)


def _directive(entry: Entry) -> str:
    if not entry.heading:
        return f"::: {entry.path}\n    options:\n      show_root_heading: false\n"
    heading = f'heading: "{entry.heading}"'
    return f"::: {entry.path}\n    options:\n      {heading}\n      show_root_toc_entry: true\n"
