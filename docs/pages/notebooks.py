"""The notebooks as they are stored: text, code and outputs as Markdown. Nothing is run here."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
PNG = "image/png"

Cell = dict[str, Any]


def sources() -> list[Path]:
    """The notebooks, by name."""
    return sorted(NOTEBOOKS.glob("*.ipynb"))


def cells(path: Path) -> list[Cell]:
    """The cells of a notebook."""
    return json.loads(path.read_text())["cells"]


def pages() -> dict[str, str]:
    """The pages by their path in the site, which is that in docs/."""
    return {f"notebooks/{path.stem}.md": _page(path) for path in sources()}


def images() -> dict[str, bytes]:
    """The pictures of all notebooks, by their path in the site."""
    return {
        f"notebooks/{_image_name(path, number)}": base64.b64decode(output["data"][PNG])
        for path in sources()
        for number, cell in enumerate(cells(path))
        for output in cell.get("outputs", [])
        if _has_image(output)
    }


def _page(path: Path) -> str:
    parts = [part for number, cell in enumerate(cells(path)) for part in _cell(path, number, cell)]
    download = f"*This page is a notebook with the outputs of one run: [download it]({path.name}).*"
    return "\n\n".join([*parts, download]) + "\n"


def _cell(path: Path, number: int, cell: Cell) -> Iterator[str]:
    """The text of a cell, or its code and what came of it."""
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        yield source
        return
    yield _fenced("python", source)
    for output in cell["outputs"]:
        if _has_image(output):
            yield f"![What the cell above draws]({_image_name(path, number)})"
        else:
            yield _fenced("{ .text .no-copy .output }", _text(output))


def _fenced(kind: str, text: str) -> str:
    return f"```{kind}\n{text.rstrip()}\n```"


def _text(output: Cell) -> str:
    """What a cell printed, or the value of its last line."""
    lines = output["text"] if output["output_type"] == "stream" else output["data"]["text/plain"]
    return "".join(lines)


def _has_image(output: Cell) -> bool:
    return PNG in output.get("data", {})


def _image_name(path: Path, number: int) -> str:
    """The file of the picture of a cell; a cell has one at most."""
    return f"{path.stem}_{number}.png"
