"""The bytes of a path: found, unpacked, and known for what they are, or refused by name."""

import bz2
import gzip
import hashlib
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from mfjax.data.messages import listed, quoted, reason_of
from mfjax.errors import InputError
from mfjax.memory import machine_bytes

BUNDLED = "bundled:"
PIECE = 1 << 22  # bytes unpacked at a time
SHARE = 0.25  # of the memory, the most that a file may take: its table takes as much again
DEEPEST = 4  # wrappings around a file: some files unpack to themselves


class Content(NamedTuple):
    """A file's bytes, unpacked.

    Args:
      path: what messages call it.
      name: the file's, without what it was packed in, as `ratings.csv`.
      data: its bytes.
      sha256: hex digest of the bytes of the file itself, before it was unpacked.
      member: what is asked for inside it, and was no file of an archive.
    """

    path: str
    name: str
    data: bytes
    sha256: str
    member: str | None = None


def content(path: str, member: str | None = None) -> Content:
    """What a file holds, unpacked from `.gz`, `.bz2`, `.xz`, `.zip` or `.tar`.

    Args:
      path: of the file, or `bundled:NAME`.
      member: which file of an archive, where it has several.

    Raises:
      InputError: there is no such file, it cannot be unpacked, or it would not fit in memory.
    """
    file = _located(path)
    packed = _bytes(path, file)
    _check_suffix(path, file, packed)
    found = Content(path, file.name, packed, hashlib.sha256(packed).hexdigest(), member)
    found = _unpacked(found)
    if not found.data:
        raise InputError(f"{path}: empty file\nexpected one rating a line")
    for start, (what, instead) in REFUSED.items():
        if found.data.startswith(start):
            raise InputError(f"{path}: {what}, which is not read\n{instead}")
    return found


REFUSED = {
    b"\x89HDF": ("HDF5 (MATLAB 7.3 writes it too)", "write its table as CSV or Parquet"),
    b"SQLite format 3": ("an SQLite data base", "write its table as CSV or Parquet"),
    b"\xd0\xcf\x11\xe0": ("an old Excel workbook", "save its sheet as CSV"),
    b"%PDF-": ("a PDF", "write its table as CSV"),
    b"Rar!\x1a": ("a RAR archive", "unpack it, and give the path of the file of ratings"),
    b"7z\xbc\xaf": ("a 7-Zip archive", "unpack it, and give the path of the file of ratings"),
    b"\x28\xb5\x2f\xfd": ("a Zstandard file", "unpack it: zstd -d FILE"),
    b"Obj\x01": ("an Avro file", "write it as Parquet"),
    b"\x80\x04\x95": ("a Python pickle", "write it as CSV or Parquet; a pickle can run code"),
    b"\x80\x05\x95": ("a Python pickle", "write it as CSV or Parquet; a pickle can run code"),
    b"<!DOCTYPE": ("a web page", "fetch the file itself: the address gave a page about it"),
    b"<!doctype": ("a web page", "fetch the file itself: the address gave a page about it"),
    b"<html": ("a web page", "fetch the file itself: the address gave a page about it"),
    b"<?xml": ("XML", "write its table as CSV"),
}


def _located(path: str) -> Path:
    """The file of a path, or of the name of a bundled data set."""
    if not path.startswith(BUNDLED):
        try:
            return Path(path).expanduser()
        except RuntimeError:  # the home of nobody
            return Path(path)
    folder = Path(__file__).parent
    file = folder / f"{path.removeprefix(BUNDLED)}.parquet"
    if not file.exists():
        there = ", ".join(BUNDLED + file.stem for file in sorted(folder.glob("*.parquet")))
        raise InputError(f"{path}: no such data set\nbundled: {there}")
    return file


def bundled_items(path: str) -> Path | None:
    """The file of titles and genres beside a bundled data set; None of another path."""
    if not path.startswith(BUNDLED):
        return None
    file = _located(path)
    return file.parent / "items" / file.name


def _bytes(path: str, file: Path) -> bytes:
    try:
        if file.is_dir():
            raise InputError(f"{path}: is a directory\ngive the path of one file")
        if file.exists() and not file.is_file():
            raise InputError(f"{path}: no regular file, but a device, a pipe or a socket")
        if file.exists():
            check_room(path, file.stat().st_size)
        return file.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{path}: file not found\nlooked for {file.absolute()}") from error
    except InputError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"{path}: cannot be read ({reason})\ncheck the path and its permissions"
        ) from error


# unpacking


def _unpacked(file: Content) -> Content:
    """What a file holds, out of as many wrappings as it is in."""
    for _ in range(DEEPEST):
        kind = _wrapping(file.data)
        if kind is None:
            return file
        what, unpack = kind
        try:
            file = unpack(file)
        except InputError:
            raise
        except Exception as error:  # whatever damage makes an unpacker do
            raise InputError(
                f"{file.path}: truncated or corrupt {what} ({reason_of(error)})\n"
                "fetch or write the file again"
            ) from error
    raise InputError(f"{file.path}: packed more than {DEEPEST} times\nunpack it")


def _check_suffix(path: str, file: Path, data: bytes) -> None:
    """Refuses a file that is called packed and is not."""
    what = SUFFIXES.get(file.suffix)
    if what and data and (_wrapping(data) or ("",))[0] != what:
        raise InputError(
            f"{path}: truncated or corrupt {what} (it does not begin as one)\n"
            "fetch or write the file again; or rename what is not packed"
        )


_Unpack = Callable[[Content], Content]


def _wrapping(data: bytes) -> tuple[str, _Unpack] | None:
    """What the bytes are packed in; None: in nothing, or in what NumPy reads itself (.npz)."""
    for start, kind in WRAPPINGS.items():
        if data.startswith(start):
            return None if is_npz(data) else kind
    if data[257:262] == b"ustar":
        return "tar archive", _untarred
    return None


def is_npz(data: bytes) -> bool:
    """Whether the bytes are a zip archive of NumPy arrays."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
    except Exception:  # no zip archive, or a damaged one
        return False
    return bool(names) and all(name.endswith(".npy") for name in names)


def _stream(suffix: str, opened: Callable[[io.BytesIO], Any]) -> _Unpack:
    """Unpacks a file that holds one other."""

    def unpack(packed: Content) -> Content:
        with opened(io.BytesIO(packed.data)) as file:
            inside = _in_pieces(packed.path, file)
        name = packed.name
        if name.endswith(".tgz"):
            name = name.removesuffix(".tgz") + ".tar.gz"
        return packed._replace(name=name.removesuffix(suffix), data=inside)

    return unpack


def _unzipped(packed: Content) -> Content:
    with zipfile.ZipFile(io.BytesIO(packed.data)) as archive:
        names = [info.filename for info in archive.infolist() if not info.is_dir()]
        if any(one.startswith("xl/") for one in names):
            raise InputError(
                f"{packed.path}: an Excel workbook, which is not read\nsave a sheet as CSV"
            )
        chosen = _member(packed, "zip archive", names)
        with archive.open(chosen) as file:
            return _taken(packed, chosen, file)


def _untarred(packed: Content) -> Content:
    with tarfile.open(fileobj=io.BytesIO(packed.data)) as archive:
        infos = {info.name: info for info in _infos(archive) if info.isfile()}
        chosen = _member(packed, "tar archive", list(infos))
        file = archive.extractfile(infos[chosen])
        assert file is not None
        return _taken(packed, chosen, file)


def _infos(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """What is in an archive; a damaged one may lead back to where it began, without end."""
    before = -1
    for info in archive:
        if info.offset <= before:
            raise tarfile.ReadError("it leads back to where it began")
        before = info.offset
        yield info


def _taken(packed: Content, chosen: str, file: Any) -> Content:
    """The file of an archive that is no longer asked for."""
    data = _in_pieces(packed.path, file)
    return packed._replace(name=PurePosixPath(chosen).name, data=data, member=None)


WRAPPINGS: dict[bytes, tuple[str, _Unpack]] = {
    b"\x1f\x8b": ("gzip file", _stream(".gz", gzip.open)),
    **{b"BZh%d" % level: ("bzip2 file", _stream(".bz2", bz2.open)) for level in range(1, 10)},
    b"\xfd7zXZ": ("xz file", _stream(".xz", lzma.open)),
    b"PK\x03\x04": ("zip archive", _unzipped),
    b"PK\x05\x06": ("zip archive", _unzipped),
}
SUFFIXES = {".gz": "gzip file", ".bz2": "bzip2 file", ".xz": "xz file", ".zip": "zip archive"}


def _member(packed: Content, what: str, names: list[str]) -> str:
    """The one file of an archive, or the one asked for."""
    member = packed.member
    seen = [name for name in names if not _is_hidden(name)]
    if member is not None:
        seen = [name for name in seen if member in {name, PurePosixPath(name).name}]
    if len(seen) == 1:
        return seen[0]
    asked = f"none or several called {quoted(member)}" if member else f"{len(seen)} files"
    raise InputError(
        f"{packed.path}: a {what} with {asked}: {listed(names) or 'it is empty'}\n"
        "say which: data.member=NAME; or unpack it"
    )


def _is_hidden(name: str) -> bool:
    path = PurePosixPath(name)
    return "__MACOSX" in path.parts or path.name.startswith(".")


def _in_pieces(path: str, file: io.BufferedIOBase) -> bytes:
    """All of a stream, given up where it unpacks to more than there is room for."""
    whole = io.BytesIO()
    while piece := file.read(PIECE):
        whole.write(piece)
        check_room(path, whole.tell())
    return whole.getvalue()


def check_room(path: str, size: int) -> None:
    """Refuses what takes more memory than a file may.

    Raises:
      InputError: it takes `size` bytes, and SHARE of the memory is less.
    """
    room = SHARE * machine_bytes()
    if size > room:
        raise InputError(
            f"{path}: more than {room / 1e9:.3g} GB, a quarter of this machine's memory\n"
            "read a part of it, or read it on a larger machine"
        )
