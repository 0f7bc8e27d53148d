"""What ends a run: a wrong input, which is the user's to mend; a check that failed; a signal."""

from pathlib import Path


class InputError(ValueError):
    """A wrong input: what was expected, what came, and what to do, in at most six short lines.

    The command prints the message alone and exits with 1; `debug=true` shows the traceback.
    """


class OutOfMemory(InputError):
    """What was asked for does not fit in memory; less at once may."""


class CheckpointError(InputError):
    """A result or a checkpoint that is of another run, or a checkpoint that cannot be written.

    It is no single job's fault, so that it ends all that run together.
    """


class CheckFailed(Exception):
    """A figure that did not come out, or a gradient that disagrees.

    The command has said which, and exits with 2.
    """


class Interrupted(BaseException):
    """A signal ended the run between two chunks: the command exits with 128 + `signal`.

    No Exception, so that nothing between a job and the command takes it for a job that failed.

    Args:
      signal: its number.
      kept: whether a checkpoint is left of what stands in `folder`.
      folder: the output folder.
    """

    def __init__(self, signal: int, kept: bool, folder: Path):
        super().__init__(signal)
        self.signal = signal
        self.kept = kept
        self.folder = folder
