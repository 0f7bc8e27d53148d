"""How long a large published set takes to read, the first time and again.

`python experiments/reading/run.py`; README.md says what came out.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import polars as pl

import mfjax
from mfjax.reporting.course import say, waiting
from mfjax.reporting.files import write_csv

FOLDER = Path(__file__).parent
LIKE = "ml-25m"
READ = """
import json, resource, sys, time
began = time.perf_counter()
import mfjax
dataset = mfjax.SOURCES["ml-25m"](path=sys.argv[1])
seconds = time.perf_counter() - began
unit = 1 if sys.platform == "darwin" else 1024
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
print(json.dumps({"seconds": seconds, "peak_gb": peak / 1e9, "ratings": len(dataset.value)}))
"""


def main() -> None:
    """Make the archive, read it in processes of their own, and write the CSV."""
    parser = argparse.ArgumentParser(description="Time the reading of an archive like ml-25m's.")
    add = parser.add_argument
    add("--ratings", type=int, help="fewer ratings than it has, for a smoke run")
    add("--output", type=Path, default=FOLDER, help="folder of the results")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder, f"{LIKE}.zip")
        with waiting(f"an archive like that of {LIKE}"):
            write_archive(archive, arguments.ratings)
        environment = {**os.environ, "XDG_CACHE_HOME": str(Path(folder, "cache"))}
        for what in ("first", "again"):
            command = [sys.executable, "-c", READ, str(archive)]
            with waiting(f"reading it, {what}"):
                done = subprocess.run(
                    command, env=environment, check=True, capture_output=True, text=True
                )
            row = {
                "read": what,
                "archive_mb": archive.stat().st_size / 1e6,
                **json.loads(done.stdout),
            }
            rounded = {
                key: round(of, 2) if isinstance(of, float) else of for key, of in row.items()
            }
            say(*rounded.values())
            rows.append(rounded)
    write_csv(arguments.output / "reading.csv", rows)


def write_archive(path: Path, ratings: int | None) -> None:
    """Ratings and titles in the form of the set, of its shape, in half stars with times."""
    users, items, count = mfjax.PUBLISHED[LIKE].shape
    dataset = mfjax.SOURCES["synthetic"](
        num_users=users, num_items=items, num_ratings=ratings or count, half_stars=True
    )
    rng = np.random.default_rng(0)
    table = pl.DataFrame(
        {
            "userId": dataset.user + 1,
            "movieId": dataset.item + 1,
            "rating": dataset.value,
            "timestamp": rng.integers(8e8, 1.6e9, len(dataset.value)),
        }
    ).sort("userId", "movieId")
    titles = [f'{item},"A film, the {item}th (1999)",Drama|War' for item in range(1, items + 1)]
    with tempfile.TemporaryDirectory() as folder:
        table.write_csv(Path(folder, "ratings.csv"))
        Path(folder, "movies.csv").write_text("\n".join(["movieId,title,genres", *titles]))
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in ("ratings.csv", "movies.csv"):
                archive.write(Path(folder, name), f"{LIKE}/{name}")


if __name__ == "__main__":
    main()
