"""Strict numerics in every test: float64 there, silent broadcasting refused, warnings errors (pyproject), shapes checked."""

import jaxtyping
from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float
CHECKED = ("objective", "gradients", "methods", "metrics", "train", "sweep", "protocol", "check", "expected", "examples")
jaxtyping.install_import_hook([f"mfjax.{module}" for module in CHECKED], "conftest.checked")  # before they are imported

import jax  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

from mfjax.metrics import Bounds  # noqa: E402
from mfjax.sweep import Problem  # noqa: E402
from mfjax.types import Ratings  # noqa: E402

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def ratings() -> Ratings:
    """16 ratings of 6 users and 5 items in float64: weights, folds -1, 0 and 1, user 3 and item 2 without any, padding.

    The padding stands at (0, 0), where there is a real rating too.
    """
    rng = np.random.default_rng(1)
    cells = [(u, i) for u in (0, 1, 2, 4, 5) for i in (0, 1, 3, 4) if (u + i) % 4 or u == 0]
    user, item = np.transpose(cells)
    n = len(cells)
    assert n == 16 and (0, 0) in cells
    fold = np.arange(n) % 3 - 1
    return Ratings.of(user, item, 3 + rng.normal(size=n), rng.uniform(0.5, 2, n), fold, dtype="float64").padded(n + 3)


@pytest.fixture
def problem() -> Problem:
    """A noisy matrix of rank 2, 20 users and 15 items in float32: 180 ratings in folds 0 to 2, and 60 to test on."""
    rng = np.random.default_rng(2)
    full = 3 + rng.normal(size=(20, 2)) @ rng.normal(size=(15, 2)).T / 2 + 0.3 * rng.normal(size=(20, 15))
    user, item = np.unravel_index(rng.permutation(300)[:240], full.shape)
    value, fold = np.clip(full, 1, 5)[user, item], np.arange(240) % 3
    part = lambda rows: Ratings.of(user[rows], item[rows], value[rows], fold=fold[rows])  # noqa: E731
    return Problem(part(slice(180)), part(slice(180, None)), Bounds(1.0, 5.0))
