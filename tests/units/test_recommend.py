"""`python -m mfjax.recommend` shows or writes lists, and makes a mistake one message."""

import re
import subprocess
import sys

import numpy as np
import polars as pl
import pytest

import mfjax
from mfjax import recommend


@pytest.fixture(scope="module", params=["integers", "text"])
def saved(request, tmp_path_factory):
    """A folder with a model of users 0, 1, … and items with a title each, and the model."""
    rng = np.random.default_rng(0)
    user, item = np.unravel_index(rng.permutation(6 * 8)[:24], (6, 8))
    user = user if request.param == "integers" else [f"u{one}" for one in user]
    data = mfjax.from_ids("made", user, item, rng.integers(1, 6, 24))
    model = mfjax.fit(data, "als", rank=2, epochs=2)
    folder = tmp_path_factory.mktemp("saved")
    model.save(folder)
    return folder, model


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs the command with arguments: its exit status, and what it says."""

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["recommend", *map(str, arguments)])
        status = 0
        try:
            recommend.main()
        except SystemExit as stop:
            status = stop.code
        return status, *capsys.readouterr()

    return run


def test_the_list_of_a_user_is_a_table(saved, command):
    folder, model = saved
    user = model.user_ids[3].item()
    status, out, err = command(folder, "--user", user, "--n", 3)
    assert (status, err) == (0, "")
    rows = [line.split("│")[1:-1] for line in out.splitlines() if line.startswith("│")]
    shown = [[cell.strip() for cell in row] for row in rows]
    lists = model.recommend(user, n=3)
    assert shown == [[*map(str, row[:-1]), f"{row[-1]:.3f}"] for row in lists.rows()]
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_the_lists_of_all_are_a_file(saved, command, tmp_path, ending):
    folder, model = saved
    path = tmp_path / f"lists.{ending}"
    status, out, _ = command(folder, "--all", "--include-seen", "--output", path)
    assert status == 0
    lists = model.recommend(exclude_seen=False)
    read = pl.read_csv(path) if ending == "csv" else pl.read_parquet(path)
    assert read.equals(lists)
    assert out == f"6 users, {len(lists)} rows: {path}\n"
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


WRONG = {
    "an unknown user": (["--user", "99"], "error: unknown user .*99.*expected one of the 6 user"),
    "a word": (["--user", "a b"], "error: unknown user 'a b'"),
    "nobody": ([], "one of the arguments --user --all is required; .*--help"),
    "both": (["--user", "1", "--all"], "--all: not allowed with argument --user"),
    "no file": (["--all"], "error: --all needs a file for the lists: --output FILE.csv"),
    "another format": (["--all", "--output", "a.xlsx"], "ends in .csv or .parquet, got a.xlsx"),
    "no folder": (["--all", "--output", "no/a.csv"], "--output: no folder no: make it first"),
    "no items": (["--all", "--n", "0", "--output", "a.csv"], "n: expected at least 1 item"),
    "no number": (["--all", "--n", "x", "--output", "a.csv"], "argument --n: invalid int value"),
}


@pytest.mark.parametrize("arguments, message", WRONG.values(), ids=WRONG)
def test_a_mistake_is_one_message(saved, command, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    status, out, err = command(saved[0], *arguments)
    assert (status, out) == (1, "")
    assert re.search(message, err), err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_its_help_loads_no_jax():
    code = (
        "import sys, mfjax.recommend as it; it.parser().format_help(); print('jax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_folder_without_a_model_is_a_message(command, tmp_path):
    status, _, err = command(tmp_path, "--user", "1")
    assert status == 1
    assert err.startswith(f"error: {tmp_path}: no factors.npz; expected the output folder")


def test_a_user_who_rated_everything_has_no_list(command, tmp_path):
    data = mfjax.from_ids("made", [1, 1, 2], [1, 2, 1], [1, 2, 3])
    mfjax.fit(data, "als", rank=1, epochs=1).save(tmp_path)
    status, _, err = command(tmp_path, "--user", "1")
    assert (status, err) == (
        1,
        "error: they have rated every item: --include-seen lists those too\n",
    )
    assert command(tmp_path, "--user", "1", "--include-seen")[0] == 0
