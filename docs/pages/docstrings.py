"""What docstrings say: the first paragraph, and the arguments."""

import inspect
import re
from functools import partial
from itertools import takewhile
from typing import Any

ENTRY = re.compile(r"  (\*{0,2}\w[\w., ]*): (.*)")


def docstring(thing: Any) -> str:
    """The docstring of a function, a class or a module; of a partial, that of its function."""
    if isinstance(thing, partial):
        thing = thing.func
    return inspect.cleandoc(thing.__doc__ or "")


def summary(thing: Any) -> str:
    """The first paragraph, on one line."""
    paragraph, *_ = docstring(thing).split("\n\n")
    return " ".join(paragraph.split())


def section(thing: Any, heading: str) -> list[str]:
    """The lines of a section, such as `Returns:`; none where there is no such section."""
    _, _, below = f"\n{docstring(thing)}".partition(f"\n{heading}:\n")
    return list(takewhile(lambda line: not line or line.startswith("  "), below.splitlines()))


def arguments(thing: Any, heading: str = "Args") -> dict[str, str]:
    """What the `Args:` section, or another of entries, says of each name, in one line each."""
    said: dict[str, str] = {}
    names: list[str] = []
    for line in section(thing, heading):
        if entry := ENTRY.fullmatch(line):
            names = entry[1].split(", ")
            said |= dict.fromkeys(names, entry[2])
        else:
            said |= {name: f"{said[name]} {line.strip()}".strip() for name in names}
    return said
