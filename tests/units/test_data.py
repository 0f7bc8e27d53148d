"""Sources against files that are written here, splits against their identities."""

import gzip
import hashlib
import inspect
import itertools
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mfjax.data import SOURCES, SPLITS, from_ids, read
from mfjax.errors import InputError

INTEGERS = ([10, 9, 10, 2], [7, 7, 300, 8], [4.0, 3.5, -1.0, 5.0])
STRINGS = (["b", "a", "b", "é x"], ["B00", "007", "7", "B00"], [1.0, 2.0, 3.0, 4.5])
FORMATS = {
    "csv": ",",
    "tsv": "\t",
    "dat": "::",
    "data": ";",
    "txt": "|",
    "csv.gz": ",",
    "parquet": None,
}


def write(path, table, separator, header):
    if separator is None:
        pl.DataFrame(
            dict(zip(["rating", "user", "item"], [table[2], table[0], table[1]], strict=True))
        ).write_parquet(path)
        return str(path)
    lines = [separator.join(map(str, (r, u, i))) for u, i, r in zip(*table, strict=True)]
    data = (
        "\n".join([separator.join(["rating", "user", "item"])] * header + lines) + "\n"
    ).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return str(path)


def ratings(dataset):
    return (
        dataset.user_ids[dataset.user].tolist(),
        dataset.item_ids[dataset.item].tolist(),
        dataset.value.tolist(),
    )


WAYS = [  # names need a header, and Parquet always has names
    (kind, header, columns)
    for kind in FORMATS
    for header in (True, False)
    for columns in ([1, 2, 0], ["user", "item", "rating"], ["user", 2, 0])
    if header or (kind != "parquet" and "user" not in columns)
]


@pytest.mark.parametrize("table", [INTEGERS, STRINGS], ids=["integers", "strings"])
@pytest.mark.parametrize("kind, header, columns", WAYS, ids=str)
def test_every_format_gives_the_ratings_back(tmp_path, kind, header, columns, table):
    path = write(tmp_path / f"ratings.{kind}", table, FORMATS[kind], header)
    dataset = read(path, columns=columns)
    assert ratings(dataset) == table
    assert dataset.user_ids.tolist() == sorted(
        set(table[0])
    ) and dataset.item_ids.tolist() == sorted(set(table[1]))
    assert (dataset.user.dtype, dataset.item.dtype, dataset.value.dtype) == (
        np.int32,
        np.int32,
        np.float64,
    )
    assert dataset.name == "ratings" and dataset.scale == (min(table[2]), max(table[2]))
    assert dataset.sha256 == hashlib.sha256(Path(path).read_bytes()).hexdigest()


PLAIN = ([1, 2], [10, 20], [3.0, 4.0])


@pytest.mark.parametrize(
    "text",
    [
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t10\t3\t881\n2\t20\t4\t882\n",
        "\ufeff1,10,3\n2,20,4\n",
        "user,item,rating\r\n1,10,3\r\n2,20,4\r\n\r\n\n",
        '"user","item","rating","title"\n"1","10","3","a, ""b""\n and c"\n"2","20","4",""\n',
        ' 1 , 10 , 3\n 2, "20" ,4 ',
        '1\t10\t3\t5" disc\n2\t20\t4\t7" single\n',
        "1::10::3::978300760::a:b\n2::20::4\n",
        "1,10,3e0,more,fields\n2,20,4\n",
    ],
    ids=["recbole", "bom", "crlf", "quotes", "blanks", "inches", "colons", "ragged"],
)
def test_dialects_do_not_matter(tmp_path, text):
    path = tmp_path / "u.data"
    path.write_bytes(text.encode())
    assert ratings(read(str(path))) == PLAIN


@pytest.mark.parametrize("separator", [" ", "~~", "#", "¦", r"\t"])
def test_any_separator_can_be_given(tmp_path, separator):
    path = write(tmp_path / "r.txt", PLAIN, separator.replace(r"\t", "\t"), True)
    assert ratings(read(path, columns=[1, 2, 0], separator=separator)) == PLAIN


def test_ids_of_other_writing_stay_strings(tmp_path):
    path = tmp_path / "r.csv"
    path.write_text("1,01,3\n2,1,4\n99999999999999999999,7,5\n")
    assert ratings(read(str(path)))[:2] == (["1", "2", "99999999999999999999"], ["01", "1", "7"])


WRONG = {
    "text rating": ("u,i,r\n1,2,3\n1,3,good\n", {}, ["line 3", "'good'", "not a number"]),
    "comma decimals": ("1;2;3,5\n", {"header": False, "separator": ";"}, ["line 1", "'3,5'"]),
    "nan": ("1,2,3\n1,3,nan\n", {}, ["line 2", "'nan'", "not finite"]),
    "inf": ("1,2,3\n1,3,-inf\n", {}, ["line 2", "'-inf'", "not finite"]),
    "no rating": ("1,2,3\n1,3,\n", {}, ["line 2", "rating is empty"]),
    "no rating at first": ("1,2,\n1,3,4\n", {}, ["line 1", "rating is empty"]),
    "no user": ("1,2,3\n ,3,4\n", {}, ["line 2", "user id is empty"]),
    "no item": ('1,2,3\n1,"",4\n', {}, ["line 2", "item id is empty"]),
    "short row": ("u,i,r\n1,2,3\n1,3\n", {}, ["line 3", "too few fields", "at least 3, got 2"]),
    "cut row": ("1::2::3\n1::3::4\n1:", {}, ["line 3", "too few fields", "got 1"]),
    "blank line": ("1,2,3\n\n1,3,4\n", {}, ["line 2", "too few fields", "got 0"]),
    "after a break in quotes": ('1,2,3,"a\nb"\n1,3,x,"c"\n', {}, ["line 3", "'x'"]),
    "pair twice": (
        "u,i,r\n1,2,3\n4,4,4\n1,2,5\n4,4,4\n",
        {},
        ["line 4", "'1'", "'2'", "line 2", "duplicates=mean"],
    ),
    "empty": ("", {}, ["empty file"]),
    "blank": ("\n \r\n", {}, ["empty file"]),
    "header only": ("user,item,rating\n", {}, ["no ratings"]),
    "no position": (
        "1,2,3\n",
        {"columns": [0, 1, 3]},
        ["line 1", "no column 3", "3 columns", "'1', '2', '3'"],
    ),
    "negative position": ("1,2,3\n", {"columns": [0, 1, -1]}, ["no column -1"]),
    "no name": (
        "u,i,r\n1,2,3\n",
        {"columns": ["u", "i", "score"]},
        ["no column 'score'", "'u', 'i', 'r'"],
    ),
    "one column twice": ("u,i,r\n1,2,3\n", {"columns": ["u", 0, 2]}, ["three different columns"]),
    "names without header": (
        "1,2,3\n",
        {"columns": ["1", "2", "3"], "header": False},
        ["header=False", "names"],
    ),
    "no separator": ("1 2 3\n", {}, ["line 1", "separator", "'1 2 3'"]),
    "long separator": ("1,2,3\n", {"separator": "abc"}, ["one or two characters", "'abc'"]),
    "old Mac": ("1,2,3\r4,5,6\r", {"header": False}, ["line 1", "carriage return"]),
    "policy": ("1,2,3\n", {"duplicates": "first"}, ["error, mean, last", "'first'"]),
    "latin-1": ("1,2,3\n2,3,4,é\n".encode("latin1"), {}, ["line 2", "not UTF-8", "0xe9"]),
    "no gzip": (b"1,2,3\n", {"name": "r.csv.gz"}, ["gzip"]),
    "no parquet": (b"PAR1 no more", {"name": "r.parquet"}, ["Parquet"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_files_are_refused_with_place_and_reason(tmp_path, case):
    data, arguments, expected = WRONG[case]
    arguments = dict(arguments)
    path = tmp_path / arguments.pop("name", "ratings.csv")
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    about_an_argument = {"one column twice", "long separator", "policy"}
    check_refused(
        str(path), expected + ([] if case in about_an_argument else [path.name]), **arguments
    )


def check_refused(path, expected, **arguments):
    with pytest.raises(InputError) as caught:
        read(path, **arguments)
    message = str(caught.value)
    assert all(part in message for part in expected), message
    assert message.count("\n") < 6 and max(map(len, message.split("\n"))) < 300


def test_wrong_paths_are_refused(tmp_path):
    check_refused(str(tmp_path / "none.csv"), ["none.csv", "not found"])
    check_refused(str(tmp_path), [tmp_path.name, "is a directory"])
    check_refused("bundled:ml-1b", ["bundled:ml-1b", "bundled:ml-latest-small"])
    check_refused("a\0b", ["cannot be read"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission_is_refused(tmp_path):
    path = tmp_path / "r.csv"
    path.touch(0o000)
    check_refused(str(path), ["r.csv", "cannot be read"])


def test_wrong_parquet_rows_are_refused(tmp_path):
    path = str(tmp_path / "r.parquet")
    frame = pl.DataFrame({"u": [1, None, 3], "i": ["a", "b", "c"], "r": [1.0, 2.0, float("nan")]})
    frame.write_parquet(path)
    check_refused(path, ["r.parquet, row 2", "user id is empty"])
    check_refused(path, ["r.parquet", "no column 'x'", "'u', 'i', 'r'"], columns=["u", "i", "x"])
    frame[::2].write_parquet(path)
    check_refused(path, ["row 2", "'nan'", "not finite"])
    pl.DataFrame({"u": [[1], [2]], "i": [1, 2], "r": [1, 2]}).write_parquet(path)
    check_refused(path, ["r.parquet", "List"])
    frame[:0].write_parquet(path)
    check_refused(path, ["no ratings"])


@pytest.mark.parametrize("kind", ["csv.gz", "parquet"])
def test_truncated_files_are_refused(tmp_path, kind):
    path = tmp_path / f"r.{kind}"
    write(path, (list(range(500)), list(range(500)), [1.0] * 500), FORMATS[kind], False)
    data = path.read_bytes()
    for length in (1, 5, 12, len(data) // 2, len(data) - 9, len(data) - 1):
        path.write_bytes(data[:length])
        check_refused(
            str(path), [path.name, "gzip" if kind == "csv.gz" else "Parquet"], columns=[1, 2, 0]
        )


@pytest.mark.parametrize(
    "policy, expected",
    [
        ("mean", ([1, 2, 3], [9, 9, 9], [4.0, 2.0, 1.0])),
        ("last", ([2, 1, 3], [9, 9, 9], [2.0, 6.0, 1.0])),
    ],
)
def test_duplicates_are_merged(tmp_path, policy, expected):
    path = tmp_path / "r.csv"
    path.write_text("1,9,3\n2,9,2\n1,9,3\n2,9,2\n1,9,6\n3,9,1\n")
    assert ratings(read(str(path), duplicates=policy)) == expected


def test_the_bundled_set_is_the_published_one():
    dataset = read("bundled:ml-latest-small")
    assert (len(dataset.value), dataset.num_users, dataset.num_items) == (100_004, 671, 9_066)
    assert dataset.scale == (0.5, 5.0) and dataset.name == "ml-latest-small"
    assert (dataset.user_ids[0], dataset.item_ids[dataset.item[0]], dataset.value[0]) == (
        1,
        31,
        2.5,
    )


def test_from_ids_wants_as_many_users_as_items_as_ratings():
    assert ratings(from_ids("mine", [3, 1], ["x", "y"], [1, 2])) == ([3, 1], ["x", "y"], [1.0, 2.0])
    with pytest.raises(InputError, match="2, 1 and 2"):
        from_ids("mine", [3, 1], ["x"], [1, 2])


# --- made data ---


def dense(dataset):
    matrix = np.full((dataset.num_users, dataset.num_items), np.nan)
    matrix[dataset.user, dataset.item] = dataset.value
    return matrix


def test_toy_has_its_rank_and_misses_no_row_or_column():
    assert np.linalg.matrix_rank(dense(SOURCES["toy"]())) == 2
    assert np.linalg.matrix_rank(dense(SOURCES["toy"](noise=0.1))) == 20
    for observed, entries in ((0.5, 300), (0.05, 30)):
        seen = ~np.isnan(dense(SOURCES["toy"](observed=observed, seed=3)))
        assert seen.sum() == entries and seen.any(0).all() and seen.any(1).all()


def test_a_matrix_keeps_its_shape():
    nan = float("nan")
    dataset = SOURCES["matrix"](rows=[[5, None, 1], [nan, None, 2.5]])
    np.testing.assert_array_equal(dense(dataset), [[5, nan, 1], [nan, nan, 2.5]])
    assert dataset.item_ids.tolist() == [0, 1, 2]


PLANTED = {
    "default": {},
    "all": {"num_ratings": 150_000},
    "steep": {"popularity": 3.0},
    "flat": {"popularity": 0.0},
}


@pytest.mark.parametrize("arguments", PLANTED.values(), ids=PLANTED)
def test_synthetic_pairs_are_unique_and_seeded(arguments):
    make = SOURCES["synthetic"]
    dataset, again, other = make(**arguments), make(**arguments), make(**arguments, seed=1)
    n = arguments.get("num_ratings", 20_000)
    assert (
        len(set(zip(dataset.user.tolist(), dataset.item.tolist(), strict=True)))
        == len(dataset.value)
        == n
    )
    assert dataset.sha256 == again.sha256 != other.sha256
    assert (dataset.user == again.user).all() and (dataset.value == again.value).all()
    assert min(dataset.user.min(), dataset.item.min()) >= 0 and (
        dataset.num_users,
        dataset.num_items,
    ) == (500, 300)


def test_synthetic_plants_rank_biases_and_noise():
    full = {"num_users": 60, "num_items": 40, "num_ratings": 2400, "rank": 3}
    plain = dense(SOURCES["synthetic"](**full, bias_scale=0.0, noise=0.0)) - 3
    assert np.linalg.matrix_rank(plain) == 3 and 0.5 < plain.std() < 1.5
    assert (
        np.linalg.matrix_rank(dense(SOURCES["synthetic"](**full, noise=0.0))) == 5
    )  # two columns of biases and mean
    flat = SOURCES["synthetic"](**full | {"rank": 0}, bias_scale=0.0, noise=0.3)
    assert abs(flat.value.mean() - 3) < 0.03 and abs(flat.value.std() - 0.3) < 0.02


def test_half_stars_are_on_the_grid():
    value = SOURCES["synthetic"](half_stars=True).value
    assert set(value.tolist()) == set(np.arange(0.5, 5.5, 0.5).tolist())


def test_popularity_is_the_power_law():
    def counts(exponent):
        return np.sort(
            np.bincount(SOURCES["synthetic"](num_ratings=3000, popularity=exponent).item)
        )[::-1]

    rank = np.arange(1, 301)
    assert set(counts(0.0)) == {10}
    np.testing.assert_allclose(counts(1.0), 3000 / rank / (1 / rank).sum(), atol=1)
    steep = counts(2.0)
    assert (
        steep[0] == 500 and abs(steep[9] / steep[19] - 4) < 0.5
    )  # at most the users there are; then rank**-2


MADE_WRONG = [
    ("synthetic", {"num_ratings": 7, "num_users": 2, "num_items": 3}, "at most num_users"),
    ("synthetic", {"num_ratings": 0}, "num_ratings: expected 1 or more, got 0"),
    ("synthetic", {"noise": -0.1}, "noise: expected 0 or more, got -0.1"),
    ("synthetic", {"bias_scale": float("nan")}, "bias_scale"),
    ("synthetic", {"seed": -1}, "seed"),
    ("toy", {"observed": 0.0}, "observed: expected a fraction"),
    ("toy", {"rank": 0}, "rank: expected 1 or more, got 0"),
    ("matrix", {"rows": []}, "rows"),
    ("matrix", {"rows": [1, 2]}, "rows: expected lists"),
    ("matrix", {"rows": [[1, 2], [3]]}, r"lengths \[2, 1\]"),
    ("matrix", {"rows": [[1, "x"]]}, r"rows\[0\]\[1\].*'x'"),
    ("matrix", {"rows": [[1], [float("inf")]]}, r"rows\[1\]\[0\]"),
    ("matrix", {"rows": [[None, None]]}, "missing entries only"),
]


@pytest.mark.parametrize("source, arguments, message", MADE_WRONG, ids=str)
def test_wrong_arguments_are_refused(source, arguments, message):
    with pytest.raises(InputError, match=message):
        SOURCES[source](**arguments)


# --- splits ---

CASES = [
    ("random", {}, 1, 100, [100]),
    ("random", {"validation": 0.0, "test": 0.25}, 0, 250, []),
    ("random", {"validation": 0.333, "test": 0.0}, 1, 0, [333]),
    ("kfold", {"folds": 3}, 3, 0, [334, 333, 333]),
    ("kfold", {"folds": 4, "test": 0.1}, 4, 100, [225] * 4),
    ("blocks", {"folds": 3}, 3, 0, [333, 333, 334]),
    ("blocks", {"test_fold": 1}, 1, 200, [80]),
    ("blocks", {"test_fold": 4, "validation": 0.0}, 0, 200, []),
]


@pytest.mark.parametrize("name, arguments, num_folds, num_test, sizes", CASES)
def test_a_split_has_its_sizes_and_seed(name, arguments, num_folds, num_test, sizes):
    split = SPLITS[name](1000, 7, **arguments)
    assert split.num_folds == num_folds and split.test.sum() == num_test
    assert np.bincount(split.fold[split.fold >= 0], minlength=num_folds).tolist() == sizes
    assert (split.fold[split.test] == -1).all() and split.fold.min() >= -1
    assert split.fold.shape == split.test.shape == (1000,) and (
        split.fold.dtype,
        split.test.dtype,
    ) == (np.int32, bool)
    again, other = SPLITS[name](1000, 7, **arguments), SPLITS[name](1000, 8, **arguments)
    assert (
        (again.fold == split.fold).all()
        and (again.test == split.test).all()
        and again.protocol == split.protocol
    )
    drawn = "split_seed 7" in split.protocol
    assert drawn == bool((other.fold != split.fold).any() or (other.test != split.test).any())


def test_blocks_are_consecutive_rows():
    assert (SPLITS["blocks"](100_000, 0).fold == np.repeat(np.arange(5), 20_000)).all()
    assert np.flatnonzero(SPLITS["blocks"](100_000, 0, test_fold=2).test).tolist() == list(
        range(40_000, 60_000)
    )
    assert SPLITS["blocks"](11, 0, folds=4).fold.tolist() == [0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]


def test_the_protocol_is_readable():
    protocol = "random 80/10/10 split by rating (training/validation/test), split_seed 3"
    assert SPLITS["random"](1000, 3).protocol == protocol
    assert "block 0 of 0 to 4" in SPLITS["blocks"](1000, 0, test_fold=0).protocol


SPLIT_WRONG = [
    ("random", {"validation": -0.1}, "validation: expected .* got -0.1"),
    ("random", {"test": 1.0}, "test: expected .* got 1.0"),
    ("random", {"test": 0.5, "validation": 0.5}, "sum is below 1"),
    ("random", {"test": 0.01}, "at least one rating, got 0.01 of 20"),
    ("random", {"test": 0.49, "validation": 0.5}, "at least one training rating"),
    ("kfold", {"folds": 1}, "folds: expected 2 to 20 .* got 1"),
    ("kfold", {"folds": 11, "test": 0.5}, "expected 2 to 10 .* got 11"),
    ("blocks", {"folds": 21}, "got 21"),
    ("blocks", {"test_fold": 5}, "test_fold: expected 0 to 4 .* got 5"),
    ("blocks", {"test_fold": -1}, "got -1"),
    ("blocks", {"test_fold": 0, "validation": 1.5}, "validation"),
]


@pytest.mark.parametrize("name, arguments, message", SPLIT_WRONG, ids=str)
def test_wrong_splits_are_refused(name, arguments, message):
    with pytest.raises(InputError, match=message):
        SPLITS[name](20, 0, **arguments)
    with pytest.raises(InputError, match="split_seed"):
        SPLITS["random"](20, -1)


# --- for the config and the start-up ---


def test_the_config_can_be_made_of_the_signatures():
    plain = {int, float, str, bool, list, str | None, bool | None, int | None}
    for function in itertools.chain(SOURCES.values(), SPLITS.values()):
        for parameter in inspect.signature(function, eval_str=True).parameters.values():
            assert parameter.annotation in plain and parameter.name not in {
                "items",
                "keys",
                "values",
            }
