"""A loss and its gradient by hand, in the form of a user's functions, and where they are tried."""

from mfjax import Hparams, Spec
from mfjax.checks.compare import Oracle
from mfjax.checks.points import small_point

POINT = small_point(Spec(1, 1, bias=False, reg_by="row"), Hparams(init_seed=3), 4, 5, 2)
TOLERANCE = 1e-8
ORACLE = Oracle(step=1e-3, tolerance=TOLERANCE)


def loss(user, item, ratings, mask, reg):
    return (mask * (user @ item.T - ratings) ** 2).sum() / 2 + reg / 2 * (
        (user**2).sum() + (item**2).sum()
    )


def gradient(user, item, ratings, mask, reg):
    error = mask * (user @ item.T - ratings)
    return error @ item + reg * user, error.T @ user + reg * item


def planted(side, row, column, by):
    def wrong(*arguments):
        grads = gradient(*arguments)
        grads[side][row, column] += by
        return grads

    return wrong


def wraps(returned):
    """A gradient and a loss that return `returned(gradient, loss)` instead."""
    return lambda *arguments: returned(gradient(*arguments), loss(*arguments))
