"""Two processes of one run (`jax.distributed`): each trains its share of the lanes, the first writes, to the same bits."""

import socket

import pytest
from test_checkpoint import popen
from test_run import SMALL, strict_json, succeeded

SWEEP = (
    *SMALL,
    "sweep.reg=[0.1,0.2,0.3]",
    "sweep.learning_rate=[0.01,0.02,1e30]",
    "plots=false",
)  # 9 lanes: 5 and 4


def free_port():
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


@pytest.mark.parametrize("more", [(), ("search.eta=2", "search.first=1")], ids=["full", "halving"])
def test_two_processes_share_the_lanes(tmp_path, more):
    succeeded(tmp_path, *SWEEP, *more, "hydra.run.dir=alone")
    together = (
        "distributed.enabled=true",
        f"distributed.coordinator=localhost:{free_port()}",
        "distributed.processes=2",
    )
    run = ("hydra.run.dir=together", "checkpoint.every=1")
    processes = [
        popen(tmp_path, *SWEEP, *more, *together, *run, f"distributed.process={i}")
        for i in range(2)
    ]
    said = [process.communicate(timeout=200) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert "The chosen setting" in said[0][0] and "The chosen setting" not in said[1][0]
    for name in ("factors.npz", "lanes.csv", "history.csv"):
        assert (tmp_path / "together" / name).read_bytes() == (
            tmp_path / "alone" / name
        ).read_bytes()
    alone, both = (
        strict_json(tmp_path / folder / "results.json") for folder in ("alone", "together")
    )
    assert both["digest"] == alone["digest"]
    assert both["provenance"]["devices"]["count"] == 2 * alone["provenance"]["devices"]["count"]
    assert not (tmp_path / "together/checkpoint").exists()


def test_processes_that_cannot_be_told_are_asked_for(tmp_path):
    process = popen(tmp_path, *SWEEP, "distributed.enabled=true")
    said = process.communicate(timeout=100)[1]
    assert (
        process.returncode == 1
        and "distributed.coordinator=HOST:PORT" in said
        and "Traceback" not in said
    )
