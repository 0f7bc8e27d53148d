"""The READMEs of the experiments, and what they link to, as they stand: nothing is copied here."""

import re
import sys
from pathlib import Path

from pages.markdown import code, table

sys.path.append(str(Path(__file__).resolve().parents[2] / "experiments"))
import studies
from studies import EXPERIMENTS, LINK, REPO, names

PROJECT = ("CHANGELOG.md", "CONTRIBUTING.md")
REPRODUCE = "reproduce.md"
TABLE = "<!-- the studies, as experiments/durations.csv has them -->"


def sources() -> list[Path]:
    """The Markdown files of the repository that are pages."""
    readmes = [studies.readme(name) for name in names()]
    return [EXPERIMENTS / "README.md", *readmes, *(REPO / name for name in PROJECT)]


def pages() -> dict[str, str]:
    """The pages by their path in the site, which is that in the repository."""
    return {path.relative_to(REPO).as_posix(): with_links(path) for path in sources()}


def with_links(path: Path) -> str:
    """The text of a file, its links to folders and to docs/ written as the site has them."""

    def rewritten(match: re.Match[str]) -> str:
        text, target, anchor = match.groups(default="")
        place = _in_site(path, target)
        return text if place is None else f"[{text}]({place}{anchor})"

    return LINK.sub(rewritten, path.read_text())


def _in_site(path: Path, target: str) -> str | None:
    """What a link of a file is to in the site; None to a folder that is no page."""
    if "://" in target or target.startswith("mailto:"):
        return target
    there = (path.parent / target).resolve()
    if there.is_dir():
        there = there / "README.md"
        target = f"{target.rstrip('/')}/README.md"
        if not there.is_file():
            return None
    up = "../" * len(path.parent.relative_to(REPO).parts)
    if there == REPO / "README.md":
        return f"{up}index.md"
    if there.is_relative_to(REPO / "docs"):
        return up + there.relative_to(REPO / "docs").as_posix()
    return target


def assets() -> list[Path]:
    """The files that the pages link to or show, and that are no pages."""
    linked: dict[Path, None] = {}
    for path in sources():
        for match in LINK.finditer(path.read_text()):
            there = (path.parent / match[2]).resolve()
            in_docs = there.is_relative_to(REPO / "docs")
            if there.is_file() and not in_docs and there.suffix != ".md":
                linked[there] = None
    return list(linked)


def with_durations(page: str) -> str:
    """A page with the table of what each command takes in the place of its mark."""
    rows = [
        [f"[{row.name}](experiments/{row.name}/README.md)", code(row.command), row.time, row.memory]
        for row in studies.durations()
    ]
    return page.replace(TABLE, table(["study", "command", "takes", "memory"], rows))
