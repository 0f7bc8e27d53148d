"""The experiments by their READMEs: the commands, what they show, and what each was seen to take.

A README's `**Command.**` paragraph has the commands, in code; the files of its folder that it links
to are those that the commands make; its `**Takes.**` line is that of `durations.csv`.
"""

import csv
import re
from pathlib import Path
from typing import NamedTuple

EXPERIMENTS = Path(__file__).resolve().parent
REPO = EXPERIMENTS.parent
DURATIONS = EXPERIMENTS / "durations.csv"
LINK = re.compile(r"\[([^\[\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")
COMMANDS = re.compile(r"^\*\*Command\.\*\* (.*?)\n\n", re.M | re.S)
CODE = re.compile(r"`(python [^`]+)`")
TAKES = re.compile(r"^\*\*Takes\.\*\* .*$", re.M)
DASH = "–"


class Duration(NamedTuple):
    """What a command of an experiment took, as a row of `durations.csv`; empty: not measured."""

    name: str
    command: str
    seconds: str = ""
    peak_mb: str = ""  # of its largest process
    hardware: str = ""
    jax: str = ""
    date: str = ""

    @property
    def time(self) -> str:
        """The seconds, in words."""
        if not self.seconds:
            return DASH
        seconds = float(self.seconds)
        if seconds < 120:
            return f"{seconds:.0f} s"
        minutes = seconds / 60
        return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"

    @property
    def memory(self) -> str:
        """The peak, in words."""
        return f"{float(self.peak_mb) / 1e3:.2g} GB" if self.peak_mb else DASH


def names() -> list[str]:
    """The experiments in the order of their index."""
    index = (EXPERIMENTS / "README.md").read_text()
    named = [match[2].rstrip("/") for match in LINK.finditer(index)]
    listed = [name for name in named if readme(name).is_file()]
    others = sorted(path.parent.name for path in EXPERIMENTS.glob("*/README.md"))
    return list(dict.fromkeys([*listed, *others]))


def readme(name: str) -> Path:
    return EXPERIMENTS / name / "README.md"


def commands(name: str) -> list[str]:
    """The commands of an experiment, in their order."""
    paragraph = COMMANDS.search(readme(name).read_text())
    return CODE.findall(paragraph[1]) if paragraph else []


def shown(name: str) -> list[Path]:
    """The files of an experiment's own folder that its README links to."""
    page = readme(name)
    linked = [(page.parent / match[2]).resolve() for match in LINK.finditer(page.read_text())]
    own = [path for path in linked if path.is_relative_to(page.parent) and path.suffix]
    return list(dict.fromkeys(own))


def durations() -> list[Duration]:
    """A row a command of every experiment, with what was last measured of it."""
    known = {(row.name, row.command): row for row in _read()}
    stated = [(name, command) for name in names() for command in commands(name)]
    return [known.get(one, Duration(*one)) for one in stated]


def _read() -> list[Duration]:
    if not DURATIONS.exists():
        return []
    with DURATIONS.open(newline="") as file:
        return [Duration(**row) for row in csv.DictReader(file)]


def record(duration: Duration) -> None:
    """Put a row in its place of `durations.csv`, and what it says in its experiment's README."""
    place = (duration.name, duration.command)
    rows = [duration if (row.name, row.command) == place else row for row in durations()]
    with DURATIONS.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Duration._fields)
        writer.writerows(row for row in rows if row.seconds)
    page = readme(duration.name)
    page.write_text(TAKES.sub(takes(duration.name), page.read_text()))


def takes(name: str) -> str:
    """The line of a README that says how long its commands take, and the memory of each."""
    own = [row for row in durations() if row.name == name]
    return f"**Takes.** {'; '.join(f'{row.time}, {row.memory}' for row in own)}"
