"""The package works from a checkout, an editable install, a wheel, and any working directory."""

import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
DATA = "mfjax/data/ml-latest-small.parquet"


def done(arguments, cwd, path=None):
    """The standard output of a process that succeeds, with PYTHONPATH `path` or none."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {} if path is None else {"PYTHONPATH": str(path)}
    process = subprocess.run(
        [str(argument) for argument in arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=300,
        check=False,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with the sdist, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    done([sys.executable, "-m", "build", "--no-isolation", "--outdir", folder], REPO)
    return folder


@pytest.fixture(scope="module")
def wheel(built):
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder with the wheel installed, and nothing else."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    done([*pip, "--no-deps", "--no-index", "--target", folder, wheel], folder)
    return folder


def test_the_wheel_holds_the_package_its_config_and_its_data(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        sizes = {info.filename: info.file_size for info in archive.infolist()}
        (metadata,) = (
            archive.read(name).decode() for name in names if name.endswith(".dist-info/METADATA")
        )
    config = {f"mfjax/{path.relative_to(REPO)}" for path in (REPO / "conf").rglob("*.yaml")}
    modules = {
        str(path.relative_to(REPO))
        for top in ("mfjax", "hydra_plugins")
        for path in (REPO / top).rglob("*.py")
    }
    assert {"mfjax/conf/config.yaml", "mfjax/conf/exp/movielens.yaml"} <= config
    assert config | modules | {DATA, "mfjax/data/ml-latest-small.LICENSE.txt"} <= names
    assert sizes[DATA] <= 1_000_000 and sum(sizes.values()) <= 2_000_000
    assert {name.split("/")[0] for name in names} == {
        "mfjax",
        "hydra_plugins",
        f"mfjax-{PROJECT['version']}.dist-info",
    }
    assert not [name for name in names if re.search(r"(^|/)(test_|conftest)|\.pyc$|~$", name)]
    licences = {name.rpartition("/")[2] for name in names if "/licenses/" in name}
    assert licences == {"LICENSE", "ml-latest-small.LICENSE.txt"}
    assert (
        f"Version: {PROJECT['version']}\n" in metadata and "Requires-Python: >=3.11\n" in metadata
    )


def test_the_sdist_holds_what_a_developer_needs(built):
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "conf/config.yaml",
        "mfjax/run.py",
        DATA,
        "tests/test_run.py",
    } <= names
    assert {"CITATION.cff", "CHANGELOG.md", "CONTRIBUTING.md"} <= names


def test_the_version_is_the_same_everywhere():
    citation, changes = (REPO / "CITATION.cff").read_text(), (REPO / "CHANGELOG.md").read_text()
    version = PROJECT["version"]
    assert re.search(r"^version: (.*)$", citation, re.M)[1] == version
    assert re.search(r"^## (\S+)", changes, re.M)[1] in (version, "Unreleased")
    assert f"license: {PROJECT['license']}\n" in citation


def test_every_way_to_start_shows_the_same_config(installed, tmp_path):
    module = (sys.executable, "-m", "mfjax.run")
    shown = {
        "checkout": done([*module, "--cfg", "job"], REPO, REPO),
        "installed": done([*module, "--cfg", "job"], tmp_path),
        "wheel": done([*module, "--cfg", "job"], tmp_path, installed),
        "script": done([Path(sysconfig.get_path("scripts")) / "mfjax", "--cfg", "job"], tmp_path),
        "script of the wheel": done(
            [installed / "bin" / "mfjax", "--cfg", "job"], tmp_path, installed
        ),
    }
    assert "learning_rate: 0.02" in shown["checkout"]
    assert {name for name, text in shown.items() if text != shown["checkout"]} == set()


def test_the_wheel_trains_from_another_folder_on_its_own_data(installed, tmp_path):
    where = "import mfjax, mfjax.app.build as c; print(mfjax.__file__); print(c.CONF)"
    assert done([sys.executable, "-c", where], tmp_path, installed).split() == [
        str(installed / "mfjax" / "__init__.py"),
        str(installed / "mfjax" / "conf"),
    ]
    tiny = (
        "+exp=movielens",
        "epochs=1",
        "batch_size=8192",
        "sweep=none",
        "sweep.reg=[0.05,0.1]",
        "plots=false",
    )
    done([sys.executable, "-m", "mfjax.run", *tiny], tmp_path, installed)
    (results,) = tmp_path.glob("outputs/movielens/*/results.json")
    summary = json.loads(results.read_text())
    assert summary["status"] == "finished" and summary["data"]["ratings"] == 100_004
    assert summary["provenance"]["git_commit"] is None
    assert summary["provenance"]["versions"]["mfjax"] == PROJECT["version"]


def test_importing_loads_no_jax(tmp_path):
    done(
        [
            sys.executable,
            "-c",
            "import sys, mfjax; assert not {'jax', 'hydra', 'numpy'} & set(sys.modules)",
        ],
        tmp_path,
    )
