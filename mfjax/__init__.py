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
    "Method": "mfjax.types",
    "Optimizer": "mfjax.types",
    "Ratings": "mfjax.types",
    "Spec": "mfjax.types",
    "Tiling": "mfjax.types",
    "InputError": "mfjax.errors",
    "KERNELS": "mfjax.kernels",
    "tile_width": "mfjax.kernels.layout",
    "GRADIENTS": "mfjax.gradients",
    "as_loss": "mfjax.gradients",
    "METHODS": "mfjax.methods",
    "optimizer": "mfjax.methods.optimizers",
    "METRICS": "mfjax.metrics",
    "Metric": "mfjax.metrics",
    "SOURCES": "mfjax.data",
    "SPLITS": "mfjax.data",
    "Problem": "mfjax.data.problem",
    "read": "mfjax.data",
    "Schedule": "mfjax.training.epochs",
    "Lane": "mfjax.training.lanes",
    "Plan": "mfjax.training.lanes",
    "grid": "mfjax.training.lanes",
    "Sweep": "mfjax.training.sweep",
    "Halving": "mfjax.training.search",
    "tune": "mfjax.training.protocol",
    "load": "mfjax.model",
}
__all__ = sorted(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        known = ", ".join(__all__)
        raise AttributeError(f"module 'mfjax' has no attribute {name!r}; it has {known}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
