"""Compiles the kernels: Hatchling's hook, so that installing does it, and what others need of it.

Hatchling runs this file alone, before there is an mfjax to import. A failure costs the kernels and
not the install: the wheel is then the pure one, and `mfjax.kernels.native.library` says so.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SOURCES = HERE / "src"
LIBRARY = "libmfjax.so"
PURE = "MFJAX_PURE"  # in the environment: no kernels, neither built nor loaded

# -ffast-math is not among them: what a sum is, its source says
FLAGS = (
    *("-O3", "-std=c++17", "-fPIC", "-fvisibility=hidden", "-pthread"),
    *("-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"),
    *("-Wall", "-Wextra", "-Wno-psabi"),
)
LINK = ("-static-libstdc++", "-static-libgcc", "-s") if sys.platform == "linux" else ()

# kernels*.cpp is compiled once for each, and chosen from at run time. In this order they are
# linked, too: of a function of the standard library that several instantiate, the first is kept,
# which must run everywhere.
X86_64 = {
    "base": (),
    "avx2": ("-mavx2", "-mfma"),
    "avx512": (
        *("-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mavx2", "-mfma"),
        "-mprefer-vector-width=512",
    ),
}
IS_X86_64 = platform.machine() in ("x86_64", "AMD64")
INSTRUCTION_SETS = X86_64 if IS_X86_64 else {"base": ()}


class BuildError(RuntimeError):
    """No library: there is no compiler, or it failed."""


def stamp(version: str) -> str:
    """What a library is built from: the version of mfjax, and a digest of sources and flags."""
    digest = hashlib.sha256(repr((FLAGS, LINK, INSTRUCTION_SETS)).encode())
    for path in sorted([*SOURCES.glob("*.h"), *SOURCES.glob("*.cpp")]):
        content = path.read_bytes()
        digest.update(f"{path.name} {len(content)}\n".encode())
        digest.update(content)
    return f"{version}-{digest.hexdigest()[:16]}"


def compiler() -> list[str]:
    """The command of the C++ compiler: CXX, or the first that there is.

    Raises:
      BuildError: where there is none.
    """
    for command in (os.environ.get("CXX", ""), "g++", "clang++", "c++"):
        words = command.split()
        if words and shutil.which(words[0]):
            return words
    raise BuildError("no C++ compiler (CXX, g++, clang++, c++)")


def compile_library(version: str, out: Path) -> Path:
    """Compile the sources to `out`, which is replaced at once or not at all.

    Args:
      version: of mfjax, for the stamp.
      out: the path of the library; its folder exists.

    Returns:
      `out`.

    Raises:
      BuildError: where there is no compiler, or it fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        objects = compile_objects(sorted(SOURCES.glob("*.cpp")), Path(folder), version, FLAGS)
        made = out.with_name(f".{out.name}.{os.getpid()}")
        try:
            _run([*compiler(), "-shared", "-pthread", *LINK, *objects, "-o", made])
            made.replace(out)
        finally:
            made.unlink(missing_ok=True)
    return out


def compile_objects(
    units: Sequence[Path], folder: Path, version: str, flags: Sequence[str]
) -> list[Path]:
    """The objects of these translation units, in the order in which they are to be linked.

    Args:
      units: the .cpp files; one whose name begins with "kernels" has an object an instruction set.
      folder: where the objects go.
      version: of mfjax, for the stamp.
      flags: of every object.

    Returns:
      Their paths.

    Raises:
      BuildError: where there is no compiler, or it fails.
    """
    common = [*compiler(), *flags, f"-I{SOURCES}", f'-DMFJAX_STAMP="{stamp(version)}"']
    once = [(unit, "", ()) for unit in units if not unit.name.startswith("kernels")]
    by_set = [
        (unit, f"-DMFJAX_ISA={name}", INSTRUCTION_SETS[name])
        for name in INSTRUCTION_SETS
        for unit in units
        if unit.name.startswith("kernels")
    ]

    def compiled(numbered: tuple[int, tuple[Path, str, Sequence[str]]]) -> Path:
        number, (unit, define, of_set) = numbered
        path = folder / f"{number}_{unit.stem}.o"
        defines = [define] if define else []
        _run([*common, *of_set, *defines, "-c", unit, "-o", path])
        return path

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(compiled, enumerate([*once, *by_set])))


def _run(command: Sequence[str | Path]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise BuildError(str(error)) from error
    if done.returncode:
        shown = " ".join(str(word) for word in command)
        raise BuildError(f"{shown} failed:\n{done.stderr[:2000]}")
    print(done.stderr[:2000], end="", file=sys.stderr)


# Hatchling


def get_build_hook() -> type:
    """The hook, by the name under which Hatchling looks for it."""
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface

    class Hook(BuildHookInterface):
        """Beside the sources for an editable install, which finds it there; else in the wheel."""

        folder: tempfile.TemporaryDirectory | None = None

        def initialize(self, version: str, build_data: dict[str, Any]) -> None:
            beside = HERE / LIBRARY
            if version == "editable":
                beside.unlink(missing_ok=True)
                self._compiled(beside)
                return
            self.folder = tempfile.TemporaryDirectory()
            library = Path(self.folder.name) / LIBRARY
            if not self._compiled(library):
                return
            place = beside.relative_to(self.root).as_posix()
            build_data["force_include"][str(library)] = place
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{_platform_tag()}"

        def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
            if self.folder:
                self.folder.cleanup()

        def _compiled(self, library: Path) -> bool:
            try:
                if os.environ.get(PURE):
                    raise BuildError(f"{PURE} is set")
                compile_library(self.metadata.version, library)
            except BuildError as error:
                self.app.display_warning(f"mfjax without its compiled kernels: {error}")
                return False
            return True

    return Hook


def _platform_tag() -> str:
    return sysconfig.get_platform().replace("-", "_").replace(".", "_")


if __name__ == "__main__":  # after a change of the sources: as `pip install -e .` does, but quicker
    from importlib.metadata import version

    print(compile_library(version("mfjax"), HERE / LIBRARY))
