"""Every worked example reproduces the figures that its experiment states, and says so."""

import re

import pytest
from commands import NO_PLOTS, rows_of, strict_json
from omegaconf import OmegaConf

from mfjax.app import CONF
from mfjax.reporting.expected import compare_figures

STATED = {
    path.stem: stated
    for path in sorted(CONF.glob("exp/*.yaml"))
    if (stated := OmegaConf.load(path).get("expected"))
}
LONG = {"movielens"}
UNDRAWN = {"draft"}  # nothing to draw, so that plots.draw=false is refused


def test_the_worked_examples_are_these():
    worked = {"walkthrough", "gradient_check", "draft", "masked", "imputed"}
    assert worked <= STATED.keys() <= worked | LONG


@pytest.fixture(scope="module")
def ran(command, tmp_path_factory):
    """What an experiment said, and its folder; each runs once."""
    done = {}

    def of(name):
        if name not in done:
            folder = tmp_path_factory.mktemp(name)
            no_plots = () if name in UNDRAWN else (NO_PLOTS,)
            done[name] = command(folder, f"+exp={name}", *no_plots), folder / "out"
        return done[name]

    return of


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in STATED]
)
def test_every_stated_figure_comes_out(ran, name):
    done, folder = ran(name)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = strict_json(folder / "results.json")
    stated = OmegaConf.to_container(STATED[name])
    rows = compare_figures(stated, figures.get("figures", figures))
    assert [row["figure"] for row in rows if row["status"] != "ok"] == []
    assert all(row["figure"] in done.stdout for row in rows)


def test_the_draft_is_caught_and_the_entries_named(ran):
    done, folder = ran("draft")
    for side in ("user", "item"):
        assert re.search(rf"disagrees at {side}\[.*; it agrees without λ", done.stdout)
    assert "Traceback" not in done.stderr
    right, wrong = rows_of(folder / "gradients.csv")
    assert (right["status"], wrong["status"]) == ("ok", "FAILED")
    # the draft's own checker sees nothing
    assert max(float(row["own_checker"]) for row in (right, wrong)) < 1e-6


def test_the_published_check_passes(ran):
    assert "FAILED" not in ran("gradient_check")[0].stdout


def test_a_draft_that_is_caught_elsewhere_than_expected_exits_2(command, tmp_path):
    done = command(tmp_path, "+exp=draft", "job.candidate.reg=[0.5,0.0]")
    assert done.returncode == 2, done.stdout + done.stderr
    for status in ("ok .* FAILED", "FAILED .* ok"):
        assert re.search(rf"candidate\.\d\.status .* {status} .* FAILED", done.stdout)


def test_a_figure_that_does_not_come_out_is_said_and_exits_2(command, tmp_path):
    wrong = ("expected.loss.value=2.02", "epochs=10", NO_PLOTS)
    done = command(tmp_path, "+exp=walkthrough", *wrong)
    assert done.returncode == 2, done.stderr
    assert "FAILED" in done.stdout


@pytest.mark.parametrize("gradient", ["rowwise", "coo"])
def test_the_walkthrough_comes_out_by_hand_too(succeeded, tmp_path, gradient):
    succeeded(tmp_path, "+exp=walkthrough", f"gradient={gradient}", NO_PLOTS)
