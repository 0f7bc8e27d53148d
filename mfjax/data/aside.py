"""What is known of users or items beside their ratings."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Shaped

from mfjax.errors import InputError

if TYPE_CHECKING:
    import polars as pl


def read_aside(path: str, ids: Shaped[np.ndarray, " rows"], key: str) -> "pl.DataFrame":
    """A table of what is known of users or items.

    Args:
      path: of a CSV file with a heading, the ids in its first column.
      ids: of the data.
      key: the config key that names the file, for messages.

    Returns:
      Its other columns as text, a row an id in the order of `ids`; null where it has no such id.

    Raises:
      InputError: it cannot be read, or has none of these ids.
    """
    import polars as pl

    try:
        frame = pl.read_csv(Path(path).expanduser(), infer_schema=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{key}={path}: expected a CSV file with a heading ({reason})") from error
    own, *_ = frame.columns
    known = np.isin(ids.astype(str), frame[own].drop_nulls().to_numpy().astype(str))
    if not known.any():
        raise InputError(f"{key}={path}: none of the {len(ids):,} ids of the data is in its {own}")
    return aligned(frame.rename({own: "id"}), ids)


def aligned(known: "pl.DataFrame", ids: Shaped[np.ndarray, " rows"]) -> "pl.DataFrame":
    """What is known of some ids, in their order.

    Args:
      known: with a column `id`, as text; of an id that stands twice the first row counts.
      ids: of the data.

    Returns:
      The other columns, a row an id; null where nothing is known of it.
    """
    import polars as pl

    rows = pl.DataFrame({"id": ids.astype(str)})
    once = known.unique("id", keep="first", maintain_order=True)
    return rows.join(once, on="id", how="left", maintain_order="left").drop("id")
