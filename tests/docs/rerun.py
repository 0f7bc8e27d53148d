"""Runs notebooks from top to bottom, by a kernel that is no test's.

`python tests/docs/rerun.py NOTEBOOK…` stores the outputs, without what belongs to the machine.
"""

import copy
import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
OF_TESTS = ("JAX_DISABLE_MOST_OPTIMIZATIONS", "XLA_FLAGS")  # tests/conftest.py says them
TIMEOUT = 600  # seconds of a cell


def read(path: Path) -> NotebookNode:
    """A notebook, as its format asks for."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def run(notebook: NotebookNode, folder: Path) -> NotebookNode:
    """The notebook with the outputs of a run in `folder`. Raises the error of a cell."""
    environment = {key: value for key, value in os.environ.items() if key not in OF_TESTS}
    place = {"metadata": {"path": str(folder)}}
    client = NotebookClient(
        copy.deepcopy(notebook), timeout=TIMEOUT, coalesce_streams=True, resources=place
    )
    return client.execute(env=environment)


def store(notebook: NotebookNode, path: Path) -> None:
    """Write a notebook without timestamps, versions and the name of its kernel."""
    notebook.metadata = NotebookNode(METADATA)
    for cell in notebook.cells:
        kept = {key: value for key, value in cell.metadata.items() if key == "tags"}
        cell.metadata = NotebookNode(kept)
    nbformat.write(notebook, path)


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        with tempfile.TemporaryDirectory() as folder:
            store(run(read(path), Path(folder)), path)
