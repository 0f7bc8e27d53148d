"""A user's own functions as rows of the tables, under the names that stand for them.

A row is found by all that read its table: the schema, the look-up, the messages. It is loaded as it
is first called, for the user's module may use jax before the config has said how.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, NamedTuple

import jax
import optax
from omegaconf import DictConfig, OmegaConf

from mfjax.app import own
from mfjax.checks.functions import load_function, place_of, said, where
from mfjax.data import SOURCES, SPLITS, Dataset, Split
from mfjax.data.contracts import Checks, dataset_checks, split_checks
from mfjax.errors import InputError
from mfjax.gradients import GRADIENTS
from mfjax.losses import LOSSES
from mfjax.methods import METHODS
from mfjax.types import Gradient, Method

OPTIMIZERS: dict[str, Callable[..., Any]] = {}  # beside those of optax
REASON = 300  # characters of one


def _none(returned: Any, *args: Any, **kwargs: Any) -> Checks:
    return {}


def _of_dataset(returned: Dataset, *args: Any, **kwargs: Any) -> Checks:
    return dataset_checks(returned)


def _of_split(returned: Split, data: Dataset, split_seed: int, **kwargs: Any) -> Checks:
    return split_checks(lambda data, split_seed: returned, data, split_seed)


def _of_loss(returned: jax.Array, *args: Any) -> Checks:
    def number() -> None:
        assert not returned.shape, f"expected a scalar of scalars, got shape {returned.shape}"

    return {"it is a number": number}


class Place(NamedTuple):
    """Where a row may be named.

    Args:
      table: of the row.
      returns: the kind of what it returns.
      checks: of what it returned, and what for.
    """

    table: dict[str, Any]
    returns: type
    checks: Callable[..., Checks] = _none


PLACES = {
    "data.name": Place(SOURCES, Dataset, _of_dataset),
    "job.lane_data.name": Place(SOURCES, Dataset, _of_dataset),
    "split.name": Place(SPLITS, Split, _of_split),
    "method.name": Place(METHODS, Method),
    "gradient": Place(GRADIENTS, Gradient),
    "job.gradients": Place(GRADIENTS, Gradient),
    "loss": Place(LOSSES, jax.Array, _of_loss),
    "optimizer.name": Place(OPTIMIZERS, optax.GradientTransformation),
}


class OwnFunction:
    """A user's own function, as a row of a table.

    Args:
      key: the config key that names it.
      name: as it is named.
    """

    def __init__(self, key: str, name: str) -> None:
        self.key = key
        self.name = name
        self.digest = own.digest(name)
        self.written = own.signature(name)
        self.__name__ = name
        self.__doc__ = "A function of the user's own."

    @cached_property
    def function(self) -> Callable[..., Any]:
        """The function itself. Raises InputError where it cannot be imported."""
        return load_function(":".join(own.parts_of(self.name)), self.key)

    @property
    def __signature__(self) -> inspect.Signature:
        return self.written or inspect.signature(self.function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What it returns. Raises InputError where it raises, or returns what it must not."""
        place = PLACES[self.key]
        with self.answering():
            returned = self.function(*args, **kwargs)
        if not isinstance(returned, place.returns):
            raise InputError(
                f"{where(self.function)} returned a {type(returned).__name__}; "
                f"expected a {place.returns.__name__.rpartition('.')[2]}"
            )
        self.hold_to(place.checks(returned, *args, **kwargs))
        return returned

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Within it, an error is the user's function's, and said with its file and line."""
        try:
            yield
        except (InputError, AssertionError):
            raise
        except Exception as error:
            place = place_of(error, self.function)
            raise InputError(f"{place} raised {said(error)}") from error

    def hold_to(self, checks: Checks) -> None:
        """Run the checks of a contract. Raises InputError with the first that fails."""
        for name, check in checks.items():
            try:
                with self.answering():
                    check()
            except AssertionError as error:
                reason = " ".join(str(error).split())
                raise InputError(
                    f"{self.key}={self.name} breaks its contract: {name}\n{reason[:REASON]}"
                ) from error


# taking them in


def adopt(key: str, name: str) -> bool:
    """Make a function that `key` names a row, if it is none; anew where its source has changed.

    Returns:
      Whether it is a new row.

    Raises:
      InputError: there is no such function.
    """
    if message := own.missing(key, name):
        raise InputError(message)
    table = PLACES[key].table
    before = table.get(name)
    is_new = not isinstance(before, OwnFunction) or before.digest != own.digest(name)
    if is_new:
        table[name] = OwnFunction(key, name)
    return is_new


def adopt_named_by(arguments: Sequence[str]) -> bool:
    """Adopt the functions that a command line names; whether there are new rows."""
    named = [one for argument in arguments for one in own.named_by(argument)]
    return _adopt_all(
        (group if group in PLACES else f"{group}.name", name) for group, name in named
    )


def adopt_in(cfg: DictConfig) -> bool:
    """Adopt the functions that a config names; whether there are new rows."""
    values = {key: OmegaConf.select(cfg, key) for key in PLACES}
    lists = {key: of if OmegaConf.is_list(of) else [of] for key, of in values.items()}
    named = ((key, name) for key, names in lists.items() for name in names)
    return _adopt_all(
        (key, name) for key, name in named if isinstance(name, str) and own.is_own(name)
    )


def _adopt_all(named: Iterable[tuple[str, str]]) -> bool:
    new = [one for one in named if adopt(*one)]
    return bool(new)


def row_of(cfg: DictConfig, key: str) -> OwnFunction | None:
    """The user's function that `key` names; None where it names none of theirs."""
    name = OmegaConf.select(cfg, key)
    row = PLACES[key].table.get(name) if isinstance(name, str) else None
    return row if isinstance(row, OwnFunction) else None


# knowing them again

CANDIDATE = ("candidate.gradient", "candidate.loss", "candidate.checker")  # of `job=gradients`


def provenance_of(values: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Name, file and digest of every function of the user's own, by the key that names it.

    Args:
      values: of a config, by their dotted keys.
    """
    found = {key: (name, own.definition(name)) for key, name in _named_in(values)}
    return {
        key: {"name": name, "file": str(defined.file), "sha256": str(own.digest(name))}
        for key, (name, defined) in found.items()
        if defined
    }


def _named_in(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    ends = tuple(f".{key}" for key in (*PLACES, *CANDIDATE))
    for key, value in values.items():
        named = dict(enumerate(value)) if isinstance(value, list) else {"": value}
        for i, name in named.items():
            if f".{key}".endswith(ends) and isinstance(name, str) and own.is_own(name):
                yield f"{key}.{i}".removesuffix("."), name
