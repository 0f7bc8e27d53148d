"""½ Σ mask (U Vᵀ − R)² + ½ λ (‖U‖² + ‖V‖²) and its gradient, right and as users got them wrong."""

import numpy as np


def loss(U, V, R, M, reg):
    E = M * (U @ V.T - R)
    return 0.5 * (E**2).sum() + 0.5 * reg * ((U**2).sum() + (V**2).sum())


def right(U, V, R, M, reg):
    E = M * (U @ V.T - R)
    return E @ V + reg * U, E.T @ U + reg * V


def one_array(*arguments):
    return right(*arguments)[0]


def value_and_grad(*arguments):
    return loss(*arguments), *right(*arguments)


def in_float32(U, V, R, M, reg):
    U, V, R, M = (x.astype(np.float32) for x in (U, V, R, M))
    return loss(U, V, R, M, np.float32(reg))


def not_deterministic(*arguments):
    return loss(*arguments) + 1e-3 * np.random.default_rng().normal()
