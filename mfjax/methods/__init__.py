"""Every way to train, in one table.

A row is a function `(spec, *, …) -> Method`. It names what it wants by keyword: `gradient` a
`mfjax.types.Gradient`, `kernel` a `mfjax.kernels.Kernel`, `optimizer` a `mfjax.types.Optimizer`,
and any other is a key of its own, with its default.
"""

from collections.abc import Callable

from mfjax.methods.als import als, als_cg
from mfjax.methods.descent import descent
from mfjax.methods.gibbs import gibbs
from mfjax.methods.sgd import sgd
from mfjax.types import Method

METHODS: dict[str, Callable[..., Method]] = {
    "descent": descent,
    "sgd": sgd,
    "als": als,
    "als_cg": als_cg,
    "gibbs": gibbs,
}
