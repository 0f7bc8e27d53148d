"""The job that holds a device against its floors: the counts, the verdicts, and what it writes."""

import numpy as np
import pytest
from test_run import command, rows_of, strict_json, succeeded

from mfjax.app.jobs import device
from mfjax.app.jobs.device import Shape, Work

TINY = (
    *(
        "+exp=device",
        "data.num_users=30",
        "data.num_items=20",
        "data.num_ratings=300",
        "batch_size=64",
        "check.repeats=3",
    ),
    *(
        "device.ranks=[3,5]",
        "device.lanes=2",
        "device.lane_rank=2",
        "device.lane_data.num_users=20",
    ),
    *(
        "device.lane_data.num_items=10",
        "device.lane_data.num_ratings=100",
        "compilation_cache=true",
    ),
)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """(process, output folder) of the job on a few ratings."""
    folder = tmp_path_factory.mktemp("device")
    return succeeded(folder, *TINY), folder / "out"


@pytest.fixture(scope="module")
def figures(measured):
    return strict_json(measured[1] / "results.json")


def test_a_row_an_operation_and_rank(measured, figures):
    rows = rows_of(measured[1] / "device.csv")
    operations = [(row["operation"], int(row["rank"])) for row in rows]
    assert operations == [
        *((name, rank) for name in ("gradient", "als", "sgd") for rank in (3, 5)),
        ("sweep", 2),
    ]
    assert list(rows[0]) == list(device.COLUMNS) and [
        row["operation"] for row in figures["operations"]
    ] == [o for o, _ in operations]
    for row in rows:
        assert (
            0 < float(row["ms_low"]) <= float(row["ms"]) <= float(row["ms_high"])
            and float(row["compile_s"]) > 0
        )
        assert float(row["ratio"]) == pytest.approx(float(row["ms"]) / float(row["floor_ms"]))
    assert [row["lanes"] for row in rows] == [""] * 6 + ["2"] and rows[-1]["ratings"] == "100"


def test_the_device_agrees_with_the_cpu_and_repeats_itself(figures):
    for row in figures["operations"][:4]:
        assert row["status"] == "ok" and 0 < row["error"] <= row["tolerance"] == 1e-4
    assert [row["status"] for row in figures["operations"][4:]] == ["timed"] * 3
    assert [row["same_bits"] for row in figures["operations"]] == ["yes"] * 6 + [None]


def test_the_floor_is_of_the_slower_rate(figures):
    rates = figures["device"]
    for row in figures["operations"]:
        floors = {
            "bytes": 1e3 * row["bytes"] / rates["copy_bytes_a_second"],
            "FLOPs": 1e3 * row["flops"] / rates["matmul_flops_a_second"],
        }
        assert row["floor_ms"] == pytest.approx(max(floors.values())) and floors[
            row["bound"]
        ] == max(floors.values())


def test_the_hardware_is_named_and_the_files_are_there(measured, figures):
    done, folder = measured
    assert figures["device"]["kind"] and figures["device"]["platform"] == "cpu"
    assert figures["device"]["matmul_precision"] == "highest" and figures["experiment"] == "device"
    assert {p.name for p in folder.iterdir()} == {
        "device.csv",
        "device.md",
        "results.json",
        "run.log",
        ".hydra",
    }
    assert (folder / "device.md").read_text().count("\n") == 7 + 2
    assert "measured: a copy at" in done.stdout and done.stderr == ""


# the counts, on one rating of one user and one item, or of two users


def test_the_work_of_a_gradient():
    one = Shape(ratings=1, rows=2, columns=3, itemsize=4)
    gathered = 2 * (4 + 4 + 12)  # on either side: a column, a value and a row of three floats
    assert device.gradient_work(one) == Work(
        gathered + 2 * 24, 2 * 12 + 2 * 6
    )  # two rows are read and written


def test_the_work_of_als_is_the_gradients_bytes_and_the_solutions():
    shape = Shape(ratings=10, rows=7, columns=6, itemsize=4)
    bytes_moved, flops = device.als_work(shape)
    assert bytes_moved == device.gradient_work(shape).bytes
    assert flops == 2 * 10 * (6 * 7 + 2 * 6) + 7 * (72 + 72)


def test_the_work_of_sgd():
    assert device.sgd_work(Shape(ratings=5, rows=9, columns=2, itemsize=4)) == Work(
        5 * (16 + 32), 5 * 16
    )


def test_a_sweep_is_its_lanes():
    shape = Shape(ratings=10, rows=7, columns=6, itemsize=4)
    work, lanes = device.gradient_work(shape), device.sweep_work(shape, 3)
    assert lanes == Work(3 * work.bytes, 3 * (work.flops + 2 * 6 * 7))


@pytest.mark.parametrize(
    "task, floor_ms, work",
    [
        ("gradient", 3.1, device.gradient_work(Shape(25_000_000, 221_588, 64, 4))),
        ("als", 3.5, device.als_work(Shape(25_000_000, 221_588, 64, 4))),
        ("sgd", 6.0, device.sgd_work(Shape(25_000_000, 221_588, 64, 4))),
        ("sweep", 3.0, device.sweep_work(Shape(100_000, 2_625, 16, 4), 1000)),
    ],
)
def test_the_floors_of_a_large_accelerator(task, floor_ms, work):
    """4.3 TB/s and 67 TFLOP/s: the floors that were worked out by hand, which count gathered rows alone, are no higher."""
    floor = 1e3 * max(work.bytes / 4.3e12, work.flops / 67e12)
    assert floor_ms * 0.95 <= floor <= floor_ms * 1.3


# verdicts


@pytest.mark.parametrize("error, status", [(1e-5, "ok"), (1e-3, "FAILED"), (np.nan, "FAILED")])
def test_a_verdict(error, status):
    assert device.judged(error)["status"] == status


def test_a_device_that_disagrees_exits_2(tmp_path):
    program = "import sys; from mfjax import run; from mfjax.app.jobs import device; device.TOLERANCE = 1e-12; run.main()"
    done = command(tmp_path, *TINY, "device.ranks=[3]", python=("-c", program))
    assert (
        done.returncode == 2
        and "gradient at rank 3 is" in done.stdout
        and "from the CPU" in done.stdout
    )


@pytest.mark.parametrize(
    "argument, message",
    [
        ("devices=2", "job=device times one device, and jax sees 2"),
        ("device.ranks=[-1]", "device.ranks: expected an integer from 0 to 4096, got -1"),
        ("device.lane_data.source=nope", "device.lane_data.source: expected one of"),
        ("hparams.learning_rate=1e9", "set a lower hparams.learning_rate"),
        ("missing=zero", "method=sgd sees only ratings"),
    ],
)
def test_what_it_cannot_time_is_refused(tmp_path, argument, message):
    done = command(tmp_path, *TINY, argument)
    assert (
        done.returncode == 1
        and message in done.stderr
        and "Traceback" not in done.stdout + done.stderr
    )
