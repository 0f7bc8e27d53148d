"""Lanes: many settings, seeds and folds as few compiled programs, run in blocks of one width."""

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from mfjax.errors import InputError
from mfjax.training.checkpoint import Block, Checkpoints
from mfjax.training.distributed import gather, share
from mfjax.training.epochs import History, Schedule
from mfjax.training.program import Lane, Problem, Program, Progress, Track
from mfjax.types import Factors, Hparams, Method, Spec

RANK_GROUP = 16  # lanes share a program with those whose rank rounds up to the same multiple

Watch = Callable[[Progress], Any]


class Fit(NamedTuple):
    """What came of a lane. `factors` are its best by validation (its last where nothing is held out), on the host.

    `mean` is what to add to u_i·v_j (0 without biases); `best_epoch` 0 says that it diverged before its first evaluation;
    `history` has one value an epoch.
    """

    lane: Lane
    factors: Factors
    mean: float
    status: str
    best_epoch: int
    history: History

    @property
    def alive(self) -> bool:
        return not self.status.startswith("diverged")

    def at_best(self, metric: str) -> float:
        """A metric of `History` at the best epoch; NaN where there is none."""
        return float(getattr(self.history, metric)[self.best_epoch - 1]) if self.best_epoch else float("nan")


def grid(base: Hparams, axes: Mapping[str, Sequence[float]]) -> list[Hparams]:
    """Every combination of the axes' values, the rest from `base`; the last axis varies fastest.

    Examples:
      >>> [h.reg for h in grid(Hparams(), {"reg": [0.1, 0.2]})]
      [0.1, 0.2]
    """
    return [base._replace(**dict(zip(axes, values, strict=True))) for values in itertools.product(*axes.values())]


def rank_group(rank: int) -> int:
    """The factor columns of the program that trains this rank: the rank rounded up to a multiple of 16."""
    return max(-(-int(rank) // RANK_GROUP), 1) * RANK_GROUP


@dataclass
class Sweep:
    """Trains lanes on splits of one data set, one compiled program a rank group and width.

    Args:
      spec: what the programs share; its `max_rank` is set for each rank group.
      method: makes the Method of a Spec.
      problems: a Problem a data_seed; those with fewer ratings are padded with weight 0.
      schedule: epochs, evaluation, patience and chunk.
      width: lanes a program, rounded up to a multiple of the devices that share them; fewer lanes are padded, more run
        block after block. Under `jax.distributed` every process has a block of its own.
      lane_batch: lanes that run at once under `vmap`; the batches run one after another under `lax.map`. None: 1 on a CPU,
        where the data of one lane stay in cache; elsewhere as many as half of the memory holds, by estimate.
      warm: factors `[num_users, k]` and `[num_items, k]` to start every lane from; further columns start at 0.
      checkpoints: where blocks are saved between chunks, and found again.

    Examples:
      sweep = Sweep(spec, lambda spec: sgd(spec, None, optimizer("sgd")), {0: problem}, Schedule(epochs=20), width=2)
      fits = sweep.train([Lane(hparams, 20) for hparams in grid(Hparams(), {"reg": [0.05, 0.1]})])
    """

    spec: Spec
    method: Callable[[Spec], Method]
    problems: Mapping[int, Problem]
    schedule: Schedule
    width: int
    lane_batch: int | None = None
    warm: Factors | None = None
    checkpoints: Checkpoints | None = None
    programs: dict[tuple[int, int], Program] = field(default_factory=dict)  # by (rank group, width)

    @property
    def compile_seconds(self) -> float:
        return sum(program.compile_seconds for program in self.programs.values())

    @property
    def compilations(self) -> int:
        return sum(program.compile_seconds > 0 for program in self.programs.values())

    def train(self, lanes: Sequence[Lane], watch: Watch = lambda progress: None) -> list[Fit]:
        """The Fits of `lanes`, in their order; `watch` is told between chunks.

        Raises InputError for an unknown data_seed, a lane that the method cannot train, and what does not fit in memory.
        """
        fits: dict[int, Fit] = {}
        for members, tracks in self._blocks(lanes, None, self.width, watch, to_the_end=True):
            fits |= {i: self.fit(lanes[i], track) for i, track in zip(members, tracks, strict=True)}
        return [fits[i] for i in range(len(lanes))]

    def advance(self, lanes: Sequence[Lane], tracks: Sequence[Track] | None, width: int, watch: Watch) -> list[Track]:
        """The Tracks of `lanes`, from those given (None: from the start) to the last of their epochs, in blocks of `width`."""
        after: dict[int, Track] = {}
        for members, block in self._blocks(lanes, tracks, width, watch, to_the_end=False):
            after |= dict(zip(members, block, strict=True))
        return [after[i] for i in range(len(lanes))]

    def _blocks(
        self, lanes: Sequence[Lane], tracks: Sequence[Track] | None, width: int, watch: Watch, to_the_end: bool
    ) -> Iterator[tuple[list[int], list[Track]]]:
        """Block after block, as soon as it is trained: which lanes, and their tracks."""
        groups: dict[int, list[int]] = {}
        check = self.method(self.spec).check
        for i, lane in enumerate(lanes):
            if lane.hparams.data_seed not in self.problems:
                known = ", ".join(map(str, self.problems))
                raise InputError(f"data_seed {lane.hparams.data_seed}: expected one with a Problem, {known}; add its Problem")
            check(self.problems[lane.hparams.data_seed].ratings, lane.hparams)
            groups.setdefault(rank_group(lane.hparams.rank), []).append(i)
        done, total, size = 0, sum(lane.epochs for lane in lanes), width * jax.process_count()
        for max_rank, group in groups.items():
            program = self._program(max_rank, width)
            for members in (group[first : first + size] for first in range(0, len(group), size)):
                epochs, ours = max(lanes[i].epochs for i in members), share(members)
                block = self._block(
                    program,
                    [lanes[i] for i in ours],
                    [] if tracks is None else [tracks[i] for i in ours],
                    epochs,
                    partial(_ahead, watch, done, total),
                    to_the_end,
                )
                yield members, gather(block, len(members), program.blank_track(epochs))
                done += sum(lanes[i].epochs for i in members)

    def _program(self, max_rank: int, width: int) -> Program:
        if (max_rank, width) not in self.programs:
            self.programs[max_rank, width] = Program(self, max_rank, width)
        return self.programs[max_rank, width]

    def _block(
        self,
        program: Program,
        lanes: Sequence[Lane],
        tracks: Sequence[Track],
        epochs: int,
        watch: Watch,
        to_the_end: bool,
    ) -> list[Track]:
        """The tracks of one block, from its checkpoint where there is one, with a history of `epochs`. Of lanes that are
        trained `to_the_end` a checkpoint then leaves out what a next epoch would need."""
        if not lanes:
            return []
        checkpoints = self.checkpoints
        if checkpoints is None:
            return program.run(lanes, tracks, epochs, lambda progress, tracks: watch(progress))
        name, blank = _name(lanes), program.blank_track(epochs)
        if saved := checkpoints.find(name):
            tracks = _unpacked(saved, blank, len(lanes))

        def between(progress: Progress, tracks: Callable[[], list[Track]]) -> None:
            watch(progress)
            checkpoints.after_chunk(name, Block(len(lanes) * _bytes(blank), lambda: _packed(tracks())))

        tracks = program.run(lanes, tracks, epochs, between)
        kept = [track._replace(run=track.run._replace(state=())) for track in tracks] if to_the_end else tracks
        checkpoints.finished(name, Block(len(lanes) * _bytes(kept[0]), lambda: _packed(kept)))
        if jax.process_count() > 1:  # the others may be waited for now, and for long
            checkpoints.flush()
        return tracks

    def fit(self, lane: Lane, track: Track) -> Fit:
        """What came of a lane that is trained no further."""
        run, epoch = track.run, int(track.run.epoch)
        status = "finished" if epoch == lane.epochs else f"stopped at epoch {epoch}"
        if not run.alive:
            status = f"diverged at epoch {int(run.died_at)}"
        ratings = self.problems[lane.hparams.data_seed].ratings
        trained = ratings.weight * ~((ratings.fold >= 0) & (ratings.fold == lane.hparams.fold))
        return Fit(
            lane=lane,
            factors=Factors(*run.best),
            mean=float(np.average(ratings.value, weights=trained)) if self.spec.bias else 0.0,
            status=status,
            best_epoch=int(run.best_epoch),
            history=History(*(x[:epoch] for x in track.history)),
        )


def _ahead(watch: Watch, done: int, total: int, progress: Progress) -> None:
    watch(progress._replace(done=done + progress.done, total=total))


def _name(lanes: Sequence[Lane]) -> str:
    """What a block's checkpoint is called: a digest of its lanes."""
    lines = json.dumps([[*lane.hparams, lane.epochs] for lane in lanes], default=float)
    return hashlib.sha256(lines.encode()).hexdigest()[:16]


def _packed(tracks: Sequence[Track]) -> dict[str, np.ndarray]:
    """The tracks' leaves by name, `[lanes, …]`."""
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *tracks)
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree.leaves_with_path(stacked)}


def _unpacked(arrays: Mapping[str, np.ndarray], like: Track, lanes: int) -> list[Track]:
    """The tracks that were packed, of the same structure as `like`, whose leaves stand for those that were left out."""
    stacked = jax.tree.map_with_path(lambda path, leaf: arrays.get(jax.tree_util.keystr(path), np.stack([leaf] * lanes)), like)
    return [jax.tree.map(lambda leaf, i=i: leaf[i], stacked) for i in range(lanes)]


def _bytes(track: Track) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(track))
