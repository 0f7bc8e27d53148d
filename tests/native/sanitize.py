"""Runs every compiled kernel under sanitizers, with the operands that tests call it with.

`python tests/native/sanitize.py [arguments of pytest]` runs the contracts of the compiled kernels,
or what the arguments say, and writes the operands of each call of another kind. Programs without
Python then call the handlers with them again, on each instruction set: one under AddressSanitizer
and UndefinedBehaviorSanitizer, with operands of wrong types, shapes and indices too, and one under
ThreadSanitizer. Needs GCC or Clang, on Linux.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from mfjax.kernels.native import build, library

HERE = Path(__file__).parent
REPO = HERE.parents[1]
TESTS = tuple(f"tests/contracts/test_{name}.py" for name in ("native", "native_shapes", "abreast"))
RECORDING = ("-p", "native.recording")
FLAGS = ("-std=c++17", "-fPIC", "-pthread", "-w")  # warnings are the install's
SANITIZERS = {
    "address,undefined": ("-fno-sanitize-recover=all",),
    "thread": (),
}


def main(tests: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        calls = recorded(Path(folder), tests or TESTS)
        for sanitizer in SANITIZERS:
            program = replay(Path(folder), sanitizer)
            options = ["--threads"] if sanitizer == "thread" else []
            for isa in build.INSTRUCTION_SETS:
                said(f"{sanitizer}, {isa}")
                environment = os.environ | {"MFJAX_ISA": isa}
                subprocess.run([program, *options, *calls], env=environment, check=True)


def recorded(folder: Path, tests: Sequence[str]) -> list[Path]:
    """Files of what the handlers are called with in these tests."""
    said("the calls of " + " ".join(tests))
    recorder = folder / "librecord.so"
    linked([HERE / "record.cpp", build.SOURCES / "call.cpp"], recorder, ["-O1", "-shared", "-ldl"])
    of_record = {
        "MFJAX_RECORDER": str(recorder),
        "MFJAX_RECORDED": str(library.PATH),
        "MFJAX_CALLS": str(folder / "calls"),
    }
    command = [sys.executable, "-m", "pytest", "-q", "-m", "slow or not slow", *RECORDING, *tests]
    path = os.pathsep.join([str(REPO / "tests"), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | of_record | {"PYTHONPATH": path}
    subprocess.run(command, cwd=REPO, env=environment, check=True)
    return sorted(folder.glob("calls.*"))


def replay(folder: Path, sanitizer: str) -> Path:
    """The program of replay.cpp and all kernels."""
    said(f"compiling for {sanitizer}")
    flags = [*FLAGS, "-O1", "-g1", f"-fsanitize={sanitizer}", *SANITIZERS[sanitizer]]
    units = [*sorted(build.SOURCES.glob("*.cpp")), HERE / "replay.cpp"]
    place = folder / sanitizer.partition(",")[0]
    place.mkdir()
    objects = build.compile_objects(units, place, "test", [*flags, f"-I{HERE}"])
    program = place / "replay"
    linked(objects, program, flags)
    return program


def linked(inputs: Sequence[Path], out: Path, flags: Sequence[str]) -> None:
    includes = [f"-I{build.SOURCES}", f"-I{HERE}"]
    command = [*build.compiler(), *FLAGS, *includes, *inputs, *flags, "-o", out]
    subprocess.run(command, check=True)


def said(text: str) -> None:
    print(f"-- {text}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
