"""myFM: Bayesian factorisation machines, with the bags of both sides as relation blocks."""

import numpy as np
from common import GIBBS_SWEEPS, Data, Task, main, seconds_an_epoch
from myfm import MyFMGibbsRegressor, RelationBlock
from scipy.sparse import csr_matrix, eye, hstack

BURN_IN = 20


def gibbs(task: Task) -> dict:
    """One sweep, from the difference of fits of two lengths; the test error of fits of several."""
    data = task.data
    of_sides = designs(data)
    grouping = [
        *[0] * data.num_users,
        *[1] * data.num_items,
        *[2] * data.num_items,
        *[3] * data.num_users,
    ]

    def blocks(user: np.ndarray, item: np.ndarray) -> list[RelationBlock]:
        pairs = zip((user, item), of_sides, strict=True)
        return [RelationBlock(row.tolist(), design) for row, design in pairs]

    def fit(sweeps: int) -> MyFMGibbsRegressor:
        model = MyFMGibbsRegressor(rank=task.rank, random_seed=0)
        kept = max(sweeps - BURN_IN, 1)
        return model.fit(
            None,
            data.value,
            X_rel=blocks(data.user, data.item),
            grouping=grouping,
            n_iter=sweeps,
            n_kept_samples=kept,
        )

    seconds, setup = seconds_an_epoch(fit, 10, task.quick)
    result = {"seconds": seconds, "setup_seconds": setup, "note": "bags of both sides"}
    if not task.curve:
        return result
    tested = blocks(data.test_user, data.test_item)
    errors = {}
    for sweeps in GIBBS_SWEEPS[:1] if task.quick else GIBBS_SWEEPS[5:]:
        errors[sweeps] = data.rmse(fit(sweeps).predict(None, X_rel=tested))
    return result | {"curve": errors, "rmse": min(errors.values())}


def designs(data: Data) -> tuple[csr_matrix, csr_matrix]:
    """A row a user: who it is, and what it rated over √n; the mirror image for items."""
    shape = (data.num_users, data.num_items)
    rated = csr_matrix((np.ones(len(data.user)), (data.user, data.item)), shape)

    def of_side(own: csr_matrix) -> csr_matrix:
        count = np.maximum(np.asarray(own.sum(1)).reshape(-1, 1), 1)
        scaled = csr_matrix(own.multiply(1 / np.sqrt(count)))
        return csr_matrix(hstack([eye(own.shape[0]), scaled]))

    return of_side(rated), of_side(csr_matrix(rated.T))


main({"gibbs": gibbs})
