"""What the launcher hands over to a job that it has trained already, with others."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mfjax.app.training import Trained


@dataclass(frozen=True)
class Nothing:
    """The job trains for itself."""


@dataclass(frozen=True)
class Finished:
    """The results of this very job stand in its folder."""


@dataclass(frozen=True)
class Ready:
    """The job is trained, and has its results to write."""

    trained: "Trained"


@dataclass(frozen=True)
class Failed:
    """The job could not be trained: the error to raise in it."""

    error: Exception


Case = Nothing | Finished | Ready | Failed
_case: ContextVar[Case] = ContextVar("handed over", default=Nothing())  # noqa: B039 (frozen)


@contextmanager
def handing_over(case: Case) -> Iterator[None]:
    """Within it, the job that runs finds `case`."""
    token = _case.set(case)
    try:
        yield
    finally:
        _case.reset(token)


def handed_over() -> Case:
    """What the launcher has for the job that runs now."""
    return _case.get()
