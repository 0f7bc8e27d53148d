"""Where a run is sent when it ends, beside its files: what it has measured, and nothing new."""

import importlib
import math
import os
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mfjax.errors import InputError
from mfjax.reporting.files import as_json, history_rows, lane_rows
from mfjax.training.protocol import Outcome

PROJECT = "mfjax"  # of W&B and experiment of MLflow, where the environment names none
ENDS = {"mean": "", "low": "_low", "high": "_high"}  # of an interval


class Record(NamedTuple):
    """What is sent of a run.

    Args:
      name: its experiment, and the beginning of its digest.
      chosen: the hyperparameters.
      about: the conventions, the protocol and what tells the run from others, as text.
      metrics: the means of the chosen setting by column, and the ends of their intervals under
        `COLUMN_low` and `COLUMN_high`.
      epochs: what history.csv has of the fits of the chosen setting: by epoch, from 1, the values
        by `COLUMN/lane_N`.
    """

    name: str
    chosen: dict[str, float]
    about: dict[str, str]
    metrics: dict[str, float]
    epochs: dict[int, dict[str, float]]


Send = Callable[[Path, Record], str]  # below a run's folder or elsewhere; where it can be seen
Logger = Callable[[], Send | None]  # imports its library, before anything is trained


def record_of(folder: Path, outcome: Outcome, results: Mapping[str, Any]) -> Record:
    """The record of a run.

    Args:
      folder: of its files.
      outcome: whose fits are sent.
      results: the content of its results.json.
    """
    results = as_json(results)
    conventions = {key: str(value) for key, value in results["conventions"].items()}
    about = {
        "status": results["status"],
        "protocol": results["protocol"],
        "interval_over": results["interval_over"],
        "chosen_by": results["chosen_by"],
        "method": results["method"]["name"],
        "data": results["data"]["name"],
        "data_sha256": str(results["data"]["sha256"]),
        "digest": results["digest"],
        "folder": str(folder),
    }
    metrics = {
        f"{column}{suffix}": interval[end]
        for column, interval in results["metrics"].items()
        for end, suffix in ENDS.items()
        if interval[end] is not None
    }
    return Record(
        name=f"{results['experiment']} {results['digest'][:8]}",
        chosen=results["chosen"],
        about=about | conventions,
        metrics=metrics,
        epochs=_epochs(outcome),
    )


def _epochs(outcome: Outcome) -> dict[int, dict[str, float]]:
    """The finite values of the history of the chosen setting's fits."""
    chosen = {row["lane"] for row in lane_rows(outcome) if row["chosen"]}
    epochs: dict[int, dict[str, float]] = defaultdict(dict)
    for row in history_rows(outcome):
        lane, epoch = row["lane"], row["epoch"]
        measured = {key: row[key] for key in row if key not in ("lane", "epoch")}
        if lane in chosen:
            epochs[epoch] |= {
                f"{column}/lane_{lane}": value
                for column, value in measured.items()
                if math.isfinite(value)
            }
    return dict(sorted(epochs.items()))


# the loggers


def csv() -> None:
    """To nowhere: the files of a run are all there is."""


def tensorboard() -> Send:
    """To event files in the folder `tensorboard` of the run, each time in one of their own."""
    library = _imported("tensorboardX", "tensorboard")

    def send(folder: Path, record: Record) -> str:
        place = folder / "tensorboard"
        own = place / time.strftime("%Y-%m-%d_%H-%M-%S")
        with library.SummaryWriter(str(own)) as writer:
            for key, text in record.about.items():
                writer.add_text(key, text)
            for epoch, values in record.epochs.items():
                for name, value in values.items():
                    writer.add_scalar(name, value, epoch)
            writer.add_hparams(record.chosen, record.metrics, name="chosen")
        return f"tensorboard --logdir {place}"

    return send


def wandb() -> Send:
    """To Weights & Biases: offline, in the run's folder, unless `WANDB_MODE` says otherwise."""
    library = _imported("wandb", "wandb")

    def send(folder: Path, record: Record) -> str:
        run = library.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=record.name,
            config=record.chosen | record.about,
            dir=os.environ.get("WANDB_DIR", str(folder)),
            mode=os.environ.get("WANDB_MODE", "offline"),
            settings=library.Settings(silent=True),
        )
        with run:
            for epoch, values in record.epochs.items():
                run.log(values, step=epoch)
            run.summary.update(record.metrics)
        return run.url or f"wandb sync {Path(run.dir).parent}"

    return send


def mlflow() -> Send:
    """To MLflow: the store of `MLFLOW_TRACKING_URI`, or its own in the working folder."""
    library = _imported("mlflow", "mlflow")

    def send(folder: Path, record: Record) -> str:
        library.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT))
        with library.start_run(run_name=record.name):
            library.log_params(record.chosen)
            library.set_tags(record.about)
            for epoch, values in record.epochs.items():
                library.log_metrics(values, step=epoch)
            library.log_metrics(record.metrics)
        return f"mlflow ui --backend-store-uri {library.get_tracking_uri()}"

    return send


def _imported(module: str, name: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(f"logger={name}: {error}\npip install 'mfjax[{name}]'") from error


LOGGERS: dict[str, Logger] = {
    "csv": csv,
    "tensorboard": tensorboard,
    "wandb": wandb,
    "mlflow": mlflow,
}
