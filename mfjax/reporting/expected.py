"""Figures that a worked example must reproduce, as its experiment states them.

`{figure: {value: …, within: …}}`, where a figure is a path into the run's results (`a.0.b`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mfjax.errors import InputError

LINE = 24  # characters of an array's line, of which two stand beside each other


def compare_figures(
    expected: Mapping[str, Mapping[str, Any]],
    seen: Mapping[str, Any],
) -> list[dict[str, str]]:
    """A row a figure: figure, expected, seen, tolerance and status (`ok` or `FAILED`).

    Values are numbers or nested lists. Raises InputError for a figure that the run does not have.
    """
    for figure, stated in expected.items():
        if not isinstance(stated, Mapping) or set(stated) != {"value", "within"}:
            raise InputError(f"expected.{figure}: expected {{value: …, within: …}}, got {stated}")
    return [_row(figure, seen, **stated) for figure, stated in expected.items()]


def _row(
    figure: str,
    seen: Mapping[str, Any],
    value: Any,
    within: float,
) -> dict[str, str]:
    found = lookup(seen, figure)
    if found is None:
        raise InputError(
            f"expected.{figure}: this run has no such figure; it has {', '.join(seen)}"
        )
    want = np.asarray(value, float)
    got = np.asarray(found, float)
    has_shape = want.shape == got.shape
    is_right = has_shape and np.all(np.abs(want - got) <= within)
    return {
        "figure": figure,
        "expected": _text(want, within),
        "seen": _text(got, within),
        "tolerance": f"{within:g}",
        "status": "ok" if is_right else "FAILED",
    }


def _text(values: np.ndarray, within: float) -> str:
    """The values with as many digits as the tolerance tells apart."""
    told_apart = np.ceil(-np.log10(within)) if within else 6
    digits = int(np.clip(told_apart, 0, 6))

    def write(value: float) -> str:
        return f"{value:.{digits}f}" if within >= 1e-6 else f"{value:.2g}"

    return np.array2string(values, formatter={"float_kind": write}, max_line_width=LINE)


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
