"""What is declared of XLA's typed FFI is what jaxlib has, and what a handler sees of a call."""

import re
import shutil
import subprocess
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import NATIVE, needs_compiler, sources_in, use
from helpers import REPO

from mfjax.kernels.native import build, library

pytestmark = needs_compiler
F32 = np.float32


# the declarations


def check_layout(headers: Path) -> subprocess.CompletedProcess:
    includes = [f"-I{headers}", f"-I{jax.ffi.include_dir()}"]
    arguments = [*build.compiler(), "-std=c++17", "-Wall", "-Wextra", "-Werror", *includes]
    command = [*arguments, "-fsyntax-only", NATIVE / "layout.cpp"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_every_offset_and_value_is_that_of_the_jaxlib_that_is_installed():
    done = check_layout(REPO / "mfjax/kernels/native/src")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "ours, other",
    [
        ("  const Functions* functions;\n  Context* context;", "  Context* context;"),
        ("  float32 = 11,", "  float32 = 12,"),
        ("  Error* (*schedule)(Schedule*);", "  Unused* one;\n  Error* (*schedule)(Schedule*);"),
    ],
)
def test_another_layout_is_found_out(tmp_path, ours, other):
    header = tmp_path / "ffi.h"
    shutil.copy(REPO / "mfjax/kernels/native/src/ffi.h", header)
    text = header.read_text()
    assert ours in text
    header.write_text(text.replace(ours, other))
    done = check_layout(tmp_path)
    assert done.returncode
    assert "static assertion failed" in done.stderr or "static_assert" in done.stderr


# a call


@pytest.fixture(scope="module")
def handlers(tmp_path_factory):
    """The handlers of tests/native/scaled.cpp, registered."""
    folder = tmp_path_factory.mktemp("scaled")
    with pytest.MonkeyPatch.context() as patched:
        use(patched, sources_in(folder, "contracts"))
        path = build.compile_library("1", folder / build.LIBRARY)
        patched.setattr(library, "_version", lambda: "1")
        return library._register(library._loaded(path))


ROWS = jnp.asarray(np.arange(24, dtype=F32).reshape(8, 3))
ORDER = jnp.asarray(np.arange(8)[::-1].astype(np.int32))


def scaled(rows, factor, order=ORDER, shape=None, **attributes):
    out = jax.ShapeDtypeStruct(shape or rows.shape, F32)
    call = jax.ffi.ffi_call("contracts_scaled", out, vmap_method="sequential")
    return call(rows, factor, order, **({"threads": np.int64(2)} | attributes))


@pytest.mark.parametrize("threads", [0, 1, 2, 64])
def test_each_chunk_is_computed_once_on_any_number_of_threads(handlers, threads):
    of = jax.jit(partial(scaled, threads=np.int64(threads)))
    np.testing.assert_array_equal(of(ROWS, F32(3)), 3 * ROWS)


def test_threads_of_many_calls_at_once_do_not_wait_for_each_other(handlers):
    """In loops on two devices, each of whose calls wants more threads than the pool has."""

    def loop(rows):
        def step(rows, _):
            return scaled(rows, F32(-1), threads=np.int64(8)), None

        return jax.lax.scan(step, rows, None, length=2001)[0]

    of_both = jax.pmap(loop)(jnp.stack([ROWS, 2 * ROWS]))
    np.testing.assert_array_equal(of_both, [-ROWS, -2 * ROWS])


def test_vmap_calls_it_in_turn(handlers):
    of = jax.vmap(lambda factor: scaled(ROWS, factor))(jnp.asarray([1, 2], F32))
    np.testing.assert_array_equal(of, [ROWS, 2 * ROWS])


def test_no_rows_are_no_chunks(handlers):
    assert scaled(ROWS[:0], F32(1), ORDER[:0]).shape == (0, 3)


@pytest.mark.parametrize("threads", [1, 8])
def test_what_a_chunk_throws_is_raised(handlers, threads):
    with pytest.raises(jax.errors.JaxRuntimeError, match="a factor of 13"):
        scaled(ROWS, F32(13), threads=np.int64(threads)).block_until_ready()


REFUSED = {
    "type": (
        lambda: scaled(ROWS.astype(np.int32), F32(1)),
        "argument 0 (rows): expected float32 [rows, columns], got int32 [8, 3]",
    ),
    "rank": (
        lambda: scaled(ROWS, jnp.ones(1, F32)),
        "argument 1 (factor): expected float32 [], got float32 [1]",
    ),
    "length": (
        lambda: scaled(ROWS, F32(1), ORDER[:7]),
        "argument 2 (order): expected int32 [rows=8], got int32 [7]",
    ),
    "result": (
        lambda: scaled(ROWS, F32(1), shape=(8, 2)),
        "result 0 (out): expected float32 [rows=8, columns=3], got float32 [8, 2]",
    ),
    "large index": (
        lambda: scaled(ROWS, F32(1), ORDER.at[3].set(8)),
        "order: expected indices of 0 to 7, got 8 at 3",
    ),
    "negative index": (
        lambda: scaled(ROWS, F32(1), ORDER.at[7].set(-1)),
        "order: expected indices of 0 to 7, got -1 at 7",
    ),
    "attribute": (
        lambda: scaled(ROWS, F32(1), threads=np.int32(7)),
        "expected an attribute threads of int64",
    ),
    "number": (
        lambda: jax.ffi.ffi_call("contracts_scaled", jax.ShapeDtypeStruct((), F32))(ROWS),
        "expected 3 arguments and 1 results, got 1 and 1",
    ),
}


@pytest.mark.parametrize("call, message", REFUSED.values(), ids=REFUSED)
def test_operands_that_do_not_fit_are_refused_with_what_was_expected(handlers, call, message):
    with pytest.raises(jax.errors.JaxRuntimeError, match=re.escape(message)):
        jax.block_until_ready(call())


def test_a_table_is_updated_in_place_in_a_loop(handlers):
    def raised(table):
        like = (jax.ShapeDtypeStruct(table.shape, F32), jax.ShapeDtypeStruct((), np.int32))
        return jax.ffi.ffi_call("contracts_raised", like, input_output_aliases={0: 0})(table)

    table, copied = jax.jit(lambda x: jax.lax.scan(lambda x, _: raised(x), x, None, 5))(
        ORDER + F32(0)
    )
    np.testing.assert_array_equal(table, ORDER + 5)
    np.testing.assert_array_equal(copied, 0)
    fresh, was_copied = jax.ffi.ffi_call(
        "contracts_raised",
        (jax.ShapeDtypeStruct((8,), F32), jax.ShapeDtypeStruct((), np.int32)),
    )(ORDER + F32(0))
    np.testing.assert_array_equal(fresh, ORDER + 1)
    assert was_copied == 1
