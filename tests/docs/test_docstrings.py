"""Every public docstring says its arguments with their shapes, what it returns, and what it raises.

Public is what a page of the reference shows: the public names, the rows of their tables, the
modules that are pages, and the public methods and properties of their classes.
"""

import ast
import builtins
import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

import jax
import numpy as np
import polars
import pytest
from jaxtyping import AbstractArray, Array, Float
from pages import docstrings, names

import mfjax
from mfjax import errors

PROSE = re.compile(r"\b[Rr]aises `?[A-Z]\w+")  # beside the section
ANY_SHAPE = "..."  # of arrays each of its own, or of a plain array


class Public(NamedTuple):
    """A class, a function or a property, by the place of its definition."""

    name: str
    thing: Any

    @property
    def function(self) -> Callable | None:
        """Whose signature and body the docstring is about; a class has none.

        A protocol is one function, so that its own docstring is that of its `__call__`.
        """
        if isinstance(self.thing, property):
            return inspect.unwrap(self.thing.fget)
        if not inspect.isclass(self.thing):
            return inspect.unwrap(self.thing)
        is_protocol = getattr(self.thing, "_is_protocol", False)
        return inspect.unwrap(self.thing.__call__) if is_protocol else None


# what is public


def public() -> Iterator[Public]:
    for entry in (entry for of_room in names.rooms().values() for entry in of_room):
        if not entry.heading:
            yield from of_module(import_module(entry.path))
            continue
        home, _, name = entry.path.rpartition(".")
        thing = getattr(import_module(home), name)
        if not isinstance(thing, dict):  # a table, whose rows are entries too
            yield from with_members(thing)


def of_module(module: Any) -> Iterator[Public]:
    """Those that it defines, or names as its own."""
    own = getattr(module, "__all__", ())
    for name, thing in vars(module).items():
        has_docstring = inspect.isclass(thing) or inspect.isfunction(thing)
        is_own = name in own or getattr(thing, "__module__", None) == module.__name__
        if has_docstring and is_own and not name.startswith("_"):
            yield from with_members(thing)


def with_members(thing: Any) -> Iterator[Public]:
    name = f"{thing.__module__}.{thing.__qualname__}".removeprefix("mfjax.")
    yield Public(name, thing)
    members = vars(thing).items() if inspect.isclass(thing) else ()
    for own_name, member in members:
        function = getattr(member, "__func__", member)  # of a class method
        has_docstring = isinstance(function, property) or inspect.isfunction(function)
        if has_docstring and not own_name.startswith("_"):
            yield Public(f"{name}.{own_name}", function)


PUBLIC = {one.name: one for one in public()}


# what is missing from a docstring


def lacks(one: Public) -> list[str]:
    """All that the docstring does not say, or says of what is not there."""
    return [*of_summary(one), *of_arguments(one), *of_result(one), *of_errors(one)]


def of_summary(one: Public) -> Iterator[str]:
    said = docstrings.docstring(one.thing)
    is_made = said.startswith(f"{one.name.rpartition('.')[2]}(")  # by dataclass or NamedTuple
    if not said or is_made:
        yield "a docstring"
    if found := PROSE.search(said):
        yield f"a section in place of {found[0]!r}"


def of_arguments(one: Public) -> Iterator[str]:
    said = docstrings.arguments(one.thing)
    parameters = {str(each).split(":")[0].split("=")[0]: each.name for each in taken(one)}
    yield from (f"Args: {name}" for name in parameters if name not in said)
    yield from (f"no {name} in its Args" for name in said if name not in parameters)
    kinds = hints(one.function or one.thing)
    for name, parameter in parameters.items():
        yield from (
            f"Args: {name} with {shape}"
            for shape in shapes(kinds.get(parameter))
            if not says(said.get(name, ""), shape)
        )


def taken(one: Public) -> Iterable[inspect.Parameter]:
    """What is given to it: of a class that is not made by its caller, nothing."""
    taker = one.function or made_by(one.thing)
    parameters = inspect.signature(taker).parameters
    return [each for name, each in parameters.items() if name not in ("self", "cls", "_cls")]


def made_by(of_class: type) -> Callable:
    """What makes one, whose parameters are the fields of a NamedTuple or a dataclass."""
    if issubclass(of_class, tuple):
        return of_class.__new__
    return vars(of_class).get("__init__", nothing)


def nothing() -> None:
    """What makes an exception that is its message alone."""


def of_result(one: Public) -> Iterator[str]:
    """The summary of a property is what it returns, and a class returns itself."""
    if one.function is None or isinstance(one.thing, property):
        return
    kind = hints(one.function).get("return")
    heading = "Yields" if inspect.isgeneratorfunction(one.function) else "Returns"
    said = " ".join(docstrings.section(one.thing, heading))
    if bool(said) != (kind is not type(None)):
        yield f"{heading}: {'nothing' if said else 'what'}"
    yield from (f"{heading}: with {shape}" for shape in shapes(kind) if not says(said, shape))


def of_errors(one: Public) -> Iterator[str]:
    said = docstrings.arguments(one.thing, "Raises")
    raised = raised_by(one.function) if one.function else set()
    yield from (f"Raises: {name}" for name in sorted(raised - set(said)))
    known = vars(builtins) | vars(errors)
    yield from (f"no error {name}" for name in said if name not in known)


def raised_by(function: Callable) -> set[str]:
    """The names of the errors that its own body raises."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    raised = [node.exc for node in ast.walk(tree) if isinstance(node, ast.Raise)]
    called = [error.func if isinstance(error, ast.Call) else error for error in raised]
    return {error.id for error in called if isinstance(error, ast.Name)}


# shapes


def hints(thing: Any) -> dict[str, Any]:
    """The types of a signature, those of Polars too, which functions import themselves."""
    return get_type_hints(thing, localns={"pl": polars}, include_extras=True)


def shapes(kind: Any) -> set[str]:
    """The shapes of the arrays of a type, as a docstring writes them; of Factors it has none.

    The fields of a NamedTuple say their shapes themselves.
    """
    if get_origin(kind) is Callable:
        return set()
    if inspect.isclass(kind) and issubclass(kind, AbstractArray):
        return {written(kind.dim_str)}
    if kind in (np.ndarray, jax.Array):
        return {ANY_SHAPE}
    return {shape for inner in get_args(kind) for shape in shapes(inner)}


def written(dimensions: str) -> str:
    if dimensions == ANY_SHAPE:
        return ANY_SHAPE
    return f"[{', '.join(dimensions.split())}]" if dimensions.strip() else "scalar"


def says(text: str, shape: str) -> bool:
    if shape == ANY_SHAPE:
        return "scalar" in text or re.search(r"\[.+\]", text) is not None
    return shape in text


# the tests


@pytest.mark.parametrize("one", PUBLIC.values(), ids=PUBLIC)
def test_a_public_docstring_says_arguments_result_and_errors(one):
    assert lacks(one) == []


TABLES = ("GRADIENTS", "KERNELS", "METHODS", "METRICS", "SPLITS")


@pytest.mark.parametrize("table", TABLES)
def test_every_row_of_a_table_says_where_its_mathematics_is_from(table):
    for name, row in getattr(mfjax, table).items():
        said = docstrings.docstring(getattr(row, "of", row))
        assert re.search(r"^(Derivation|Source): ", said, re.M), name


def test_a_docstring_that_lacks_something_is_noticed():
    def function(
        a: Float[Array, "users k"], b: Float[Array, ""], *, c: int, **d: int
    ) -> list[Float[Array, " n"]]:
        """It raises ValueError.

        Args:
          a: `[users, 8]`.
          b: a scalar.
          e: nothing.

        Raises:
          WrongError: never.
        """
        if c:
            raise ValueError(d)
        raise errors.InputError

    assert lacks(Public("function", function)) == [
        "a section in place of 'raises ValueError'",
        "Args: c",
        "Args: **d",
        "no e in its Args",
        "Args: a with [users, k]",
        "Returns: what",
        "Returns: with [n]",
        "Raises: ValueError",
        "no error WrongError",
    ]
