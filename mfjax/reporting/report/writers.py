"""A comparison as files for a paper: Markdown, CSV and LaTeX."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mfjax.reporting.files import write_csv
from mfjax.reporting.formats import in_latex, markdown
from mfjax.reporting.report.runs import Run
from mfjax.reporting.report.table import Comparison, Row
from mfjax.reporting.report.words import about, caption, cells_of, columns_of

DAGGER = "†"
MEAN = 1  # the column of `columns_of` in which the best and those not worse are marked


def as_markdown(comparison: Comparison, runs: Sequence[Run]) -> str:
    """A table with its caption, and what each run was.

    Args:
      comparison: of the runs.
      runs: in the order of its rows.

    Returns:
      Markdown, the best in bold.
    """
    columns = columns_of(comparison)
    headings = [column.heading for column in columns]
    rows = [[cell.text for cell in row] for row in cells_of(comparison, columns)]
    for cells, row in zip(rows, comparison.rows, strict=True):
        cells[MEAN] = _marked_in_markdown(cells[MEAN], row)
    said = caption(comparison, best="is bold", not_worse=f"have a {DAGGER}")
    table = markdown(headings, rows)
    of_runs = markdown(
        ["run", "what", ""],
        [[run.name, what, said] for run in runs for what, said in about(run).items()],
    )
    return f"{table}\n{' '.join(said)}\n\n## Runs\n\n{of_runs}"


def _marked_in_markdown(text: str, row: Row) -> str:
    if row.is_best:
        return f"**{text}**"
    return f"{text} {DAGGER}" if row.is_not_worse else text


def as_latex(comparison: Comparison) -> str:
    """A `table` with its caption, as booktabs sets it.

    Args:
      comparison: of runs.

    Returns:
      LaTeX for a document that uses booktabs, the best in bold.
    """
    columns = columns_of(comparison)
    headings = [in_latex(column.heading) for column in columns]
    rows = [[in_latex(cell.text) for cell in row] for row in cells_of(comparison, columns)]
    for cells, row in zip(rows, comparison.rows, strict=True):
        cells[MEAN] = _marked_in_latex(cells[MEAN], row)
    said = caption(comparison, best="is bold", not_worse="have a DAGGER")
    text = in_latex(" ".join(said)).replace("DAGGER", r"$^\dagger$")
    lines = [
        r"% \usepackage{booktabs}",
        r"\begin{table}",
        r"  \centering",
        r"  \small",
        r"  \setlength{\tabcolsep}{4pt}",
        rf"  \caption{{{text}}}",
        rf"  \label{{{_label(comparison)}}}",
        r"  \medskip",
        rf"  \begin{{tabular}}{{l{'r' * (len(headings) - 1)}}}",
        r"    \toprule",
        f"    {_line(headings)}",
        r"    \midrule",
        *(f"    {_line(cells)}" for cells in rows),
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _label(comparison: Comparison) -> str:
    """By the data and the metric: a paper may have several tables."""
    name, *_ = comparison.shared.get("data", "mixed").split(",")
    words = re.findall(r"[a-z0-9]+", f"{name} {comparison.column}".lower())
    return f"tab:{'-'.join(words)}"


def _marked_in_latex(text: str, row: Row) -> str:
    if row.is_best:
        return rf"{{\bfseries\boldmath {text}}}"
    return rf"{text}$^\dagger$" if row.is_not_worse else text


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def write_rows(comparison: Comparison, path: Path) -> None:
    """Write a row a run as CSV, with every number as it is.

    Args:
      comparison: of runs.
      path: of the file, which is written whole or not at all.
    """
    write_csv(path, [_numbers(row, comparison.column) for row in comparison.rows])


def _numbers(row: Row, column: str) -> Mapping[str, Any]:
    to_best = row.to_best
    between = to_best.interval if to_best else None
    return {
        "run": row.name,
        "column": column,
        "mean": row.interval.mean,
        "low": row.interval.low,
        "high": row.interval.high,
        "n": row.interval.n,
        "to_best": between and between.mean,
        "to_best_low": between and between.low,
        "to_best_high": between and between.high,
        "p_t": to_best and to_best.t_test,
        "p_t_holm": row.holm,
        "p_wilcoxon": to_best and to_best.wilcoxon,
        "is_best": row.is_best,
        "is_not_worse": row.is_not_worse,
    }
