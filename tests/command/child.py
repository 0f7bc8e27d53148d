"""A process that runs command lines of mfjax one after another, each as if it were the first.

It reads a JSON line `{"argv": […], "cwd": …}` on its standard input for each, and answers with a
line `{"code": …, "stdout": …, "stderr": …}`. What belongs to a process stays as the first command
line said: the devices, the threads and the platform (`mfjax.app.machine` refuses others), and
whether compiled programs are kept.
"""

import json
import logging
import os
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

from mfjax import run


def main() -> None:
    requests = os.fdopen(os.dup(0))
    answers = os.fdopen(os.dup(1), "w")
    with Path(os.devnull).open("r+") as nothing:
        os.dup2(nothing.fileno(), 0)
        os.dup2(nothing.fileno(), 1)
    for line in requests:
        asked = json.loads(line)
        print(json.dumps(answer(asked["argv"], asked["cwd"])), file=answers, flush=True)


def answer(argv: list[str], cwd: str) -> dict:
    """What the command says in a folder, and its exit code."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        with ExitStack() as around:
            around.enter_context(captured(1, sys.stdout, out))
            around.enter_context(captured(2, sys.stderr, err))
            around.enter_context(as_a_process(argv, cwd))
            code = exit_code()
        out.seek(0)
        err.seek(0)
        return {"code": code, "stdout": out.read(), "stderr": err.read()}


def exit_code() -> int:
    """Run the command of `sys.argv`."""
    try:
        run.main()
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            return 1
        return end.code or 0
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


@contextmanager
def captured(number: int, stream, file) -> Iterator[None]:
    """Within it, what goes to a file descriptor goes to `file`."""
    before = os.dup(number)
    os.dup2(file.fileno(), number)
    try:
        yield
    finally:
        stream.flush()
        os.dup2(before, number)
        os.close(before)


@contextmanager
def as_a_process(argv: list[str], cwd: str) -> Iterator[None]:
    """Arguments and a working folder, and none of what a command leaves in a process."""
    before = sys.argv, list(sys.path), dict(os.environ), set(sys.modules), Path.cwd()
    sys.argv = ["mfjax", *argv]
    sys.path.insert(0, cwd)
    os.chdir(cwd)
    run.BEGAN = time.perf_counter()
    try:
        with warnings.catch_warnings():  # and what was said once may be said again
            yield
    finally:
        sys.argv, sys.path[:], environment, modules, folder = before
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        for name in set(sys.modules) - modules:  # those of the folder
            if (getattr(sys.modules[name], "__file__", None) or "").startswith(cwd):
                del sys.modules[name]
        forget_hydra()


def forget_hydra() -> None:
    GlobalHydra.instance().clear()
    HydraConfig.instance().cfg = None
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
        handler.close()
    root.setLevel(logging.WARNING)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt, BrokenPipeError):
        main()
