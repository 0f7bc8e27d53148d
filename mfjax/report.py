"""`python -m mfjax.report RUN [RUN ...]`: finished runs side by side, as tables and a page.

It reads what runs left behind, and trains nothing. Importing it loads neither jax nor Hydra.
"""

import argparse
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mfjax.app.arguments import Parser, command

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mfjax.reporting.report.runs import Run
    from mfjax.reporting.report.table import Comparison

RUNS = "output folders of finished runs, or of job=compare, which stands for its variants"
FOREST = "Differences to the best"
BY_RANK = "By rank"
BY_SECONDS = "By seconds"
FILES = {FOREST: "forest", BY_RANK: "by_rank", BY_SECONDS: "by_seconds"}  # plots, by their heading
EXAMPLES = """examples:
  python -m mfjax.report outputs/run/2026-01-01_12-00-00
  python -m mfjax.report sgd=outputs/a als=outputs/b --output report
  python -m mfjax.report multirun/NAME/DATE_TIME/*/ --metric test_mae
  python -m mfjax.report sgd=outputs/a als=outputs/b --bibtex > cited.bib
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Show a report, write it, or print what to cite; a wrong input is one message and exit 1."""
    command(_parser(), _report, arguments)


def _parser() -> Parser:
    parser = Parser(
        prog="python -m mfjax.report",
        description="Finished runs side by side, on the same folds; nothing is trained.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("runs", nargs="+", metavar="[NAME=]RUN", help=RUNS)
    parser.add_argument(
        "--metric",
        metavar="COLUMN",
        help="such as test_mae or test_rmse_cold (the metric that chose, on the test ratings)",
    )
    parser.add_argument(
        "--output",
        metavar="FOLDER",
        type=Path,
        help="where report.md, .csv, .tex, .html, .bib and the plots go",
    )
    parser.add_argument(
        "--mixed",
        action="store_true",
        help="runs of other data, protocols, clipping or conventions too, with what differs",
    )
    parser.add_argument(
        "--bibtex",
        action="store_true",
        help="print what to cite, and nothing else: mfjax, data, methods, optimisers",
    )
    return parser


def _report(asked: argparse.Namespace) -> None:
    from mfjax.reporting.cite import bibliography
    from mfjax.reporting.report.runs import column_of, read_runs
    from mfjax.reporting.report.table import compare

    runs = read_runs(asked.runs)
    cited = bibliography([run.results for run in runs])
    if asked.bibtex:
        print(cited, end="")
        return
    comparison = compare(runs, column_of(runs, asked.metric), mixed=asked.mixed)
    if asked.output is not None:
        _write(comparison, runs, cited, asked.output)
    _show(comparison)
    if asked.output is not None:
        print(f"Files: {asked.output}")


def _show(comparison: "Comparison") -> None:
    """The table, as wide as the terminal, and what it says."""
    from rich.console import Console

    from mfjax.app.table import Table
    from mfjax.reporting.formats import printable
    from mfjax.reporting.report.words import caption, cells_of, columns_of

    columns = columns_of(comparison, verdict=True)
    headings = [column.heading for column in columns]
    first, *others = headings[:5], *([heading] for heading in headings[5:])
    table = Table(
        title="",
        headings=headings,
        rows=[[cell.text for cell in row] for row in cells_of(comparison, columns)],
        groups=[first, *others],
        text=["run", "verdict"],
        file="report.csv (--output)",
    )
    console = Console()
    console.print(table.fitted(console.width))
    for sentence in caption(comparison, best="is “best”", not_worse="are “not worse”"):
        print(textwrap.fill(printable(sentence), console.width, subsequent_indent="  "))


def _write(comparison: "Comparison", runs: Sequence["Run"], cited: str, folder: Path) -> None:
    """All files of a report."""
    from mfjax.reporting.files import write_text
    from mfjax.reporting.plots import save
    from mfjax.reporting.report.page import as_html
    from mfjax.reporting.report.writers import as_latex, as_markdown, write_rows
    from mfjax.reporting.saving import Saving

    folder.mkdir(parents=True, exist_ok=True)
    figures = _figures(comparison, runs)
    write_text(folder / "report.md", as_markdown(comparison, runs))
    write_rows(comparison, folder / "report.csv")
    write_text(folder / "report.tex", as_latex(comparison))
    write_text(folder / "report.html", as_html(comparison, runs, figures))
    write_text(folder / "report.bib", cited)
    for heading, name in FILES.items():
        if heading in figures:
            save(figures[heading], folder, name, Saving(format=("svg", "pdf")))


def _figures(comparison: "Comparison", runs: Sequence["Run"]) -> dict[str, "Figure"]:
    """The plots of a report by what they show, where there is anything to plot."""
    from mfjax.reporting import plots
    from mfjax.reporting.report.runs import chosen_by, column_label, swept_lanes

    label = column_label(comparison.column)
    figures: dict[str, Figure] = {}
    if any(row.to_best for row in comparison.rows):
        figures[FOREST] = plots.forest(comparison.rows, label)
    if len(runs) > 1 and "data" in comparison.shared:
        figures |= _figures_of_cost(comparison, runs, label)
    for run in runs:
        if figure := plots.parallel(swept_lanes(run), chosen_by(run)):
            figures[f"Sweep of {run.name}"] = figure
    return figures


def _figures_of_cost(
    comparison: "Comparison", runs: Sequence["Run"], label: str
) -> dict[str, "Figure"]:
    """How good runs of the same data are against what they took, where that differs."""
    from mfjax.reporting.plots import against
    from mfjax.reporting.report.runs import are_timed_alike, seconds_of

    figures: dict[str, Figure] = {}
    ranks = [run.results["chosen"].get("rank", 0) for run in runs]
    if len(set(ranks)) > 1 and min(ranks) > 0:
        methods = [run.results["method"]["name"] for run in runs]
        figures[BY_RANK] = against(comparison.rows, ranks, methods, what="rank", label=label)
    if are_timed_alike(runs):
        seconds = list(map(seconds_of, runs))
        names = [run.name for run in runs]
        what = "seconds of compiling and training, all lanes"
        figures[BY_SECONDS] = against(comparison.rows, seconds, names, what=what, label=label)
    return figures


if __name__ == "__main__":
    main()
