"""What a run leaves behind: JSON, CSV and the factors."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mfjax.metrics import columns, part_of
from mfjax.training.lanes import Fit
from mfjax.training.protocol import Outcome
from mfjax.training.whole import taking_its_place


def as_json(value: Any) -> Any:
    """`value` as JSON knows it.

    NumPy scalars become numbers, what is not finite null, and NamedTuples objects.
    """
    if isinstance(value, Mapping):
        return {str(key): as_json(of_key) for key, of_key in value.items()}
    if hasattr(value, "_asdict"):
        return as_json(value._asdict())
    if isinstance(value, list | tuple):
        return [as_json(one) for one in value]
    if isinstance(value, np.generic | np.ndarray):
        return as_json(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON whole or not at all."""
    text = json.dumps(as_json(content), indent=2, ensure_ascii=False)
    write_text(path, text + "\n")


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV, whole or not at all; what is None or not finite is an empty field."""
    import polars

    plain = [as_json(row) for row in rows]
    table = polars.DataFrame(plain, infer_schema_length=None)
    with taking_its_place(path) as part:
        table.write_csv(part)


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8, whole or not at all."""
    with taking_its_place(path) as part:
        part.write_text(text, "utf-8", errors="backslashreplace")  # lone surrogates of a file name


def all_fits(outcome: Outcome) -> list[Fit]:
    """Every fit once, the sweep's first, then those of a refit or of pooled samples."""
    fits = [fit for setting in outcome.settings for fit in setting.fits]
    return fits + outcome.final if outcome.refitted or outcome.pooled else fits


def lane_rows(outcome: Outcome) -> list[dict[str, Any]]:
    """A row a lane, the sweep's and then the refit's, or those of pooled samples.

    The metrics are those of the best epoch; only the final fits were tested.
    """
    final = map(id, outcome.final)
    tests = dict(zip(final, outcome.test, strict=True))
    chosen = {*tests, *map(id, outcome.chosen_fits)}
    untested = dict.fromkeys(columns("test"))
    tested = next(filter(None, outcome.test), untested)
    rows = []
    for lane, fit in enumerate(all_fits(outcome)):
        role = "sweep"
        if id(fit) in tests:
            role = "pooled" if outcome.pooled else "refit" if outcome.refitted else "sweep"
        place = {
            "lane": lane,
            "role": role,
            "chosen": id(fit) in chosen,
        }
        test = tests.get(id(fit), {})
        of_test = {column: test.get(column) for column in tested}
        rows.append(place | _row_of_fit(fit) | of_test)
    return rows


def _row_of_fit(fit: Fit) -> dict[str, Any]:
    measured = [column for column in fit.history if part_of(column)]
    return {
        **fit.lane.hparams._asdict(),
        "status": fit.status,
        "epochs": len(fit.history["loss"]),
        "best_epoch": fit.best_epoch,
        **{column: fit.at_best(column) for column in measured},
    }


def history_rows(outcome: Outcome) -> list[dict[str, Any]]:
    """A row a lane and epoch, the lanes numbered as in `lane_rows`."""
    rows = []
    for lane, fit in enumerate(all_fits(outcome)):
        by_column = [column.tolist() for column in fit.history.values()]
        by_epoch = zip(*by_column, strict=True)
        for epoch, values in enumerate(by_epoch, start=1):
            row = {"lane": lane, "epoch": epoch}
            rows.append(row | dict(zip(fit.history, values, strict=True)))
    return rows
