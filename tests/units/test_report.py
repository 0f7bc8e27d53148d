"""Reports of finished runs: what is compared, what is refused, and what is written."""

import csv
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from commands import NO_PLOTS, SMALL, Child, assert_succeeded, process

from mfjax import InputError, plots, report
from mfjax.app.bags import TRANSDUCTIVE
from mfjax.app.sealed import ALL_TESTED, NOT_TESTED
from mfjax.reporting import cite
from mfjax.reporting.formats import in_latex
from mfjax.reporting.report import runs as reading
from mfjax.reporting.report.runs import column_of, read_runs
from mfjax.reporting.report.table import compare
from mfjax.reporting.report.words import caption
from mfjax.reporting.report.writers import as_latex, as_markdown
from mfjax.reporting.statistics import CORRECTED, interval

REPO = Path(__file__).resolve().parents[2]
N = 100  # ratings, of which a tenth is tested
PROTOCOL = "random 80/10/10 split by rating (training/validation/test), split_seed 0, 1, 2"
GOOD = (0.80, 0.82, 0.81)
NEAR = (0.83, 0.81, 0.815)
BAD = (0.90, 0.93, 0.91)
CONVENTIONS = {"missing": "ignore", "reg_by": "count", "bias": True, "clip": True}


def make_run(
    folder,
    errors=GOOD,
    *,
    protocol=PROTOCOL,
    intervals=f"; intervals: {CORRECTED}",
    seeds=(0, 1, 2),
    drawn_by=None,
    ratings_seed=0,
    fold=-2,
    **changes,
):
    """A folder as a run leaves it, with an error a split_seed; `drawn_by` draws every split."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(ratings_seed)
    columns = {"user": np.arange(N) // 10, "item": np.arange(N) % 10, "rating": rng.random(N)}
    rows = []
    for seed, error in zip(seeds, errors, strict=True):
        place = np.random.default_rng(seed if drawn_by is None else drawn_by).permutation(N)
        columns |= {f"test_{seed}": np.where(place < 10, 0, -1)}
        columns |= {f"fold_{seed}": np.where((place >= 10) & (place < 20), 0, -1)}
        place = {"split_seed": seed, "test_fold": 0, "init_seed": 0, "fold": fold}
        counts = {"train_ratings": 90, "test_ratings": 10}
        rows.append({**place, **counts, "test_rmse": error, "test_r2": error - 1})
    pl.DataFrame(columns).write_parquet(folder / "splits.parquet")
    lanes = [
        {**dict.fromkeys(("reg_bias", "init_scale", "missing_weight", "momentum"), 0.1)}
        | {"role": "sweep", "status": "finished", "rank": 2, "learning_rate": rate, "reg": reg}
        | {"validation_rmse": rate + reg}
        for rate in (0.01, 0.02)
        for reg in (0.05, 0.1)
    ]
    pl.DataFrame(lanes).write_csv(folder / "lanes.csv")
    results = {
        "status": "finished",
        "chosen": {"reg": 0.1},
        "chosen_by": "mean validation_rmse",
        "conventions": CONVENTIONS,
        "method": {"name": "sgd", "optimizer": {"name": "adam", "reads": ["learning_rate"]}},
        "data": {"name": "ml-100k", "users": 10, "items": 10, "ratings": N, "sha256": "ab" * 32},
        "run": {"job.name": "train", "choose": "overall"},
        "protocol": protocol + intervals,
        "tests": rows,
        "lanes": 4,
        "seconds": {"compile": 1.5, "train": 0.5},
        "digest": "cd" * 32,
        "provenance": {
            "versions": {"mfjax": "0.1.0"},
            "git_commit": None,
            "devices": {"kind": "cpu", "count": 1},
            "cpu": {"model": "a <processor>"},
            "command": ["run.py", "a|b"],
        },
    }
    (folder / "results.json").write_text(json.dumps(results | changes))
    return str(folder)


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """Three runs on the same folds: the best, one that is near, and one that is bad."""
    folder = tmp_path_factory.mktemp("three")
    errors = {"near": NEAR, "good": GOOD, "bad": BAD}
    return [make_run(folder / name, of) for name, of in errors.items()]


def compared(*folders, column="test_rmse", **options):
    return compare(read_runs(folders), column, **options)


def said_of(comparison):
    return " ".join(caption(comparison, best="is bold", not_worse="have a dagger"))


# what is compared


def test_each_run_is_beside_the_best_on_the_same_folds(three):
    near, good, bad = compared(*three).rows
    assert [row.name for row in (near, good, bad)] == ["near", "good", "bad"]
    assert good.is_best and good.to_best is None and good.holm is None
    assert good.interval == interval(GOOD, 10 / 90)
    between = [value - of_best for value, of_best in zip(BAD, GOOD, strict=True)]
    assert bad.by_fold == between
    assert bad.to_best.interval == interval(between, 10 / 90)
    assert bad.holm == pytest.approx(2 * bad.to_best.t_test)  # the least of two
    assert not bad.is_not_worse and near.is_not_worse


def test_the_best_is_by_what_is_better_of_the_metric(three):
    assert [row.is_best for row in compared(*three, column="test_r2").rows] == [False, False, True]


def test_folds_are_paired_whatever_the_order_of_the_rows(tmp_path):
    one = make_run(tmp_path / "one", GOOD)
    backwards = make_run(tmp_path / "backwards", GOOD[::-1], seeds=(2, 1, 0))
    (beside_the_best,) = (row for row in compared(one, backwards).rows if row.to_best)
    assert beside_the_best.by_fold == [0, 0, 0]


def test_starts_of_a_split_are_averaged(tmp_path):
    folder = make_run(tmp_path / "run", (0.7, 0.9, 0.5), seeds=(0, 1, 2), drawn_by=7)
    (run,) = read_runs([folder])
    (fold,) = run.folds.values()
    assert fold.values["test_rmse"] == pytest.approx(0.7)
    of = compare([run], "test_rmse")
    assert of.rows[0].interval.n == 1
    assert "n = 1 test set: no interval and no test" in said_of(of)


def test_one_test_set_has_a_difference_without_a_test(tmp_path):
    folders = [
        make_run(tmp_path / name, (error,), seeds=(0,))
        for name, error in {"a": 0.8, "b": 0.9}.items()
    ]
    of = compared(*folders)
    assert of.rows[1].to_best.interval.mean == pytest.approx(0.1)
    assert of.rows[1].holm is None
    assert not of.tested
    assert "0.9000" in as_markdown(of, read_runs(folders))


def test_what_a_fit_holds_out_is_not_trained_on(tmp_path):
    refitted, held_out = (
        next(iter(read_runs([make_run(tmp_path / str(fold), fold=fold)])[0].folds.values()))
        for fold in (-2, 0)
    )
    assert (refitted.overlap, held_out.overlap) == (10 / 90, 10 / 80)


def test_the_folder_of_a_comparison_stands_for_its_variants(tmp_path):
    folder = tmp_path / "both"
    for name in ("a", "b"):
        make_run(folder / name)
    results = {"status": "finished", "figures": {"a": {}, "b": {}}, "run": {"job.name": "compare"}}
    (folder / "results.json").write_text(json.dumps(results))
    assert [run.name for run in read_runs([str(folder)])] == ["a", "b"]
    assert [run.name for run in read_runs([f"mine={folder}"])] == ["mine/a", "mine/b"]


def test_a_run_is_called_by_the_shortest_end_of_its_path_that_is_its_own(tmp_path):
    folders = [make_run(tmp_path / place) for place in ("x/run", "y/run", "y/other")]
    assert [run.name for run in read_runs(folders)] == ["x/run", "y/run", "other"]
    ours, theirs = read_runs([f"ours={folders[0]}", folders[1]])
    assert (ours.name, theirs.name) == ("ours", "y/run")


def test_a_folder_whose_name_has_an_equals_sign_is_a_folder(tmp_path):
    (run,) = read_runs([make_run(tmp_path / "reg=0.1")])
    assert run.name == "reg=0.1"


def test_the_metric_is_the_one_that_chose(tmp_path, three):
    assert column_of(read_runs(three), None) == "test_rmse"
    by_r2 = make_run(tmp_path / "r2", chosen_by="mean validation_r2")
    assert column_of(read_runs([by_r2]), None) == "test_r2"
    with pytest.raises(InputError, match="chose by several metrics; say --metric"):
        column_of(read_runs([*three, by_r2]), None)


# what is refused


@pytest.mark.parametrize(
    "change, said",
    [
        ({"ratings_seed": 1}, "ratings as read"),
        ({"data": {"name": "mine", "users": 9, "items": 10, "ratings": N, "sha256": "00"}}, "data"),
        ({"protocol": "5 random folds"}, "protocol\n"),
        ({"protocol": f"{PROTOCOL}; bags: item rated; {TRANSDUCTIVE}"}, "protocol\n"),
        ({"conventions": CONVENTIONS | {"clip": [0.5, 5]}}, "clipping\n"),
        ({"conventions": CONVENTIONS | {"bias": False}}, "bias\n"),
        ({"chosen_by": "mean validation_mae"}, "chosen by\n"),
    ],
)
def test_runs_that_are_not_alike_are_refused_and_shown_when_asked(tmp_path, three, change, said):
    other = make_run(tmp_path / "other", BAD, **change)
    with pytest.raises(InputError, match=f"not comparable, {said}") as refusal:
        compared(three[1], other)
    assert "good: " in str(refusal.value) and "other: " in str(refusal.value)
    assert len(str(refusal.value).splitlines()) == 4
    mixed = compared(three[1], other, mixed=True)
    assert f"Runs differ in {said.strip()} (good: " in said_of(mixed)


def test_runs_of_other_folds_are_refused_and_compared_with_none(tmp_path, three):
    other = make_run(tmp_path / "other", BAD, drawn_by=11)
    with pytest.raises(
        InputError, match=r"other folds: \w+ has no test of split_seed 0, test_fold"
    ):
        compared(three[1], other)
    good, alone, bad = compared(three[1], other, three[2], mixed=True).rows
    assert (good.is_best, alone.is_best, bad.is_best) == (True, False, False)
    assert alone.to_best is None and bad.to_best is not None


def test_a_variant_that_is_one_of_several_tested_is_as_a_run_alone(tmp_path, three):
    other = make_run(tmp_path / "other", BAD, intervals=f"; {ALL_TESTED}; intervals: {CORRECTED}")
    of = compared(three[1], other)
    assert of.remarks == [ALL_TESTED]
    assert of.shared["protocol"] == PROTOCOL
    assert NOT_TESTED.startswith(reading.APART)


@pytest.mark.parametrize(
    "change, said",
    [
        (
            {"status": "diverged", "reason": "every setting diverged\ntry"},
            "every setting diverged;",
        ),
        ({"tests": []}, "not tested, since the test ratings are looked at once"),
        ({"chosen_by": "mean validation_mae"}, "no test_mae; it has test_rmse, test_r2"),
    ],
)
def test_what_has_nothing_to_report_is_refused(tmp_path, change, said):
    with pytest.raises(InputError, match=said):
        column_of(read_runs([make_run(tmp_path / "run", **change)]), None)


def test_a_folder_of_no_training_run_is_refused(tmp_path, three):
    with pytest.raises(InputError, match=r"no results.json; expected the output folder"):
        read_runs([str(tmp_path)])
    (tmp_path / "results.json").write_text('{"status": "finished", "run": {}}')
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep/sweep.csv").write_text("job\n")
    with pytest.raises(InputError, match=r"of a multirun, its jobs: .*/sweep/\*/"):
        read_runs([str(tmp_path / "sweep")])
    with pytest.raises(InputError, match="it trained nothing"):
        read_runs([str(tmp_path)])
    with pytest.raises(InputError, match="given twice"):
        read_runs([three[0], three[0]])
    with pytest.raises(InputError, match="two runs are called a; say NAME=FOLDER"):
        read_runs([f"a={three[0]}", f"a={three[1]}"])


def test_a_folder_whose_files_are_damaged_or_lacking_is_refused(tmp_path):
    folder = Path(make_run(tmp_path / "run"))
    splits = folder / "splits.parquet"
    pl.read_parquet(splits).drop("test_1").write_parquet(splits)
    with pytest.raises(InputError, match=r"splits.parquet has no test_1"):
        read_runs([str(folder)])
    splits.write_text("no")
    with pytest.raises(InputError, match="is damaged"):
        read_runs([str(folder)])
    splits.unlink()
    with pytest.raises(InputError, match=r"no splits.parquet, which says"):
        read_runs([str(folder)])


# what is written


class Outside(HTMLParser):
    """What a page would fetch, and the values by which each row is sorted."""

    def __init__(self):
        super().__init__()
        self.fetched, self.values, self.tags = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href") and not value.startswith("#"):
                self.fetched.append(value)
            if name == "data-value":
                self.values.append(value)


@pytest.fixture(scope="module")
def written(three, tmp_path_factory):
    folder = tmp_path_factory.mktemp("written") / "out/report"
    report.main([*three, "--output", str(folder)])
    return folder


def test_a_report_is_files_for_a_paper(written):
    files = {path.name for path in written.iterdir()}
    of_text = {f"report.{kind}" for kind in ("md", "csv", "tex", "html", "bib")}
    kinds = ("svg", "pdf")
    of_plots = {f"{name}.{kind}" for name in ("forest", "by_seconds") for kind in kinds}
    assert files == of_text | of_plots


def test_the_page_fetches_nothing_and_sorts_by_numbers(written):
    text = (written / "report.html").read_text()
    page = Outside()
    page.feed(text)
    assert page.fetched == []
    assert "@import" not in text and "url(http" not in text
    assert page.tags.count("svg") == 5  # the differences, the seconds, and a sweep a run
    assert {"near", "good", "bad"} <= set(page.values)
    numbers = [float(value) for value in page.values if re.fullmatch(r"[\d.e+-]+", value)]
    assert numbers[0] == pytest.approx(np.mean(NEAR))
    assert "a &lt;processor&gt;" in text and "<processor>" not in text


def test_the_rows_have_every_number(written):
    with (written / "report.csv").open() as file:
        near, good, bad = csv.DictReader(file)
    assert float(bad["to_best"]) == pytest.approx(np.mean(BAD) - np.mean(GOOD))
    assert float(bad["p_t_holm"]) == pytest.approx(2 * float(bad["p_t"]))
    assert [row["is_best"] for row in (near, good, bad)] == ["false", "true", "false"]
    assert [row["is_not_worse"] for row in (near, good, bad)] == ["true", "false", "false"]
    assert good["p_t"] == ""


def test_the_best_is_bold_and_what_is_not_worse_has_a_dagger(three):
    of = compared(*three)
    near, good, bad = as_markdown(of, read_runs(three)).splitlines()[2:5]
    assert "**0.8100 ± " in good
    assert " † |" in near and "†" not in bad and "**" not in bad
    tex = as_latex(of)
    assert [tex.count(rf"\{one}rule") for one in ("top", "mid", "bottom")] == [1, 1, 1]
    near, good, bad = tex[tex.index("midrule") :].splitlines()[1:4]
    assert r"{\bfseries\boldmath 0.8100 $\pm$ " in good
    assert near.count(r"$^\dagger$") == 1 and r"\dagger" not in bad
    widths = {line.count("&") for line in tex.splitlines() if line.endswith(r"\\")}
    assert len(widths) == 1
    assert tex.isascii()


def test_a_run_alone_is_neither_best_nor_tested(three):
    of = compared(three[0])
    assert not of.rows[0].is_best
    assert "**" not in as_markdown(of, read_runs(three[:1]))
    assert "best" not in said_of(of)


def test_the_caption_states_all_that_a_reader_must_know(three):
    said = said_of(compared(*three))
    for part in (
        "Test RMSE (lower is better), mean ± half of the 95 % interval over n = 3 test sets",
        "Data: ml-100k, 10 users × 10 items, 100 ratings, SHA-256 abababab.",
        f"Protocol: {PROTOCOL}.",
        "Clipping: to the range of the ratings that are not tested.",
        "Conventions: missing=ignore, reg_by=count, bias=true.",
        "corrected resampled t-test, adjusted by Holm for 2 comparisons",
    ):
        assert part in said
    assert "intervals" not in said  # of the protocol, once


@pytest.mark.parametrize("clip, said", [(False, "none"), ([0.5, 5], "to [0.5, 5]")])
def test_the_caption_says_how_predictions_are_clipped(tmp_path, clip, said):
    folder = make_run(tmp_path / "run", conventions=CONVENTIONS | {"clip": clip})
    assert f"Clipping: {said}." in said_of(compared(folder))


def test_latex_of_names_is_text():
    assert in_latex("a_b < 5 % − ±") == r"a\_b $<$ 5 \% $-$ $\pm$"


@pytest.mark.parametrize("width", [80, 60])
def test_the_terminal_has_a_table_as_wide_as_it(three, width, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    report.main(three)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    assert any("good" in line and "0.8100 ± " in line for line in lines)
    assert any("more in report.csv" in line for line in lines)


def test_a_wrong_input_is_one_message_and_exit_1(tmp_path, capsys):
    with pytest.raises(SystemExit) as left:
        report.main([str(tmp_path)])
    said = capsys.readouterr()
    assert left.value.code == 1
    assert said.err.startswith(f"error: {tmp_path}: no results.json") and said.out == ""
    with pytest.raises(SystemExit):
        report.main(["--metrics", "x"])
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("error: unrecognized arguments: --metrics; python -m mfjax.report")


# what to cite


def test_what_to_cite_is_each_once(three, capsys):
    report.main([*three, "--bibtex"])
    said = capsys.readouterr().out
    keys = re.findall(r"^@\w+\{(\w+),", said, re.M)
    assert keys == [
        *("mfjax", "harper2015movielens", "koren2009matrix", "kingma2015adam"),
        "nadeau2003inference",
    ]
    assert said.count("{") == said.count("}")


@pytest.mark.parametrize(
    "method, missing, keys",
    [
        ({"name": "als"}, "ignore", {"zhou2008large"}),
        ({"name": "als"}, "zero", {"zhou2008large", "hu2008collaborative"}),
        ({"name": "als_cg"}, "ignore", {"takacs2011applications"}),
        (
            {"name": "descent", "optimizer": {"name": "lbfgs", "reads": []}},
            "zero",
            {"liu1989limited"},
        ),
        (
            {"name": "sgd", "optimizer": {"name": "sgd", "reads": ["learning_rate", "momentum"]}},
            "ignore",
            {"koren2009matrix", "polyak1964some"},
        ),
    ],
)
def test_a_method_is_cited_by_its_papers(tmp_path, method, missing, keys):
    folder = make_run(
        tmp_path / "run",
        intervals="",
        method=method,
        conventions=CONVENTIONS | {"missing": missing},
        data={"name": "mine", "users": 10, "items": 10, "ratings": N, "sha256": "00"},
    )
    (run,) = read_runs([folder])
    found = re.findall(r"@\w+\{(\w+),", "".join(cite.citations(run.results)))
    assert set(found) == {"mfjax", *keys}


def test_mfjax_is_cited_as_the_repository_says():
    stated = (REPO / "CITATION.bib").read_text()
    assert re.sub(r"version = \{.*?\}", "version = {VERSION}", stated) == f"{cite.MFJAX}\n"


# plots


def test_a_forest_has_a_line_a_run_that_is_not_the_best(three):
    figure = plots.forest(compared(*three).rows, "test RMSE")
    (axes,) = figure.axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["near", "bad"]
    (legend,) = figure.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels == ["a test set", "not worse (p ≥ 0.05)", "worse (p < 0.05)"]


def test_parallel_coordinates_have_an_axis_a_key_that_varies(three):
    (run,) = read_runs(three[:1])
    rows = reading.swept_lanes(run)
    (axes,) = plots.parallel(rows, "validation_rmse").axes
    labels = [tick.get_text() for tick in axes.get_xticklabels()]
    assert labels == ["learning_rate", "reg", "validation RMSE\n(lower is better)"]
    (best,) = (line for line in axes.lines if line.get_label() == "the best")
    assert best.get_ydata() == pytest.approx([0, 0, 0])  # the least of each
    assert plots.parallel(rows[:2], "validation_rmse") is None  # one key


def test_a_setting_that_diverged_ends_before_the_metric(three):
    (run,) = read_runs(three[:1])
    rows = reading.swept_lanes(run)
    rows[0] |= {"status": "diverged at epoch 2", "validation_rmse": None}
    (axes,) = plots.parallel(rows, "validation_rmse").axes
    (lost,) = (one for one in axes.collections if one.get_label() == "diverged")
    assert [len(path.vertices) for path in lost.get_paths()] == [2]


def test_runs_against_what_they_took_are_a_line_a_group(three):
    rows = compared(*three).rows
    of = {"what": "rank", "label": "test RMSE"}
    (axes,) = plots.against(rows, [8, 2, 64], ["als", "als", "sgd"], **of).axes
    lines = {line.get_label(): line for line in axes.lines if line.get_label() in ("als", "sgd")}
    assert lines["als"].get_xdata() == pytest.approx([2, 8])
    assert lines["als"].get_ydata() == pytest.approx([rows[1].interval.mean, rows[0].interval.mean])
    assert axes.get_xscale() == "log"
    (axes,) = plots.against(rows, [1, 2, 3], ["a", "b", "c"], **of).axes
    assert axes.get_xscale() == "linear" and axes.get_xlim()[0] == 0


@pytest.mark.parametrize(
    "change, files",
    [
        pytest.param({}, {"forest.svg", "by_seconds.svg"}, marks=pytest.mark.slow),
        pytest.param({"trained_together": 2}, {"forest.svg"}, marks=pytest.mark.slow),
        ({"chosen": {"rank": 4}}, {"forest.svg", "by_rank.svg", "by_seconds.svg"}),
        pytest.param(
            {"data": {"name": "a", "users": 1, "items": 1, "ratings": N, "sha256": "0"}},
            {"forest.svg"},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_only_what_can_be_compared_is_plotted(tmp_path, change, files):
    own = {"chosen": {"rank": 2}} if "chosen" in change else {}
    folders = [make_run(tmp_path / "a", GOOD, **own), make_run(tmp_path / "b", BAD, **change)]
    report.main([*folders, "--mixed", "--output", str(tmp_path / "out")])
    assert {path.name for path in (tmp_path / "out").glob("*.svg")} == files


# the command


def test_help_loads_neither_jax_nor_hydra():
    code = (
        "import sys, mfjax.report as report\n"
        "try: report.main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'jax', 'hydra', 'matplotlib', 'polars'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: python -m mfjax.report")


@pytest.mark.slow  # two runs
def test_runs_of_the_command_are_reported_with_the_intervals_that_they_state(tmp_path):
    child = Child()
    several = [*SMALL[:-1], "replicates=3", NO_PLOTS, "sweep.init_seed=[0,1]"]
    for name, own in {"sgd": ["refit=false"], "als": ["refit=false", "method=als"]}.items():
        assert_succeeded(child(tmp_path, *several, *own, f"hydra.run.dir={name}"))
    child.close()
    sgd, als = read_runs([str(tmp_path / "sgd"), str(tmp_path / "als")])
    for row, run in zip(compare([sgd, als], "test_rmse").rows, (sgd, als), strict=True):
        stated = run.results["metrics"]["test_rmse"]
        assert row.interval._asdict() == pytest.approx(stated)
    done = process(tmp_path, "sgd", "als", "--output", "out", python=("-m", "mfjax.report"))
    assert_succeeded(done)
    assert "p ≥ 0.05 of the corrected" in done.stdout
