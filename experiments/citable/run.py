"""A paper's table of methods, from the name of a data set: `python experiments/citable/run.py`.

README.md says what came out.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from mfjax.reporting.course import say

FOLDER = Path(__file__).parent
KEPT = ("report.md", "report.csv", "report.tex", "report.bib", "forest.svg")
TABLES = {  # of each report, what is asked for beside +exp=citable
    "bundled": ("replicates=5",),
    "ml-100k": ("data=ml-100k", "split=blocks"),
}
SURPRISE = (  # its SVD's own settings, on 5 random folds, all other ratings trained on
    *("data=ml-100k", "split=kfold", "split.validation=0", "hparams.fold=-2"),
    *("method=sgd", "method.batch_size=1", "reg_by=count", "epochs=20", "hparams.rank=100"),
    *("hparams.learning_rate=0.005", "hparams.reg=0.02", "hparams.reg_bias=0.02"),
)


def main() -> None:
    """Train, report, and keep the reports."""
    parser = argparse.ArgumentParser(
        description="Tune five methods on the bundled ratings and on ml-100k, and report them."
    )
    add = parser.add_argument
    add("--ml-100k", metavar="PATH", help="archive, folder or u.data, not to download it")
    add("--tables", nargs="+", default=[*TABLES], choices=TABLES, help="which tables")
    add("--runs", type=Path, default=Path("outputs/citable"), help="folder of the runs")
    add("--output", type=Path, default=FOLDER, help="folder of the results")
    arguments = parser.parse_args()
    path = () if arguments.ml_100k is None else (f"data.path={arguments.ml_100k}",)
    for name in arguments.tables:
        of_data = path if name == "ml-100k" else ()
        run = trained(arguments.runs / name, "+exp=citable", *TABLES[name], *of_data)
        reported(run, arguments.output / name)
    if "ml-100k" in arguments.tables:
        run = trained(arguments.runs / "surprise", *SURPRISE, *path)
        results = json.loads((run / "results.json").read_text())
        say("Surprise's settings, test RMSE", results["metrics"]["test_rmse"])


def trained(folder: Path, *overrides: str) -> Path:
    """The folder of a run, made anew."""
    place = (f"hydra.run.dir={folder}", "plots.draw=false")
    shutil.rmtree(folder, ignore_errors=True)
    called("mfjax.run", *overrides, *place)
    return folder


def reported(run: Path, folder: Path) -> None:
    """Report a run, and keep what a README links to."""
    made = run / "report"
    called("mfjax.report", str(run), "--output", str(made))
    folder.mkdir(parents=True, exist_ok=True)
    for name in KEPT:
        shutil.copy(made / name, folder / name)


def called(module: str, *words: str) -> None:
    command = [sys.executable, "-m", module, *words]
    subprocess.run(command, check=True, env=os.environ | {"COLUMNS": "100"})


if __name__ == "__main__":
    main()
