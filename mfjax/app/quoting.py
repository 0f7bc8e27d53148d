"""What a shell and Hydra's grammar take apart, and how to write it so that they do not.

Hydra reads `KEY=VALUE` by a grammar of its own, in which a path with a blank or a bracket is no
text. Importing it loads Hydra's parser, but neither jax nor what reads ratings.
"""

import os
import shlex
from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException

SEVERAL = {"-m", "--multirun"}


def misread(arguments: Sequence[str]) -> str | None:
    """What is wrong with the first `KEY=VALUE` that Hydra reads otherwise; None where none is."""
    several = bool(SEVERAL & set(arguments))
    said = (_misread(one, several) for one in arguments if _is_override(one))
    return next(filter(None, said), None)


def _is_override(argument: str) -> bool:
    return "=" in argument and not argument.startswith("-")


def _misread(argument: str, several: bool) -> str | None:
    if any(map(is_no_text, argument)):
        return f"{argument!r}: expected UTF-8"
    try:
        (override,) = OverridesParser.create().parse_overrides([argument])
    except HydraException as error:
        return f"{argument}: Hydra cannot read it ({_reason(error)})\n{_as_text(argument)}"
    if override.is_sweep_override() and not several:
        return f"{argument}: several values, which need -m\n{_as_text(argument)}"
    return None


def _reason(error: HydraException) -> str:
    said = str(error.__cause__ or error).splitlines()[0]
    is_of_lexer = said.startswith("Lexer")  # which does not say more
    return "its grammar has no such character" if is_of_lexer else said


def is_no_text(character: str) -> bool:
    """Whether it stands for a byte that was no UTF-8."""
    return "\ud800" <= character <= "\udfff"


def _as_text(argument: str) -> str:
    """How to write it where its value is one text, with the home folder in place of a tilde."""
    key, _, value = argument.partition("=")
    text = os.path.expanduser(value)  # noqa: PTH111 (which also takes what is no path)
    return f"if that is one text, quote it for Hydra and for the shell:\n  {quoted(key, text)}"


def quoted(key: str, value: str) -> str:
    """`KEY=VALUE` as a shell takes it, of a value that Hydra reads as this very text."""
    return shlex.quote(f"{key}={QuotedString(value, Quote.double).with_quotes()}")
