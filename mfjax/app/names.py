"""The names that a command line may choose from, found without loading jax or Hydra.

They are files of conf/, modules of jobs/, rows of mfjax's tables, which are read in their source,
and plugins of Hydra.
"""

import ast
import difflib
import importlib
import pkgutil
import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from mfjax.app import CONF, PACKAGE, own

TABLES = {  # each in the file that defines it
    "SOURCES": "data/__init__.py",
    "PUBLISHED": "data/published.py",
    "SPLITS": "data/splits/__init__.py",
    "METHODS": "methods/__init__.py",
    "GRADIENTS": "gradients/__init__.py",
    "KERNELS": "kernels/__init__.py",
    "LOSSES": "losses.py",
}
OF_KEYS = {"gradient": "GRADIENTS", "loss": "LOSSES"}  # which are no groups of conf/
OF_TABLES = {"data": "SOURCES", "split": "SPLITS", "method": "METHODS", "gradient": "GRADIENTS"}
OUR_PLUGINS = {"mfjax_launcher", "mfjax_optuna"}
PLAIN_FLAGS = {"-m", "--multirun", "-r", "--run", "-c", "--cfg", "--resolve"}


class Extra(NamedTuple):
    """What is installed apart: the module that it brings, and what pip calls it."""

    module: str
    install: str


JOBLIB = Extra("hydra_plugins.hydra_joblib_launcher", "hydra-joblib-launcher")
SUBMITIT = Extra("hydra_plugins.hydra_submitit_launcher", "mfjax[slurm]")
RAY = Extra("hydra_plugins.hydra_ray_launcher", "mfjax[ray]")
OPTUNA = Extra("optuna", "mfjax[optuna]")
PLUGINS: dict[str, dict[str, Extra | None]] = {
    "hydra/launcher": {
        "mfjax": None,
        "basic": None,
        "joblib": JOBLIB,
        "submitit_local": SUBMITIT,
        "submitit_slurm": SUBMITIT,
        "slurm": SUBMITIT,
        "ray": RAY,
        "ray_aws": RAY,
        "ray_cluster": RAY,
    },
    "hydra/sweeper": {"basic": None, "mfjax_optuna": OPTUNA},
}


# what there is


def groups() -> dict[str, list[str]]:
    """The groups of the config by name, each with its choices, but for those of Hydra."""
    found = {"job": _names(PACKAGE / "app" / "jobs", "[!_]*.py")}
    for folder in CONF.iterdir():
        if folder.is_dir() and folder.name != "hydra":
            found[folder.name] = _names(folder, "**/*.yaml")
    for group in found.keys() & OF_TABLES.keys():
        found[group] |= set(rows_of(OF_TABLES[group]))
    return {group: sorted(names) for group, names in sorted(found.items())}


def all_choices() -> dict[str, list[str]]:
    """The groups, and the keys that name rows of a table."""
    return groups() | {key: rows_of(table) for key, table in OF_KEYS.items()}


def _names(folder: Path, pattern: str) -> set[str]:
    paths = folder.glob(pattern)
    return {path.relative_to(folder).with_suffix("").as_posix() for path in paths}


def rows_of(table: str) -> list[str]:
    """The names in a table of mfjax, in its order, by its source: importing it would load jax."""
    module = ast.parse((PACKAGE / TABLES[table]).read_text())
    assigned = [node for node in module.body if isinstance(node, ast.AnnAssign)]
    (rows,) = (node.value for node in assigned if ast.unparse(node.target) == table)
    assert isinstance(rows, ast.Dict)
    names: list[str] = []
    for key, value in zip(rows.keys, rows.values, strict=True):
        names += _rows_taken_in(value) if key is None else [ast.literal_eval(key)]
    return names


def _rows_taken_in(value: ast.expr) -> list[str]:
    """The names of another table's rows, which are taken in with `**`."""
    named = [node.id for node in ast.walk(value) if isinstance(node, ast.Name)]
    (table,) = TABLES.keys() & set(named)
    return rows_of(table)


# what is wrong


def wrong_name(arguments: Sequence[str]) -> str | None:
    """What is wrong with the first name of a command line that there is none of, and what to write.

    None where all are there, and where they are Hydra's to judge: what is not plainly `group=name`,
    and all of a command line that brings further places to look for configs.
    """
    if not _looks_here_alone(arguments):
        return None
    known = all_choices()
    known |= {group: list(plugins) for group, plugins in PLUGINS.items()}
    choices = [chosen for argument in arguments for chosen in _choices(argument)]
    wrong = [_wrong(group, name, known) for group, name in choices]
    named = [chosen for argument in arguments for chosen in own.named_by(argument)]
    wrong += [own.missing(group, name) for group, name in named]
    return next(filter(None, wrong), None)


def _choices(argument: str) -> list[tuple[str, str]]:
    """The group and each of the names of `group=name,name`; none of another argument."""
    chosen = re.fullmatch(r"\+{0,2}([\w/]+)=([\w,/-]+)", argument)
    if not chosen:
        return []
    group, names = chosen.groups()
    return [(group, name) for name in names.split(",") if name]


def _looks_here_alone(arguments: Sequence[str]) -> bool:
    """Whether conf/, mfjax and the plugins that we know have all that can be chosen."""
    flags = {argument for argument in arguments if argument.startswith("-")}
    if flags - PLAIN_FLAGS:
        return False
    if any("hydra.searchpath" in argument for argument in arguments):
        return False
    plugins = importlib.import_module("hydra_plugins")
    there = {module.name for module in pkgutil.iter_modules(plugins.__path__)}
    return there <= OUR_PLUGINS | _known_plugins()


def _known_plugins() -> set[str]:
    extras = [extra for group in PLUGINS.values() for extra in group.values()]
    return {extra.module.rpartition(".")[2] for extra in extras if extra}


def _wrong(group: str, name: str, known: Mapping[str, Sequence[str]]) -> str | None:
    names = known.get(group, [])
    if names and name not in names and name.lower() != "null":
        close = difflib.get_close_matches(name, names, n=1)
        suggestion = f"; did you mean {close[0]}?" if close else ""
        if group in own.GROUPS and not close:
            suggestion = f"\na function of your own is {group}=file.py:function"
        return f"{group}: expected one of {', '.join(names)}, got {name!r}{suggestion}"
    return _not_installed(group, name)


def missing_extra(text: str) -> str | None:
    """What to install, where a text of Hydra's names a plugin that is not there; or None."""
    named = re.findall(r"(hydra/\w+)/(\w+)", text)
    wanted = (_not_installed(group, name) for group, name in named)
    return next(filter(None, wanted), None)


def _not_installed(group: str, name: str) -> str | None:
    extra = PLUGINS.get(group, {}).get(name)
    if extra and find_spec(extra.module) is None:
        return f'{group}={name} needs what is not installed\npip install "{extra.install}"'
    return None
