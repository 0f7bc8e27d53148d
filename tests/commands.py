"""The command as tests run it: in a child that lives on, or in a process of its own."""

import csv
import json
import subprocess
import sys
import threading
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
    "plots=false",
)

Done = subprocess.CompletedProcess


class Child:
    """A process that runs command lines one after another; started when it is first needed."""

    def __init__(self) -> None:
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
                [sys.executable, CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
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


def under_way(folder: Path, *arguments: str) -> subprocess.Popen:
    """As `process`, not yet finished."""
    return subprocess.Popen(
        [sys.executable, "-m", "mfjax.run", *arguments, *_place(arguments)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )


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
