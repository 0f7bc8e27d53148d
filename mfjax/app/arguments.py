"""Commands that take plain arguments, and know nothing of Hydra."""

import argparse
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from mfjax.errors import InputError


class Parser(argparse.ArgumentParser):
    """One whose mistakes are one message, as those of `mfjax.run`."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; {self.prog} --help says more")


def command(
    parser: Parser,
    do: Callable[[argparse.Namespace], None],
    arguments: Sequence[str] | None = None,
) -> None:
    """Do what the arguments ask; a wrong input is one message, and exits with 1.

    Args:
      parser: of the arguments.
      do: takes what was parsed.
      arguments: those of the command line where they are not given.
    """
    from mfjax.reporting.formats import printable

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # of a terminal that lacks a character
    try:
        do(parser.parse_args(arguments))
        sys.stdout.flush()
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:  # who read it has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (InputError, OSError) as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        sys.exit(1)
