"""The data of a plan's splits as one program reads them, on the host."""

import jax
import numpy as np
from jaxtyping import Float

from mfjax.data.problem import Problem
from mfjax.errors import InputError
from mfjax.memory import refuse_beyond_memory
from mfjax.metrics.lists import Lists, prepare_lists
from mfjax.objective import AnyArray
from mfjax.training.epochs import Data, start
from mfjax.training.fitting import SMALLER_HINT, num_bytes
from mfjax.training.lanes import Plan
from mfjax.types import ASKED, Bounds, Factors, Hparams, Method, Ratings, Run, Spec


def prepared(
    plan: Plan,
    method: Method,
    spec: Spec,
) -> list[Data]:
    """The data of each split, all with as many ratings, on the host.

    Raises OutOfMemory where those of all do not fit, as the first says, and InputError where new
    users are folded in, and their transductive bags would be of less than those of the others.
    """
    problems = plan.problems.values()
    if method.transductive and method.rated and any(len(one.given.value) for one in problems):
        raise InputError(
            "transductive bags of users: expected no new users in the test, who are folded in by "
            "the ratings that they give; use bags.item, or bags.transductive=false"
        )
    takes_asked = method.transductive or method.averages is not None
    of_problem = seen_and_asked if takes_asked else seen
    most = max(len(of_problem(problem).value) for problem in problems)
    warm = None
    if plan.warm is not None:
        warm = Factors(*(widened(side, spec) for side in plan.warm))

    def data(problem: Problem) -> Data:
        ratings = of_problem(problem).padded(most)
        return Data(
            layout=method.prepare(ratings),
            ratings=ratings,
            bounds=Bounds(*np.asarray(problem.bounds, spec.dtype)),
            warm=warm,
            lists=validation_lists(problem, plan) if plan.schedule.chosen_by_lists else None,
        )

    prepared = []
    for problem in problems:
        prepared.append(data(problem))
        if len(prepared) == 1:
            needed = 2 * len(problems) * num_bytes(prepared[0])
            refuse_beyond_memory(needed, f"{len(problems)} splits", SMALLER_HINT, on_host=True)
    return prepared


def seen(problem: Problem) -> Ratings:
    """The ratings that a method is prepared with."""
    return problem.ratings


def seen_and_asked(problem: Problem) -> Ratings:
    """The same, and after them those to be tested: of weight 0, and without their values."""
    test = problem.test
    asked = Ratings.of(
        test.user,
        test.item,
        np.zeros(len(test.value)),
        np.zeros(len(test.value)),
        np.full(len(test.value), ASKED),
        dtype=problem.ratings.value.dtype.name,
    )
    sides = zip(problem.ratings, asked, strict=True)
    return Ratings(*(np.concatenate(both) for both in sides))


def asked_places(problem: Problem) -> slice:
    """Where those to be tested stand in `seen_and_asked`."""
    first = len(problem.ratings.value)
    return slice(first, first + len(problem.test.value))


def validation_lists(problem: Problem, plan: Plan) -> Lists:
    """The Lists of each validation fold, `[folds, …]`; the other ratings are seen."""
    ratings = problem.ratings
    shape = (plan.spec.num_users, plan.spec.num_items)
    rule = plan.schedule.lists
    assert rule is not None  # as Schedule says

    def of_fold(fold: int) -> Lists:
        is_held_out = ratings.fold == fold
        seen, held_out = ratings.taken(~is_held_out), ratings.taken(is_held_out)
        return prepare_lists(seen, held_out, shape, relevant=rule.relevant, graded=rule.graded)

    folds = range(max(int(ratings.fold.max(initial=-1)) + 1, 1))
    return jax.tree.map(padded_together, *map(of_fold, folds))


def blank_run(method: Method, data: Data, spec: Spec) -> Run:
    """A run of zeros, of the shapes that one has: that of a lane that has not begun."""

    def begun(data: Data) -> Run:
        return start(method, data, Hparams.of(spec.dtype))

    def zeros(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        return np.zeros(leaf.shape, leaf.dtype)

    return jax.tree.map(zeros, jax.eval_shape(begun, data))


def padded_together(*leaves: np.ndarray | np.generic) -> np.ndarray:
    """The leaves of all splits, `[splits, …]`.

    Padded with zeros to a common shape: tiles that weigh nothing.
    """
    shapes = map(np.shape, leaves)
    largest = [max(sizes) for sizes in zip(*shapes, strict=True)]
    splits = np.zeros((len(leaves), *largest), leaves[0].dtype)
    for i, leaf in enumerate(leaves):
        splits[i, *map(slice, np.shape(leaf))] = leaf
    return splits


def widened(
    side: Float[AnyArray, "rows k"],
    spec: Spec,
) -> Float[np.ndarray, "rows columns"]:
    """Factors with columns of zeros up to those of the program."""
    rows = np.asarray(side, spec.dtype)
    more = spec.columns - rows.shape[1]
    return np.pad(rows, ((0, 0), (0, more)))
