"""Arguments that Hydra's grammar takes apart, and the quoting that keeps them whole."""

import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from mfjax.app.quoting import misread, quoted

TEXTS = [
    *("~/a.csv", "a;b", "a,b", "a=b", "it's", 'a"b', "x (1).csv", "x[1].csv", "{a", "é", "日本"),
    *("a\\", 'a\\"b\\\\', "", "  ", "a#b", "a&b", "a^b", "$(a)", "null", "true", "3"),
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_quoted_text_comes_through_the_shell_and_the_grammar_as_it_was(text):
    (argument,) = shlex.split(quoted("data.path", text))
    (override,) = OverridesParser.create().parse_overrides([argument])
    assert override.value() == text
    assert not override.is_sweep_override()
    assert misread([argument]) is None


REFUSED = ("a~;", "a;b", "x[1].csv", "x(1).csv", "a=b", "it's", "{a", "é")


@pytest.mark.parametrize("text", REFUSED)
def test_what_the_grammar_refuses_is_shown_as_it_takes_it(text):
    said = misread(["+exp=movielens", f"data.path={text}"])
    assert said.startswith(f"data.path={text}: Hydra cannot read it (")
    assert said.endswith(f"quote it for Hydra and for the shell:\n  {quoted('data.path', text)}")


def test_a_tilde_is_the_home_folder_as_the_shell_would_have_it(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    said = misread(["hydra.run.dir=~/out"])
    assert said.endswith(quoted("hydra.run.dir", "/home/me/out"))


def test_several_values_need_a_multirun_or_are_one_text():
    said = misread(["data.path=a,b.csv"])
    assert said.startswith("data.path=a,b.csv: several values, which need -m\n")
    assert said.endswith(quoted("data.path", "a,b.csv"))
    assert misread(["-m", "hparams.reg=0.1,0.2"]) is None


PLAIN = ("data.path=/a b/c.csv", "+a=1", "~sweep", "sweep.reg=[0.1,0.2]", "job.variants={a:{b:1}}")


@pytest.mark.parametrize("argument", [*PLAIN, "data=${x}", "--config-dir=a;b", "-m", "epochs"])
def test_what_it_reads_and_what_is_no_override_passes(argument):
    assert misread([argument]) is None


def test_bytes_that_are_no_text_are_refused():
    assert misread(["data.path=\udcff.csv"]) == r"'data.path=\udcff.csv': expected UTF-8"
