"""The job that holds a device against its floors: what it writes, and how it ends."""

import pytest
from commands import assert_refused, assert_succeeded, process, rows_of, strict_json

from mfjax.app.jobs import device

TINY = (
    *("+exp=device", "data.num_users=30", "data.num_items=20", "data.num_ratings=300"),
    *("method.batch_size=64", "job.repeats=3", "job.ranks=[3,5]", "job.lanes=2", "job.lane_rank=2"),
    *("job.lane_data.num_users=20", "job.lane_data.num_items=10", "job.lane_data.num_ratings=100"),
    "compilation_cache=true",
)
pytestmark = pytest.mark.slow


BRIEFLY = "from mfjax.app.jobs import _floors; _floors.RUNS = _floors.CALLS = 1; "
RUN = "from mfjax import run; run.main()"


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """(what it said, output folder) of the job on a few ratings, and rates of a call each."""
    folder = tmp_path_factory.mktemp("device")
    done = process(folder, *TINY, python=("-c", BRIEFLY + RUN))
    return assert_succeeded(done), folder / "out"


@pytest.fixture(scope="module")
def figures(measured):
    return strict_json(measured[1] / "results.json")


def test_a_row_an_operation_and_rank(measured, figures):
    rows = rows_of(measured[1] / "device.csv")
    each = [(name, rank) for name in ("gradient", "als", "sgd") for rank in (3, 5)]
    assert [(row["operation"], int(row["rank"])) for row in rows] == [*each, ("sweep", 2)]
    assert list(rows[0]) == list(device.COLUMNS)
    named = [row["operation"] for row in figures["operations"]]
    assert named == [row["operation"] for row in rows]
    for row in rows:
        ms = float(row["ms"])
        assert 0 < float(row["ms_low"]) <= ms <= float(row["ms_high"])
        assert float(row["compile_s"]) > 0
        assert float(row["ratio"]) == pytest.approx(ms / float(row["floor_ms"]))
    assert [row["lanes"] for row in rows] == [""] * 6 + ["2"]
    assert rows[-1]["ratings"] == "100"


def test_the_device_agrees_with_the_cpu_and_repeats_itself(figures):
    rows = figures["operations"]
    for row in rows[:4]:
        assert row["status"] == "ok"
        assert 0 < row["error"] <= row["tolerance"] == 1e-4
    assert [row["status"] for row in rows[4:]] == ["timed"] * 3
    assert [row["same_bits"] for row in rows] == ["yes"] * 6 + [None]


def test_the_floor_is_of_the_slower_rate(figures):
    rates = figures["device"]
    for row in figures["operations"]:
        floors = {
            "bytes": 1e3 * row["bytes"] / rates["copy_bytes_a_second"],
            "FLOPs": 1e3 * row["flops"] / rates["matmul_flops_a_second"],
        }
        assert row["floor_ms"] == pytest.approx(max(floors.values()))
        assert floors[row["bound"]] == max(floors.values())


def test_the_hardware_is_named_and_the_files_are_there(measured, figures):
    done, folder = measured
    assert figures["device"]["kind"]
    assert figures["device"]["platform"] == "cpu"
    assert figures["device"]["matmul_precision"] == "highest"
    assert figures["experiment"] == "device"
    files = {"device.csv", "device.md", "results.json", "run.log", ".hydra"}
    assert {path.name for path in folder.iterdir()} == files
    assert (folder / "device.md").read_text().count("\n") == 7 + 2
    assert "measured: a copy at" in done.stdout
    assert done.stderr == ""


def test_a_device_that_disagrees_exits_2(tmp_path):
    strictly = "from mfjax.app.jobs import device; device.TOLERANCE = 1e-12; "
    done = process(tmp_path, *TINY, "job.ranks=[3]", python=("-c", BRIEFLY + strictly + RUN))
    assert done.returncode == 2, done.stderr
    assert "gradient at rank 3 is" in done.stdout
    assert "from the CPU" in done.stdout


def test_several_devices_are_refused(command, tmp_path):
    done = command(tmp_path, *TINY, "devices=null")
    assert_refused(done, "job=device times one device, and jax sees 2")
