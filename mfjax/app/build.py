"""From a config to what a sweep takes."""

import inspect
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields, replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from omegaconf import DictConfig, OmegaConf

from mfjax.app.adopted import OPTIMIZERS
from mfjax.app.bags import bags_of, build_bags
from mfjax.app.check import check
from mfjax.app.lanes import Axes, Job, job_of, refuse_copies
from mfjax.app.schema import TrainJob, keywords
from mfjax.app.start import model_to_start, refuse_seen, start_in_words
from mfjax.data import SOURCES, SPLITS
from mfjax.data.dataset import Dataset
from mfjax.data.problem import Problem
from mfjax.data.splits import Split
from mfjax.errors import InputError
from mfjax.gradients import GRADIENTS
from mfjax.kernels import KERNELS
from mfjax.kernels.choice import Choice, choice
from mfjax.memory import refuse_beyond_memory
from mfjax.methods import METHODS
from mfjax.methods.optimizers import optimizer
from mfjax.metrics.lists import ListRule
from mfjax.shortcuts import OF_KERNEL, suited_tiling
from mfjax.training.epochs import Schedule
from mfjax.training.lanes import Plan, refuse_unsampled
from mfjax.training.search import Halving
from mfjax.training.sweep import Sweep
from mfjax.types import Cut, Factors, Hparams, Method, Optimizer, Spec, Tiling

SPLIT_BYTES = 40  # of a rating: its columns, its fold and its place in the shuffle
CONVENTIONS = (
    *("missing", "loss", "loss_scale", "reg_by"),
    *("bias", "clip", "dtype", "matmul_precision"),
)


class Experiment(NamedTuple):
    """What a training run needs.

    Args:
      splits: of `dataset`, by split_seed.
      sweep: over them.
      lanes, axes: the lanes to train, and the values of what is swept.
      halving: drops settings on the way.
      protocol, conventions, method: in words and values, how.
      start: in words, where the factors start that are a model's; empty where none are.
    """

    dataset: Dataset
    splits: Mapping[int, Split]
    sweep: Sweep
    lanes: list[Hparams]
    axes: Axes
    halving: Halving | None
    protocol: str
    conventions: dict[str, Any]
    method: dict[str, Any]
    start: str


class _Chosen(NamedTuple):
    """The method of a config.

    Args:
      method: makes it of a Spec.
      spec: of all programs.
      orders: whether split_seed draws the order in which it takes the ratings, too.
    """

    method: Callable[[Spec], Method]
    spec: Spec
    orders: bool


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
        check_before_data(cfg)
    cfg = cfgs[0]
    dataset = build_dataset(cfg)
    cut = _cut(cfg, dataset)
    jobs = [job_of(cfg, cut(cfg.hparams.split_seed)) for cfg in cfgs]
    cuts = sorted({lane.cut for job in jobs for lane in job.lanes})
    _refuse_many_splits(cuts, dataset)
    splits = {seed: cut(seed) for seed, _ in cuts}
    chosen = _chosen(cfg, dataset)
    starts = [build_start(cfg, dataset) for cfg in cfgs]  # the same, or one does not fit
    for job in jobs:
        refuse_copies(job, splits, starts=bool(starts[0]), orders=chosen.orders)
    if before and list(before.plan.problems) == cuts:
        sweep = before
    else:
        plan = _plan(cfg, dataset, splits, cuts, chosen, starts[0])
        sweep = Sweep(plan, lanes_per_program or _lanes_needed(jobs))
    lanes = [lane for job in jobs for lane in job.lanes]
    refuse_seen(cfg, dataset, sweep.plan, lanes)
    return [_experiment(job, dataset, splits, sweep) for job in jobs]


def check_before_data(cfg: DictConfig) -> None:
    """Refuse what is wrong in a config whatever its data. Raises InputError."""
    check(cfg)
    call(SOURCES, cfg.data, "data")
    build_clip(cfg)
    build_lists(cfg)
    build_split(cfg)
    method = build_method(cfg, build_optimizer(cfg))(build_spec(cfg, 1, 1))
    refuse_unsampled(method, cfg.epochs)


# the steps of `build_jobs`


def _cut(cfg: DictConfig, dataset: Dataset) -> Callable[[int], Split]:
    """The split of the ratings for a split_seed: one for all where nothing is drawn from it."""
    split = build_split(cfg)

    @cache
    def of_seed(seed: int) -> Split:
        return split(dataset, seed)

    def cut(seed: int) -> Split:
        fixed = of_seed(cfg.hparams.split_seed)
        return of_seed(seed) if fixed.drawn else fixed

    return cut


def _refuse_many_splits(cuts: Sequence[Cut], dataset: Dataset) -> None:
    """Raises OutOfMemory where a copy of the ratings a split does not fit."""
    count = len(dataset.value)
    what = f"{len(cuts):,} splits of {count:,} ratings"
    needed = SPLIT_BYTES * len(cuts) * count
    refuse_beyond_memory(needed, what, "fewer split_seeds", on_host=True)


def _chosen(cfg: DictConfig, dataset: Dataset) -> _Chosen:
    """The method of a config, on tiles as suit it."""
    make = build_method(cfg, build_optimizer(cfg), dataset)
    spec = build_spec(cfg, dataset.num_users, dataset.num_items)
    method = make(spec)
    tiling = build_tiling(cfg, dataset, spec, method.solves_rows)
    return _Chosen(
        method=make,
        spec=replace(spec, tiling=tiling),
        orders="split_seed" in method.reads,
    )


def _plan(
    cfg: DictConfig,
    dataset: Dataset,
    splits: Mapping[int, Split],
    cuts: Sequence[Cut],
    chosen: _Chosen,
    warm: Factors | None,
) -> Plan:
    made: dict[Cut, Problem] = {}  # one for all seeds where nothing is drawn

    def problem_of(seed: int, test_fold: int) -> Problem:
        split = splits[seed]
        key = id(split), test_fold
        if key not in made:
            clip = build_clip(cfg)
            made[key] = Problem.of(dataset, split, test_fold, clip=clip, dtype=cfg.dtype)
        return made[key]

    problems = {cut: problem_of(*cut) for cut in cuts}
    schedule = Schedule(
        epochs=cfg.epochs,
        eval_every=cfg.eval_every,
        patience=cfg.patience,
        epochs_per_call=min(cfg.epochs_per_call, cfg.epochs),
        choose_by=cfg.choose_by,
        choose=cfg.choose,
        lists=build_lists(cfg),
    )
    return Plan(
        spec=chosen.spec,
        method=chosen.method,
        problems=problems,
        schedule=schedule,
        lane_batch=cfg.lane_batch,
        warm=warm,
    )


def _lanes_needed(jobs: Sequence[Job]) -> int:
    most = max(len(job.lanes) for job in jobs)
    return min(jobs[0].cfg.lanes_per_program, most)


def _experiment(
    job: Job,
    dataset: Dataset,
    splits: Mapping[int, Split],
    sweep: Sweep,
) -> Experiment:
    search = job.cfg.search
    plain = plain_section(job.cfg)
    return Experiment(
        dataset=dataset,
        splits=splits,
        sweep=sweep,
        lanes=job.lanes,
        axes=job.axes,
        halving=Halving(search.eta, search.first, search.brackets) if search.eta else None,
        protocol=_in_words(splits, job.lanes),
        conventions={key: plain[key] for key in CONVENTIONS},
        method=method_in_values(job.cfg),
        start=start_in_words(job.cfg, dataset),
    )


def _in_words(splits: Mapping[int, Split], lanes: Sequence[Hparams]) -> str:
    """The protocol of the splits, with the split_seeds of all the lanes in place of its own."""
    own, split = next(iter(splits.items()))
    seeds = dict.fromkeys(lane.split_seed for lane in lanes)
    of_all = ", ".join(map(str, seeds))
    return split.protocol.replace(f"split_seed {own}", f"split_seed {of_all}")


# the parts of an experiment


def build_dataset(cfg: DictConfig) -> Dataset:
    """The ratings that `data` describes, or the interactions that `implicit` makes of them.

    Raises InputError for what is wrong in it, or in them.
    """
    dataset = call(SOURCES, cfg.data, "data")()
    return dataset if cfg.implicit is None else dataset.interactions(cfg.implicit)


def build_split(cfg: DictConfig) -> Callable[[Dataset, int], Split]:
    """What cuts the ratings for a split_seed, as `split` says. Raises InputError."""
    return call(SPLITS, cfg.split, "split")


def build_lists(cfg: DictConfig) -> ListRule | None:
    """Which lists are measured; None where nothing is said to be relevant.

    Raises InputError where no interaction would be.
    """
    least = cfg.lists.relevant
    if cfg.implicit is not None and least is not None and not 0 < least <= 1:
        raise InputError(
            f"lists.relevant: with implicit every interaction is 1, got {least:g}; "
            "say lists.relevant=1"
        )
    return None if least is None else ListRule(**cfg.lists)


def build_clip(cfg: DictConfig) -> bool | tuple[float, float]:
    """Whether predictions are clipped, or to what.

    Raises:
      InputError: `clip` is neither true nor false nor two numbers, the lower first; or the range
        of the ratings is one number.
    """
    clip = cfg.clip
    if cfg.implicit is not None and clip is True:
        raise InputError(
            "clip: with implicit every interaction is 1, to which all would be clipped; "
            "say clip=false or clip=[0,1]"
        )
    if isinstance(clip, bool):
        return clip
    try:
        low, high = map(float, clip)
    except (TypeError, ValueError):
        low = high = 0.0
    if not low < high:
        raise InputError(f"clip: expected true, false or [lowest,highest], got {clip}")
    return low, high


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
    given = {key: value for key, value in plain_section(cfg.tiles).items() if value is not None}
    suited = suited_tiling(dataset.ratings(dtype=spec.dtype), spec, solves_rows)
    return replace(suited, **given)


def build_start(cfg: DictConfig, dataset: Dataset) -> Factors | None:
    """The factors that `init` says: those of a model, those written out, or None.

    Raises InputError where they do not fit the ratings or the rank.
    """
    if cfg.init.path is not None:
        return model_to_start(cfg).start(dataset)
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


def build_optimizer(cfg: DictConfig) -> Optimizer:
    """The optimiser that `optimizer` describes. Raises InputError for what is wrong in it."""
    given = plain_section(cfg.optimizer)
    name = given.pop("name")
    return optimizer(OPTIMIZERS.get(name, name), **given, epochs=cfg.epochs)


def build_method(
    cfg: DictConfig, opt: Optimizer, dataset: Dataset | None = None
) -> Callable[[Spec], Method]:
    """What makes the Method of a Spec: the chosen row of METHODS, with what it wants by keyword.

    Without a `dataset` there are no features of what it says of users and items.
    """
    make = call(METHODS, cfg.method, "method", chooser="method")
    asked = wanted(cfg.method.name)
    bags = build_bags(cfg, dataset)
    parts = {
        "gradient": build_gradient(cfg),
        "kernel": KERNELS[kernel_of(cfg).name],
        "optimizer": lambda spec: opt,
        "bags": lambda spec: bags,
    }

    def method(spec: Spec) -> Method:
        return make(spec, **{part: parts[part](spec) for part in parts if part in asked})

    return method


def build_gradient(cfg: DictConfig) -> Callable[[Spec], Any]:
    """The chosen entry of GRADIENTS, or the default. Raises InputError with their names."""
    return choose("gradient", GRADIENTS, gradient_of(cfg))


def gradient_of(cfg: DictConfig) -> str:
    """The name of the gradient: as asked, else the kernel's."""
    return cfg.gradient or OF_KERNEL[kernel_of(cfg).name]


def kernel_of(cfg: DictConfig) -> Choice:
    """The kernel that sums, and why."""
    asked = wanted(cfg.method.name)
    batches = "kernel" in asked and "optimizer" in asked
    opt = build_optimizer(cfg) if batches else None
    return choice(cfg.kernel, opt, cfg.loss, has_bags=bool(bags_of(cfg)))


def method_in_values(cfg: DictConfig) -> dict[str, Any]:
    """What results say of the method: its name, its own keys, and the parts that it wants."""
    name = cfg.method.name
    asked = wanted(name)
    defaults = inspect.signature(METHODS[name]).parameters
    given = plain_section(cfg.method)
    said = {"name": name}
    for key in keywords(METHODS[name]):
        said[key] = defaults[key].default if given.get(key) is None else given[key]
    if "gradient" in asked:
        said["gradient"] = gradient_of(cfg)
    if "kernel" in asked:
        chosen = kernel_of(cfg)
        said["kernel"] = chosen._asdict()
        if said.get("batch_size", 0) is None:
            kernel = KERNELS[chosen.name](build_spec(cfg, 1, 1))
            said["batch_size"] = kernel.usual_batch_size(build_optimizer(cfg))
    if "optimizer" in asked:
        said["optimizer"] = plain_section(cfg.optimizer)
    if "bags" in asked and (bags := bags_of(cfg)):
        said["bags"] = bags
    return said


def wanted(method: str) -> Mapping[str, Any]:
    """The parameters of a method: a part that is one of them is made for it."""
    return inspect.signature(METHODS[method]).parameters


def variant_of(cfg: DictConfig, overrides: DictConfig) -> DictConfig:
    """The config of one variant of `job=compare`, as if it were trained alone."""
    base = cfg.copy()
    for section in (base, *filter(OmegaConf.is_dict, base.values())):
        OmegaConf.set_struct(section, False)  # `check` has more to say of a wrong key
    variant = OmegaConf.merge(base, overrides)
    assert isinstance(variant, DictConfig)  # as both it is made of are
    variant.job = OmegaConf.structured(TrainJob)
    variant.expected = {}
    check(variant)
    return variant


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

    def called(*args: Any, **more: Any) -> Any:
        try:
            return function(*args, **given, **more)
        except InputError as error:
            raise type(error)(_with_place(str(error), place, own)) from error

    return called


def _with_place(message: str, place: str, keys: Collection[str]) -> str:
    """A message in which the keywords of a function have the names of the keys that set them."""
    if not keys:
        return message
    bare = rf"(?<![\w.])({'|'.join(keys)})(?=[:=\[])"
    return re.sub(bare, rf"{place}.\1", message)


def choose(key: str, table: Mapping[str, Any], name: str) -> Any:
    """`table[name]`, or an InputError that lists the names."""
    if name not in table:
        raise InputError(f"{key}: expected one of {', '.join(table)}, got {name!r}")
    return table[name]


def plain_section(section: DictConfig) -> dict[str, Any]:
    """A section of the config as a plain, resolved dict."""
    return OmegaConf.to_container(section, resolve=True)  # pyright: ignore[reportReturnType]
