"""Which keys of a config have no effect, and why.

What reads a key says so itself: a job in its `reads`, a method, a search and a schedule in their
keywords, a Method and an Optimizer in their `reads`. Here it is only asked.
"""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any, NamedTuple

import jax
from omegaconf import DictConfig

from mfjax.app.bags import KEYS, SIDES, can_be_transductive, in_words, keys_of_bags
from mfjax.app.build import (
    build_method,
    build_optimizer,
    build_spec,
    build_split,
    gradient_of,
    kernel_of,
    plain_section,
    variant_of,
    wanted,
)
from mfjax.app.lanes import SEARCHES, keys_of
from mfjax.app.own import is_own
from mfjax.app.schema import (
    DEFAULTS,
    JOBS,
    CandidateConfig,
    CompareJob,
    GradientsJob,
    TrainJob,
    defaults,
)
from mfjax.app.session import is_multirun
from mfjax.data.contracts import any_ratings
from mfjax.errors import InputError
from mfjax.losses import HPARAMS as OF_LOSSES
from mfjax.losses import loss_of
from mfjax.methods.optimizers import SCHEDULES
from mfjax.testing import small_ratings, small_spec
from mfjax.types import NO_FOLD, REPLICATES, Hparams, Method, Optimizer, Tiling

RATINGS = 10_000  # of which a split shows whether it draws, and holds any out


class Reason(NamedTuple):
    """Why a key is idle: what makes it so, and what a message says of that.

    `key` is the key, or the section; none where it is how the command runs.
    """

    key: str
    said: str


Idle = dict[str, Reason]  # by key, or by section


def idle(cfg: DictConfig, *, launched: bool = False) -> Idle:
    """The keys and sections of `cfg` that have no effect, each with the reason.

    Of `job=compare`, those that have none in any variant.
    """
    job = JOBS[cfg.job.name]
    of_job = _of_job(cfg) | _of_switches(cfg) | _of_platform()
    if job is CompareJob:
        each = [of_training(variant_of(cfg, own)) for own in variants(cfg).values()]
        return _in_all(each) | of_job
    if job is TrainJob:
        return of_training(cfg) | _of_launch(launched) | of_job
    of_method = _of_method(cfg) if "method" in job.reads else {}
    return _of_conventions(cfg) | _of_tiles(cfg) | of_method | of_job


def reason_of(key: str, found: Mapping[str, Reason]) -> Reason | None:
    """The reason of a key, or of a section that it stands in; None where it acts."""
    return next((found[place] for place in places(key) if place in found), None)


def places(key: str) -> Iterator[str]:
    """A key, and the sections that it stands in."""
    while key:
        yield key
        key = key.rpartition(".")[0]


# of a job


def _of_job(cfg: DictConfig) -> Idle:
    """What the job does not read, and what keys of its own stand in place of."""
    job = JOBS[cfg.job.name]
    reads, reason = job.reads, Reason("job", f"with job={job.name}")
    found = {
        key: Reason("job", f"with {own}, which takes its place")
        for key, own in job.replaces.items()
    }
    if job is GradientsJob:
        candidate = cfg.job.candidate
        if cfg.job.gradients == []:
            reads, reason = CandidateConfig.reads, Reason("job.gradients", "with job.gradients=[]")
            if candidate.reg is not None:
                found["hparams.reg"] = Reason("job.candidate.reg", "with job.candidate.reg")
        if candidate.gradient is None:
            found["job.candidate"] = Reason(
                "job.candidate.gradient", "without job.candidate.gradient"
            )
    unread = (key for key in defaults(job.name) if not set(places(key)) & set(reads))
    return dict.fromkeys(unread, reason) | found


def _of_switches(cfg: DictConfig) -> Idle:
    """What belongs to something that is off."""
    found: Idle = {}
    if cfg.plots.draw is False:
        reason = Reason("plots.draw", "with plots.draw=false")
        found |= dict.fromkeys(("plots.title", "plots.format", "plots.size"), reason)
    if cfg.lists.relevant is None:
        reason = Reason("lists.relevant", "without lists.relevant")
        found |= dict.fromkeys(("lists.k", "lists.graded"), reason)
    elif cfg.implicit is not None:
        found["lists.graded"] = Reason("implicit", "with implicit, whose gains are all 1")
    if not cfg.distributed.enabled:
        reason = Reason("distributed.enabled", "without distributed.enabled=true")
        others = ("coordinator", "processes", "process")
        found |= {f"distributed.{key}": reason for key in others}
    return found


def _of_platform() -> Idle:
    """What another kind of device reads alone."""
    platform = jax.default_backend()
    unread = ("matmul_precision",) if platform == "cpu" else ("devices", "threads")
    return dict.fromkeys(unread, Reason("", f"on platform={platform}"))


# of a program


def of_training(cfg: DictConfig) -> Idle:
    """What training does not read."""
    return _of_conventions(cfg) | _of_tiles(cfg) | _of_method(cfg) | _of_sweep(cfg)


def _of_conventions(cfg: DictConfig) -> Idle:
    """What the objective does not read."""
    found: Idle = {}
    if cfg.missing != "zero" and "missing" not in JOBS[cfg.job.name].tries:
        found |= _of_hparam("missing_weight", Reason("missing", f"with missing={cfg.missing}"))
    if not cfg.bias:
        found |= _of_hparam("reg_bias", Reason("bias", "with bias=false"))
    for key in set(OF_LOSSES) - set(loss_of(cfg.loss).reads):
        found |= _of_hparam(key, Reason("loss", f"with loss={cfg.loss}"))
    return found


def _of_hparam(key: str, reason: Reason) -> Idle:
    return {f"hparams.{key}": reason, f"sweep.{key}": reason}


def _of_tiles(cfg: DictConfig) -> Idle:
    """`tiles`, where no kernel cuts the ratings."""
    job = JOBS[cfg.job.name]
    if not any(plain_section(cfg.tiles).values()):
        return {}
    if job is GradientsJob and cfg.job.gradients is not None:
        names = cfg.job.gradients
        takes_tiles = any(name == "tiles" or is_own(name) for name in names)
        reason = Reason("job.gradients", f"with job.gradients=[{','.join(names)}]")
    elif "method" in job.reads:
        takes_tiles, reason = _tiles_of_method(cfg)
    else:
        return {}
    return {} if takes_tiles else {"tiles": reason}


def _tiles_of_method(cfg: DictConfig) -> tuple[bool, Reason]:
    """Whether the method cuts the ratings in tiles, and what would make it so."""
    parts = wanted(cfg.method.name)
    reason = Reason("method", f"with method={cfg.method.name}")
    gradient, kernel = gradient_of(cfg), kernel_of(cfg).name
    takes_batches = {"kernel", "optimizer"} <= set(parts)
    if "gradient" in parts:
        reason = Reason("gradient", f"with gradient={gradient}")
    elif "kernel" in parts and not takes_batches:
        reason = Reason("kernel", f"with kernel={kernel}")
    if is_own(cfg.method.name) or ("gradient" in parts and is_own(gradient)):
        return _is_cut(cfg), reason
    by_kernel = "kernel" in parts and kernel == "xla" and not takes_batches
    return by_kernel or ("gradient" in parts and gradient == "tiles"), reason


def _is_cut(cfg: DictConfig) -> bool:
    """Whether an epoch of the small problem is another program with other tiles."""
    make = build_method(cfg, build_optimizer(cfg))
    spec = replace(small_spec(build_spec(cfg, 1, 1)), dtype=cfg.dtype)
    hparams = Hparams.of(spec.dtype)
    ratings = small_ratings(spec.dtype, spec.loss)

    def epoch(tiling: Tiling) -> str:
        method = make(replace(spec, tiling=tiling))
        layout = method.prepare(ratings)

        def step(layout: Any) -> Any:
            state = method.init(jax.random.key(0), layout, hparams)
            return method.step(state, layout, hparams, 0)

        return str(jax.make_jaxpr(step)(layout))

    return epoch(Tiling()) != epoch(Tiling(width=16, chunk=64, group=16))


def _of_method(cfg: DictConfig) -> Idle:
    """What the method, and its parts, do not read."""
    parts = wanted(cfg.method.name)
    opt = build_optimizer(cfg)
    method = build_method(cfg, opt)(build_spec(cfg, 1, 1))
    by_method = Reason("method", f"with method={cfg.method.name}")
    found: Idle = {part: by_method for part in ("gradient", "optimizer") if part not in parts}
    if "gradient" in parts and cfg.gradient:
        found["kernel"] = Reason("gradient", f"with gradient={cfg.gradient}")
    elif not {"gradient", "kernel"} & set(parts):
        found["kernel"] = by_method
    for key in method.ignores:
        found |= _of_hparam(key, by_method) if key in DEFAULTS else {key: by_method}
    if method.averages is None:
        found["ensemble"] = by_method
    if "bags" not in parts:
        found["bags"] = by_method
    for key in ("learning_rate", "momentum", "reg_bag"):
        if key not in method.reads:
            is_of_optimizer = "optimizer" in parts and key not in opt.reads
            by_optimizer = Reason("optimizer", f"with optimizer={cfg.optimizer.name}")
            found |= _of_hparam(key, by_optimizer if is_of_optimizer else by_method)
    if "bags" in parts and "reg_bag" not in method.reads:
        found |= _of_hparam("reg_bag", Reason("bags", "without bags.user or bags.item"))
    of_parts = _of_optimizer(cfg, opt, method) | _of_bags(cfg)
    return of_parts | _of_start(cfg) | _of_split(cfg, method) | found


def _of_optimizer(cfg: DictConfig, opt: Optimizer, method: Method) -> Idle:
    found: Idle = {}
    schedule = cfg.optimizer.schedule
    if "final" not in inspect.signature(SCHEDULES[schedule]).parameters:
        said = f"with optimizer.schedule={schedule}"
        found["optimizer.final"] = Reason("optimizer.schedule", said)
    if "split_seed" not in method.reads:
        said = f"with method={cfg.method.name}, which takes no batches"
        found["optimizer.lazy"] = Reason("method", said)
    elif opt.moves == "rows":
        said = f"with optimizer={cfg.optimizer.name}, which moves no other rows than a batch's"
        found["optimizer.lazy"] = Reason("optimizer", said)
    return found


def _of_bags(cfg: DictConfig) -> Idle:
    """What the sources of features do not read."""
    found: Idle = {}
    for side in SIDES:
        read = keys_of_bags(cfg, side)
        reason = Reason(f"bags.{side}", f"with bags.{side}={in_words(cfg.bags[side])}")
        for key in KEYS:
            if key not in read:
                found[f"bags.{side}_{key}"] = reason
    if not can_be_transductive(cfg):
        found["bags.transductive"] = Reason("bags", "without rated in bags.user or bags.item")
    return found


def _of_start(cfg: DictConfig) -> Idle:
    """What is not drawn."""
    seed_and_scale = ("hparams.init_seed", "hparams.init_scale")
    if cfg.init.path is not None:
        reason = Reason("init.path", "with init.path")
        return dict.fromkeys((*seed_and_scale, "init.user", "init.item"), reason)
    if cfg.init.user is not None:
        return dict.fromkeys(seed_and_scale, Reason("init", "with init.user and init.item"))
    if not any(cfg.sweep.rank or [cfg.hparams.rank]):
        of_rank = Reason("hparams.rank", "with rank 0")
        return dict.fromkeys((*seed_and_scale, "hparams.reg", "sweep.reg"), of_rank)
    return {}


def _of_split(cfg: DictConfig, method: Method) -> Idle:
    """What depends on the split's draws, and on what it holds out."""
    try:
        split = build_split(cfg)(any_ratings(RATINGS), 0)
    except InputError:  # of which the data have more to say
        return {}
    name = f"split.name={cfg.split.name}"
    found: Idle = {}
    if not split.drawn and "split_seed" not in method.reads:
        found["hparams.split_seed"] = Reason("split", f"with {name}, which draws nothing here")
    reason = None
    if not split.num_folds:
        reason = Reason("split", f"with {name}, which holds nothing out here")
    elif set(cfg.sweep.fold or [cfg.hparams.fold]) == {NO_FOLD}:
        reason = Reason("hparams.fold", f"with fold {NO_FOLD}, which holds nothing out")
    if reason:
        found |= dict.fromkeys(("refit", "patience"), reason)
    return found


# of a sweep


def _of_sweep(cfg: DictConfig) -> Idle:
    """What the search does not read."""
    found: Idle = {}
    name = cfg.search.name
    others = {key for search in SEARCHES.values() for key in keys_of(search)}
    for key in others - set(keys_of(SEARCHES[name])):
        found[f"search.{key}"] = Reason("search.name", f"with search.name={name}")
    halving = ("search.first", "search.brackets")
    if cfg.search.eta is None:
        found |= dict.fromkeys(halving, Reason("search.eta", "without search.eta"))
    elif _num_settings(cfg) == 1:
        reason = Reason("sweep", "with one setting alone")
        found |= dict.fromkeys(("search.eta", *halving), reason)
    return found


def _num_settings(cfg: DictConfig) -> int:
    axes = {key: values for key, values in cfg.sweep.items() if values is not None}
    if "samples" in keys_of(SEARCHES[cfg.search.name]):
        return cfg.search.samples
    return prod(len(values) for key, values in axes.items() if key not in REPLICATES)


def _of_launch(launched: bool) -> Idle:
    """What is of several jobs, and of one alone."""
    if launched:
        own = "hydra.launcher.lanes_per_program"
        said = f"with hydra/launcher=mfjax, which has its own: {own}"
        return {"lanes_per_program": Reason("", said)}
    if is_multirun():
        return {}
    return {"test": Reason("", "in a run of its own: it is of several jobs or variants")}


# variants


def variants(cfg: DictConfig) -> Mapping[str, DictConfig]:
    """The overrides of each variant; none of another job."""
    return cfg.job.variants if cfg.job.name == CompareJob.name else {}


def _in_all(each: Sequence[Idle]) -> Idle:
    """What is idle in every variant."""
    keys = defaults(CompareJob.name) if each else ()
    reasons = {key: [reason_of(key, found) for found in each] for key in keys}
    return {key: of_key[0] for key, of_key in reasons.items() if of_key[0] and all(of_key)}
