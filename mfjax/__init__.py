"""mfjax: low-rank matrix factorisation of rating matrices in JAX.

The public names below load on first use, so that `import mfjax` loads neither jax nor Hydra.
"""

from importlib import import_module
from typing import Any

_HOME = {
    "Bounds": "mfjax.types",
    "Factors": "mfjax.types",
    "Gradient": "mfjax.types",
    "Hparams": "mfjax.types",
    "Info": "mfjax.types",
    "Method": "mfjax.types",
    "Optimizer": "mfjax.types",
    "Ratings": "mfjax.types",
    "Sides": "mfjax.types",
    "Spec": "mfjax.types",
    "State": "mfjax.types",
    "Tiling": "mfjax.types",
    "InputError": "mfjax.errors",
    "LOSSES": "mfjax.losses",
    "Loss": "mfjax.losses",
    "loss_of": "mfjax.losses",
    "KERNELS": "mfjax.kernels",
    "Kernel": "mfjax.kernels",
    "best_kernel": "mfjax.kernels.choice",
    "tile_width": "mfjax.kernels.layout",
    "GRADIENTS": "mfjax.gradients",
    "as_loss": "mfjax.gradients",
    "with_bags": "mfjax.gradients",
    "BAGS": "mfjax.bags",
    "METHODS": "mfjax.methods",
    "optimizer": "mfjax.methods.optimizers",
    "METRICS": "mfjax.metrics",
    "Metric": "mfjax.metrics",
    "evaluate_lists": "mfjax.metrics.lists",
    "PUBLISHED": "mfjax.data",
    "SOURCES": "mfjax.data",
    "SPLITS": "mfjax.data",
    "Dataset": "mfjax.data",
    "Split": "mfjax.data",
    "from_ids": "mfjax.data",
    "Problem": "mfjax.data.problem",
    "read": "mfjax.data",
    "Schedule": "mfjax.training.epochs",
    "Fit": "mfjax.training.lanes",
    "Lane": "mfjax.training.lanes",
    "Plan": "mfjax.training.lanes",
    "Progress": "mfjax.training.lanes",
    "grid": "mfjax.training.lanes",
    "Sweep": "mfjax.training.sweep",
    "Halving": "mfjax.training.search",
    "Outcome": "mfjax.training.protocol",
    "Setting": "mfjax.training.protocol",
    "tune": "mfjax.training.protocol",
    "predictions": "mfjax.training.protocol",
    "baseline_errors": "mfjax.metrics.baselines",
    "over_splits": "mfjax.reporting.statistics",
    "paired": "mfjax.reporting.paired",
    "progress": "mfjax.reporting.course",
    "Model": "mfjax.model",
    "load": "mfjax.model",
    "fit": "mfjax.shortcuts",
    "cross_validate": "mfjax.shortcuts",
    "plots": "mfjax.reporting.plots",
    "Oracle": "mfjax.checks.compare",
    "compare_gradients": "mfjax.checks.compare",
    "Point": "mfjax.checks.points",
    "full_point": "mfjax.checks.points",
    "small_point": "mfjax.checks.points",
    "Worst": "mfjax.checks.own",
    "check_own": "mfjax.checks.own",
    "call_own": "mfjax.checks.own",
    "own_loss": "mfjax.checks.ours",
}
__all__ = sorted(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        known = ", ".join(__all__)
        raise AttributeError(f"module 'mfjax' has no attribute {name!r}; it has {known}")
    home = import_module(_HOME[name])
    is_home = home.__name__.endswith(f".{name}")
    return home if is_home else getattr(home, name)


def __dir__() -> list[str]:
    return __all__
