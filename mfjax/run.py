"""`python -m mfjax.run`, and the console script `mfjax`."""

import atexit
import gc
import io
import os
import signal
import sys
import time
from functools import cache
from types import ModuleType

BEGAN = time.perf_counter()  # before the imports: they are part of what a user waits for

from mfjax.app.help import help_text  # noqa: E402
from mfjax.app.names import wrong_name  # noqa: E402

ASKING = {"--help", "-h"}  # Hydra's own takes longer, and loads all that the command may need
GARBAGE = 50_000  # new objects between two searches for garbage, which would take half a second


def main() -> None:
    """Run the command line. Without any argument it shows the help."""
    atexit.register(gc.freeze)  # or all there is would be searched for garbage at the end
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # of a terminal that lacks a character
    try:
        _main(sys.argv[1:])
    except KeyboardInterrupt:  # before the command begins, which has words for it
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:  # who read it has gone
        sys.exit(1)
    except ImportError as error:
        _refuse(f"{error}\nwhat mfjax needs is not installed as it should be: pip install mfjax")
    finally:
        _end_output()


def _end_output() -> None:
    """Write what is left to be written; where nobody reads, Python would say so after all."""
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())


def _main(arguments: list[str]) -> None:
    if not arguments or ASKING & set(arguments):
        print(help_text())
        return
    _refuse(wrong_name(arguments))  # before all that the command needs is loaded
    from mfjax.app.quoting import misread

    _refuse(misread(arguments))
    _command().main(BEGAN)


@cache
def _command() -> ModuleType:
    """The command, with all that it needs, of which nothing is garbage."""
    gc.disable()
    from mfjax.app import command

    gc.freeze()
    gc.set_threshold(GARBAGE)
    gc.enable()
    return command


def _refuse(message: str | None) -> None:
    if message:
        print(f"error: {message}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
