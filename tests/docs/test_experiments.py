"""Every experiment says the same things of itself, and `all.py` runs it and keeps what it made."""

import importlib.util
import subprocess
import sys
from types import ModuleType

import pytest
import studies
import tables
from fences import REPO

ALL = REPO / "experiments" / "all.py"
SAID = ("Question", "Command", "Takes", "Seen")
NAMES = studies.names()


@pytest.fixture
def everything() -> ModuleType:
    """The script, as a module."""
    spec = importlib.util.spec_from_file_location("every_experiment", ALL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# the READMEs


@pytest.mark.parametrize("name", NAMES)
def test_a_readme_says_what_is_asked_run_taken_and_seen(name):
    page = studies.readme(name).read_text()
    places = [page.find(f"\n**{heading}.** ") for heading in SAID]
    assert min(places) > 0
    assert places == sorted(places)
    assert studies.commands(name)


@pytest.mark.parametrize("name", NAMES)
def test_what_a_readme_takes_is_what_was_measured(name):
    assert studies.takes(name) in studies.readme(name).read_text().splitlines()


def test_every_row_of_the_durations_is_a_command_that_is_stated():
    stated = [(row.name, row.command) for row in studies.durations()]
    measured = [(row.name, row.command) for row in studies._read()]
    assert measured == [one for one in stated if one in measured]


@pytest.mark.parametrize("page", tables.pages(), ids=lambda page: page.parent.name)
def test_the_tables_of_a_page_are_those_of_the_files(page):
    text = page.read_text()
    assert tables.with_tables(page, text) == text


def test_a_table_takes_the_place_of_the_first_after_some_words():
    page = "| a |\n\nOf these:\n\n| b |\n| - |\n| 1 |\n\nAnd\n\n| c |\n"
    now = tables.with_table(page, "Of these", "| b |\n| - |\n| 2 |\n| 3 |\n")
    assert now == page.replace("| 1 |\n", "| 2 |\n| 3 |\n")
    with pytest.raises(ValueError):
        tables.with_table(page, "Of those", "| b |\n")


@pytest.mark.parametrize(
    "seconds, peak_mb, words",
    [
        ("", "", ("–", "–")),
        ("5.4", "420", ("5 s", "0.42 GB")),
        ("119.4", "3793", ("119 s", "3.8 GB")),
        ("120", "", ("2 min", "–")),
        ("7200", "", ("2.0 h", "–")),
    ],
)
def test_a_duration_in_words(seconds, peak_mb, words):
    duration = studies.Duration("name", "command", seconds, peak_mb)
    assert (duration.time, duration.memory) == words


# all.py


def test_the_list_has_every_folder_and_the_shortest_first():
    words = [sys.executable, ALL, "--list", *NAMES]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    folders = {path.parent.name for path in (REPO / "experiments").glob("*/README.md")}
    assert {line.split()[0] for line in lines} == folders
    assert all(" python " in line for line in lines)
    times = dict.fromkeys(NAMES, 0.0)
    for row in studies.durations():
        times[row.name] += float(row.seconds or "inf")
    in_order = [times[line.split()[0]] for line in lines]
    assert in_order == sorted(in_order)


@pytest.fixture
def elsewhere(everything, tmp_path, monkeypatch):
    """`elsewhere(name, command, …)` is a README of an experiment in a repository of its own."""
    place = tmp_path / "experiments"
    place.mkdir()
    (place / "README.md").write_text("")
    for module in (everything, studies):
        monkeypatch.setattr(module, "REPO", tmp_path)
        monkeypatch.setattr(module, "EXPERIMENTS", place)
    monkeypatch.setattr(everything, "OUTPUTS", tmp_path / "outputs")
    monkeypatch.setattr(studies, "DURATIONS", place / "durations.csv")

    def write(name: str, command: str, links: str = "") -> None:
        (place / name).mkdir()
        text = f"**Command.** `{command}`\n\n**Takes.** –, –\n\n**Seen.** {links}\n"
        studies.readme(name).write_text(text)

    return write


def test_one_that_fails_is_said_and_the_others_run(everything, elsewhere, monkeypatch, capfd):
    elsewhere("bad", 'python -c "raise SystemExit(3)"')
    elsewhere("good", 'python -c "import time; time.sleep(0.1); print(1 + 1)"')
    monkeypatch.setattr(sys, "argv", ["all.py"])
    with pytest.raises(SystemExit) as ended:
        everything.main()
    assert ended.value.code == 1
    said = capfd.readouterr().out.splitlines()
    assert any(line.startswith("bad: failed with exit code 3") for line in said)
    assert {"2", "failed: bad"} < set(said)
    (row,) = studies._read()
    assert row.name == "good"
    assert float(row.seconds) > 0
    assert float(row.peak_mb) > 1
    assert studies.takes("good") in studies.readme("good").read_text()
    assert studies.takes("bad") == "**Takes.** –, –"


def test_peers_run_only_where_they_are_named(everything, elsewhere):
    elsewhere("peers", "python peers.py")
    elsewhere("tiles", "python tiles.py")
    assert [row.name for row in everything.in_order([])] == ["tiles"]
    assert [row.name for row in everything.in_order(["peers"])] == ["peers"]


def test_a_name_that_is_none_is_refused(everything, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["all.py", "tilse"])
    with pytest.raises(SystemExit) as ended:
        everything.main()
    assert ended.value.code == 2
    assert "no experiment tilse; there are movielens" in capsys.readouterr().err


def test_of_a_job_what_its_readme_shows_is_kept(everything, elsewhere, tmp_path):
    links = "[a](results.json) ![b](curve.png) [c](rank_4/results.json) [d](by_hand.csv)"
    elsewhere("job", "python -m mfjax.run +exp=job`, `python -m mfjax.run +exp=job rank=4", links)
    first, second = studies.durations()
    for row, place in ((first, "job"), (second, "job/rank_4")):
        made = tmp_path / "outputs" / place
        made.mkdir(parents=True)
        (made / "results.json").write_text(f"{tmp_path}/mfjax/run.py {row.command}")
        (made / "curve.png").write_bytes(place.encode())
        (made / "run.log").touch()
    assert everything.keep(first) == ["job/results.json", "job/curve.png"]
    assert everything.keep(second) == ["job/rank_4/results.json"]
    kept = tmp_path / "experiments" / "job"
    assert (kept / "results.json").read_text() == f"mfjax/run.py {first.command}"
    assert (kept / "rank_4" / "results.json").read_text() == f"mfjax/run.py {second.command}"
    assert (kept / "curve.png").read_bytes() == b"job"
    assert not (kept / "run.log").exists()
