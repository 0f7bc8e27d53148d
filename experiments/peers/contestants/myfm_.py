"""myFM: Bayesian factorisation machines, users and items as relation blocks."""

from typing import Any, NamedTuple

import numpy as np
from common import GIBBS_SWEEPS, Data, Task, best_on_folds, main, seconds_an_epoch
from myfm import MyFMGibbsRegressor, RelationBlock
from scipy.sparse import csr_matrix, eye, hstack

BURN_IN = 20


class Design(NamedTuple):
    """What a row of a user, or of an item, is made of: groups of columns side by side."""

    groups: list[csr_matrix]

    def block(self, rows: np.ndarray) -> RelationBlock:
        return RelationBlock(rows.tolist(), csr_matrix(hstack(self.groups)))


def designs(data: Data, *, bags: bool) -> tuple[Design, Design]:
    """A row a user: who it is and, in a bag, what it rated over √n; the mirror image for items."""
    shape = (data.num_users, data.num_items)
    rated = csr_matrix((np.ones(len(data.user)), (data.user, data.item)), shape)

    def of_side(own: csr_matrix) -> Design:
        one_hot = eye(own.shape[0], format="csr")
        if not bags:
            return Design([one_hot])
        count = np.maximum(np.asarray(own.sum(1)).reshape(-1, 1), 1)
        return Design([one_hot, csr_matrix(own.multiply(1 / np.sqrt(count)))])

    return of_side(rated), of_side(csr_matrix(rated.T))


class Sampler(NamedTuple):
    """myFM on the training ratings; each group of columns has hyperparameters of its own."""

    data: Data
    rank: int
    sides: tuple[Design, Design]

    def fit(self, sweeps: int, kept: int) -> MyFMGibbsRegressor:
        sizes = [columns.shape[1] for side in self.sides for columns in side.groups]
        model = MyFMGibbsRegressor(rank=self.rank, random_seed=0)
        return model.fit(
            None,
            self.data.value,
            X_rel=self.blocks(self.data.user, self.data.item),
            group_shapes=sizes,
            n_iter=sweeps,
            n_kept_samples=kept,
        )

    def error(self, model: MyFMGibbsRegressor) -> float:
        """That of the mean over the samples that are kept."""
        tested = self.blocks(self.data.test_user, self.data.test_item)
        return self.data.rmse(model.predict(None, X_rel=tested))

    def blocks(self, user: np.ndarray, item: np.ndarray) -> list[RelationBlock]:
        return [side.block(rows) for side, rows in zip(self.sides, (user, item), strict=True)]


def gibbs(task: Task) -> dict:
    """One sweep, from the difference of fits of two lengths; the test error of fits of several."""
    sampler = Sampler(task.data, task.rank, designs(task.data, bags=True))

    def fit(sweeps: int) -> MyFMGibbsRegressor:
        return sampler.fit(sweeps, max(sweeps - BURN_IN, 1))

    seconds, setup = seconds_an_epoch(fit, 10, task.quick)
    result = {"seconds": seconds, "setup_seconds": setup, "note": "bags of both sides"}
    if not task.curve:
        return result
    errors = {}
    for sweeps in GIBBS_SWEEPS[:1] if task.quick else GIBBS_SWEEPS[5:]:
        errors[sweeps] = sampler.error(fit(sweeps))
    return result | {"curve": errors, "rmse": min(errors.values())}


def folds(task: Task) -> dict:
    """The folds of a data set, with bags where the task calls for them."""

    def error(data: Data, choice: dict[str, Any]) -> float:
        bags = task.options["bags"] == "both"
        sampler = Sampler(data, task.rank, designs(data, bags=bags))
        return sampler.error(sampler.fit(**choice))

    return best_on_folds(task, error)


main({"gibbs": gibbs, "folds": folds})
