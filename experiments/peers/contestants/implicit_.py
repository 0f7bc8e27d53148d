"""implicit: its AlternatingLeastSquares.

It fits another loss (all entries, confidence weights) and predicts no rating.
"""

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # as it asks for: its own threads call BLAS
import numpy as np
from common import THREADS, Task, clock, main
from implicit.cpu.als import AlternatingLeastSquares
from scipy.sparse import csr_matrix

NOTE = "another loss (implicit feedback) by 3 conjugate-gradient steps a row: speed alone compares"


def als(task: Task) -> dict:
    """One sweep, as the library clocks its iterations, the first left out."""
    data = task.data
    cells = (data.user, data.item)
    matrix = csr_matrix((data.value, cells), (data.num_users, data.num_items))
    seconds: list[float] = []

    def fit(sweeps: int) -> None:
        model = AlternatingLeastSquares(
            factors=task.rank,
            iterations=sweeps,
            num_threads=THREADS,
            random_state=0,
        )
        model.fit(
            matrix,
            show_progress=False,
            callback=lambda iteration, elapsed, loss: seconds.append(elapsed),
        )

    setup = clock(lambda: fit(1))
    seconds.clear()
    least_sweeps = 3 if task.quick else 6
    least_seconds = 0 if task.quick else 1
    while len(seconds) < least_sweeps or sum(seconds) < least_seconds:
        fit(least_sweeps)
    return {
        "seconds": float(np.median(seconds)),
        "setup_seconds": max(setup - seconds[0], 0),
        "note": NOTE,
    }


main({"als": als})
