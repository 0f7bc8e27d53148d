"""Reads ratings from text and Parquet files.

Whatever is wrong with them is one `InputError` that says where.
"""

import gzip
import hashlib
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int, Int64

from mfjax.data.dataset import Dataset, from_ids
from mfjax.data.tables import FileTable, parquet_table, quoted, text_table
from mfjax.errors import InputError

BUNDLED = "bundled:"


def read(
    path: str,
    *,
    columns: list = [0, 1, 2],  # noqa: B006 (the config's schema reads the default here)
    separator: str | None = None,
    header: bool | None = None,
    duplicates: str = "error",
) -> Dataset:
    """Reads a file of ratings.

    Args:
      path: a text file, plain or `.gz`, UTF-8; a Parquet file; or `bundled:ml-latest-small`.
      columns: the user, item and rating columns, each a name or a position from 0. Other columns
        are ignored.
      separator: one or two characters; None: the first of `::`, tab, `,`, `;`, `|` in the first
        line. Text only.
      header: whether the first line is one; None: it is if its rating is not a number. Text only.
      duplicates: what to do with several ratings of a (user, item) pair: `error`; `mean`, at the
        place of the first; or `last`, at the place of the last.

    Returns:
      The ratings in file order, named after the file. Ids are int64 if every one is an integer,
      else strings.

    Raises:
      InputError: with the file, the line (or the row of a Parquet file), the reason and what to do.
    """
    if duplicates not in DUPLICATES:
        known = ", ".join(DUPLICATES)
        raise InputError(f"duplicates: expected one of {known}, got {duplicates!r}")
    file = _locate(path)
    data = _bytes(path, file)
    if file.suffix == ".parquet" or data.startswith(b"PAR1"):
        table = parquet_table(path, data, columns)
    else:
        table = text_table(path, _unzipped(path, file, data), columns, separator, header)
    _check_ids(path, table)
    dataset = from_ids(
        name=Path(file.name.removesuffix(".gz")).stem,
        user=table.frame["user"],
        item=table.frame["item"],
        value=_ratings(path, table),
        sha256=hashlib.sha256(data).hexdigest(),
    )
    return DUPLICATES[duplicates](dataset, path, table)


# the bytes


def _locate(path: str) -> Path:
    """The file of a path, or of the name of a bundled data set."""
    if not path.startswith(BUNDLED):
        return Path(path).expanduser()
    folder = Path(__file__).parent
    file = folder / f"{path.removeprefix(BUNDLED)}.parquet"
    if not file.exists():
        there = ", ".join(BUNDLED + file.stem for file in sorted(folder.glob("*.parquet")))
        raise InputError(f"{path}: no such data set\nbundled: {there}")
    return file


def _bytes(path: str, file: Path) -> bytes:
    try:
        data = file.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{path}: file not found\nlooked for {file.absolute()}") from error
    except IsADirectoryError as error:
        raise InputError(f"{path}: is a directory\ngive the path of one file") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"{path}: cannot be read ({reason})\ncheck the path and its permissions"
        ) from error
    if not data:
        raise InputError(f"{path}: empty file\nexpected one rating a line")
    return data


def _unzipped(path: str, file: Path, data: bytes) -> bytes:
    if file.suffix != ".gz" and not data.startswith(b"\x1f\x8b"):
        return data
    try:
        return gzip.decompress(data)
    except (EOFError, OSError, zlib.error) as error:
        raise InputError(
            f"{path}: truncated or corrupt gzip file ({error})\nfetch or write the file again"
        ) from error


# the columns


def _check_ids(path: str, table: FileTable) -> None:
    """Refuses a table without rows, and the first missing id."""
    if not len(table.frame):
        raise InputError(
            f"{path}: no ratings, only the names of columns\nexpected one rating a line"
        )
    for column in ("user", "item"):
        raw = table.frame[column]
        missing = (raw.is_null() | (raw.cast(str) == "")).arg_true()
        if len(missing):
            raise InputError(
                f"{path}, {table.place(missing[0])}: the {column} id is empty\n"
                "fill it in, or delete the rating"
            )


def _ratings(path: str, table: FileTable) -> Float64[np.ndarray, " n"]:
    """The ratings; refuses the first that is no finite number."""
    import polars as pl

    raw = table.frame["rating"]
    numbers = raw.cast(pl.Float64, strict=False)
    values = numbers.fill_null(np.nan).to_numpy()
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        row = int(wrong[0])
        kind = "a number" if numbers[row] is None else "finite"
        reason = f"{quoted(raw[row])} is not {kind}" if raw[row] else "is empty"
        raise InputError(
            f"{path}, {table.place(row)}: the rating {reason}\n"
            "correct or delete it; or set data.columns=[user, item, rating]"
        )
    return values


# pairs that are rated more than once


def _refuse(dataset: Dataset, path: str, table: FileTable) -> Dataset:
    """Refuses the first pair that is rated twice."""
    keys = _pair_keys(dataset)
    ascending = np.sort(keys)
    if (ascending[1:] == ascending[:-1]).any():
        first, repeat = _first_repeat(keys)
        user = quoted(dataset.user_ids[dataset.user[repeat]])
        item = quoted(dataset.item_ids[dataset.item[repeat]])
        raise InputError(
            f"{path}, {table.place(repeat)}: user {user} has rated item {item} before, "
            f"on {table.place(first)}\n"
            "delete one of them, or set data.duplicates=mean or data.duplicates=last"
        )
    return dataset


def _mean(dataset: Dataset, path: str, table: FileTable) -> Dataset:
    """One rating a pair, the mean, at the place of the pair's first."""
    _, first, group = np.unique(_pair_keys(dataset), return_index=True, return_inverse=True)
    mean = np.bincount(group, dataset.value) / np.bincount(group)
    in_file_order = np.argsort(first)
    merged = _rows_of(dataset, first[in_file_order])
    return replace(merged, value=mean[in_file_order])


def _last(dataset: Dataset, path: str, table: FileTable) -> Dataset:
    """The last rating of each pair, at its place."""
    _, from_end = np.unique(_pair_keys(dataset)[::-1], return_index=True)
    last = len(dataset.value) - 1 - from_end
    return _rows_of(dataset, np.sort(last))


def _pair_keys(dataset: Dataset) -> Int64[np.ndarray, " n"]:
    """A number for each rating, the same for the same pair."""
    return dataset.user.astype(np.int64) * dataset.num_items + dataset.item


def _first_repeat(keys: Int64[np.ndarray, " n"]) -> tuple[int, int]:
    """The first row whose pair was rated before, after the row of its first rating."""
    by_key = np.argsort(keys, kind="stable")
    is_repeat = keys[by_key[1:]] == keys[by_key[:-1]]
    repeat = by_key[1:][is_repeat].min()
    first = np.flatnonzero(keys == keys[repeat])[0]
    return int(first), int(repeat)


def _rows_of(dataset: Dataset, rows: Int[np.ndarray, " rows"]) -> Dataset:
    return replace(
        dataset,
        user=dataset.user[rows],
        item=dataset.item[rows],
        value=dataset.value[rows],
    )


DUPLICATES: dict[str, Callable[[Dataset, str, FileTable], Dataset]] = {
    "error": _refuse,
    "mean": _mean,
    "last": _last,
}
