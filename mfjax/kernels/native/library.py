"""The compiled kernels of this install, made known to XLA; or why there are none."""

import ctypes
import os
import re
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from mfjax.errors import InputError
from mfjax.kernels.native.build import HERE, LIBRARY, PURE, stamp

PATH = HERE / LIBRARY
COST = "gradients, SGD and ALS take 2 to 12 times as long"
INSTALL = "install a C++17 compiler (g++ or clang++) and run `pip install -e .` again"
AGAIN = "run `pip install -e .` again"

# XLA refuses a handler that is older than it supports or newer than itself, and one refusal stops
# the CPU backend. Ours are of MINOR; up to TRIED, jaxlib was seen to take them.
MAJOR, MINOR, TRIED = 0, 1, 3


class Library(NamedTuple):
    """The compiled kernels, whose handlers XLA knows by name.

    Args:
      path: of the shared library.
      isa: the instruction set in use, by its name in `mfjax.kernels.native.build`.
      handlers: the names to give to `jax.ffi.ffi_call`.
    """

    path: Path
    isa: str
    handlers: tuple[str, ...]


class Missing(NamedTuple):
    """No compiled kernels.

    Args:
      reason: one line: what is missing, what that costs, and what to do.
    """

    reason: str


@cache
def library() -> Library | Missing:
    """The compiled kernels, registered with XLA on the first call."""
    try:
        loaded = _loaded(PATH)
        names = _register(loaded)
    except _Unusable as unusable:
        what, remedy = unusable.args
        return Missing(f"no compiled kernels: {what}, so that {COST}; {remedy}")
    return Library(PATH, loaded.mfjax_isa().decode(), names)


def require() -> None:
    """Raises InputError with the reason where there are no compiled kernels."""
    found = library()
    if isinstance(found, Missing):
        raise InputError(found.reason)


class _Unusable(Exception):
    """What is missing, and what to do."""


class _NamedHandler(ctypes.Structure):
    """As in `src/ffi.h`."""

    _fields_ = (("name", ctypes.c_char_p), ("handler", ctypes.c_void_p))


# loading


def _loaded(path: Path) -> ctypes.CDLL:
    """The library, if it is of this version and of the sources that lie beside it."""
    if os.environ.get(PURE):
        raise _Unusable(f"{PURE} is set", f"unset {PURE} to use them")
    if not path.exists():
        raise _Unusable("they were not built when mfjax was installed", INSTALL)
    try:
        found = ctypes.CDLL(str(path))
        found.mfjax_stamp.restype = ctypes.c_char_p
        found.mfjax_isa.restype = ctypes.c_char_p
        found.mfjax_handlers.restype = ctypes.POINTER(_NamedHandler)
    except (OSError, AttributeError) as error:
        raise _Unusable(f"{path.name} does not load ({error})", INSTALL) from error
    if found.mfjax_stamp().decode() != stamp(_version()):
        raise _Unusable(f"{path.name} is older than its sources, or of another version", AGAIN)
    return found


def _version() -> str:
    try:
        return version("mfjax")
    except PackageNotFoundError:  # a checkout on the path, which nothing was installed for
        return "unknown"


# registering


def _register(loaded: ctypes.CDLL) -> tuple[str, ...]:
    """Make the handlers known to XLA's CPU backend; their names."""
    import jax

    handlers = _handlers(loaded)
    try:
        if not _is_tried(_api_version()):
            # without a backend registering is put off, and a refusal then stops the backend
            jax.local_devices(backend="cpu")
        for name, address in handlers.items():
            capsule = jax.ffi.pycapsule(ctypes.CFUNCTYPE(None)(address))
            jax.ffi.register_ffi_target(name, capsule, platform="cpu")
    except Exception as error:  # of whatever type jaxlib makes it
        said = str(error).partition("\n")[0]
        remedy = "install a newer mfjax, or a jaxlib that it was tried with"
        raise _Unusable(f"this jaxlib does not take them ({said})", remedy) from error
    return tuple(handlers)


def _handlers(loaded: ctypes.CDLL) -> dict[str, int]:
    table = loaded.mfjax_handlers()
    found = {}
    while name := table[len(found)].name:
        found[name.decode()] = table[len(found)].handler
    return found


def _api_version() -> tuple[int, int] | None:
    """XLA's FFI version, from the header that jaxlib brings; None where there is none."""
    import jax

    header = Path(jax.ffi.include_dir()) / "xla" / "ffi" / "api" / "c_api.h"
    if not header.exists():
        return None
    text = header.read_text()
    major, minor = (re.search(rf"XLA_FFI_API_{part} (\d+)", text) for part in ("MAJOR", "MINOR"))
    return (int(major[1]), int(minor[1])) if major and minor else None


def _is_tried(api: tuple[int, int] | None) -> bool:
    """Whether it is known beforehand that XLA of this version takes the handlers."""
    return api is not None and api[0] == MAJOR and MINOR <= api[1] <= TRIED
