"""The fenced blocks of Markdown pages, and the commands in them."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

REPO = Path(__file__).resolve().parents[2]
DOCS = REPO / "docs"
FENCE = re.compile(r"^```(\w+)(?: title=\"([^\"]*)\")?\n(.*?)^```$", re.M | re.S)
COMMAND = re.compile(r"python -m mfjax\.run\b[^`\n]*")
RUN = "python -m mfjax.run"


class Block(NamedTuple):
    """A fenced block; `title` is the name of a file, or how a command ends."""

    language: str
    title: str
    text: str


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    return [Block(match[1], match[2] or "", match[3]) for match in FENCE.finditer(page.read_text())]


def command_lines(text: str) -> list[str]:
    """The lines of a shell block, with those that a backslash continues in one."""
    joined = text.replace("\\\n", " ")
    return [line.strip() for line in joined.splitlines() if line.strip()]


def arguments(line: str) -> list[str]:
    """The arguments of a command line of mfjax."""
    return shlex.split(line.removeprefix(RUN), comments=True)


def commands(page: Path) -> Iterator[str]:
    """Every command line of mfjax that a page states: in blocks, in tables and in the text."""
    text = page.read_text().replace("\\\n", " ")
    for match in COMMAND.finditer(text):
        yield match[0].rstrip(" .;:").replace("\\|", "|")
