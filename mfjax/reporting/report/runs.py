"""Finished runs, as their folders have them: what was measured, fold by fold, and how."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mfjax.errors import InputError
from mfjax.metrics import label, metric_of, part_of
from mfjax.training.whole import read_json

if TYPE_CHECKING:
    import polars as pl

RESULTS = "results.json"
SPLITS = "splits.parquet"
LANES = "lanes.csv"
WANTED = "expected the output folder of a finished training run, or of job=compare"
APART = ("bags: ", "intervals: ", "not tested", "all are tested")  # of a protocol: no split
AS_READ = "ratings as read"  # a digest that other machines may not have
COLD = ("_warm", "_cold")  # of a column: that of test ratings with or without a rating before them


class Fold(NamedTuple):
    """Ratings that were tested, and the errors on them.

    Args:
      place: in words, such as `split_seed 0, test_fold 0`.
      overlap: ratings tested for one trained on.
      values: by column, each a mean over the fits of this fold; NaN where it was not measured.
    """

    place: str
    overlap: float
    values: Mapping[str, float]


class Run(NamedTuple):
    """A finished run.

    Args:
      name: that tells it from others.
      folder: that it was read from.
      results: of its results.json.
      ratings: SHA-256 of the ratings as they were read.
      folds: by the SHA-256 of which ratings are tested; runs of the same data and splits share it.
    """

    name: str
    folder: Path
    results: Mapping[str, Any]
    ratings: str
    folds: Mapping[str, Fold]


# which folders


def read_runs(arguments: Sequence[str]) -> list[Run]:
    """The runs of a command line.

    Args:
      arguments: each `FOLDER` or `NAME=FOLDER`; a folder of `job=compare` stands for its variants.

    Returns:
      The runs in their order; one without a name is called by the shortest end of its path that no
      other has.

    Raises:
      InputError: a folder is of no finished training run, is given twice, or one of its files is
        damaged; or two runs have the same name.
    """
    given = [place for argument in arguments for place in _places(argument)]
    folders = [folder.resolve() for _, folder in given]
    _refuse_twice(folders, "a run is given twice: {}")
    names = [name or end for (name, _), end in zip(given, _distinct_ends(folders), strict=True)]
    _refuse_twice(names, "two runs are called {}; say NAME=FOLDER")
    return [_read(name, folder) for name, (_, folder) in zip(names, given, strict=True)]


def _places(argument: str) -> Iterator[tuple[str, Path]]:
    """The name, empty where none is given, and the folder of each run of an argument."""
    whole = Path(argument).expanduser()
    name, said, folder = argument.partition("=")
    is_named = bool(said) and not whole.exists()
    place = Path(folder).expanduser() if is_named else whole
    own_name = name if is_named else ""
    variants = _results_of(place).get("figures", {}) if _is_compared(place) else {}
    if not variants:
        yield own_name, place
    for variant in variants:
        yield (f"{own_name}/{variant}" if is_named else ""), place / variant


def _is_compared(folder: Path) -> bool:
    return _results_of(folder).get("run", {}).get("job.name") == "compare"


def _distinct_ends(folders: Sequence[Path]) -> list[str]:
    """The shortest end of each path that no other has."""

    def end(folder: Path) -> str:
        tails = ["/".join(folder.parts[-count:]) for count in range(1, len(folder.parts) + 1)]
        others = [f"/{other}" for other in folders if other != folder]
        alone = (tail for tail in tails if not any(one.endswith(f"/{tail}") for one in others))
        return next(alone, str(folder))

    return [end(folder) for folder in folders]


def _refuse_twice(values: Sequence[Any], message: str) -> None:
    for value in values:
        if values.count(value) > 1:
            raise InputError(message.format(value))


# one folder


def _results_of(folder: Path) -> dict[str, Any]:
    path = folder / RESULTS
    if not path.is_file():
        of_jobs = f" (of a multirun, its jobs: {folder}/*/)"
        hint = of_jobs if (folder / "sweep.csv").is_file() else ""
        raise InputError(f"{folder}: no {RESULTS}; {WANTED}{hint}")
    return read_json(path)


def _read(name: str, folder: Path) -> Run:
    results = _results_of(folder)
    if "chosen_by" not in results and results.get("status") == "finished":
        raise InputError(f"{folder}: it trained nothing; {WANTED}")
    if results.get("status") != "finished":
        reason = str(results.get("reason", "it did not finish")).splitlines()[0]
        raise InputError(f"{folder}: {reason}; {WANTED}")
    splits = _splits_of(folder)
    hashes = splits.select("user", "item", "rating").hash_rows().to_numpy()
    ratings = hashlib.sha256(hashes.tobytes()).hexdigest()
    if "tests" not in results:
        raise InputError(f"{folder}: {RESULTS} is of another version of mfjax; run it again")
    seeds = {row["split_seed"] for row in results["tests"]}
    if missing := {f"test_{seed}" for seed in seeds} - set(splits.columns):
        raise InputError(
            f"{folder}: {SPLITS} has no {', '.join(sorted(missing))}, so that it is not of the run "
            f"of {RESULTS}\nrun it again"
        )
    return Run(name, folder, results, ratings, _folds(results["tests"], splits, ratings))


def _splits_of(folder: Path) -> "pl.DataFrame":
    import polars as pl

    path = folder / SPLITS
    if not path.is_file():
        raise InputError(f"{folder}: no {SPLITS}, which says what folds are the same; {WANTED}")
    try:
        return pl.read_parquet(path)
    except pl.exceptions.PolarsError as error:
        raise InputError(f"{path} is damaged: {error}\nrun it again") from error


def _folds(
    rows: Sequence[Mapping[str, Any]], splits: "pl.DataFrame", ratings: str
) -> dict[str, Fold]:
    """The final fits by the ratings that they were tested on."""
    fits: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        is_tested = splits[f"test_{row['split_seed']}"] == row["test_fold"]
        packed = np.packbits(is_tested.to_numpy()).tobytes()
        digest = hashlib.sha256(ratings.encode() + packed).hexdigest()
        fits.setdefault(digest, []).append(row)
    return {digest: _fold(of_fold, splits) for digest, of_fold in fits.items()}


def _fold(rows: Sequence[Mapping[str, Any]], splits: "pl.DataFrame") -> Fold:
    first = rows[0]
    overlaps = [row["test_ratings"] / _trained(row, splits) for row in rows]
    measured = [column for column in first if part_of(metric_column(column)) == "test"]
    values = {column: [_number(row[column]) for row in rows] for column in measured}
    return Fold(
        place=f"split_seed {first['split_seed']}, test_fold {first['test_fold']}",
        overlap=float(np.mean(overlaps)),
        values={column: float(np.mean(of_fits)) for column, of_fits in values.items()},
    )


def _trained(row: Mapping[str, Any], splits: "pl.DataFrame") -> int:
    """How many ratings a fit was trained on: those not tested, but for what it held out."""
    seed = row["split_seed"]
    is_held_out = (splits[f"fold_{seed}"] == row["fold"]) & (
        splits[f"test_{seed}"] != row["test_fold"]
    )
    return row["train_ratings"] - int(is_held_out.sum())


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def swept_lanes(run: Run) -> list[dict[str, Any]]:
    """The rows of a run's lanes.csv that are of its sweep, None where one has no value."""
    import polars as pl

    path = run.folder / LANES
    if not path.is_file():
        raise InputError(f"{run.folder}: no {LANES}; {WANTED}")
    return pl.read_csv(path, infer_schema_length=None).filter(pl.col("role") == "sweep").to_dicts()


def seconds_of(run: Run) -> float:
    """The seconds in which a run was compiled and trained, all of its lanes."""
    seconds = run.results["seconds"]
    return seconds["compile"] + seconds["train"]


def are_timed_alike(runs: Sequence[Run]) -> bool:
    """Whether the seconds of runs can be compared: each had the same devices for itself."""
    alone = all(run.results.get("trained_together", 1) == 1 for run in runs)
    return alone and len(set(map(device_of, runs))) == 1


def device_of(run: Run) -> str:
    """What a run was computed on, in words."""
    provenance = run.results["provenance"]
    devices, cpu = provenance["devices"], provenance["cpu"]
    return f"{devices['count']} × {devices['kind']}, {cpu['model']}"


# columns


def chosen_by(run: Run) -> str:
    """The column that chose the setting of a run."""
    return run.results["chosen_by"].removeprefix("mean ")


def metric_column(column: str) -> str:
    """The column of all test ratings, of one that may be of the warm or the cold among them."""
    for end in COLD:
        column = column.removesuffix(end)
    return column


def column_label(column: str) -> str:
    """What a reader calls a column: `test RMSE`, or `test RMSE, cold`."""
    whole = metric_column(column)
    of_part = column.removeprefix(whole).replace("_", ", ")
    return label(whole) + of_part


def sign_of(column: str) -> int:
    """What to multiply a value of a column by, so that lower is better."""
    return metric_of(metric_column(column)).sign


def column_of(runs: Sequence[Run], asked: str | None) -> str:
    """The column to report: as asked, else of the metric that chose in every run.

    Raises InputError where the runs chose by several, or one has no such column.
    """
    metrics = sorted({chosen_by(run).partition("_")[2] for run in runs})
    if asked is None and len(metrics) > 1:
        named = ", ".join(f"test_{metric}" for metric in metrics)
        raise InputError(f"the runs chose by several metrics; say --metric, such as {named}")
    column = asked or f"test_{metrics[0]}"
    for run in runs:
        _refuse_unmeasured(run, column)
    return column


def _refuse_unmeasured(run: Run, column: str) -> None:
    if not run.folds:
        raise InputError(
            f"{run.name}: not tested, since the test ratings are looked at once, by what is chosen"
            "\ntest=all tests every job and every variant"
        )
    measured = _in_all(fold.values for fold in run.folds.values())
    if column not in measured:
        raise InputError(f"{run.name}: no {column}; it has {', '.join(measured)}")


def _in_all(values: Iterable[Mapping[str, float]]) -> list[str]:
    """The keys that all have, in the order of the first."""
    first, *others = values
    return [key for key in first if all(key in other for other in others)]


# what must agree side by side


def facts(run: Run) -> dict[str, str]:
    """What two runs must share to be compared, in words, by what it is."""
    results = run.results
    data = results["data"]
    config = results["run"]
    shape = f"{data['users']:,} users × {data['items']:,} items, {data['ratings']:,} ratings"
    weights = {"weights": config["data.weight"]} if config.get("data.weight") else {}
    implicit = data.get("implicit")
    made_of = {"implicit": f"ratings from {implicit['least']:g} on, as 1"} if implicit else {}
    conventions = dict(results["conventions"])
    clipping = _clipping(conventions.pop("clip"))
    return {
        "data": f"{data['name']}, {shape}, SHA-256 {data['sha256'][:8]}",
        AS_READ: run.ratings[:8],
        **{key: str(value) for key, value in (weights | made_of).items()},
        "protocol": protocol_of(run),
        "chosen by": f"{results['chosen_by']}, choose={config['choose']}",
        "clipping": clipping,
        **{key: _plain(value) for key, value in conventions.items()},
    }


def protocol_of(run: Run) -> str:
    """How the ratings were split and the chosen setting trained, in words."""
    return "; ".join(part for part in _protocol(run) if not part.startswith(APART))


def remarks_of(run: Run) -> list[str]:
    """What else the protocol says that a reader must know, of the tests."""
    return [part for part in _protocol(run) if part.startswith(APART[2:])]


def _protocol(run: Run) -> list[str]:
    return run.results["protocol"].split("; ")


def _clipping(clip: Any) -> str:
    if isinstance(clip, bool):
        return "to the range of the ratings that are not tested" if clip else "none"
    low, high = clip
    return f"to [{low:g}, {high:g}]"


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
