"""Figures that a worked example must reproduce, as its experiment states them: `{figure: {value: …, within: …}}`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mfjax.errors import InputError


def compare(expected: Mapping[str, Mapping[str, Any]], seen: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row a figure: expected, seen, tolerance and status (`ok` or `FAILED`); values are numbers or nested lists.

    Raises InputError for a figure that the run does not have.
    """
    return [_row(figure, of["value"], of["within"], seen) for figure, of in expected.items()]


def _row(figure: str, value: Any, within: float, seen: Mapping[str, Any]) -> dict[str, Any]:
    if (got := lookup(seen, figure)) is None:
        raise InputError(f"expected.{figure}: this run has no such figure; it has {', '.join(seen)}")
    want, got = np.asarray(value, float), np.asarray(got, float)
    right = want.shape == got.shape and bool(np.all(np.abs(want - got) <= within))
    digits = max(int(np.ceil(-np.log10(within))), 0) if within else 6
    show = (f"{x:.{digits}f}" if x.ndim == 0 else np.array2string(x, precision=digits) for x in (want, got))
    return dict(zip(("figure", "expected", "seen"), (figure, *show), strict=True)) | {
        "tolerance": within,
        "status": "ok" if right else "FAILED",
    }


def lookup(tree: Any, path: str) -> Any:
    """`tree["a"][0]["b"]` for the path `a.0.b`, or None."""
    for key in path.split("."):
        if isinstance(tree, Mapping):
            tree = tree.get(key)
        elif isinstance(tree, Sequence) and key.isdigit() and int(key) < len(tree):
            tree = tree[int(key)]
        else:
            return None
    return tree
