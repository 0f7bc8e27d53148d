"""Every row of SOURCES and SPLITS keeps the contract that `mfjax.testing` offers to one's own."""

import pytest

from mfjax import PUBLISHED, SOURCES, SPLITS
from mfjax.testing import any_ratings, dataset_checks, split_checks

GIVEN = {
    "file": {"path": "bundled:ml-latest-small"},
    "synthetic": {"num_users": 30, "num_items": 20, "num_ratings": 200},
    "matrix": {"rows": [[5, None, 3], [4, 2, 1]]},
}
CHECKS = {
    **{
        f"{name}: {what}": check
        for name, source in SOURCES.items()
        if name not in PUBLISHED
        for what, check in dataset_checks(source(**GIVEN.get(name, {}))).items()
    },
    **{
        f"{name}: {what}": check
        for name, split in SPLITS.items()
        for what, check in split_checks(split, any_ratings(203), split_seed=3).items()
    },
}


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_every_source_and_split_keeps_its_contract(check):
    check()
