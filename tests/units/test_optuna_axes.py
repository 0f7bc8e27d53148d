"""What Optuna can search, keep and go on with, and what is refused in one message."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from mfjax.errors import InputError

optuna = pytest.importorskip("optuna")
axes = pytest.importorskip("hydra_plugins.mfjax_optuna.axes")
sweeper = pytest.importorskip("hydra_plugins.mfjax_optuna.sweeper")


def axis(value, key="hparams.reg"):
    (override,) = OverridesParser.create().parse_overrides([f"{key}={value}"])
    return axes.distribution(key, override)


FLOATS = optuna.distributions.FloatDistribution
WHOLE = optuna.distributions.IntDistribution
SEARCHED = {
    "interval(0.1,1)": FLOATS(0.1, 1.0),
    "interval(1,1)": FLOATS(1.0, 1.0),
    "tag(log,interval(0.01,1))": FLOATS(0.01, 1.0, log=True),
    "int(interval(1,8))": WHOLE(1, 8),
    "int(tag(log,interval(1,8)))": WHOLE(1, 8, log=True),
    "range(2,9,2)": WHOLE(2, 8, step=2),
    "range(3)": WHOLE(0, 2),
    "a,b": optuna.distributions.CategoricalDistribution(["a", "b"]),
}


@pytest.mark.parametrize("value", SEARCHED)
def test_an_axis_is_what_it_says(value):
    assert axis(value) == SEARCHED[value]


REFUSED = {
    "tag(log,interval(0,0.3))": "a logarithmic axis begins above 0, such as tag(log,interval(",
    "tag(log,interval(-1,0.3))": "a logarithmic axis begins above 0",
    "interval(2,1)": "an interval ascends: interval(1,2)",
    "interval(0,inf)": "an interval has two finite ends",
    "interval(nan,1)": "an interval has two finite ends",
    "range(8,2,-2)": "a range ascends: range(4,10,2)",
    "range(5,5)": "a range has at least one value",
    "range(1,5,0)": "a range has a step above 0",
    "tag(log,range(1,5))": "tag(log,…) has no meaning here",
    "tag(logarithm,interval(1,5))": "tag(logarithm,…) has no meaning here; a logarithmic axis is",
}


@pytest.mark.parametrize("value", REFUSED)
def test_an_axis_that_cannot_be_searched_is_refused_by_its_name(value):
    with pytest.raises(InputError) as refusal:
        axis(value)
    assert str(refusal.value).startswith(f"hparams.reg={value}: {REFUSED[value]}")


# studies


STORAGES = {"study.db": "Could not parse", "sqlite:///nowhere/study.db": "unable to open"}


@pytest.mark.parametrize("url", STORAGES)
def test_a_study_that_cannot_be_kept_is_refused_with_a_url_that_can(url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as refusal, sweeper.keeping(url):
        optuna.create_study(storage=url)
    first, second = str(refusal.value).splitlines()
    assert first.startswith(f"hydra.sweeper.storage={url}: {STORAGES[url]}")
    assert second.endswith("such as sqlite:////home/me/study.db")


def test_what_is_no_error_of_the_study_is_left_as_it_is():
    with pytest.raises(InputError, match=r"no.csv"), sweeper.keeping("sqlite://"):
        raise InputError("no.csv: file not found")


def test_a_study_goes_on_with_axes_of_the_same_kind():
    study = optuna.create_study()
    study.ask({"hparams.reg": axis("interval(0.1,0.2)")})
    axes.refuse_other_axes(study, {"hparams.reg": axis("interval(0.1,0.5)")})
    axes.refuse_other_axes(study, {"hparams.rank": axis("2,3")})
    with pytest.raises(InputError, match=r"reg: the study has numbers from 0.1 to 0.2, and here"):
        axes.refuse_other_axes(study, {"hparams.reg": axis("0.1,0.2")})
