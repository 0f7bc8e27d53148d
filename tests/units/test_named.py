"""Published sets by name: the forms of their files, what is kept, and what goes wrong."""

import http.server
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest

from mfjax import SOURCES, InputError
from mfjax.data import download
from mfjax.data.named import by_name
from mfjax.data.published import HARPER_KONSTAN, PUBLISHED, ItemFile, Published

# requests leaves its sockets to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
RATINGS = "userId,movieId,rating,timestamp\n1,10,4.5,100\n1,20,3.0,200\n2,10,0.5,300\n"
MOVIES = "movieId,title,genres\n10,Heat (1995),Action|Crime\n20,Ran (1985),(no genres listed)\n"
FILES = {"set/ratings.csv": RATINGS, "set/movies.csv": MOVIES}
TWO_GENRES = "|".join("1" if i in (1, 6) else "0" for i in range(19))
FORMS = {  # of each set three ratings: by user 1 of items 10 and 20, and by user 2 of item 10
    "ml-100k": {
        "ml-100k/u.data": "1\t10\t4\t100\n1\t20\t3\t200\n2\t10\t1\t300\n",
        "ml-100k/u.item": f"10|Cité (1995)|01-Jan-1995||http://x|{TWO_GENRES}\n"
        f"20|Ran (1985)|||http://y|{'|'.join('0' * 19)}\n",
    },
    **{
        name: {
            f"{name}/ratings.dat": "1::10::4::100\n1::20::3::200\n2::10::1::300\n",
            f"{name}/movies.dat": "10::Cité (1995)::Action|Crime\n20::Ran (1985)::War\n",
        }
        for name in ("ml-1m", "ml-10m")
    },
    **{
        name: {f"{name}/ratings.csv": RATINGS, f"{name}/movies.csv": MOVIES}
        for name in ("ml-latest-small", "ml-20m", "ml-25m", "ml-32m")
    },
    "jester": {"jester_ratings.dat": "1\t\t10\t\t0.219\n1\t\t20\t\t-9.281\n2\t\t10\t\t10\n"},
    "book-crossing": {
        "BX-Book-Ratings.csv": '"User-ID";"ISBN";"Book-Rating"\n"1";"10";"5"\n"1";"20";"8"\n'
        '"2";"10";"7"\n"2";"20";"0"\n'
    },
    "filmtrust": {"ratings.txt": "1 10 2\n1 20 3.5\n2 10 4\n2 10 1\n"},
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of its own, and no second tries."""
    folder = tmp_path / "cache"
    monkeypatch.setattr(download, "data_folder", lambda: folder)
    monkeypatch.setattr(download, "RETRIES", 0)
    return folder


@pytest.fixture
def server(tmp_path):
    """Serves a folder, and addresses that do harm: the folder, the address and the handler."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        requests = 0

        def do_GET(self):
            Handler.requests += 1
            if "slow" in self.path:
                time.sleep(2)
            elif "short" in self.path:
                self.send_response(200)
                self.send_header("Content-Length", "10000")
                self.end_headers()
                self.wfile.write(b"PK\x03\x04")
            else:
                super().do_GET()

        def log_message(self, *_):
            pass

    http_server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Handler, directory=str(folder))
    )
    threading.Thread(target=http_server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{http_server.server_port}", Handler
    http_server.shutdown()
    http_server.server_close()


def zipped(path, files, encoding="utf-8"):
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text.encode(encoding))
    return path


def published(address, digest=None):
    return Published(
        address=address,
        digest=digest,
        size=None,
        shape=(2, 2, 3),
        scale=(0.5, 5),
        member="ratings.csv",
        licence="free",
        bibtex=HARPER_KONSTAN,
        items=ItemFile("movies.csv", "csv"),
    )


@pytest.fixture
def tiny(server, monkeypatch):
    """A published set on the server: `tiny(digest)` makes its record."""
    folder, address, _ = server
    zipped(folder / "tiny.zip", FILES)

    def record(name="tiny.zip", digest=None):
        monkeypatch.setitem(PUBLISHED, "tiny", published(f"{address}/{name}", digest))

    record()
    return record


def assert_tiny(dataset):
    np.testing.assert_array_equal(dataset.user_ids[dataset.user], [1, 1, 2])
    np.testing.assert_array_equal(dataset.item_ids[dataset.item], [10, 20, 10])
    np.testing.assert_array_equal(dataset.value, [4.5, 3, 0.5])
    np.testing.assert_array_equal(dataset.timestamp, [100, 200, 300])
    assert dataset.items["title"].to_list() == ["Heat (1995)", "Ran (1985)"]
    assert dataset.items["genres"].to_list() == [["Action", "Crime"], []]


# the table


def test_every_published_set_is_a_source():
    assert set(PUBLISHED) < set(SOURCES)
    assert set(FORMS) == set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_each_is_read_in_its_own_form(name, tmp_path):
    record = PUBLISHED[name]
    encoding = record.items.encoding if record.items else "utf-8"
    file = zipped(tmp_path / f"{name}.zip", FORMS[name], encoding)
    dataset = SOURCES[name](path=str(file))
    assert dataset.name == name
    np.testing.assert_array_equal(dataset.user_ids[dataset.user], [1, 1, 2])
    np.testing.assert_array_equal(dataset.item_ids[dataset.item], [10, 20, 10])
    assert (dataset.timestamp is not None) == name.startswith("ml-")
    assert (dataset.items is not None) == name.startswith("ml-")
    if record.items and record.items.form != "csv":
        assert dataset.items["title"][0] == "Cité (1995)"
        assert dataset.items["genres"][0].to_list() == ["Action", "Crime"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_each_says_where_it_is_and_how_to_cite_it(name):
    record = PUBLISHED[name]
    assert record.address.startswith("http") and record.address.endswith(".zip")
    assert record.digest is None or len(record.digest.partition(":")[2]) in (32, 64)
    assert record.bibtex.startswith("@") and record.licence
    assert all(count > 0 for count in record.shape)


# downloading


def test_it_is_downloaded_and_parsed_once(tiny, server, cache):
    *_, handler = server
    first = by_name("tiny")
    assert_tiny(first)
    (kept,) = (cache / "parsed").iterdir()
    assert any(str(kept) in note for note in first.reading.notes)
    again = by_name("tiny")
    assert_tiny(again)
    assert handler.requests == 1
    assert again.sha256 == download.digest_of(cache / "tiny.zip")
    assert any("licence: free" in note for note in again.reading.notes)


def test_what_was_kept_and_is_damaged_is_parsed_again(tiny, cache):
    by_name("tiny")
    (kept,) = (cache / "parsed").iterdir()
    (kept / "ratings.parquet").write_bytes(b"PAR1")
    assert_tiny(by_name("tiny"))


def test_a_copy_of_ones_own_is_the_archive_its_folder_or_its_ratings(tiny, server, tmp_path):
    served, *_ = server
    assert_tiny(by_name("tiny", path=str(served / "tiny.zip")))
    unpacked = tmp_path / "unpacked"
    zipfile.ZipFile(served / "tiny.zip").extractall(unpacked)
    assert_tiny(by_name("tiny", path=str(unpacked)))
    assert_tiny(by_name("tiny", path=str(unpacked / "set" / "ratings.csv")))


def test_two_at_once_both_have_it(tiny, cache):
    with ThreadPoolExecutor(2) as pool:
        for dataset in pool.map(lambda _: by_name("tiny"), range(2)):
            assert_tiny(dataset)
    assert [path.name for path in cache.iterdir() if path.is_file()] == ["tiny.zip"]


@pytest.mark.parametrize(
    "name, digest, reason",
    [
        ("nowhere.zip", None, "404"),
        ("tiny.zip", "sha256:" + "0" * 64, "its digest is not the one on record"),
        ("page.zip", None, "the address gave a web page"),
        ("part.zip", None, "no zip archive, or a part of one"),
        ("short.zip", None, "bytes"),
        ("slow.zip", None, "imed out"),
    ],
)
def test_what_goes_wrong_is_said_and_leaves_nothing(
    tiny, server, cache, monkeypatch, name, digest, reason
):
    served, *_ = server
    (served / "page.zip").write_text("<!DOCTYPE html><p>moved</p>")
    (served / "part.zip").write_bytes((served / "tiny.zip").read_bytes()[:100])
    monkeypatch.setattr(download, "TIMEOUT", 0.5)
    tiny(name, digest)
    with pytest.raises(InputError, match=reason) as raised:
        by_name("tiny")
    message = str(raised.value)
    assert PUBLISHED["tiny"].address in message
    assert str(cache / name) in message and "data=movielens" in message
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_nobody_answers(tiny, monkeypatch):
    monkeypatch.setitem(PUBLISHED, "tiny", published("http://127.0.0.1:9/tiny.zip"))
    with pytest.raises(InputError, match="cannot be downloaded"):
        by_name("tiny")


def test_a_cache_that_cannot_be_written_is_said(tiny, server, cache):
    cache.write_text("a file where the folder should be")
    with pytest.raises(InputError, match="cannot be downloaded"):
        by_name("tiny")
    served, *_ = server
    dataset = by_name("tiny", path=str(served / "tiny.zip"))
    assert_tiny(dataset)
    assert any("not kept in its parsed form" in note for note in dataset.reading.notes)


@pytest.mark.parametrize("path", ["nowhere", "empty"])
def test_a_copy_that_is_none_is_refused(tiny, tmp_path, path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"data\.path"):
        by_name("tiny", path=str(tmp_path / path))
