"""½ Σ mask (U Vᵀ − R)² + ½ λ (‖U‖² + ‖V‖²), its gradient, and what is tried here."""


def loss(U, V, R, M, reg):
    E = M * (U @ V.T - R)
    return 0.5 * (E**2).sum() + 0.5 * reg * ((U**2).sum() + (V**2).sum())


def right(U, V, R, M, reg):
    E = M * (U @ V.T - R)
    return E @ V + reg * U, E.T @ U + reg * V


def cand(*arguments):
    return right(*arguments)[0]
