"""Every key of the config: its type, default, range and meaning, from the schema and docstrings.

A meaning comes from the `Args:` of the class or function that has the key, and where that says
nothing, from those of `Config` under the key's whole name.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Any, NamedTuple, get_args, get_origin

from omegaconf import MISSING as NOT_GIVEN
from omegaconf import OmegaConf

from hydra_plugins.mfjax_launcher.launcher import LauncherConfig
from hydra_plugins.mfjax_optuna.sweeper import SweeperConfig
from mfjax.app import CONF, schema
from mfjax.data import SOURCES, SPLITS
from mfjax.methods import METHODS
from mfjax.reporting.saving import Saving
from mfjax.training.epochs import Schedule
from mfjax.training.halving import Halving
from mfjax.training.lanes import Plan
from mfjax.training.sweep import Sweep
from mfjax.types import Hparams, Spec, Tiling
from pages.docstrings import arguments, summary
from pages.markdown import code, codes, table, value

TABLES = {"data": SOURCES, "split": SPLITS, "method": METHODS}
OWNERS = {  # whose docstrings describe the keys too
    "Config": (Schedule, Plan, Sweep, Spec),
    "HparamsConfig": (Hparams,),
    "TilesConfig": (Tiling,),
    "SearchConfig": (Halving,),
    "PlotsConfig": (Saving,),
    "LauncherConfig": (Sweep,),
}
AS_DATA = "lane_data"  # the one section that takes the keys of another


class Key(NamedTuple):
    """A key as the page shows it; `of` are the functions of a table that take it."""

    name: str
    kind: str
    default: str
    values: str
    meaning: str
    of: str = ""


# the sections of the page


def sections() -> Iterator[tuple[str, str, list[Key]]]:
    """(heading, what it is about, keys) of each part of the config."""
    whole = schema.schema()
    single, nested = [], []
    for one in fields(whole):
        (nested if is_dataclass(one.type) else single).append(one)
    meanings = _meanings(whole)
    yield "The run", "Keys that are of no section.", [_key("", one, meanings) for one in single]
    for one in nested:
        if one.name in TABLES:
            yield f"`{one.name}`", _about_table(one.name), _keys_of_table(one.name, one.type)
        else:
            yield f"`{one.name}`", summary_of(one.type), keys_of(one.type, f"{one.name}.")
    for name in schema.JOBS:
        own = [key for key in keys_of(schema.job_schema(name), "job.") if key.name != "job.name"]
        if own:
            yield f"`job={name}`", summary(schema.JOBS[name]), own
    for group, section in (("launcher", LauncherConfig), ("sweeper", SweeperConfig)):
        yield f"`hydra.{group}`", _about_plugin(group), keys_of(section, f"hydra.{group}.")


def keys_of(section: type, prefix: str) -> list[Key]:
    """The keys of a section, those of the sections in it among them."""
    meanings = _meanings(section)
    keys: list[Key] = []
    for one in fields(section):
        if one.name == AS_DATA:
            said = "takes the keys of `data`"
            keys.append(Key(f"{prefix}{AS_DATA}.…", "", "", "", said))
        elif is_dataclass(one.type):
            keys += keys_of(one.type, f"{prefix}{one.name}.")
        elif not one.name.startswith("_"):
            keys.append(_key(prefix, one, meanings))
    return keys


def _about_table(section: str) -> str:
    names = codes(TABLES[section])
    return f"`{section}.name` is one of {names}; each takes keys of its own."


def _about_plugin(group: str) -> str:
    name = {"launcher": "mfjax", "sweeper": "mfjax_optuna"}[group]
    return f"Of `hydra/{group}={name}`."


def summary_of(section: type) -> str:
    """What a section is about; nothing where only a dataclass says how it is made."""
    said = {"HparamsConfig": summary(Hparams), "SweepConfig": "Values of `hparams` to train."}
    return said.get(section.__name__) or summary(section)


# one key


def _key(prefix: str, one: Field, meanings: Mapping[str, str]) -> Key:
    name = f"{prefix}{one.name}"
    of_config = arguments(schema.Config)
    meaning = of_config.get(name) or meanings.get(one.name, "")
    if prefix == "sweep.":
        meaning = f"values of `hparams.{one.name}`"
    return Key(
        name=name,
        kind=_kind(one.type),
        default=_default(one, name),
        values=_values(name, one.type),
        meaning=meaning,
    )


def _meanings(section: type) -> dict[str, str]:
    """What docstrings say of the keys of a section: its own, its bases', and its owners'."""
    said: dict[str, str] = {}
    for base in reversed(section.__mro__):
        for owner in (*OWNERS.get(base.__name__, ()), base):
            said |= arguments(owner)
    return said


def _keys_of_table(section: str, kind: type) -> list[Key]:
    """The keys of `data`, `split` or `method`, which the functions of a table take."""
    functions = TABLES[section]
    keys = []
    for one in fields(kind):
        name = f"{section}.{one.name}"
        takers = {
            function_name: function
            for function_name, function in functions.items()
            if one.name in schema.keywords(function)
        }
        if not takers:
            keys.append(_key(f"{section}.", one, {}))
            continue
        defaults = {by: _default_of(function, one.name) for by, function in takers.items()}
        meanings = {by: _meaning_of(function, one.name, name) for by, function in takers.items()}
        keys.append(
            Key(
                name=name,
                kind=_kind(one.type),
                default=value(given) if (given := _of_groups().get(name)) else _of_each(defaults),
                values=_values(name, one.type),
                meaning=_of_each(meanings),
                of=codes(takers),
            )
        )
    return keys


def _default_of(function: Callable, key: str) -> str:
    default = inspect.signature(function).parameters[key].default
    return "must be given" if default is inspect.Parameter.empty else value(default)


def _meaning_of(function: Callable, key: str, name: str) -> str:
    return arguments(function).get(key) or arguments(schema.Config).get(name, "")


def _of_each(texts: Mapping[str, str]) -> str:
    """What is of each function; once where it is the same of all."""
    distinct = set(texts.values())
    if len(distinct) == 1:
        return distinct.pop()
    return "; ".join(f"{code(by)}: {text.removesuffix('.')}" for by, text in texts.items())


def _kind(kind: Any) -> str:
    """The type of a key; that it may be null, its default says."""
    if isinstance(kind, UnionType):
        (kind,) = (one for one in get_args(kind) if one is not type(None))
    if get_origin(kind) is list:
        (inner,) = get_args(kind)
        return code("list" if inner is Any else f"list[{inner.__name__}]")
    return code((get_origin(kind) or kind).__name__)


def _default(one: Field, name: str) -> str:
    """What a key is in a run that says nothing of it: what its group's file sets, or the schema."""
    default = one.default if one.default is not MISSING else one.default_factory()
    default = _of_groups().get(name, default)
    return "" if default == NOT_GIVEN else value(default)


@cache
def _of_groups() -> dict[str, Any]:
    """What the files of the groups set that a run has where no other is chosen."""
    chosen = [
        one for one in OmegaConf.load(CONF / "config.yaml").defaults if OmegaConf.is_dict(one)
    ]
    given: dict[str, Any] = {}
    for group, name in (pair for one in chosen for pair in one.items()):
        file = CONF / group / f"{name}.yaml"
        if file.is_file():
            given |= {f"{group}.{key}": said for key, said in OmegaConf.load(file).items()}
    return given


def _values(name: str, kind: Any) -> str:
    """The choices of a key, or the range of its numbers."""
    if name in (choices := schema.choices()):
        return codes(choices[name])
    of_hparams = name.removeprefix("hparams.").removeprefix("sweep.")
    for key in (name, of_hparams):
        if key in schema.RANGES:
            _, expected = schema.RANGES[key]
            return f"each {expected}" if _kind(kind).startswith("`list") else expected
    return ""


# the page

INTRODUCTION = """# Every key

Generated from the schema. `python -m mfjax.run --cfg job` shows every key with the value that it
has in a run; on the command line a key is written `key=value`, and `null` is *not given*.
A wrong key is refused with the one that was probably meant, and a value that is out of range with
what is expected.

Groups (`data=synthetic`, `optimizer=adam`, …) are files that set several of these keys: see
[the tables](tables.md#groups). Where `data.name`, `split.name`, `method.name`, `gradient` or
`optimizer.name` stands, [a function of your own](../guide/own.md) may: `file.py:function`. A key
that nothing reads under the method, the job or the data that are chosen is refused with the reason.
"""


def page() -> str:
    """The reference of every key, in Markdown."""
    parts = [INTRODUCTION]
    for heading, about, keys in sections():
        parts.append(f"## {heading}\n\n{about}\n")
        parts.append(_table_of(keys))
    return "\n".join(parts)


def _table_of(keys: list[Key]) -> str:
    headings = ["key", "type", "default", "values", "meaning"]
    has_of = any(key.of for key in keys)
    if has_of:
        headings.insert(1, "with")
    rows = []
    for key in keys:
        row = [code(key.name), key.kind, key.default, key.values, key.meaning]
        if has_of:
            row.insert(1, key.of)
        rows.append(row)
    return table(headings, rows)
