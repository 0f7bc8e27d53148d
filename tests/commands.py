"""The command as tests run it: in a child that lives on, or in a process of its own."""

import csv
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

TIMEOUT = 300  # seconds
CHILD = Path(__file__).parent / "command" / "child.py"

SMALL = (
    "data=synthetic",
    "data.num_users=40",
    "data.num_items=30",
    "data.num_ratings=300",
    "data.rank=2",
    "epochs=3",
    "replicates=1",
)
NO_PLOTS = "plots.draw=false"
QUIET = (*SMALL, NO_PLOTS)

Done = subprocess.CompletedProcess


class Child:
    """A process that runs command lines one after another; started when it is first needed.

    Its environment is this process's, with `environment`.
    """

    def __init__(self, **environment: str) -> None:
        self._environment = os.environ | environment
        self._process: subprocess.Popen | None = None

    def __call__(self, folder: Path, *arguments: str) -> Done:
        """The command in `folder`, its results in `folder/out` where no argument says otherwise."""
        argv = [*arguments, *_place(arguments)]
        said = self._ask({"argv": argv, "cwd": str(folder)})
        return Done(argv, said["code"], said["stdout"], said["stderr"])

    def close(self) -> None:
        if self._process is not None:
            self._process.stdin.close()
            self._process.stdout.close()
            self._process.wait(TIMEOUT)
            self._process = None

    def _ask(self, request: dict) -> dict:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, CHILD],
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        process = self._process
        too_late = threading.Timer(TIMEOUT, process.kill)
        too_late.start()
        try:
            print(json.dumps(request), file=process.stdin, flush=True)
            line = process.stdout.readline()
        finally:
            too_late.cancel()
        assert line, f"the child died of {request['argv']}: exit code {process.wait(TIMEOUT)}"
        return json.loads(line)


def process(folder: Path, *arguments: str, python=("-m", "mfjax.run")) -> Done:
    """As `Child`, in a process of its own."""
    return subprocess.run(
        [sys.executable, *python, *arguments, *_place(arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=TIMEOUT,
        check=False,
    )


def stopped_at_a_checkpoint(folder: Path, number: int, *arguments: str) -> Done:
    """As `process`, with a signal as soon as another checkpoint stands in `folder`."""
    before = checkpoints(folder)
    return stopped_when(lambda: checkpoints(folder) != before, number, folder, *arguments)


def stopped_when(is_time: Callable[[], bool], number: int, folder: Path, *arguments: str) -> Done:
    """As `process`, with a signal as soon as it is time."""
    running = subprocess.Popen(
        [sys.executable, "-m", "mfjax.run", *arguments, *_place(arguments)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )
    while not is_time() and running.poll() is None:
        time.sleep(0.005)
    running.send_signal(number)
    out, err = running.communicate(timeout=TIMEOUT)
    return Done(running.args, running.returncode, out, err)


def checkpoints(folder: Path) -> dict[Path, int]:
    """When each checkpoint of the output folders in `folder` was written."""
    written = {}
    for path in folder.glob("*/checkpoint/**/*.ckpt"):
        with suppress(FileNotFoundError):  # it gives way to a newer one just now
            written[path] = path.stat().st_mtime_ns
    return written


def _place(arguments) -> tuple[str, ...]:
    says_where = ("--", "hydra.run.dir=", "hydra.sweep.dir=")
    if not arguments or any(argument.startswith(says_where) for argument in arguments):
        return ()
    in_multirun = "-m" in arguments
    return ("hydra.sweep.dir=out" if in_multirun else "hydra.run.dir=out",)


def assert_succeeded(done: Done) -> Done:
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def assert_refused(done: Done, message: str) -> None:
    """One short message on the standard error, and exit code 1."""
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert done.returncode == 1, done.stdout + done.stderr
    assert message in done.stderr, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert 1 <= len(lines) <= 6, done.stderr


def strict_json(path: Path):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(path.read_text(), parse_constant=refuse)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))
