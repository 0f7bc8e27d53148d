"""The config: its schema, its checks, and `build`, which turns it into what a sweep takes. Importing it loads no jax.

The schema has no list of its own: `hparams` and `sweep` come from the fields of `Hparams`, the conventions from `Spec`,
`data` and `split` from the signatures of the functions in `SOURCES` and `SPLITS`.
"""

import difflib
import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, make_dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from mfjax.data import SOURCES, SPLITS
from mfjax.data.dataset import Dataset
from mfjax.errors import InputError
from mfjax.types import LOSS_SCALE, MISSING, REG_BY, WIDTHS, Factors, Hparams, Ratings, Spec, Tiling

if TYPE_CHECKING:
    from mfjax.training.search import Halving
    from mfjax.training.sweep import Sweep
    from mfjax.types import Method, Optimizer

HERE = Path(__file__).resolve().parent.parent
CONF = next(folder for folder in (HERE / "conf", HERE.parent / "conf") if (folder / "config.yaml").is_file())
DEFAULTS = Hparams()


def _union(name: str, chooser: str, table: Mapping[str, Callable]) -> type:
    """A dataclass of `chooser` and of every keyword that a function of `table` takes, each optional."""
    keywords = {key: kind for function in table.values() for key, kind in _keywords(function).items()}
    optional = [(key, kind | None if kind is not list else list[Any] | None, None) for key, kind in keywords.items()]
    return make_dataclass(name, [(chooser, str, next(iter(table))), *optional])


def _keywords(function: Callable) -> dict[str, Any]:
    """The parameters that the config may give, with their types; those that every split takes come from elsewhere."""
    parameters = inspect.signature(function, eval_str=True).parameters.values()
    return {p.name: p.annotation for p in parameters if p.name not in ("n", "data_seed")}


DataConfig = _union("DataConfig", "source", SOURCES)
SplitConfig = _union("SplitConfig", "kind", SPLITS)
HparamsConfig = make_dataclass("HparamsConfig", [(k, type(v), v) for k, v in DEFAULTS._asdict().items()])
SweepConfig = make_dataclass("SweepConfig", [(k, list[type(v)] | None, None) for k, v in DEFAULTS._asdict().items()])


@dataclass
class OptimizerConfig:
    """`name`: an optax alias; `takes`: the Hparams it is given; `options`: its other keywords; `schedule` and `final`: the
    learning rate's factor falls from 1 to `final` over the run; `lazy`: a batch moves only the rows that it touches."""

    name: str = "sgd"
    takes: list[str] = field(default_factory=lambda: ["learning_rate"])
    options: dict[str, Any] = field(default_factory=dict)
    schedule: str = "constant"
    final: float = 0.01
    lazy: bool = False


@dataclass
class TilesConfig:
    """How the ratings are cut for gradient=tiles and method=als (`mfjax.types.Tiling`); what suits the ratings, the method
    and the platform where it is not given."""

    width: int | None = None
    chunk: int | None = None
    group: int | None = None


@dataclass
class SearchConfig:
    """Which settings the axes of `sweep` stand for: every combination (`grid`), or `samples` of them, log-uniform between each
    axis' ends (`random`). With `eta`, successive halving: after `first` epochs, and after `eta` times as many again and again,
    the best 1/`eta` of the settings train on; in several `brackets` (Hyperband), each begins with `eta` times as many."""

    kind: str = "grid"
    samples: int = 64
    seed: int = 0
    eta: int | None = None
    first: int = 6
    brackets: int = 1


@dataclass
class CheckpointConfig:
    """`every`: save the state of the sweep after so many chunks of epochs; 0: never. Where it is not given: after a minute,
    as much as a hundredth of the time allows, and first the lanes that are finished."""

    every: int | None = None


@dataclass
class DistributedConfig:
    """Whether this is one of several `processes`, each with its share of the lanes (`jax.distributed`); where they meet, and
    which this is, is found out by jax on a cluster that it knows."""

    enabled: bool = False
    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None


@dataclass
class InitConfig:
    """Factors to start from, written out, `[users, k]` and `[items, k]`; drawn at random where they are not given."""

    user: list[Any] | None = None
    item: list[Any] | None = None


@dataclass
class CandidateConfig:
    """A user's own gradient (`module:function` or `file.py:function`), the loss it claims to be of (mfjax's own where none
    is given), the λs to try it at (`hparams.reg`), and a checker of theirs to show beside ours."""

    gradient: str | None = None
    loss: str | None = None
    checker: str | None = None
    reg: list[float] | None = None
    step: float = 1e-3
    tolerance: float = 1e-6


@dataclass
class CheckConfig:
    """The gradient comparison: which variants (all), calls timed, step of the differences, shares of the users to time
    on, and the shape of the small problem."""

    gradients: list[str] | None = None
    repeats: int = 20
    step: float = 0.1
    shares: list[float] = field(default_factory=lambda: [1.0])
    small_users: int = 8
    small_items: int = 7
    small_rank: int = 3
    tolerance: float = 1e-9
    candidate: CandidateConfig = field(default_factory=CandidateConfig)


@dataclass
class ScaleConfig:
    """The numbers of ratings of data=synthetic at which job=scale measures a gradient."""

    ratings: list[int] = field(default_factory=lambda: [1_000, 10_000, 100_000])


@dataclass
class DeviceConfig:
    """What job=device times on `data`: the gradient and the epochs at `ranks`; and a sweep of `lanes` lanes of rank
    `lane_rank` on the ratings of `lane_data`."""

    ranks: list[int] = field(default_factory=lambda: [64])
    lanes: int = 1000
    lane_rank: int = 16
    lane_data: DataConfig = field(default_factory=DataConfig)  # pyright: ignore[reportInvalidTypeForm]


@dataclass
class Config:
    """Every key of mfjax; conf/ groups and experiments only set them."""

    job: str = "train"
    data: DataConfig = field(default_factory=DataConfig)  # pyright: ignore[reportInvalidTypeForm]
    split: SplitConfig = field(default_factory=SplitConfig)  # pyright: ignore[reportInvalidTypeForm]
    method: str = "sgd"
    gradient: str = "tiles"
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    hparams: HparamsConfig = field(default_factory=HparamsConfig)  # pyright: ignore[reportInvalidTypeForm]
    sweep: SweepConfig = field(default_factory=SweepConfig)  # pyright: ignore[reportInvalidTypeForm]
    search: SearchConfig = field(default_factory=SearchConfig)
    init: InitConfig = field(default_factory=InitConfig)
    tiles: TilesConfig = field(default_factory=TilesConfig)
    epochs: int = 40
    batch_size: int = Spec.batch_size
    cg_steps: int = Spec.cg_steps
    eval_every: int = 1
    patience: int | None = None
    missing: str = Spec.missing
    loss_scale: str = Spec.loss_scale
    reg_by: str = Spec.reg_by
    bias: bool = Spec.bias
    clip: bool = True
    refit: bool = True
    dtype: str = Spec.dtype
    width: int = 64
    lane_batch: int | None = None
    chunk: int = 10
    devices: int | None = None
    threads: int | None = 1
    platform: str | None = None
    compilation_cache: bool = True
    matmul_precision: str = "highest"
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    resume: bool = False
    distributed: DistributedConfig = field(default_factory=DistributedConfig)
    plots: bool | None = None
    debug: bool = False
    check: CheckConfig = field(default_factory=CheckConfig)
    scale: ScaleConfig = field(default_factory=ScaleConfig)
    device: DeviceConfig = field(default_factory=DeviceConfig)
    variants: dict[str, Any] = field(default_factory=dict)
    expected: dict[str, Any] = field(default_factory=dict)


CHANGES_NO_NUMBER = ("checkpoint", "resume", "distributed", "plots", "debug", "compilation_cache")

CHOICES = {
    "missing": MISSING,
    "loss_scale": LOSS_SCALE,
    "reg_by": REG_BY,
    "dtype": ("float32", "float64"),
    "data.source": tuple(SOURCES),
    "device.lane_data.source": tuple(SOURCES),
    "split.kind": tuple(SPLITS),
    "search.kind": ("grid", "random"),
    "matmul_precision": ("default", "high", "highest"),
}

_POSITIVE = (lambda x: 0 < x < math.inf, "a positive number")
_NOT_NEGATIVE = (lambda x: 0 <= x < math.inf, "0 or a positive number")
_RANK = (lambda x: 0 <= x <= 4096, "an integer from 0 to 4096")
_SEED = (lambda x: 0 <= x < 2**31, "an integer from 0 to 2147483647")
RANGES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "learning_rate": _POSITIVE,
    "reg": _NOT_NEGATIVE,
    "reg_bias": _NOT_NEGATIVE,
    "init_scale": _NOT_NEGATIVE,
    "missing_weight": _NOT_NEGATIVE,
    "momentum": (lambda x: 0 <= x < 1, "a number from 0 up to, and not, 1"),
    "rank": _RANK,
    "fold": (lambda x: x >= -2, "a fold's number, or -2 to hold nothing out"),
    "seed": _SEED,
    "data_seed": _SEED,
    "epochs": _POSITIVE,
    "batch_size": _POSITIVE,
    "cg_steps": _POSITIVE,
    "tiles.width": (lambda x: x in WIDTHS, f"one of {', '.join(map(str, WIDTHS))}"),
    "tiles.chunk": _POSITIVE,
    "tiles.group": (lambda x: x > 0 and x % 8 == 0, "a multiple of 8"),
    "eval_every": _POSITIVE,
    "patience": _POSITIVE,
    "width": _POSITIVE,
    "lane_batch": _POSITIVE,
    "chunk": _POSITIVE,
    "devices": _POSITIVE,
    "threads": _POSITIVE,
    "check.repeats": _POSITIVE,
    "check.step": _POSITIVE,
    "check.tolerance": _POSITIVE,
    "check.small_users": _POSITIVE,
    "check.small_items": _POSITIVE,
    "check.small_rank": _POSITIVE,
    "check.shares": (lambda x: 0 < x <= 1, "a share above 0 and at most 1"),
    "check.candidate.step": _POSITIVE,
    "check.candidate.tolerance": _POSITIVE,
    "check.candidate.reg": _NOT_NEGATIVE,
    "optimizer.final": _NOT_NEGATIVE,
    "scale.ratings": _POSITIVE,
    "search.samples": _POSITIVE,
    "search.seed": _SEED,
    "search.eta": (lambda x: x >= 2, "an integer from 2 on"),
    "search.first": _POSITIVE,
    "search.brackets": _POSITIVE,
    "checkpoint.every": _NOT_NEGATIVE,
    "device.ranks": _RANK,
    "device.lanes": _POSITIVE,
    "device.lane_rank": _RANK,
}


class Experiment(NamedTuple):
    """What a training run needs: the data, the sweep over its splits, its lanes and their swept axes, and in words how.

    `idle` names the Hparams that this program does not read, each with the key that makes it so; `halving` drops settings
    on the way.
    """

    dataset: Dataset
    sweep: "Sweep"
    lanes: list[Hparams]
    axes: dict[str, list[float]]
    halving: "Halving | None"
    idle: dict[str, str]
    protocol: str
    conventions: dict[str, Any]


def register() -> None:
    """Give Hydra the schema and the resolvers `${range:n}`, `${linspace:a,b,n}` and `${logspace:a,b,n}`; idempotent."""
    ConfigStore.instance().store("mfjax_schema", Config)
    resolvers = {
        "range": lambda *bounds: list(range(*map(int, bounds))),
        "linspace": lambda low, high, n: [float(x) for x in np.linspace(low, high, int(n))],
        "logspace": lambda low, high, n: [float(f"{x:.6g}") for x in np.geomspace(low, high, int(n))],
    }
    for name, resolver in resolvers.items():
        OmegaConf.register_new_resolver(name, resolver, replace=True)


def check(cfg: DictConfig) -> None:
    """Resolve `cfg` and refuse what the schema cannot: keys added with `+`, unknown choices, values out of range.

    Raises InputError.
    """
    OmegaConf.resolve(cfg)
    _known_keys(cfg, OmegaConf.structured(Config), "")
    for key, choices in CHOICES.items():
        if (value := OmegaConf.select(cfg, key)) not in choices:
            raise InputError(f"{key}: expected one of {', '.join(choices)}, got {value!r}")
    for key, (is_right, words) in RANGES.items():
        for place in (f"hparams.{key}", f"sweep.{key}") if key in DEFAULTS._fields else (key,):
            value = OmegaConf.select(cfg, place)
            if OmegaConf.is_list(value) and not len(value):
                raise InputError(f"{place}: expected at least one value, got an empty list")
            for one in value if OmegaConf.is_list(value) else [value]:
                if one is not None and not is_right(one):
                    raise InputError(f"{place}: expected {words}, got {one}")


def shadowed(cfg: DictConfig, overrides: Sequence[str]) -> list[str]:
    """What a reader must know whose `overrides` set a hyperparameter that `sweep` sets too."""
    given = {key for key in DEFAULTS._fields for one in overrides if one.lstrip("+").startswith(f"hparams.{key}=")}
    return [
        f"hparams.{key} has no effect: sweep.{key} has its values (sweep=none turns the sweep off)"
        for key in DEFAULTS._fields
        if key in given and cfg.sweep[key] is not None
    ]


def _known_keys(cfg: Any, schema: Any, path: str) -> None:
    for key in cfg:
        if key not in schema:
            raise InputError(f"unknown key {path}{key}; {hint(f'{path}{key}')}")
        if OmegaConf.is_dict(cfg[key]) and OmegaConf.get_type(schema, key) is not dict:  # a dict takes any key
            _known_keys(cfg[key], schema[key], f"{path}{key}.")


def hint(path: str) -> str:
    """What to write instead of a key that the schema does not have."""
    *parents, key = path.split(".")
    schema = OmegaConf.select(OmegaConf.structured(Config), ".".join(parents)) if parents else OmegaConf.structured(Config)
    if OmegaConf.is_dict(schema) and OmegaConf.get_type(schema) is dict:
        return f"write +{path}=… to add to {'.'.join(parents)}"
    places = {name: ".".join([*parents, name]) for name in (schema if OmegaConf.is_dict(schema) else ())}
    nested = {} if parents else {name: f"hparams.{name}" for name in DEFAULTS._fields}
    if close := difflib.get_close_matches(key, [*places, *nested], n=1):
        return f"did you mean {(nested | places)[close[0]]}?"
    return f"the keys are {', '.join(places)}" if parents and places else "python -m mfjax.run --cfg job shows every key"


def call(table: Mapping[str, Callable], section: DictConfig, chooser: str, name: str) -> Callable:
    """The function that `section` chooses from `table`, with the keywords it sets; others than its own are refused."""
    choice = section[chooser]
    given = {str(k): v for k, v in plain(section).items() if k != chooser and v is not None}
    known = _keywords(table[choice])
    if surplus := given.keys() - known.keys():
        raise InputError(f"{name}.{min(surplus)} has no effect with {name}.{chooser}={choice}; it takes {', '.join(known)}")
    required = [p.name for p in inspect.signature(table[choice]).parameters.values() if p.default is p.empty]
    if missing := [key for key in required if key in known and key not in given]:
        raise InputError(f"{name}.{chooser}={choice} needs {name}.{missing[0]}; add {name}.{missing[0]}=…")
    return partial(table[choice], **given)


def plain(section: DictConfig) -> dict[str, Any]:
    """A section of the config as a plain, resolved dict."""
    return OmegaConf.to_container(section, resolve=True)  # pyright: ignore[reportReturnType]


def build_dataset(cfg: DictConfig) -> Dataset:
    """The ratings that `data` describes. Raises InputError for what is wrong in it, or in the file."""
    return call(SOURCES, cfg.data, "source", "data")()


def build_spec(cfg: DictConfig, num_users: int, num_items: int) -> Spec:
    """The static side of the config; `max_rank` is that of `hparams.rank`."""
    own = {f.name: cfg[f.name] for f in fields(Spec) if f.name in cfg}
    return Spec(num_users, num_items, max_rank=cfg.hparams.rank, **own)


def build_tiling(cfg: DictConfig, dataset: Dataset, spec: Spec) -> Tiling:
    """How the tile engine cuts these ratings: as the config says, else as suits them, the method and the platform."""
    import jax

    from mfjax.kernels.tiles import ALS_OVERHEAD, GRADIENT_OVERHEAD, tile_width

    platform = Tiling() if jax.default_backend() == "cpu" else Tiling(chunk=2**18, group=2**12)
    overhead = ALS_OVERHEAD if cfg.method == "als" else GRADIENT_OVERHEAD
    width = tile_width(Ratings.of(dataset.user, dataset.item, dataset.value), spec, overhead)
    given = {key: value for key, value in plain(cfg.tiles).items() if value is not None}
    return replace(platform, **({"width": width} | given))


def build_hparams(cfg: DictConfig) -> Hparams:
    """The setting from which the sweep's axes depart."""
    return Hparams(**cfg.hparams)


def build_start(cfg: DictConfig, dataset: Dataset) -> Factors | None:
    """The factors written out under `init`, or None. Raises InputError where their shapes do not fit the ratings."""
    if cfg.init.user is None and cfg.init.item is None:
        return None
    sides = []
    for side, rows in zip(Factors._fields, (dataset.num_users, dataset.num_items), strict=True):
        try:
            given = np.asarray(plain(cfg.init)[side], cfg.dtype)
        except (TypeError, ValueError):
            given = np.zeros(0)
        if given.shape != (rows, cfg.hparams.rank):
            raise InputError(f"init.{side}: expected {rows} rows of {cfg.hparams.rank} numbers, got shape {given.shape}")
        sides.append(given)
    return Factors(*sides)


def build_gradient(cfg: DictConfig) -> Callable[[Spec], Any]:
    """The chosen entry of GRADIENTS. Raises InputError with their names."""
    from mfjax.gradients import GRADIENTS

    return choose("gradient", GRADIENTS, cfg.gradient)


def choose(key: str, table: Mapping[str, Any], name: str) -> Any:
    """`table[name]`, or an InputError that lists the names."""
    if name not in table:
        raise InputError(f"{key}: expected one of {', '.join(table)}, got {name!r}")
    return table[name]


def build(cfg: DictConfig) -> Experiment:
    """The experiment that `cfg` describes: reads the data, splits it for every data_seed, expands the sweep to lanes.

    Raises InputError for a wrong key or value, with what was expected.
    """
    return build_together([cfg])[0]


def build_together(cfgs: Sequence[DictConfig], width: int | None = None, before: "Sweep | None" = None) -> list[Experiment]:
    """The experiments of configs that differ in `hparams` and `sweep` alone: they share one Sweep, of `width` lanes a program.

    Without a width the programs are no wider than the lanes need. The Sweep is `before`, with the programs that it has, where
    that is of the same config and splits. Raises InputError as `build`.
    """
    from mfjax.methods import METHODS
    from mfjax.training.epochs import Schedule
    from mfjax.training.program import Problem
    from mfjax.training.search import Halving, sample
    from mfjax.training.sweep import Sweep, grid

    for cfg in cfgs:
        check(cfg)
    cfg = cfgs[0]
    make_method, make_gradient = choose("method", METHODS, cfg.method), build_gradient(cfg)
    dataset = build_dataset(cfg)
    axes = [{k: list(v) for k, v in cfg.sweep.items() if v is not None} for cfg in cfgs]
    if cfg.search.kind == "random":
        lanes = [sample(build_hparams(c), a, cfg.search.samples, cfg.search.seed) for c, a in zip(cfgs, axes, strict=True)]
    else:
        lanes = [grid(build_hparams(c), a) for c, a in zip(cfgs, axes, strict=True)]
    seeds = sorted({lane.data_seed for of_job in lanes for lane in of_job})
    splits = {seed: call(SPLITS, cfg.split, "kind", "split")(len(dataset.value), seed) for seed in seeds}
    optimizer = _optimizer(cfg, len(dataset.value) - int(next(iter(splits.values())).test.sum()))
    spec = build_spec(cfg, dataset.num_users, dataset.num_items)
    spec = replace(spec, tiling=build_tiling(cfg, dataset, spec))
    method = lambda spec: make_method(spec, make_gradient(spec), optimizer)  # noqa: E731
    idle = idle_hparams(cfg, optimizer, method(spec))
    starts = [build_start(c, dataset) for c in cfgs]  # the same, or one does not fit
    for c, of_job in zip(cfgs, axes, strict=True):
        _sweepable(c, of_job, idle, next(iter(splits.values())).num_folds)
    sweep = (
        before
        if before and list(before.problems) == seeds
        else Sweep(
            spec=spec,
            method=method,
            problems={k: Problem.of(dataset, split, clip=cfg.clip, dtype=cfg.dtype) for k, split in splits.items()},
            schedule=Schedule(cfg.epochs, cfg.eval_every, cfg.patience, min(cfg.chunk, cfg.epochs)),
            width=width or min(cfg.width, max(map(len, lanes))),
            lane_batch=cfg.lane_batch,
            warm=starts[0],
        )
    )
    halving = Halving(cfg.search.eta, cfg.search.first, cfg.search.brackets) if cfg.search.eta else None
    conventions = {key: cfg[key] for key in ("missing", "loss_scale", "reg_by", "bias", "clip", "dtype", "matmul_precision")}
    protocol = splits[seeds[0]].protocol
    return [
        Experiment(dataset, sweep, mine, mine_axes, halving, idle, _in_words(protocol, seeds[0], mine), conventions)
        for mine, mine_axes in zip(lanes, axes, strict=True)
    ]


def _in_words(protocol: str, seed: int, lanes: Sequence[Hparams]) -> str:
    """The protocol of a split, with the data_seeds of all the lanes in place of its own."""
    seeds = dict.fromkeys(lane.data_seed for lane in lanes)
    return protocol.replace(f"data_seed {seed}", f"data_seed {', '.join(map(str, seeds))}")


def static(cfg: DictConfig) -> dict[str, Any]:
    """All of a config that shapes its program or its results, flat, without what a lane may vary (`hparams` and `sweep`)."""
    return {k: v for k, v in flat(cfg).items() if not k.startswith(("hparams.", "sweep."))}


def flat(cfg: DictConfig) -> dict[str, Any]:
    """The config's values by their dotted keys, but for those that change no number."""
    return dict(sorted(_leaves({k: v for k, v in plain(cfg).items() if k not in CHANGES_NO_NUMBER}, "")))


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, dict) or not value:
        yield path, value
        return
    for key, inner in value.items():
        yield from _leaves(inner, f"{path}.{key}" if path else str(key))


def _optimizer(cfg: DictConfig, num_ratings: int) -> "Optimizer":
    from mfjax.methods.optimizers import optimizer

    an_epoch = -(-num_ratings // cfg.batch_size) if cfg.method == "sgd" else 1
    return optimizer(**plain(cfg.optimizer), updates=cfg.epochs * an_epoch)


def idle_hparams(cfg: DictConfig, optimizer: "Optimizer", method: "Method") -> dict[str, str]:
    """The Hparams that the program of `cfg` does not read, each with the key that makes it so."""
    idle = {
        key: f"method={cfg.method}" if key in optimizer.takes else f"optimizer={cfg.optimizer.name}"
        for key in ("learning_rate", "momentum")
        if key not in method.takes
    }
    if cfg.missing != "zero":
        idle["missing_weight"] = f"missing={cfg.missing}"
    if not cfg.bias:
        idle["reg_bias"] = "bias=false"
    return idle


def _sweepable(cfg: DictConfig, axes: dict[str, list], idle: dict[str, str], num_folds: int) -> None:
    """Refuse to sweep what the program would not read, and folds that the split does not have."""
    if no_effect := idle.keys() & axes.keys():
        key = min(no_effect)
        raise InputError(f"sweep.{key} has no effect with {idle[key]}: all its lanes would be the same; leave it out")
    for fold in axes.get("fold", [cfg.hparams.fold]):
        if fold >= max(num_folds, 1):
            raise InputError(
                f"fold {fold}: split.kind={cfg.split.kind} has {num_folds} fold(s), counted from 0\n"
                "take a lower fold, or split=kfold with more split.folds"
            )
