"""Files that are written here: what they hold comes back, or one message says why not."""

import bz2
import functools
import gzip
import hashlib
import importlib
import lzma
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from archives import tarred, zipped
from scipy import io as scipy_io
from scipy import sparse

from mfjax.data import Dataset, files, from_ids, read
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


MARKET = "%%MatrixMarket matrix coordinate real general\n% by hand\n"
WRONG = {
    "text rating": ("u,i,r\n1,2,3\n1,3,good\n", {}, ["line 3", "'good'", "not a number"]),
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
    "one column twice": ("u,i,r\n1,2,3\n", {"columns": ["u", 0, 2]}, ["different columns"]),
    "names without header": (
        "1,2,3\n",
        {"columns": ["1", "2", "3"], "header": False},
        ["header=False", "names"],
    ),
    "no separator": ("1_2_3\n", {}, ["line 1", "separator", "'1_2_3'"]),
    "long separator": ("1,2,3\n", {"separator": "abc"}, ["one or two characters", "'abc'"]),
    "no columns by name": (
        "a,b,c\n1,2,3\n",
        {},
        ["line 1", "which column is the user?", "'a', 'b', 'c'", "data.columns="],
    ),
    "two items": ("user,movie,book,rating\n1,2,3,4\n", {}, ["'movie' or 'book'", "the item"]),
    "a word for a rating": ("1,1,true\n2,1,1\n", {}, ["line 1", "'true'", "not a number"]),
    "a word for none": ("a,x,NULL\nb,y,4\n", {}, ["line 1", "'NULL'", "not a number"]),
    "decimal comma": ("u,i,r\n1,2,4,5\n", {}, ["line 2", "4 fields", "'1,2,4,5'", "decimal comma"]),
    "quoted decimal comma": ('u,i,r\n1,2,"4,5"\n', {}, ["line 2", "'4,5'", "decimal comma"]),
    "comma in a title": (
        "u,i,r,title\n1,2,3,a\n1,3,4,b, the\n",
        {},
        ["line 3", "5 fields", "has 4"],
    ),
    "open quote": ('u,i,r\n1,"2,3\n4,5,5\n', {}, ["line 2", "quote"]),
    "swallowed": ('1,"2",3\n1,"3,4\n1,4,5\n2,5",4\n', {}, ["line 3", "inside a quoted"]),
    "no user word": ("user,item,rating\nnan,1,3\nNone,2,3\n", {}, ["line 2", "'nan'", "2 rows"]),
    "NUL": ("1,2,3\n1,\0,4\n", {}, ["line 2", "NUL"]),
    "control character": ("1,a\x07,3\n", {}, ["line 1", "control character"]),
    "endless id": (f"1,{'x' * 300},3\n", {}, ["line 1", "300 characters"]),
    "pivot": (
        "userId,10,20,30,40\n7,5,3,4,1\n",
        {},
        ["line 1", "table of users by items", "data.layout=pivot"],
    ),
    "pivot of names": ("userId,Alien,Cube,Dune\n7,5,3,4\n", {}, ["line 1", "data.layout=pivot"]),
    "dense": ("9,1,2,3,99,4,5\n", {}, ["line 1", "7 columns", "data.layout=dense"]),
    "Netflix": ("1:\n1488844,3,2005-09-06\n", {}, ["Netflix"]),
    "JSON array": ('[{"user": 1}]', {}, ["JSON"]),
    "broken JSON lines": ('{"user": 1, "item"\n', {"name": "r.jsonl"}, ["JSON lines"]),
    "web page": ("<!DOCTYPE html><html>", {}, ["a web page"]),
    "Excel": (b"\xd0\xcf\x11\xe0 and more", {}, ["Excel"]),
    "HDF5": (b"\x89HDF\r\n", {"name": "r.mat"}, ["HDF5"]),
    "no numpy": (b"\x93NUMPY no more", {"name": "r.npy"}, ["NumPy"]),
    "no such encoding": ("1,2,3\n", {"encoding": "utf-9"}, ["data.encoding", "'utf-9'"]),
    "layout": ("1,2,3\n", {"layout": "wide"}, ["data.layout", "long, pivot, dense"]),
    "columns of a pivot": ("u,1\n1,2\n", {"layout": "pivot", "columns": [0, 1, 2]}, ["no effect"]),
    "header of a pivot": ("u,1\n1,2\n", {"layout": "pivot", "header": True}, ["no effect"]),
    "short row of a pivot": ("u,1,2\n7,5\n", {"layout": "pivot"}, ["line 2", "got 2"]),
    "no columns": ("1,2,3\n", {"columns": []}, ["three columns"]),
    "half a position": ("1,2,3\n", {"columns": [0, 1, 1.5]}, ["positions", "1.5"]),
    "member of text": ("1,2,3\n", {"member": "a"}, ["data.member", "leave it out"]),
    "thousands": ("u;i;r\n1;2;1,234\n1;3;9\n", {}, ["line 2", "'1,234'", "thousands"]),
    "points and commas": ("u;i;r\n1;2;1,5\n1;3;2.5\n", {}, ["line 2", "'1,5'", "a point"]),
    "blank for an empty field": ("1 2 3 4\n5 6  8\n", {}, ["line 2", "expected at least 4"]),
    "a long field": ('u,i,r\n1,"2' + "\nx" * 2000 + '",3\n', {}, ["more than 1000 lines"]),
    "symmetric": ("%%MatrixMarket matrix coordinate real symmetric\n", {}, ["real general"]),
    "no size": ("%%MatrixMarket matrix coordinate real general\n2 2\n", {}, ["line 2", "'2 2'"]),
    "outside": (MARKET + "2 2 1\n1 3 4\n", {}, ["line 4", "2 rows and 2 columns"]),
    "too few entries": (MARKET + "2 2 2\n1 2 4\n", {}, ["1 entries", "line 3 says 2"]),
    "item twice": ("u,1,1\n1,2,3\n", {"layout": "pivot"}, ["line 1", "'1' stands twice"]),
    "word in a cell": ("u,1,2\n7,2,x\n", {"layout": "pivot"}, ["line 2", "'x'"]),
    "only missing": ("1,2,99\n", {"missing": [99]}, ["no rating is left", "99"]),
    "no missing": ("1,2,3\n", {"missing": ["x"]}, ["data.missing", "'x'"]),
    "weight": ("u,i,r,w\n1,2,3,-1\n", {"weight": "w"}, ["line 2", "weight", "'-1'"]),
    "time": ("u,i,r,t\n1,2,3,soon\n", {"timestamp": "t"}, ["line 2", "timestamp", "'soon'"]),
    "old Mac": ("1,2,3\r4,5,6\r", {"header": False}, ["line 1", "carriage return"]),
    "policy": ("1,2,3\n", {"duplicates": "first"}, ["error, mean, last", "'first'"]),
    "latin-1": ("1,2,3\n2,3,4,é\n".encode("latin1"), {}, ["line 2", "not UTF-8", "0xe9"]),
    "no gzip": (b"1,2,3\n", {"name": "r.csv.gz"}, ["gzip"]),
    "a title is no user": ("movieId,title,rating\n1,2,3\n", {}, ["the user?", "'title'"]),
    "a count is no rating": (
        "userId,movieId,rating_count\n1,2,3\n",
        {},
        ["the rating?", "'rating_count'"],
    ),
    "a key is no user": ("rating_id,movie_id,rating\n1,2,3\n", {}, ["the user?"]),
    "titles with words of roles": (
        "userId,The Game,Lone Star,Heat,Alien\n7,5,3,4,1\n",
        {},
        ["line 1", "data.layout=pivot"],
    ),
    "two titles": ("userId,The Game,Heat\n7,5,3\n", {}, ["line 1", "data.layout=pivot"]),
    "no rating in words": (
        "ann,Dune,n.a.\nbob,Dune,4\n",
        {"columns": [0, 1, 2]},
        ["line 1", "'n.a.'", "not a number"],
    ),
    "a word for a rating in words": ("ann,Dune,good\nbob,Dune,4\n", {}, ["line 1", "'good'"]),
    "names or words": ("ann,Dune,good\nbob,Alien,4\n", {}, ["line 1", "data.header=true"]),
    "names or a rating": ("user,item,0\nann,Dune,4\n", {}, ["line 1", "data.header=true"]),
    "names or a decimal comma": (
        "user;item;4,5\nann;Dune;4\n",
        {"separator": ";"},
        ["line 1", "data.header=true"],
    ),
    "names or two items": ("userId,10,20\n7,5,3\n", {}, ["line 1", "data.header=true"]),
    "names of pandas": ("level_0,level_1,0\n1,2,4\n", {}, ["line 1", "data.header=true"]),
    "index before 0,1,2": (",0,1,2\n0,7,8,3\n", {}, ["line 1", "data.layout=pivot"]),
    "a rating among comments": (
        "#jazz,ann,4\n# more\nrock,ann,5\n",
        {},
        ["line 1", "a comment, or a rating", "'#jazz,ann,4'"],
    ),
    "a rating above the names": ("#jazz,ann,4\nuser,item,rating\nrock,ann,5\n", {}, ["line 1"]),
    "cut row behind an empty id": (
        "u,i,r\n,2,3\n7\n1,2,3\n",
        {"missing_ids": "drop"},
        ["line 3", "too few fields", "got 1"],
    ),
    "cut before an asked time": (
        "u,i,r,t\n1,2,3\n",
        {"timestamp": "t"},
        ["line 2", "too few fields"],
    ),
    "weight of thousands": (
        "u;i;r;w\n1;2;3;1,500\n",
        {"weight": "w"},
        ["line 2", "weight '1,500'", "thousands"],
    ),
    "no weight": ("u,i,r,w\n1,2,3,x\n", {"weight": "w"}, ["line 2", "weight 'x' is no number"]),
    "two fields more": ("u\ti\tr\n1\t2\t3\t\t\n", {}, ["line 2", "5 fields"]),
    "no parquet": (b"PAR1 no more", {"name": "r.parquet"}, ["Parquet"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_files_are_refused_with_place_and_reason(tmp_path, case):
    data, arguments, expected = WRONG[case]
    arguments = dict(arguments)
    path = tmp_path / arguments.pop("name", "ratings.csv")
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    about_an_argument = {"one column twice", "long separator", "policy", "no such encoding"}
    about_an_argument |= {"layout", "columns of a pivot", "header of a pivot", "no missing"}
    about_an_argument |= {"no columns", "half a position"}
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


# --- what files call their columns ---

TRUTH = {
    ("101", "5001"): 4.5,
    ("101", "5014"): 3.0,
    ("108", "5001"): 2.5,
    ("108", "5027"): 5.0,
    ("115", "5014"): 1.5,
    ("115", "5027"): 4.0,
}
ROWS = [(*pair, value) for pair, value in TRUTH.items()]


def pairs(dataset):
    rows = zip(dataset.user, dataset.item, dataset.value, strict=True)
    return {(str(dataset.user_ids[u]), str(dataset.item_ids[i])): float(v) for u, i, v in rows}


def table(header, row, between="\n"):
    lines = [row.format(n, *fields) for n, fields in enumerate(ROWS)]
    return between.join(([header] if header else []) + lines) + between


DIALECTS = {
    "index column": table(",userId,movieId,rating", "{0},{1},{2},{3}"),
    "rating second": table("Cust_Id,Rating,Movie_Id", "{1},{3},{2}"),
    "reviews": table("reviewerID\tasin\treviewText\toverall", "{1}\t{2}\tgood\t{3}"),
    "businesses": table(
        "review_id,user_id,business_id,stars,useful,date", "r{0},{1},{2},{3},0,2020-01-02"
    ),
    "parent": table("asin,parent_asin,rating,user_id", "{2},{2},{3},{1}"),
    "one left": table("user,artist,plays", "{1},{2},{3}"),
    "0,1,2": table("0,1,2", "{1},{2},{3}"),
    "Excel": table("sep=;\nuser;item;rating", "{1};{2};{3}"),
    "comment": table("# exported 2024\nuser,item,rating", "{1},{2},{3}"),
    "named in a comment": table("%% ratings\n% user item rating", "{1} {2} {3}"),
    "many blanks": table("", "  {1}   {2}  {3}  "),
    "decimal comma": table("user;item;rating", "{1};{2};{3}").replace(".", ","),
    "trailing separator": table("user,item,rating", "{1},{2},{3},"),
    "inches": table("user,item,rating,title", '{1},{2},{3},"5"" disc, new"') + '7,8,1,5" disc\n',
    "whole floats": table("user,item,rating", "{1}.0,{2}.0,{3}"),
    "blanks around": table("user , item , rating", '{1} , "{2}" , {3}'),
    "JSON lines": table("", '{{"user_id": "{1}", "asin": "{2}", "overall": {3}}}'),
}


@pytest.mark.parametrize("text", DIALECTS.values(), ids=DIALECTS)
def test_columns_are_known_by_what_they_are_called(tmp_path, text):
    path = tmp_path / "ratings.txt"
    path.write_text(text)
    found = pairs(read(str(path)))
    found.pop(("7", "8"), None)
    assert found == TRUTH


def test_a_quote_inside_a_field_is_text_there_and_quotes_elsewhere_hold(tmp_path):
    path = tmp_path / "titles.csv"
    path.write_text(
        'user,item,rating\n1,"Film, 1995",4.5\n2,The 5" disc,4\n3,"a ""b"" \\"c\\"",2\n'
    )
    assert pairs(read(str(path))) == {
        ("1", "Film, 1995"): 4.5,
        ("2", 'The 5" disc'): 4.0,
        ("3", 'a "b" "c"'): 2.0,
    }


def test_what_was_read_is_recorded(tmp_path):
    path = tmp_path / "r.csv"
    path.write_text("# made by hand\nmovie;user;rating;when\n10;1;4,5;x\n11;1;-1;y\n")
    reading = read(str(path), missing=[-1]).reading
    assert reading.columns == {"user": "user", "item": "movie", "rating": "rating"}
    assert reading.rows == 2 and reading.why == "line 1 names the columns"
    assert reading.first == {"user": "1", "item": "10", "rating": "4,5"}
    assert reading.notes == (
        "1 comment line at the beginning skipped",
        "decimal commas read as points",
        "1 ratings of -1 dropped (data.missing)",
    )


READ = {
    "ids with colons": (
        "user:1,item:10,4.5\nuser:1,item:11,3\nuser:2,item:10,2\n",
        {},
        {("user:1", "item:10"): 4.5, ("user:1", "item:11"): 3, ("user:2", "item:10"): 2},
    ),
    "ids that end in words of roles": (
        "new user,Scary Movie,4.5\nann,Dune,3\n",
        {},
        {("new user", "Scary Movie"): 4.5, ("ann", "Dune"): 3},
    ),
    "a number for a title": (
        "ann,Dune,4\nbob,1984,3\n",
        {},
        {("ann", "Dune"): 4, ("bob", "1984"): 3},
    ),
    "Book-Crossing": ('"User-ID";"ISBN";"Book-Rating"\n1;2;3\n', {}, {("1", "2"): 3}),
    "Amazon": ("rating,title,parent_asin,user_id\n3,x,2,1\n", {}, {("1", "2"): 3}),
    "star_rating": ("customer_id,product_id,star_rating,votes\n1,2,3,9\n", {}, {("1", "2"): 3}),
    "rating_id": ("rating_id,user_id,movie_id,rating\n9,1,2,3\n", {}, {("1", "2"): 3}),
    "rating_id and vote": ("rating_id,user_id,movie_id,vote\n9,1,2,3\n", {}, {("1", "2"): 3}),
    "index before 0,1,2": (",0,1,2\n0,7,8,3\n", {"columns": [1, 2, 3]}, {("7", "8"): 3}),
    "quotes between tabs": (
        'user\titem\trating\n1\t"Film, 1995"\t4.5\n2\tThe 5" disc\t4\n',
        {},
        {("1", "Film, 1995"): 4.5, ("2", 'The 5" disc'): 4},
    ),
    "quotes between colons": (
        '1::"Film"::4\n2::5" disc::3\n',
        {},
        {("1", "Film"): 4, ("2", '5" disc'): 3},
    ),
    "tabs at the end": (
        "user\titem\trating\n1\t2\t3\t\n2\t2\t4\t\n",
        {},
        {("1", "2"): 3, ("2", "2"): 4},
    ),
    "ids with #": (
        "#jazz,ann,4\n#rock,bob,3\nrock,ann,5\n",
        {},
        {("#jazz", "ann"): 4, ("#rock", "bob"): 3, ("rock", "ann"): 5},
    ),
    "comments": ("# by, hand, 2024\n# 1 2\nuser,item,rating\n1,2,3\n", {}, {("1", "2"): 3}),
    "sizes in a comment": ("% bip weighted\n% 9 4 7\n1 2 3\n", {}, {("1", "2"): 3}),
    "whole floats and none": (
        "user,item,rating\n101.0,1,3\nnan,2,4\n",
        {"missing_ids": "drop"},
        {("101", "1"): 3},
    ),
    "cut before a time": (
        "user,item,rating,timestamp\n1,2,3\n2,2,4,5\n",
        {},
        {("1", "2"): 3, ("2", "2"): 4},
    ),
}


@pytest.mark.parametrize("case", READ)
def test_no_rating_is_lost_to_the_names_or_the_other_way_round(tmp_path, case):
    text, arguments, expected = READ[case]
    path = tmp_path / "r.txt"
    path.write_text(text)
    assert pairs(read(str(path), **arguments)) == expected


def test_numbers_that_mean_no_rating_and_are_none_are_said(tmp_path):
    path = tmp_path / "r.csv"
    path.write_text("1,2,3\n1,3,99\n")
    assert read(str(path), missing=[99, 999]).reading.notes == (
        "no rating is 999 (data.missing)",
        "1 ratings of 99, 999 dropped (data.missing)",
    )


WRAPPED = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zip": lambda data: zipped({"ratings.csv": data, "__MACOSX/._ratings.csv": b"x"}),
    "tar": lambda data: tarred({"ml/ratings.csv": data}),
    "tar.gz": lambda data: gzip.compress(tarred({"ml/ratings.csv": data})),
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_wrapped_files_are_unwrapped(tmp_path, kind):
    path = tmp_path / f"ratings.csv.{kind}"
    path.write_bytes(WRAPPED[kind](DIALECTS["rating second"].encode()))
    dataset = read(str(path))
    assert pairs(dataset) == TRUTH
    assert dataset.name == "ratings"


def test_one_file_of_an_archive_is_chosen(tmp_path):
    path = tmp_path / "ml.zip"
    path.write_bytes(zipped({"ml/README": b"?", "ml/r.csv": DIALECTS["0,1,2"].encode()}))
    check_refused(str(path), ["ml.zip", "2 files", "ml/r.csv", "data.member"])
    check_refused(str(path), ["ml.zip", "called 'x'"], member="x")
    assert pairs(read(str(path), member="r.csv")) == TRUTH


def test_a_file_that_unpacks_beyond_memory_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "machine_bytes", lambda: 1 << 20)
    path = tmp_path / "r.csv.gz"
    path.write_bytes(gzip.compress(b"0" * (1 << 24)))
    check_refused(str(path), ["r.csv.gz", "a quarter of this machine's memory"])


@pytest.mark.parametrize("kind", ["mat", "arrow"])
def test_a_compressed_table_beyond_memory_is_given_up(tmp_path, monkeypatch, kind):
    path = tmp_path / f"r.{kind}"
    if kind == "mat":
        scipy_io.savemat(path, {"R": np.ones((100_000, 3))}, do_compression=True)
    else:
        zeros = pl.zeros(100_000, eager=True)
        frame = pl.DataFrame(dict.fromkeys(("user", "item", "rating"), zeros))
        frame.write_ipc(path, compression="zstd")
    monkeypatch.setattr(files, "machine_bytes", lambda: 1 << 20)
    check_refused(str(path), [path.name, "a quarter of this machine's memory"])


def test_a_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    check_refused(str(tmp_path / "pipe"), ["pipe", "no regular file"])


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "utf-32"])
def test_byte_order_marks_say_the_encoding(tmp_path, encoding):
    path = tmp_path / "r.csv"
    path.write_bytes(DIALECTS["rating second"].encode(encoding))
    assert pairs(read(str(path))) == TRUTH


def test_an_encoding_can_be_given(tmp_path):
    path = tmp_path / "r.csv"
    path.write_bytes("user,item,rating\n1,Amélie,4\n".encode("latin-1"))
    assert pairs(read(str(path), encoding="latin-1")) == {("1", "Amélie"): 4.0}


# --- other shapes ---


def test_a_pivot_table_is_read(tmp_path):
    path = tmp_path / "pivot.csv"
    path.write_text("userId,Alien,Brazil,Cube\n7,5,,4\n8,,1,NaN\n9,99,2,3\n")
    dataset = read(str(path), layout="pivot", missing=[99])
    assert pairs(dataset) == {
        ("7", "Alien"): 5,
        ("7", "Cube"): 4,
        ("8", "Brazil"): 1,
        ("9", "Brazil"): 2,
        ("9", "Cube"): 3,
    }
    assert "3 of 9 cells are blank" in dataset.reading.notes


def test_dense_rows_are_read_and_their_counts_left_out(tmp_path):
    path = tmp_path / "jester.csv"
    path.write_text("2,99,7.94,5.51\n3,-3.94,-4.43,-4.9\n1,99,99,0.5\n")
    dataset = read(str(path), layout="dense", missing=[99])
    matrix = {(0, 1): 7.94, (0, 2): 5.51, (1, 0): -3.94, (1, 1): -4.43, (1, 2): -4.9, (2, 2): 0.5}
    assert pairs(dataset) == {(str(u), str(i)): value for (u, i), value in matrix.items()}


ENTRIES = ([0, 0, 2], [1, 3, 0], [4.5, 3.0, 1.0])


def test_sparse_matrices_are_read(tmp_path):
    matrix = sparse.coo_matrix((ENTRIES[2], ENTRIES[:2]), shape=(4, 5))
    sparse.save_npz(tmp_path / "r.npz", matrix)
    scipy_io.mmwrite(tmp_path / "r.mtx", matrix)
    scipy_io.savemat(tmp_path / "r.mat", {"R": matrix, "other": np.ones(3)})
    assert ratings(read(str(tmp_path / "r.npz"))) == ENTRIES
    from_one = ([1, 1, 3], [2, 4, 1], ENTRIES[2])
    assert ratings(read(str(tmp_path / "r.mtx"))) == from_one
    check_refused(str(tmp_path / "r.mat"), ["2 variables", "data.member"])
    by_user = read(str(tmp_path / "r.mat"), member="R")
    assert pairs(by_user) == pairs(read(str(tmp_path / "r.npz")))


def test_arrays_are_read(tmp_path):
    rows = np.array(ENTRIES).T
    np.save(tmp_path / "r.npy", rows)
    np.savez(tmp_path / "r.npz", rating=ENTRIES[2], item=ENTRIES[1], user=ENTRIES[0])
    scipy_io.savemat(tmp_path / "r.mat", {"R": rows})
    for file in ("r.npy", "r.npz", "r.mat"):
        assert ratings(read(str(tmp_path / file))) == ENTRIES
    np.save(tmp_path / "dense.npy", np.array([[np.nan, 4.0], [1.0, np.nan]]))
    check_refused(str(tmp_path / "dense.npy"), ["shape (2, 2)", "data.layout=dense"])
    assert ratings(read(str(tmp_path / "dense.npy"), layout="dense")) == (
        [0, 1],
        [1, 0],
        [4.0, 1.0],
    )


def test_what_is_of_text_is_refused_elsewhere(tmp_path):
    np.save(tmp_path / "r.npy", np.array(ENTRIES).T)
    for key, value in {"separator": ",", "header": True, "encoding": "latin-1"}.items():
        check_refused(str(tmp_path / "r.npy"), [f"data.{key}", "leave it out"], **{key: value})


# --- from memory ---

USERS = [10, 10, 3]
ITEMS = ["a", "b", "a"]
VALUES = [4.0, 3.5, 1.0]


@pytest.mark.parametrize("kind", ["polars", "pandas", "pyarrow", "mapping", "tuple", "arrays"])
def test_ratings_come_from_memory(kind):
    columns = {"movie": ITEMS, "rating": VALUES, "user": USERS}
    source = {
        "polars": lambda: pl.DataFrame(columns),
        "pandas": lambda: importlib.import_module("pandas").DataFrame(columns),
        "pyarrow": lambda: importlib.import_module("pyarrow").table(columns),
        "mapping": lambda: columns,
        "tuple": lambda: (USERS, ITEMS, VALUES),
        "arrays": lambda: {key: np.array(values) for key, values in columns.items()},
    }[kind]()
    dataset = Dataset.of(source, name="mine")
    assert ratings(dataset) == (USERS, ITEMS, VALUES) and dataset.name == "mine"


def test_matrices_come_from_memory_too():
    matrix = sparse.csr_matrix((ENTRIES[2], ENTRIES[:2]), shape=(4, 5))
    assert ratings(Dataset.of(matrix)) == ENTRIES
    assert ratings(Dataset.of(np.array(ENTRIES).T)) == ENTRIES


@pytest.mark.parametrize(
    "source, message",
    [
        (([1], [2, 3], [4.0]), "one length"),
        (([1], [2], [float("nan")]), "row 1: the rating"),
        (([1, 1], [2, 2], [3.0, 4.0]), "row 2: user '1' has rated item '2' before, on row 1"),
        (([1.5], [2], [3.0]), "the user id is 1.5, no whole number"),
        (([None], [2], [3.0]), "row 1: the user id"),
        ("ratings.csv", "expected a frame"),
        (np.ones((2, 2)), "data.layout=dense"),
    ],
)
def test_what_is_wrong_in_memory_is_refused(source, message):
    with pytest.raises(InputError, match=message):
        Dataset.of(source)


# --- ids, ratings, weights, times ---


def test_ids_are_integers_only_where_all_are_whole_numbers(tmp_path):
    path = str(tmp_path / "r.parquet")
    frame = {"user": [101.0, 108.0], "item": ["007", "7"], "rating": [1.0, 2.0]}
    pl.DataFrame(frame).write_parquet(path)
    dataset = read(path)
    assert dataset.user_ids.tolist() == [101, 108] and dataset.item_ids.tolist() == ["007", "7"]


@pytest.mark.parametrize("policy, users", [("drop", {"1"}), ("keep", {"1", "nan", "None", ""})])
def test_ids_that_are_words_for_none_are_dropped_or_kept(tmp_path, policy, users):
    path = tmp_path / "r.csv"
    path.write_text("user,item,rating\n1,1,3\nnan,2,4\nNone,2,5\n,3,1\n")
    dataset = read(str(path), missing_ids=policy)
    assert set(map(str, dataset.user_ids.tolist())) == users
    assert any("3 ratings without an id" in note for note in dataset.reading.notes) == (
        policy == "drop"
    )


def test_lines_are_the_files_after_rows_were_dropped(tmp_path):
    path = tmp_path / "r.csv"
    path.write_text("user,item,rating\n1,1,99\nnan,2,4\n1,2,3\n1,3,x\n")
    check_refused(str(path), ["line 5", "'x'"], missing=[99], missing_ids="drop")
    path.write_text("user,item,rating\n1,1,99\nnan,2,4\n1,2,3\n1,2,4\n")
    check_refused(str(path), ["line 5", "line 4"], missing=[99], missing_ids="drop")


@pytest.mark.parametrize(
    "values, outlier",
    [
        ([1, 2, 3, 4, 5, -1], "-1"),
        ([-1, 1, 2, 3, 10, 9, 8, 7, 6, 5, 4], "-1"),
        ([0.5, 1, 1.5, 99, 2], "99"),
        ([3.7, -9.1, 0.2, 4.4, 99], "99"),
        ([1, 2, 3, 4, 5], None),
        ([0, 1, 2, 3, 4, 5], None),
        ([1, 2, 4, 8, 16], None),
        ([1, 3, 5], None),
        ([0.1, 0.2, 0.3, -99.1234567], "-99.1234567"),
    ],
)
def test_a_value_that_stands_apart_is_warned_of(values, outlier):
    n = np.arange(len(values))
    reading = Dataset.of((n, n, values)).reading
    assert [f"data.missing=[{outlier}]" in warning for warning in reading.warnings] == (
        [True] if outlier else []
    )


def test_weights_reach_the_ratings(tmp_path):
    path = tmp_path / "r.csv"
    path.write_text("user,item,rating,times\n1,1,3,2\n1,1,6,1\n2,1,5,0.5\n")
    read_with = functools.partial(read, str(path), weight="times", columns=[0, 1, 2])
    dataset = read_with(duplicates="mean")
    assert dataset.value.tolist() == [4.0, 5.0]
    assert dataset.ratings(dtype="float64").weight.tolist() == [3.0, 0.5]
    assert dataset.ratings(np.array([False, True])).weight.tolist() == [0.5]


def test_weights_may_have_decimal_commas(tmp_path):
    path = tmp_path / "r.csv"
    path.write_text("user;item;rating;times\n1;1;3;1,5\n2;1;5;2\n")
    dataset = read(str(path), weight="times", columns=[0, 1, 2])
    assert dataset.ratings(dtype="float64").weight.tolist() == [1.5, 2.0]
    assert dataset.reading.notes == ("decimal commas of weights read as points",)


@pytest.mark.parametrize(
    "written, seconds",
    [("978300760", 978300760), ("2001-01-01 00:00:10", 978307210), ("2001-01-01", 978307200)],
)
def test_times_are_kept(tmp_path, written, seconds):
    path = tmp_path / "r.csv"
    path.write_text(f"user,item,rating,timestamp\n1,2,3,{written}\n")
    assert read(str(path)).timestamp.tolist() == [seconds]
    path.write_text(f"1,2,3,{written}\n")
    assert read(str(path)).timestamp is None
    assert read(str(path), timestamp="3").timestamp.tolist() == [seconds]


def test_a_column_that_is_only_called_a_time_is_left_out_where_it_is_none(tmp_path):
    path = tmp_path / "r.csv"
    path.write_text("user,item,rating,date\n1,2,3,12/31/2004\n")
    dataset = read(str(path))
    assert dataset.timestamp is None and dataset.reading.columns.keys() == {
        "user",
        "item",
        "rating",
    }
    assert "'12/31/2004'" in dataset.reading.notes[0]


@pytest.mark.parametrize("given", [{"weight": "score"}, {"weight": "time"}, {"timestamp": "score"}])
def test_a_column_that_is_asked_for_is_no_other(tmp_path, given):
    path = tmp_path / "r.csv"
    path.write_text("user,item,rating,score,time\n1,2,3,4,5\n")
    ((key, name),) = given.items()
    if name == "time":
        given = given | {"columns": ["user", "item", "rating"]}
    columns = read(str(path), **given).reading.columns
    assert columns[key] == name and columns["rating"] == "rating"
    assert len({*columns.values()}) == len(columns)


def test_json_lines_have_the_type_of_all_their_lines(tmp_path):
    path = tmp_path / "r.jsonl"
    values = [3] * 150 + [3.5]
    lines = [f'{{"user": {i}, "item": 1, "rating": {value}}}' for i, value in enumerate(values)]
    path.write_text("\n".join(lines))
    assert read(str(path)).value.tolist() == values


def test_columns_of_objects_are_read():
    user = np.array(["a", "b", 3], object)
    assert ratings(Dataset.of((user, [1, 2, 3], VALUES)))[0] == ["a", "b", "3"]
    with pytest.raises(InputError, match="row 2: the user id is 'NaN'"):
        Dataset.of((np.array(["a", np.nan], object), [1, 2], [3.0, 4.0]))


def test_a_sparse_matrix_with_entries_outside_is_refused():
    matrix = sparse.csr_matrix((ENTRIES[2], ENTRIES[:2]), shape=(4, 5))
    matrix.indices[0] = 10**6
    with pytest.raises(InputError, match="damaged sparse matrix"):
        Dataset.of(matrix)


@pytest.mark.parametrize("values", [[1e308, -1e308, 3], [1e300, 1e300, 1e300]])
def test_ratings_beyond_float32_are_refused(values):
    dataset = Dataset.of(([1, 2, 3], [1, 2, 3], values))
    with pytest.raises(InputError, match="dtype=float64"):
        dataset.ratings()


def test_ratings_that_float32_does_not_hold_are_refused():
    dataset = Dataset.of(([1, 2, 3], [1, 2, 3], [100_000_001.0, 100_000_003.0, 100_000_005.0]))
    with pytest.raises(InputError, match="dtype=float64"):
        dataset.ratings()
    assert dataset.ratings(dtype="float64").value.tolist() == dataset.value.tolist()
