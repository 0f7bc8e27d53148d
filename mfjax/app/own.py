"""A user's own function, by the name that stands for it where the name of a row may.

That is `file.py:function`, `module:function`, or a dotted name such as `optax.contrib.prodigy`.
Sources are read here and never run, so that a wrong name is refused, and the keys of a function are
known, before jax and what the user imports are loaded.
"""

import ast
import difflib
import hashlib
import inspect
import sys
from collections.abc import Iterator
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any, NamedTuple

GROUPS = ("data", "split", "method", "gradient", "loss", "optimizer")  # that take one
NO_KEYS = "(){}[]$"  # what stands in a value that Hydra makes something of
MOST_STEPS = 8  # from a name to the file that defines it, one import a step


class Definition(NamedTuple):
    """Where a function is defined: its file, and its node there; None where it is no `def`."""

    file: Path
    node: ast.FunctionDef | None


def is_own(name: str) -> bool:
    """Whether a name is of a user's own function: those of rows have neither colon nor dot."""
    return ":" in name or "." in name


def parts_of(name: str) -> tuple[str, str]:
    """The module, or the file, and the function of a name."""
    module, _, function = name.rpartition(":" if ":" in name else ".")
    return module, function


def named_by(argument: str) -> list[tuple[str, str]]:
    """The group and each own function of `group=name,name`, or of `group.name=…`."""
    key, _, value = argument.lstrip("+").partition("=")
    group = key.removesuffix(".name")
    if group not in GROUPS or set(NO_KEYS) & set(value):
        return []
    names = (name.strip("'\"") for name in value.split(","))
    return [(group, name) for name in names if is_own(name)]


# what is wrong with one


def missing(key: str, name: str) -> str | None:
    """What is wrong with a name whose file, module or function is not there; else None."""
    module, function = parts_of(name)
    if name.endswith(".py"):
        return f"{key}: {name} is a file; name the function in it: {name}:FUNCTION"
    if module.endswith(".py"):
        file = _file_of(module)
        return f"{key}: no such file: {module}" if file is None else _absent(key, file, function)
    top = module.partition(".")[0]
    if _file_of(top) is None:
        return f"{key}: no module {top!r} here; expected file.py:function or module:function"
    return None


def _absent(key: str, file: Path, function: str) -> str | None:
    tree = _parsed(file)
    if tree is None or function in _bound(tree):  # what does not parse is said as it is imported
        return None
    there = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    close = difflib.get_close_matches(function, there, n=1)
    hint = f"; did you mean {close[0]}?" if close else f"; it has {', '.join(there) or 'none'}"
    return f"{key}: {file} has no function {function!r}{hint}"


def _bound(tree: ast.Module) -> set[str]:
    """All names that a module may bind."""
    nodes = list(ast.walk(tree))
    names = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    names |= {node.id for node in nodes if isinstance(node, ast.Name)}
    return names | {alias.asname or alias.name for _, alias in _imported(tree)}


# its source


def definition(name: str) -> Definition | None:
    """Where a function is defined, through what re-exports it; None where there is no source."""
    module, function = parts_of(name)
    file = _file_of(module)
    for _ in range(MOST_STEPS):
        if file is None or (tree := _parsed(file)) is None:
            return None
        defined = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
        node = next((one for one in defined if one.name == function), None)
        source = None if node else _source_of(tree, function)
        if source is None:
            return Definition(file, node)
        module, function = source
        file = _beside(file, module)
    return None


def digest(name: str) -> str | None:
    """SHA-256 of the file that defines a function, in hex; None where there is no source."""
    found = definition(name)
    return found and hashlib.sha256(found.file.read_bytes()).hexdigest()


def signature(name: str) -> inspect.Signature | None:
    """The signature of a function as it is written; None where that is not known."""
    found = definition(name)
    if found is None or found.node is None:
        return None
    given = found.node.args
    names = [*given.posonlyargs, *given.args]
    defaults = [None] * (len(names) - len(given.defaults)) + given.defaults
    parameters = [
        *map(_parameter, names, defaults, [inspect.Parameter.POSITIONAL_OR_KEYWORD] * len(names)),
        *map(
            _parameter,
            given.kwonlyargs,
            given.kw_defaults,
            [inspect.Parameter.KEYWORD_ONLY] * len(given.kwonlyargs),
        ),
    ]
    return inspect.Signature(parameters)


def _parameter(one: ast.arg, default: ast.expr | None, kind: Any) -> inspect.Parameter:
    return inspect.Parameter(
        one.arg,
        kind,
        default=inspect.Parameter.empty if default is None else _literal(default),
        annotation=_type(one.annotation),
    )


def _literal(default: ast.expr) -> Any:
    try:
        return ast.literal_eval(default)
    except ValueError:  # an expression, whose value is the function's to know
        return None


TYPES = {one.__name__: one for one in (int, float, str, bool, list, dict)}


def _type(annotation: ast.expr | None) -> Any:
    """The type of a key: a plain one, or one with `| None`; any other takes every value."""
    if isinstance(annotation, ast.BinOp) and ast.unparse(annotation.right) == "None":
        annotation = annotation.left
    return TYPES.get(ast.unparse(annotation), Any) if annotation else Any


def _source_of(tree: ast.Module, function: str) -> tuple[str, str] | None:
    """The module, and the name there, that a module imports a function from."""
    for module, alias in _imported(tree):
        if (alias.asname or alias.name) == function:
            return module, alias.name
    return None


def _imported(tree: ast.Module) -> Iterator[tuple[str, ast.alias]]:
    """What `from … import …` binds: the module, with its leading dots, and each alias."""
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from ((module, alias) for alias in node.names)


# files


def _file_of(module: str) -> Path | None:
    """The file of a module, or of a path that ends in .py."""
    if module.endswith(".py"):
        path = Path(module).expanduser().absolute()
        return path if path.is_file() else None
    top, *rest = module.split(".")
    spec = PathFinder.find_spec(top, ["", *sys.path]) if top else None
    if spec is None:
        return None
    folders = list(spec.submodule_search_locations or [])
    if not rest:
        return Path(spec.origin) if spec.origin else Path(folders[0])
    return _in_package(Path(folders[0]), rest) if folders else None


def _beside(file: Path, module: str) -> Path | None:
    """The file of a module that `file` imports: `.module` is of its package, or beside it."""
    dots = len(module) - len(module.lstrip("."))
    parts = [part for part in module[dots:].split(".") if part]
    if not dots:
        return _in_package(file.parent, parts) or _file_of(module)
    return _in_package(file.parents[dots - 1], parts)


def _in_package(folder: Path, parts: list[str]) -> Path | None:
    place = folder.joinpath(*parts)
    choices = (place.with_suffix(".py") if parts else place, place / "__init__.py")
    return next((path for path in choices if path.is_file()), None)


@cache
def _tree(file: Path, written: int) -> ast.Module | None:
    try:
        return ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return None


def _parsed(file: Path) -> ast.Module | None:
    """The syntax of a source, read once as long as it stays as it is; None where it has none."""
    return _tree(file, file.stat().st_mtime_ns) if file.suffix == ".py" else None
