"""Files that are no text: Parquet, Arrow, NumPy, SciPy, MATLAB, Matrix Market; and JSON lines."""

import io
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from mfjax.data.columns import Columns, Wanted, quoted
from mfjax.data.files import Content, is_npz
from mfjax.data.table import Table, of_frame, reason_of
from mfjax.errors import InputError

if TYPE_CHECKING:
    import polars as pl

BY_POSITION = Wanted(columns=[0, 1, 2])


def reader_of(content: Content) -> Callable[[Content, Wanted, str | None], Table] | None:
    """What reads a file, by its first bytes; None where it is text."""
    for start, reader in READERS.items():
        if content.data.startswith(start):
            return reader
    if is_npz(content.data):
        return _npz
    endings = {".parquet": _parquet, ".jsonl": _json_lines, ".ndjson": _json_lines}
    if content.data.lstrip()[:1] == b"{":
        return _json_lines
    return endings.get(PurePosixPath(content.name).suffix)


def of_matrix(path: str, matrix: Any, wanted: Wanted, first: int = 0) -> Table:
    """The stored entries of a SciPy sparse matrix; rows and columns are users and items.

    Args:
      path: what messages call it.
      matrix: `[users, items]`.
      wanted: no columns, of which there are none.
      first: the number of the first row and column.

    Raises:
      InputError: it has no entries, or columns are asked for.
    """
    import polars as pl

    _refuse_columns(path, wanted, "a sparse matrix")
    entries = matrix.tocoo()
    if entries.data.dtype.kind not in "iuf":
        raise InputError(f"{path}: entries of {entries.data.dtype}, where ratings are numbers")
    frame = pl.DataFrame(
        {"user": entries.row + first, "item": entries.col + first, "rating": entries.data}
    )
    return _numbered(path, frame, "its rows are users and its columns items", first)


def of_array(path: str, array: np.ndarray, wanted: Wanted) -> Table:
    """The rows of a NumPy array, `[n, 3]` or more columns, or with named fields.

    Args:
      path: what messages call it.
      array: a rating a row.
      wanted: the columns, by position.

    Raises:
      InputError: it is a matrix of another shape, or a column is not there.
    """
    import polars as pl

    if array.dtype.names:
        fields = {name: array[name] for name in array.dtype.names}
        return of_frame(path, pl.DataFrame(fields), wanted)
    if array.ndim != 2 or array.shape[1] not in (3, 4, 5) or array.dtype.kind not in "iuf":
        raise InputError(
            f"{path}: an array of shape {array.shape} and {array.dtype}: expected a rating a row, "
            "[n, 3]\na matrix of users by items: data.layout=dense"
        )
    frame = pl.DataFrame({str(i): array[:, i] for i in range(array.shape[1])})
    by_position = wanted._replace(columns=wanted.columns or [0, 1, 2])
    return of_frame(path, frame, by_position)


def of_arrays(path: str, arrays: Mapping[str, Any], wanted: Wanted) -> Table:
    """The columns that arrays of one length are, by name.

    Args:
      path: what messages call them.
      arrays: `[n]` each.
      wanted: which of them are the user, the item and the rating.

    Raises:
      InputError: their lengths differ, or the names do not decide.
    """
    import polars as pl

    shapes = {name: np.shape(array) for name, array in arrays.items()}
    if len(set(shapes.values())) != 1 or any(len(shape) != 1 for shape in shapes.values()):
        shown = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
        raise InputError(f"{path}: expected arrays of one length, got {shown[:200]}")
    columns = {name: pl.Series(name, array, strict=False) for name, array in arrays.items()}
    return of_frame(path, pl.DataFrame(columns), wanted)


# the formats


def _parquet(content: Content, wanted: Wanted, member: str | None) -> Table:
    import polars as pl

    return _by_polars(content, wanted, "Parquet", pl.read_parquet)


def _arrow(content: Content, wanted: Wanted, member: str | None) -> Table:
    import polars as pl

    return _by_polars(content, wanted, "Arrow", pl.read_ipc)


def _json_lines(content: Content, wanted: Wanted, member: str | None) -> Table:
    import polars as pl

    return _by_polars(content, wanted, "JSON lines", pl.read_ndjson)


def _by_polars(
    content: Content, wanted: Wanted, what: str, reads: Callable[..., "pl.DataFrame"]
) -> Table:
    import polars as pl

    try:
        frame = reads(io.BytesIO(content.data))
        return of_frame(content.path, frame, wanted)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise InputError(
            f"{content.path}: cannot be read as {what} ({reason_of(error)})\n"
            "fetch or write the file again"
        ) from error


def _npy(content: Content, wanted: Wanted, member: str | None) -> Table:
    array = _by_scipy(content, "NumPy", lambda file: np.load(file, allow_pickle=False))
    return of_array(content.path, array, wanted)


def _npz(content: Content, wanted: Wanted, member: str | None) -> Table:
    from scipy import sparse

    def load(file: io.BytesIO) -> Any:
        arrays = dict(np.load(file, allow_pickle=False))
        if "format" not in arrays:
            return arrays
        file.seek(0)
        return sparse.load_npz(file)

    loaded = _by_scipy(content, "NumPy", load)
    if sparse.issparse(loaded):
        return of_matrix(content.path, loaded, wanted)
    return of_arrays(content.path, loaded, wanted)


def _matlab(content: Content, wanted: Wanted, member: str | None) -> Table:
    from scipy import io as scipy_io
    from scipy import sparse

    loaded = _by_scipy(content, "MATLAB", scipy_io.loadmat)
    values = {name: value for name, value in loaded.items() if not name.startswith("__")}
    if member is not None:
        values = {name: value for name, value in values.items() if name == member}
    if len(values) != 1:
        there = ", ".join(f"{name} {np.shape(value)}" for name, value in loaded.items())
        raise InputError(
            f"{content.path}: {len(values)} variables: {there[:200]}\nsay which: data.member=NAME"
        )
    (value,) = values.values()
    read = of_matrix if sparse.issparse(value) else of_array
    return read(content.path, value, wanted)


def _matrix_market(content: Content, wanted: Wanted, member: str | None) -> Table:
    from scipy import io as scipy_io
    from scipy import sparse

    if b"pattern" in content.data.partition(b"\n")[0]:
        raise InputError(f"{content.path}: a pattern of entries, without ratings")
    matrix = _by_scipy(content, "Matrix Market", scipy_io.mmread)
    return of_matrix(content.path, sparse.coo_matrix(matrix), wanted, first=1)


def _by_scipy(content: Content, what: str, load: Callable[[io.BytesIO], Any]) -> Any:
    try:
        return load(io.BytesIO(content.data))
    except Exception as error:  # whatever a damaged file makes a parser do
        raise InputError(
            f"{content.path}: cannot be read as a {what} file ({reason_of(error)})\n"
            "fetch or write the file again"
        ) from error


READERS = {
    b"PAR1": _parquet,
    b"ARROW1": _arrow,
    b"\x93NUMPY": _npy,
    b"MATLAB 5.0": _matlab,
    b"%%MatrixMarket": _matrix_market,
}


# tables of users by items


def _numbered(path: str, frame: "pl.DataFrame", why: str, first: int) -> Table:
    columns = Columns({"user": 0, "item": 1, "rating": 2}, ["row", "column", "entry"], False, why)
    return Table(path, frame, columns, lambda row: f"entry {row + 1}")


def _refuse_columns(path: str, wanted: Wanted, what: str) -> None:
    if wanted.asked:
        raise InputError(
            f"{path}: {what} has no columns to choose\nleave out {quoted(wanted.asked)}"
        )
