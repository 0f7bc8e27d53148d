"""A comparison as one page of HTML that needs nothing else: tables that sort, plots as SVG."""

import html
import io
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mfjax.reporting.formats import printable
from mfjax.reporting.report.runs import Run
from mfjax.reporting.report.table import Comparison, Row
from mfjax.reporting.report.words import Cell, about, caption, cells_of, columns_of
from mfjax.reporting.report.writers import DAGGER, MEAN

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff;
       max-width: 64rem; margin: 2rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.5rem; }} h2 {{ font-size: 1.15rem; margin-top: 2rem; }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .3rem .8rem; text-align: right; white-space: nowrap; }}
th:first-child, td:first-child {{ text-align: left; }}
thead th {{ border-top: 2px solid; border-bottom: 1px solid; }}
tbody tr:last-child td {{ border-bottom: 2px solid; }}
thead button {{ all: unset; font-weight: 600; cursor: pointer; }}
thead button:focus-visible {{ outline: 2px solid #0072B2; }}
th[aria-sort=ascending] button::after {{ content: " ▲"; }}
th[aria-sort=descending] button::after {{ content: " ▼"; }}
figure {{ margin: 1rem 0; }} svg {{ max-width: 100%; height: auto; }}
dl {{ display: grid; grid-template-columns: 7rem 1fr; gap: .1rem 1rem; }}
dt {{ color: #555; }} dd {{ margin: 0; overflow-wrap: anywhere; }}
</style>
</head>
<body>
<h1>{title}</h1>
<div class="wide">
<table>
<thead><tr>{headings}</tr></thead>
<tbody>
{rows}
</tbody>
</table>
</div>
<p>{caption}</p>
{figures}
<h2>Runs</h2>
{runs}
<script>
for (const button of document.querySelectorAll("thead button")) {{
  button.addEventListener("click", () => {{
    const th = button.closest("th"), body = th.closest("table").tBodies[0];
    const up = th.getAttribute("aria-sort") !== "ascending";
    const of = row => row.cells[th.cellIndex].dataset.value;
    const rows = [...body.rows].sort((one, other) => {{
      const a = of(one), b = of(other);
      if (a === "" || b === "") return (a === "") - (b === "");
      const order = isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b;
      return up ? order : -order;
    }});
    for (const other of th.parentNode.cells) other.removeAttribute("aria-sort");
    th.setAttribute("aria-sort", up ? "ascending" : "descending");
    body.append(...rows);
  }});
}}
</script>
</body>
</html>
"""


def as_html(comparison: Comparison, runs: Sequence[Run], figures: Mapping[str, "Figure"]) -> str:
    """One file with all of a report.

    Args:
      comparison: of the runs.
      runs: in the order of its rows.
      figures: by the heading below which each stands.

    Returns:
      HTML without any outside resource.
    """
    columns = columns_of(comparison)
    rows = zip(comparison.rows, cells_of(comparison, columns), strict=True)
    said = caption(comparison, best="is bold", not_worse=f"have a {DAGGER}")
    return PAGE.format(
        title=_escaped(", ".join(run.name for run in runs)),
        headings="".join(_heading(column.heading) for column in columns),
        rows="\n".join(_row(row, cells) for row, cells in rows),
        caption=_escaped(" ".join(said)),
        figures="\n".join(_figure(heading, figure) for heading, figure in figures.items()),
        runs="\n".join(map(_run, runs)),
    )


def _escaped(text: str) -> str:
    return html.escape(printable(text))


def _heading(text: str) -> str:
    return f'<th scope="col"><button type="button">{_escaped(text)}</button></th>'


def _row(row: Row, cells: Sequence[Cell]) -> str:
    shown = [_escaped(cell.text) for cell in cells]
    if row.is_best:
        shown[MEAN] = f"<strong>{shown[MEAN]}</strong>"
    elif row.is_not_worse:
        shown[MEAN] += f" {DAGGER}"
    parts = [
        f'<td data-value="{_sort_key(cell)}">{text}</td>'
        for cell, text in zip(cells, shown, strict=True)
    ]
    return f"<tr>{''.join(parts)}</tr>"


def _sort_key(cell: Cell) -> str:
    return "" if cell.value is None else _escaped(str(cell.value))


def _run(run: Run) -> str:
    said = "".join(
        f"<dt>{_escaped(what)}</dt><dd>{_escaped(words)}</dd>" for what, words in about(run).items()
    )
    return f"<details><summary>{_escaped(run.name)}</summary><dl>{said}</dl></details>"


def _figure(heading: str, figure: "Figure") -> str:
    return f"<h2>{_escaped(heading)}</h2>\n<figure>{as_svg(figure)}</figure>"


def as_svg(figure: "Figure") -> str:
    """A figure as an SVG element to stand in a page, whose names are its own.

    Args:
      figure: any of `mfjax.plots`.

    Returns:
      The element alone, without what would name an outside resource.
    """
    from matplotlib import rc_context

    from mfjax.reporting.style import RC

    file = io.StringIO()
    title = figure.get_suptitle()
    unnamed = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with rc_context(RC | {"svg.hashsalt": title}):
        figure.savefig(file, format="svg", metadata=unnamed)
    text = file.getvalue()
    element = text[text.index("<svg") :]
    return re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
