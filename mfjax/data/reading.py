"""Reads ratings from text and Parquet files; whatever is wrong with them is one `InputError` that says where."""

import gzip
import hashlib
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from mfjax.data.dataset import Dataset, from_ids
from mfjax.data.tables import Table, parquet_table, show, text_table
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
        columns: the user, item and rating columns, each a name or a position from 0. Other columns are ignored.
        separator: one or two characters; None: the first of `::`, tab, `,`, `;`, `|` in the first line. Text only.
        header: whether the first line is a header; None: it is if its rating is not a number. Text only.
        duplicates: what to do with several ratings of a (user, item) pair: `error`; `mean`, at the place of the first;
            or `last`, at the place of the last.

    Returns:
        The ratings in file order, named after the file. Ids are int64 if every one is an integer, else strings.

    Raises:
        InputError: with the file, the line (or the row of a Parquet file), the reason and what to do.
    """
    if duplicates not in DUPLICATES:
        raise InputError(f"duplicates: expected one of {', '.join(DUPLICATES)}, got {duplicates!r}")
    file = _locate(path)
    data = _bytes(path, file)
    if file.suffix == ".parquet" or data.startswith(b"PAR1"):
        table = parquet_table(path, data, columns)
    else:
        table = text_table(path, _unzip(path, file, data), columns, separator, header)
    if not len(table.frame):
        raise InputError(f"{path}: no ratings, only the names of columns\nexpected one rating a line")
    _check_ids(path, table)
    ids = table.frame["user"], table.frame["item"]
    name = Path(file.name.removesuffix(".gz")).stem
    dataset = from_ids(name, *ids, _ratings(path, table), hashlib.sha256(data).hexdigest())
    return DUPLICATES[duplicates](dataset, path, table)


def _locate(path: str) -> Path:
    if not path.startswith(BUNDLED):
        return Path(path).expanduser()
    file = Path(__file__).with_name(path.removeprefix(BUNDLED) + ".parquet")
    if not file.exists():
        there = ", ".join(BUNDLED + file.stem for file in sorted(Path(__file__).parent.glob("*.parquet")))
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
        raise InputError(f"{path}: cannot be read ({reason})\ncheck the path and its permissions") from error
    if not data:
        raise InputError(f"{path}: empty file\nexpected one rating a line")
    return data


def _unzip(path: str, file: Path, data: bytes) -> bytes:
    if file.suffix != ".gz" and not data.startswith(b"\x1f\x8b"):
        return data
    try:
        return gzip.decompress(data)
    except (EOFError, OSError, zlib.error) as error:
        raise InputError(f"{path}: truncated or corrupt gzip file ({error})\nfetch or write the file again") from error


def _check_ids(path: str, table: Table) -> None:
    """Refuses the first missing id."""
    for column in ("user", "item"):
        raw = table.frame[column]
        bad = (raw.is_null() | (raw.cast(str) == "")).arg_true()
        if len(bad):
            raise InputError(f"{path}, {table.place(bad[0])}: the {column} id is empty\nfill it in, or delete the rating")


def _ratings(path: str, table: Table) -> np.ndarray:
    """The ratings [n] float64; refuses the first that is no finite number."""
    import polars as pl

    raw = table.frame["rating"]
    numbers = raw.cast(pl.Float64, strict=False)
    values = numbers.fill_null(np.nan).to_numpy()
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        row = int(bad[0])
        kind = "a number" if numbers[row] is None else "finite"
        reason = f"{show(raw[row])} is not {kind}" if raw[row] else "is empty"
        raise InputError(
            f"{path}, {table.place(row)}: the rating {reason}\ncorrect or delete it; or set data.columns=[user, item, rating]"
        )
    return values


def _refuse(dataset: Dataset, path: str, table: Table) -> Dataset:
    """Refuses the first pair that is rated twice."""
    pair = _pairs(dataset)
    ascending = np.sort(pair)
    if (ascending[1:] == ascending[:-1]).any():
        order = np.argsort(pair, kind="stable")
        repeat = order[1:][pair[order[1:]] == pair[order[:-1]]].min()
        first = int(np.flatnonzero(pair == pair[repeat])[0])
        user, item = dataset.user_ids[dataset.user[repeat]], dataset.item_ids[dataset.item[repeat]]
        raise InputError(
            f"{path}, {table.place(int(repeat))}: user {show(user)} has rated item {show(item)} before, "
            f"on {table.place(first)}\ndelete one of them, or set data.duplicates=mean or data.duplicates=last"
        )
    return dataset


def _mean(dataset: Dataset, path: str, table: Table) -> Dataset:
    """One rating a pair, the mean, at the place of the pair's first."""
    _, first, group = np.unique(_pairs(dataset), return_index=True, return_inverse=True)
    mean = np.bincount(group, dataset.value) / np.bincount(group)
    order = np.argsort(first)
    return replace(_take(dataset, first[order]), value=mean[order])


def _last(dataset: Dataset, path: str, table: Table) -> Dataset:
    """The last rating of each pair, at its place."""
    _, backwards = np.unique(_pairs(dataset)[::-1], return_index=True)
    return _take(dataset, np.sort(len(dataset.value) - 1 - backwards))


def _pairs(dataset: Dataset) -> np.ndarray:
    return dataset.user.astype(np.int64) * dataset.num_items + dataset.item


def _take(dataset: Dataset, rows: np.ndarray) -> Dataset:
    return replace(dataset, user=dataset.user[rows], item=dataset.item[rows], value=dataset.value[rows])


DUPLICATES: dict[str, Callable[[Dataset, str, Table], Dataset]] = {"error": _refuse, "mean": _mean, "last": _last}
