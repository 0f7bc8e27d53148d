"""Several processes (`jax.distributed`).

Each takes its share of every block of lanes, and all know what came of it.
"""

from collections.abc import Sequence

import jax
import numpy as np

from mfjax.training.lanes import Track, stacked, unstacked


def share(members: Sequence[int]) -> list[int]:
    """This process's share: all of them where it is alone."""
    return list(members[jax.process_index() :: jax.process_count()])


def gather(
    tracks: list[Track],
    total: int,
    blank: Track,
) -> list[Track]:
    """The tracks of all processes' shares, the same everywhere.

    `total` in all, in the order that `share` dealt them from; `blank` fills a short share up.
    """
    processes = jax.process_count()
    if processes == 1:
        return tracks
    from jax.experimental import multihost_utils

    most = -(-total // processes)
    padding = [blank] * (most - len(tracks))
    ours = stacked([*tracks, *padding])
    of_all = multihost_utils.process_allgather(ours)  # [processes, most, …]
    dealt = jax.tree.map(_as_dealt, of_all)
    return unstacked(dealt, range(total))


def _as_dealt(leaf: jax.Array | np.ndarray) -> np.ndarray:
    """`[processes, most, …]` in the order of the members, `[most · processes, …]`."""
    by_turn = np.asarray(leaf).swapaxes(0, 1)
    return by_turn.reshape(-1, *by_turn.shape[2:])
