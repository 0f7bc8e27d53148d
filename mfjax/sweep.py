"""Lanes: many settings, seeds and folds as one compiled program, run in blocks of one width."""

import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from mfjax.data import Dataset, Split
from mfjax.errors import InputError
from mfjax.memory import memory_bytes, refuse_beyond_memory
from mfjax.metrics import Bounds
from mfjax.tiles import Tiles, placement, work_bytes
from mfjax.train import Data, History, Schedule, fit, is_live, start
from mfjax.types import Factors, Hparams, Method, Ratings, Run, Spec

RANK_GROUP = 16  # lanes share a program with those whose rank rounds up to the same multiple


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


class Progress(NamedTuple):
    """What the host knows between chunks: epochs done and to do over all lanes, and the best figures now."""

    done: int
    total: int
    loss: float
    validation_rmse: float


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
    """Trains lanes on splits of one data set, one compiled program a rank group.

    Args:
      spec: what the programs share; its `max_rank` is set for each rank group.
      method: makes the Method of a Spec.
      problems: a Problem a data_seed; those with fewer ratings are padded with weight 0.
      schedule: epochs, evaluation, patience and chunk.
      width: lanes a program, rounded up to a multiple of the devices that share them; fewer lanes are padded, more run
        block after block.
      lane_batch: lanes that run at once under `vmap`; the batches run one after another under `lax.map`. None: 1 on a CPU,
        where the data of one lane stay in cache; elsewhere as many as half of the memory holds, by estimate.
      warm: factors `[num_users, k]` and `[num_items, k]` to start every lane from; further columns start at 0.

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
    programs: dict[int, "Program"] = field(default_factory=dict)

    @property
    def compile_seconds(self) -> float:
        return sum(program.compile_seconds for program in self.programs.values())

    def train(self, lanes: Sequence[Lane], watch: Callable[[Progress], Any] = lambda progress: None) -> list[Fit]:
        """The Fits of `lanes`, in their order; `watch` is told between chunks.

        Raises InputError for an unknown data_seed, a lane that the method cannot train, and what does not fit in memory.
        """
        groups: dict[int, list[int]] = {}
        check = self.method(self.spec).check
        for i, lane in enumerate(lanes):
            if lane.hparams.data_seed not in self.problems:
                known = ", ".join(map(str, self.problems))
                raise InputError(f"data_seed {lane.hparams.data_seed}: expected one with a Problem, {known}; add its Problem")
            check(self.problems[lane.hparams.data_seed].ratings, lane.hparams)
            groups.setdefault(rank_group(lane.hparams.rank), []).append(i)
        fits: dict[int, Fit] = {}
        total = sum(lane.epochs for lane in lanes)
        for max_rank, members in groups.items():
            if max_rank not in self.programs:
                self.programs[max_rank] = Program(self, max_rank)
            for first in range(0, len(members), self.width):
                block = members[first : first + self.width]
                done = sum(fit.lane.epochs for fit in fits.values())
                ran = self.programs[max_rank].run([lanes[i] for i in block], _ahead(watch, done, total))
                fits.update(zip(block, ran, strict=True))
        return [fits[i] for i in range(len(lanes))]


def _ahead(watch: Callable[[Progress], Any], done: int, total: int) -> Callable[[Progress], Any]:
    return lambda progress: watch(progress._replace(done=done + progress.done, total=total))


class Program:
    """One compiled program: `width` lanes of one rank group, `schedule.chunk` epochs a call.

    The devices share the lanes; a lane that is alone shares its rows out over them instead, where its layout is of tiles.
    """

    def __init__(self, sweep: Sweep, max_rank: int):
        self.sweep, self.devices = sweep, jax.local_devices()
        tiling = replace(sweep.spec.tiling, shards=len(self.devices) if sweep.width == 1 else 1)
        self.spec = replace(sweep.spec, max_rank=max_rank, tiling=tiling)
        self.method = sweep.method(self.spec)
        self.num_ratings = max(len(problem.ratings.value) for problem in sweep.problems.values())
        self.mesh = Mesh(np.array(self.devices[: sweep.width]), ("lane",))
        self.width = -(-sweep.width // self.mesh.size) * self.mesh.size
        data = [self._data(problem) for problem in sweep.problems.values()]
        self.by_row = tiling.shards > 1 and isinstance(data[0].layout, Tiles)
        blank = jax.eval_shape(lambda data: start(self.method, data, Hparams.of(self.spec.dtype)), data[0])
        self.lane_batch = self._fitting(blank, data)
        self.blank = jax.tree.map(lambda leaf: np.zeros((self.width, *leaf.shape), leaf.dtype), blank)
        data = jax.tree.map(_stacked, *data)
        self.data = jax.device_put(data, placement(data, tiling, leading=1) if self.by_row else NamedSharding(self.mesh, P()))
        self.compile_seconds = 0.0
        self._compiled = None

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
        """The lanes to run at once on a device, once the whole block is known to fit. Raises InputError where it does not."""
        on_cpu, devices = self.devices[0].platform == "cpu", self.mesh.size
        sharing = devices if on_cpu else 1  # the devices of a CPU have one memory between them, and each has the ratings
        lane, ratings = _nbytes(run), sum(map(_nbytes, data)) * (1 if self.by_row else sharing)
        work = 2 * lane + (work_bytes(self.spec) if isinstance(data[0].layout, Tiles) else 0)
        lanes, at_once = sharing * self.width // devices, self.sweep.lane_batch or 1
        refuse_beyond_memory(
            3 * lane * lanes + sharing * at_once * work + ratings,  # a lane's state comes in, goes out and is on the host
            f"{self.width} lanes of rank {self.spec.max_rank}, {at_once * self.spec.tiling.chunk:,} ratings at once,",
            "a lower width, hparams.rank, tiles.chunk or lane_batch, or fewer data_seeds",
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
            if self.by_row:  # the method itself shares its rows out
                block = jax.jit(self._block, donate_argnums=0)
            else:
                block = jax.shard_map(self._block, mesh=self.mesh, in_specs=specs, out_specs=lanes, check_vma=False)
                shardings = tuple(NamedSharding(self.mesh, spec) for spec in specs)
                block = jax.jit(block, in_shardings=shardings, donate_argnums=0)
            self._compiled = block.lower(*args).compile()
            self.compile_seconds = time.perf_counter() - began
        return self._compiled(*args)

    def run(self, lanes: Sequence[Lane], watch: Callable[[Progress], Any]) -> list[Fit]:
        """The Fits of one block of at most `width` lanes."""
        # neighbours in a grid take alike long, so they go to the devices in turn
        place = np.arange(self.width).reshape(self.mesh.size, -1).ravel("F")
        padded = [*lanes, *[lanes[0]._replace(epochs=0)] * (self.width - len(lanes))]
        padded = [padded[i] for i in np.argsort(place)]
        stacked = [Hparams.of(self.spec.dtype, **lane.hparams._asdict()) for lane in padded]
        hparams = Hparams(*map(np.stack, zip(*stacked, strict=True)))
        seeds = list(self.sweep.problems)
        split = np.asarray([seeds.index(lane.hparams.data_seed) for lane in padded], np.int32)
        epochs = np.asarray([lane.epochs for lane in padded], np.int32)
        runs, chunks, epoch, orders = jax.tree.map(np.copy, self.blank), [], 0, self._orders(0)
        while epoch == 0 or is_live(_host(runs), self.sweep.schedule, epochs).any():
            runs, history = self._call(runs, self.data, hparams, split, epochs, orders)
            epoch += self.sweep.schedule.chunk
            if epoch < epochs.max():
                orders = self._orders(epoch)  # while the devices are at work
            chunks.append(jax.tree.map(np.asarray, history))
            watch(self._progress(_host(runs), chunks[-1], epochs))
        history = History(*map(lambda *parts: np.concatenate(parts, 1), *chunks)) if len(chunks) > 1 else chunks[0]
        runs = jax.tree.map(np.asarray, runs)
        return [self._fit(lane, i, runs, history) for i, lane in zip(place.tolist(), lanes, strict=False)]

    def _progress(self, runs: Run, chunk: History, epochs: np.ndarray) -> Progress:
        live = is_live(runs, self.sweep.schedule, epochs)
        done = np.where(live, runs.epoch, epochs).sum()
        last = chunk.loss[np.isfinite(chunk.loss)]
        best = np.where(np.isfinite(runs.best_metric) & (runs.epoch > 0), runs.best_metric, np.inf).min()
        return Progress(int(done), 0, float(last.min(initial=np.inf)), float(best))

    def _fit(self, lane: Lane, i: int, runs: Run, history: History) -> Fit:
        epoch = int(runs.epoch[i])
        status = "finished" if epoch == lane.epochs else f"stopped at epoch {epoch}"
        if not runs.alive[i]:
            status = f"diverged at epoch {int(runs.died_at[i])}"
        ratings = self.sweep.problems[lane.hparams.data_seed].ratings
        trained = ratings.weight * ~((ratings.fold >= 0) & (ratings.fold == lane.hparams.fold))
        return Fit(
            lane=lane,
            factors=Factors(*(side[i, :, : self.spec.columns] for side in runs.best)),
            mean=float(np.average(ratings.value, weights=trained)) if self.spec.bias else 0.0,
            status=status,
            best_epoch=int(runs.best_epoch[i]),
            history=History(*(x[i, :epoch] for x in history)),
        )


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
