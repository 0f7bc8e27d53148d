"""What one thing more touches: a gradient, a method or a metric is a row of its table.

Each is added here from outside by one assignment, and is then chosen by its name, trained and
reported as those of mfjax are.
"""

import copy

import pytest
from commands import QUIET, rows_of, strict_json
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from omegaconf import OmegaConf

from mfjax import GRADIENTS, METHODS, METRICS, Metric, Spec
from mfjax.app import CONF, schema
from mfjax.app.jobs import train
from mfjax.types import Gradient, Method, Optimizer


def halved(spec: Spec) -> Gradient:
    """Half the gradient of `coo`, and half its objective."""
    gradient = GRADIENTS["coo"](spec)

    def value_and_grad(factors, layout, hparams):
        loss, grad = gradient.value_and_grad(factors, layout, hparams)
        return loss / 2, type(grad)(*(side / 2 for side in grad))

    return gradient._replace(value_and_grad=value_and_grad)


def repeated(spec: Spec, *, optimizer: Optimizer, times: int = 1) -> Method:
    """`sgd`, with `times` passes an epoch."""
    method = METHODS["sgd"](spec, optimizer=optimizer, batch_size=64)

    def step(state, layout, hparams, epoch):
        for _ in range(times):
            state, info = method.step(state, layout, hparams, epoch)
        return state, info

    return method._replace(step=step)


def close(error, weight):
    """The share of predictions that are at most half a star off."""
    return (weight * (abs(error) <= 0.5)).sum() / weight.sum()


@pytest.fixture
def trained(monkeypatch, tmp_path):
    """The results of a run in this process, and its folder; the tables as they are by then."""

    Plugins.instance()  # which are registered once a process, as they are found
    store = ConfigStore.instance()
    monkeypatch.setattr(store, "repo", copy.deepcopy(store.repo))  # what is registered here goes

    def run(*overrides):
        schema.register()
        with initialize_config_dir(str(CONF), version_base="1.3"):
            cfg = compose("config", [*QUIET, *overrides], return_hydra_config=True)
        monkeypatch.setattr(HydraConfig.instance(), "cfg", cfg.copy())
        own = OmegaConf.masked_copy(cfg, [key for key in cfg if key != "hydra"])
        folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        assert train.run(own, folder, began=0.0)
        return strict_json(folder / "results.json"), folder

    yield run
    monkeypatch.undo()
    schema.register()


@pytest.mark.slow
def test_a_gradient(monkeypatch, trained):
    monkeypatch.setitem(GRADIENTS, "halved", halved)
    ours, _ = trained("method=descent", "gradient=halved", "hparams.learning_rate=0.02")
    theirs, _ = trained("method=descent", "gradient=coo", "hparams.learning_rate=0.01")
    assert ours["method"]["gradient"] == "halved"
    train_rmse = theirs["metrics"]["train_rmse"]["mean"]
    assert ours["metrics"]["train_rmse"]["mean"] == pytest.approx(train_rmse, rel=1e-5)


@pytest.mark.slow
def test_a_method_and_its_key(monkeypatch, trained):
    monkeypatch.setitem(METHODS, "repeated", repeated)
    once, _ = trained("method.name=repeated")
    twice, _ = trained("method.name=repeated", "method.times=2")
    assert (once["method"]["name"], once["method"]["times"]) == ("repeated", 1)
    assert twice["method"]["times"] == 2
    assert twice["metrics"]["train_rmse"]["mean"] < once["metrics"]["train_rmse"]["mean"]


def test_a_metric_which_chooses_and_is_reported(monkeypatch, trained, capsys):
    metric = Metric(close, needs=("error", "weight"), better="higher", label="share within ½")
    monkeypatch.setitem(METRICS, "close", metric)
    results, folder = trained("choose_by=validation_close", "sweep.reg=[3,0.1,0.05]")
    lanes = rows_of(folder / "lanes.csv")
    swept = [lane for lane in lanes if lane["role"] == "sweep"]
    best = max(swept, key=lambda lane: float(lane["validation_close"]))
    assert results["chosen_by"] == "mean validation_close"
    assert results["chosen"]["reg"] == float(best["reg"])
    chosen = [lane for lane in lanes if lane["role"] == "refit"]
    for column in ("train_close", "test_close"):
        assert results["metrics"][column]["mean"] == pytest.approx(float(chosen[0][column]))
    history = rows_of(folder / "history.csv")
    of_best = [float(row["validation_close"]) for row in history if row["lane"] == best["lane"]]
    assert max(of_best) == float(best["validation_close"])
    shown = capsys.readouterr().out
    assert "by mean validation share within ½" in shown
    assert "test share within ½" in shown
