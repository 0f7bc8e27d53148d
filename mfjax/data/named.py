"""A published set of ratings by its name: fetched, parsed once, and kept in a compact form."""

import io
import json
import shutil
import tempfile
import zipfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from mfjax.data.aside import aligned
from mfjax.data.dataset import Dataset, Reading
from mfjax.data.published import PUBLISHED, ItemFile, Published
from mfjax.data.reading import read

if TYPE_CHECKING:
    import polars as pl

FORM = 1  # of what is kept: another is read anew
GENRES = (  # the flags of u.item, in their order
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime"),
    *("Documentary", "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery"),
    *("Romance", "Sci-Fi", "Thriller", "War", "Western"),
)


def by_name(name: str, *, path: str | None = None) -> Dataset:
    """The ratings of a published set, with titles and genres where it has them.

    Downloaded once into the user's cache, and parsed once: what was parsed is kept beside it, under
    the digest of its file.

    Args:
      name: a key of `mfjax.data.published.PUBLISHED`.
      path: of a copy that is there already: the archive, the folder that it unpacks to, or its file
        of ratings; None: the user's cache, or the set's address.

    Returns:
      The ratings in the order of the file, by whose digest they are known.

    Raises:
      InputError: the set cannot be had, or its ratings are wrong.
    """
    from mfjax.data.download import data_folder, digest_of, fetched, own_copy  # they take a while

    record = PUBLISHED[name]
    file = fetched(name, record) if path is None else own_copy(name, path, record)
    digest = digest_of(file)
    kept = data_folder() / "parsed" / f"{name}-{digest[:16]}-{FORM}"
    dataset = _kept(name, kept, digest)
    if dataset is None:
        dataset = _parsed(name, file, digest, record)
        dataset = dataset.noting(_keep(dataset, kept))
    return dataset.noting(*_remarks(digest, record, dataset))


def _remarks(digest: str, record: Published, dataset: Dataset) -> list[str]:
    """The licence, and how the file differs from the one on record."""
    remarks = [f"licence: {record.licence}"]
    known = record.digest
    if known and known.startswith("sha256:") and known != f"sha256:{digest}":
        remarks.append("this file is not the archive on record; its digest stands in the results")
    shape = (dataset.num_users, dataset.num_items, len(dataset.value))
    if shape != record.shape:
        users, items, ratings = record.shape
        remarks.append(f"as published: {users:,} users × {items:,} items, {ratings:,} ratings")
    return remarks


# what is in a file


def _parsed(name: str, file: Path, digest: str, record: Published) -> Dataset:
    is_archive = zipfile.is_zipfile(file)
    member = {"member": record.member} if is_archive else {}
    dataset = read(str(file), **member, **record.reading)
    dataset = replace(dataset, name=name, sha256=digest)
    text = _item_text(file, record.items, is_archive) if record.items else None
    if record.items is None or text is None:
        return dataset
    items = _items(text.decode(record.items.encoding), record.items)
    return replace(dataset, items=aligned(items, dataset.item_ids))


def _item_text(file: Path, items: ItemFile, is_archive: bool) -> bytes | None:
    """The bytes of the file of items, which stands beside the ratings; None where it does not."""
    if not is_archive:
        beside = file.with_name(items.member)
        return beside.read_bytes() if beside.is_file() else None
    with zipfile.ZipFile(file) as archive:
        for one in archive.namelist():
            if PurePosixPath(one).name == items.member:
                return archive.read(one)
    return None


def _items(text: str, items: ItemFile) -> "pl.DataFrame":
    """The id, title and genres of items, as their file has them."""
    import polars as pl

    if items.form == "csv":
        frame = pl.read_csv(io.StringIO(text), infer_schema=False)
        frame = frame.select(id=frame.columns[0], title=frame.columns[1], genres=frame.columns[2])
        return frame.with_columns(_genres())
    lines = [line for line in text.splitlines() if line]
    if items.form == "::":
        fields = [line.split("::") for line in lines]
        columns = {"id": [one[0] for one in fields], "title": [one[1] for one in fields]}
        frame = pl.DataFrame({**columns, "genres": [one[-1] for one in fields]})
        return frame.with_columns(_genres())
    fields = [line.split("|") for line in lines]
    flags = [one[-len(GENRES) :] for one in fields]
    genres = [
        [genre for genre, flag in zip(GENRES, of_item, strict=True) if flag == "1"]
        for of_item in flags
    ]
    columns = {"id": [one[0] for one in fields], "title": [one[1] for one in fields]}
    return pl.DataFrame(
        {**columns, "genres": genres}, schema_overrides={"genres": pl.List(pl.String)}
    )


def _genres() -> "pl.Expr":
    """`Drama|War` as a list; empty where none are listed."""
    import polars as pl

    split = pl.col("genres").str.split("|")
    none = pl.lit([], dtype=pl.List(pl.String))
    is_none = pl.col("genres") == "(no genres listed)"
    return pl.when(is_none).then(none).otherwise(split).alias("genres")


# what is kept of it


def _keep(dataset: Dataset, folder: Path) -> str:
    """Keep what was parsed, whole or not at all; what to say of it."""
    import polars as pl

    columns = {"user": dataset.user, "item": dataset.item, "value": _compact(dataset.value)}
    if dataset.timestamp is not None:
        columns["timestamp"] = _compact(dataset.timestamp)
    items = pl.DataFrame({"item_id": dataset.item_ids})
    if dataset.items is not None:
        items = items.hstack(dataset.items)
    assert dataset.reading is not None  # it was read
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".parsing-"))
    except OSError as error:
        return f"not kept in its parsed form: {folder.parent} cannot be written ({error.strerror})"
    try:
        pl.DataFrame(columns).write_parquet(made / "ratings.parquet", compression="lz4")
        pl.DataFrame({"user_id": dataset.user_ids}).write_parquet(made / "users.parquet")
        items.write_parquet(made / "items.parquet")
        (made / "reading.json").write_text(json.dumps(dataset.reading._asdict()))
        with suppress(OSError):  # another process was first
            made.rename(folder)
    except OSError as error:
        return f"not kept in its parsed form: {folder.parent} cannot be written ({error.strerror})"
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return f"kept in its parsed form in {folder}"


def _compact(values: np.ndarray) -> np.ndarray:
    """The same numbers in half of the bytes, where they are the same."""
    smaller = values.astype(np.float32 if values.dtype.kind == "f" else np.int32)
    return smaller if (smaller == values).all() else values


def _kept(name: str, folder: Path, digest: str) -> Dataset | None:
    """What was kept of a file; None where nothing was, or not all of it can be read."""
    import polars as pl

    if not folder.is_dir():
        return None
    try:
        ratings = pl.read_parquet(folder / "ratings.parquet")
        users = pl.read_parquet(folder / "users.parquet")
        items = pl.read_parquet(folder / "items.parquet")
        reading = json.loads((folder / "reading.json").read_text())
    except (OSError, ValueError, pl.exceptions.PolarsError):
        shutil.rmtree(folder, ignore_errors=True)
        return None
    more = items.drop("item_id")
    timestamp = ratings["timestamp"].to_numpy().astype(np.int64) if "timestamp" in ratings else None
    return Dataset(
        name=name,
        user=ratings["user"].to_numpy(),
        item=ratings["item"].to_numpy(),
        value=ratings["value"].to_numpy().astype(np.float64),
        user_ids=_ids(users["user_id"]),
        item_ids=_ids(items["item_id"]),
        sha256=digest,
        timestamp=timestamp,
        reading=Reading(
            **{**reading, "notes": tuple(reading["notes"]), "warnings": tuple(reading["warnings"])}
        ),
        items=more if more.width else None,
    )


def _ids(column: "pl.Series") -> np.ndarray:
    ids = column.to_numpy()
    return ids.astype(str) if ids.dtype == object else ids
