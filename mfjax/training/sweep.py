"""Lanes: many settings, seeds and folds as few compiled programs, in blocks of one size."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import jax
import numpy as np

from mfjax.averages import factors_of, finished
from mfjax.errors import InputError
from mfjax.losses import link_of, refuse_ratings, require_squared
from mfjax.memory import refuse_beyond_memory
from mfjax.objective import mean_rating
from mfjax.training.blocks import block_name, blocks_of, packed, unpacked, without_state
from mfjax.training.checkpoint import Block, Checkpoints
from mfjax.training.distributed import gather, share
from mfjax.training.epochs import history_columns
from mfjax.training.fitting import num_bytes
from mfjax.training.lanes import (
    Fit,
    GetTracks,
    Lane,
    OnProgress,
    Plan,
    Progress,
    Track,
    history_bytes,
    lengthened,
    rank_group,
    refuse_unsampled,
    unwatched,
)
from mfjax.training.program import Program
from mfjax.types import Factors, Method


@dataclass
class Sweep:
    """Trains lanes on splits of one data set, one compiled program a rank group and size.

    Args:
      plan: what the lanes have in common.
      lanes_per_program: rounded up to a multiple of the devices that share them; fewer lanes are
        padded, more run block after block. Under `jax.distributed` every process has a block of its
        own.
      checkpoints: where blocks are saved between chunks of epochs, and found again.
      programs: those compiled so far, by rank group and `lanes_per_program`; not to be given.

    Examples:
      plan = Plan(spec, lambda spec: sgd(spec, optimizer=optimizer()), {0: problem}, Schedule(20))
      lanes = [Lane(hparams, 20) for hparams in grid(Hparams(), {"reg": [0.05, 0.1]})]
      fits = Sweep(plan, lanes_per_program=2).train(lanes)
    """

    plan: Plan
    lanes_per_program: int
    checkpoints: Checkpoints | None = None
    programs: dict[tuple[int, int], Program] = field(default_factory=dict)  # by rank group and size

    @cached_property
    def _method(self) -> Method:
        return self.plan.method(self.plan.spec)

    @property
    def compile_seconds(self) -> float:
        """The time of tracing and compiling so far, in seconds."""
        return sum(program.compile_seconds for program in self.programs.values())

    @property
    def compilations(self) -> int:
        """The programs that were compiled so far."""
        return sum(program.compile_seconds > 0 for program in self.programs.values())

    def train(
        self,
        lanes: Sequence[Lane],
        on_progress: OnProgress = unwatched,
    ) -> list[Fit]:
        """Train lanes from the start, to the last of their epochs.

        Args:
          lanes: in any order, of any rank.
          on_progress: called between chunks of epochs.

        Returns:
          The Fits, in the order of the lanes.

        Raises:
          InputError: a split_seed and test_fold have no Problem, the method cannot train a lane, or
            it samples, and no sample of a lane would count.
          OutOfMemory: the lanes of a program, or its data, do not fit.
          CheckpointError: no checkpoint can be written.
          Interrupted: a signal ended it between two chunks, where `checkpoints` has a `stop`.
        """
        fits: dict[int, Fit] = {}
        blocks = self._blocks(
            lanes, None, on_progress, lanes_per_program=self.lanes_per_program, to_the_end=True
        )
        for members, tracks in blocks:
            for i, track in zip(members, tracks, strict=True):
                fits[i] = self.summary_of(lanes[i], track)
        return [fits[i] for i in range(len(lanes))]

    def advance(
        self,
        lanes: Sequence[Lane],
        tracks: Sequence[Track] | None,
        lanes_per_program: int,
        on_progress: OnProgress = unwatched,
    ) -> list[Track]:
        """Train lanes on from where they are.

        Args:
          lanes: each with the last of its epochs.
          tracks: how far each has come; None: they begin.
          lanes_per_program: in place of the sweep's own.
          on_progress: called between chunks of epochs.

        Returns:
          How far each has come then, in the order of the lanes.

        Raises:
          InputError, OutOfMemory, CheckpointError, Interrupted: as `train`.
        """
        after: dict[int, Track] = {}
        blocks = self._blocks(
            lanes, tracks, on_progress, lanes_per_program=lanes_per_program, to_the_end=False
        )
        for members, block in blocks:
            after |= zip(members, block, strict=True)
        return [after[i] for i in range(len(lanes))]

    def summary_of(self, lane: Lane, track: Track) -> Fit:
        """What came of a lane that is trained no further.

        Args:
          lane: which it is.
          track: how far it has come.

        Returns:
          Its Fit.
        """
        run = track.run
        epoch = int(run.epoch)
        status = "finished" if epoch == lane.epochs else f"stopped at epoch {epoch}"
        if not run.alive:
            status = f"diverged at epoch {int(run.died_at)}"
        mean = 0.0
        if self.plan.spec.bias:
            problem = self.plan.problems[lane.hparams.cut]
            of_ratings = np.asarray(mean_rating(problem.ratings, lane.hparams))
            mean = float(link_of(self.plan.spec.loss).inverse(of_ratings))
        of_rated = self._method.rated
        names = history_columns(self.plan.schedule.choose_by)
        history = {name: track.history[name][:epoch] for name in names}
        averages = None
        factors = Factors(*run.best)
        if (averages_of := self._method.averages) is not None:
            rank = int(lane.hparams.rank)
            averages = finished(averages_of(run.state), rank, self.plan.spec)
            factors = factors_of(averages, self.plan.spec)
        return Fit(
            lane=lane,
            factors=factors,
            mean=mean,
            status=status,
            best_epoch=int(run.best_epoch),
            history=history,
            averages=averages,
            rated=of_rated and np.asarray(of_rated(run.best_embeddings)),
            loss=self.plan.spec.loss,
        )

    def _blocks(
        self,
        lanes: Sequence[Lane],
        tracks: Sequence[Track] | None,
        on_progress: OnProgress,
        *,
        lanes_per_program: int,
        to_the_end: bool,
    ) -> Iterator[tuple[list[int], list[Track]]]:
        """Block after block, as soon as it is trained: which lanes, and their tracks."""
        self._refuse_untrainable(lanes)
        self._refuse_beyond_memory(lanes)
        for lane in lanes:
            last = lane.epochs if to_the_end else self.plan.schedule.epochs
            refuse_unsampled(self._method, last)
        done = 0
        total = sum(lane.epochs for lane in lanes)
        size = lanes_per_program * jax.process_count()
        for max_rank, members in blocks_of(lanes, size):

            def ahead(now: Progress, done: int = done) -> None:
                on_progress(now._replace(done=done + now.done, total=total))

            program = self._program(max_rank, lanes_per_program)
            epochs = max(lanes[i].epochs for i in members)
            blank = program.blank_track(epochs)
            ours = share(members)
            before = [blank for _ in ours]
            if tracks is not None:
                before = [lengthened(tracks[i], epochs) for i in ours]
            after = self._train_block(
                program, [lanes[i] for i in ours], before, ahead, to_the_end=to_the_end
            )
            yield members, gather(after, len(members), blank)
            done += sum(lanes[i].epochs for i in members)

    def _refuse_untrainable(self, lanes: Sequence[Lane]) -> None:
        spec = self.plan.spec
        check = self._method.check
        problems = self.plan.problems
        for problem in {id(problem): problem for problem in problems.values()}.values():
            refuse_ratings(spec.loss, problem.ratings)
            if len(problem.given.value):
                require_squared(spec, "folding new users in", "use a split without new users")
        for hparams, _ in lanes:
            if hparams.cut not in problems:
                known = ", ".join(map(str, problems))
                raise InputError(
                    f"(split_seed, test_fold) {hparams.cut}: expected one with a Problem, {known}; "
                    "add its Problem"
                )
            check(problems[hparams.cut].ratings, hparams)
        self._refuse_new_users()

    def _refuse_new_users(self) -> None:
        """Refuses users that are new in the test, of a method whose rows are drawn."""
        given = [len(problem.given.value) for problem in self.plan.problems.values()]
        if self._method.averages is not None and any(given):
            raise InputError(
                f"a method that samples is not tested on new users, and {max(given):,} ratings "
                "fold such in: take another split than split=users, or method=als"
            )

    def _refuse_beyond_memory(self, lanes: Sequence[Lane]) -> None:
        """Refuses lanes whose factors and histories do not fit on the host together."""
        spec = self.plan.spec
        rows = spec.num_users + spec.num_items
        columns = spec.columns - spec.max_rank
        itemsize = np.dtype(spec.dtype).itemsize
        needed = sum(
            rows * (rank_group(lane.hparams.rank) + columns) * itemsize
            + history_bytes(self.plan, lane.epochs)
            for lane in lanes
        )
        what = f"the factors and histories of {len(lanes):,} lanes"
        refuse_beyond_memory(needed, what, "fewer lanes, epochs or hparams.rank", on_host=True)

    def _program(self, max_rank: int, lanes_per_program: int) -> Program:
        key = max_rank, lanes_per_program
        if key not in self.programs:
            self.programs[key] = Program(self.plan, *key)
        return self.programs[key]

    def _train_block(
        self,
        program: Program,
        lanes: Sequence[Lane],
        tracks: list[Track],
        on_progress: OnProgress,
        *,
        to_the_end: bool,
    ) -> list[Track]:
        """The tracks of one block, from its checkpoint where there is one.

        Of lanes that are trained `to_the_end` the last checkpoint leaves out what a next epoch
        would need.
        """
        checkpoints = self.checkpoints
        if not lanes:
            return []
        if checkpoints is None:
            return program.run(lanes, tracks, lambda now, _: on_progress(now))
        name = block_name(lanes)
        size = len(lanes) * num_bytes(tracks[0])
        if saved := checkpoints.find(name):
            tracks = unpacked(saved, tracks)

        def on_chunk(now: Progress, tracks: GetTracks) -> None:
            on_progress(now)
            checkpoints.after_chunk(name, Block(size, lambda: packed(tracks())))

        after = program.run(lanes, tracks, on_chunk)
        goes_on = not to_the_end or self._method.averages is not None  # which the state holds
        kept = after if goes_on else [without_state(track) for track in after]
        size = len(lanes) * num_bytes(kept[0])
        checkpoints.finished(name, Block(size, lambda: packed(kept)))
        if jax.process_count() > 1:  # the others may be waited for now, and for long
            checkpoints.flush()
        return after
