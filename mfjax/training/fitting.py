"""What fits in memory: the lanes of a program, and how many at once."""

import math
from collections.abc import Iterator, Sequence
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

    Args:
      state: one lane's between epochs.
      work: the temporaries of one that trains.
      data: what the lanes of a device read: the ratings of all splits.
      history: one lane's, on the host.
    """

    state: int
    work: int
    data: int
    history: int


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
    # the devices of a CPU have one memory between them, and each has the data
    sharing = places.devices if on_cpu else 1
    lanes = sharing * places.lanes // places.devices
    # a lane's state comes in, goes out and is on the host
    standing = sharing * weight.data + 3 * lanes * weight.state
    if on_cpu:  # the data as they are laid out and put together, the histories and a copy
        standing += 2 * weight.data + 2 * lanes * weight.history
    at_once = asked or 1
    needed = standing + sharing * max(at_once, places.abreast) * weight.work
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


def padded_bytes(trees: Sequence[Any]) -> int:
    """The size of several trees of arrays, each padded to the largest of them, leaf by leaf."""

    def size(*leaves: Any) -> int:
        shapes = zip(*(np.shape(leaf) for leaf in leaves), strict=True)
        return len(leaves) * math.prod(map(max, shapes)) * leaves[0].dtype.itemsize

    return sum(jax.tree.leaves(jax.tree.map(size, *trees)))
