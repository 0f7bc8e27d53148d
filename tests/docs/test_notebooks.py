"""The notebooks hold the outputs of one run from top to bottom, and running them gives the same."""

import json
import re

import numpy as np
import pytest
from fences import DOCS, REPO
from pages import notebooks
from rerun import METADATA, read, run

PATHS = notebooks.sources()
SHOWS = re.compile(r"\bprint\(|\bplots\.|\bplt\.show\(|\bmfjax\.progress\(")
OF_A_MACHINE = re.compile(r"/(tmp|work|root|home|Users)\b")
LARGEST = 400_000  # bytes
VARIES = "varies"  # the tag of a cell whose outputs have seconds in them
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:e[+-]\d+)?")

each = pytest.mark.parametrize("path", PATHS, ids=[path.stem for path in PATHS])


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def text_of(output) -> str:
    """What an output says; a picture says its size."""
    return output.text if output.output_type == "stream" else output.data["text/plain"]


def kinds_of(cell) -> list[tuple]:
    """What came of a cell, but for how much a stream said."""
    return [(output.output_type, *sorted(output.get("data", {}))) for output in cell.outputs]


# as they are stored


def test_there_are_notebooks():
    assert PATHS


@each
def test_a_notebook_was_run_from_top_to_bottom(path):
    cells = code_cells(read(path))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        kinds = [output.output_type for output in cell.outputs]
        streams = [output.name for output in cell.outputs if output.output_type == "stream"]
        assert "error" not in kinds
        assert set(streams) <= {"stdout"}, "a warning"
        assert bool(kinds) >= bool(SHOWS.search(cell.source)), cell.source


@each
def test_a_notebook_says_nothing_of_the_machine_it_ran_on(path):
    notebook = read(path)
    assert notebook.metadata == METADATA
    assert {key for cell in notebook.cells for key in cell.metadata} <= {"tags"}
    for output in (output for cell in code_cells(notebook) for output in cell.outputs):
        output.get("data", {}).pop(notebooks.PNG, None)
    assert not OF_A_MACHINE.search(json.dumps(notebook))


@each
def test_a_notebook_is_small(path):
    notebook = read(path)
    printed = [text_of(output) for cell in code_cells(notebook) for output in cell.outputs]
    assert path.stat().st_size < LARGEST
    assert len(notebook.cells) <= 18
    assert max(len(text.splitlines()) for text in printed) <= 12


@each
def test_a_notebook_is_a_page_with_its_pictures(path):
    place = f"notebooks/{path.stem}.md"
    page = notebooks.pages()[place]
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", page)
    drawn = [kind for cell in code_cells(read(path)) for kind in kinds_of(cell)]
    assert f"- {place}\n" in (REPO / "mkdocs.yml").read_text()
    assert len(set(pictures)) == sum(notebooks.PNG in kind for kind in drawn)
    assert {f"notebooks/{name}" for name in pictures} <= set(notebooks.images())
    for target in re.findall(r"\]\(\.\./([^)#]+\.md)", page):
        assert (DOCS / target).is_file() or (REPO / target).is_file(), target


# run again


@pytest.mark.slow
@each
def test_a_notebook_says_the_same_when_it_is_run(path, tmp_path):
    stored = read(path)
    fresh = run(stored, tmp_path)
    for before, after in zip(code_cells(stored), code_cells(fresh), strict=True):
        assert kinds_of(after) == kinds_of(before), after.source
        if VARIES not in before.metadata.get("tags", []):
            assert_alike(after, before)


def assert_alike(after, before) -> None:
    """The same words, and numbers to 1 %.

    A last digit that rounds the other way on another processor; what is below 1e-9 is rounding.
    """
    now, then = ("".join(map(text_of, cell.outputs)) for cell in (after, before))
    assert NUMBER.sub("#", now) == NUMBER.sub("#", then)
    np.testing.assert_allclose(numbers(now), numbers(then), rtol=1e-2, atol=1e-9)


def numbers(text: str) -> list[float]:
    return [float(number.replace(",", "")) for number in NUMBER.findall(text)]
