"""Strict numerics in every test: float64 there, silent broadcasting refused, warnings errors (pyproject), shapes checked."""

import jaxtyping
from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float
CHECKED = (  # not what takes a DictConfig: beartype refuses its own hints
    *("objective", "kernels", "gradients", "methods", "metrics"),
    *("training", "memory", "checks", "reporting"),
)
jaxtyping.install_import_hook([f"mfjax.{module}" for module in CHECKED], "conftest.checked")  # before they are imported

import jax  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

from mfjax import GRADIENTS, METHODS, Bounds, Problem, Ratings, Schedule, Spec, Sweep, optimizer  # noqa: E402

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_num_cpu_devices", 2)  # lanes are shared out over them
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


@pytest.fixture(scope="session")
def skewed() -> Ratings:
    """331 ratings of 20 users and 310 items in float64: user 4 rates 300 items, 16 others 1 to 3 and three none, as some items.

    Weights, folds -1, 0 and 1, and three ratings of padding, at (0, 0); in no order.
    """
    rng = np.random.default_rng(3)
    few = [np.sort(rng.choice(310, 1 + u % 3, replace=False)) for u in range(20)]
    rows = {u: few[u] for u in range(20) if u not in (0, 11, 19)} | {4: rng.permutation(310)[:300]}
    user = np.concatenate([np.full(len(items), u) for u, items in rows.items()])
    item, order = np.concatenate(list(rows.values())), rng.permutation(len(user))
    n = len(user)
    value, weight, fold = 3 + rng.normal(size=n), rng.uniform(0.5, 2, n), np.arange(n) % 3 - 1
    return Ratings.of(user[order], item[order], value, weight, fold, dtype="float64").padded(n + 3)


@pytest.fixture(scope="session")
def problem() -> Problem:
    """A noisy matrix of rank 2, 40 users and 30 items in float32: 720 ratings in folds 0 to 2, and 180 to test on."""
    rng = np.random.default_rng(2)
    full = 3 + rng.normal(size=(40, 2)) @ rng.normal(size=(30, 2)).T + 0.3 * rng.normal(size=(40, 30))
    user, item = np.unravel_index(rng.permutation(1200)[:900], full.shape)
    value, fold = np.clip(full, 1, 5)[user, item], np.arange(900) % 3
    part = lambda rows: Ratings.of(user[rows], item[rows], value[rows], fold=fold[rows])  # noqa: E731
    return Problem(part(slice(720)), part(slice(720, None)), Bounds(1.0, 5.0))


@pytest.fixture(scope="session")
def sweep(problem) -> Sweep:
    """SGD in blocks of 3 lanes, compiled once for all tests; the second split has other folds and fewer ratings."""
    fewer = problem._replace(ratings=Ratings(*(x[:600] for x in problem.ratings))._replace(fold=np.arange(600) // 200))
    schedule, spec = Schedule(epochs=12, chunk=5), Spec(40, 30, batch_size=64)
    return Sweep(spec, lambda spec: METHODS["sgd"](spec, None, optimizer("sgd")), {0: problem, 1: fewer}, schedule, width=3)


@pytest.fixture(scope="session")
def descent_sweep(problem) -> Sweep:
    """Full-batch descent, one lane at a time, measured at its last epoch alone. Split 1 is split 0 with other ratings in
    fold 0, and split 2 with other ratings to test on."""
    ratings, test = problem.ratings, problem.test
    problems = {
        0: problem,
        1: problem._replace(ratings=ratings._replace(value=np.where(ratings.fold == 0, 6 - ratings.value, ratings.value))),
        2: problem._replace(test=test._replace(value=6 - test.value)),
    }
    spec, schedule = Spec(40, 30, missing="item_mean"), Schedule(epochs=10, eval_every=10)
    method = lambda spec: METHODS["descent"](spec, GRADIENTS["coo"](spec), optimizer("adam"))  # noqa: E731
    return Sweep(spec, method, problems, schedule, width=1)
