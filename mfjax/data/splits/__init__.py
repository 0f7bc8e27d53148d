"""Which ratings are trained on, which choose the hyperparameters, and which are for the end."""

from collections.abc import Callable

from mfjax.data.splits.by_rating import blocks, files, kfold, random
from mfjax.data.splits.by_row import cold_items, leave_k_out, users
from mfjax.data.splits.by_time import leave_last_out, time
from mfjax.data.splits.split import Split

SPLITS: dict[str, Callable[..., Split]] = {
    "random": random,
    "kfold": kfold,
    "blocks": blocks,
    "files": files,
    "time": time,
    "leave_last_out": leave_last_out,
    "leave_k_out": leave_k_out,
    "users": users,
    "cold_items": cold_items,
}

__all__ = ["SPLITS", "Split"]
