"""What a run leaves behind: results.json, lanes.csv, history.csv and factors.npz; and how to read it back."""

import hashlib
import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from mfjax.data.dataset import Dataset
from mfjax.errors import InputError
from mfjax.metrics.rating import Metrics
from mfjax.training.epochs import History
from mfjax.training.protocol import Outcome
from mfjax.training.sweep import Fit


def provenance() -> dict[str, Any]:
    """What is needed to run it again: versions, commit, devices, platform, precision, XLA's flags and the command line."""
    import jax

    return {
        "versions": {name: version(name) for name in ("mfjax", "jax", "jaxlib", "optax", "numpy")},
        "python": platform.python_version(),
        "git_commit": _git_commit(),
        "devices": {
            "kind": jax.devices()[0].device_kind,
            "count": jax.device_count(),
            "backend": jax.default_backend(),
        },
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "x64": bool(jax.config.read("jax_enable_x64")),
        "xla_flags": os.environ.get("XLA_FLAGS"),
        "command": sys.argv,
    }


def _git_commit() -> str | None:
    """The commit of the checkout that this package runs from; None for an installed package."""
    here = Path(__file__).resolve().parent.parent
    if not (here.parent / ".git").exists():
        return None
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def plain(value: Any) -> Any:
    """`value` as JSON knows it: NumPy scalars as numbers, what is not finite as null, NamedTuples as objects."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if hasattr(value, "_asdict"):
        return plain(value._asdict())
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, (np.generic, np.ndarray)):
        return plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def digest(of_run: Mapping[str, Any]) -> str:
    """What tells one run from another, of its config, data and version."""
    return hashlib.sha256(json.dumps(plain(of_run), sort_keys=True, default=str).encode()).hexdigest()


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON whole or not at all."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(plain(content), indent=2, ensure_ascii=False) + "\n")
    part.replace(path)


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV, whole or not at all; an empty field where a value is None or not a number."""
    import polars

    part = path.with_suffix(".part")
    polars.DataFrame([plain(row) for row in rows], infer_schema_length=None).write_csv(part)
    part.replace(path)


def markdown(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    cells = [[cell.replace("|", r"\|") for cell in line] for line in cells]
    lines = [columns, ["---"] * len(columns), *cells]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def latex(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """A LaTeX `tabular`, first column left and the others right."""
    escape = {c: f"\\{c}" for c in "_%&#${}"} | {"–": "--", "λ": r"$\lambda$"}
    escape |= {"\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}"}
    text = [" & ".join("".join(escape.get(c, c) for c in cell) for cell in line) + r" \\" for line in (columns, *cells)]
    head, *body = text
    return "\n".join(
        [
            rf"\begin{{tabular}}{{l{'r' * (len(columns) - 1)}}}",
            r"\hline",
            head,
            r"\hline",
            *body,
            r"\hline",
            r"\end{tabular}",
            "",
        ]
    )


def lane_rows(outcome: Outcome) -> list[dict[str, Any]]:
    """A row a lane, the sweep's and then the refit's; the test columns are filled for those that were tested alone."""
    test = dict(zip(map(id, outcome.final), outcome.test, strict=True))
    rows = []
    for fit in all_fits(outcome):
        rmse, mae = test.get(id(fit), (None, None))
        rows.append(
            {
                "lane": len(rows),
                "role": "refit" if outcome.refitted and id(fit) in test else "sweep",
                "chosen": any(fit is f for f in (*outcome.chosen.fits, *outcome.final)),
                **fit.lane.hparams._asdict(),
                "status": fit.status,
                "epochs": len(fit.history.loss),
                "best_epoch": fit.best_epoch,
                **{metric: fit.at_best(metric) for metric in Metrics._fields},
                "test_rmse": rmse,
                "test_mae": mae,
            }
        )
    return rows


def all_fits(outcome: Outcome) -> list[Fit]:
    """Every fit once, the sweep's first."""
    fits = [fit for setting in outcome.settings for fit in setting.fits]
    return fits + outcome.final if outcome.refitted else fits


def history_rows(outcome: Outcome) -> list[dict[str, Any]]:
    """A row a lane and epoch, the lanes numbered as in `lane_rows`."""
    return [
        {"lane": lane, "epoch": epoch + 1, **dict(zip(History._fields, values, strict=True))}
        for lane, fit in enumerate(all_fits(outcome))
        for epoch, values in enumerate(zip(*(x.tolist() for x in fit.history), strict=True))
    ]


def write_factors(path: Path, fit: Fit, dataset: Dataset, bounds: tuple[float, float], bias: bool) -> None:
    """Write what predicts: factors, biases, mean, clipping range, and the ids of the rows."""
    rank = int(fit.lane.hparams.rank)
    (user, item), zeros = fit.factors, np.zeros
    np.savez_compressed(
        path,
        user_factors=user[:, :rank],
        item_factors=item[:, :rank],
        user_bias=user[:, -2] if bias else zeros(len(user), user.dtype),
        item_bias=item[:, -1] if bias else zeros(len(item), item.dtype),
        mean=fit.mean,
        bounds=np.asarray(bounds),
        user_ids=dataset.user_ids,
        item_ids=dataset.item_ids,
    )


@dataclass(frozen=True)
class Model:
    """A trained model with its ids: `predict(users, items)` and `top(user)` in the ids of the data."""

    user_factors: np.ndarray
    item_factors: np.ndarray
    user_bias: np.ndarray
    item_bias: np.ndarray
    mean: np.ndarray
    bounds: np.ndarray
    user_ids: np.ndarray
    item_ids: np.ndarray

    def predict(self, users: Sequence, items: Sequence) -> np.ndarray:
        """Predicted ratings of pairs, `[n]`, clipped to `bounds`. Raises InputError for an id that was not in the data."""
        i, j = _rows(self.user_ids, users, "user"), _rows(self.item_ids, items, "item")
        dot = np.einsum("nk,nk->n", self.user_factors[i], self.item_factors[j])
        return np.clip(self.mean + self.user_bias[i] + self.item_bias[j] + dot, *self.bounds)

    def top(self, user: Any, n: int = 10, exclude: Sequence = ()) -> list[tuple[Any, float]]:
        """The `n` items with the highest predictions for one user, as (item id, unclipped prediction)."""
        (i,) = _rows(self.user_ids, [user], "user")
        score = self.mean + self.user_bias[i] + self.item_bias + self.item_factors @ self.user_factors[i]
        score[_rows(self.item_ids, exclude, "item")] = -np.inf
        best = np.argsort(-score, kind="stable")[: min(n, int(np.isfinite(score).sum()))]
        return [(self.item_ids[j].item(), float(score[j])) for j in best]


def load(folder: str | Path) -> Model:
    """The chosen model of an output folder. Raises InputError where there is none."""
    path = Path(folder) / "factors.npz"
    if not path.is_file():
        raise InputError(f"{folder}: no factors.npz; expected the output folder of a finished training run")
    with np.load(path) as arrays:
        return Model(**arrays)


def _rows(ids: np.ndarray, wanted: Sequence, what: str) -> np.ndarray:
    asked = np.asarray(wanted, None if len(wanted) else ids.dtype)
    rows = np.minimum(np.searchsorted(ids, asked), len(ids) - 1)
    if unknown := asked[ids[rows] != asked].tolist():
        raise InputError(f"unknown {what} {unknown[0]!r}: expected one of the {len(ids):,} {what} ids of the data")
    return rows
