"""What is needed to run it again, and to cite it."""

import re
import tomllib
from importlib.metadata import version

import jax
import pytest
from helpers import REPO

from mfjax import memory
from mfjax.reporting import provenance

PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]


def test_the_versions_are_of_all_that_the_package_requires():
    required = [re.match(r"[\w-]+", line)[0] for line in PROJECT["dependencies"]]
    found = provenance.provenance()["versions"]
    assert set(found) == {"mfjax", *required}
    assert found == {name: version(name) for name in found}
    assert {"jax", "jaxlib", "omegaconf", "polars", "scipy"} <= set(found)


def test_the_extras_are_no_part_of_it(monkeypatch):
    lines = [
        "jax>=0.8",
        "a.b_c-d[x] (>=1)",
        "ray>=2; extra == 'ray'",
        "tomli; os_name == 'nt'",
    ]
    monkeypatch.setattr(provenance, "requires", lambda name: lines)
    assert provenance.packages() == ["mfjax", "jax", "a.b_c-d", "tomli"]


def test_the_machine_is_described():
    found = provenance.provenance()
    cpu = found["cpu"]
    assert cpu["model"]
    assert 1 <= cpu["usable_cores"] <= cpu["cores"]
    assert found["memory_bytes"] > 2**28
    assert found["devices"]["kind"]
    assert found["devices"]["memory_bytes"] is None  # of a CPU


def test_an_accelerator_has_its_memory(monkeypatch):
    class Accelerator:
        def memory_stats(self):
            return {"bytes_limit": 80}

    monkeypatch.setattr(jax, "local_devices", lambda: [Accelerator()])
    assert provenance.provenance()["devices"]["memory_bytes"] == 80
    assert memory.memory_bytes() == 80


@pytest.mark.parametrize(
    "text, model",
    [
        ("processor\t: 0\nmodel name\t: A CPU @ 2 GHz\nflags\t: x\n", "A CPU @ 2 GHz"),
        ("processor\t: 0\nCPU part\t: 0xd0c\n", "arm"),
    ],
    ids=["named", "not named"],
)
def test_the_processor_has_a_name_or_else_an_architecture(monkeypatch, text, model):
    monkeypatch.setattr(provenance.sys, "platform", "linux")
    monkeypatch.setattr(provenance.Path, "exists", lambda path: True)
    monkeypatch.setattr(provenance.Path, "read_text", lambda path: text)
    monkeypatch.setattr(provenance.platform, "processor", lambda: "")
    monkeypatch.setattr(provenance.platform, "machine", lambda: "arm")
    assert provenance.cpu_model() == model


def test_both_citations_say_the_same():
    cff = (REPO / "CITATION.cff").read_text()
    bib = (REPO / "CITATION.bib").read_text()
    fields = dict(re.findall(r"^  (\w+) = \{(.*)\},$", bib, re.M))
    assert fields["title"].startswith(re.search(r"^title: (.*)$", cff, re.M)[1])
    assert fields["author"] == f"{{{re.search(r'- name: (.*)$', cff, re.M)[1]}}}"
    for key in ("version", "license"):
        assert fields[key] == re.search(rf"^{key}: (.*)$", cff, re.M)[1]
