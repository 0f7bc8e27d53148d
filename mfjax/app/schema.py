"""The config's keys: their types, defaults, ranges and choices, and what old keys are called now.

There is no list of its own: `hparams` and `sweep` come from the fields of `Hparams`, the
conventions from `Spec`, and the sections `data`, `split` and `method` from the signatures of the
functions in `SOURCES`, `SPLITS` and `METHODS`.
"""

import inspect
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, make_dataclass
from functools import cache
from typing import Any

import numpy as np
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING as NOT_GIVEN
from omegaconf import DictConfig, OmegaConf

from mfjax.app import CONF
from mfjax.data import SOURCES, SPLITS
from mfjax.gradients import GRADIENTS
from mfjax.methods import METHODS
from mfjax.metrics import columns
from mfjax.reporting.saving import FORMATS, Saving
from mfjax.training.epochs import Schedule
from mfjax.types import LOSS_SCALE, MISSING, REG_BY, WIDTHS, Hparams, Spec

PROVIDED = ("n", "split_seed", "spec", "gradient", "kernel", "optimizer")  # by `build`
GROUPS: dict[str, Mapping[str, Callable]] = {"data": SOURCES, "split": SPLITS, "method": METHODS}
DEFAULTS = Hparams()._asdict()

HparamsConfig = make_dataclass(
    "HparamsConfig", [(key, type(value), value) for key, value in DEFAULTS.items()]
)
SweepConfig = make_dataclass(
    "SweepConfig", [(key, list[type(value)] | None, None) for key, value in DEFAULTS.items()]
)


@dataclass
class OptimizerConfig:
    """An optimiser of optax.

    Args:
      name: its alias.
      reads: the Hparams it is given.
      options: its other keywords.
      schedule, final: the learning rate's factor falls from 1 to `final` over the run.
      lazy: a batch moves only the rows that it touches.
    """

    name: str = "sgd"
    reads: list[str] = field(default_factory=lambda: ["learning_rate"])
    options: dict[str, Any] = field(default_factory=dict)
    schedule: str = "constant"
    final: float = 0.01
    lazy: bool = False


@dataclass
class TilesConfig:
    """How the ratings are cut (`mfjax.types.Tiling`).

    What is not given is what suits the ratings, the method and the platform.
    """

    width: int | None = None
    chunk: int | None = None
    group: int | None = None


@dataclass
class SearchConfig:
    """Which settings the axes of `sweep` stand for, and for how long each trains.

    Args:
      name: `grid`, every combination, or `random`, `samples` of them, log-uniform between the ends
        of each axis.
      samples: the settings that `random` draws.
      seed: of the draws.
      eta: successive halving: after `first` epochs, and after `eta` times as many again and again,
        the best 1/`eta` of the settings train on; not given, all train to their end.
      first: the epochs before settings are first dropped.
      brackets: several (Hyperband) begin with `eta` times as many epochs each.
    """

    name: str = "grid"
    samples: int = 64
    seed: int = 0
    eta: int | None = None
    first: int = 6
    brackets: int = 1


@dataclass
class CheckpointConfig:
    """When the state of a run is saved.

    Args:
      every: after so many calls of a program; 0: never. Where it is not given: after a minute, as
        much as a hundredth of the time allows, and first the lanes that are finished.
    """

    every: int | None = None


@dataclass
class PlotsConfig:
    """Whether figures are drawn, and how each is saved (`mfjax.plots.Saving`).

    Args:
      draw: not given, in a run of its own but not in the jobs of `-m`.
    """

    draw: bool | None = None
    title: bool = Saving.title
    format: list[str] = field(default_factory=lambda: list(Saving.format))
    size: list[float] | None = None


@dataclass
class DistributedConfig:
    """Several processes, each with its share of the lanes.

    Where they meet, and which this is, jax finds out on a cluster that it knows.

    Args:
      enabled: whether this is one of several.
      coordinator: HOST:PORT of the first process, where the others meet.
      processes: how many there are.
      process: which this is, from 0.
    """

    enabled: bool = False
    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None


@dataclass
class InitConfig:
    """Factors to start from, written out; else they are drawn at random.

    Args:
      user: `[users, k]`, a list a user.
      item: `[items, k]`, a list an item.
    """

    user: list[Any] | None = None
    item: list[Any] | None = None


# the jobs, each with its own keys


@dataclass
class JobConfig:
    """What to do.

    Args:
      name: a module of `mfjax.app.jobs`, chosen by `job=NAME`, which brings the keys of that job.
    """

    name: str = NOT_GIVEN


@dataclass
class TimedJob(JobConfig):
    """A job that times calls.

    Args:
      repeats: the calls that are timed.
    """

    repeats: int = 20


@dataclass
class ComparingJob(TimedJob):
    """A job that compares gradients on a small problem.

    Args:
      small_users, small_items, small_rank: its shape.
    """

    small_users: int = 8
    small_items: int = 7
    small_rank: int = 3


@dataclass
class TrainJob(JobConfig):
    """The main job."""

    name: str = "train"


@dataclass
class CompareJob(JobConfig):
    """Variants of one config, side by side.

    Args:
      variants: of each its name, and the keys in which it differs from this config.
    """

    name: str = "compare"
    variants: dict[str, Any] = field(default_factory=dict)


@dataclass
class CandidateConfig:
    """A user's own gradient (`module:function` or `file.py:function`), and what it is tried on.

    Args:
      gradient: the function; none is tried where it is not given.
      loss: what it claims to be the gradient of; mfjax's own where none is given.
      checker: one of theirs, to show beside ours.
      reg: the λs to try it at; `hparams.reg` where none are given.
      step: of the differences.
      tolerance: the most that max|a - b| / max|b| may be.
    """

    gradient: str | None = None
    loss: str | None = None
    checker: str | None = None
    reg: list[float] | None = None
    step: float = 1e-3
    tolerance: float = 1e-6


@dataclass
class GradientsJob(ComparingJob):
    """The gradient comparison.

    Args:
      gradients: which of GRADIENTS; all where they are not given.
      step: of the differences.
      shares: of the users, to time on.
      tolerance: the most that max|a - b| / max|b| may be against the differences.
    """

    name: str = "gradients"
    gradients: list[str] | None = None
    step: float = 0.1
    shares: list[float] = field(default_factory=lambda: [1.0])
    tolerance: float = 1e-9
    candidate: CandidateConfig = field(default_factory=CandidateConfig)


@dataclass
class WalkthroughJob(JobConfig):
    """The printed walk-through."""

    name: str = "walkthrough"


@dataclass
class ScaleJob(ComparingJob):
    """How a gradient grows with the ratings.

    Args:
      ratings: the numbers of ratings of `data=synthetic` at which it is measured.
    """

    name: str = "scale"
    ratings: list[int] = field(default_factory=lambda: [1_000, 10_000, 100_000])


@dataclass
class DeviceJob(TimedJob):
    """What is timed: the gradient and the epochs on `data`, and a sweep.

    Args:
      ranks: of the gradient and the epochs.
      lanes, lane_rank: of the sweep.
      lane_data: the ratings of the sweep; takes the keys of `data`.
    """

    name: str = "device"
    ranks: list[int] = field(default_factory=lambda: [64])
    lanes: int = 1000
    lane_rank: int = 16
    lane_data: Any = None  # DataConfig


# the whole


@dataclass
class Config:
    """Every key of mfjax; conf/ groups and experiments only set them.

    `schema` gives the sections that are made of tables and fields their types. The Args describe
    the keys of which the docstrings of `Schedule`, `Plan`, `Sweep` and of the tables' functions do
    not speak, those of sections by their whole names.

    Args:
      gradient: one of GRADIENTS, for a method that wants one; not given, `tiles`.
      missing: what a missing entry costs: `ignore`, nothing; `item_mean`, it counts as its item's
        mean training rating; `zero`, as 0 with weight `hparams.missing_weight`.
      loss_scale: `half`: ½ Σ e² + ½ λ Σ x²; `sum`: without the ½; `mean`: `half` over the number of
        training ratings.
      reg_by: what λ of a row is multiplied by: `row`, 1; `count`, its training ratings; `total`,
        all training ratings.
      bias: whether predictions are μ + b_i + c_j + u_i·v_j, on ratings less μ, or u_i·v_j alone.
      clip: whether predictions are clipped to the range of the ratings before an error is taken.
      refit: whether the chosen setting is trained once more, on training and validation ratings.
      dtype: of the factors and of all that is computed with them.
      devices: CPU devices that share the lanes out; not given, one a core. Of other platforms all
        that jax sees.
      threads: XLA's threads of a program on a CPU; `null` leaves them to XLA.
      platform: what to compute on (`cpu`, `cuda`); not given, what jax finds first.
      compilation_cache: whether compiled programs are kept from run to run, in the user's cache.
      matmul_precision: of matrix products on an accelerator.
      resume: go on from what is in the output folder (`hydra.run.dir` or `hydra.sweep.dir`).
      debug: show the traceback of an error.
      expected: figures that must come out, each `{value: …, within: …}` by its path in the results;
        the command exits with 2 where one does not.
      data.name, split.name, method.name: which of them.
      data.rows: the matrix, a list a user; `null` where an entry is missing.
      split.validation, split.test: shares of the ratings.
      split.folds: how many.
      method.batch_size: the ratings of one update; 1 is one pair at a time.
      method.cg_steps: steps of conjugate gradients a row and half-sweep.
      hparams.learning_rate: of the optimiser.
      hparams.reg: λ of the factors.
      hparams.reg_bias: λ of the biases.
      hparams.init_scale: standard deviation of the first factors.
      hparams.missing_weight: of a missing entry, with `missing=zero`.
      hparams.momentum: of an optimiser that reads it.
      hparams.rank: columns of the factors; 0 leaves the biases alone.
      hparams.fold: the fold that is held out, to validate on.
      hparams.init_seed: of the first factors.
      hparams.split_seed: of the split, and of the order in which `sgd` visits the ratings.
    """

    job: JobConfig = field(default_factory=JobConfig)
    data: Any = None  # DataConfig
    split: Any = None  # SplitConfig
    method: Any = None  # MethodConfig
    gradient: str | None = None
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    hparams: Any = None  # HparamsConfig
    sweep: Any = None  # SweepConfig
    search: SearchConfig = field(default_factory=SearchConfig)
    init: InitConfig = field(default_factory=InitConfig)
    tiles: TilesConfig = field(default_factory=TilesConfig)
    epochs: int = Schedule.epochs
    eval_every: int = Schedule.eval_every
    patience: int | None = Schedule.patience
    choose_by: str = Schedule.choose_by
    missing: str = Spec.missing
    loss_scale: str = Spec.loss_scale
    reg_by: str = Spec.reg_by
    bias: bool = Spec.bias
    clip: bool = True
    refit: bool = True
    dtype: str = Spec.dtype
    lanes_per_program: int = 64
    lane_batch: int | None = None
    epochs_per_call: int = Schedule.epochs_per_call
    devices: int | None = None
    threads: int | None = 1
    platform: str | None = None
    compilation_cache: bool = True
    matmul_precision: str = "highest"
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    resume: bool = False
    distributed: DistributedConfig = field(default_factory=DistributedConfig)
    plots: PlotsConfig = field(default_factory=PlotsConfig)
    debug: bool = False
    expected: dict[str, Any] = field(default_factory=dict)


JOBS: dict[str, type[JobConfig]] = {
    kind.name: kind
    for kind in (TrainJob, CompareJob, GradientsJob, WalkthroughJob, ScaleJob, DeviceJob)
}

CHANGES_NO_NUMBER = (
    "checkpoint",
    "resume",
    "distributed",
    "plots",
    "debug",
    "compilation_cache",
)


def schema() -> type[Config]:
    """The Config, with sections of what the tables hold now."""
    sections = {
        group: _section(f"{group.capitalize()}Config", table) for group, table in GROUPS.items()
    }
    return _with_sections(Config, **sections, hparams=HparamsConfig, sweep=SweepConfig)


def job_schema(name: str) -> type[JobConfig]:
    """The keys of a job of JOBS."""
    job = JOBS[name]
    if not issubclass(job, DeviceJob):
        return job
    return _with_sections(job, lane_data=_section("DataConfig", SOURCES))


@cache
def known(job: str) -> DictConfig:
    """Every key of a config with a job of JOBS, as the tables were when they were registered."""
    whole = OmegaConf.structured(schema())
    whole.job = OmegaConf.structured(job_schema(job))
    return whole


def _section(name: str, table: Mapping[str, Callable]) -> type:
    """A dataclass of `name` and of every keyword that a function of `table` takes, optional."""
    taken = {key: kind for function in table.values() for key, kind in keywords(function).items()}
    optional = [(key, _optional(kind), None) for key, kind in taken.items()]
    return make_dataclass(name, [("name", str, next(iter(table))), *optional])


def keywords(function: Callable) -> dict[str, Any]:
    """The keywords of a function of a table that are the config's to give, with their types."""
    parameters = inspect.signature(function, eval_str=True).parameters.values()
    return {one.name: one.annotation for one in parameters if one.name not in PROVIDED}


def _optional(kind: Any) -> Any:
    return (list[Any] if kind is list else kind) | None


def _with_sections(base: type, **sections: type) -> type:
    """`base` with the types of the sections that it leaves open."""
    typed = [(key, kind, field(default_factory=kind)) for key, kind in sections.items()]
    return make_dataclass(base.__name__, typed, bases=(base,))


# what values may be

_Range = tuple[Callable[[Any], bool], str]
_POSITIVE: _Range = (lambda x: 0 < x < math.inf, "a positive number")
_NOT_NEGATIVE: _Range = (lambda x: 0 <= x < math.inf, "0 or a positive number")
_RANK: _Range = (lambda x: 0 <= x <= 4096, "an integer from 0 to 4096")
_SEED: _Range = (lambda x: 0 <= x < 2**31, "an integer from 0 to 2147483647")
RANGES: dict[str, _Range] = {  # of a field of Hparams: also of its axis of the sweep
    "learning_rate": _POSITIVE,
    "reg": _NOT_NEGATIVE,
    "reg_bias": _NOT_NEGATIVE,
    "init_scale": _NOT_NEGATIVE,
    "missing_weight": _NOT_NEGATIVE,
    "momentum": (lambda x: 0 <= x < 1, "a number from 0 up to, and not, 1"),
    "rank": _RANK,
    "fold": (lambda x: x >= -2, "a fold's number, or -2 to hold nothing out"),
    "init_seed": _SEED,
    "split_seed": _SEED,
    "epochs": _POSITIVE,
    "method.batch_size": _POSITIVE,
    "method.cg_steps": _POSITIVE,
    "tiles.width": (lambda x: x in WIDTHS, f"one of {', '.join(map(str, WIDTHS))}"),
    "tiles.chunk": _POSITIVE,
    "tiles.group": (lambda x: x > 0 and x % 8 == 0, "a multiple of 8"),
    "eval_every": _POSITIVE,
    "patience": _POSITIVE,
    "lanes_per_program": _POSITIVE,
    "lane_batch": _POSITIVE,
    "epochs_per_call": _POSITIVE,
    "devices": _POSITIVE,
    "threads": _POSITIVE,
    "optimizer.final": _NOT_NEGATIVE,
    "search.samples": _POSITIVE,
    "search.seed": _SEED,
    "search.eta": (lambda x: x >= 2, "an integer from 2 on"),
    "search.first": _POSITIVE,
    "search.brackets": _POSITIVE,
    "checkpoint.every": _NOT_NEGATIVE,
    "plots.format": (lambda x: x in FORMATS, f"one of {', '.join(FORMATS)}"),
    "plots.size": _POSITIVE,
    "job.repeats": _POSITIVE,
    "job.step": _POSITIVE,
    "job.tolerance": _POSITIVE,
    "job.small_users": _POSITIVE,
    "job.small_items": _POSITIVE,
    "job.small_rank": _POSITIVE,
    "job.shares": (lambda x: 0 < x <= 1, "a share above 0 and at most 1"),
    "job.candidate.step": _POSITIVE,
    "job.candidate.tolerance": _POSITIVE,
    "job.candidate.reg": _NOT_NEGATIVE,
    "job.ratings": _POSITIVE,
    "job.ranks": _RANK,
    "job.lanes": _POSITIVE,
    "job.lane_rank": _RANK,
}

CHOICES: dict[str, Collection[str]] = {
    "job.name": JOBS,
    **{f"{group}.name": table for group, table in GROUPS.items()},
    "gradient": GRADIENTS,
    "missing": MISSING,
    "loss_scale": LOSS_SCALE,
    "reg_by": REG_BY,
    "dtype": ("float32", "float64"),
    "matmul_precision": ("default", "high", "highest"),
    "job.lane_data.name": SOURCES,
}


def choices() -> dict[str, Collection[str]]:
    """CHOICES, and the columns of the metrics that there are now."""
    return CHOICES | {"choose_by": columns("validation")}


# what keys were called before

RENAMED: dict[str, str] = {  # each with all below it, but for one that is a section now
    "width": "lanes_per_program",
    "chunk": "epochs_per_call",
    "batch_size": "method.batch_size",
    "cg_steps": "method.cg_steps",
    "hparams.seed": "hparams.init_seed",
    "hparams.data_seed": "hparams.split_seed",
    "sweep.seed": "sweep.init_seed",
    "sweep.data_seed": "sweep.split_seed",
    "data.source": "data.name",
    "split.kind": "split.name",
    "search.kind": "search.name",
    "optimizer.takes": "optimizer.reads",
    "check": "job",
    "scale": "job",
    "device": "job",
    "device.lane_data.source": "job.lane_data.name",
    "variants": "job.variants",
    "plots": "plots.draw",
    "hydra.launcher.width": "hydra.launcher.lanes_per_program",
}


def renamed(path: str) -> str | None:
    """What an old key is called now; None where it is none."""
    for old in sorted(RENAMED, key=len, reverse=True):
        is_below = path.startswith(f"{old}.") and not RENAMED[old].startswith(f"{old}.")
        if path == old or is_below:
            return RENAMED[old] + path.removeprefix(old)
    return None


def register() -> None:
    """Give Hydra the schema, the jobs, and what conf/ has no file for; idempotent.

    That is, of the tables, a choice for every name; and resolvers that write lists, `${range:n}`,
    `${linspace:a,b,n}` and `${logspace:a,b,n}`.
    """
    known.cache_clear()
    store = ConfigStore.instance()
    store.store("mfjax_schema", schema(), provider="mfjax")
    for name in JOBS:
        store.store(name, job_schema(name), group="job", provider="mfjax")
    for group, table in GROUPS.items():
        for name in table:
            if not (CONF / group / f"{name}.yaml").exists():
                store.store(name, {"name": name}, group=group, provider="mfjax")
    for name, resolver in RESOLVERS.items():
        OmegaConf.register_new_resolver(name, resolver, replace=True)


def _range(*bounds: Any) -> list[int]:
    return list(range(*map(int, bounds)))


def _linspace(low: float, high: float, n: int) -> list[float]:
    return [float(x) for x in np.linspace(low, high, int(n))]


def _logspace(low: float, high: float, n: int) -> list[float]:
    return [float(f"{x:.6g}") for x in np.geomspace(low, high, int(n))]


RESOLVERS = {"range": _range, "linspace": _linspace, "logspace": _logspace}
