"""The command as a user runs it: what it writes, that it repeats itself to the bit, and how it refuses."""

import csv
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.special import stdtrit

import mfjax
from mfjax.gradients import GRADIENTS
from mfjax.types import Hparams

TINY = (
    *("+exp=movielens", "epochs=2", "eval_every=1", "batch_size=2048", "hparams.rank=3"),
    *(
        "sweep=none",
        "sweep.learning_rate=[0.01,0.02]",
        "sweep.reg=[0.05,0.1]",
        "sweep.split_seed=[0,1]",
    ),
)
SMALL = (
    "data=synthetic",
    "data.num_users=40",
    "data.num_items=30",
    "data.num_ratings=300",
    "data.rank=2",
    "epochs=3",
)


def command(folder, *arguments, python=("-m", "mfjax.run")):
    """A finished process of the command, its working directory `folder` and its results in `folder/out`."""
    given = any(
        argument.startswith(("--", "hydra.run.dir=", "hydra.sweep.dir=")) for argument in arguments
    )
    place = () if given else ("hydra.run.dir=out",)
    done = subprocess.run(
        [sys.executable, *python, *arguments, *place],
        cwd=folder,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=300,
        check=False,
    )
    assert done.returncode in (0, 1, 2), done.stderr
    return done


def succeeded(folder, *arguments):
    done = command(folder, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def strict_json(path):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(path.read_text(), parse_constant=refuse)


def rows_of(path):
    with path.open() as file:
        return list(csv.DictReader(file))


# where it goes


def test_runs_of_one_second_have_folders_of_their_own(tmp_path):
    command = [sys.executable, "-m", "mfjax.run", *SMALL, "plots=false"]
    two = [subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(100) for process in two] == [0, 0]
    assert len(list(tmp_path.glob("outputs/run/*/results.json"))) == 2


@pytest.mark.parametrize("multirun", [(), ("-m",)], ids=["run", "multirun"])
def test_a_folder_that_cannot_be_written_to_is_one_message(tmp_path, multirun):
    folder = tmp_path / "theirs"
    folder.mkdir(mode=0o500)
    if os.access(folder, os.W_OK):  # a superuser may write everywhere but here
        folder = Path("/proc")
    place = f"hydra.{'sweep' if multirun else 'run'}.dir={folder}/out"
    done = command(tmp_path, *multirun, *SMALL, place)
    assert done.returncode == 1 and "choose a folder that can be written to" in done.stderr
    assert f"{folder}/out" in done.stderr and "Traceback" not in done.stderr


# what is shown without running


@pytest.mark.parametrize(
    "arguments", [("--help",), ("--cfg", "job"), ("--cfg", "job", "+exp=movielens")], ids=" ".join
)
def test_looking_loads_no_jax(tmp_path, arguments):
    done = command(tmp_path, *arguments, python=("-X", "importtime", "-m", "mfjax.run"))
    modules = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert done.returncode == 0 and {"mfjax.app.build", "hydra.main"} <= modules
    assert not modules & {"jax", "jaxlib", "optax", "polars", "matplotlib"}
    assert ("+exp=movielens" if "--help" in arguments else "learning_rate: 0.02") in done.stdout
    assert not any(tmp_path.iterdir())


# a training run


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(process, output folder) of the tiny sweep: two learning rates by two λs by two splits."""
    folder = tmp_path_factory.mktemp("trained")
    return succeeded(folder, *TINY), folder / "out"


@pytest.fixture(scope="module")
def summary(trained):
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
    assert {p.name for p in folder.iterdir()} == plots | {
        *(".hydra", "run.log", "results.json", "lanes.csv", "history.csv", "factors.npz")
    }
    for path in folder.iterdir():
        data = b"" if path.is_dir() else path.read_bytes()
        assert path.is_dir() or len(data) > 100
        assert path.suffix not in (".png", ".pdf") or data.startswith(
            {".png": b"\x89PNG", ".pdf": b"%PDF"}[path.suffix]
        )
    assert {p.name for p in (folder / ".hydra").iterdir()} == {
        "config.yaml",
        "hydra.yaml",
        "overrides.yaml",
    }
    assert "8 lanes" in (folder / "run.log").read_text()


def test_results_say_everything(summary):
    assert summary["experiment"] == "movielens" and summary["status"] == "finished"
    assert summary["lanes"] == 10 and summary["compilations"] == 1 and summary["diverged"] == []
    assert summary["chosen"]["learning_rate"] in (0.01, 0.02) and summary["chosen"]["reg"] in (
        0.05,
        0.1,
    )
    assert set(summary["chosen"]) <= set(Hparams._fields) - {
        "split_seed",
        "fold",
        "seed",
        "momentum",
        "missing_weight",
    }
    conventions = {
        "missing": "ignore",
        "loss_scale": "half",
        "reg_by": "count",
        "bias": True,
        "clip": True,
        "dtype": "float32",
    }
    assert conventions.items() <= summary["conventions"].items()
    data = summary["data"]
    assert {k: data[k] for k in ("users", "items", "ratings")} == {
        "users": 671,
        "items": 9066,
        "ratings": 100_004,
    }
    assert data["name"] == "ml-latest-small" and len(data["sha256"]) == 64
    assert "80/10/10" in summary["protocol"] and "refit" in summary["protocol"]
    assert {"total", "data", "compile", "train", "evaluate"} <= set(summary["seconds"])
    assert summary["seconds"].pop("checkpoints") == 0  # in a run as short as this
    assert all(0 < s <= summary["seconds"]["total"] for s in summary["seconds"].values())


def test_results_say_where_they_come_from(summary):
    origin = summary["provenance"]
    assert set(origin["versions"]) == {"mfjax", "jax", "jaxlib", "optax", "numpy"} and all(
        origin["versions"].values()
    )
    assert origin["git_commit"] is None or len(origin["git_commit"]) == 40
    assert (
        origin["devices"]["count"] >= 1
        and origin["devices"]["kind"]
        and origin["devices"]["backend"]
    )
    assert (
        origin["platform"]
        and origin["x64"] is False
        and origin["command"][-len(TINY) - 1 : -1] == list(TINY)
    )


def test_the_metrics_are_means_over_the_splits_with_t_intervals(summary, lanes):
    refit = [lane for lane in lanes if lane["role"] == "refit"]
    swept = [lane for lane in lanes if lane["role"] == "sweep" and lane["chosen"] == "true"]
    assert set(summary["metrics"]) == {"train_rmse", "validation_rmse", "test_rmse", "test_mae"}
    for metric, of in summary["metrics"].items():
        values = [float(lane[metric]) for lane in (swept if metric == "validation_rmse" else refit)]
        half = stdtrit(1, 0.975) * np.std(values, ddof=1) / np.sqrt(2)
        expected = {
            "mean": np.mean(values),
            "low": np.mean(values) - half,
            "high": np.mean(values) + half,
            "n": 2,
        }
        assert of == pytest.approx(expected)
    assert (
        0.8 < summary["metrics"]["test_rmse"]["mean"] < summary["baselines"]["global mean"]["mean"]
    )


def test_a_row_a_lane_and_only_the_chosen_are_tested(summary, lanes):
    assert len(lanes) == summary["lanes"] and [int(lane["lane"]) for lane in lanes] == list(
        range(10)
    )
    assert set(Hparams._fields) <= set(lanes[0])
    swept, refit = lanes[:8], lanes[8:]
    assert {lane["role"] for lane in swept} == {"sweep"} and {lane["role"] for lane in refit} == {
        "refit"
    }
    assert len({(lane["learning_rate"], lane["reg"], lane["split_seed"]) for lane in swept}) == 8
    for lane in lanes:
        assert bool(lane["test_rmse"]) == bool(lane["test_mae"]) == (lane["role"] == "refit")
        is_chosen = all(float(lane[key]) == value for key, value in summary["chosen"].items())
        assert (lane["chosen"] == "true") == is_chosen and lane["status"] == "finished"
    assert [(lane["split_seed"], lane["fold"]) for lane in refit] == [("0", "-2"), ("1", "-2")]


def test_validation_chooses(summary, lanes):
    means = {}
    for lane in lanes[:8]:
        means.setdefault((float(lane["learning_rate"]), float(lane["reg"])), []).append(
            float(lane["validation_rmse"])
        )
    best = min(means, key=lambda setting: np.mean(means[setting]))
    assert best == (summary["chosen"]["learning_rate"], summary["chosen"]["reg"])


def test_the_history_agrees_with_the_lanes(trained, lanes):
    history = rows_of(trained[1] / "history.csv")
    assert len(history) == sum(int(lane["epochs"]) for lane in lanes)
    at = {(row["lane"], row["epoch"]): row for row in history}
    for lane in lanes:
        row = at[lane["lane"], lane["best_epoch"]]
        assert [row[m] for m in ("train_rmse", "validation_rmse")] == [
            lane[m] for m in ("train_rmse", "validation_rmse")
        ]


def test_the_saved_model_has_the_reported_test_error(trained, lanes):
    model, data = mfjax.load(trained[1]), mfjax.SOURCES["file"]("bundled:ml-latest-small")
    test = mfjax.SPLITS["random"](len(data.value), 0).test
    error = (
        model.predict(data.user_ids[data.user[test]], data.item_ids[data.item[test]])
        - data.value[test]
    )
    assert np.sqrt(np.mean(error**2)) == pytest.approx(float(lanes[8]["test_rmse"]), rel=1e-6)
    assert np.mean(np.abs(error)) == pytest.approx(float(lanes[8]["test_mae"]), rel=1e-6)


def test_the_terminal_shows_the_result(trained, summary):
    out = trained[0].stdout
    assert (
        f"{summary['metrics']['test_rmse']['mean']:.5f}" in out
        and "item mean" in out
        and "Files: " in out
    )
    assert trained[0].stderr == ""


@pytest.mark.parametrize("devices", [1, 3])
def test_the_same_command_gives_the_same_bits_on_any_number_of_devices(trained, tmp_path, devices):
    succeeded(tmp_path, *TINY, "plots=false", f"devices={devices}")
    assert not list(tmp_path.glob("out/*.p[nd]*"))
    for name in ("lanes.csv", "history.csv"):
        assert (tmp_path / "out" / name).read_bytes() == (trained[1] / name).read_bytes()
    again, before = (np.load(folder / "factors.npz") for folder in (tmp_path / "out", trained[1]))
    with again, before:
        assert again.files == before.files
        assert all(again[name].tobytes() == before[name].tobytes() for name in again.files)


def test_descent_with_adam(tmp_path):
    succeeded(
        tmp_path,
        *SMALL,
        "method=descent",
        "optimizer=adam",
        "hparams.learning_rate=0.05",
        "epochs=30",
        "plots=false",
    )
    summary, history = (
        strict_json(tmp_path / "out/results.json"),
        rows_of(tmp_path / "out/history.csv"),
    )
    assert (
        summary["method"]["name"] == "descent" and summary["method"]["optimizer"]["name"] == "adam"
    )
    assert summary["experiment"] == "run" and summary["metrics"]["test_rmse"]["n"] == 1
    losses = [float(row["loss"]) for row in history if row["lane"] == "0"]
    assert losses[-1] < 0.7 * losses[0]


def test_programs_are_kept_from_run_to_run_unless_told_otherwise(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    kept = lambda: {path.name for path in (tmp_path / "cache").rglob("jit__block-*")}  # noqa: E731
    run = (*SMALL, "plots=false", "hparams.rank=3")
    succeeded(tmp_path, *run, "compilation_cache=false")
    assert not (tmp_path / "cache" / "mfjax").exists()
    succeeded(tmp_path, *run)
    first, lanes = kept(), (tmp_path / "out/lanes.csv").read_bytes()
    succeeded(tmp_path, *run)
    assert first and kept() == first and (tmp_path / "out/lanes.csv").read_bytes() == lanes


def test_a_diverging_lane_is_reported_and_the_others_finish(tmp_path):
    done = succeeded(tmp_path, *SMALL, "sweep.learning_rate=[0.02,1e9,0.01]", "plots=false")
    summary, lanes = strict_json(tmp_path / "out/results.json"), rows_of(tmp_path / "out/lanes.csv")
    assert summary["status"] == "finished" and summary["chosen"]["learning_rate"] < 1
    assert [lane["learning_rate"] for lane in summary["diverged"]] == [1e9]
    assert "warning: diverged at epoch" in done.stdout and "learning_rate=1e+09" in done.stdout
    (bad,) = [lane for lane in lanes if lane["status"].startswith("diverged")]
    assert float(bad["learning_rate"]) == 1e9 and bad["chosen"] == "false" and not bad["test_rmse"]


def test_a_run_in_which_all_diverge_fails_and_says_what_to_try(tmp_path):
    done = command(tmp_path, *SMALL, "sweep.learning_rate=[1e9,1e10]")
    assert done.returncode == 1 and "Traceback" not in done.stdout + done.stderr
    assert (
        "every setting diverged" in done.stderr and "try a learning rate below 1e+09" in done.stderr
    )
    assert strict_json(tmp_path / "out/results.json")["status"] == "diverged"
    assert len(rows_of(tmp_path / "out/lanes.csv")) == 2


# gradients


def test_gradients_writes_the_comparison(tmp_path):
    tiny = (
        "data=synthetic",
        "data.num_users=40",
        "data.num_items=30",
        "data.num_ratings=300",
        "check.shares=[1.0]",
    )
    succeeded(tmp_path, "+exp=gradients", *tiny, "check.repeats=2")
    rows = rows_of(tmp_path / "out/gradients.csv")
    assert [row["gradient"] for row in rows] == list(GRADIENTS)
    for row in rows:
        assert max(float(row["error_user"]), float(row["error_item"])) <= 1e-9
        assert row["status"] == ("oracle" if row["gradient"] == "numerical" else "ok")
        assert min(float(row[column]) for column in ("ms", "compile_s", "temp_bytes", "flops")) > 0
    assert (tmp_path / "out/gradients.md").read_text().count("\n") == len(rows) + 2
    assert r"\begin{tabular}" in (tmp_path / "out/gradients.tex").read_text()
    assert (tmp_path / "out/gradients.png").stat().st_size > 1000 and (
        tmp_path / "out/gradients.pdf"
    ).exists()
    assert set(strict_json(tmp_path / "out/results.json")["variants"]) == set(GRADIENTS)


def test_the_published_check_passes(tmp_path):
    assert "FAILED" not in succeeded(tmp_path, "+exp=gradient_check").stdout


def test_the_draft_is_caught_and_the_entries_named(tmp_path):
    done = command(tmp_path, "+exp=draft")
    assert (
        done.returncode == 2
        and "disagrees at user[" in done.stdout
        and "disagrees at item[" in done.stdout
    )
    assert "Traceback" not in done.stderr
    right, wrong = rows_of(tmp_path / "out/gradients.csv")
    assert (right["status"], wrong["status"]) == ("ok", "FAILED")
    assert (
        max(float(right["own_checker"]), float(wrong["own_checker"])) < 1e-6
    )  # the draft's own checker sees nothing


SMALLEST = ("check.small_users=3", "check.small_items=3", "check.small_rank=2")
OWN = """
def loss(user, item, ratings, mask, reg):
    return (mask * (user @ item.T - ratings) ** 2).sum() / 2 + reg * ((user**2).sum() + (item**2).sum()) / 2

def right(user, item, ratings, mask, reg):
    residual = mask * (user @ item.T - ratings)
    return residual @ item + reg * user, residual.T @ user + reg * item

def wrong(user, item, ratings, mask, reg):
    du, dv = right(user, item, ratings, mask, reg)
    dv[2, 1] += 1e-3
    return du, dv
"""


@pytest.mark.parametrize(
    "function, loss, code, says",
    [
        ("right", ["check.candidate.loss=mine.py:loss"], 0, "ok"),
        (
            "right",
            ["bias=false", "reg_by=row", *SMALLEST],
            0,
            "ok",
        ),  # against mfjax's own loss, in these conventions
        ("wrong", ["check.candidate.loss=mine.py:loss"], 2, "disagrees at item[2, 1]"),
    ],
    ids=["right", "right for mfjax", "wrong"],
)
def test_a_users_own_gradient(tmp_path, function, loss, code, says):
    (tmp_path / "mine.py").write_text(OWN)
    own = ("job=gradients", "check.gradients=[]", f"check.candidate.gradient=mine.py:{function}")
    done = command(tmp_path, *own, *loss)
    assert done.returncode == code and says in done.stdout, done.stdout + done.stderr


# wrong inputs

FILES = {
    "fine.csv": b"user,item,rating\n1,2,3\n1,3,4\n2,2,4\n",
    "word.csv": b"user,item,rating\n1,2,3\n1,3,good\n",
    "nan.csv": b"user,item,rating\n1,2,3\n1,3,nan\n",
    "twice.csv": b"user,item,rating\n1,2,3\n2,2,3\n1,2,4\n",
    "gap.csv": b"user,item,rating\n1,2,3\n,3,4\n",
    "header.csv": b"user,item,rating\n",
    "empty.csv": b"",
    "cut.csv.gz": gzip.compress(b"1,2,3\n" * 1000)[:-12],
    "cut.parquet": b"PAR1 and no more",
    "latin.csv": "user,item,rating\né,2,3\n".encode("latin-1"),
    "shape.py": b"def gradient(user, item, ratings, mask, reg):\n    return item, user\n",
}
OWN_OF = "job=gradients check.gradients=[] check.candidate.gradient="
WRONG = {  # what the message says: the place, and what to do
    "+lr=3": "unknown key lr; python -m mfjax.run --cfg job shows every key",
    "epocks=3": "unknown key epocks; did you mean epochs",
    "hparams.learningrate=1": "did you mean hparams.learning_rate",
    "sweep.lr=[1]": "unknown key sweep.lr",
    "optimizer=nope": "adagrad, adam,",
    "+exp=nope": "gradients, ",
    "+hparams.learning_rte=1": "did you mean hparams.learning_rate",
    "epochs=0": "epochs: expected a positive number, got 0",
    "epochs=many": "'many' of type 'str' could not be converted to Integer",
    "hparams.momentum=1": "hparams.momentum: expected a number from 0",
    "sweep.reg=0.3": "expected a list, such as [0.05,0.1]",
    "sweep.reg=[]": "sweep.reg: expected at least one value",
    "sweep.reg=[0.1": "no viable alternative at input '[0.1'",
    "epochs": "missing EQUAL",
    "missing=zeros": "expected one of ignore, item_mean, zero",
    "method=sgd missing=zero": "use method=descent",
    "method=nope": "method: expected one of descent, sgd",
    "gradient=nope": "gradient: expected one of autodiff",
    "job=nope": "job: expected one of",
    "optimizer.name=nope": "optimizer.name: expected an optax optimiser",
    "sweep.momentum=[0.5,0.9]": "leave it out",
    "method=als sweep.learning_rate=[0.1,0.2]": "sweep.learning_rate has no effect with method=als",
    "method=als hparams.reg=0": "method=als with reg=0: user ",
    "optimizer=lbfgs": "use method=descent for a line search",
    "tiles.width=12": "tiles.width: expected one of 8, 16, 32, 64, got 12",
    "tiles.group=12": "tiles.group: expected a multiple of 8, got 12",
    "data.noise=1": "data.noise has no effect with data.source=file; it takes path",
    "data=toy data.num_users=0": "num_users: expected 1 or more, got 0",
    "data=matrix data.rows=[[1,2],[3]]": "rows: expected lists of one length",
    "data=file": "needs data.path; add data.path=",
    "data.path=no.csv": "no.csv: file not found",
    "data.path=.": "is a directory",
    "data.path=bundled:ml-20m": "bundled: bundled:ml-latest-small",
    "data.path=cut.csv.gz": "truncated or corrupt gzip",
    "data.path=cut.parquet": "cannot be read as Parquet",
    "data.path=word.csv": "word.csv, line 3: the rating 'good' is not a number",
    "data.path=nan.csv": "nan.csv, line 3: the rating 'nan' is not",
    "data.path=gap.csv": "gap.csv, line 3: the user id is empty",
    "data.path=latin.csv": "latin.csv",
    "data.path=fine.csv data.columns=[user,item,stars]": "no column 'stars'",
    "data.path=fine.csv data.columns=[0,1,7]": "positions 0 to 2",
    "data.path=empty.csv": "empty.csv: empty file",
    "data.path=header.csv": "no ratings, only the names of columns",
    "data.path=twice.csv": "twice.csv, line 4: user '1' has rated item '2' before, on line 2",
    "data.path=fine.csv split.test=0": "validation: expected at least one rating",
    "split.validation=2": "validation: expected a fraction",
    "split=kfold sweep.fold=[0,9]": "fold 9: split.kind=kfold has 5 fold",
    "job=gradients check.gradients=[nope]": "check.gradients: expected one of autodiff",
    OWN_OF + "nope": "expected module:function or file.py:function",
    OWN_OF + "none.py:f": "cannot import none.py",
    OWN_OF + "nomodule:f": "cannot import nomodule",
    OWN_OF + "shape.py:nope": "shape.py has no function 'nope'",
    OWN_OF + "shape.py:gradient": "expected a user gradient of shape (8, 3), got (7, 3)",
}
CHILD = """
import contextlib, io, json, sys
from mfjax import run
said = {}
for line in json.load(sys.stdin):
    sys.argv, out, code = ["mfjax", *line.split(" ")], io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            run.main()
        except SystemExit as exit:
            code = exit.code
    said[line] = code, out.getvalue()
json.dump(said, sys.stdout)
"""


def write_files(folder):
    for name, data in FILES.items():
        (folder / name).write_bytes(data)


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """(exit code, output) of each wrong command line: one process calls the command's `main` with one after the other."""
    folder = tmp_path_factory.mktemp("wrong")
    write_files(folder)
    done = subprocess.run(
        [sys.executable, "-c", CHILD],
        input=json.dumps(list(WRONG)),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def is_refused(code, output, message):
    lines = [line for line in output.splitlines() if line.strip()]
    assert code == 1 and "Traceback" not in output and message in output, output
    assert 1 <= len(lines) <= 6, output


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_input_is_one_short_message(said, line):
    is_refused(*said[line], WRONG[line])


@pytest.mark.parametrize("line", ["epocks=3", "epochs=0", "data.path=word.csv", "platform=nope"])
def test_a_wrong_input_fails_the_process(tmp_path, line):
    write_files(tmp_path)
    done = command(tmp_path, line)
    is_refused(
        done.returncode,
        done.stdout + done.stderr,
        WRONG.get(line, "platform=nope: jax finds no such device"),
    )
    assert done.stdout == ""


def test_an_experiment_without_its_plus_is_told_of_it(tmp_path):
    done = command(tmp_path, "exp=movielens")
    is_refused(done.returncode, done.stderr, "write +exp=")


def test_debug_shows_the_traceback(tmp_path):
    done = command(tmp_path, "data.path=no.csv", "debug=true")
    assert done.returncode == 1 and "Traceback" in done.stderr and "reading.py" in done.stderr
    assert "error: no.csv: file not found" in done.stderr
