"""What a reader is told of an error, and that nothing is a traceback."""

import sys

import pytest
import yaml
from configs import schema  # noqa: F401 (which knows the keys)
from hydra.errors import HydraException

from mfjax.app import command, names
from mfjax.app.messages import MOST_LINES, short
from mfjax.errors import CheckFailed, InputError


def raised(error: Exception) -> Exception:
    try:
        raise error
    except type(error) as caught:
        return caught


FORESEEN = {
    "input": (InputError("a\nb\nc\nd\ne\nf\ng"), "a\nb\nc\nd\ne\nf"),
    "memory": (MemoryError(), "out of memory: this machine has no more to give\nuse a lower"),
    "disk": (OSError(28, "No space left on device", "/a"), "/a: No space left on device; choose"),
    "yaml": (yaml.YAMLError("while scanning\n  line 3"), "while scanning\nline 3"),
    "hydra": (HydraException("Could not override 'epocks'"), "unknown key epocks; did you mean"),
    "nothing": (HydraException(""), "HydraException"),
}


@pytest.mark.parametrize("error, expected", FORESEEN.values(), ids=FORESEEN)
def test_what_is_foreseen_says_what_to_do(error, expected):
    said = short(raised(error))
    assert said.startswith(expected)
    assert "fault" not in said
    assert len(said.splitlines()) <= MOST_LINES


def test_what_is_not_foreseen_is_a_fault_of_mfjax():
    said = short(raised(KeyError("factors")))
    assert said.startswith("KeyError: 'factors' (")
    assert "test_messages.py, line " in said
    assert "this is a fault of mfjax and not yours; please report it\ndebug=true shows" in said
    assert short(KeyError("never raised")).startswith("KeyError: 'never raised'\n")


def test_a_note_says_which_job_it_was():
    error = raised(InputError("no.csv: file not found\nlooked"))
    error.add_note("job 3")
    assert short(error) == "job 3: no.csv: file not found\nlooked"


def test_a_plugin_of_an_experiment_that_is_not_there_has_its_pip_line(monkeypatch):
    monkeypatch.setattr(names, "find_spec", lambda module: None)
    error = HydraException("In 'exp/mine': Could not find 'hydra/launcher/submitit_slurm'")
    said = short(raised(error))
    assert said.startswith("hydra/launcher=submitit_slurm needs what is not installed\npip install")


# how the command ends


@pytest.fixture
def ending(monkeypatch, capsys):
    """`ending(error, *arguments)`: the exit code and the standard error of a run that raises it."""

    def end(error, *arguments):
        def run():
            sys.stderr.write("Error executing job with overrides: ['a=1']\n")
            raise error

        monkeypatch.setattr(command, "run", run)
        monkeypatch.setattr(sys, "argv", ["mfjax", *arguments])
        with pytest.raises(SystemExit) as exit:
            command.main(0.0)
        return exit.value.code, capsys.readouterr().err

    return end


@pytest.mark.parametrize("error", [RuntimeError("what?"), InputError("no.csv"), MemoryError()])
def test_an_error_is_one_message(ending, error):
    code, said = ending(error)
    assert code == 1
    assert said.startswith("error: ")
    assert len(said.splitlines()) <= MOST_LINES


def test_debug_shows_the_traceback_of_a_fault(ending):
    code, said = ending(RuntimeError("what?"), "debug=true")
    assert code == 1
    assert "Traceback (most recent call last)" in said
    assert "error: RuntimeError: what? (" in said


def test_control_characters_of_a_message_are_shown_and_not_obeyed(ending):
    _, said = ending(InputError("user '\x1b[31m' \u202e"))
    assert said == "error: user '\\x1b[31m' \\u202e\n"


def test_other_ends_say_nothing_more(ending):
    assert ending(CheckFailed("a figure")) == (2, "")
    code, said = ending(KeyboardInterrupt())
    assert (code, said) == (130, "stopped; what was written before is kept\n")
