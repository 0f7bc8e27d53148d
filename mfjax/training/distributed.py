"""Several processes (`jax.distributed`): each takes its share of every block of lanes, and all know what came of it."""

from collections.abc import Sequence

import jax
import numpy as np

from mfjax.training.program import Track


def share(members: Sequence[int]) -> list[int]:
    """This process's share: all of them where it is alone."""
    return list(members[jax.process_index() :: jax.process_count()])


def gather(tracks: list[Track], total: int, blank: Track) -> list[Track]:
    """The tracks of all processes' shares, `total` in all, in the order that `share` dealt them from; the same everywhere."""
    processes = jax.process_count()
    if processes == 1:
        return tracks
    from jax.experimental import multihost_utils

    most = -(-total // processes)
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *tracks, *[blank] * (most - len(tracks)))
    everywhere = jax.tree.map(np.asarray, multihost_utils.process_allgather(stacked))
    return [jax.tree.map(lambda leaf, i=i: leaf[i % processes, i // processes], everywhere) for i in range(total)]
