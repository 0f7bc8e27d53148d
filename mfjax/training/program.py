"""One compiled program: a block of lanes of one rank group, a chunk of epochs a call."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Int, UInt32

from mfjax.kernels.shards import placement
from mfjax.metrics import metric_of
from mfjax.training.epochs import (
    SCALARS,
    Data,
    History,
    Place,
    epochs,
    is_live,
    places_of,
    put,
    start,
    taken,
)
from mfjax.training.fitting import (
    Weight,
    in_memory,
    lanes_at_once,
    num_bytes,
    padded_bytes,
)
from mfjax.training.lanes import (
    Lane,
    OnChunk,
    Places,
    Plan,
    Progress,
    Track,
    blank_history,
    history_bytes,
    stacked,
)
from mfjax.training.prepared import blank_run, padded_together, prepared
from mfjax.types import Hparams, Run

VISITED = 7  # columns of what a lane visits: the order, and in it rows, values, weights and shares


class Lanes(NamedTuple):
    """The lanes of a block as arrays, `[groups]` each; of lanes abreast, `[groups, abreast]`.

    `split`, always `[groups]`, says whose data a group trains on: the place of its problem in the
    plan.
    """

    hparams: Hparams
    split: UInt32[Array, " groups"]
    last_epoch: Int[Array, "groups *abreast"]


class Program:
    """One compiled program: lanes of one rank group, `schedule.epochs_per_call` epochs a call.

    The devices share the lanes, in groups of those that train abreast. A lane that is alone shares
    its rows out over them instead, where its method can.

    Args:
      plan: what is trained.
      max_rank: the factor columns of every lane.
      lanes_per_program: rounded up to a multiple of the devices that share them.

    Raises OutOfMemory where the lanes do not fit.
    """

    def __init__(self, plan: Plan, max_rank: int, lanes_per_program: int):
        devices = jax.local_devices()
        alone = lanes_per_program == 1
        shards = len(devices) if alone else 1
        tiling = replace(plan.spec.tiling, shards=shards)
        self.plan = plan
        self.spec = replace(plan.spec, max_rank=max_rank, tiling=tiling)
        self.method = plan.method(self.spec)
        self.by_row = shards > 1 and self.method.shares_rows
        sharing = np.array(devices[:lanes_per_program])
        self.mesh = Mesh(sharing, ("lane",))
        most_abreast = self.method.abreast if plan.lane_batch is None else 1
        self.places = Places.of(lanes_per_program, len(sharing), len(plan.problems), most_abreast)
        data = prepared(plan, self.method, self.spec)
        self._blank = blank_run(self.method, data[0], self.spec)
        self.lane_batch = self._fitting(data)
        self.data = self._on_devices(data)
        self.compile_seconds = 0.0
        self._compiled: Callable[..., tuple[Run, History]] | None = None

    def blank_track(self, epochs: int) -> Track:
        """A lane that has not begun."""
        return Track(self._blank, blank_history(self.plan, epochs))

    def run(
        self,
        lanes: Sequence[Lane],
        tracks: Sequence[Track],
        on_chunk: OnChunk,
    ) -> list[Track]:
        """Train at most `lanes_per_program` lanes, from their tracks to the last of their epochs.

        The tracks have histories of one length, the epochs of the longest lane or more.
        """
        schedule = self.plan.schedule
        chunk = schedule.epochs_per_call
        cuts = list(self.plan.problems)
        splits = [cuts.index(lane.hparams.cut) for lane in lanes]
        places = self.places.of_lanes(splits)
        arrays = self._arrays(lanes, splits, places)
        last_epoch = np.asarray(arrays.last_epoch)
        blank = self.blank_track(len(tracks[0].history["loss"]))
        runs, history = self.places.in_groups(stacked(self.places.dealt(tracks, places, blank)))
        history = jax.tree.map(np.copy, history)  # which is written to
        epoch = int(runs.epoch.max())
        if not self.by_row:
            with in_memory(self._name):
                by_lane = NamedSharding(self.mesh, P("lane"))
                runs, arrays = jax.device_put((runs, arrays), by_lane)
        while epoch == 0 or is_live(on_host(runs), schedule, last_epoch).any():
            with in_memory(self._name):
                runs, latest = self._call(runs, self.data, arrays)
                latest = jax.tree.map(np.asarray, latest)
            write_chunk(history, latest, epoch)
            epoch += chunk
            progress = self._progress(on_host(runs), latest, last_epoch)
            on_chunk(progress, partial(self._tracks, places, runs, history))
        return self._tracks(places, runs, history)

    @property
    def _name(self) -> str:
        return f"{self.places.lanes} lanes of rank {self.spec.max_rank}"

    # before the first call

    def _fitting(self, data: Sequence[Data]) -> int:
        """The lanes to run at once. Raises OutOfMemory where they do not fit."""
        state = num_bytes(self._blank)
        schedule = self.plan.schedule
        work = 2 * state + self.method.work_bytes
        if "split_seed" in self.method.reads:
            work += VISITED * data[0].ratings.value.nbytes
        weight = Weight(
            state=state,
            work=work,
            data=padded_bytes(data),
            history=history_bytes(self.plan, schedule.epochs),
        )
        asked = self.plan.lane_batch
        ratings = (asked or 1) * self.spec.tiling.chunk
        what = f"{self._name}, {ratings:,} ratings at once,"
        return lanes_at_once(weight, self.places, asked, what)

    def _on_devices(self, data: Sequence[Data]) -> Data:
        """The data of all splits, `[splits, …]`, on the devices that read them."""
        splits = jax.tree.map(padded_together, *data)
        with in_memory(self._name):
            if self.by_row:
                place = placement(splits, self.spec.tiling, leading=1)
            else:
                place = NamedSharding(self.mesh, P())
            return jax.device_put(splits, place)

    # calls

    def _arrays(self, lanes: Sequence[Lane], splits: list[int], places: list[int]) -> Lanes:
        """The lanes in their places, and lanes without an epoch in the places left."""
        untrained = lanes[0]._replace(epochs=0)
        dealt = self.places.dealt(lanes, places, untrained)
        split_at = dict(zip(places, splits, strict=True))
        firsts = range(0, self.places.lanes, self.places.abreast)  # of each group
        return Lanes(
            hparams=self.places.in_groups(
                stacked(Hparams.of(self.spec.dtype, **lane.hparams._asdict()) for lane in dealt)
            ),
            split=np.array([split_at.get(place, 0) for place in firsts], np.uint32),
            last_epoch=self.places.in_groups(np.array([lane.epochs for lane in dealt], np.int32)),
        )

    def _call(self, *args: Any) -> tuple[Run, History]:
        """What `_train_chunk` is of the same arguments, which are compiled for once."""
        compiled = self._compiled
        if compiled is None:
            began = time.perf_counter()
            compiled = self._jitted().lower(*args).compile()
            self.compile_seconds = time.perf_counter() - began
            self._compiled = compiled
        return compiled(*args)

    def _jitted(self) -> Any:
        chunk = self._train_chunk
        if not self.by_row:  # else the method itself shares its rows out
            by_lane = P("lane")
            whole = P()
            chunk = jax.shard_map(
                chunk,
                mesh=self.mesh,
                in_specs=(by_lane, whole, by_lane),
                out_specs=by_lane,
                check_vma=False,
            )
        return jax.jit(chunk, donate_argnums=0)

    def _train_chunk(self, runs: Run, data: Data, lanes: Lanes) -> tuple[Run, History]:
        """A chunk of epochs more of every lane.

        Args:
          runs: `[groups, …]`.
          data: `[splits, …]`.
          lanes: `[groups, …]`.
        """
        of_group = partial(self._train_group, data)
        if self.lane_batch > 1:
            return jax.lax.map(lambda of: of_group(*of), (runs, lanes), batch_size=self.lane_batch)

        def in_place(runs: Run, turn: tuple[Place, Lanes]) -> tuple[Run, History]:
            place, group = turn
            run, history = of_group(taken(runs, place), group)
            return put(runs, place, run), history

        # `map` would write every lane's factors to a new place, those of ended lanes too
        return jax.lax.scan(in_place, runs, (places_of(lanes.split), lanes))

    def _train_group(self, data: Data, run: Run, lanes: Lanes) -> tuple[Run, History]:
        """As `_train_chunk`, of one group; of one that has ended nothing is read."""
        schedule = self.plan.schedule
        begins = (run.epoch == 0) & (lanes.last_epoch > 0)

        def trained(run: Run) -> tuple[Run, History]:
            own_data = taken(data, lanes.split)
            run = jax.lax.cond(begins.any(), partial(begun, own_data), lambda run: run, run)
            advance = epochs(self.method, self.spec, schedule)
            return advance(run, own_data, lanes.hparams, lanes.last_epoch)

        def begun(own_data: Data, run: Run) -> Run:
            started = start(self.method, own_data, lanes.hparams)

            def where_begins(new: Array, old: Array) -> Array:
                return jnp.where(jnp.expand_dims(begins, range(begins.ndim, new.ndim)), new, old)

            return started if not begins.ndim else jax.tree.map(where_begins, started, run)

        def ended(run: Run) -> tuple[Run, History]:
            history = blank_history(self.plan, schedule.epochs_per_call)
            shape = lanes.last_epoch.shape
            return run, jax.tree.map(lambda a: jnp.broadcast_to(a, (*shape, *a.shape)), history)

        goes_on = begins | is_live(run, schedule, lanes.last_epoch)
        return jax.lax.cond(goes_on.any(), trained, ended, run)

    def _tracks(self, places: Sequence[int], runs: Run, history: History) -> list[Track]:
        """The tracks of the lanes in these places."""
        leaves, tree = jax.tree.flatten(runs)
        rows = [self.places.apart(rows_on_host(leaf)) for leaf in leaves]
        # which the next chunk is written to
        histories = {name: self.places.apart(np.copy(column)) for name, column in history.items()}

        def at(place: int) -> Track:
            run = tree.unflatten([of_places[place] for of_places in rows])
            return Track(run, {name: columns[place] for name, columns in histories.items()})

        return list(map(at, places))

    def _progress(
        self, runs: Run, latest: History, last_epoch: Int[np.ndarray, "groups *abreast"]
    ) -> Progress:
        """How far the block has come; `total` is its sweep's to say."""
        live = is_live(runs, self.plan.schedule, last_epoch)
        losses = latest["loss"]
        finite = losses[np.isfinite(losses)]
        scored = np.isfinite(runs.best_score) & (runs.epoch > 0)
        best = runs.best_score[scored].min() if scored.any() else np.nan
        sign = metric_of(self.plan.schedule.choose_by).sign
        done = np.where(live, runs.epoch, last_epoch)
        return Progress(
            done=int(done.sum()),
            total=0,
            loss=float(finite.min(initial=np.inf)),
            score=sign * float(best),
        )


def on_host(runs: Run) -> Run:
    """The scalars of every lane, on the host; not the factors."""
    scalars = {name: np.asarray(getattr(runs, name)) for name in SCALARS}
    return runs._replace(**scalars)


def rows_on_host(array: jax.Array) -> list[np.ndarray | np.generic]:
    """The rows of an array on the host: views of them where a CPU's devices hold whole rows."""
    if array.sharding.shard_shape(array.shape)[1:] != array.shape[1:]:
        return list(np.asarray(array))
    shards = sorted(array.addressable_shards, key=lambda shard: shard.index[0].start or 0)
    return [row for shard in shards for row in np.asarray(shard.data)]


def write_chunk(history: History, latest: History, epoch: int) -> None:
    """Write a chunk's `[…, chunk]` into a block's history, from the epoch after `epoch` on."""
    for column, values in history.items():
        chunk = latest[column]
        to_come = values[..., epoch : epoch + chunk.shape[-1]]
        to_come[:] = chunk[..., : to_come.shape[-1]]
