"""One compiled program: a block of lanes of one width, a chunk of epochs a call."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from mfjax.data import Dataset, Split
from mfjax.errors import OutOfMemory
from mfjax.kernels.tiles import Tiles, placement, work_bytes
from mfjax.memory import memory_bytes, refuse_beyond_memory
from mfjax.metrics.rating import Bounds
from mfjax.training.epochs import Data, History, fit, is_live, start
from mfjax.types import Factors, Hparams, Ratings, Run, Spec

if TYPE_CHECKING:
    from mfjax.training.sweep import Sweep


class Problem(NamedTuple):
    """One split of the data: `ratings` to train and validate on, `test` kept apart, and the range of the ratings."""

    ratings: Ratings
    test: Ratings
    bounds: Bounds

    @classmethod
    def of(cls, dataset: Dataset, split: Split, *, clip: bool = True, dtype: str = "float32") -> "Problem":
        """The ratings of `dataset` cut as `split` says; with `clip`, predictions are clipped to their lowest and highest."""

        def part(rows: np.ndarray) -> Ratings:
            columns = (dataset.user[rows], dataset.item[rows], dataset.value[rows])
            return Ratings.of(*columns, fold=split.fold[rows], dtype=dtype)

        bounds = dataset.scale if clip else (-math.inf, math.inf)
        return cls(part(~split.test), part(split.test), Bounds(*bounds))


class Lane(NamedTuple):
    """One fit: its setting (host scalars), and at most how many epochs."""

    hparams: Hparams
    epochs: int


class Track(NamedTuple):
    """How far a lane has come, on the host: its run, and a history of as many epochs as its block may train (NaN: not yet)."""

    run: Run
    history: History


class Progress(NamedTuple):
    """What the host knows between chunks: epochs done and to do over all lanes, and the best figures now."""

    done: int
    total: int
    loss: float
    validation_rmse: float


LESS = "a lower width, hparams.rank, tiles.chunk or lane_batch, or fewer data_seeds"
Between = Callable[[Progress, Callable[[], list[Track]]], Any]  # is told between chunks, and may ask for the tracks


class Program:
    """One compiled program: `width` lanes of one rank group, `schedule.chunk` epochs a call.

    The devices share the lanes; a lane that is alone shares its rows out over them instead, where its layout is of tiles.
    """

    def __init__(self, sweep: "Sweep", max_rank: int, width: int):
        self.sweep, self.devices = sweep, jax.local_devices()
        tiling = replace(sweep.spec.tiling, shards=len(self.devices) if width == 1 else 1)
        self.spec = replace(sweep.spec, max_rank=max_rank, tiling=tiling)
        self.method = sweep.method(self.spec)
        self.num_ratings = max(len(problem.ratings.value) for problem in sweep.problems.values())
        self.mesh = Mesh(np.array(self.devices[:width]), ("lane",))
        self.width = -(-width // self.mesh.size) * self.mesh.size
        data = [self._data(problem) for problem in sweep.problems.values()]
        self.by_row = tiling.shards > 1 and isinstance(data[0].layout, Tiles)
        blank = jax.eval_shape(lambda data: start(self.method, data, Hparams.of(self.spec.dtype)), data[0])
        self.lane_batch = self._fitting(blank, data)
        self.blank = jax.tree.map(lambda leaf: np.zeros((self.width, *leaf.shape), leaf.dtype), blank)
        data = jax.tree.map(_stacked, *data)
        with self._in_memory():
            place = placement(data, tiling, leading=1) if self.by_row else NamedSharding(self.mesh, P())
            self.data = jax.device_put(data, place)
        self.compile_seconds = 0.0
        self._compiled = None
        # neighbours in a grid take alike long, so they go to the devices in turn
        self.place = np.arange(self.width).reshape(self.mesh.size, -1).ravel("F")

    def _data(self, problem: Problem) -> Data:
        ratings, warm = problem.ratings.padded(self.num_ratings), self.sweep.warm
        bounds = Bounds(*np.asarray(problem.bounds, self.spec.dtype))
        wide = None if warm is None else Factors(*(_widen(side, self.spec) for side in warm))
        return Data(self.method.prepare(ratings), ratings, bounds, wide)

    def _block(self, runs: Run, data: Data, hparams: Hparams, split, epochs, orders) -> tuple[Run, History]:
        """`chunk` epochs more of every lane; `split` [width] says whose data, `orders` [splits, chunk, batches, batch]."""

        def lane(args):
            run, hparams, split, epochs = args
            of_lane = lambda tree: jax.tree.map(lambda leaf: leaf[split], tree)  # noqa: E731
            run = jax.lax.cond(
                (run.epoch == 0) & (epochs > 0),
                lambda run: start(self.method, of_lane(data), hparams),
                lambda run: run,
                run,
            )
            return fit(self.method, self.spec, self.sweep.schedule, run, of_lane(data), hparams, epochs, of_lane(orders))

        batch = self.lane_batch if self.lane_batch > 1 else None
        return jax.lax.map(lane, (runs, hparams, split, epochs), batch_size=batch)

    def _fitting(self, run: Run, data: Sequence[Data]) -> int:
        """The lanes to run at once on a device, once the whole block is known to fit. Raises OutOfMemory where it does not."""
        on_cpu, devices = self.devices[0].platform == "cpu", self.mesh.size
        sharing = devices if on_cpu else 1  # the devices of a CPU have one memory between them, and each has the ratings
        lane, ratings = _nbytes(run), sum(map(_nbytes, data)) * (1 if self.by_row else sharing)
        work = 2 * lane + (work_bytes(self.spec) if isinstance(data[0].layout, Tiles) else 0)
        lanes, at_once = sharing * self.width // devices, self.sweep.lane_batch or 1
        refuse_beyond_memory(
            3 * lane * lanes + sharing * at_once * work + ratings,  # a lane's state comes in, goes out and is on the host
            f"{self.width} lanes of rank {self.spec.max_rank}, {at_once * self.spec.tiling.chunk:,} ratings at once,",
            LESS,
        )
        if self.sweep.lane_batch is not None or on_cpu:
            return min(at_once, self.width)
        free = memory_bytes() / 2 - 3 * lane * lanes - ratings
        return int(np.clip(free // work, 1, self.width // devices))

    def _orders(self, epoch: int) -> np.ndarray | None:
        """The shuffles of the chunk that begins after `epoch`, one set a split, shared by its lanes."""
        epochs = range(epoch, epoch + self.sweep.schedule.chunk)
        orders = [[self.method.order(self.num_ratings, seed, e) for e in epochs] for seed in self.sweep.problems]
        return None if orders[0][0] is None else np.asarray(orders)

    def _call(self, *args):
        if self._compiled is None:
            began = time.perf_counter()
            lanes, whole = P("lane"), P()
            specs = (lanes, whole, lanes, lanes, lanes, whole)
            block = self._block
            if not self.by_row:  # where the method itself shares its rows out
                block = jax.shard_map(block, mesh=self.mesh, in_specs=specs, out_specs=lanes, check_vma=False)
            block = jax.jit(block, donate_argnums=0)
            self._compiled = block.lower(*args).compile()
            self.compile_seconds = time.perf_counter() - began
        return self._compiled(*args)

    @contextmanager
    def _in_memory(self) -> Iterator[None]:
        """Raises OutOfMemory where a device says that it has no more."""
        try:
            yield
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            raise OutOfMemory(f"{self.width} lanes of rank {self.spec.max_rank} did not fit in memory\nuse {LESS}") from error

    def blank_track(self, epochs: int) -> Track:
        """A lane that has not begun."""
        history = History(*(np.full(epochs, np.nan, self.spec.dtype) for _ in History._fields))
        return Track(jax.tree.map(lambda leaf: leaf[0], self.blank), history)

    def run(self, lanes: Sequence[Lane], tracks: Sequence[Track], length: int, between: Between) -> list[Track]:
        """At most `width` lanes, from their tracks (none: from the start) to the last of their epochs; `length` is that of
        the histories, the epochs of the longest lane or more."""
        padded = [*lanes, *[lanes[0]._replace(epochs=0)] * (self.width - len(lanes))]
        padded = [padded[i] for i in np.argsort(self.place)]
        stacked = [Hparams.of(self.spec.dtype, **lane.hparams._asdict()) for lane in padded]
        hparams = Hparams(*map(np.stack, zip(*stacked, strict=True)))
        seeds = list(self.sweep.problems)
        split = np.asarray([seeds.index(lane.hparams.data_seed) for lane in padded], np.int32)
        epochs = np.asarray([lane.epochs for lane in padded], np.int32)
        runs, history = self._resumed(tracks, length)
        epoch, chunk = max((int(track.run.epoch) for track in tracks), default=0), self.sweep.schedule.chunk
        ahead, of_lanes = self._orders(epoch), (hparams, split, epochs)
        if not self.by_row:
            with self._in_memory():
                runs, of_lanes = jax.device_put((runs, of_lanes), NamedSharding(self.mesh, P("lane")))
        while epoch == 0 or is_live(_host(runs), self.sweep.schedule, epochs).any():
            with self._in_memory():
                runs, latest = self._call(runs, self.data, *of_lanes, ahead)
                if epoch + chunk < epochs.max():
                    ahead = self._orders(epoch + chunk)  # while the devices are at work
                latest = jax.tree.map(np.asarray, latest)
            for of_all, of_chunk in zip(history, latest, strict=True):
                of_all[:, epoch : epoch + chunk] = of_chunk[:, : length - epoch]
            epoch += chunk
            between(self._progress(_host(runs), latest, epochs), partial(self._tracks, len(lanes), runs, history))
        return self._tracks(len(lanes), runs, history)

    def _resumed(self, tracks: Sequence[Track], length: int) -> tuple[Run, History]:
        """The runs and the history of the whole block, each lane in its place and as far as its track."""
        runs = jax.tree.map(np.copy, self.blank)
        history = History(*(np.full((self.width, length), np.nan, self.spec.dtype) for _ in History._fields))
        for place, track in zip(self.place.tolist(), tracks, strict=False):
            for all_lanes, one in zip(jax.tree.leaves(runs), jax.tree.leaves(track.run), strict=True):
                all_lanes[place] = one
            for all_lanes, one in zip(history, track.history, strict=True):
                all_lanes[place, : len(one)] = one
        return runs, history

    def _tracks(self, lanes: int, runs: Run, history: History) -> list[Track]:
        """The first so many lanes of a block, in their order."""
        whole = jax.tree.map(np.asarray, Track(runs, jax.tree.map(np.copy, history)))
        return [jax.tree.map(lambda leaf, i=i: leaf[i], whole) for i in self.place[:lanes].tolist()]

    def _progress(self, runs: Run, chunk: History, epochs: np.ndarray) -> Progress:
        live = is_live(runs, self.sweep.schedule, epochs)
        done = np.where(live, runs.epoch, epochs).sum()
        last = np.asarray(chunk.loss)
        last = last[np.isfinite(last)]
        best = np.where(np.isfinite(runs.best_metric) & (runs.epoch > 0), runs.best_metric, np.inf).min()
        return Progress(int(done), 0, float(last.min(initial=np.inf)), float(best))


def _host(runs: Run) -> Run:
    """The scalars of every lane, on the host; not the factors."""
    small = {name: np.asarray(getattr(runs, name)) for name in ("best_metric", "best_epoch", "epoch", "alive", "died_at")}
    return runs._replace(**small)


def _stacked(*leaves: np.ndarray | np.generic) -> np.ndarray:
    """The leaves of all splits, `[splits, …]`, padded with zeros to a common shape (tiles that weigh nothing)."""
    shape = tuple(map(max, zip(*map(np.shape, leaves), strict=True)))
    stacked = np.zeros((len(leaves), *shape), np.asarray(leaves[0]).dtype)
    for i, leaf in enumerate(leaves):
        stacked[i, *map(slice, np.shape(leaf))] = leaf
    return stacked


def _nbytes(tree) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _widen(side: np.ndarray, spec: Spec) -> np.ndarray:
    return np.pad(np.asarray(side, spec.dtype), ((0, 0), (0, spec.columns - np.shape(side)[1])))
