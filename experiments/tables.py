"""Tables of READMEs as the CSV files beside them have it: `python experiments/tables.py`.

It brings the pages up to date, and so does `all.py` after a run; a test compares them.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import studies

from mfjax.app.jobs import device, gradients, scale
from mfjax.reporting.formats import Shown, cell, cells, markdown

sys.path.append(str(studies.EXPERIMENTS / "peers"))
import report

PEERS = studies.EXPERIMENTS / "peers"
Row = dict[str, Any]


class Table(NamedTuple):
    """What an experiment measured, as a table of a page: the first one after some words there."""

    name: str
    page: Path
    after: str
    made: Callable[[], str]


def main() -> None:
    """Bring all pages up to date, and say which were not."""
    for name in dict.fromkeys(table.name for table in TABLES):
        bring_up_to_date(name)


def bring_up_to_date(name: str) -> None:
    """Rewrite the pages that show what an experiment measured, and say which showed it not."""
    for page in dict.fromkeys(table.page for table in TABLES if table.name == name):
        before = page.read_text()
        if (now := with_tables(page, before)) != before:
            page.write_text(now)
            print(f"{page.relative_to(studies.REPO)}: its tables say now what the files say")


def pages() -> list[Path]:
    """The pages that have such tables."""
    return list(dict.fromkeys(table.page for table in TABLES))


def with_tables(page: Path, text: str) -> str:
    """The text of a page, its tables as the files have them."""
    for table in TABLES:
        if table.page == page:
            text = with_table(text, table.after, table.made())
    return text


def with_table(text: str, after: str, table: str) -> str:
    """The same text, another table in place of the first one after some words.

    Raises:
      ValueError: where the words or a table after them are not there.
    """
    start = text.index("\n| ", text.index(after)) + 1
    lines = text[start:].splitlines(keepends=True)
    count = next((i for i, line in enumerate(lines) if not line.startswith("|")), len(lines))
    return text[:start] + table + "".join(lines[count:])


# what the files have


def read(name: str, file: str) -> list[Row]:
    """The rows of a CSV of an experiment, numbers as numbers."""
    path = studies.EXPERIMENTS / name / file
    return pl.read_csv(path, infer_schema_length=None).to_dicts()


def of_rows(
    name: str,
    file: str,
    shown: Mapping[str, Shown],
    some: Callable[[list[Row]], list[Row]] = list,
) -> Table:
    """A row of the table for some of the file, after the words that link to it."""

    def made() -> str:
        return markdown(list(shown), [cells(row, shown) for row in some(read(name, file))])

    return Table(name, studies.readme(name), f"]({file})", made)


def of_largest(rows: list[Row]) -> list[Row]:
    """The last of the groups of rows that begin with the same gradient: that of most ratings."""
    begins = [i for i, row in enumerate(rows) if row["gradient"] == rows[0]["gradient"]]
    return rows[begins[-1] :]


def growth() -> str:
    """A line an operation, a column a number of ratings, and the line through them."""
    rows = read("kernels", "growth.csv")
    sizes = list(dict.fromkeys(row["ratings"] for row in rows))
    lines = []
    for name in dict.fromkeys(row["operation"] for row in rows):
        own = [row for row in rows if row["operation"] == name]
        line = scale.line_through([row["ratings"] for row in own], [row["ms"] for row in own])
        fitted = f"{line.a:.3g} ms + {1e6 * line.b:.3g} ns"
        lines.append([f"`{name}`", *(f"{row['ms']:.0f}" for row in own), fitted])
    return markdown(["ms of n ratings", *(f"{size:,}" for size in sizes), "a + b n"], lines)


def peers(job: str) -> Table:
    """All that is known of a job's contestants."""

    def made() -> str:
        return report.table(job, report.read(PEERS / "results.csv"))

    return Table("peers", PEERS / "README.md", f"**{report.TITLES[job]}**", made)


def beside_peers() -> str:
    """How much longer the peers take."""
    return report.table_beside(report.read(PEERS / "rounds.csv"))


def fastest() -> str:
    """Million ratings a second of some contestants, in some cases."""
    results = report.read(PEERS / "results.csv")
    speeds = {tuple(row[key] for key in LINE): row["m_ratings_a_second"] for row in results}
    lines = []
    for words, job, contestant in FASTEST:
        of_cases = [speeds.get((job, data, rank, contestant)) for data, rank in CASES]
        lines.append([words, *(cell(speed, ".3g") for speed in of_cases)])
    return markdown(["", *(f"{data}, rank {rank}" for data, rank in CASES)], lines)


LINE = (*report.CASE, "contestant")
CASES = (("100k", 16), ("1M", 16), ("1M", 64))
FASTEST = (
    ("full gradient: **mfjax**", "gradient", "mfjax native"),
    ("numba", "gradient", "numba CSR loop"),
    ("SGD epoch: **mfjax**", "sgd", "mfjax sgd"),
    ("libmf AVX", "sgd", "libmf AVX"),
    ("Surprise", "sgd", "Surprise SVD"),
    ("exact ALS: **mfjax**", "als", "mfjax als"),
    ("LensKit", "als", "LensKit BiasedMF"),
    ("conjugate gradients: **mfjax**", "als", "mfjax als_cg"),
    ("cmfrec", "als", "cmfrec"),
    ("32-lane sweep: **mfjax**", "sweep", "mfjax Sweep"),
    ("libmf AVX", "sweep", "libmf AVX"),
    ("Surprise", "sweep", "Surprise SVD"),
)
BOUNDS = {
    "kernel": Shown("operation"),
    "rank": Shown("rank"),
    "ms": Shown("ms", ".1f"),
    "multiply-adds, ms": Shown("fma_ms", ".1f"),
    "gathers, ms": Shown("gather_ms", ".1f"),
    "over the longer": Shown("ratio", ".1f"),
}
CROSSING = {
    "data": Shown("data"),
    "rank": Shown("rank"),
    "`als`, ms": Shown("als_ms", ".3g"),
    "`als_cg`, ms": Shown("als_cg_ms", ".3g"),
    "ratio": Shown("ratio", ".1f"),
    "objective of `als`": Shown("als_objective", ",.1f"),
    "of `als_cg`": Shown("als_cg_objective", ",.1f"),
    "test RMSE of `als`": Shown("als_test_rmse", ".4f"),
    "that of `als_cg`": Shown("als_cg_test_rmse", ".4f"),
}
TABLES: Sequence[Table] = (
    of_rows("gradients", "gradients.csv", gradients.SHOWN, of_largest),
    of_rows("imputed_scale", "scale.csv", scale.SHOWN),
    of_rows("device", "h200.csv", device.SHOWN),
    of_rows("kernels", "bounds.csv", BOUNDS),
    Table("kernels", studies.readme("kernels"), "](growth.csv)", growth),
    of_rows("als", "crossing.csv", CROSSING),
    Table("peers", PEERS / "README.md", "medians over the rounds:", beside_peers),
    *map(peers, report.TITLES),
    Table("peers", studies.REPO / "README.md", "## Beside its peers", fastest),
)

if __name__ == "__main__":
    main()
