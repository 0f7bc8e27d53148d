"""A contestant, the ratings that its processes read, and the line of JSON that each prints."""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from environments import CONTESTANTS, NotInstalled

import mfjax

TIMEOUT = 1200  # seconds a process
LIBMF_TIMEOUT = 120  # it takes seconds, and now and then its threads wait for each other for ever
TRIES = 3
PERSONAL = (  # settings of one machine's BLAS, which no peer is to inherit
    "OPENBLAS_CORETYPE",
    "OPENBLAS_L2_SIZE",
)


class Contestant(NamedTuple):
    """One side of a comparison: its name in the tables, script, environment and options."""

    name: str
    script: str
    environment: str
    options: tuple[str, ...] = ()
    timeout: int = TIMEOUT


def peer(name: str, package: str, environment: str | None = None, *options: str) -> Contestant:
    timeout = LIBMF_TIMEOUT if package == "libmf" else TIMEOUT
    return Contestant(name, f"{package}_", environment or package, options, timeout)


def write_ratings(path: Path, dataset: mfjax.Dataset, train: np.ndarray, test: np.ndarray) -> None:
    """The file that a contestant reads: the rows to train on, and those to test on."""
    arrays = {}
    for part, rows in {"train": train, "test": test}.items():
        arrays[f"{part}_user"] = dataset.user[rows]
        arrays[f"{part}_item"] = dataset.item[rows]
        arrays[f"{part}_value"] = dataset.value[rows].astype(np.float32)
    np.savez(path, **arrays)


def run(
    contestant: Contestant, python: Path | NotInstalled, arguments: list[str]
) -> dict[str, Any]:
    """The result of one process, or a note that says why there is none."""
    if isinstance(python, NotInstalled):
        return {"note": str(python)}
    script = CONTESTANTS / f"{contestant.script}.py"
    _, data, *_ = arguments
    compiled = Path(data).parent / "compiled"
    for number in range(1, TRIES + 1):
        try:
            words = [str(python), str(script), *arguments]
            code, output, errors = process(words, contestant.timeout, compiled)
        except subprocess.TimeoutExpired:
            continue
        if code:
            lines = errors.strip().splitlines() or [f"exit status {code}"]
            return {"note": lines[-1][:200]}
        result = json.loads(output.strip().splitlines()[-1])
        again = f"hung {number - 1} times and was run again" if number > 1 else ""
        return result | {"note": "; ".join(filter(None, (result["note"], again)))}
    return {"note": f"not finished after {contestant.timeout} s, {TRIES} times"}


def process(words: list[str], timeout: int, compiled: Path) -> tuple[int, str, str]:
    """(exit status, output, errors) of one process.

    Where it does not end by itself, it is ended with its children.
    """
    variables = {key: value for key, value in os.environ.items() if key not in PERSONAL}
    variables["MFJAX_PEERS_CACHE"] = str(compiled)
    child = subprocess.Popen(
        words,
        env=variables,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with child:
        try:
            output, errors = child.communicate(timeout=timeout)
        except BaseException:
            if hasattr(os, "killpg"):
                os.killpg(child.pid, signal.SIGKILL)
            child.kill()
            raise
        return child.returncode, output, errors
