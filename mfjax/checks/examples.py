"""An early draft of a gradient with a mistake that its own checker cannot see.

Kept as a worked example (`+exp=draft`). The draft means to minimise
½ Σ mask (u_i·m_j − r_ij)² + λ/2 (Σ U² + Σ M²). Its loss adds the *entries* instead of their
squares, its gradient forgets the regulariser, and its checker differentiates the loss without λ: so
the two it compares agree, whatever λ is.
"""

import numpy as np

STEP = 1e-5


def draft_loss(user, item, ratings, mask, reg=0.0):
    """The draft's loss: λ/2 times the sums of the entries, where their squares were meant."""
    residual = mask * (user @ item.T - ratings)
    squares = (residual**2).sum() / 2
    return squares + reg * user.sum() / 2 + reg * item.sum() / 2


def draft_gradient(user, item, ratings, mask, reg=0.0):
    """The draft's gradient: that of the squared error alone."""
    residual = mask * (user @ item.T - ratings)
    return residual @ item, residual.T @ user


def draft_checker(user, item, ratings, mask, reg=0.0):
    """The draft's own check, against differences of its loss *without* λ.

    Returns the largest elementwise relative error.
    """

    def difference(side, entry):
        losses = []
        for h in (STEP, -STEP):
            moved = [user.copy(), item.copy()]
            moved[side][entry] += h
            losses.append(draft_loss(moved[0], moved[1], ratings, mask))
        return (losses[0] - losses[1]) / (2 * STEP)

    def error(side):
        analytic = draft_gradient(user, item, ratings, mask, reg)[side]
        worst = 0.0
        for entry in np.ndindex(analytic.shape):
            numerical = difference(side, entry)
            size = max(1e-8, abs(numerical) + abs(analytic[entry]))
            worst = max(worst, abs(numerical - analytic[entry]) / size)
        return worst

    return max(error(0), error(1))
