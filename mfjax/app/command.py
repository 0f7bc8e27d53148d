"""The command: compose the config, hand it to its job, and make a mistake one short message.

Importing it registers the schema: a worker process that unpickles `task` knows it too.
"""

import logging
import os
import shlex
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import ExitStack, redirect_stderr, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TextIO

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from mfjax.app import CONF, jobs, schema
from mfjax.app.adopted import adopt_named_by
from mfjax.app.folders import Refused
from mfjax.app.messages import short
from mfjax.app.session import ending, is_multirun
from mfjax.errors import CheckFailed, Interrupted
from mfjax.reporting.formats import printable

schema.register()
_began: ContextVar[float] = ContextVar("when the process began, by perf_counter")


def task(cfg: DictConfig) -> float | None:
    """Run one job in Hydra's output folder."""
    return jobs.run(cfg, time.perf_counter() if is_multirun() else _began.get())


def main(began: float) -> None:
    """The command, in a process that began at `began`.

    It exits with 1 on a wrong input, and on a fault of its own, with the reason in at most six
    lines, with 2 where a check failed, and with 128 + n on signal n.
    """
    _began.set(began)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands errors on, to be shortened here
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # its threads spin on the cores of the lanes
    logging.raiseExceptions = False  # a log that nobody can read ends no run
    try:
        with ExitStack() as stack, redirect_stderr(WithoutHydrasWords(sys.stderr)):
            ending.set(stack)
            run()
    except CheckFailed:
        sys.exit(2)
    except (Interrupted, KeyboardInterrupt) as stop:
        number = stop.signal if isinstance(stop, Interrupted) else signal.SIGINT
        say(interrupted(stop))
        sys.exit(128 + number)
    except BrokenPipeError:  # who read what it says has gone
        raise
    except Exception as error:
        if "debug=true" in (argument.lower() for argument in sys.argv):
            traceback.print_exc()
        say(f"error: {short(error)}")
        sys.exit(1)


def run() -> None:
    """Hydra's part: compose the config, and run the job, or the sweeper of several."""
    if adopt_named_by(sys.argv[1:]):
        schema.register()
    try:
        hydra.main(config_path=str(CONF), config_name="config", version_base="1.3")(task)()
    except Refused as refused:
        assert refused.__cause__ is not None
        raise refused.__cause__ from None


class WithoutHydrasWords:
    """A stream without the line that Hydra writes before it raises the error of a job."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        if text.startswith("Error executing job with overrides:"):
            return len(text)
        return self._stream.write(text)


def say(message: str) -> None:
    """To the terminal, and to run.log where the run came that far."""
    message = printable(message)
    handlers = logging.getLogger().handlers
    if any(isinstance(handler, logging.FileHandler) for handler in handlers):
        logging.getLogger("mfjax").error(message)
    with suppress(OSError):  # the terminal has hung up
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
