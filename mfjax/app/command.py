"""The command: compose the config, hand it to its job, and make a mistake one short message.

Importing it registers the schema: a worker process that unpickles `task` knows it too.
"""

import logging
import os
import re
import shlex
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from contextvars import ContextVar
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from mfjax.app import CONF, jobs, schema
from mfjax.app.check import hint
from mfjax.app.schema import renamed
from mfjax.app.session import is_multirun
from mfjax.errors import CheckFailed, InputError, Interrupted

schema.register()
_began: ContextVar[float] = ContextVar("when the process began, by perf_counter")
MOST_LINES = 6  # of a message


def task(cfg: DictConfig) -> float | None:
    """Run one job in Hydra's output folder."""
    return jobs.run(cfg, time.perf_counter() if is_multirun() else _began.get())


def main(began: float) -> None:
    """The command, in a process that began at `began`.

    It exits with 1 on a wrong input, with its reason in at most six lines, with 2 where a check
    failed, and with 128 + n on signal n.
    """
    _began.set(began)
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra hands errors on, to be shortened here
    run = hydra.main(config_path=str(CONF), config_name="config", version_base="1.3")(task)
    try:
        run()
    except CheckFailed:
        sys.exit(2)
    except (Interrupted, KeyboardInterrupt) as stop:
        number = stop.signal if isinstance(stop, Interrupted) else signal.SIGINT
        say(interrupted(stop))
        sys.exit(128 + number)
    except (InputError, HydraException, OmegaConfBaseException, OSError) as error:
        if "debug=true" in (argument.lower() for argument in sys.argv):
            traceback.print_exc()
        say(f"error: {short(error)}")
        sys.exit(1)


def say(message: str) -> None:
    """To the terminal, and to run.log where the run came that far."""
    handlers = logging.getLogger().handlers
    if any(isinstance(handler, logging.FileHandler) for handler in handlers):
        logging.getLogger("mfjax").error(message)
    print(message, file=sys.stderr)


# a run that a signal ended


def interrupted(stop: BaseException) -> str:
    """What a reader is told whose run a signal ended."""
    if not (isinstance(stop, Interrupted) and stop.kept):
        return "stopped; what was written before is kept"
    folder = stop.folder
    if is_multirun():
        folder = Path(HydraConfig.get().sweep.dir).resolve()
    name = signal.Signals(stop.signal).name
    return f"stopped by {name} and saved; to go on:\n{resumption(sys.argv[1:], folder)}"


def resumption(arguments: Sequence[str], folder: Path) -> str:
    """The command that goes on where this one was stopped, in the same folder."""
    multirun = {"-m", "--multirun"} & set(arguments)
    said_anew = (*multirun, "resume=", "hydra.run.dir=", "hydra.sweep.dir=")
    again = [argument for argument in arguments if not argument.startswith(said_anew)]
    place = f"hydra.{'sweep' if multirun else 'run'}.dir={folder}"
    mode = ["-m"] if multirun else []
    return shlex.join(["python", "-m", "mfjax.run", *mode, *again, place, "resume=true"])


# errors


def short(error: Exception) -> str:
    """The message in at most six lines; of Hydra's, what a user of this command can act on."""
    if isinstance(error, InputError):
        return _first_lines(str(error).splitlines())
    if isinstance(error, OSError) and error.strerror:
        place = error.filename or "a file"
        return f"{place}: {error.strerror}; choose a folder that can be written to, or make room"
    text = f"{error}\n{error.__cause__ or ''}"
    return _wrong_key(text) or _first_lines(_readable(text))


def _first_lines(lines: Sequence[str]) -> str:
    return "\n".join(lines[:MOST_LINES])


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
