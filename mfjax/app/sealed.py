"""Test errors of the jobs of a multirun: sealed, and opened for the one that is chosen alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mfjax.app.folders import PREDICTIONS, RESULTS
from mfjax.reporting.files import write_json
from mfjax.training.whole import read_json

SEALED = "test.json"
SEALED_PREDICTIONS = "test.parquet"
NOT_TESTED = "not tested: the test ratings are kept for what is chosen (test=all measures all)"
ALL_TESTED = "all are tested (test=all): to take the least test error is to choose on the test"


def seal(folder: Path, results: Mapping[str, Any]) -> None:
    """Put away what a job measured on the test ratings, to be merged into its results."""
    write_json(folder / SEALED, results)


def unseal(folder: Path) -> None:
    """Merge what was sealed into the results of the chosen job; nothing of one chosen before."""
    path = folder / SEALED
    if not path.is_file():
        return
    results = read_json(folder / RESULTS)
    opened = read_json(path)
    results["metrics"] |= opened.pop("metrics")
    write_json(folder / RESULTS, results | opened)
    if (predicted := folder / SEALED_PREDICTIONS).is_file():
        predicted.replace(folder / PREDICTIONS)
    path.unlink()


def discard(folder: Path) -> None:
    """Forget what was sealed of a job that is not chosen."""
    for name in (SEALED, SEALED_PREDICTIONS):
        (folder / name).unlink(missing_ok=True)
