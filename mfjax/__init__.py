"""mfjax: low-rank matrix factorisation of rating matrices in JAX.

The public names below load on first use, so that `import mfjax` and the command's `--help` load neither jax nor Hydra.
"""

from importlib import import_module
from typing import Any

_NAMES = {
    "mfjax.types": ("Factors", "Gradient", "Hparams", "Method", "Ratings", "Spec", "Tiling"),
    "mfjax.errors": ("InputError",),
    "mfjax.gradients": ("GRADIENTS", "as_loss"),
    "mfjax.methods": ("METHODS",),
    "mfjax.methods.optimizers": ("optimizer",),
    "mfjax.metrics.rating": ("Bounds",),
    "mfjax.kernels.tiles": ("tile_width",),
    "mfjax.training.epochs": ("Schedule",),
    "mfjax.training.program": ("Lane", "Problem"),
    "mfjax.training.search": ("Halving",),
    "mfjax.training.sweep": ("Sweep", "grid"),
    "mfjax.training.protocol": ("carry_out",),
    "mfjax.reporting.files": ("load",),
    "mfjax.data": ("SOURCES", "SPLITS", "read"),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}
__all__ = sorted(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'mfjax' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
