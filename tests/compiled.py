"""A library of a few lines, which compiles in a second, to test what surrounds the kernels with."""

import shutil
from pathlib import Path

import pytest
from helpers import REPO

from mfjax.kernels.native import build

NATIVE = REPO / "tests" / "native"
AROUND = ("ffi.h", "call.h", "call.cpp", "threads.cpp", "stamp.cpp")  # of any library


def has_compiler() -> bool:
    try:
        return bool(build.compiler())
    except build.BuildError:
        return False


needs_compiler = pytest.mark.skipif(not has_compiler(), reason="there is no C++ compiler here")


def sources_in(folder: Path, prefix: str) -> Path:
    """A folder `src` with tests/native/scaled.cpp, and what surrounds the kernels.

    A process registers the handler of a name once, so that each library has a `prefix` of its own.
    """
    src = folder / "src"
    src.mkdir()
    for name in AROUND:
        shutil.copy(REPO / "mfjax/kernels/native/src" / name, src)
    handlers = (NATIVE / "scaled.cpp").read_text()
    (src / "scaled.cpp").write_text(handlers.replace('{"mfjax_', f'{{"{prefix}_'))
    return src


def use(monkeypatch: pytest.MonkeyPatch, src: Path) -> None:
    """Make `src` what a library is compiled from, without optimising."""
    monkeypatch.setattr(build, "SOURCES", src)
    monkeypatch.setattr(build, "FLAGS", ("-O0", *build.FLAGS[1:]))
