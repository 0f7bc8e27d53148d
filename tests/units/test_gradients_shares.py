"""A share of the ratings, at which the gradients are compared, keeps what they weigh."""

from dataclasses import replace

import numpy as np

from mfjax.app.jobs.gradients import part_of
from mfjax.data import from_ids


def test_a_share_keeps_weights_and_times():
    user, item = np.divmod(np.arange(40), 4)
    whole = from_ids("made", user, item, np.arange(40.0))
    weighted = replace(whole, weight=whole.value + 1, timestamp=whole.value.astype(np.int64))
    part = part_of(weighted, 0.5)
    assert len(part.value) == 20
    np.testing.assert_array_equal(part.weight, part.value + 1)
    np.testing.assert_array_equal(part.timestamp, part.value)
    assert part_of(whole, 0.5).weight is None
