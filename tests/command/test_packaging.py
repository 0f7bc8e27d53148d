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
from commands import NO_PLOTS
from compiled import needs_compiler
from helpers import REPO

PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
DATA = "mfjax/data/ml-latest-small.parquet"
ITEMS = "mfjax/data/items/ml-latest-small.parquet"
NATIVE = "mfjax/kernels/native"
BUILD = (sys.executable, "-m", "build", "--no-isolation")
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")


def done(arguments, cwd, path=None, **variables):
    """The standard output of a process that succeeds, with PYTHONPATH `path` or none."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {} if path is None else {"PYTHONPATH": str(path)}
    environment |= variables
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
    """A folder with the sdist, and the wheel that is built from it where no compiler works."""
    folder = tmp_path_factory.mktemp("dist")
    done([*BUILD, "--outdir", folder], REPO, CXX="false")
    return folder


@pytest.fixture(scope="module")
def wheel(built):
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder with the wheel installed, and nothing else."""
    folder = tmp_path_factory.mktemp("installed")
    install(wheel, folder)
    return folder


def install(wheel, folder):
    done([*PIP, "install", "--no-deps", "--no-index", "--target", folder, wheel], folder)


def test_the_wheel_holds_the_package_its_config_and_its_data(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        sizes = {info.filename: info.file_size for info in archive.infolist()}
    config = {f"mfjax/{path.relative_to(REPO)}" for path in (REPO / "conf").rglob("*.yaml")}
    modules = {
        str(path.relative_to(REPO))
        for top in ("mfjax", "hydra_plugins")
        for path in (REPO / top).rglob("*.py")
    }
    sources = {str(path.relative_to(REPO)) for path in (REPO / NATIVE / "src").iterdir()}
    others = {DATA, ITEMS, "mfjax/data/ml-latest-small.LICENSE.txt", "mfjax/py.typed", *sources}
    assert {"mfjax/conf/config.yaml", "mfjax/conf/exp/movielens.yaml"} <= config
    assert config | modules | others <= names
    assert sizes[DATA] <= 1_000_000
    assert sum(sizes.values()) <= 2_000_000
    dist_info = f"mfjax-{PROJECT['version']}.dist-info"
    assert {name.split("/")[0] for name in names} == {"mfjax", "hydra_plugins", dist_info}
    assert not [name for name in names if re.search(r"(^|/)(test_|conftest)|\.pyc$|~$", name)]


def test_the_wheel_states_its_licences_version_and_python(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (name,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        metadata = archive.read(name).decode()
    licences = {name.rpartition("/")[2] for name in names if "/licenses/" in name}
    assert licences == {"LICENSE", "ml-latest-small.LICENSE.txt"}
    assert f"Version: {PROJECT['version']}\n" in metadata
    assert "Requires-Python: >=3.11\n" in metadata


def test_the_sdist_holds_what_a_developer_needs(built):
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    code = {"pyproject.toml", "conf/config.yaml", "mfjax/run.py", DATA}
    tests = {"tests/conftest.py", "tests/command/test_run.py"}
    texts = {"README.md", "LICENSE", "CITATION.cff", "CHANGELOG.md", "CONTRIBUTING.md"}
    assert code | tests | texts <= names


def test_the_version_is_the_same_everywhere():
    citation = (REPO / "CITATION.cff").read_text()
    changes = (REPO / "CHANGELOG.md").read_text()
    version = PROJECT["version"]
    assert re.search(r"^version: (.*)$", citation, re.M)[1] == version
    assert re.search(r"^## (\S+)", changes, re.M)[1] in (version, "Unreleased")
    assert f"license: {PROJECT['license']}\n" in citation


MODULE = (sys.executable, "-m", "mfjax.run")


def test_every_way_to_start_shows_the_same_help_of_the_same_groups(installed, tmp_path):
    script = Path(sysconfig.get_path("scripts")) / "mfjax"
    shown = {
        "checkout": done([*MODULE, "--help"], REPO, REPO),
        "installed": done([*MODULE, "--help"], tmp_path),
        "wheel": done([*MODULE, "--help"], tmp_path, installed),
        "script": done([script, "--help"], tmp_path),
        "script of the wheel": done([installed / "bin/mfjax", "--help"], tmp_path, installed),
    }
    assert "optimizer: adagrad, adam" in shown["checkout"]
    assert {name for name, text in shown.items() if text != shown["checkout"]} == set()


@pytest.mark.slow
def test_the_wheel_composes_the_config_of_the_checkout(installed, tmp_path):
    ours = done([*MODULE, "--cfg", "job"], REPO, REPO)
    theirs = done([installed / "bin/mfjax", "--cfg", "job"], tmp_path, installed)
    assert "learning_rate: 0.02" in ours
    assert theirs == ours


@pytest.mark.slow
def test_the_wheel_trains_from_another_folder_on_its_own_data(installed, tmp_path):
    few = ("sweep=none", "sweep.reg=[0.05,0.1]", "replicates=1")
    tiny = ("epochs=1", "method.batch_size=8192", *few)
    where = (
        "import mfjax, mfjax.app; from mfjax.run import main; "
        "print(mfjax.__file__); print(mfjax.app.CONF); main()"
    )
    command = [sys.executable, "-c", where, "+exp=movielens", *tiny, NO_PLOTS]
    package, conf, *_ = done(command, tmp_path, installed).splitlines()
    assert package == str(installed / "mfjax" / "__init__.py")
    assert conf == str(installed / "mfjax" / "conf")
    (path,) = tmp_path.glob("outputs/movielens/*/results.json")
    results = json.loads(path.read_text())
    assert results["status"] == "finished"
    assert results["data"]["ratings"] == 100_004
    provenance = results["provenance"]
    assert provenance["git_commit"] is None
    assert provenance["versions"]["mfjax"] == PROJECT["version"]


FOUND = "from mfjax.kernels.native.library import library; print(library())"


def test_a_wheel_that_was_built_without_a_compiler_is_for_every_platform(wheel, installed):
    assert wheel.name.endswith("-py3-none-any.whl")
    found = done([sys.executable, "-c", FOUND], installed, installed)
    assert found.startswith("Missing(reason='no compiled kernels: they were not built")


@needs_compiler
@pytest.mark.slow
def test_a_wheel_that_was_built_with_a_compiler_brings_its_kernels(tmp_path):
    done([*BUILD, "--wheel", "--outdir", tmp_path], REPO, MFJAX_PURE="")
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.startswith(f"mfjax-{PROJECT['version']}-py3-none-")
    assert not wheel.name.endswith("-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert archive.getinfo(f"{NATIVE}/libmfjax.so").file_size <= 5_000_000
    folder = tmp_path / "installed"
    folder.mkdir()
    install(wheel, folder)
    found = done([sys.executable, "-c", FOUND], tmp_path, folder, MFJAX_PURE="")
    assert found.startswith(f"Library(path=PosixPath('{folder / NATIVE}/libmfjax.so')")


@pytest.mark.parametrize(
    "module, heavy",
    [
        ("mfjax", "jax, numpy, hydra, omegaconf"),
        ("mfjax.data", "polars, hydra, omegaconf, matplotlib"),
        ("mfjax.training", "polars, hydra, omegaconf, matplotlib"),
        ("mfjax.reporting.figures", "jax, polars, hydra, omegaconf"),
        ("mfjax.app.jobs.train", "polars, scipy, matplotlib, fontTools"),
    ],
)
def test_importing_loads_no_more_than_it_needs(tmp_path, module, heavy):
    code = f"import sys, {module}; print(*set('{heavy}'.split(', ')) & set(sys.modules))"
    assert done([sys.executable, "-c", code], tmp_path).strip() == ""
