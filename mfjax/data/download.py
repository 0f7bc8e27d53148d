"""Archives of published sets: downloaded once, checked, and kept; or the copy that a user has."""

import contextlib
import hashlib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import platformdirs
import pooch
import rich.progress
from pooch.downloaders import HTTPDownloader

from mfjax.data.messages import quoted, reason_of
from mfjax.data.published import Published
from mfjax.errors import InputError

RETRIES = 2  # after a download that failed
TIMEOUT = 30  # seconds without an answer


def data_folder() -> Path:
    """The folder of the user's cache in which published sets are kept."""
    return platformdirs.user_cache_path("mfjax") / "data"


def fetched(name: str, record: Published) -> Path:
    """The archive of a published set, downloaded where it is not there yet.

    A file comes under its name when it is whole, so that two processes at once do no harm.

    Args:
      name: of the set.
      record: its row of PUBLISHED.

    Returns:
      The path of the archive, whose digest is that of the record where it has one.

    Raises:
      InputError: it cannot be downloaded, or is not what it should be; nothing of it is kept.
    """
    folder = data_folder()
    file = Path(record.address).name
    source = pooch.create(
        path=folder,
        base_url="",
        registry={file: record.digest},
        urls={file: record.address},
        retry_if_failed=RETRIES,
    )
    with _bar(name, record) as bar, _no_lines_of_pooch():
        download = HTTPDownloader(progressbar=bar, timeout=TIMEOUT)
        try:
            return Path(source.fetch(file, processor=_checked_zip, downloader=download))
        except Exception as error:  # whatever networks and disks do
            reason = _why(error, folder)
            raise InputError(
                f"data={name}: cannot be downloaded ({reason})\n"
                f"address: {record.address}\n"
                f"put the file at {folder / file}, or say where it is: data.path=FILE\n"
                "without it there is a bundled set: data=movielens"
            ) from error


def own_copy(name: str, path: str, record: Published) -> Path:
    """The copy of a published set that a user has: its archive, its folder, or its ratings.

    Args:
      name: of the set.
      path: of the copy.
      record: its row of PUBLISHED.

    Returns:
      The path of the archive or of the file of ratings.

    Raises:
      InputError: there is nothing, or a folder without the file of ratings.
    """
    place = Path(path).expanduser()
    if not place.exists():
        raise InputError(f"data.path: {path}: not found\nlooked for {place.absolute()}")
    if place.is_file():
        return place
    found = sorted(place.rglob(record.member))
    if len(found) != 1:
        many = "no file" if not found else f"{len(found)} files"
        raise InputError(
            f"data.path: {path}: {many} called {quoted(record.member)} in this folder\n"
            f"expected the unpacked archive of {name}, or the path of one file"
        )
    return found[0]


def digest_of(file: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _checked_zip(file: str, action: str, source: pooch.Pooch) -> str:
    """The file, where it is an archive; what is not is not kept. A processor of pooch."""
    if action == "fetch" or zipfile.is_zipfile(file):
        return file
    start = Path(file).read_bytes()[:200].lstrip().lower()
    Path(file).unlink()
    what = "a web page" if start.startswith(b"<") else "no zip archive, or a part of one"
    raise InputError(f"the address gave {what}")


def _why(error: Exception, folder: Path) -> str:
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, PermissionError):
        return f"{folder} cannot be written"
    if isinstance(error, ValueError) and "hash" in str(error).lower():
        return "its digest is not the one on record: it is damaged, in part, or another edition"
    return reason_of(error)


@contextlib.contextmanager
def _bar(name: str, record: Published) -> Iterator[Any]:
    """What pooch tells how far it is, shown on a terminal."""
    columns = (
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.DownloadColumn(),
        rich.progress.TimeRemainingColumn(),
    )
    with rich.progress.Progress(*columns, transient=True) as progress:
        yield _Bar(progress, progress.add_task(f"downloading {name}", total=record.size))


class _Bar:
    """The methods of a progress bar that pooch calls."""

    def __init__(self, progress: rich.progress.Progress, task: rich.progress.TaskID):
        self._progress = progress
        self._task = task
        self.total: int | None = None

    def update(self, count: int) -> None:
        if self.total:
            self._progress.update(self._task, total=self.total)
        self._progress.advance(self._task, count)

    def reset(self) -> None:
        self._progress.reset(self._task, total=self.total)

    def close(self) -> None:
        pass


@contextlib.contextmanager
def _no_lines_of_pooch() -> Iterator[None]:
    """Without its log: what there is to say stands on the bar and in the line of the data."""
    log = pooch.get_logger()
    level = log.level
    log.setLevel("ERROR")
    try:
        yield
    finally:
        log.setLevel(level)
