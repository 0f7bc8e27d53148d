"""`python -m mfjax.recommend`: lists of items of a model that a run, or `Model.save`, wrote."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mfjax.app.arguments import Parser, command
from mfjax.errors import InputError

if TYPE_CHECKING:
    import polars as pl

    from mfjax.model import Model

WIDTH = 80  # of the table
FORMATS = {".csv": "write_csv", ".parquet": "write_parquet"}  # of `--output`, by Polars


def parser() -> Parser:
    """What the command takes."""
    made = Parser(
        prog="python -m mfjax.recommend",
        description="The items with the highest predictions for a user, of a model.",
    )
    made.add_argument(
        "folder", metavar="RUN", help="output folder of a training run, or one of Model.save"
    )
    who = made.add_mutually_exclusive_group(required=True)
    who.add_argument("--user", nargs="+", metavar="ID", help="one user or several")
    who.add_argument("--all", action="store_true", help="every user, to --output")
    made.add_argument("--n", type=int, default=10, help="items of each user (10)")
    made.add_argument(
        "--include-seen",
        action="store_true",
        help="items too that the user had rated in the training ratings",
    )
    made.add_argument("--output", type=Path, metavar="FILE", help="a .csv or .parquet to write")
    return made


def main() -> None:
    """Run the command line; a mistake is one message, and exits with 1."""
    command(parser(), run)


def run(asked: argparse.Namespace) -> None:
    """Write, or show, the lists that are asked for.

    Raises:
      InputError: an argument is wrong, or there is no model.
      OSError: a file cannot be read or written.
    """
    refuse_wrong_output(asked.output, asked.all)
    from mfjax.model import load  # which takes a while

    model = load(asked.folder)
    users = None if asked.all else typed(asked.user, model)
    lists = model.recommend(users, asked.n, exclude_seen=not asked.include_seen)
    if not len(lists):
        raise InputError("they have rated every item: --include-seen lists those too")
    if asked.output is None:
        show(lists, asked.folder)
        return
    write(lists, asked.output)
    print(f"{lists['user'].n_unique():,} users, {len(lists):,} rows: {asked.output}")


def refuse_wrong_output(output: Path | None, is_of_all: bool) -> None:
    """Refuse what cannot be written, before anything is computed."""
    if output is None:
        if is_of_all:
            raise InputError("--all needs a file for the lists: --output FILE.csv")
        return
    if output.suffix not in FORMATS:
        raise InputError(f"--output: expected a name that ends in .csv or .parquet, got {output}")
    if not output.absolute().parent.is_dir():
        raise InputError(f"--output: no folder {output.parent}: make it first")


def typed(ids: list[str], model: "Model") -> list[Any]:
    """The ids of a command line, as those of the model are; text where they are no integers."""
    if model.user_ids.dtype.kind == "U":
        return ids
    return [int(one) if one.removeprefix("-").isdecimal() else one for one in ids]


def write(lists: "pl.DataFrame", path: Path) -> None:
    """Write the lists to a file, whole or not at all."""
    from mfjax.training.whole import taking_its_place

    with taking_its_place(path) as part:
        getattr(lists, FORMATS[path.suffix])(part)


def show(lists: "pl.DataFrame", folder: str) -> None:
    """Print the lists as a table."""
    from polars import String
    from rich.console import Console

    from mfjax.app.table import Table

    table = Table(
        title=f"Recommended by {folder}",
        headings=lists.columns,
        rows=[list(map(cell, row)) for row in lists.iter_rows()],
        text=[name for name, kind in lists.schema.items() if kind == String],
    )
    Console(width=WIDTH).print(table.fitted(WIDTH))


def cell(value: Any) -> str:
    """A value as the table has it."""
    if isinstance(value, float):
        return f"{value:.3f}"
    return "" if value is None else str(value)


if __name__ == "__main__":
    main()
