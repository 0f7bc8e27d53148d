"""implicit: its AlternatingLeastSquares, which fits another loss (all entries, confidence weights) and predicts no rating."""

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # as it asks for: its own threads call BLAS
import numpy as np
from common import THREADS, Task, clock, main
from implicit.cpu.als import AlternatingLeastSquares
from scipy.sparse import csr_matrix


def als(task: Task) -> dict:
    """One sweep, as the library clocks its iterations, the first left out."""
    data = task.data
    matrix = csr_matrix((data.value, (data.user, data.item)), (data.num_users, data.num_items))
    seconds: list[float] = []

    def fit(sweeps: int) -> None:
        model = AlternatingLeastSquares(factors=task.rank, iterations=sweeps, num_threads=THREADS, random_state=0)
        model.fit(matrix, show_progress=False, callback=lambda iteration, elapsed, loss: seconds.append(elapsed))

    setup = clock(lambda: fit(1))
    seconds.clear()
    while len(seconds) < (3 if task.quick else 6) or (sum(seconds) < 1 and not task.quick):
        fit(3 if task.quick else 6)
    note = "another loss (implicit feedback) by 3 conjugate-gradient steps a row: speed alone compares"
    return {"seconds": float(np.median(seconds)), "setup_seconds": max(setup - seconds[0], 0), "note": note}


main({"als": als})
