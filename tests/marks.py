"""Which cases of a long table are tried often."""

from collections.abc import Iterable, Sequence
from typing import Any

import pytest


def often(cases: Iterable[Any], one_of: int) -> list:
    """One in so many of the cases as it is, the others as slow tests; a tuple is its arguments."""
    return [
        case if n % one_of == 0 else pytest.param(*_arguments(case), marks=pytest.mark.slow)
        for n, case in enumerate(cases)
    ]


def _arguments(case: Any) -> Sequence[Any]:
    return case if isinstance(case, tuple) else (case,)
