"""Every way to train, in one table."""

from collections.abc import Callable

from mfjax.methods.als import als, als_cg
from mfjax.methods.descent import descent
from mfjax.methods.sgd import sgd
from mfjax.types import Gradient, Method, Optimizer, Spec

METHODS: dict[str, Callable[[Spec, Gradient, Optimizer], Method]] = {
    "descent": descent,
    "sgd": sgd,
    "als": als,
    "als_cg": als_cg,
}
