"""Every command that the README, the site and the experiments state composes, every key is one."""

import re
import sys
from pathlib import Path

import pytest
from configs import composed
from fences import DOCS, REPO, arguments, blocks, commands
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep
from omegaconf import OmegaConf

from mfjax.app import CONF, schema
from mfjax.app.adopted import adopt_named_by
from mfjax.app.ignored import refuse_idle
from mfjax.app.schema import JOBS, known

PAGES = [
    REPO / "README.md",
    REPO / "CONTRIBUTING.md",
    *sorted(DOCS.rglob("*.md")),
    *sorted((REPO / "experiments").rglob("README.md")),
]
STATED = [(page, line) for page in PAGES for line in dict.fromkeys(commands(page))]
SHOWS = {"--help", "-h", "--cfg", "job", "-m", "--multirun"}
OVERRIDE = re.compile(r"`'?(?:python -m mfjax\.run )?\+*([a-z][a-z_]*(?:[./][a-z_]+)*)=[^`\s]*`")


def name(page: Path) -> str:
    return page.relative_to(REPO).as_posix()


@pytest.fixture
def files(tmp_path, monkeypatch, forgotten):
    """`files(page)` writes the files of a page where its commands look for them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def write(page: Path) -> None:
        for block in blocks(page):
            if block.title.endswith(".py"):
                Path(block.title).write_text(block.text)

    return write


def first_job(line: str) -> list[str]:
    """The overrides of a command, and of a multirun those of its first job."""
    given = [one for one in arguments(line) if one not in SHOWS]
    parsed = OverridesParser.create().parse_overrides(given)
    return [first_value(one) if one.is_sweep_override() else one.input_line for one in parsed]


def first_value(override) -> str:
    axis = override.value()
    if isinstance(axis, IntervalSweep):
        return f"{override.get_key_element()}={axis.start}"
    return f"{override.get_key_element()}={next(override.sweep_string_iterator())}"


def marked(page, line):
    """A test of a command; those that the README does not state are slow tests."""
    marks = () if page == PAGES[0] else pytest.mark.slow
    return pytest.param(page, line, id=f"{name(page)}: {line}", marks=marks)


@pytest.mark.parametrize("page, line", [marked(*stated) for stated in STATED])
def test_a_command_that_is_stated_composes_and_every_key_of_it_acts(page, line, files):
    files(page)
    overrides = first_job(line)
    if adopt_named_by(overrides):
        schema.register()
    refuse_idle(composed(*overrides), overrides, launched="-m" in arguments(line))


def sections(node, path=""):
    """The dotted names of all keys and sections of a config."""
    for key in node:
        yield f"{path}{key}", None
        child = None if OmegaConf.is_missing(node, key) else node[key]
        if OmegaConf.is_dict(child):
            yield from sections(child, f"{path}{key}.")


KEYS = {key for job in JOBS for key, _ in sections(known(job))}
GROUPS = {path.parent.relative_to(CONF).as_posix() for path in CONF.rglob("*.yaml")} | {"job"}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_key_that_is_named_with_a_value_is_one(page):
    named = {match[1] for match in OVERRIDE.finditer(page.read_text())}
    unknown = {key for key in named - KEYS - GROUPS if not key.startswith(("hydra.", "hydra/"))}
    assert unknown == set()
