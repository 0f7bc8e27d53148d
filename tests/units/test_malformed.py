"""Malformed files and configs, some 500, generated: none is a traceback, none has no end.

A file is a table of ratings in a dialect, with a damage. A damage says what may come of it: the
ratings that the damaged file states, or nothing, and then the file is refused in a short message
that names it. A config is refused before anything is trained.
"""

import bz2
import gzip
import io
import itertools
import lzma
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pytest
from archives import tarred, zipped
from configs import composed, refusal
from marks import often
from omegaconf import OmegaConf
from scipy import io as scipy_io
from scipy import sparse

from mfjax.app.schema import RANGES, known
from mfjax.data import Dataset, files, formats, read, text
from mfjax.errors import InputError

Rows = list[list[str]]
Rating = tuple[str, str, float]


class Table(NamedTuple):
    """Rows of text, user, item, rating and time, and how they are written."""

    names: list[str]
    rows: Rows
    separator: str = ","
    header: bool = True
    quote: str = ""
    end: str = "\n"

    @property
    def lines(self) -> Rows:
        return [self.names] * self.header + self.rows

    @property
    def text(self) -> str:
        return "".join(self.line(fields) for fields in self.lines)

    def line(self, fields: list[str]) -> str:
        return self.separator.join(f"{self.quote}{one}{self.quote}" for one in fields) + self.end

    @property
    def ratings(self) -> list[Rating] | None:
        """What the rows state; None where one states nothing."""
        try:
            return [(user, item, float(rating)) for user, item, rating, *_ in self.rows]
        except ValueError:  # fewer fields, or no number
            return None

    def having(self, row: int, column: int, value: str) -> "Table":
        """With another value in a field."""
        rows = [list(fields) for fields in self.rows]
        rows[row][column] = value
        return self._replace(rows=rows)


DIALECTS = {
    "csv": {},
    "no header": {"header": False},
    "tab": {"separator": "\t"},
    "colons": {"separator": "::", "header": False},
    "semicolon": {"separator": ";", "end": "\r\n"},
    "quoted": {"quote": '"'},
    "blanks": {"separator": " ", "header": False},
}


def made(rng: np.random.Generator, **dialect) -> Table:
    """A dozen ratings of text ids, and times."""
    pairs = rng.permutation(40)[:12]
    rows = [
        [f"u{pair % 5}", f"Item-{pair}", f"{rng.integers(1, 11) / 2}", f"{rng.integers(10**9)}"]
        for pair in pairs
    ]
    return Table(["user", "item", "rating", "timestamp"], rows, **dialect)


class Case(NamedTuple):
    """A file, how it is read, and what may come of it.

    Args:
      data: the bytes of the file.
      ratings: what it states; None: it must be refused.
      refusable: whether it may be refused too.
      given: arguments of `read`.
    """

    data: bytes
    ratings: list[Rating] | None = None
    refusable: bool = False
    given: Mapping[str, Any] = MappingProxyType({})


Damage = Callable[[Table, np.random.Generator], Case]


def assert_short(message: str, path: str) -> None:
    lines = message.splitlines()
    assert 1 <= len(lines) <= 6, message
    assert max(map(len, lines)) <= 300, message
    assert path in message or message.startswith("data."), message  # the file, or an argument


def stated(dataset: Dataset) -> list[Rating]:
    rows = zip(dataset.user, dataset.item, dataset.value, strict=True)
    return [(str(dataset.user_ids[u]), str(dataset.item_ids[i]), float(v)) for u, i, v in rows]


def check(path: Path, case: Case) -> None:
    path.write_bytes(case.data)
    try:
        dataset = read(str(path), **case.given)
    except InputError as error:
        assert_short(str(error), str(path))
        assert case.ratings is None or case.refusable, error
    else:
        assert stated(dataset) == case.ratings


# text


WORDS = ["good", "", "NULL", "-", "n/a", "٤", "0x10", "3stars", "1e400", "-inf", "nan", "9" * 400]
WORDS += ["1_000", "--3", "3.5.1", "true", "=A1", "4,5"]
NUMBERS = ["1e308", "-1e308", "0." + "0" * 400 + "1", "007", "+3", "3.", ".5", "1E-3"]
IDS = ["", "nan", "None", "x" * 300, "a\x07", "a\x1b[2J"]


def cut(table: Table, rng: np.random.Generator) -> Case:
    """The file ends too early; what is left of its last line may be a rating."""
    data = table.text.encode()
    text = data[: rng.integers(1, len(data))].decode()
    rows = []
    for line in text.rstrip(" \r\n").split("\n")[table.header :]:
        fields = [field.strip(" \r") for field in line.split(table.separator)]
        if table.quote and not line.rstrip().endswith(('"', ",")):
            return Case(text.encode())
        rows.append([field.strip('"') for field in fields])
    is_whole = bool(rows) and len(rows[-1]) == 4 and rows[-1][3] != ""
    return Case(text.encode(), table._replace(rows=rows).ratings or None, not is_whole)


def with_word(table: Table, rng: np.random.Generator) -> Case:
    word = str(rng.choice([one for one in WORDS if table.separator not in one]))
    return Case(table.having(rng.integers(1, 12), 2, word).text.encode())


def with_number(table: Table, rng: np.random.Generator) -> Case:
    damaged = table.having(rng.integers(12), 2, str(rng.choice(NUMBERS)))
    return Case(damaged.text.encode(), damaged.ratings)


def without_id(table: Table, rng: np.random.Generator) -> Case:
    place = rng.integers(1, 12), rng.integers(2)
    return Case(table.having(*place, str(rng.choice(IDS))).text.encode())


def swapped(table: Table, rng: np.random.Generator) -> Case:
    """The values of two columns change places, and not their names."""
    rows = [[user, rating, item, time] for user, item, rating, time in table.rows]
    return Case(table._replace(rows=rows, header=True).text.encode())


def moved(table: Table, rng: np.random.Generator) -> Case:
    """The columns stand in another order, their names too."""
    order = rng.permutation(4)
    moved = table._replace(
        names=[table.names[i] for i in order],
        rows=[[row[i] for i in order] for row in table.rows],
        header=True,
    )
    return Case(moved.text.encode(), table.ratings)


def short_row(table: Table, rng: np.random.Generator) -> Case:
    rows = list(table.rows)
    rows[rng.integers(1, 12)] = rows[0][: rng.integers(1, 3)]
    return Case(table._replace(rows=rows).text.encode())


def long_row(table: Table, rng: np.random.Generator) -> Case:
    rows = list(table.rows)
    rows.insert(rng.integers(1, 12), [*rows[0][:1], "Another", *rows[0][1:]])
    return Case(table._replace(rows=rows).text.encode())


def blank_line(table: Table, rng: np.random.Generator) -> Case:
    rows = list(table.rows)
    rows.insert(rng.integers(1, 12), [])
    return Case(table._replace(rows=rows).text.encode())


def repeated(table: Table, rng: np.random.Generator) -> Case:
    rows = [*table.rows, table.rows[rng.integers(12)]]
    return Case(table._replace(rows=rows).text.encode())


def header_again(table: Table, rng: np.random.Generator) -> Case:
    rows = list(table.rows)
    rows.insert(rng.integers(1, 12), table.names)
    return Case(table._replace(rows=rows).text.encode())


def header_twice(table: Table, rng: np.random.Generator) -> Case:
    """Two columns are called the same."""
    names = list(table.names)
    names[rng.integers(1, 3)] = "user"
    return Case(table._replace(names=names, header=True).text.encode())


def stray_quote(table: Table, rng: np.random.Generator) -> Case:
    """A quote that opens a field, and none that closes it."""
    row = int(rng.integers(1, 12))
    return Case(table.having(row, 1, '"' + table.rows[row][1]).text.encode())


def inches(table: Table, rng: np.random.Generator) -> Case:
    """A quote inside a field is text."""
    row = int(rng.integers(12))
    damaged = table.having(row, 1, table.rows[row][1] + '"x').text.encode()
    expected = table.having(row, 1, table.rows[row][1] + '"x').ratings
    return Case(damaged, expected, refusable=bool(table.quote))


def with_nul(table: Table, rng: np.random.Generator) -> Case:
    data = bytearray(table.text.encode())
    data[rng.integers(len(data))] = 0
    return Case(bytes(data))


def in_latin1(table: Table, rng: np.random.Generator) -> Case:
    return Case(table.having(rng.integers(12), 1, "Amélie").text.encode("latin-1"))


def in_given(table: Table, rng: np.random.Generator) -> Case:
    """In an encoding, and that is said."""
    damaged = table.having(rng.integers(12), 1, "Amélie")
    name = str(rng.choice(["latin-1", "cp1252", "utf-16-le", "utf-16", "utf-32-be", "utf-8"]))
    return Case(damaged.text.encode(name), damaged.ratings, given={"encoding": name})


def in_another(table: Table, rng: np.random.Generator) -> Case:
    """In an encoding that is not the one that is said."""
    name = str(rng.choice(["ascii", "utf-16", "utf-32", "idna", "utf-9", "hex", "a\0"]))
    data = table.having(rng.integers(12), 1, "Amélie").text.encode()
    return Case(data, given={"encoding": name})


def marked(table: Table, rng: np.random.Generator) -> Case:
    name = str(rng.choice(["utf-8-sig", "utf-16", "utf-32"]))
    return Case(table.text.encode(name), table.ratings)


def unmarked(table: Table, rng: np.random.Generator) -> Case:
    name = str(rng.choice(["utf-16-le", "utf-16-be", "utf-32-le"]))
    return Case(table.text.encode(name))


def mixed_ends(table: Table, rng: np.random.Generator) -> Case:
    ends = rng.choice(["\n", "\r\n"], len(table.lines))
    lines = zip(table.lines, ends, strict=True)
    text = "".join(table._replace(end=str(end)).line(fields) for fields, end in lines)
    return Case(text.encode(), table.ratings)


def old_ends(table: Table, rng: np.random.Generator) -> Case:
    return Case(table._replace(end="\r").text.encode())


def other_separator(table: Table, rng: np.random.Generator) -> Case:
    others = [one for one in ("|", "#", "~~", "abc", "", '"', "\n") if one != table.separator]
    return Case(table.text.encode(), given={"separator": str(rng.choice(others))})


def binary_noise(table: Table, rng: np.random.Generator) -> Case:
    data = bytearray(table.text.encode())
    at = rng.integers(len(data) - 9)
    data[at : at + 8] = rng.integers(0x80, 0x100, 8, dtype=np.uint8).tobytes()
    return Case(bytes(data))


def no_column(table: Table, rng: np.random.Generator) -> Case:
    columns = [[0, 1, 4], [0, 1, -1], ["user", "item", "stars"], [0, 0, 2], [0, 1], [], [0, 1, 2.0]]
    columns += [[True, 1, 2], [[0], 1, 2], [None, 1, 2], ["", 1, 2]]
    return Case(table.text.encode(), given={"columns": columns[rng.integers(len(columns))]})


TEXT: list[Damage] = [
    cut,
    with_word,
    with_number,
    without_id,
    swapped,
    moved,
    short_row,
    long_row,
    blank_line,
    repeated,
    header_again,
    header_twice,
    stray_quote,
    inches,
    with_nul,
    in_latin1,
    in_given,
    in_another,
    marked,
    unmarked,
    mixed_ends,
    old_ends,
    other_separator,
    binary_noise,
    no_column,
]
WRITTEN = [(damage, dialect) for damage in TEXT for dialect in DIALECTS]


@pytest.mark.parametrize(
    "damage, dialect",
    often(WRITTEN, one_of=3),
    ids=[f"{damage.__name__}-{name}" for damage, name in WRITTEN],
)
def test_text_is_read_as_it_is_or_refused(tmp_path, damage, dialect):
    rng = np.random.default_rng([TEXT.index(damage), [*DIALECTS].index(dialect), 1])
    table = made(rng, **DIALECTS[dialect])
    case = damage(table, rng)
    check(tmp_path / "ratings.txt", case)


# bytes


def csv(table: Table) -> bytes:
    return table.text.encode()


def columns(table: Table) -> dict[str, list]:
    user, item, rating, time = zip(*table.rows, strict=True)
    return {
        "user": list(user),
        "item": list(item),
        "rating": list(map(float, rating)),
        "timestamp": list(map(int, time)),
    }


def by(write: Callable[[io.BytesIO, Table], object]) -> Callable[[Table], bytes]:
    def written(table: Table) -> bytes:
        file = io.BytesIO()
        write(file, table)
        return file.getvalue()

    return written


def matrix(table: Table) -> sparse.coo_matrix:
    entries = columns(table)
    user = [int(one[1:]) for one in entries["user"]]
    item = [int(one[5:]) for one in entries["item"]]
    return sparse.coo_matrix((entries["rating"], (user, item)))


PACKED: dict[str, Callable[[Table], bytes]] = {  # with a checksum, so that no damage goes unseen
    "csv.gz": lambda table: gzip.compress(csv(table)),
    "csv.bz2": lambda table: bz2.compress(csv(table)),
    "csv.xz": lambda table: lzma.compress(csv(table)),
    "zip": lambda table: zipped({"ratings.csv": csv(table)}),
    "tar.gz": lambda table: gzip.compress(tarred({"ratings.csv": csv(table)})),
    "npz": by(lambda file, table: np.savez_compressed(file, **columns(table))),
    "csr.npz": by(lambda file, table: sparse.save_npz(file, matrix(table).tocsr())),
}
PLAIN: dict[str, Callable[[Table], bytes]] = {
    "parquet": by(lambda file, table: pl.DataFrame(columns(table)).write_parquet(file)),
    "arrow": by(lambda file, table: pl.DataFrame(columns(table)).write_ipc(file)),
    "jsonl": by(lambda file, table: pl.DataFrame(columns(table)).write_ndjson(file)),
    "tar": lambda table: tarred({"ratings.csv": csv(table)}),
    "mtx": by(lambda file, table: scipy_io.mmwrite(file, matrix(table))),
    "mat": by(lambda file, table: scipy_io.savemat(file, {"R": matrix(table)})),
    "npy": by(lambda file, table: np.save(file, matrix(table).toarray())),
}
FORMATS = PACKED | PLAIN
ARGUMENTS = {"npy": {"layout": "dense", "missing": [0]}}


def shortened(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: rng.integers(1, len(data))]


def flipped(data: bytes, rng: np.random.Generator) -> bytes:
    damaged = bytearray(data)
    for at in rng.integers(len(data), size=rng.integers(1, 6)):
        damaged[at] ^= 1 << rng.integers(8)
    return bytes(damaged)


def overwritten(data: bytes, rng: np.random.Generator) -> bytes:
    at = rng.integers(len(data))
    noise = rng.integers(0, 256, min(30, len(data) - at), dtype=np.uint8).tobytes()
    return data[:at] + noise + data[at + len(noise) :]


def written(path: Path, kind: str, damage: Callable, seed: int) -> tuple[Path, bytes, bytes]:
    rng = np.random.default_rng([[*FORMATS].index(kind), seed])
    whole = FORMATS[kind](made(rng))
    damaged = damage(whole, rng)
    file = path / f"ratings.{kind}"
    file.write_bytes(damaged)
    return file, whole, damaged


DAMAGES = {"shortened": shortened, "flipped": flipped, "overwritten": overwritten}


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", PACKED)
def test_what_has_a_checksum_is_refused_or_as_it_was(tmp_path, kind, damage, seed):
    file, whole, damaged = written(tmp_path, kind, DAMAGES[damage], seed)
    file.write_bytes(whole)
    ratings = stated(read(str(file)))
    check(file, Case(damaged, ratings, refusable=True))


SEEDS = range(4)


def report(folder: Path) -> None:
    """Reads files without a checksum, damaged, and says of each that it was read or refused."""
    for kind, (name, damage), seed in itertools.product(PLAIN, DAMAGES.items(), SEEDS):
        file, *_ = written(folder, kind, damage, seed)
        try:
            dataset = read(str(file), **ARGUMENTS.get(kind, {}))
        except InputError as error:
            assert_short(str(error), str(file))
        else:
            assert np.isfinite(dataset.value).all()
            pairs = {*zip(dataset.user, dataset.item, strict=True)}
            assert len(pairs) == len(dataset.value)
        print(f"{kind} {name} {seed}", flush=True)


@pytest.mark.slow
def test_what_has_none_is_refused_or_ratings(tmp_path):
    """In a process of its own: there is damage by which Polars and SciPy end the process."""
    path = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    done = subprocess.run(
        [sys.executable, "-W", "error", __file__, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stdout[-100:] + done.stderr[-2000:]
    assert len(done.stdout.splitlines()) == len(PLAIN) * len(DAMAGES) * len(SEEDS)
    assert done.stderr == ""  # and no trace on the way


MAGIC = [*formats.READERS, *files.WRAPPINGS, *files.REFUSED, *text.MARKS, b"{", b"[", b"1:"]


@pytest.mark.parametrize("magic", MAGIC, ids=repr)
def test_what_begins_like_a_format_and_is_none_is_refused(tmp_path, magic):
    rng = np.random.default_rng(list(magic))
    path = tmp_path / "ratings.dat"
    for noise in (b"", b"\n", bytes(300), rng.integers(0, 256, 300, dtype=np.uint8).tobytes()):
        check(path, Case(magic + noise))


# JSON lines


OBJECTS = {
    "deep": '"rating": 3, "x": ' + "[" * 100_000 + "]" * 100_000,
    "deeper": '"rating": 3, "x": ' + '{"a":' * 100_000 + "1" + "}" * 100_000,
    "nan": '"rating": NaN',
    "huge": '"rating": 1e400',
    "word": '"rating": "good"',
    "true": '"rating": true',
    "none": '"rating": null',
    "no rating": '"year": 1999',
    "list": '"rating": [3]',
    "object": '"rating": {"of": 5}',
    "id of objects": '"rating": 3, "user": {"id": 1}',
    "half an id": '"rating": 3, "user": 1.5',
    "NUL": '"rating": 3, "user": "a\\u0000"',
    "cut": '"rat',
}


@pytest.mark.parametrize("wrong", OBJECTS)
def test_a_wrong_object_among_json_lines_is_refused(tmp_path, wrong):
    rest = OBJECTS[wrong] if '"user"' in OBJECTS[wrong] else f'"user": 1, {OBJECTS[wrong]}'
    lines = [f'{{"item": {i}, "user": 1, "rating": {i % 5}}}' for i in range(150)]
    lines.insert(120, f'{{"item": 999, {rest}}}'[: -1 if wrong == "cut" else None])
    check(tmp_path / "ratings.jsonl", Case("\n".join(lines).encode()))


# where a file lies, and what is around it


ROW = b"1,2,3\n"
RATING = [("1", "2", 3.0)]


def nested(times: int) -> bytes:
    data = ROW
    for _ in range(times):
        data = gzip.compress(data)
    return data


def backwards() -> bytes:
    """An archive whose member has a size below 0: it leads back to itself."""
    data = bytearray(tarred({"r.csv": ROW}))
    data[124:136] = b"\xff" + (2**88 - 1024).to_bytes(11)
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    return bytes(data)


ODD = {
    "no member": (zipped({}), None),
    "only folders": (zipped({"a/": b""}), None),
    "hidden members": (zipped({"__MACOSX/r.csv": ROW, ".r.csv": ROW}), None),
    "two members": (zipped({"a.csv": ROW, "b.csv": ROW}), None),
    "an empty member": (zipped({"r.csv": b""}), None),
    "a member of blanks": (zipped({"r.csv": b" \n\r\n"}), None),
    "a member of no name": (zipped({"..": ROW}), None),
    "long names": (zipped({f"{'x' * 200}\n{i}": ROW for i in range(20)}), None),
    "an archive in an archive": (zipped({"a.zip": zipped({"r.csv": ROW})}), RATING),
    "an empty archive in an archive": (zipped({"a.zip": zipped({})}), None),
    "no file in a tar": (tarred({}), None),
    "an empty gzip": (gzip.compress(b""), None),
    "packed thrice": (nested(3), RATING),
    "packed too often": (nested(9), None),
    "a tar that leads back": (backwards(), None),
    "nothing": (b"", None),
    "blanks": (b" \r\n\n", None),
    "a separator and no more": (b"sep=;\n", None),
    "comments and no more": (b"# user,item,rating\n", None),
    "a field of a thousand lines": (b'user,item,rating\n1,"2' + b"\nx" * 3000 + b'",3\n', None),
    "a field of a million digits": (b"1,2," + b"9" * 1_000_000, None),
    "many columns": (b",".join(b"c%d" % i for i in range(1000)) + b"\n1,2\n", None),
}


@pytest.mark.parametrize("odd", ODD)
def test_odd_files_are_read_or_refused(tmp_path, odd):
    check(tmp_path / "ratings.dat", Case(*ODD[odd]))


@pytest.mark.parametrize("kind", [*PACKED, "parquet"])
def test_what_unpacks_beyond_memory_is_refused(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(files, "machine_bytes", lambda: 1 << 16)
    rows = [[f"u{i}", f"Item-{i}", "3", "1"] for i in range(20_000)]
    table = made(np.random.default_rng(0))._replace(rows=rows)
    check(tmp_path / f"ratings.{kind}", Case(FORMATS[kind](table)))


def test_wrong_places_are_refused(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "gone").symlink_to("nowhere")
    for place in ("loop", "a", "gone", "a/b", "x" * 300, "x/" * 3000, ""):
        path = str(tmp_path / place)
        with pytest.raises(InputError) as caught:
            read(path)
        assert str(caught.value).startswith(path)
    for path in ("~nobody-of-that-name/r.csv", "bundled:../x", "bundled:\0", "a\0b", "/dev/zero"):
        with pytest.raises(InputError):
            read(path)


# configs


def keys_of(node: Any, path: str = "") -> dict[str, Any]:
    """Every key of a config, with its default."""
    if not isinstance(node, dict) or not node:
        return {path: node}
    found = {}
    for key, value in node.items():
        found |= keys_of(value, f"{path}.{key}" if path else key)
    return found


KEYS = keys_of(OmegaConf.to_container(known("train")))


def misspelt() -> list[str]:
    """Keys of which a letter is left out."""
    rng = np.random.default_rng(0)
    chosen = rng.permutation([key for key in KEYS if len(key.split(".")[-1]) > 4])[:7]
    cuts = [len(key) - 1 - rng.integers(3) for key in chosen]
    wrong = [f"{key[:cut]}{key[cut + 1 :]}" for key, cut in zip(chosen, cuts, strict=True)]
    return [f"{key}=1" for key in wrong if key not in KEYS]


def of_other_types() -> list[str]:
    """A word where a number is, or a truth, and a list where one value is."""
    rng = np.random.default_rng(1)
    single = [key for key, value in KEYS.items() if isinstance(value, (bool, int, float))]
    single.remove("clip")  # which takes a list, too
    chosen = rng.permutation(single)[:7]
    return [f"{key}={rng.choice(['word', '[1,2]', '{a:1}'])}" for key in chosen]


def out_of_range() -> list[str]:
    """The first number that is none of a key's."""
    numbers = [-7, 0, 7, 1.5, 10**6, float("nan")]
    chosen = np.random.default_rng(2).permutation([key for key in RANGES if key in KEYS])[:7]
    wrong = {key: [one for one in numbers if not RANGES[key][0](one)] for key in chosen}
    return [f"{key}={some[0]}" for key, some in wrong.items() if some]


@pytest.mark.parametrize("override", [*misspelt(), *of_other_types(), *out_of_range()])
def test_a_wrong_config_is_refused_before_anything_is_read(override):
    said = refusal(override, until=composed)
    assert_short(said, override.partition("=")[0].split(".")[-1])


if __name__ == "__main__":
    report(Path(sys.argv[1]))
