"""Every column and key that a run writes is in reference/files.md, and the other way round."""

import csv
import json
import re
from fnmatch import fnmatchcase

import numpy as np
import pytest
from commands import NO_PLOTS, QUIET, Child, assert_succeeded
from fences import DOCS, REPO

pytestmark = pytest.mark.slow  # three runs
PAGE = (DOCS / "reference/files.md").read_text()


def documented(heading: str) -> list[str]:
    """The names in the first column of the table under a heading."""
    _, _, section = PAGE.partition(f"\n## {heading}\n")
    section, _, _ = section.partition("\n## ")
    cells = re.findall(r"^\| (`.*?) \|", section, re.M)
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A run with two splits and a lane that diverges, one of a file, and a multirun."""
    folder = tmp_path_factory.mktemp("files")
    rows = [f"{user},{item},{user % 5}" for user in range(10) for item in range(10)]
    (folder / "ratings.csv").write_text("\n".join(["user,item,rating", *rows]))
    child = Child()
    (folder / "mine.py").write_text("from mfjax.data.splits import random as shuffled\n")
    own = ("split=mine.py:shuffled", "replicates=1", NO_PLOTS)
    of_file = ("data.path=ratings.csv", "epochs=1", *own)
    assert_succeeded(child(folder, *of_file, "hydra.run.dir=file"))
    small = (*QUIET, "sweep.split_seed=[0,1]")
    run = ("sweep.learning_rate=[0.01,1e9]", "hydra.run.dir=run")
    assert_succeeded(child(folder, *small, *run))
    jobs = ("method=descent,als_cg", "hparams.init_scale=0.1,1e30", "hydra.sweep.dir=multirun")
    child(folder, "-m", *small, *jobs)
    child.close()
    return folder


def leaves(value, path=""):
    """The dotted paths of what is no object; an object without keys is one too."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, f"{path}.{key}" if path else key)
    else:
        yield path


def assert_described(found: set[str], names: list[str]) -> None:
    assert len(names) == len(set(names))
    assert {one for one in found if not any(fnmatchcase(one, name) for name in names)} == set()
    assert {name for name in names if not any(fnmatchcase(one, name) for one in found)} == set()


def header(path) -> list[str]:
    with path.open() as file:
        return next(csv.reader(file))


def test_the_keys_of_results(folders):
    found = {
        leaf
        for path in folders.glob("**/results.json")
        for leaf in leaves(json.loads(path.read_text()))
    }
    assert_described(found, documented("results.json"))


@pytest.mark.parametrize("file", ["lanes.csv", "history.csv"])
def test_the_columns_of_a_run(folders, file):
    assert header(folders / "run" / file) == documented(file)


def test_the_arrays_of_the_factors(folders):
    with np.load(folders / "run" / "factors.npz") as arrays:
        assert arrays.files == documented("factors.npz")


def test_the_columns_of_a_multirun(folders):
    columns = header(folders / "multirun" / "sweep.csv")
    names = documented("sweep.csv")
    star = names.index("*")
    assert columns[:star] == names[:star]
    assert columns[star + len(columns) - len(names) + 1 :] == names[star + 1 :]


STUDIES = ("gradients/gradients.csv", "imputed_scale/scale.csv", "device/h200.csv")


@pytest.mark.parametrize("path", STUDIES)
def test_the_columns_of_another_job(path):
    name = f"{path.split('/')[0].replace('imputed_', '')}.csv"
    assert sorted(header(REPO / "experiments" / path)) == sorted(documented(name))
