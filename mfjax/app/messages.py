"""What a reader is told of an error: one message, of what to do about it.

Errors of mfjax say so themselves, and those of Hydra are put in words that a user of this command
can act on. Whatever is not foreseen is a fault of mfjax, and the message says that it is.
"""

import re
import traceback
from pathlib import Path

import hydra
import yaml
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from mfjax.app.check import hint, hint_of_section
from mfjax.app.names import missing_extra
from mfjax.app.schema import renamed
from mfjax.errors import InputError
from mfjax.training.fitting import SMALLER_HINT

MOST_LINES = 6
HYDRA = Path(hydra.__file__).parent
OF_HYDRA = (HydraException, OmegaConfBaseException, yaml.YAMLError)


def short(error: Exception) -> str:
    """The message in at most six lines, after what a note says of the job that it is of."""
    lines = _said(error)[:MOST_LINES] or [type(error).__name__]
    of_jax = "JAX has removed its internal frames"  # from what a function that it calls raises
    notes = [note for note in getattr(error, "__notes__", []) if of_jax not in note]
    return "\n".join([": ".join([*notes, lines[0]]), *lines[1:]])


def _said(error: Exception) -> list[str]:
    if isinstance(error, InputError):
        return str(error).splitlines()
    if isinstance(error, MemoryError):
        return ["out of memory: this machine has no more to give", f"use {SMALLER_HINT}"]
    if isinstance(error, OSError) and error.strerror:
        place = error.filename or "a file"
        what = "choose a folder that can be written to, or make room"
        return [f"{place}: {error.strerror}; {what}"]
    if isinstance(error, OF_HYDRA) or _raised_in_hydra(error):
        text = f"{error}\n{error.__cause__ or ''}"
        named = _wrong_key(text) or missing_extra(text)
        return named.splitlines() if named else _readable(text)
    return _fault(error)


def _raised_in_hydra(error: Exception) -> bool:
    """Whether it is of Hydra's own code, as that of two flags that exclude each other."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and Path(frames[-1].filename).is_relative_to(HYDRA)


def _fault(error: Exception) -> list[str]:
    """What is said of an error that nobody has foreseen."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    what = traceback.format_exception_only(error)[0].strip()
    return [
        f"{what}{place}",
        "this is a fault of mfjax and not yours; please report it",
        "debug=true shows the traceback",
    ]


def _wrong_key(text: str) -> str | None:
    """What to write instead of a key of the command line, or of a file, that Hydra refuses.

    None where that is not what failed.
    """
    if group := re.search(r"Could not override '(.*)'\.\s*No match in the defaults list", text):
        it = group[1]
        return f"write +{it}=… with a plus: {it} is no part of the config until it is added"
    if unknown := re.match(r"Could not override '(.*)'", text):
        return f"unknown key {unknown[1]}; {hint(unknown[1])}"
    merged = re.match(r"Error merging override \+*([^=]+)=", text)
    if merged and (new := renamed(merged[1])):
        return f"{merged[1]} is a section; it is now {new}"
    if merged and (instead := hint_of_section(merged[1])):
        return instead
    if unknown := re.match(r"(In '.*'): ConfigKeyError(?:.|\n)*full_key: (\S+)", text):
        return f"{unknown[1]}: unknown key {unknown[2]}; {hint(unknown[2])}"
    another = r"(In '.*'): (?:.|\n)*(?:str|bool) is not a subclass of (\w+)\. value: (\S+)"
    if named := re.match(another, text):
        place, section, name = named.groups()
        group = section.removesuffix("Config").lower() if section.endswith("Config") else "job"
        if new := renamed(group):
            return f"{place}: {group} is a section; it is now {new}"
        return f"{place}: write 'override /{group}: {name}' in its defaults"
    return None


def _readable(text: str) -> list[str]:
    """The lines of an error of Hydra's that say something to a user."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    internal = ("reference_type", "object_type", "full_key")
    lines = [line for line in lines if not line.startswith(internal)]
    if "Config search path:" in lines:
        lines = lines[: lines.index("Config search path:")]
    for i, line in enumerate(lines):
        if line.startswith("Available options"):
            return [*lines[:i], f"{line} {', '.join(lines[i + 1 :])}"]
        if "is not a ListConfig" in line:
            lines[i] = "expected a list, such as [0.05,0.1]"
    return lines
