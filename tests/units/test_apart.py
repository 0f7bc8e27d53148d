"""Figures that a process of its own saves are as those that are saved here, errors too."""

import pickle
import subprocess

import pytest
from matplotlib.figure import Figure

from mfjax.reporting import apart, figures
from mfjax.reporting.apart import Apart
from mfjax.reporting.saving import Saving

NAMES = ("a", "b", "c")
SAVING = Saving(format=("png",))


@pytest.fixture
def process():
    with Apart(SAVING.format) as there:
        yield there


def figure(name: str) -> Figure:
    made = Figure(layout="constrained")
    made.suptitle(name)
    made.subplots().plot([1, 2, 3])
    return made


def here(folder) -> dict[str, bytes]:
    """What `save` writes here, by file."""
    folder.mkdir()
    for name in NAMES:
        figures.save(figure(name), folder, name, SAVING)
    return contents(folder)


def contents(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_files_are_those_that_are_saved_here(tmp_path, process):
    expected = here(tmp_path / "here")
    there = tmp_path / "there"
    there.mkdir()
    for _ in range(2):  # it may go on after `finish`
        for name in NAMES:
            process.save(figure(name), there, name, SAVING)
        process.finish()
        assert contents(there) == expected


def test_it_saves_what_it_is_sent_and_only_the_rest_is_saved_here(tmp_path, process, monkeypatch):
    monkeypatch.setattr(figures, "save", lambda *order: pytest.fail("saved here"))
    process.save(figure("a"), tmp_path, "a", SAVING)
    (_, sent), *_ = process._orders
    assert sent.result()
    process.finish()
    assert list(contents(tmp_path)) == ["a.png"]


@pytest.mark.parametrize("moment", ["before", "between"])
def test_without_the_process_all_are_saved_here(tmp_path, process, moment):
    expected = here(tmp_path / "here")
    there = tmp_path / "there"
    there.mkdir()
    first, *others = NAMES
    if moment == "between":
        process.save(figure(first), there, first, SAVING)
        process.finish()
    process._process.kill()
    for name in others if moment == "between" else NAMES:
        process.save(figure(name), there, name, SAVING)
    process.finish()
    assert contents(there) == expected


def test_what_no_process_takes_is_saved_here(tmp_path, process):
    made = figure("a")
    made.note = lambda: None
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(made)
    process.save(made, tmp_path, "a", SAVING)
    process.save(figure("b"), tmp_path, "b", SAVING)
    process.finish()
    assert set(contents(tmp_path)) == {"a.png", "b.png"}


def test_an_error_is_that_of_save(tmp_path, process):
    with pytest.raises(FileNotFoundError) as of_save:
        figures.save(figure("a"), tmp_path / "nowhere", "a", SAVING)
    process.save(figure("a"), tmp_path / "nowhere", "a", SAVING)
    with pytest.raises(FileNotFoundError) as raised:
        process.finish()
    assert str(raised.value) == str(of_save.value)


def test_it_ends_with_the_process_that_began_it():
    """Which may end by any signal: the pipe says so."""
    begun = subprocess.Popen(
        [apart.sys.executable, "-m", apart.__name__, "png"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    assert begun.stdin
    begun.stdin.close()
    assert begun.wait(60) == 0
