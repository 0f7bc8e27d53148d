"""What docstrings say: the first paragraph, and the arguments."""

import inspect
import re
from functools import partial
from typing import Any

ENTRY = re.compile(r"  (\w[\w., ]*): (.*)")


def docstring(thing: Any) -> str:
    """The docstring of a function, a class or a module; of a partial, that of its function."""
    if isinstance(thing, partial):
        thing = thing.func
    return inspect.cleandoc(thing.__doc__ or "")


def summary(thing: Any) -> str:
    """The first paragraph, on one line."""
    paragraph, *_ = docstring(thing).split("\n\n")
    return " ".join(paragraph.split())


def arguments(thing: Any) -> dict[str, str]:
    """What the `Args:` section says of each argument, in one line each."""
    _, _, section = docstring(thing).partition("Args:\n")
    said: dict[str, str] = {}
    names: list[str] = []
    for line in section.splitlines():
        if line and not line.startswith("  "):
            break
        if entry := ENTRY.fullmatch(line):
            names = entry[1].split(", ")
            said |= dict.fromkeys(names, entry[2])
        else:
            said |= {name: f"{said[name]} {line.strip()}".strip() for name in names}
    return said
