"""Compiled kernels are loaded where they are of these sources; else one line says what to do."""

import shutil
import subprocess
import sys

import jax.numpy as jnp
import pytest
from compiled import needs_compiler, sources_in, use

from mfjax.kernels.native import build, library


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with the library of tests/native/scaled.cpp, and its sources."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patched:
        use(patched, sources_in(folder, "units"))
        build.compile_library("1", folder / build.LIBRARY)
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder in place of that of the package, whose version is 1."""
    monkeypatch.setattr(library, "PATH", tmp_path / build.LIBRARY)
    monkeypatch.setattr(library, "_version", lambda: "1")
    monkeypatch.delenv(build.PURE, raising=False)
    use(monkeypatch, tmp_path / "src")
    return tmp_path


@pytest.fixture
def copied(made, here):
    shutil.copytree(made, here, dirs_exist_ok=True)
    return here


def found():
    return library.library.__wrapped__()


def missing() -> str:
    """The reason, which is one line."""
    reason = found().reason
    assert reason.startswith("no compiled kernels: ")
    assert library.COST in reason
    assert "\n" not in reason
    return reason


@needs_compiler
def test_a_library_of_these_sources_is_loaded_and_its_handlers_are_known(copied):
    path = copied / build.LIBRARY
    assert found() == library.Library(path, "base", ("units_scaled", "units_raised"))


def test_a_library_that_is_not_there_says_what_to_install(here):
    reason = missing()
    assert "not built when mfjax was installed" in reason
    assert reason.endswith(library.INSTALL)


@needs_compiler
@pytest.mark.parametrize("name", ["scaled.cpp", "call.h"])
def test_a_library_older_than_its_sources_is_not_used(copied, name):
    with (copied / "src" / name).open("a") as source:
        source.write("// changed\n")
    reason = missing()
    assert "older than its sources" in reason
    assert reason.endswith(library.AGAIN)


@needs_compiler
def test_a_library_compiled_with_other_flags_is_not_used(copied, monkeypatch):
    monkeypatch.setattr(build, "FLAGS", (*build.FLAGS, "-g"))
    assert "older than its sources" in missing()


@needs_compiler
def test_a_library_of_another_version_is_not_used(copied, monkeypatch):
    monkeypatch.setattr(library, "_version", lambda: "2")
    assert "or of another version" in missing()


def test_a_file_that_is_no_library_is_not_used(here):
    (here / build.LIBRARY).write_bytes(b"no library")
    assert f"{build.LIBRARY} does not load" in missing()


@needs_compiler
def test_the_environment_can_leave_it_out(copied, monkeypatch):
    monkeypatch.setenv(build.PURE, "1")
    assert missing().endswith(f"unset {build.PURE} to use them")


@needs_compiler
def test_a_library_that_jaxlib_refuses_leaves_xla_as_it_was(here, monkeypatch):
    header = sources_in(here, "refused") / "ffi.h"
    text = header.read_text()
    assert f"API_MINOR = {library.MINOR};" in text
    header.write_text(text.replace(f"API_MINOR = {library.MINOR};", "API_MINOR = 99;"))
    build.compile_library("1", here / build.LIBRARY)
    monkeypatch.setattr(library, "_api_version", lambda: (0, 99))  # that nothing is known of
    assert "this jaxlib does not take them (" in missing()
    assert jnp.ones(3).sum() == 3


def test_this_jaxlib_is_one_that_it_was_tried_with():
    assert library._is_tried(library._api_version())


@pytest.mark.parametrize("api", [None, (0, 0), (0, library.TRIED + 1), (1, 1)])
def test_other_jaxlibs_are_asked_when_there_is_a_backend(api):
    assert not library._is_tried(api)


# compiling


def test_a_compiler_that_fails_is_an_error_and_leaves_no_file(here, monkeypatch):
    sources_in(here, "units")
    monkeypatch.setenv("CXX", "false")
    with pytest.raises(build.BuildError, match=r"false .* failed"):
        build.compile_library("1", here / build.LIBRARY)
    assert [path.name for path in here.iterdir()] == ["src"]


@needs_compiler
def test_what_the_compiler_says_is_in_the_error(here):
    with (sources_in(here, "units") / "scaled.cpp").open("a") as source:
        source.write("no C++\n")
    with pytest.raises(build.BuildError, match=r"scaled\.cpp:\d+:\d+: error"):
        build.compile_library("1", here / build.LIBRARY)


def test_no_compiler_at_all_is_an_error(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(build.BuildError, match=r"no C\+\+ compiler"):
        build.compiler()


def test_the_kernels_are_compiled_once_an_instruction_set_and_what_runs_everywhere_is_linked_first(
    tmp_path, monkeypatch
):
    seen = []
    monkeypatch.setattr(build, "_run", lambda command: seen.append(" ".join(map(str, command))))
    monkeypatch.setattr(build, "INSTRUCTION_SETS", build.X86_64)
    units = [tmp_path / name for name in ("handlers.cpp", "kernels.cpp", "kernels_wide.cpp")]
    objects = build.compile_objects(units, tmp_path, "1", ["-O0"])
    names = [path.name.partition("_")[2] for path in objects]
    assert names == ["handlers.o", *(3 * ["kernels.o", "kernels_wide.o"])]
    sets = [command.partition("-DMFJAX_ISA=")[2].split()[:1] for command in sorted(seen)]
    assert sorted(sets) == [[], *sorted(2 * [["avx2"], ["avx512"], ["base"]])]
    assert not any("-mavx" in command for command in seen if "=base" in command)


def test_importing_the_build_script_alone_needs_nothing_else():
    code = "import sys, build; print(*{'mfjax', 'jax', 'hatchling'} & set(sys.modules))"
    command = [sys.executable, "-S", "-c", code]
    done = subprocess.run(command, cwd=build.HERE, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
