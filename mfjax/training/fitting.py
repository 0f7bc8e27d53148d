"""What fits in memory: the lanes of a program, and how many at once."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import numpy as np

from mfjax.errors import OutOfMemory
from mfjax.memory import memory_bytes, refuse_beyond_memory
from mfjax.training.lanes import Places

SMALLER_HINT = (
    "a lower lanes_per_program, hparams.rank, tiles.chunk or lane_batch, or fewer split_seeds"
)


class Weight(NamedTuple):
    """The bytes of a program.

    `state` is one lane's between epochs, `work` the temporaries of one that trains, and `ratings`
    what the lanes of a device read.
    """

    state: int
    work: int
    ratings: int


def lanes_at_once(
    weight: Weight,
    places: Places,
    asked: int | None,
    what: str,
) -> int:
    """The lanes to run at once on a device, once all lanes are known to fit.

    Args:
      weight: of the program.
      places: of its lanes.
      asked: so many; None: 1 on a CPU, and elsewhere as many as half of the memory holds.
      what: to name in the error.

    Raises OutOfMemory where they do not fit.
    """
    on_cpu = jax.local_devices()[0].platform == "cpu"
    # the devices of a CPU have one memory between them, and each has the ratings
    sharing = places.devices if on_cpu else 1
    lanes = sharing * places.lanes // places.devices
    # a lane's state comes in, goes out and is on the host
    standing = sharing * weight.ratings + 3 * lanes * weight.state
    at_once = asked or 1
    needed = standing + sharing * at_once * weight.work
    refuse_beyond_memory(needed, what, SMALLER_HINT)
    if asked is not None or on_cpu:
        return min(at_once, places.lanes)
    free = memory_bytes() / 2 - standing
    return int(np.clip(free // weight.work, 1, places.lanes // places.devices))


@contextmanager
def in_memory(what: str) -> Iterator[None]:
    """Raises OutOfMemory where a device says that it has no more."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise OutOfMemory(f"{what} did not fit in memory\nuse {SMALLER_HINT}") from error


def num_bytes(tree: Any) -> int:
    """The size of a tree of arrays, or of what stands for them."""
    leaves = jax.tree.leaves(tree)
    return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
