"""Figures that a worked example must reproduce, as its experiment states them: `{figure: {value: …, within: …}}`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mfjax.errors import InputError


def compare(expected: Mapping[str, Mapping[str, Any]], seen: Mapping[str, Any]) -> list[dict[str, str]]:
    """A row a figure: expected, seen, tolerance and status (`ok` or `FAILED`); values are numbers or nested lists.

    Raises InputError for a figure that the run does not have.
    """
    for figure, of in expected.items():
        if not isinstance(of, Mapping) or set(of) != {"value", "within"}:
            raise InputError(f"expected.{figure}: expected {{value: …, within: …}}, got {of}")
    return [_row(figure, of["value"], of["within"], seen) for figure, of in expected.items()]


def _row(figure: str, value: Any, within: float, seen: Mapping[str, Any]) -> dict[str, str]:
    if (got := lookup(seen, figure)) is None:
        raise InputError(f"expected.{figure}: this run has no such figure; it has {', '.join(seen)}")
    want, got = np.asarray(value, float), np.asarray(got, float)
    right = want.shape == got.shape and bool(np.all(np.abs(want - got) <= within))
    digits = int(np.clip(np.ceil(-np.log10(within)), 0, 6)) if within else 6
    style = {"float_kind": lambda x: f"{x:.{digits}f}" if within >= 1e-6 else f"{x:.2g}"}
    shown = (np.array2string(x, formatter=style, max_line_width=60) for x in (want, got))
    cells = (figure, *shown, f"{within:g}", "ok" if right else "FAILED")
    return dict(zip(("figure", "expected", "seen", "tolerance", "status"), cells, strict=True))


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
