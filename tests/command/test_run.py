"""The command as a user runs it: what it writes, that it repeats itself, and how it ends."""

import fcntl
import itertools
import os
import re
from pathlib import Path

import numpy as np
import pytest
from commands import (
    NO_PLOTS,
    QUIET,
    Child,
    assert_refused,
    assert_succeeded,
    process,
    rows_of,
    strict_json,
)
from scipy.special import stdtrit

import mfjax
from mfjax import Hparams
from mfjax.app.folders import LOCK
from mfjax.losses import HPARAMS as OF_LOSSES
from mfjax.metrics import columns

TINY = (
    *("+exp=movielens", "epochs=2", "eval_every=1", "method.batch_size=2048", "hparams.rank=3"),
    *("sweep=none", "sweep.learning_rate=[0.01,0.02]", "sweep.reg=[0.05,0.1]"),
    "sweep.split_seed=[0,1]",
)
SAME = ("lanes.csv", "history.csv")  # to the bit, of two runs


def assert_same_factors(ours: Path, theirs: Path) -> None:
    with np.load(ours / "factors.npz") as a, np.load(theirs / "factors.npz") as b:
        assert a.files == b.files
        assert all(a[name].tobytes() == b[name].tobytes() for name in a.files)


# where it goes


def test_every_run_has_a_folder_of_its_own(succeeded, tmp_path):
    for _ in range(2):
        succeeded(tmp_path, "--run", *QUIET)  # with a flag, none is asked for (commands.py)
    folders = [path.parent.name for path in tmp_path.glob("outputs/run/*/results.json")]
    assert len(folders) == 2
    to_the_microsecond = r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d-\d{6}"
    assert all(re.fullmatch(to_the_microsecond, name) for name in folders)


@pytest.mark.parametrize("multirun", [(), ("-m",)], ids=["run", "multirun"])
def test_a_folder_that_cannot_be_written_to_is_one_message(command, tmp_path, multirun):
    folder = tmp_path / "theirs"
    folder.mkdir(mode=0o500)
    if os.access(folder, os.W_OK):  # a superuser may write everywhere but here
        folder = Path("/proc")
    place = f"hydra.{'sweep' if multirun else 'run'}.dir={folder}/out"
    done = command(tmp_path, *multirun, *QUIET, place)
    assert_refused(done, "choose a folder that can be written to")
    assert f"{folder}/out" in done.stderr


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_finished_result_stays_until_it_is_given_up(command, succeeded, tmp_path):
    succeeded(tmp_path, *QUIET, "plots.draw=true")
    before = contents(tmp_path)
    done = command(tmp_path, *QUIET, "hparams.rank=3")
    assert_refused(done, "hparams.rank: 16 there, 3 here")
    assert done.stderr.startswith("error: out/results.json is of another run\n")
    assert_refused(command(tmp_path, *QUIET), "of this very run, and finished")
    assert contents(tmp_path) == before
    succeeded(tmp_path, *QUIET, "hparams.rank=3", "overwrite=true")
    assert strict_json(tmp_path / "out/results.json")["run"]["hparams.rank"] == 3
    assert not list(tmp_path.glob("out/*.p[nd]*"))


@pytest.mark.parametrize("multirun", [(), ("-m",)], ids=["run", "multirun"])
def test_a_folder_in_which_another_run_is_at_work_is_refused(command, tmp_path, multirun):
    (tmp_path / "out").mkdir()
    with (tmp_path / "out" / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("4711")
        lock.flush()
        done = command(tmp_path, *multirun, *QUIET)
        assert_refused(done, "another run, pid 4711, is at work in")
        assert [path.name for path in (tmp_path / "out").iterdir()] == [LOCK]


# what is shown without running


@pytest.mark.parametrize("arguments", [("--help",), ("-h",), ()], ids=["--help", "-h", "nothing"])
def test_help_loads_neither_jax_nor_hydra(tmp_path, arguments):
    done = process(tmp_path, *arguments, python=("-X", "importtime", "-m", "mfjax.run"))
    modules = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert done.returncode == 0
    assert "mfjax.app.help" in modules
    heavy = {"jax", "jaxlib", "optax", "numpy", "polars", "matplotlib", "hydra", "omegaconf"}
    assert not modules & heavy
    assert "+exp=movielens" in done.stdout
    assert not any(tmp_path.iterdir())


def test_a_wrong_name_is_refused_before_anything_is_loaded(tmp_path):
    done = process(tmp_path, "method=asl", python=("-X", "importtime", "-m", "mfjax.run"))
    modules = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert done.returncode == 1
    assert not modules & {"jax", "numpy", "polars", "hydra", "omegaconf"}
    said = done.stderr.splitlines()[-1]
    assert said.startswith(
        "error: method: expected one of als, als_cg, descent, gibbs, sgd, got 'asl'"
    )
    assert not any(tmp_path.iterdir())


def test_what_hydra_cannot_read_is_refused_before_anything_slow_is_loaded(tmp_path):
    line = "data.path=ratings (1).csv"
    done = process(tmp_path, line, python=("-X", "importtime", "-m", "mfjax.run"))
    modules = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert done.returncode == 1
    assert not modules & {"jax", "numpy", "polars"}
    assert done.stderr.splitlines()[-1] == """  'data.path="ratings (1).csv"'"""
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", [(), ("+exp=movielens",)], ids=["plain", "movielens"])
def test_cfg_shows_every_key_and_leaves_nothing(command, tmp_path, arguments):
    done = command(tmp_path, "--cfg", "job", *arguments)
    assert done.returncode == 0
    assert "learning_rate: 0.02" in done.stdout
    assert not any(tmp_path.iterdir())


# a training run


@pytest.fixture(scope="module")
def trained(succeeded, tmp_path_factory):
    """(what it said, output folder): two learning rates by two λs by two splits."""
    folder = tmp_path_factory.mktemp("trained")
    return succeeded(folder, *TINY), folder / "out"


@pytest.fixture(scope="module")
def results(trained):
    return strict_json(trained[1] / "results.json")


@pytest.fixture(scope="module")
def lanes(trained):
    return rows_of(trained[1] / "lanes.csv")


def test_a_run_leaves_its_files(trained):
    folder = trained[1]
    plots = {
        f"{name}.{kind}"
        for name in ("learning_curves", "heat_map", "predictions")
        for kind in ("png", "pdf")
    }
    files = {"run.log", "results.json", "lanes.csv", "history.csv", "factors.npz"}
    files |= {"splits.parquet", "predictions.parquet"}
    assert {path.name for path in folder.iterdir()} == plots | files | {".hydra"}
    begins = {".png": b"\x89PNG", ".pdf": b"%PDF"}
    for name in plots | files:
        path = folder / name
        data = path.read_bytes()
        assert len(data) > 100
        assert data.startswith(begins.get(path.suffix, b""))
    of_hydra = {path.name for path in (folder / ".hydra").iterdir()}
    assert of_hydra == {"config.yaml", "hydra.yaml", "overrides.yaml"}
    assert "8 lanes" in (folder / "run.log").read_text()


def test_results_say_what_was_trained(results):
    assert (results["experiment"], results["status"]) == ("movielens", "finished")
    assert (results["lanes"], results["compilations"]) == (10, 1)
    assert results["diverged"] == []
    chosen = results["chosen"]
    assert chosen["learning_rate"] in (0.01, 0.02)
    assert chosen["reg"] in (0.05, 0.1)
    unread = {"split_seed", "fold", "init_seed", "momentum", "missing_weight", *OF_LOSSES}
    assert set(chosen) <= set(Hparams._fields) - unread
    conventions = {
        "missing": "ignore",
        "loss": "squared",
        "loss_scale": "half",
        "reg_by": "count",
        "bias": True,
        "clip": True,
        "dtype": "float32",
    }
    assert conventions.items() <= results["conventions"].items()
    assert results["method"]["name"] == "sgd"
    assert results["method"]["batch_size"] == 2048
    assert results["chosen_by"] == "mean validation_rmse"


def test_results_say_of_what_and_how(results):
    data = results["data"]
    sizes = {key: data[key] for key in ("users", "items", "ratings")}
    assert sizes == {"users": 671, "items": 9066, "ratings": 100_004}
    assert data["name"] == "ml-latest-small"
    assert len(data["sha256"]) == 64
    assert "80/10/10" in results["protocol"]
    assert "refit" in results["protocol"]
    seconds = dict(results["seconds"])
    parts = {"imports", "data", "compile", "train", "evaluate", "plots"}
    assert {"total", *parts} <= set(seconds)
    assert seconds.pop("checkpoints") == 0  # in a run as short as this
    assert all(0 < took <= seconds["total"] for took in seconds.values())
    assert sum(seconds[part] for part in parts) <= seconds["total"]


def test_results_say_where_they_come_from(results):
    origin = results["provenance"]
    assert all(origin["versions"].values())
    assert origin["git_commit"] is None or len(origin["git_commit"]) == 40
    devices = origin["devices"]
    assert devices["count"] >= 1
    assert devices["kind"]
    assert devices["backend"]
    assert origin["platform"]
    assert origin["x64"] is False
    assert origin["command"][1 : len(TINY) + 1] == list(TINY)


def test_the_metrics_are_means_over_the_splits_with_corrected_t_intervals(results, lanes):
    refit = [lane for lane in lanes if lane["role"] == "refit"]
    swept = [lane for lane in lanes if lane["role"] == "sweep" and lane["chosen"] == "true"]
    assert list(results["metrics"]) == columns("train", "validation", "test")
    for column, interval in results["metrics"].items():
        of_validation = column.startswith("validation_")
        values = [float(lane[column]) for lane in (swept if of_validation else refit)]
        mean = np.mean(values)
        overlap = 10_000 / 80_004 if of_validation else 10_000 / 90_004
        half = stdtrit(1, 0.975) * np.std(values, ddof=1) * np.sqrt(1 / 2 + overlap)
        expected = {"mean": mean, "low": mean - half, "high": mean + half, "n": 2}
        assert interval == pytest.approx(expected)
    assert results["interval_over"] == "2 splits (split_seed)"
    assert "corrected resampled variance (Nadeau and Bengio 2003)" in results["protocol"]
    global_mean = results["baselines"]["global mean"]["mean"]
    assert 0.8 < results["metrics"]["test_rmse"]["mean"] < global_mean


def test_a_row_a_lane_and_only_the_chosen_are_tested(results, lanes):
    assert [int(lane["lane"]) for lane in lanes] == list(range(10))
    assert results["lanes"] == len(lanes)
    assert set(Hparams._fields) <= set(lanes[0])
    swept, refit = lanes[:8], lanes[8:]
    assert {lane["role"] for lane in swept} == {"sweep"}
    assert {lane["role"] for lane in refit} == {"refit"}
    asked = {(lane["learning_rate"], lane["reg"], lane["split_seed"]) for lane in swept}
    assert len(asked) == 8
    for lane in lanes:
        is_refit = lane["role"] == "refit"
        assert bool(lane["test_rmse"]) == bool(lane["test_mae"]) == is_refit
        chosen = results["chosen"].items()
        is_chosen = all(float(lane[key]) == value for key, value in chosen)
        assert (lane["chosen"] == "true") == is_chosen
        assert lane["status"] == "finished"
    assert [(lane["split_seed"], lane["fold"]) for lane in refit] == [("0", "-2"), ("1", "-2")]


def test_validation_chooses(results, lanes):
    scores = {}
    for lane in lanes[:8]:
        setting = float(lane["learning_rate"]), float(lane["reg"])
        scores.setdefault(setting, []).append(float(lane["validation_rmse"]))
    best = min(scores, key=lambda setting: np.mean(scores[setting]))
    assert best == (results["chosen"]["learning_rate"], results["chosen"]["reg"])


def test_the_history_agrees_with_the_lanes(trained, lanes):
    history = rows_of(trained[1] / "history.csv")
    assert len(history) == sum(int(lane["epochs"]) for lane in lanes)
    of_epoch = {(row["lane"], row["epoch"]): row for row in history}
    for lane in lanes:
        row = of_epoch[lane["lane"], lane["best_epoch"]]
        for column in ("train_rmse", "train_mae", "validation_rmse", "validation_mae"):
            assert row[column] == lane[column]


def test_the_saved_model_has_the_reported_test_error(trained, lanes):
    model = mfjax.load(trained[1])
    data = mfjax.read("bundled:ml-latest-small")
    test = mfjax.SPLITS["random"](data, 0).test == 0
    users = data.user_ids[data.user[test]].tolist()
    items = data.item_ids[data.item[test]].tolist()
    error = model.predict(users, items) - data.value[test]
    rmse = np.sqrt(np.mean(error**2))
    assert rmse == pytest.approx(float(lanes[8]["test_rmse"]), rel=1e-6)
    assert np.mean(np.abs(error)) == pytest.approx(float(lanes[8]["test_mae"]), rel=1e-6)


def test_what_to_try_is_remarked_in_a_line_each(trained, results):
    chosen = results["chosen"]
    ends = {f"{key}={chosen[key]:g} is the" for key in ("learning_rate", "reg")}
    at_ends = [line for line in results["remarks"] if "of its axis: try" in line]
    assert {line[: line.index(" the") + 4] for line in at_ends} == ends
    assert all(f"Remark: {line}" in trained[0].stdout for line in results["remarks"])


def test_the_terminal_shows_the_result(trained, results):
    done, folder = trained
    assert f"{results['metrics']['test_rmse']['mean']:.5f}" in done.stdout
    assert "item mean" in done.stdout
    assert f"Files: {folder}" in done.stdout
    assert done.stderr == ""


EVERY = ("ignore", "item_mean", "zero")
TRAINED = [("sgd", "ignore"), *itertools.product(("descent", "als", "als_cg"), EVERY)]
OWN = {"descent": ("optimizer=adam",)}  # else it diverges


@pytest.mark.slow
@pytest.mark.parametrize("method, missing", TRAINED)
def test_one_device_gives_the_bits_of_two(tmp_path, method, missing):
    on_one_and_two_devices(tmp_path, method, missing, "sweep.reg=[0.05,0.1,0.2]")
    for name in SAME:
        one, two = (tmp_path / f"on_{devices}" / name for devices in (1, 2))
        assert one.read_bytes() == two.read_bytes()
    assert_same_factors(tmp_path / "on_1", tmp_path / "on_2")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sgd", "descent", "als", "als_cg"])
def test_a_lane_alone_has_the_factors_of_one_device_where_missing_entries_are_ignored(
    tmp_path, method
):
    on_one_and_two_devices(tmp_path, method, "ignore", "refit=false")
    assert_same_factors(tmp_path / "on_1", tmp_path / "on_2")


def on_one_and_two_devices(tmp_path, method, missing, *more):
    """Trains in on_1 and in on_2."""
    asked = (f"method={method}", f"missing={missing}", *OWN.get(method, ()))
    small = ("+exp=movielens", "sweep=none", "epochs=3", "eval_every=1", "hparams.rank=8", NO_PLOTS)
    for devices in (1, 2):
        place = (f"devices={devices}", f"hydra.run.dir=on_{devices}")
        assert_succeeded(process(tmp_path, *small, *asked, "replicates=1", *more, *place))


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 3])
def test_the_same_command_gives_the_same_bits_on_any_number_of_devices(trained, tmp_path, devices):
    assert_succeeded(process(tmp_path, *TINY, NO_PLOTS, f"devices={devices}"))
    assert not list(tmp_path.glob("out/*.p[nd]*"))
    for name in SAME:
        assert (tmp_path / "out" / name).read_bytes() == (trained[1] / name).read_bytes()
    assert_same_factors(tmp_path / "out", trained[1])


def test_descent_with_adam(succeeded, tmp_path):
    asked = ("method=descent", "optimizer=adam", "hparams.learning_rate=0.05", "epochs=30")
    succeeded(tmp_path, *QUIET, *asked)
    results = strict_json(tmp_path / "out/results.json")
    assert results["method"]["name"] == "descent"
    assert results["method"]["optimizer"]["name"] == "adam"
    assert results["experiment"] == "run"
    assert results["metrics"]["test_rmse"]["n"] == 1
    rows = rows_of(tmp_path / "out/history.csv")
    losses = [float(row["loss"]) for row in rows if row["lane"] == "0"]
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.slow
def test_programs_are_kept_from_run_to_run(tmp_path):
    cache = tmp_path / "cache"
    child = Child(XDG_CACHE_HOME=str(cache))

    def run():
        assert_succeeded(child(tmp_path, *QUIET, "hparams.rank=3", "overwrite=true"))
        kept = {path.name for path in cache.rglob("jit__train_chunk-*")}
        return kept, (tmp_path / "out/lanes.csv").read_bytes()

    first = run()
    again = run()
    child.close()
    assert first[0]
    assert again == first


# runs that diverge


def test_a_diverging_lane_is_reported_and_the_others_finish(succeeded, tmp_path):
    done = succeeded(tmp_path, *QUIET, "sweep.learning_rate=[0.02,1e9,0.01]")
    results = strict_json(tmp_path / "out/results.json")
    assert results["status"] == "finished"
    assert results["chosen"]["learning_rate"] < 1
    assert [lane["learning_rate"] for lane in results["diverged"]] == [1e9]
    assert "warning: diverged at epoch" in done.stdout
    assert "learning_rate=1e+09" in done.stdout
    lanes = rows_of(tmp_path / "out/lanes.csv")
    (bad,) = [lane for lane in lanes if lane["status"].startswith("diverged")]
    assert float(bad["learning_rate"]) == 1e9
    assert bad["chosen"] == "false"
    assert not bad["test_rmse"]


def test_a_run_in_which_all_diverge_fails_and_says_what_to_try(command, tmp_path):
    done = command(tmp_path, *QUIET, "sweep.learning_rate=[1e9,1e10,1e11]")
    assert_refused(done, "every setting diverged")
    assert "try a learning rate below 1e+09" in done.stderr
    assert strict_json(tmp_path / "out/results.json")["status"] == "diverged"
    assert len(rows_of(tmp_path / "out/lanes.csv")) == 3


# how it refuses; what, is in units/test_refusals.py


@pytest.mark.parametrize(
    "line, message",
    [
        ("epocks=3", "unknown key epocks; did you mean epochs"),
        ("epochs=0", "epochs: expected an integer from 1 to 100000000, got 0"),
        ("data.path=no.csv", "no.csv: file not found"),
        ("method=als hparams.reg=0", "method=als with hparams.reg=0: user "),
    ],
)
def test_a_wrong_input_is_one_short_message(command, tmp_path, line, message):
    done = command(tmp_path, *line.split(" "))
    assert_refused(done, message)
    assert all(
        said.startswith(("Data: ", "Kernel: ", "  ")) for said in done.stdout.split("\n") if said
    )


def test_a_platform_that_is_not_there_is_refused(tmp_path):
    done = process(tmp_path, "platform=nope")
    assert_refused(done, "platform=nope: jax finds no such device")


def test_debug_shows_the_traceback(command, tmp_path):
    done = command(tmp_path, "data.path=no.csv", "debug=true")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "reading.py" in done.stderr
    assert "error: no.csv: file not found" in done.stderr
