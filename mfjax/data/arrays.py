"""Ratings that are in memory: frames, arrays and sparse matrices."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mfjax.data.columns import ROLES, Columns, Wanted
from mfjax.data.messages import quoted, reason_of, shortened
from mfjax.data.table import Table, of_frame
from mfjax.errors import InputError

if TYPE_CHECKING:
    import polars as pl

NUMBERS = "iuf"  # kinds of NumPy dtypes that ratings may have


def of_memory(path: str, source: Any, wanted: Wanted) -> Table:
    """The table of what `Dataset.of` takes.

    Args:
      path: what messages call it.
      source: a frame, a mapping of arrays, a tuple of three, an array or a sparse matrix.
      wanted: the columns to read.

    Raises:
      InputError: it is nothing of these, or not of the shape that ratings have.
    """
    import polars as pl
    from scipy import sparse

    if sparse.issparse(source):
        return of_matrix(path, source, wanted)
    if isinstance(source, np.ndarray):
        return of_array(path, source, wanted)
    if isinstance(source, Mapping):
        return of_arrays(path, source, wanted)
    if isinstance(source, tuple) and len(source) == 3:
        return of_arrays(path, dict(zip(ROLES, source, strict=True)), wanted)
    if isinstance(source, pl.DataFrame):
        return of_frame(path, source, wanted)
    if hasattr(source, "columns") and hasattr(source, "to_numpy"):
        return of_arrays(path, _of_pandas(source), wanted)
    if hasattr(source, "__arrow_c_stream__"):
        return of_frame(path, pl.DataFrame(source), wanted)
    raise InputError(
        f"{path}: expected a frame, a mapping of arrays, (user, item, rating), an array or a "
        f"sparse matrix, got {type(source).__name__}"
    )


def of_matrix(path: str, matrix: Any, wanted: Wanted) -> Table:
    """The stored entries of a SciPy sparse matrix; rows and columns are users and items.

    Args:
      path: what messages call it.
      matrix: `[users, items]`.
      wanted: no columns, of which there are none.

    Raises:
      InputError: its entries are no numbers or outside it, or columns are asked for.
    """
    refuse_columns(path, wanted, "a sparse matrix")
    try:
        if hasattr(matrix, "check_format"):
            matrix.check_format(full_check=True)  # without it, wrong ones end the process
        entries = matrix.tocoo()
    except (ValueError, IndexError, TypeError) as error:
        raise InputError(f"{path}: a damaged sparse matrix ({reason_of(error)})") from error
    if entries.data.dtype.kind not in NUMBERS:
        raise InputError(f"{path}: entries of {entries.data.dtype}, where ratings are numbers")
    return of_entries(path, entries.row, entries.col, entries.data)


def of_entries(path: str, user: np.ndarray, item: np.ndarray, rating: np.ndarray) -> Table:
    """The entries of a matrix, by the numbers of their rows and columns.

    Args:
      path: what messages call it.
      user, item, rating: `[n]`.
    """
    frame = _frame(path, {"user": user, "item": item, "rating": rating})
    at = {"user": 0, "item": 1, "rating": 2}
    why = "its rows are users, its columns items"
    columns = Columns(at, ["row", "column", "entry"], False, why)
    return Table(path, frame, columns, lambda row: f"entry {row + 1}")


def of_array(path: str, array: np.ndarray, wanted: Wanted) -> Table:
    """The rows of a NumPy array, `[n, 3]` or more columns, or with named fields.

    Args:
      path: what messages call it.
      array: a rating a row.
      wanted: the columns, by position.

    Raises:
      InputError: it is a matrix of another shape, or a column is not there.
    """
    if array.dtype.names:
        return of_arrays(path, {name: array[name] for name in array.dtype.names}, wanted)
    if array.ndim != 2 or array.shape[1] not in (3, 4, 5) or array.dtype.kind not in NUMBERS:
        raise InputError(
            f"{path}: an array of shape {array.shape} and {array.dtype}: expected a rating a row, "
            "[n, 3]\na matrix of users by items: data.layout=dense"
        )
    frame = _frame(path, {str(i): array[:, i] for i in range(array.shape[1])})
    return of_frame(path, frame, wanted._replace(columns=wanted.columns or [0, 1, 2]))


def of_arrays(path: str, arrays: Mapping[str, Any], wanted: Wanted) -> Table:
    """The columns that arrays of one length are, by name.

    Args:
      path: what messages call them.
      arrays: `[n]` each.
      wanted: which of them are the user, the item and the rating.

    Raises:
      InputError: their lengths differ, or the names do not decide.
    """
    lengths = {name: _length(array) for name, array in arrays.items()}
    if len(set(lengths.values())) != 1 or None in lengths.values():
        shown = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise InputError(f"{path}: expected arrays of one length, got {shown[:200]}")
    return of_frame(path, _frame(path, arrays), wanted)


def refuse_columns(path: str, wanted: Wanted, what: str) -> None:
    """Refuses columns that are asked for where there are none.

    Raises:
      InputError: there are some.
    """
    if wanted.asked:
        raise InputError(
            f"{path}: {what} has no columns to choose\nleave out {quoted(wanted.asked)}"
        )


def _of_pandas(frame: Any) -> dict[str, np.ndarray]:
    return {str(name): frame[name].to_numpy() for name in frame.columns}


def _length(array: Any) -> int | None:
    """Of what has one dimension; None of other things."""
    if isinstance(array, str) or not hasattr(array, "__len__"):
        return None
    return len(array) if getattr(array, "ndim", 1) == 1 else None


def _frame(path: str, arrays: Mapping[str, Any]) -> "pl.DataFrame":
    """The columns that arrays are, in types that Polars has."""
    import polars as pl

    columns = []
    for name, array in arrays.items():
        kind = getattr(array, "dtype", None)
        try:
            if kind == np.longdouble:
                array = array.astype(np.float64)
            if kind == np.object_:
                array = array.tolist()
            columns.append(pl.Series(name, array, strict=False))
        except (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError) as error:
            raise InputError(
                f"{path}: {shortened(name)} is no column of numbers or text ({reason_of(error)})"
            ) from error
    return pl.DataFrame(columns)
