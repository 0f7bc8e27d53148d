"""The ladder of baselines, each with its committed search: `python experiments/baselines/run.py`.

README.md says what came out.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from results import FOLDER, RUNGS_TABLE, draw, known

from mfjax.reporting.files import write_csv

RUNGS = (
    "bias_only",
    "mf_sgd",
    "mf_adam",
    "mf_als",
    "svdpp",
    "flip",
    "bmf",
    "bmf_flip",
    "bmf_flip_noise",
    "bmf_ensemble",
)
PROTOCOLS = {  # what is asked for beside +exp=baselines/RUNG
    "u1-u5": ("data=ml-100k", "split=blocks"),
    "u1-u5 transductive": ("data=ml-100k", "split=blocks", "bags.transductive=true"),
    "ml-100k 5-fold": ("data=ml-100k", "split=kfold"),
    "ml-100k 90/10": ("data=ml-100k", "split=random", "split.test=0.1", "replicates=5"),
    "bundled 90/10": ("data=movielens", "split=random", "split.test=0.1", "replicates=5"),
    "ml-1m 90/10": ("data=ml-1m", "split=random", "split.test=0.1", "replicates=5"),
    "ml-10m 90/10": ("data=ml-10m", "split=random", "split.test=0.1", "replicates=5"),
}
USUAL = ("u1-u5", "bundled 90/10")


def main() -> None:
    """Train every rung on every protocol that is asked for, and keep what it came to."""
    parser = argparse.ArgumentParser(description="Train the ladder of baselines.")
    add = parser.add_argument
    add("--ml-100k", metavar="PATH", help="archive, folder or u.data, not to download it")
    add("--protocols", nargs="+", default=[*USUAL], choices=PROTOCOLS, help="others are kept")
    add("--rungs", nargs="+", default=[*RUNGS], choices=RUNGS, help="others are kept")
    add("--runs", type=Path, default=Path("outputs/baselines"), help="folder of the runs")
    add("--output", type=Path, default=FOLDER, help="folder of the results")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    path = arguments.output / RUNGS_TABLE
    rows = known(path, "protocol", "rung")
    for protocol in arguments.protocols:
        for rung in arguments.rungs:
            words = [*PROTOCOLS[protocol]]
            if "data=ml-100k" in words and arguments.ml_100k:
                words.append(f"data.path={arguments.ml_100k}")
            folder = arguments.runs / protocol.replace(" ", "_").replace("/", "-") / rung
            rows[protocol, rung] = {
                "protocol": protocol,
                "rung": rung,
                **trained(folder, rung, words),
            }
            places = [(one, name) for one in PROTOCOLS for name in RUNGS]
            write_csv(path, [rows[place] for place in places if place in rows])
    draw(arguments.output)


def trained(folder: Path, rung: str, words: list[str]) -> dict[str, Any]:
    """What a rung came to, trained anew."""
    shutil.rmtree(folder, ignore_errors=True)
    place = (f"hydra.run.dir={folder}", "plots.draw=false")
    command = [sys.executable, "-m", "mfjax.run", f"+exp=baselines/{rung}", *words, *place]
    subprocess.run(command, check=True, env=os.environ | {"COLUMNS": "100"})
    results = json.loads((folder / "results.json").read_text())
    metric = results["metrics"]["test_rmse"]
    samples = results["samples"] or {}
    return {
        "rmse": metric["mean"],
        "low": metric["low"],
        "high": metric["high"],
        "n": metric["n"],
        "seconds": results["seconds"]["total"],
        "lanes": results["lanes"],
        "coverage": samples.get("coverage"),
        "r_hat": samples.get("r_hat"),
    }


if __name__ == "__main__":
    main()
