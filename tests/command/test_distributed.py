"""Two processes of one run (`jax.distributed`): each trains its share of the lanes.

The first writes, and to the same bits as one process.
"""

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
from commands import QUIET, assert_refused, process, strict_json

SWEEP = (  # 9 lanes: 5 and 4
    *QUIET,
    "sweep.reg=[0.1,0.2,0.3]",
    "sweep.learning_rate=[0.01,0.02,1e30]",
)


def free_port():
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


WAYS = {"full": (), "halving": ("search.eta=2", "search.first=1")}


@pytest.mark.slow
@pytest.mark.parametrize("more", WAYS.values(), ids=WAYS)
def test_two_processes_share_the_lanes(succeeded, tmp_path, more):
    alone = tmp_path / "alone"
    alone.mkdir()
    succeeded(alone, *SWEEP, *more)
    together = (
        *("distributed.enabled=true", f"distributed.coordinator=localhost:{free_port()}"),
        *("distributed.processes=2", "checkpoint.every=1"),
    )

    def of(number):
        which = f"distributed.process={number}"
        return process(tmp_path, *SWEEP, *more, *together, which)

    with ThreadPoolExecutor() as threads:
        first, second = threads.map(of, range(2))
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert "The chosen setting" in first.stdout
    assert "The chosen setting" not in second.stdout
    ours, theirs = tmp_path / "out", alone / "out"
    for name in ("factors.npz", "lanes.csv", "history.csv"):
        assert (ours / name).read_bytes() == (theirs / name).read_bytes()
    both, one = (strict_json(folder / "results.json") for folder in (ours, theirs))
    assert both["digest"] == one["digest"]
    devices = [of["provenance"]["devices"]["count"] for of in (both, one)]
    assert devices[0] == 2 * devices[1]
    assert not (ours / "checkpoint").exists()


def test_processes_that_cannot_be_told_are_asked_for(tmp_path):
    done = process(tmp_path, *SWEEP, "distributed.enabled=true")
    assert_refused(done, "distributed.coordinator=HOST:PORT")
