"""What a reader sees: tables that fit, lines to paste, progress on a terminal and in a pipe."""

import io
import logging
import re
import shlex
import time
from types import SimpleNamespace

import numpy as np
import pytest
from configs import composed
from helpers import fit_at
from rich.console import Console

import mfjax
from mfjax import Lane, Progress, Sweep
from mfjax.app import terminal
from mfjax.app.jobs import compare, device, gradients, scale
from mfjax.app.table import Table
from mfjax.app.tables import baselines_table, jobs_table, metrics_table, settings_table
from mfjax.metrics import columns
from mfjax.model import Model
from mfjax.reporting import course
from mfjax.reporting.statistics import Interval
from mfjax.training.protocol import Outcome, settings_of

WIDTHS = (60, 80, 100, 120, 200)
COLOUR = re.compile(r"\x1b\[[\d;]*m")


def lines_of(table, width):
    text = io.StringIO()
    Console(file=text, width=width).print(table.fitted(width))
    return text.getvalue().splitlines()


def words_of(table, width):
    return [word for line in lines_of(table, width) for word in line.split()]


def headings_of(table, width):
    return [str(column.header) for column in table.fitted(width).columns]


@pytest.fixture
def lines(monkeypatch):
    """`lines(width)` is a terminal of that width, or a file for None; what it is told is a list."""

    def of(width):
        text = io.StringIO()
        console = Console(
            file=text, width=width or terminal.WIDTH, force_terminal=width is not None
        )
        monkeypatch.setattr(terminal, "console", console)
        return lambda: text.getvalue().splitlines()

    return of


# tables


def wide_numbers(headings, rows=3):
    return [[f"1.234567{i}{j:x}" for j, _ in enumerate(headings)] for i in range(rows)]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("job", [gradients, scale, device], ids=lambda job: job.__name__)
def test_no_number_of_a_table_is_folded(job, width):
    headings = list(job.SHOWN)
    table = Table("title", headings, wide_numbers(headings), job.GROUPS, file="all.csv")
    shown = lines_of(table, width)
    assert max(map(len, shown)) <= width
    numbers = [word for word in words_of(table, width) if word.startswith("1.")]
    assert numbers
    assert all(len(number) == 10 for number in numbers)
    assert any("more in all.csv" in line for line in shown) == (len(numbers) < 3 * len(headings))


@pytest.mark.parametrize("job", [gradients, scale, device], ids=lambda job: job.__name__)
def test_a_wide_terminal_shows_all_of_a_table(job):
    headings = list(job.SHOWN)
    assert sorted(heading for group in job.GROUPS for heading in group) == sorted(headings)
    table = Table("title", headings, wide_numbers(headings), job.GROUPS)
    numbers = [word for word in words_of(table, 300) if word.startswith("1.")]
    assert len(set(numbers)) == 3 * len(headings)


def test_the_gradient_table_shows_what_counts_at_80_columns():
    row = dict.fromkeys(gradients.COLUMNS, 1.234e-15) | {
        "gradient": "coo_autodiff",
        "status": "ok",
        "ratings": 100_004,
        "ms": 123.4,
        "compile_s": 1.23,
        "temp_bytes": 36_479_000,
    }
    cells = gradients.cells(row, gradients.SHOWN)
    table = Table("title", list(gradients.SHOWN), [cells], gradients.GROUPS, gradients.TEXT)
    (line,) = [line for line in lines_of(table, 80) if "coo_autodiff" in line]
    shown = [cell.strip() for cell in line.strip("│").split("│")]
    assert shown == ["coo_autodiff", "1.2e-15", "1.2e-15", "123", "1.23", "36.48", "ok"]


def test_the_groups_of_a_table_come_together():
    table = Table("t", list("abcd"), [["1" * 9] * 4], groups=[["d"], ["a", "b"], ["c"]])
    assert headings_of(table, 12) == ["d"]
    assert headings_of(table, 36) == ["d"]
    assert headings_of(table, 37) == ["a", "b", "d"]
    assert headings_of(table, 49) == ["a", "b", "c", "d"]


def test_words_are_wrapped_between_words_and_brackets_are_no_markup():
    reason = "sweep.reg: expected at least one value, got [red]an empty list[/]"
    table = Table("t", ["job", "status"], [["0", reason]], text=["status"])
    shown = lines_of(table, 40)
    assert max(map(len, shown)) <= 40
    said = " ".join(line.split("│")[2].strip() for line in shown if "│" in line)
    assert said == reason


@pytest.mark.parametrize("width", WIDTHS)
def test_a_table_without_rows_can_be_shown(width):
    assert lines_of(Table("t", ["a_b", "status"], [], text=["status"]), width)


# those of a run


def outcome_of(refitted):
    fits = [fit_at(0.9 + reg, reg=reg) for reg in (0.1, 0.2)]
    settings = settings_of(fits, "validation_rmse")
    final = [fit_at(0.8, reg=0.1)] if refitted else settings[0].fits
    test = [{"test_rmse": 0.95, "test_mae": 0.7}]
    return Outcome(settings, "validation_rmse", final, test, refitted)


def measured(*missing):
    there = [column for column in columns("train", "validation", "test") if column not in missing]
    none = Interval(None, None, None, 0)
    return dict.fromkeys(missing, none) | dict.fromkeys(there, Interval(0.9, 0.88, 0.92, 3))


def test_the_metrics_say_which_are_of_the_validation_fit_and_which_of_the_refit():
    table = metrics_table(measured(), outcome_of(refitted=True))
    assert table.title == "The chosen setting"
    assert [row[:2] for row in table.rows] == [
        ["validation fit", "validation RMSE"],
        ["", "validation MAE"],
        ["refit", "training RMSE"],
        ["", "training MAE"],
        ["", "test RMSE"],
        ["", "test MAE"],
        ["", "test R²"],
        ["", "test RMSE a user"],
    ]
    assert table.rows[0][2:] == ["0.90000", "0.88000 to 0.92000", "3"]


def test_without_a_refit_all_metrics_are_of_one_fit():
    missing = ("validation_rmse", "validation_mae")
    table = metrics_table(measured(*missing), outcome_of(refitted=False))
    assert [row[:2] for row in table.rows] == [
        ["fit", "training RMSE"],
        ["", "training MAE"],
        ["", "test RMSE"],
        ["", "test MAE"],
        ["", "test R²"],
        ["", "test RMSE a user"],
    ]


def test_nothing_says_that_one_of_the_pooled_settings_was_chosen():
    outcome = outcome_of(refitted=True)._replace(pooled=True)
    assert repr(outcome).startswith("Outcome(2 settings pooled, validation RMSE")
    settings = settings_table(outcome, ["reg"])
    assert settings.title == "2 settings, pooled, by mean validation RMSE"
    table = metrics_table(measured(), outcome)
    assert table.title == "The pooled settings"
    assert [row[0] for row in table.rows if row[0]] == ["chains apart", "pooled chains"]
    assert "reg" not in outcome.in_common
    assert outcome.in_common.keys() | {"reg"} == outcome.chosen.hparams.keys()


def test_baselines_have_a_table_of_their_own_where_there_is_a_test():
    none = Interval(None, None, None, 0)
    assert baselines_table({"item mean": none}) is None
    table = baselines_table({"item mean": Interval(0.98, None, None, 1)})
    assert table.rows == [["item mean", "0.98000", "–", "1"]]
    settings = settings_table(outcome_of(refitted=True), ["reg"])
    assert [row[0] for row in settings.rows] == ["0.1", "0.2"]


def test_many_swept_axes_leave_the_criterion_on_the_screen():
    axes = list(mfjax.Hparams()._fields)
    shown = headings_of(settings_table(outcome_of(refitted=False), axes), 80)
    assert "validation RMSE" in shown
    assert "learning rate" in shown


def test_a_failed_job_says_why_beside_those_that_finished():
    by = ("validation_rmse", "test_rmse")
    done = {"hparams.rank": "4", **dict.fromkeys(by, 0.9)}
    rows = [
        {"job": "0", "status": "finished", "reason": None, **done},
        {"job": "1", "status": "failed", "reason": "no.csv: not\nfound", "hparams.rank": "8"}
        | dict.fromkeys(by),
    ]
    table = jobs_table(rows, ["hparams.rank"], by)
    assert table.headings == ["job", "rank", "validation RMSE", "test RMSE", "status"]
    assert table.rows[1] == ["1", "8", "–", "–", "no.csv: not"]


def test_the_variants_that_are_compared_show_their_errors_at_80_columns(lines):
    means = {column: Interval(0.9, None, None, 1) for column in columns("train", "test")}
    of = {"final_loss": 1.5, "metrics": means}
    said = lines(80)
    compare.show({"descent": of, "one_pair_sgd": of})
    text = "\n".join(said())
    assert max(len(COLOUR.sub("", line)) for line in said()) <= 80
    assert "0.90000" in text
    assert "one_pair_sgd" in text


# lines


def test_what_is_to_be_pasted_composes_to_the_same(lines):
    chosen = {"learning_rate": 0.012345678901, "reg": 1e-07, "rank": 4}
    conventions = {"missing": "ignore", "bias": False, "reg_by": "count", "dtype": "float64"}
    said = lines(None)
    terminal.say_to_paste("Chosen:", chosen, section="hparams.")
    terminal.say_to_paste("Conventions:", conventions)
    chosen_lines, conventions_lines = "\n".join(said()).split("Conventions:")
    pasted = (chosen_lines.removeprefix("Chosen:") + conventions_lines).replace("\\\n", "")
    cfg = composed(*shlex.split(pasted))
    assert {key: cfg.hparams[key] for key in chosen} == chosen
    assert {key: cfg[key] for key in conventions} == conventions


def test_lines_to_paste_fit_and_a_shell_joins_them(lines):
    said = lines(80)
    values = dict.fromkeys(("a" * 30, "b" * 30, "c" * 30), 0.123456789)
    terminal.say_to_paste("Chosen:", values)
    head, *pasted = said()
    assert head == "Chosen:"
    assert max(map(len, pasted)) <= 80
    assert all(line.endswith(" \\") for line in pasted[:-1])
    assert not pasted[-1].endswith("\\")


@pytest.mark.parametrize("say", [terminal.say, terminal.warn])
def test_a_terminal_wraps_between_words_and_a_file_does_not(lines, say):
    line = "Files: a folder of [red]numbers[/], " + "0.123456 " * 12 + "/a/very/long/path" * 6
    said = lines(None)
    say(line)
    assert [one.removeprefix("warning: ") for one in said()] == [line]
    said = lines(80)
    say(line)
    assert len(said()) > 2
    assert " ".join(line.split()) in " ".join(said()).replace("\x1b[1;33mwarning:\x1b[0m ", "")


def test_the_lines_of_the_data_say_what_was_read(lines, tmp_path):
    path = tmp_path / "ratings.csv"
    path.write_text("# by hand\nu,i,r\n1,5,0.5\n1,6,1\n2,7,1.5\n2,5,99\n")
    said = lines(None)
    terminal.say_data(mfjax.read(str(path)))
    assert said() == [
        "Data: ratings, 2 users × 3 items, 4 ratings from 0.5 to 99",
        "  columns: user u, item i, rating r (line 1 names the columns), 4 rows",
        "  first: user 1, item 5, rating 0.5",
        "  1 comment line at the beginning skipped",
        "warning: 1 ratings of 99 stand apart from the others, 0.5 to 1.5: "
        "where it means no rating, data.missing=[99]",
    ]


def test_the_line_of_generated_data_names_no_file(lines):
    dataset = mfjax.from_ids("toy", [1], [5], [0.5])
    said = lines(None)
    terminal.say_data(dataset)
    assert said() == ["Data: toy, 1 users × 1 items, 1 ratings from 0.5 to 0.5"]


def test_the_log_has_a_table_too(lines, caplog):
    said = lines(300)
    headings = list(gradients.SHOWN)
    with caplog.at_level(logging.INFO, "mfjax"):
        terminal.show(Table("title", headings, wide_numbers(headings), gradients.GROUPS))
    (record,) = caplog.records
    assert max(map(len, record.getMessage().splitlines())) <= terminal.WIDTH
    assert "1.23456700" in "\n".join(said())


MARKUP = "[red]a[/] :car: \x1b[31m"


def test_names_are_text_to_the_terminal(lines, caplog):
    said = lines(None)
    table = Table(MARKUP, [MARKUP], [[MARKUP]] * 2, text=[MARKUP])
    with caplog.at_level(logging.INFO, "mfjax"):
        terminal.say(MARKUP)
        with terminal.working(MARKUP):
            terminal.show(table)
    for text in ("\n".join(said()), caplog.text):
        assert text.count("[red]a[/] :car: \\x1b[31m") == 6


# progress


@pytest.fixture
def under_way(sweep):
    return Sweep(sweep.plan, 3)


def compiled(under_way, seconds):
    """Its one program is, or is about to be where that took no time yet."""
    under_way.programs[16, 3] = SimpleNamespace(compile_seconds=seconds)


def test_progress_says_what_is_done_now(under_way, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(course, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    way = course.Course(under_way, "sgd, 3 lanes", began=now[0])
    assert way.doing() == "sgd, 3 lanes: preparing"
    compiled(under_way, 0.0)
    assert way.doing() == "sgd, 3 lanes: compiling"
    now[0] = 102.0
    assert way.line() == "sgd, 3 lanes: compiling, 2.0 s"
    compiled(under_way, 1.5)
    now[0] = 110.0
    way.record(Progress(10, 1000, 5.0, np.nan))
    assert way.line() == "sgd, 3 lanes: training, 10 of 1,000 epochs, loss 5"
    now[0] = 120.0
    way.record(Progress(110, 1000, 4.0, 0.91234))
    said = "sgd, 3 lanes: training, 110 of 1,000 epochs, best validation RMSE 0.9123, 0:01:29 left"
    assert way.line() == said  # 10 s for 100 epochs, and 890 to come
    way.record(Progress(0, 0, np.nan, np.nan, refit=True))
    assert way.line() == "sgd, 3 lanes: refitting, 20.0 s"
    way.record(Progress(20, 20, 3.0, np.nan, refit=True))
    assert way.line() == "sgd, 3 lanes: refitting, 20 of 20 epochs, loss 3"
    assert way.end() == "sgd, 3 lanes: trained and refitted in 20.0 s, best validation RMSE 0.9123"


def test_a_pipe_has_a_line_now_and_then_and_one_at_the_end(under_way, monkeypatch, capsys):
    monkeypatch.setattr(course, "EVERY", 0.02)
    console = Console(file=io.StringIO(), force_terminal=False)
    with course.progress(under_way, "sgd", console=console) as on_progress:
        time.sleep(0.1)
        compiled(under_way, 1.0)
        on_progress(Progress(1, 2, 5.0, 0.9))
        time.sleep(0.1)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("sgd: preparing, ")
    assert "sgd: training, 1 of 2 epochs, best validation RMSE 0.9000" in lines
    assert lines[-1].startswith("sgd: trained in 0.")
    assert console.file.getvalue() == ""


def test_a_terminal_has_a_bar_and_no_lines(under_way, capsys):
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    told = []
    for tell in (None, told.append):
        with course.progress(under_way, "sgd, 3 lanes", tell=tell, console=console) as on_progress:
            compiled(under_way, 1.0)
            on_progress(Progress(1, 2, 5.0, 0.9))
            time.sleep(0.15)
    assert "best validation RMSE 0.9000" in console.file.getvalue()
    assert capsys.readouterr().out == ""
    assert len(told) == 1


def test_lines_end_with_an_error_too(under_way, monkeypatch):
    monkeypatch.setattr(course, "EVERY", 0.01)
    told = []
    with pytest.raises(ValueError), course.progress(under_way, tell=told.append):
        raise ValueError
    before = len(told)
    time.sleep(0.05)
    assert len(told) == before


@pytest.mark.parametrize("width", [None, 80])
def test_what_takes_long_says_so_every_minute(lines, caplog, monkeypatch, width):
    monkeypatch.setattr(course, "MINUTE", 0.02)
    caplog.set_level(logging.INFO, "mfjax")
    said = lines(width)
    with terminal.working("als, rank 64"):
        time.sleep(0.1)
    logged = [record.getMessage() for record in caplog.records]
    assert logged[0] == "als, rank 64"
    assert logged[1] == "als, rank 64: 0 s so far"
    if width is None:
        assert said() == logged


def test_tune_tells_of_the_search_and_then_of_the_refit(sweep):
    seen = []
    lanes = mfjax.grid(mfjax.Hparams(rank=2), {"reg": [0.05, 0.1]})
    with mfjax.progress(sweep, tell=seen.append) as on_progress:
        told = []

        def both(now):
            told.append(now)
            on_progress(now)

        mfjax.tune(sweep, lanes, refit=True, on_progress=both)
    refits = [now.refit for now in told]
    assert refits == sorted(refits)
    assert told[refits.index(True)].done == 0
    assert all(now.total for now in told if now.done)
    assert seen[-1].startswith("trained and refitted in ")


# what objects say


def test_a_fit_an_outcome_and_a_setting_are_one_line():
    outcome = outcome_of(refitted=True)
    assert repr(outcome) == (
        "Outcome(best of 2 settings: reg=0.1, validation RMSE 1.00000, test RMSE 0.95000, refitted)"
    )
    fit = fit_at(0.9, epoch=2, reg=0.1, split_seed=3)
    assert repr(fit) == (
        "Fit(finished, best epoch 2 of 4, training RMSE 0.90000, validation RMSE 0.90000, "
        "reg=0.1, split_seed=3)"
    )
    assert repr(outcome.chosen) == "Setting(1 fit, 1.00000, reg=0.1)"


def test_what_was_never_measured_is_one_line_too():
    fit = fit_at(0.9)._replace(best_epoch=0, status="diverged at epoch 1")
    assert repr(fit) == "Fit(diverged at epoch 1, best epoch 0 of 4)"
    settings = settings_of([fit], "validation_rmse")
    outcome = Outcome(settings, "validation_rmse", [fit], [], refitted=False)
    assert repr(outcome) == "Outcome(one setting, validation RMSE nan)"
    assert Lane(mfjax.Hparams(), 3) == fit.lane._replace(epochs=3)


def test_a_model_is_one_line():
    rows = np.zeros((1000, 3)), np.zeros((4, 3))
    ids = np.arange(1000), np.arange(4)
    model = Model(
        user_factors=rows[0],
        item_factors=rows[1],
        user_bias=np.zeros(1000),
        item_bias=np.zeros(4),
        mean=np.array(0.0),
        bounds=np.array([0.5, 5.0]),
        user_ids=ids[0],
        item_ids=ids[1],
        bias=np.array(True),
        reg=np.array(0.1),
        reg_bias=np.array(0.1),
        reg_by=np.array("count"),
        num_ratings=np.array(7),
        missing_weight=np.array(0.0),
        background=np.zeros(4),
        loss=np.array("squared"),
        link=np.array("identity"),
        seen_starts=np.zeros(1001, np.int64),
        seen_items=np.zeros(0, np.int32),
        user_bias_samples=np.zeros((1000, 0)),
        item_bias_samples=np.zeros((4, 0)),
        prior_mean=np.zeros((0, 4)),
        prior_precision=np.zeros((0, 4, 4)),
        rating_precision=np.zeros((0, 4)),
        prior_rated=np.zeros((1, 0, 4)),
        titles=np.zeros(0, "U1"),
    )
    assert repr(model) == "Model(1,000 users × 4 items, rank 3, predictions from 0.5 to 5)"


def test_every_public_name_loads():
    for name in mfjax.__all__:
        assert getattr(mfjax, name) is not None
    assert mfjax.plots.__name__ == "mfjax.reporting.plots"
