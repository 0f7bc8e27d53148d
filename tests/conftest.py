"""Strict numerics in every test: float64 there, shapes checked, no silent broadcasting.

Warnings are errors (pyproject.toml). Programs are small here, and compiling them takes longer than
running them, so that XLA is told not to try hard, here and in every process that a test starts:
`JAX_DISABLE_MOST_OPTIMIZATIONS=0 pytest` compiles them as a user's.
"""

import copy
import os
import pkgutil
import sys

import jaxtyping

import mfjax

if "JAX_DISABLE_MOST_OPTIMIZATIONS" not in os.environ:  # before jax is imported, which reads them
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")

UNCHECKED = {"app", "run"}  # whose DictConfigs are no types that beartype knows
CHECKED = [m.name for m in pkgutil.iter_modules(mfjax.__path__) if m.name not in UNCHECKED]
jaxtyping.install_import_hook([f"mfjax.{name}" for name in CHECKED], "shapes.checked")

import jax  # noqa: E402 (the hook comes before every import that it is to check)
import numpy as np  # noqa: E402
import pytest  # noqa: E402

from mfjax import (  # noqa: E402
    GRADIENTS,
    METHODS,
    Bounds,
    Plan,
    Problem,
    Ratings,
    Schedule,
    Spec,
    Sweep,
    optimizer,
)
from mfjax.testing import small_ratings  # noqa: E402

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_num_cpu_devices", 2)  # lanes are shared out over them
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_configure(config):
    config.option.loadscopereorder = False  # files in their order: those that take longest first


@pytest.fixture
def ratings() -> Ratings:
    """16 ratings of 6 users and 5 items in float64, and 3 of padding (`small_ratings`)."""
    return small_ratings()


@pytest.fixture(scope="session")
def skewed() -> Ratings:
    """331 ratings of 20 users and 310 items in float64, in no order, and 3 of padding at (0, 0).

    User 4 rates 300 items, 16 others 1 to 3, and three none, as some items. Weights, and folds -1,
    0 and 1.
    """
    rng = np.random.default_rng(3)
    few = [np.sort(rng.choice(310, 1 + u % 3, replace=False)) for u in range(20)]
    rows = {u: few[u] for u in range(20) if u not in (0, 11, 19)}
    rows |= {4: rng.permutation(310)[:300]}
    user = np.concatenate([np.full(len(items), u) for u, items in rows.items()])
    item = np.concatenate(list(rows.values()))
    n = len(user)
    shuffled = rng.permutation(n)
    value = 3 + rng.normal(size=n)
    weight = rng.uniform(0.5, 2, n)
    fold = np.arange(n) % 3 - 1
    given = Ratings.of(user[shuffled], item[shuffled], value, weight, fold, dtype="float64")
    return given.padded(n + 3)


@pytest.fixture(scope="session")
def problem() -> Problem:
    """A noisy matrix of rank 2, 40 users and 30 items in float32.

    720 ratings in folds 0 to 2, and 180 to test on.
    """
    rng = np.random.default_rng(2)
    planted = 3 + rng.normal(size=(40, 2)) @ rng.normal(size=(30, 2)).T
    stars = np.clip(planted + 0.3 * rng.normal(size=(40, 30)), 1, 5)
    user, item = np.unravel_index(rng.permutation(1200)[:900], stars.shape)
    value = stars[user, item]
    fold = np.arange(900) % 3

    def part(rows: slice) -> Ratings:
        return Ratings.of(user[rows], item[rows], value[rows], fold=fold[rows])

    return Problem(part(slice(720)), part(slice(720, None)), Bounds(1.0, 5.0))


@pytest.fixture(scope="session")
def sweep(problem) -> Sweep:
    """SGD in blocks of 3 lanes, compiled once for all tests.

    The second split has other folds and fewer ratings.
    """

    def method(spec):
        return METHODS["sgd"](spec, optimizer=optimizer("sgd"), batch_size=64)

    fewer = Ratings(*(column[:600] for column in problem.ratings))
    fewer = fewer._replace(fold=(np.arange(600) // 200).astype(np.int32))
    plan = Plan(
        spec=Spec(40, 30),
        method=method,
        problems={(0, 0): problem, (1, 0): problem._replace(ratings=fewer)},
        schedule=Schedule(epochs=12, epochs_per_call=5),
    )
    return Sweep(plan, lanes_per_program=3)


@pytest.fixture(scope="session")
def descent_sweep(problem) -> Sweep:
    """Full-batch descent, one lane at a time, measured at its last epoch alone.

    Split 1 is split 0 with other ratings in fold 0, and split 2 with other ratings to test on.
    """

    def method(spec):
        return METHODS["descent"](
            spec, gradient=GRADIENTS["coo"](spec), optimizer=optimizer("adam")
        )

    ratings, test = problem.ratings, problem.test
    other_fold = np.where(ratings.fold == 0, 6 - ratings.value, ratings.value)
    problems = {
        (0, 0): problem,
        (1, 0): problem._replace(ratings=ratings._replace(value=other_fold)),
        (2, 0): problem._replace(test=test._replace(value=6 - test.value)),
    }
    plan = Plan(
        spec=Spec(40, 30, missing="item_mean"),
        method=method,
        problems=problems,
        schedule=Schedule(epochs=10, eval_every=10),
    )
    return Sweep(plan, lanes_per_program=1)


@pytest.fixture
def forgotten():
    """What becomes a row of a table here, a function of a user, is none afterwards."""
    from hydra.core.config_store import ConfigStore
    from hydra.core.plugins import Plugins

    from mfjax.app import schema
    from mfjax.app.adopted import PLACES, OwnFunction

    before = set(sys.modules)
    Plugins.instance()  # which register their configs once a process, as they are found
    store = ConfigStore.instance()
    repo = copy.deepcopy(store.repo)
    yield
    store.repo = repo
    for name in set(sys.modules) - before:
        if name.startswith("own_") or name in ("helper", "mine"):
            del sys.modules[name]
    for place in PLACES.values():
        own = [name for name, row in place.table.items() if isinstance(row, OwnFunction)]
        for name in own:
            del place.table[name]
    schema.register()
