"""Another loss from end to end: trained, said, predicted from, compared."""

import polars as pl
import pytest
from commands import QUIET, assert_refused, rows_of, strict_json

import mfjax
from mfjax import GRADIENTS
from mfjax.kernels.choice import available

OWN = """
import math

import jax.numpy as jnp


def log_cosh(prediction, rating):
    error = prediction - rating
    return jnp.logaddexp(error, -error) - math.log(2)


def endless(prediction, rating):
    return jnp.log(prediction) - rating
"""


def test_a_run_of_another_loss_says_so(succeeded, tmp_path):
    swept = ("loss=huber", "sweep.huber_delta=[0.2,2]")
    done = succeeded(tmp_path, *QUIET, *swept)
    results = strict_json(tmp_path / "out/results.json")
    assert results["conventions"]["loss"] == "huber"
    assert "; loss=huber" in results["protocol"]
    assert results["chosen"]["huber_delta"] in (0.2, 2)
    assert "absolute_width" not in results["chosen"]
    kernel = results["method"]["kernel"]
    assert kernel["name"] == "xla"
    assert f"Kernel: xla ({kernel['reason']})" in done.stdout
    assert "loss=huber" in done.stdout.partition("Conventions:")[2]
    assert len(rows_of(tmp_path / "out/lanes.csv")) == 3
    model = mfjax.load(tmp_path / "out")
    tested = pl.read_parquet(tmp_path / "out/predictions.parquet")
    assert model.loss == "huber"
    again = model.predict(tested["user"], tested["item"])
    assert again == pytest.approx(tested["prediction"].to_numpy(), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sgd", "descent"])
def test_a_loss_of_ones_own_trains(command, succeeded, tmp_path, method):
    (tmp_path / "mine.py").write_text(OWN)
    own = ("loss=mine.py:log_cosh", f"method={method}")
    done = succeeded(tmp_path, *QUIET, *own)
    assert "loss=mine.py:log_cosh keeps its contract" in done.stdout
    results = strict_json(tmp_path / "out/results.json")
    assert "loss=mine.py:log_cosh" in results["protocol"]
    assert results["provenance"]["own"]["loss"]["name"] == "mine.py:log_cosh"
    assert mfjax.load(tmp_path / "out").loss == "mine.py:log_cosh"
    other = command(tmp_path, *QUIET, *own[1:], "loss=mine.py:endless", "hydra.run.dir=other")
    assert_refused(other, "loss=mine.py:endless breaks its contract: value and slope are finite")


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["huber", "mine.py:log_cosh"])
def test_gradients_of_another_loss_are_compared(succeeded, tmp_path, loss):
    (tmp_path / "mine.py").write_text(OWN)
    toy = ("data=toy", "data.num_users=6", "data.num_items=5", "plots.draw=false")
    done = succeeded(tmp_path, "job=gradients", *toy, f"loss={loss}", "job.repeats=1")
    rows = rows_of(tmp_path / "out/gradients.csv")
    assert [row["gradient"] for row in rows] == available(GRADIENTS, loss)
    assert {row["status"] for row in rows} == {"ok", "oracle"}
    assert strict_json(tmp_path / "out/results.json")["loss"] == loss
    assert f"; loss={loss}" in " ".join(done.stdout.split())
