"""Blocks of lanes: which lanes run together, and what a checkpoint holds of them."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from mfjax.training.lanes import Lane, Track, rank_group, stacked, unstacked
from mfjax.training.whole import Arrays


def blocks_of(
    lanes: Sequence[Lane],
    size: int,
) -> list[tuple[int, list[int]]]:
    """The rank group and the lanes, by their index, of each block of at most `size`."""
    groups: dict[int, list[int]] = {}
    for i, lane in enumerate(lanes):
        max_rank = rank_group(lane.hparams.rank)
        groups.setdefault(max_rank, []).append(i)
    return [
        (max_rank, group[first : first + size])
        for max_rank, group in groups.items()
        for first in range(0, len(group), size)
    ]


def block_name(lanes: Sequence[Lane]) -> str:
    """What a block's checkpoint is called: a digest of its lanes."""
    values = [[*lane.hparams, lane.epochs] for lane in lanes]
    lines = json.dumps(values, default=float)
    return hashlib.sha256(lines.encode()).hexdigest()[:16]


def without_state(track: Track) -> Track:
    """A track that does not go on."""
    return track._replace(run=track.run._replace(state=()))


def packed(tracks: Sequence[Track]) -> Arrays:
    """The tracks' leaves by name, `[lanes, …]`."""
    leaves = jax.tree.leaves_with_path(stacked(tracks))
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def unpacked(arrays: Arrays, like: Sequence[Track]) -> list[Track]:
    """The tracks that were packed; a leaf that was left out is that of `like`."""

    def saved(path: Any, leaf: np.ndarray) -> np.ndarray:
        return arrays.get(jax.tree_util.keystr(path), leaf)

    block = jax.tree.map_with_path(saved, stacked(like))
    return unstacked(block, range(len(like)))
