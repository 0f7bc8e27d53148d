"""What a logger is sent is what the files of the run have."""

import json
import math
import struct
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import polars as pl
import pytest
from commands import QUIET
from configs import TINY, composed, refusal
from omegaconf import DictConfig

from mfjax.app.build import build
from mfjax.app.ignored import refuse_idle
from mfjax.app.jobs import train as job
from mfjax.app.training import train
from mfjax.errors import InputError
from mfjax.reporting.files import as_json
from mfjax.reporting.loggers import LOGGERS
from mfjax.training.protocol import Outcome

MODULES = {"tensorboard": "tensorboardX", "wandb": "wandb", "mlflow": "mlflow"}
WORDS = {"protocol", "chosen_by", "missing", "loss_scale", "reg_by", "bias", "clip"}


class Sent(dict):
    """What a library was given: `points` by name, a list of (epoch, value) each."""

    def __init__(self):
        super().__init__(chosen={}, about={}, metrics={}, points={})

    def add(self, values, step):
        for name, value in values.items():
            self["points"].setdefault(name, []).append((step, value))


class Context(SimpleNamespace):
    """An object that a `with` takes."""

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None


def fake_tensorboard(sent):
    def add_hparams(chosen, metrics, name):
        sent["chosen"] |= chosen
        sent["metrics"] |= metrics

    def writer(logdir):
        return Context(
            add_text=lambda key, text: sent["about"].update({key: text}),
            add_scalar=lambda name, value, epoch: sent.add({name: value}, epoch),
            add_hparams=add_hparams,
        )

    return SimpleNamespace(SummaryWriter=writer)


def fake_wandb(sent):
    def init(*, config, mode, dir, **rest):
        assert mode == "offline"
        sent["chosen"] |= {key: config[key] for key in config if not isinstance(config[key], str)}
        sent["about"] |= {key: config[key] for key in config if isinstance(config[key], str)}
        summary = SimpleNamespace(update=sent["metrics"].update)
        return Context(log=sent.add, summary=summary, url=None, dir=f"{dir}/wandb/run/files")

    return SimpleNamespace(init=init, Settings=dict)


def fake_mlflow(sent):
    def log_metrics(values, step=None):
        if step is None:
            sent["metrics"] |= values
        else:
            sent.add(values, step)

    return SimpleNamespace(
        set_experiment=lambda name: None,
        start_run=lambda run_name: Context(),
        log_params=sent["chosen"].update,
        set_tags=sent["about"].update,
        log_metrics=log_metrics,
        get_tracking_uri=lambda: "sqlite:///mlflow.db",
    )


FAKES = {"tensorboard": fake_tensorboard, "wandb": fake_wandb, "mlflow": fake_mlflow}


class Written(NamedTuple):
    """A run that was trained and written."""

    cfg: DictConfig
    folder: Path
    outcome: Outcome
    results: dict

    def sent_to(self, logger):
        """Sends it there."""
        cfg = self.cfg.copy()
        cfg.logger = logger
        job.send(cfg, self.folder, self.outcome, self.results)


def run(folder, *given):
    cfg = composed(*QUIET, "hparams.rank=2", *given)
    (trained,) = train([cfg], [build(cfg)])
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(job, "experiment_name", lambda: "run")
        results = job.write(cfg, folder, trained, began=0.0)
    return Written(cfg, folder, trained.outcome, results)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A sweep of two settings on two splits, refitted."""
    return run(tmp_path_factory.mktemp("run"), "sweep.reg=[0.1,0.2]", "replicates=2")


@pytest.fixture
def environment(monkeypatch):
    """One that says nothing of the loggers."""
    for name in ("WANDB_MODE", "WANDB_DIR", "WANDB_PROJECT", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize("name", MODULES)
def test_what_is_sent_is_what_the_files_have(name, written, environment, capsys):
    sent = Sent()
    environment.setitem(sys.modules, MODULES[name], FAKES[name](sent))
    written.sent_to(name)
    assert "Logger: " in capsys.readouterr().out
    assert_as_written(sent, written.folder)
    assert sent["about"].keys() >= WORDS


def assert_as_written(sent, folder):
    """The numbers of results.json and, of the chosen lanes, of history.csv."""
    results = json.loads((folder / "results.json").read_text())
    assert sent["chosen"] == results["chosen"]
    ends = {"": "mean", "_low": "low", "_high": "high"}
    assert sent["metrics"] == {
        f"{column}{suffix}": pytest.approx(interval[end])
        for column, interval in results["metrics"].items()
        for suffix, end in ends.items()
    }
    chosen = pl.read_csv(folder / "lanes.csv").filter("chosen").select("lane")
    history = pl.read_csv(folder / "history.csv").join(chosen, on="lane").sort("lane", "epoch")
    measured = history.unpivot(index=["lane", "epoch"]).drop_nulls("value")
    expected = {}
    for lane, epoch, column, value in measured.iter_rows():
        points = expected.setdefault(f"{column}/lane_{lane}", [])
        points.append((epoch, pytest.approx(value)))
    assert sent["points"] == expected


def test_the_files_alone_are_the_default(written, capsys):
    assert written.cfg.logger == "csv"
    before = set(written.folder.rglob("*"))
    written.sent_to("csv")
    assert set(written.folder.rglob("*")) == before
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", MODULES)
def test_a_library_that_is_missing_is_refused_with_its_pip_line(name, monkeypatch):
    monkeypatch.setitem(sys.modules, MODULES[name], None)
    said = refusal(*TINY, f"logger={name}", until=composed)
    assert said.startswith(f"logger={name}: ")
    assert said.endswith(f"\npip install 'mfjax[{name}]'")


def test_every_logger_is_tested():
    assert {"csv", *MODULES} == set(LOGGERS)


def test_a_logger_that_fails_is_a_warning(written, environment, capsys):
    def init(**given):
        raise ConnectionError("nobody there")

    environment.setitem(sys.modules, "wandb", SimpleNamespace(init=init, Settings=dict))
    written.sent_to("wandb")
    said = " ".join(capsys.readouterr().out.split())
    assert said == "warning: logger=wandb did not take the run, whose files stand: nobody there"


@pytest.mark.slow
def test_what_a_run_that_diverged_has_not_is_not_sent(tmp_path, environment):
    sent = Sent()
    environment.setitem(sys.modules, "mlflow", fake_mlflow(sent))
    diverged = run(tmp_path, "hparams.learning_rate=1e9")
    diverged.sent_to("mlflow")
    assert sent["about"]["status"] == "diverged"
    values = [value for points in sent["points"].values() for _, value in points]
    assert all(math.isfinite(value) for value in (*values, *sent["metrics"].values()))
    assert len(sent["metrics"]) < 3 * len(diverged.results["metrics"])


@pytest.mark.skipif(find_spec("tensorboardX") is None, reason="of the extra tensorboard")
def test_the_event_files_have_what_the_files_have(written):
    written.sent_to("tensorboard")
    (own,) = written.folder.glob("tensorboard/*/events*")
    (chosen,) = written.folder.glob("tensorboard/*/chosen/events*")
    sent = Sent()
    sent["chosen"] = as_json(written.results["chosen"])
    sent["metrics"] = {value.tag: value.simple_value for _, value in scalars(chosen)}
    for epoch, value in scalars(own):
        sent.add({value.tag: value.simple_value}, epoch)
    assert_as_written(sent, written.folder)


def scalars(path):
    """(step, value) of the scalars of an event file, whose records are length, crc, event, crc."""
    from tensorboardX.proto.event_pb2 import Event

    text = path.read_bytes()
    while text:
        (length,) = struct.unpack("<Q", text[:8])
        event = Event.FromString(text[12 : 12 + length])
        for value in event.summary.value:
            if value.HasField("simple_value"):
                yield event.step, value
        text = text[16 + length :]


def test_a_job_that_trains_nothing_refuses_it():
    cfg = composed("data=toy", "job=gradients")
    with pytest.raises(InputError, match="logger=csv has no effect with job=gradients"):
        refuse_idle(cfg, ["logger=csv"])
