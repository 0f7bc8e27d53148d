"""Peers on the folds of the ladder, u1 to u5 of ml-100k: `python experiments/baselines/peers.py`.

README.md says how each is run, and what came out.
"""

import argparse
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from results import FOLDER, PEERS_TABLE, Row, draw, known

import mfjax
from mfjax.reporting.course import say, waiting
from mfjax.reporting.files import write_csv
from mfjax.reporting.formats import markdown
from mfjax.reporting.statistics import interval

sys.path.append(str(FOLDER.parent / "peers"))
from environments import NotInstalled, default_folder, python_of
from processes import Contestant, peer, run, write_ratings

ONE_THREAD = {  # a fit, of which two run at once
    "LK_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
DASH = "–"
OVERLAP = 1 / 4  # test ratings for one trained on

Setting = dict[str, Any]  # a library's own arguments, its defaults for all others


class Entry(NamedTuple):
    """A peer, whose settings it has, its rank, and what there is to choose from."""

    contestant: Contestant
    settings: str
    rank: int
    choices: Sequence[Setting] = ({},)

    @property
    def key(self) -> tuple[str, str]:
        return self.contestant.name, self.settings


def every(**axes: Sequence[Any]) -> list[Setting]:
    """All combinations of the values of some arguments."""
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


SVD = peer("Surprise SVD", "surprise", None, "algorithm=SVD")
SVDPP = peer("Surprise SVD++", "surprise", None, "algorithm=SVD++")
LENSKIT = peer("LensKit BiasedMF", "lenskit")
LIBMF = peer("libmf AVX", "libmf", "libmf_avx")
CMFREC = peer("cmfrec", "cmfrec")
MYFM = peer("myFM", "myfm", None, "bags=none")
MYFM_BAGS = peer("myFM, bags", "myfm", None, "bags=both")
SVD_GRID = every(n_epochs=[40, 80], lr_all=[0.005, 0.01], reg_all=[0.07, 0.1, 0.14])
SVDPP_GRID = every(cache_ratings=[True], n_epochs=[40], lr_all=[0.01], reg_all=[0.07, 0.1, 0.14])
LENSKIT_GRID = every(epochs=[20], regularization=[0.07, 0.1, 0.14, 0.2, 0.28])
LIBMF_GRID = [
    {**setting, "lambda_p1": 0, "lambda_q1": 0, "lambda_p2": reg, "lambda_q2": reg}
    for setting in every(nr_iters=[20, 50], eta=[0.03, 0.06, 0.1])
    for reg in (0.03, 0.05, 0.08, 0.12)
]
CMFREC_GRID = [
    {"niter": 20, "lambda_": [of_bias, of_bias, reg, reg, reg, reg]}
    for of_bias in (1, 3, 6)
    for reg in (6, 9, 13, 18, 25)
]
ENTRIES = (
    Entry(SVD, "defaults", 100),
    Entry(SVD, "tuned", 100, SVD_GRID),
    Entry(SVDPP, "defaults", 20, every(cache_ratings=[True])),
    Entry(SVDPP, "tuned", 20, SVDPP_GRID),
    Entry(LENSKIT, "defaults", 50),
    Entry(LENSKIT, "tuned", 50, LENSKIT_GRID),
    Entry(LIBMF, "defaults", 8),
    Entry(LIBMF, "tuned", 32, LIBMF_GRID),
    Entry(CMFREC, "defaults", 40),
    Entry(CMFREC, "tuned", 40, CMFREC_GRID),
    Entry(MYFM, "its tutorial's", 10, every(sweeps=[200], kept=[200])),
    Entry(MYFM_BAGS, "its example's", 10, every(sweeps=[512], kept=[512])),
)


def main() -> None:
    """Fit every peer that is asked for, and keep what it came to."""
    arguments = parse()
    os.environ.update(ONE_THREAD)
    path = arguments.output / PEERS_TABLE
    arguments.output.mkdir(parents=True, exist_ok=True)
    rows = known(path, "peer", "settings")
    with tempfile.TemporaryDirectory() as folder:
        write_folds(Path(folder), arguments.ml_100k)
        for entry in ENTRIES:
            if entry.contestant.name not in arguments.peers:
                continue
            rows[entry.key] = fitted(entry, folder, arguments.environments)
            say(*rows[entry.key].values())
            write_csv(path, [rows[one.key] for one in ENTRIES if one.key in rows])
    draw(arguments.output)
    say(table([*known(path, "peer", "settings").values()]))


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Fit peers on the folds of the ladder.")
    add = parser.add_argument
    add("--ml-100k", metavar="PATH", help="archive, folder or u.data, not to download it")
    names = [*dict.fromkeys(entry.contestant.name for entry in ENTRIES)]
    add("--peers", nargs="+", default=names, choices=names, help="others are kept")
    home = default_folder()
    add("--environments", type=Path, default=home, help="folder of the peers' environments")
    add("--output", type=Path, default=FOLDER, help="folder of the results")
    return parser.parse_args()


def write_folds(folder: Path, path: str | None) -> None:
    """The files of each fold, cut as for the ladder: what is held out, and what is tested."""
    given = {} if path is None else {"path": path}
    dataset = mfjax.SOURCES["ml-100k"](**given)
    split = mfjax.SPLITS["blocks"](dataset, 0)
    held_out = split.fold == 0
    for fold in range(split.num_tests):
        test = split.test == fold
        name = f"{fold + 1}.npz"
        write_ratings(folder / f"held_out_{name}", dataset, ~test & ~held_out, ~test & held_out)
        write_ratings(folder / f"test_{name}", dataset, ~test, test)


def fitted(entry: Entry, folder: str, environments: Path) -> Row:
    """The row of an entry; empty where the peer cannot be installed, or fails, which it notes."""
    contestant = entry.contestant
    with waiting(" ".join(entry.key)):
        try:
            python = python_of(contestant.environment, environments)
        except NotInstalled as reason:
            python = reason
        choices = f"choices={json.dumps(entry.choices)}"
        words = ["folds", folder, str(entry.rank), choices, *contestant.options]
        began = time.perf_counter()
        result = run(contestant, python, words)
        seconds = time.perf_counter() - began
    errors = result.get("errors", [])
    mean, low, high, n = interval(errors, OVERLAP)
    return {
        "peer": contestant.name,
        "settings": entry.settings,
        "rank": entry.rank,
        "tried": len(entry.choices),
        "rmse": mean,
        "low": low,
        "high": high,
        "n": n,
        "u1": errors[0] if errors else None,
        "seconds": seconds,
        "chosen": json.dumps(result.get("chosen")),
        "note": result["note"],
    }


def table(rows: Sequence[Row]) -> str:
    """What the README shows, in Markdown; a dash where there is no result."""

    def cells(row: Row) -> list[str]:
        names = [row["peer"], row["settings"], row["rank"], row["tried"]]
        if not row["rmse"]:
            return [*names, DASH, DASH, DASH]
        mean, low, high, u1, seconds = (
            float(row[column]) for column in ("rmse", "low", "high", "u1", "seconds")
        )
        return [*names, f"**{mean:.4f}** ({low:.3f} to {high:.3f})", f"{u1:.4f}", f"{seconds:.0f}"]

    headings = ["peer", "settings", "rank", "tried", "u1 to u5", "u1", "seconds"]
    return markdown(headings, [cells(row) for row in rows])


if __name__ == "__main__":
    main()
