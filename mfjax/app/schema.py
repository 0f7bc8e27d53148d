"""The config's keys: their types, defaults, ranges and choices, and what old keys are called now.

There is no list of its own: `hparams` and `sweep` come from the fields of `Hparams`, the
conventions from `Spec`, and the sections `data`, `split` and `method` from the signatures of the
functions in `SOURCES`, `SPLITS` and `METHODS`.
"""

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, make_dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING as NOT_GIVEN
from omegaconf import DictConfig, OmegaConf

from mfjax.app import CONF
from mfjax.app.adopted import OPTIMIZERS
from mfjax.app.lanes import SEARCHES
from mfjax.data import SOURCES, SPLITS
from mfjax.data.reading import DUPLICATES, MISSING_IDS
from mfjax.data.wide import LAYOUTS
from mfjax.gradients import GRADIENTS
from mfjax.kernels import KERNELS
from mfjax.kernels.choice import AUTO
from mfjax.losses import HPARAMS as OF_LOSSES
from mfjax.losses import LOSSES
from mfjax.methods import METHODS
from mfjax.metrics import choosing
from mfjax.reporting.loggers import LOGGERS
from mfjax.reporting.saving import FORMATS, Saving
from mfjax.training.epochs import CHOOSE, Schedule
from mfjax.types import CONVENTIONS, NO_FOLD, WIDTHS, Hparams, Spec

PROVIDED = ("data", "split_seed", "spec", "gradient", "kernel", "optimizer", "bags")  # by `build`
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
class BagsConfig:
    """What users and items are made of beside a row of their own (`mfjax.bags`).

    Args:
      user, item: their features: a row of BAGS, or a list of several; `none`: they have none.
      user_file, item_file: a table (CSV) of what is known of them, their ids in its first column;
        not given, what the data have.
      user_columns, item_columns: of it, those that `columns` takes.
      transductive: `rated` also has the pairs to be tested, without their values; such runs are
        never compared with others.
    """

    user: Any = "none"
    item: Any = "none"
    user_file: str | None = None
    item_file: str | None = None
    user_columns: list[str] | None = None
    item_columns: list[str] | None = None
    transductive: bool = False


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

    `first` and `brackets` are those of `mfjax.Halving`.

    Args:
      name: `grid`, every combination, or `random`, `samples` of them, log-uniform between the ends
        of each axis.
      samples: the settings that `random` draws.
      seed: of the draws.
      eta: successive halving: after `first` epochs, and after `eta` times as many again and again,
        the best 1/`eta` of the settings train on; not given, all train to their end.
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
    """Factors to start from, a model's or written out; else they are drawn at random.

    Args:
      path: output folder of a training run, or one of `Model.save`, whose model has the same rank;
        a user or item that it does not know starts at 0.
      user: `[users, k]`, a list a user.
      item: `[items, k]`, a list an item.
    """

    path: str | None = None
    user: list[Any] | None = None
    item: list[Any] | None = None


@dataclass
class ListsConfig:
    """Lists of the best items, measured on test ratings; none where nothing is relevant.

    Args:
      relevant: the least rating that is relevant, in rating units.
      k: places of a list.
      graded: whether the gain of a relevant item is its rating, and not 1.
    """

    relevant: float | None = None
    k: int = 10
    graded: bool = False


# the jobs, each with its own keys, and those of the config that it reads

OF_THE_COMMAND = (
    "devices",
    "threads",
    "platform",
    "compilation_cache",
    "matmul_precision",
    "overwrite",
    "debug",
    "expected",
)
OF_THE_OBJECTIVE = (
    "missing",
    "loss",
    "loss_scale",
    "reg_by",
    "hparams.reg",
    "hparams.missing_weight",
    *(f"hparams.{key}" for key in OF_LOSSES),
    "hparams.init_seed",
)
OF_A_GRADIENT = (
    *OF_THE_OBJECTIVE,
    "data",
    "bias",
    "dtype",
    "tiles",
    "hparams.reg_bias",
    "hparams.init_scale",
)
OF_A_PROGRAM = (
    *OF_A_GRADIENT,
    "implicit",
    "split",
    "method",
    "gradient",
    "kernel",
    "optimizer",
    "bags",
    "hparams",
    "init",
    "epochs",
    "clip",
)
OF_A_SWEEP = (
    *OF_A_PROGRAM,
    "sweep",
    "search",
    "replicates",
    "eval_every",
    "patience",
    "choose_by",
    "choose",
    "lists",
    "refit",
    "ensemble",
    "lanes_per_program",
    "lane_batch",
    "epochs_per_call",
    "plots",
    "logger",
)


@dataclass
class JobConfig:
    """What to do.

    Args:
      name: a module of `mfjax.app.jobs`, chosen by `job=NAME`, which brings the keys of that job.
    """

    reads: ClassVar[tuple[str, ...]] = ("job", *OF_THE_COMMAND)
    replaces: ClassVar[dict[str, str]] = {}  # keys by those of the job that take their place
    tries: ClassVar[tuple[str, ...]] = ()  # keys of which it takes every value, whatever is set
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

    reads: ClassVar = (*JobConfig.reads, *OF_A_SWEEP, "test", "checkpoint", "resume", "distributed")
    name: str = "train"


@dataclass
class CompareJob(JobConfig):
    """Variants of one config, side by side.

    Args:
      variants: of each its name, and the keys in which it differs from this config.
    """

    reads: ClassVar = (*JobConfig.reads, *OF_A_SWEEP, "test")
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

    reads: ClassVar = (
        *OF_THE_COMMAND,
        *OF_THE_OBJECTIVE,
        "job.name",
        "job.gradients",
        "job.candidate",
        "job.small_users",
        "job.small_items",
        "job.small_rank",
    )
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
      gradients: which of GRADIENTS; all that this machine can compute where they are not given.
      step: of the differences; not given, that of `gradient=numerical`.
      shares: of the users, to time on.
      tolerance: the most that max|a - b| / max|b| may be against the differences.
    """

    reads: ClassVar = (*JobConfig.reads, *OF_A_GRADIENT, "implicit", "hparams.rank", "plots")
    name: str = "gradients"
    gradients: list[str] | None = None
    step: float | None = None
    shares: list[float] = field(default_factory=lambda: [1.0])
    tolerance: float = 1e-9
    candidate: CandidateConfig = field(default_factory=CandidateConfig)


@dataclass
class WalkthroughJob(JobConfig):
    """The printed walk-through."""

    reads: ClassVar = (*JobConfig.reads, *OF_A_PROGRAM, "plots")
    name: str = "walkthrough"


@dataclass
class ScaleJob(ComparingJob):
    """How a gradient grows with the ratings.

    Args:
      ratings: the numbers of ratings of `data=synthetic` at which it is measured.
    """

    reads: ClassVar = (*JobConfig.reads, *OF_A_GRADIENT, "hparams.rank", "plots")
    replaces: ClassVar = {"data.num_ratings": "job.ratings"}
    tries: ClassVar = ("missing",)
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

    reads: ClassVar = (
        *JobConfig.reads,
        *OF_A_GRADIENT,
        "implicit",
        "hparams.learning_rate",
        "method.batch_size",
        "lane_batch",
    )
    replaces: ClassVar = {"hparams.rank": "job.ranks"}
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
    the keys of which the docstrings of `Schedule`, `Plan`, `Sweep`, `Spec`, `Hparams` and of the
    tables' functions do not speak, those of sections by their whole names.

    Args:
      implicit: the least rating that counts as an interaction: those are of value 1, and the others
        are left out; not given, the ratings are taken as they are.
      gradient: one of GRADIENTS, for a method that wants one; not given, that of the kernel.
      kernel: one of KERNELS, which sums over the ratings; `auto`: `native`, compiled, on a CPU
        where it is there and knows the loss and the optimiser, and `xla` elsewhere.
      clip: whether predictions are clipped, before an error is taken, to the range of the ratings
        that are not kept for the test; or to what, as `[0.5,5]`.
      replicates: the splits on which every setting is trained, of as many split_seeds from
        `hparams.split_seed` on; not given, 3, or 1 where `sweep` repeats settings, the split draws
        nothing or has several test folds, each of which is then tested.
      test: what is measured on the test ratings of several jobs or variants: `chosen`, the best by
        validation, once; or `all`.
      refit: whether the chosen setting is trained once more, on training and validation ratings.
      ensemble: whether all settings and starts of a method that samples are pooled: none is chosen,
        and the mean of all their samples is tested.
      devices: CPU devices that share the lanes out; not given, one a core. Of other platforms all
        that jax sees.
      threads: XLA's threads of a program on a CPU, of which it has at least two; `null` leaves them
        to XLA.
      platform: what to compute on (`cpu`, `cuda`); not given, what jax finds first.
      compilation_cache: whether compiled programs are kept from run to run, in the user's cache.
      matmul_precision: of matrix products on an accelerator.
      resume: go on from what is in the output folder (`hydra.run.dir` or `hydra.sweep.dir`).
      overwrite: give up the result that stands in the output folder, and its plots.
      logger: where a run is sent when it ends, beside its files: `csv`, nowhere; `tensorboard`,
        `wandb` and `mlflow` are extras.
      debug: show the traceback of an error.
      expected: figures that must come out, each `{value: …, within: …}` or `{value: TEXT}` by its
        path in the results; the command exits with 2 where one does not.
      data.name, split.name, method.name: which of them.
    """

    job: JobConfig = field(default_factory=JobConfig)
    data: Any = None  # DataConfig
    implicit: float | None = None
    split: Any = None  # SplitConfig
    method: Any = None  # MethodConfig
    gradient: str | None = None
    kernel: str = AUTO
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    bags: BagsConfig = field(default_factory=BagsConfig)
    hparams: Any = None  # HparamsConfig
    sweep: Any = None  # SweepConfig
    search: SearchConfig = field(default_factory=SearchConfig)
    init: InitConfig = field(default_factory=InitConfig)
    tiles: TilesConfig = field(default_factory=TilesConfig)
    epochs: int = Schedule.epochs
    eval_every: int = Schedule.eval_every
    patience: int | None = Schedule.patience
    choose_by: str = Schedule.choose_by
    choose: str = Schedule.choose
    lists: ListsConfig = field(default_factory=ListsConfig)
    missing: str = Spec.missing
    loss: str = Spec.loss
    loss_scale: str = Spec.loss_scale
    reg_by: str = Spec.reg_by
    bias: bool = Spec.bias
    clip: Any = True
    replicates: int | None = None
    test: str = "chosen"
    refit: bool = True
    ensemble: bool = False
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
    overwrite: bool = False
    distributed: DistributedConfig = field(default_factory=DistributedConfig)
    plots: PlotsConfig = field(default_factory=PlotsConfig)
    logger: str = "csv"
    debug: bool = False
    expected: dict[str, Any] = field(default_factory=dict)


JOBS: dict[str, type[JobConfig]] = {
    kind.name: kind
    for kind in (TrainJob, CompareJob, GradientsJob, WalkthroughJob, ScaleJob, DeviceJob)
}

CHANGES_NO_NUMBER = (
    "checkpoint",
    "resume",
    "overwrite",
    "expected",
    "distributed",
    "plots",
    "logger",
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


@cache
def defaults(job: str) -> dict[str, Any]:
    """Every key of a config with a job of JOBS, with its value where nothing is said."""
    whole = known(job).copy()
    chosen = filter(OmegaConf.is_dict, OmegaConf.load(CONF / "config.yaml").defaults)
    for group, name in (pair for one in chosen for pair in one.items()):
        file = CONF / str(group) / f"{name}.yaml"
        if file.is_file():
            whole[group] = OmegaConf.merge(whole[group], OmegaConf.load(file))
    return dict(leaves(OmegaConf.to_container(whole)))


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The values of a nested dict by their dotted keys."""
    if not isinstance(value, dict) or not value:
        yield path, value
        return
    for key, inner in value.items():
        yield from leaves(inner, f"{path}.{key}" if path else str(key))


def _section(name: str, table: Mapping[str, Callable]) -> type:
    """A dataclass of `name` and of every keyword that a function of `table` takes, optional."""
    taken = {key: kind for function in table.values() for key, kind in keywords(function).items()}
    optional = [(key, _optional(kind), None) for key, kind in taken.items()]
    return make_dataclass(name, [("name", str, next(iter(table))), *optional])


def keywords(function: Callable) -> dict[str, Any]:
    """The keywords of a function of a table that are the config's to give, with their types."""
    parameters = inspect.signature(function, eval_str=True).parameters.values()
    taken = (*PROVIDED, "name")  # which chooses the function
    return {one.name: one.annotation for one in parameters if one.name not in taken}


def _optional(kind: Any) -> Any:
    return (list[Any] if kind in (list, list | None) else kind) | None


def _with_sections(base: type, **sections: type) -> type:
    """`base` with the types of the sections that it leaves open."""
    typed = [(key, kind, field(default_factory=kind)) for key, kind in sections.items()]
    return make_dataclass(base.__name__, typed, bases=(base,))


# what values may be

_Range = tuple[Callable[[Any], bool], str]
MOST = 1e30  # of a number, of which float32 can hold a multiple


def _whole(least: int, most: int) -> _Range:
    return lambda x: least <= x <= most, f"an integer from {least} to {most}"


def _one_of(values: Collection[Any]) -> _Range:
    return lambda x: x in values, f"one of {', '.join(map(str, values))}"


_POSITIVE: _Range = (lambda x: 0 < x <= MOST, f"a positive number up to {MOST:g}")
_NOT_NEGATIVE: _Range = (lambda x: 0 <= x <= MOST, f"0 or a positive number up to {MOST:g}")
_COUNT = _whole(1, 10**6)
_EPOCHS = _whole(1, 10**8)
_IDS = _whole(1, 2**31 - 1)
_RANK = _whole(0, 4096)
_SEED = _whole(0, 2**31 - 1)
_SHARE: _Range = (lambda x: 0 < x <= 1, "a share above 0 and at most 1")
RANGES: dict[str, _Range] = {  # of a field of Hparams: also of its axis of the sweep
    "learning_rate": _POSITIVE,
    "reg": _NOT_NEGATIVE,
    "reg_bias": _NOT_NEGATIVE,
    "reg_bag": _NOT_NEGATIVE,
    "init_scale": _NOT_NEGATIVE,
    "missing_weight": (lambda x: 0 <= x <= 1e6, "a number from 0 to 1e6, the most that is exact"),
    "momentum": (lambda x: 0 <= x < 1, "a number from 0 up to, and not, 1"),
    **dict.fromkeys(OF_LOSSES, _POSITIVE),
    "rank": _RANK,
    "fold": (
        lambda x: 0 <= x <= 10**6 or x == NO_FOLD,
        "a fold's number, or -2 to hold nothing out",
    ),
    "init_seed": _SEED,
    "split_seed": _SEED,
    "test_fold": _whole(0, 10**6),
    "replicates": _whole(1, 1000),
    "data.num_users": _IDS,
    "data.num_items": _IDS,
    "data.num_ratings": _IDS,
    "data.rank": _RANK,
    "split.folds": _COUNT,
    "epochs": _EPOCHS,
    "lists.k": _whole(1, 10_000),
    "method.batch_size": _whole(1, 2**24),
    "method.cg_steps": _whole(1, 1000),
    "tiles.width": _one_of(WIDTHS),
    "tiles.chunk": _whole(1, 2**28),
    "tiles.group": (lambda x: 0 < x <= 2**20 and x % 8 == 0, "a multiple of 8, up to 1048576"),
    "eval_every": _EPOCHS,
    "patience": _EPOCHS,
    "lanes_per_program": _COUNT,
    "lane_batch": _COUNT,
    "epochs_per_call": _EPOCHS,
    "devices": _whole(1, 1024),
    "threads": _whole(1, 1024),
    "optimizer.final": _NOT_NEGATIVE,
    "search.samples": _COUNT,
    "search.seed": _SEED,
    "search.eta": _whole(2, 1000),
    "search.first": _EPOCHS,
    "search.brackets": _whole(1, 20),
    "checkpoint.every": _whole(0, 10**8),
    "distributed.processes": _COUNT,
    "distributed.process": _whole(0, 10**6),
    "plots.format": _one_of(FORMATS),
    "plots.size": (lambda x: 0 < x <= 100, "a positive number of inches up to 100"),
    "job.repeats": _COUNT,
    "job.step": _POSITIVE,
    "job.tolerance": _POSITIVE,
    "job.small_users": _whole(1, 10**4),
    "job.small_items": _whole(1, 10**4),
    "job.small_rank": _whole(1, 4096),
    "job.shares": _SHARE,
    "job.candidate.step": _POSITIVE,
    "job.candidate.tolerance": _POSITIVE,
    "job.candidate.reg": _NOT_NEGATIVE,
    "job.ratings": _IDS,
    "job.ranks": _RANK,
    "job.lanes": _COUNT,
    "job.lane_rank": _RANK,
}

CHOICES: dict[str, Collection[str]] = {
    "job.name": JOBS,
    **{f"{group}.name": table for group, table in GROUPS.items()},
    "gradient": GRADIENTS,
    "kernel": (AUTO, *KERNELS),
    **CONVENTIONS,
    "loss": LOSSES,
    "dtype": ("float32", "float64"),
    "matmul_precision": ("default", "high", "highest"),
    "job.lane_data.name": SOURCES,
    "search.name": SEARCHES,
    "choose": CHOOSE,
    "logger": LOGGERS,
    "test": ("chosen", "all"),
    "data.layout": LAYOUTS,
    "data.missing_ids": MISSING_IDS,
    "data.duplicates": DUPLICATES,
}


def choices() -> dict[str, Collection[str]]:
    """CHOICES, and the columns of the metrics that there are now."""
    return CHOICES | {"choose_by": choosing()}


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
    defaults.cache_clear()
    store = ConfigStore.instance()
    store.store("mfjax_schema", schema(), provider="mfjax")
    for name in JOBS:
        store.store(name, job_schema(name), group="job", provider="mfjax")
    for group, table in {**GROUPS, "optimizer": OPTIMIZERS}.items():
        for name in table:
            if not (CONF / group / f"{name}.yaml").exists():
                *folders, file = filter(None, [group, *name.split("/")])  # it may be a path
                store.store(file, {"name": name}, group="/".join(folders), provider="mfjax")
    for name, resolver in RESOLVERS.items():
        OmegaConf.register_new_resolver(name, resolver, replace=True)


LONGEST = 10**4  # values of a list, which Hydra takes a second for


def _range(*bounds: Any) -> list[int]:
    return list(_short(range(*map(int, bounds))))


def _linspace(low: float, high: float, n: int) -> list[float]:
    return [float(x) for x in np.linspace(low, high, len(_short(range(int(n)))))]


def _logspace(low: float, high: float, n: int) -> list[float]:
    return [float(f"{x:.6g}") for x in np.geomspace(low, high, len(_short(range(int(n)))))]


def _short(values: range) -> range:
    """The values, where a list of them fits in memory by far."""
    if len(values) > LONGEST:
        raise ValueError(f"expected at most {LONGEST} values, got {len(values)}")
    return values


RESOLVERS = {"range": _range, "linspace": _linspace, "logspace": _logspace}
