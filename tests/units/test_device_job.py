"""What holds a device against its floors: the counts by hand, the verdicts, and what ends it."""

import numpy as np
import pytest
from configs import composed

from mfjax import InputError
from mfjax.app.build import build_dataset, build_spec
from mfjax.app.jobs import device
from mfjax.app.jobs._floors import (
    Rates,
    Shape,
    Work,
    als_work,
    gradient_work,
    sgd_work,
    sweep_work,
)
from mfjax.app.jobs._operations import Bench, sgd, sweep_row

SHAPE = Shape(ratings=10, rows=7, columns=6, itemsize=4)


def test_the_work_of_a_gradient():
    one = Shape(ratings=1, rows=2, columns=3, itemsize=4)
    gathered = 2 * (4 + 4 + 12)  # on either side: a column, a value and a row of three floats
    moved = 2 * 24  # two rows are read and written
    assert gradient_work(one) == Work(gathered + moved, 2 * 12 + 2 * 6)


def test_the_work_of_als_is_the_gradients_bytes_and_the_solutions():
    moved, flops = als_work(SHAPE)
    assert moved == gradient_work(SHAPE).bytes
    assert flops == 2 * 10 * (6 * 7 + 2 * 6) + 7 * (72 + 72)


def test_the_work_of_sgd():
    shape = Shape(ratings=5, rows=9, columns=2, itemsize=4)
    assert sgd_work(shape) == Work(5 * (16 + 32), 5 * 16)


def test_a_sweep_is_its_lanes():
    work = gradient_work(SHAPE)
    assert sweep_work(SHAPE, 3) == Work(3 * work.bytes, 3 * (work.flops + 2 * 6 * 7))


LARGE = Shape(25_000_000, 221_588, 64, 4)


@pytest.mark.parametrize(
    "floor_ms, work",
    [
        (3.1, gradient_work(LARGE)),
        (3.5, als_work(LARGE)),
        (6.0, sgd_work(LARGE)),
        (3.0, sweep_work(Shape(100_000, 2_625, 16, 4), 1000)),
    ],
    ids=["gradient", "als", "sgd", "sweep"],
)
def test_the_floors_of_a_large_accelerator(floor_ms, work):
    """Those that were worked out by hand, which count gathered rows alone, are no higher.

    At 4.3 TB/s and 67 TFLOP/s.
    """
    floor = 1e3 * max(work.bytes / 4.3e12, work.flops / 67e12)
    assert floor_ms * 0.95 <= floor <= floor_ms * 1.3


@pytest.mark.parametrize("error, status", [(1e-5, "ok"), (1e-3, "FAILED"), (np.nan, "FAILED")])
def test_a_verdict(error, status):
    assert device.judged(error)["status"] == status


def test_lanes_that_diverge_are_refused():
    cfg = composed(
        *("job=device", "data=toy", "job.repeats=1", "job.lanes=2", "job.lane_rank=2"),
        *("job.lane_data.name=toy", "job.lane_data.num_users=20", "job.lane_data.num_items=10"),
        "hparams.learning_rate=1e9",
    )
    bench = Bench(cfg, build_dataset(cfg), Rates(1e9, 1e9))
    with pytest.raises(InputError, match=r"2 of 2 lanes diverged .* set a lower hparams.learning"):
        sweep_row(bench)


def test_missing_entries_that_count_are_refused():
    cfg = composed("job=device", "missing=zero")
    with pytest.raises(InputError, match="method=sgd sees only ratings"):
        sgd(cfg, build_spec(cfg, 1, 1))
