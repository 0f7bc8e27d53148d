"""implicit: fits of its AlternatingLeastSquares, as `task.json` of a folder asks for them.

Prints the name of each fit when its factors are in the folder.
"""

import json
import os
import sys
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # as it asks for: its own threads call BLAS
import numpy as np
from implicit.cpu.als import AlternatingLeastSquares
from scipy.sparse import csr_matrix


def main(folder: Path) -> None:
    """Every fit of the task, on the pairs that it names."""
    task = json.loads((folder / "task.json").read_text())
    for fit in task["fits"]:
        with np.load(folder / fit["pairs"]) as pairs:
            cells = (pairs["user"], pairs["item"])
        ones = np.ones(len(cells[0]), np.float32)
        user, item = trained(csr_matrix((ones, cells), task["shape"]), task["rank"], fit)
        np.savez(folder / f"{fit['name']}.npz", user=user, item=item)
        print(fit["name"], flush=True)


def trained(matrix: csr_matrix, rank: int, fit: dict) -> tuple[np.ndarray, np.ndarray]:
    """`[epochs, users, rank]` and `[epochs, items, rank]`, after each of the fit's epochs."""
    model = AlternatingLeastSquares(
        factors=rank,
        alpha=fit["alpha"],
        regularization=fit["regularization"],
        iterations=max(fit["epochs"]),
        num_threads=os.cpu_count(),
        random_state=0,
    )
    kept = []

    def keep(iteration: int, seconds: float, loss: None) -> None:
        if iteration + 1 in fit["epochs"]:
            kept.append((model.user_factors.copy(), model.item_factors.copy()))

    model.fit(matrix, show_progress=False, callback=keep)
    users, items = zip(*kept, strict=True)
    return np.stack(users), np.stack(items)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
