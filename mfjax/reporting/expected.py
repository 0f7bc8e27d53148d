"""Figures that a worked example must reproduce, as its experiment states them.

`{figure: {value: …, within: …}}`, or `{value: TEXT}` of what is said in words, where a figure is a
path into the run's results (`a.0.b`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mfjax.errors import InputError

COLUMNS = ("figure", "expected", "seen", "tolerance", "status")
LINE = 24  # characters of an array's line, of which two stand beside each other


def check_expected(expected: Mapping[str, Any]) -> None:
    """Raises InputError for what states no figure, which can be told before there is a run."""
    for figure, stated in expected.items():
        if not isinstance(stated, Mapping) or set(stated) != _keys(stated.get("value")):
            raise InputError(f"expected.{figure}: expected {{value: …, within: …}}, got {stated}")
        if not isinstance(stated["value"], str):
            _refuse_no_numbers(figure, stated)


def _refuse_no_numbers(figure: str, stated: Mapping[str, Any]) -> None:
    for key, part in stated.items():
        try:
            np.asarray(part, float)
        except (TypeError, ValueError):
            raise InputError(f"expected.{figure}.{key}: {part!r} is not of numbers") from None


def compare_figures(
    expected: Mapping[str, Mapping[str, Any]],
    seen: Mapping[str, Any],
) -> list[dict[str, str]]:
    """A row a figure: figure, expected, seen, tolerance and status (`ok` or `FAILED`).

    Values are numbers, nested lists or texts. Raises InputError for a figure that the run does not
    have.
    """
    check_expected(expected)
    return [_row(figure, seen, **stated) for figure, stated in expected.items()]


def _keys(value: Any) -> set[str]:
    """What must be stated of a value."""
    return {"value"} if isinstance(value, str) else {"value", "within"}


def _row(
    figure: str,
    seen: Mapping[str, Any],
    value: Any,
    within: float = 0,
) -> dict[str, str]:
    found = lookup(seen, figure)
    if found is None:
        raise InputError(
            f"expected.{figure}: this run has no such figure; it has {', '.join(seen)}"
        )
    if isinstance(value, str) or isinstance(found, str):
        status = "ok" if found == value else "FAILED"
        return _said(figure, str(value), str(found), "–", status)
    want = np.asarray(value, float)
    got = np.asarray(found, float)
    has_shape = want.shape == got.shape
    is_right = has_shape and np.all(np.abs(want - got) <= within)
    status = "ok" if is_right else "FAILED"
    return _said(figure, _text(want, within), _text(got, within), f"{within:g}", status)


def _said(*cells: str) -> dict[str, str]:
    return dict(zip(COLUMNS, cells, strict=True))


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
