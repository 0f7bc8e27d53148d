"""A user's own functions: found, and named by their file and line."""

import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from mfjax.errors import InputError

# (user [users, k], item [items, k], ratings [users, items], mask [users, items], reg)
Own = Callable[..., Any]


def load_function(place: str, key: str) -> Own:
    """A user's function.

    Args:
      place: `module:function` or `path/to/file.py:function`.
      key: the config key that named it, for the message.

    Raises:
      InputError: it is not there, or cannot be imported.
    """
    module_name, _, name = place.rpartition(":")
    if not module_name:
        raise InputError(f"{key}: expected module:function or file.py:function, got {place!r}")
    function = getattr(_loaded(module_name, key), name, None)
    if not callable(function):
        raise InputError(f"{key}: {module_name} has no function {name!r}")
    return function


def _loaded(name: str, key: str) -> ModuleType:
    path = Path(name).expanduser()
    try:
        return _load_file(path) if path.suffix == ".py" else _load_module(name)
    except (ImportError, OSError, SyntaxError) as error:
        raise InputError(
            f"{key}: cannot import {name} ({error}); give a module on the path, or a file.py"
        ) from error
    except (Exception, SystemExit) as error:
        line = _line_in(str(path.absolute()), error)
        place = name if line is None else f"{path.absolute()}:{line}"
        raise InputError(f"{key}: cannot import {name}\n{place}: {said(error)}") from error


def _load_module(name: str) -> ModuleType:
    sys.path.insert(0, "")  # the console script does not look in the working directory
    return importlib.import_module(name)


def _load_file(path: Path) -> ModuleType:
    """The module of a file, which may import those beside it."""
    name = f"own_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # a name that ends in .py always has both
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # a dataclass looks its module up there
    sys.path.append(str(path.absolute().parent))
    spec.loader.exec_module(module)
    return module


# where they stand


def _code(function: Own) -> CodeType | None:
    """The code of a function, of what it wraps, or of an object's call; None of a builtin."""
    plain = inspect.unwrap(function)
    places = (plain, getattr(plain, "func", None), type(plain).__call__)
    codes = (getattr(one, "__code__", None) for one in places)
    return next(filter(None, codes), None)


def where(function: Own) -> str:
    """File, line and name of a function."""
    code = _code(function)
    name = getattr(function, "__name__", type(function).__name__)
    return f"{code.co_filename}:{code.co_firstlineno}: {name}" if code else name


def place_of(error: BaseException, function: Own) -> str:
    """File and line of a function's last step before an error, and its name."""
    code = _code(function)
    line = _line_in(code.co_filename, error) if code else None
    if code is None or line is None:
        return where(function)
    return f"{code.co_filename}:{line}: {code.co_name}"


def _line_in(file: str, error: BaseException) -> int | None:
    """The line of a file at which an error left it; None where it was never there."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == file]
    return lines[-1] if lines else None


def said(error: BaseException) -> str:
    """The kind of an error and the first line of its message."""
    kind = type(error).__name__
    first, *_ = [*str(error).splitlines(), ""]
    return f"{kind}: {first}" if first else kind
