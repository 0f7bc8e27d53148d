"""Published sets of ratings by name: where each is, how its files are laid out, how to cite it.

Digests and sizes are those of the archives at their addresses; where a digest is None, none is
known, and whatever unpacks is taken.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple


class ItemFile(NamedTuple):
    """The file of an archive that has what is known of items.

    Args:
      member: its name.
      form: `csv`, with a header; `::`, id, title and genres; or `u.item`, that of ml-100k.
      encoding: of its text.
    """

    member: str
    form: Literal["csv", "::", "u.item"]
    encoding: str = "utf-8"


class Published(NamedTuple):
    """A published set of ratings.

    Args:
      address: of its archive.
      digest: `sha256:HEX` or `md5:HEX` of the archive.
      size: of the archive, in bytes; None where it is not known.
      shape: users, items and ratings, as published.
      scale: the lowest and the highest rating.
      member: the file of the ratings in the archive.
      reading: what `read` takes beside the path.
      items: where titles are.
      licence: in a sentence.
      bibtex: how to cite it.
    """

    address: str
    digest: str | None
    size: int | None
    shape: tuple[int, int, int]
    scale: tuple[float, float]
    member: str
    licence: str
    bibtex: str
    reading: Mapping[str, Any] = {}
    items: ItemFile | None = None


NAMELESS = {"columns": [0, 1, 2], "header": False, "timestamp": "3"}  # columns, in their order
GROUPLENS = "https://files.grouplens.org/datasets/movielens/"
FOR_RESEARCH = (
    "for research, not for gain; not to be passed on, and to be cited (GroupLens, University of "
    "Minnesota)"
)
TO_PASS_ON = (
    "for research, not for gain; may be passed on under the same terms, and is to be cited "
    "(GroupLens, University of Minnesota)"
)
HARPER_KONSTAN = """@article{harper2015movielens,
  author  = {Harper, F. Maxwell and Konstan, Joseph A.},
  title   = {The {MovieLens} Datasets: History and Context},
  journal = {ACM Transactions on Interactive Intelligent Systems},
  volume  = {5},
  number  = {4},
  year    = {2015},
  doi     = {10.1145/2827872},
}"""
GOLDBERG = """@article{goldberg2001eigentaste,
  author  = {Goldberg, Ken and Roeder, Theresa and Gupta, Dhruv and Perkins, Chris},
  title   = {Eigentaste: A Constant Time Collaborative Filtering Algorithm},
  journal = {Information Retrieval},
  volume  = {4},
  number  = {2},
  pages   = {133--151},
  year    = {2001},
}"""
ZIEGLER = """@inproceedings{ziegler2005improving,
  author    = {Ziegler, Cai-Nicolas and McNee, Sean M. and Konstan, Joseph A. and Lausen, Georg},
  title     = {Improving Recommendation Lists Through Topic Diversification},
  booktitle = {Proceedings of the 14th International World Wide Web Conference},
  pages     = {22--32},
  year      = {2005},
}"""
GUO = """@inproceedings{guo2013novel,
  author    = {Guo, Guibing and Zhang, Jie and Yorke-Smith, Neil},
  title     = {A Novel {Bayesian} Similarity Measure for Recommender Systems},
  booktitle = {Proceedings of the 23rd International Joint Conference on Artificial Intelligence},
  pages     = {2619--2625},
  year      = {2013},
}"""


def _movielens(
    name: str,
    size: int,
    digest: str,
    shape: tuple[int, int, int],
    *,
    low: float = 0.5,
    member: str = "ratings.csv",
    items: ItemFile | None = None,
    licence: str = FOR_RESEARCH,
    **others: Any,
) -> Published:
    return Published(
        address=f"{GROUPLENS}{name}.zip",
        digest=digest,
        size=size,
        shape=shape,
        scale=(low, 5),
        member=member,
        licence=licence,
        bibtex=HARPER_KONSTAN,
        items=items or ItemFile("movies.csv", "csv"),
        **others,
    )


PUBLISHED: dict[str, Published] = {
    "ml-latest-small": _movielens(
        "ml-latest-small",
        978_202,
        "sha256:696d65a3dfceac7c45750ad32df2c259311949efec81f0f144fdfb91ebc9e436",
        (610, 9_724, 100_836),
        licence=TO_PASS_ON,
    ),
    "ml-100k": _movielens(
        "ml-100k",
        4_924_029,
        "sha256:50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
        (943, 1_682, 100_000),
        low=1,
        member="u.data",
        items=ItemFile("u.item", "u.item", "latin-1"),
        reading=NAMELESS,
    ),
    "ml-1m": _movielens(
        "ml-1m",
        5_917_549,
        "sha256:a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
        (6_040, 3_706, 1_000_209),
        low=1,
        member="ratings.dat",
        items=ItemFile("movies.dat", "::", "latin-1"),
        reading=NAMELESS,
    ),
    "ml-10m": _movielens(
        "ml-10m",
        65_566_137,
        "sha256:813c411ccb6122564edfe752e7f80c4dcc5aa25fa94c93622f6877a7ba252862",
        (69_878, 10_677, 10_000_054),
        member="ratings.dat",
        items=ItemFile("movies.dat", "::"),
        reading=NAMELESS,
    ),
    "ml-20m": _movielens(
        "ml-20m",
        198_702_078,
        "sha256:96f243c338a8665f6bcc89c53edf6ee39162a846940de6b7c8c48aeada765ff3",
        (138_493, 26_744, 20_000_263),
    ),
    "ml-25m": _movielens(
        "ml-25m",
        261_978_986,
        "sha256:8b21cfb7eb1706b4ec0aac894368d90acf26ebdfb6aced3ebd4ad5bd1eb9c6aa",
        (162_541, 59_047, 25_000_095),
    ),
    "ml-32m": _movielens(
        "ml-32m",
        238_950_008,
        "md5:d472be332d4daa821edc399621853b57",
        (200_948, 84_432, 32_000_204),
        licence=TO_PASS_ON,
    ),
    "jester": Published(
        address="https://eigentaste.berkeley.edu/dataset/archive/jester_dataset_2.zip",
        digest=None,
        size=None,
        shape=(59_132, 140, 1_761_439),
        scale=(-10, 10),
        member="jester_ratings.dat",
        licence="free for research; to be cited (Goldberg, University of California, Berkeley)",
        bibtex=GOLDBERG,
        reading={"separator": "\t\t", "header": False},
    ),
    "book-crossing": Published(
        address="http://www2.informatik.uni-freiburg.de/~cziegler/BX/BX-CSV-Dump.zip",
        digest=None,
        size=None,
        shape=(77_805, 185_973, 433_671),
        scale=(1, 10),
        member="BX-Book-Ratings.csv",
        licence="free for research; to be cited (Ziegler, University of Freiburg)",
        bibtex=ZIEGLER,
        reading={"encoding": "latin-1", "missing": [0]},  # 0: a book seen, and not rated
    ),
    "filmtrust": Published(
        address="https://guoguibing.github.io/librec/datasets/filmtrust.zip",
        digest=None,
        size=None,
        shape=(1_508, 2_071, 35_497),
        scale=(0.5, 4),
        member="ratings.txt",
        licence="free for research; to be cited (Guo, Zhang and Yorke-Smith)",
        bibtex=GUO,
        reading={"header": False, "duplicates": "last"},
    ),
}
