"""From a config to what a sweep takes."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from omegaconf import DictConfig, OmegaConf

from mfjax.app.check import check
from mfjax.app.schema import CHANGES_NO_NUMBER, keywords
from mfjax.data import SOURCES, SPLITS
from mfjax.data.dataset import Dataset
from mfjax.data.problem import Problem
from mfjax.data.splits import Split
from mfjax.errors import InputError
from mfjax.gradients import GRADIENTS
from mfjax.kernels import KERNELS
from mfjax.kernels.layout import ALS_OVERHEAD, GRADIENT_OVERHEAD, tile_width
from mfjax.methods import METHODS
from mfjax.methods.optimizers import optimizer
from mfjax.training.epochs import Schedule
from mfjax.training.lanes import Plan, grid
from mfjax.training.search import Halving, sample
from mfjax.training.sweep import Sweep
from mfjax.types import Factors, Hparams, Method, Optimizer, Spec, Tiling

DEFAULT = "tiles"  # the gradient and the kernel of a method that wants one
CONVENTIONS = ("missing", "loss_scale", "reg_by", "bias", "clip", "dtype", "matmul_precision")
Axes = dict[str, list[float]]


class Experiment(NamedTuple):
    """What a training run needs.

    Args:
      sweep: over the splits of `dataset`.
      lanes, axes: the lanes to train, and the values of what is swept.
      halving: drops settings on the way.
      idle: the Hparams that the program does not read, each with the key that makes it so.
      protocol, conventions, method: in words and values, how.
    """

    dataset: Dataset
    sweep: Sweep
    lanes: list[Hparams]
    axes: Axes
    halving: Halving | None
    idle: dict[str, str]
    protocol: str
    conventions: dict[str, Any]
    method: dict[str, Any]


class _Job(NamedTuple):
    """A config, the axes of its sweep, and the lanes that they stand for."""

    cfg: DictConfig
    axes: Axes
    lanes: list[Hparams]


class _Chosen(NamedTuple):
    """The method of a config: what makes it of a Spec, the Spec, and the Hparams that are idle."""

    method: Callable[[Spec], Method]
    spec: Spec
    idle: dict[str, str]


def build(cfg: DictConfig) -> Experiment:
    """The experiment that `cfg` describes.

    It reads the data, splits it for every split_seed, and expands the sweep to lanes. Raises
    InputError for a wrong key or value, with what was expected.
    """
    (experiment,) = build_jobs([cfg])
    return experiment


def build_jobs(
    cfgs: Sequence[DictConfig],
    lanes_per_program: int | None = None,
    before: Sweep | None = None,
) -> list[Experiment]:
    """The experiments of configs that differ in `hparams` and `sweep` alone: they share one Sweep.

    Args:
      lanes_per_program: where it is not given, no more than the lanes need.
      before: a Sweep of the same config; it is taken, with the programs that it has, where it is of
        the same splits.

    Raises InputError as `build`.
    """
    for cfg in cfgs:
        check(cfg)
    cfg = cfgs[0]
    dataset = build_dataset(cfg)
    jobs = [_job(cfg) for cfg in cfgs]
    splits = _splits(cfg, dataset, jobs)
    chosen = _chosen(cfg, dataset)
    starts = [build_start(cfg, dataset) for cfg in cfgs]  # the same, or one does not fit
    for job in jobs:
        _refuse_idle(job, chosen.idle)
        _refuse_folds(job, next(iter(splits.values())).num_folds)
    if before and list(before.plan.problems) == list(splits):
        sweep = before
    else:
        plan = _plan(cfg, dataset, splits, chosen, starts[0])
        sweep = Sweep(plan, lanes_per_program or _lanes_needed(jobs))
    return [_experiment(job, dataset, splits, chosen.idle, sweep) for job in jobs]


# the steps of `build_jobs`


def _job(cfg: DictConfig) -> _Job:
    axes = {str(key): list(values) for key, values in cfg.sweep.items() if values is not None}
    expand = choose("search.name", SEARCHES, cfg.search.name)
    return _Job(cfg, axes, expand(build_hparams(cfg), axes, cfg.search))


def _grid(base: Hparams, axes: Axes, search: DictConfig) -> list[Hparams]:
    return grid(base, axes)


def _random(base: Hparams, axes: Axes, search: DictConfig) -> list[Hparams]:
    return sample(base, axes, search.samples, search.seed)


SEARCHES = {"grid": _grid, "random": _random}


def _splits(cfg: DictConfig, dataset: Dataset, jobs: Sequence[_Job]) -> dict[int, Split]:
    """A split of the ratings for every split_seed of the jobs."""
    split = call(SPLITS, cfg.split, "split")
    seeds = sorted({lane.split_seed for job in jobs for lane in job.lanes})
    return {seed: split(len(dataset.value), seed) for seed in seeds}


def _chosen(cfg: DictConfig, dataset: Dataset) -> _Chosen:
    """The method of a config, on tiles as suit it."""
    opt = optimizer(**plain_section(cfg.optimizer), epochs=cfg.epochs)
    make = build_method(cfg, opt)
    spec = build_spec(cfg, dataset.num_users, dataset.num_items)
    method = make(spec)
    tiling = build_tiling(cfg, dataset, spec, method.solves_rows)
    return _Chosen(make, replace(spec, tiling=tiling), _idle(cfg, opt, method))


def _idle(cfg: DictConfig, opt: Optimizer, method: Method) -> dict[str, str]:
    """The Hparams that the program of `cfg` does not read, each with the key that makes it so."""
    idle = {
        key: f"method={cfg.method.name}" if key in opt.reads else f"optimizer={cfg.optimizer.name}"
        for key in ("learning_rate", "momentum")
        if key not in method.reads
    }
    if cfg.missing != "zero":
        idle["missing_weight"] = f"missing={cfg.missing}"
    if not cfg.bias:
        idle["reg_bias"] = "bias=false"
    return idle


def _refuse_idle(job: _Job, idle: Mapping[str, str]) -> None:
    """Refuse to sweep what the program would not read."""
    for key in sorted(idle.keys() & job.axes.keys()):
        raise InputError(
            f"sweep.{key} has no effect with {idle[key]}: all its lanes would be the same; "
            "leave it out"
        )


def _refuse_folds(job: _Job, num_folds: int) -> None:
    """Refuse folds that the split does not have."""
    for fold in job.axes.get("fold", [job.cfg.hparams.fold]):
        if fold >= max(num_folds, 1):
            raise InputError(
                f"fold {fold}: split.name={job.cfg.split.name} has {num_folds} fold(s), "
                "counted from 0\ntake a lower fold, or split=kfold with more split.folds"
            )


def _plan(
    cfg: DictConfig,
    dataset: Dataset,
    splits: Mapping[int, Split],
    chosen: _Chosen,
    warm: Factors | None,
) -> Plan:
    problems = {
        seed: Problem.of(dataset, split, clip=cfg.clip, dtype=cfg.dtype)
        for seed, split in splits.items()
    }
    schedule = Schedule(
        epochs=cfg.epochs,
        eval_every=cfg.eval_every,
        patience=cfg.patience,
        epochs_per_call=min(cfg.epochs_per_call, cfg.epochs),
        choose_by=cfg.choose_by,
    )
    return Plan(
        spec=chosen.spec,
        method=chosen.method,
        problems=problems,
        schedule=schedule,
        lane_batch=cfg.lane_batch,
        warm=warm,
    )


def _lanes_needed(jobs: Sequence[_Job]) -> int:
    most = max(len(job.lanes) for job in jobs)
    return min(jobs[0].cfg.lanes_per_program, most)


def _experiment(
    job: _Job,
    dataset: Dataset,
    splits: Mapping[int, Split],
    idle: dict[str, str],
    sweep: Sweep,
) -> Experiment:
    search = job.cfg.search
    return Experiment(
        dataset=dataset,
        sweep=sweep,
        lanes=job.lanes,
        axes=job.axes,
        halving=Halving(search.eta, search.first, search.brackets) if search.eta else None,
        idle=idle,
        protocol=_in_words(splits, job.lanes),
        conventions={key: job.cfg[key] for key in CONVENTIONS},
        method=method_in_values(job.cfg),
    )


def _in_words(splits: Mapping[int, Split], lanes: Sequence[Hparams]) -> str:
    """The protocol of the splits, with the split_seeds of all the lanes in place of its own."""
    own, split = next(iter(splits.items()))
    seeds = dict.fromkeys(lane.split_seed for lane in lanes)
    of_all = ", ".join(map(str, seeds))
    return split.protocol.replace(f"split_seed {own}", f"split_seed {of_all}")


# the parts of an experiment


def build_dataset(cfg: DictConfig) -> Dataset:
    """The ratings that `data` describes. Raises InputError for what is wrong in it, or in them."""
    return call(SOURCES, cfg.data, "data")()


def build_spec(cfg: DictConfig, num_users: int, num_items: int) -> Spec:
    """The static side of the config; `max_rank` is that of `hparams.rank`."""
    own = {one.name: cfg[one.name] for one in fields(Spec) if one.name in cfg}
    return Spec(num_users, num_items, max_rank=cfg.hparams.rank, **own)


def build_hparams(cfg: DictConfig) -> Hparams:
    """The setting from which the sweep's axes depart."""
    return Hparams(**cfg.hparams)


def build_tiling(
    cfg: DictConfig, dataset: Dataset, spec: Spec, solves_rows: bool = False
) -> Tiling:
    """How the ratings are cut: as the config says, else as suits them and the platform.

    Wider where the method `solves_rows`.
    """
    on_cpu = jax.default_backend() == "cpu"
    of_platform = Tiling() if on_cpu else Tiling(chunk=2**18, group=2**12)
    overhead = ALS_OVERHEAD if solves_rows else GRADIENT_OVERHEAD
    width = tile_width(dataset.ratings(), spec, overhead)
    given = {key: value for key, value in plain_section(cfg.tiles).items() if value is not None}
    return replace(of_platform, **({"width": width} | given))


def build_start(cfg: DictConfig, dataset: Dataset) -> Factors | None:
    """The factors written out under `init`, or None.

    Raises InputError where their shapes do not fit the ratings.
    """
    if cfg.init.user is None and cfg.init.item is None:
        return None
    rows = Factors(dataset.num_users, dataset.num_items)
    sides = zip(Factors._fields, rows, strict=True)
    return Factors(*(_start(cfg, side, num_rows) for side, num_rows in sides))


def _start(cfg: DictConfig, side: str, num_rows: int) -> np.ndarray:
    try:
        given = np.asarray(plain_section(cfg.init)[side], cfg.dtype)
    except (TypeError, ValueError):
        given = np.zeros(0)
    if given.shape != (num_rows, cfg.hparams.rank):
        raise InputError(
            f"init.{side}: expected {num_rows} rows of {cfg.hparams.rank} numbers, "
            f"got shape {given.shape}"
        )
    return given


def build_method(cfg: DictConfig, opt: Optimizer) -> Callable[[Spec], Method]:
    """What makes the Method of a Spec: the chosen row of METHODS, with what it wants by keyword.

    Raises InputError for a `gradient` beside a method that takes none.
    """
    name = cfg.method.name
    make = call(METHODS, cfg.method, "method", chooser="method")
    wanted = _wanted(name)
    if cfg.gradient is not None and "gradient" not in wanted:
        raise InputError(f"gradient={cfg.gradient} has no effect with method={name}; leave it out")
    parts = {
        "gradient": build_gradient(cfg),
        "kernel": KERNELS[DEFAULT],
        "optimizer": lambda spec: opt,
    }

    def method(spec: Spec) -> Method:
        return make(spec, **{part: parts[part](spec) for part in parts if part in wanted})

    return method


def build_gradient(cfg: DictConfig) -> Callable[[Spec], Any]:
    """The chosen entry of GRADIENTS, or the default. Raises InputError with their names."""
    return choose("gradient", GRADIENTS, cfg.gradient or DEFAULT)


def method_in_values(cfg: DictConfig) -> dict[str, Any]:
    """What results say of the method: its name, its own keys, and the parts that it wants."""
    name = cfg.method.name
    wanted = _wanted(name)
    defaults = inspect.signature(METHODS[name]).parameters
    given = plain_section(cfg.method)
    said = {"name": name}
    for key in keywords(METHODS[name]):
        said[key] = defaults[key].default if given[key] is None else given[key]
    if "gradient" in wanted:
        said["gradient"] = cfg.gradient or DEFAULT
    if "optimizer" in wanted:
        said["optimizer"] = plain_section(cfg.optimizer)
    return said


def _wanted(method: str) -> Mapping[str, Any]:
    """The parameters of a method: a part that is one of them is made for it."""
    return inspect.signature(METHODS[method]).parameters


# tables and sections


def call(
    table: Mapping[str, Callable], section: DictConfig, place: str, chooser: str | None = None
) -> Callable:
    """The function that `section` chooses from `table`, with the keywords that it sets.

    Args:
      place: where the section stands, such as `data`.
      chooser: what a reader writes to choose, if not `place.name`.

    Raises InputError for a keyword that the function does not take, and for one that it needs.
    """
    function = choose(f"{place}.name", table, section.name)
    chosen = f"{chooser or f'{place}.name'}={section.name}"
    given = {str(key): value for key, value in plain_section(section).items() if value is not None}
    del given["name"]
    own = keywords(function)
    if surplus := given.keys() - own.keys():
        takes = ", ".join(own) or "no keys of its own"
        raise InputError(f"{place}.{min(surplus)} has no effect with {chosen}; it takes {takes}")
    parameters = inspect.signature(function).parameters
    for key in own:
        if parameters[key].default is inspect.Parameter.empty and key not in given:
            raise InputError(f"{chosen} needs {place}.{key}; add {place}.{key}=…")
    return partial(function, **given)


def choose(key: str, table: Mapping[str, Any], name: str) -> Any:
    """`table[name]`, or an InputError that lists the names."""
    if name not in table:
        raise InputError(f"{key}: expected one of {', '.join(table)}, got {name!r}")
    return table[name]


def plain_section(section: DictConfig) -> dict[str, Any]:
    """A section of the config as a plain, resolved dict."""
    return OmegaConf.to_container(section, resolve=True)  # pyright: ignore[reportReturnType]


def static(cfg: DictConfig) -> dict[str, Any]:
    """All of a config that shapes its program or its results, flat, but for what a lane may vary.

    That is `hparams` and `sweep`.
    """
    return {k: v for k, v in flat(cfg).items() if not k.startswith(("hparams.", "sweep."))}


def flat(cfg: DictConfig) -> dict[str, Any]:
    """The config's values by their dotted keys, but for those that change no number."""
    whole = plain_section(cfg)
    counting = {key: value for key, value in whole.items() if key not in CHANGES_NO_NUMBER}
    return dict(sorted(_leaves(counting, "")))


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, dict) or not value:
        yield path, value
        return
    for key, inner in value.items():
        yield from _leaves(inner, f"{path}.{key}" if path else str(key))
