"""The type checker under which the import hook of conftest.py runs every function of mfjax."""

import sys
from typing import Annotated, Any

from beartype import BeartypeConf, FrozenDict, beartype
from beartype.vale import IsInstance


def checked(function: Any) -> Any:
    """The same function, which raises where an argument or a result is not of its type."""
    sides = getattr(sys.modules["mfjax.types"], "Sides", None)
    # beartype does not know generic NamedTuples
    overrides = {sides: Annotated[object, IsInstance[sides]]} if sides else {}
    conf = BeartypeConf(is_pep484_tower=True, hint_overrides=FrozenDict(overrides))  # int is float
    return beartype(conf=conf)(function)
