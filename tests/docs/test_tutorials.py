"""Every tutorial runs as it stands: its files, its Python and its commands, in their order."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot
import pytest
from commands import Child
from fences import DOCS, RUN, arguments, blocks, command_lines

from mfjax.app.adopted import PLACES

PAGES = sorted((DOCS / "tutorials").glob("*.md"))
READING = ("python -m mfjax.recommend", "python -m mfjax.report")  # what a run has written
LONG = {
    *("add_a_gradient", "add_a_loss", "compare_methods", "from_csv_to_lists"),
    *("name_to_table", "your_gradient", "your_ratings"),
}


@pytest.fixture
def command():
    """A process of the page's own: what belongs to a process, its first command says."""
    child = Child()
    yield child
    child.close()


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working folder whose modules can be imported; they, and rows, are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    rows = [(place.table, dict(place.table)) for place in PLACES.values()]
    yield tmp_path
    for table, rows_before in rows:
        table.clear()
        table.update(rows_before)
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]
    matplotlib.pyplot.close("all")


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=[pytest.mark.slow] * (page.stem in LONG)) for page in PAGES],
    ids=[page.stem for page in PAGES],
)
def test_a_tutorial_runs_as_it_stands(page: Path, place, command):
    names: dict = {"__name__": "__main__"}
    for block in blocks(page):
        match block.language:
            case "python" if block.title:
                (place / block.title).write_text(block.text)
            case "python":
                exec(compile(block.text, page.name, "exec"), names)
            case "bash":
                run_all(block.text, block.title, place, command)


def run_all(text: str, title: str, folder: Path, command) -> None:
    """Run the command lines of a block, which are all of mfjax, and see how they end."""
    expected = int(re.fullmatch(r"exits with (\d)", title)[1]) if title else 0
    for line in command_lines(text):
        if line.startswith(READING):
            done = read(line, folder)
        else:
            assert line.startswith(RUN)
            done = command(folder, *arguments(line))
        assert done.returncode == expected, done.stdout + done.stderr


def read(line: str, folder: Path) -> subprocess.CompletedProcess:
    """What a command says that trains nothing, in a process of its own."""
    _, *words = shlex.split(line)
    return subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, text=True)


def test_the_example_of_the_first_page_runs(capsys):
    (example,) = [one.text for one in blocks(DOCS / "index.md") if one.language == "python"]
    exec(compile(example, "index.md", "exec"), {})
    assert "test_rmse" in capsys.readouterr().out


def test_every_tutorial_has_something_to_run():
    for page in PAGES:
        assert {block.language for block in blocks(page)} >= {"python"}, page.name
