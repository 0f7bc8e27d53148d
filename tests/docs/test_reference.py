"""The reference says all there is: keys, tables, names; and messages are those of the code."""

import ast
import re
import tomllib
from importlib import import_module

import pytest
from fences import DOCS, REPO
from omegaconf import OmegaConf
from packaging.requirements import Requirement
from pages import docstrings, experiments, keys, names, tables

import mfjax
from mfjax.app import schema

SECTIONS = list(keys.sections())
LISTED = [key for _, _, of_section in SECTIONS for key in of_section]


# keys


def leaves(node, path=""):
    for key in node:
        child = None if OmegaConf.is_missing(node, key) else node[key]
        if OmegaConf.is_dict(child) and len(child):
            yield from leaves(child, f"{path}{key}.")
        else:
            yield f"{path}{key}"


def test_the_page_has_every_key_of_every_job_once_and_no_other():
    there = {key for job in schema.JOBS for key in leaves(schema.known(job))}
    as_data = {key for key in there if key.startswith("job.lane_data.")}
    listed = [key.name for key in LISTED if not key.name.startswith("hydra.")]
    assert set(listed) == there - as_data | {"job.lane_data.…"}
    several = {name for name in listed if listed.count(name) > 1}
    assert several <= {"job.repeats", "job.small_users", "job.small_items", "job.small_rank"}


@pytest.mark.parametrize("key", LISTED, ids=lambda key: key.name)
def test_every_key_has_a_type_and_a_meaning(key):
    assert key.meaning.strip()
    assert key.kind or key.name.endswith("…")


def test_every_key_that_the_config_describes_is_one_that_nothing_else_does():
    described = docstrings.arguments(schema.Config)
    assert set(described) <= {key.name for key in LISTED}
    whole = schema.schema()
    owners = [owner for of_class in keys.OWNERS.values() for owner in of_class]
    elsewhere = {key for owner in owners for key in docstrings.arguments(owner)}
    fields = {name: name.rpartition(".")[2] for name in described}
    assert not {name for name, field in fields.items() if "." not in name and field in elsewhere}
    assert {name.partition(".")[0] for name in described} <= {
        one.name for one in keys.fields(whole)
    }


def test_the_arguments_of_a_docstring_are_read():
    def function():
        """What it does.

        In two paragraphs.

        Args:
          one, two: of both,
            on two lines.
          three: of one.

        Returns:
          four: nothing.
        """

    assert docstrings.summary(function) == "What it does."
    both = "of both, on two lines."
    assert docstrings.arguments(function) == {"one": both, "two": both, "three": "of one."}


# tables and names


def test_the_page_of_tables_has_every_row_with_what_it_is():
    page = tables.page()
    of_code = (
        mfjax.GRADIENTS,
        mfjax.LOSSES,
        mfjax.METHODS,
        mfjax.KERNELS,
        mfjax.BAGS,
        mfjax.METRICS,
        mfjax.SOURCES,
        mfjax.SPLITS,
        schema.JOBS,
    )
    for name in (name for table in of_code for name in table):
        assert f"| `{name}` |" in page
    for heading, _, headings, rows in tables.tables():
        assert rows, heading
        assert all(len(row) == len(headings) for row in rows)
        assert all(row[1].strip() for row in rows), heading


def test_every_public_name_is_on_a_page_and_is_there():
    paths = [entry.path for entries in names.rooms().values() for entry in entries]
    for name in mfjax.__all__:
        home = mfjax._HOME[name]
        assert {home, f"{home}.{name}"} & set(paths), name
    for path in paths:
        module, _, name = path.rpartition(".")
        assert path in names.WHOLE or hasattr(import_module(module), name), path


# what is said of the code


def literals() -> str:
    """Every string that stands in the code."""
    files = [path for top in ("mfjax", "hydra_plugins") for path in (REPO / top).rglob("*.py")]
    trees = [ast.parse(path.read_text()) for path in files]
    nodes = (node for tree in trees for node in ast.walk(tree))
    texts = (node.value for node in nodes if isinstance(node, ast.Constant))
    return "\n".join(text for text in texts if isinstance(text, str))


OF_HYDRA = {"no viable alternative at input"}


def test_every_message_of_the_troubleshooting_page_is_one_of_the_code():
    said = literals()
    page = (DOCS / "troubleshooting.md").read_text()
    messages = re.findall(r"^\| `([^`]*)` \|", page, re.M)
    parts = [part.strip(" .:;,?") for message in messages for part in message.split("…")]
    assert len(messages) > 30
    assert {part for part in parts if part not in said} == OF_HYDRA


def test_every_experiment_is_a_page():
    folders = {path.parent.name for path in experiments.EXPERIMENTS.glob("*/README.md")}
    assert set(experiments.names()) == folders
    index = (experiments.EXPERIMENTS / "README.md").read_text()
    assert all(f"({name})" in index for name in folders)


def test_the_constraints_pin_every_package_within_what_the_project_asks_for():
    lines = (REPO / "constraints.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    asked = project["dependencies"] + [
        one for name in extras if name != "ray" for one in extras[name]
    ]
    for requirement in map(Requirement, asked):
        if requirement.name != "mfjax":
            assert requirement.specifier.contains(pinned[requirement.name]), requirement
