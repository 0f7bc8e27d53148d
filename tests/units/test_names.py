"""Names on the command line: those that there are pass, and others are refused with what is."""

import tomllib
from importlib import import_module

import pytest
from helpers import REPO
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin

import mfjax
from mfjax.app import names
from mfjax.app.names import PLUGINS, TABLES, all_choices, rows_of, wrong_name

OPTIONAL = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["optional-dependencies"]
CHOICES = all_choices()


@pytest.mark.parametrize("table", TABLES)
def test_the_rows_in_the_source_are_those_of_the_table(table):
    assert rows_of(table) == list(getattr(mfjax, table))


# what passes


@pytest.mark.parametrize("group", CHOICES)
def test_every_choice_passes_alone_and_in_a_list(group):
    assert wrong_name([f"{group}={name}" for name in CHOICES[group]]) is None
    assert wrong_name(["-m", f"++{group}={','.join(CHOICES[group])}"]) is None


HYDRAS = (
    "method=null",
    "method@other=nope",
    "~sweep=nope",
    "method=choice(nope,als)",
    "gradient=[nope]",
    "data.path=nope",
    "epochs=3",
    "hydra/job_logging=nope",
    "data=${nope}",
)


@pytest.mark.parametrize("argument", HYDRAS)
def test_what_is_no_plain_choice_of_ours_is_hydras_to_judge(argument):
    assert wrong_name([argument]) is None


@pytest.mark.parametrize(
    "elsewhere",
    [
        ("--config-dir", "mine"),
        ("--config-dir=mine",),
        ("-cd", "mine"),
        ("--config-path", "mine"),
        ("--config-name", "mine"),
        ("hydra.searchpath=[file://mine]",),
        ("+hydra.searchpath=[file://mine]",),
        ("--hydra-help",),
    ],
    ids=" ".join,
)
def test_where_configs_lie_elsewhere_too_all_passes(elsewhere):
    assert wrong_name(["method=nope"]) is not None
    assert wrong_name([*elsewhere, "method=nope"]) is None


def test_beside_a_plugin_that_we_do_not_know_all_passes(tmp_path, monkeypatch):
    (tmp_path / "hydra_plugins" / "theirs").mkdir(parents=True)
    (tmp_path / "hydra_plugins" / "theirs" / "__init__.py").touch()
    plugins = import_module("hydra_plugins")
    monkeypatch.setattr(plugins, "__path__", [*plugins.__path__, f"{tmp_path}/hydra_plugins"])
    assert wrong_name(["method=nope"]) is None


def test_no_plugin_that_we_know_brings_a_place_of_its_own():
    found = Plugins.instance().discover(SearchPathPlugin)
    assert not [plugin for plugin in found if plugin.__module__.startswith("hydra_plugins")]


# what is refused


@pytest.mark.parametrize("group", [*CHOICES, *PLUGINS])
def test_another_name_is_refused_with_those_there_are(group):
    for argument in (f"{group}=nope", f"+{group}=nope", f"{group}={known(group)[0]},nope"):
        assert wrong_name([argument]).startswith(
            f"{group}: expected one of {', '.join(known(group))}, got 'nope'"
        )


def known(group):
    return list(CHOICES.get(group) or PLUGINS[group])


@pytest.mark.parametrize(
    "argument, name",
    [
        ("method=alss", "als"),
        ("gradient=tils", "tiles"),
        ("+exp=movielense", "movielens"),
        ("+exp=baselines/bmf_flp", "baselines/bmf_flip"),
        ("optimizer=adamm", "adam"),
        ("hydra/launcher=jobib", "joblib"),
    ],
)
def test_the_name_that_was_meant_is_suggested(argument, name):
    assert wrong_name([argument]).endswith(f"; did you mean {name}?")


# extras


EXTRAS = [
    (group, name, extra) for group in PLUGINS for name, extra in PLUGINS[group].items() if extra
]


@pytest.mark.parametrize("group, name, extra", EXTRAS)
def test_an_extra_that_is_missing_is_named_with_its_pip_line(monkeypatch, group, name, extra):
    monkeypatch.setattr(names, "find_spec", lambda module: None)
    assert wrong_name(["-m", f"{group}={name}"]).endswith(f'pip install "{extra.install}"')
    monkeypatch.setattr(names, "find_spec", lambda module: module)
    assert wrong_name(["-m", f"{group}={name}"]) is None


@pytest.mark.parametrize("group, name, extra", EXTRAS)
def test_an_extra_is_one_of_the_package(group, name, extra):
    own, _, rest = extra.install.partition("[")
    listed = [one for ofs in OPTIONAL.values() for one in ofs]
    assert rest.removesuffix("]") in OPTIONAL or any(one.startswith(f"{own}>=") for one in listed)
