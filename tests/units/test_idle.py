"""Nothing that is set is ignored in silence: a key acts, or is refused with the reason.

Whether a key acts is read off what is built: the ratings and their splits, the lanes, and the
program as it is traced, which does not read an argument that none of its equations takes.
"""

import inspect
import json
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from importlib import import_module
from itertools import product

import jax
import jaxtyping
import numpy as np
import pytest
from configs import TINY, composed
from jax.interpreters import partial_eval
from marks import often
from omegaconf import DictConfig, OmegaConf
from omegaconf.basecontainer import BaseContainer

from mfjax import GRADIENTS, KERNELS, METHODS, Hparams, Ratings
from mfjax.app import schema
from mfjax.app.build import build, build_dataset, kernel_of
from mfjax.app.idle import idle, reason_of
from mfjax.app.ignored import refuse_idle
from mfjax.app.jobs import _points
from mfjax.app.jobs._floors import Rates
from mfjax.app.jobs._operations import Bench, points_of
from mfjax.app.schema import JOBS, defaults, known
from mfjax.errors import InputError
from mfjax.testing import random_factors

DATA = TINY[:-1]
TWICE = "replicates=2"
BASES = {  # a method, and what else is set where its keys are tried
    "sgd": (TWICE, "optimizer=adam", "optimizer.schedule=cosine"),
    "descent": (TWICE,),
    "als": (TWICE, "missing=zero", "bias=false"),
    "als_cg": (TWICE,),
    "gibbs": (
        "sweep.rank=[2,4]",
        "kernel=xla",
    ),  # of a compiled one, no equation says what it reads
}
MORE = {
    "sgd, plain": (TWICE,),
    "descent, coo": (TWICE, "method=descent", "gradient=coo", "missing=zero", "bias=false"),
    "descent, bags": (TWICE, "method=descent", "bags.item=[rated,popularity]"),
    "descent, kfold": (
        *("method=descent", "split=kfold", "replicates=1", "hparams.fold=-2"),
        "sweep.reg=[0.1,0.2]",
    ),
    "als, blocks": ("method=als", "split=blocks", "split.validation=0", "sweep.reg=[0.1,0.2]"),
    "als, all": ("method=als", "split=all", "sweep.reg=[0.1,0.2]"),
    "sgd, halving": (TWICE, "search.eta=2", "sweep.rank=[2,5,16]"),
}
CASES = {name: (f"method={name}", *more) for name, more in BASES.items()}
BESIDE = (  # what is read beside what is built
    *schema.OF_THE_COMMAND,
    *("job", "plots", "logger", "test", "checkpoint", "resume", "distributed"),
)


@pytest.fixture
def unchecked(monkeypatch):
    """Configs and shapes that are not checked again, which takes longer than to build and trace."""
    monkeypatch.setattr("mfjax.app.build.check", lambda cfg: None)
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def test_every_method_is_tried():
    assert set(BASES) == set(METHODS)


# another value of every key


OTHERS = {
    "data.name": "matrix",
    "bags.user": "rated",
    "bags.item": "rated",
    "init.user": [[0.1] * 16] * 6,
    "init.item": [[0.1] * 16] * 5,
    "lanes_per_program": 1,
    "epochs_per_call": 3,
    "optimizer.reads": [],
    "optimizer.options": {"momentum": 0.5},
    "optimizer.name": "lion",
    "optimizer.schedule": "linear",
    "tiles.width": 16,
    "tiles.group": 16,
    "search.eta": 3,
    "plots.format": ["pdf"],
    "plots.size": [3.0, 2.0],
    "job.gradients": ["coo"],
    "job.variants": {"one": {}},
    "expected": {"loss": {"value": 1}},
}
OF_TYPES = {bool: True, int: 7, float: 0.5, str: "x", list: [1]}


def other(key, value, job):
    """Another value that the key may have."""
    if key in OTHERS:
        return OTHERS[key]
    if key.startswith("sweep."):
        name = key.removeprefix("sweep.")
        own = Hparams()._asdict()[name]
        return [own, other(f"hparams.{name}", own, job)]
    if key in (choices := schema.choices()):
        return next(one for one in choices[key] if one != value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value / 2 + 0.007
    if isinstance(value, list):
        return [other(key, one, job) for one in value]
    section, _, name = key.rpartition(".")
    node = OmegaConf.select(known(job), section) if section else known(job)
    kind = node._get_node(name)._metadata.ref_type
    return OF_TYPES[getattr(kind, "__origin__", kind)]


def value_of(cfg, key):
    value = OmegaConf.select(cfg, key)
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value


@contextmanager
def changed(cfg, key, value):
    """Within it, a key of the config has another value."""
    before = value_of(cfg, key)
    OmegaConf.update(cfg, key, value, merge=False, force_add=True)
    try:
        yield
    finally:
        OmegaConf.update(cfg, key, before, merge=False)


def is_of(key, sections):
    return any(key == one or key.startswith(f"{one}.") for one in sections)


# training: what is built


EXPERIMENTS = {}  # the first that was built of each program


@cache
def program(made_of, spec):
    """The text of the equations of a method that count, and the Hparams that it reads."""
    plan = EXPERIMENTS[made_of, spec].sweep.plan
    method = plan.method(spec)
    ratings = next(iter(plan.problems.values())).ratings
    layout = method.prepare(ratings)

    def an_epoch(hparams, layout, epoch):
        state = method.init(jax.random.key(hparams.init_seed), layout, hparams, plan.warm)
        return method.step(state, layout, hparams, epoch)

    traced = jax.make_jaxpr(an_epoch)(Hparams.of(spec.dtype), layout, 0)
    counts, used = partial_eval.dce_jaxpr(traced.jaxpr, [True] * len(traced.out_avals))
    read = [key for key, is_read in zip(Hparams._fields, used, strict=False) if is_read]
    return str(counts), read


def comes_to(cfg):
    """All that training depends on, in a form that compares."""
    experiment = build(cfg)
    plan = experiment.sweep.plan
    first = next(iter(plan.problems.values()))
    parameters = inspect.signature(METHODS[cfg.method.name]).parameters
    given = [key for key in ("optimizer", "gradient", "bags") if key in parameters]
    made_of = OmegaConf.to_container(
        OmegaConf.masked_copy(cfg, ["method", "epochs", "kernel", *given])
    )
    made_of = json.dumps([made_of, len(first.ratings.value), plan.warm is None])
    EXPERIMENTS.setdefault((made_of, plan.spec), experiment)
    text, read = program(made_of, plan.spec)
    is_held_out = any((first.ratings.fold == lane.fold).any() for lane in experiment.lanes)
    settings = {lane.setting for lane in experiment.lanes}
    arrays = jax.tree.leaves([list(plan.problems.values()), plan.warm])
    return (
        text,
        {tuple(getattr(lane, key) for key in read) for lane in experiment.lanes},
        [np.asarray(array).tobytes() for array in arrays],
        replace(plan.schedule, patience=plan.schedule.patience if is_held_out else None),
        plan.lane_batch,
        experiment.sweep.lanes_per_program < len(experiment.lanes),
        experiment.halving if len(settings) > 1 else None,
        cfg.refit and is_held_out,
        cfg.ensemble and plan.method(plan.spec).averages is not None,
    )


def is_refused(cfg, key):
    """Whether a key is refused that the command line names."""
    try:
        refuse_idle(cfg, [f"{key}=…"])
    except InputError:
        return True
    return False


def is_wrong(cfg, key, before):
    """Whether a key is ignored in silence, or refused though it acts."""
    if is_of(key, BESIDE):
        return False
    try:
        return is_refused(cfg, key) != (comes_to(cfg) == before)
    except InputError:  # which says so, too
        return False


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES | MORE)
def test_a_key_acts_or_is_refused(name, unchecked):
    base = composed(*TINY, *(CASES | MORE)[name])
    before = comes_to(base)
    others = {key: other(key, value_of(base, key), "train") for key in defaults("train")}
    del others["job.name"]  # which `check` refuses
    others["kernel"] = next(name for name in KERNELS if name != kernel_of(base).name)
    for axis in base.sweep:
        if base.sweep[axis] is not None:
            del others[f"hparams.{axis}"]  # of which a warning says so
    wrong = []
    for key, value in others.items():
        with changed(base, key, value):
            wrong += [key] if is_wrong(base, key, before) else []
    assert wrong == []


def test_what_another_platform_reads_is_refused(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    for key in ("devices", "threads"):
        with pytest.raises(
            InputError, match=f"{key}=1 has no effect on platform=gpu; leave it out"
        ):
            refuse_idle(composed(*TINY, f"{key}=1"), [f"{key}=1"])


@pytest.mark.slow
@pytest.mark.parametrize("job", ["compare", "walkthrough"])
@pytest.mark.parametrize("method", METHODS)
def test_another_job_that_trains_refuses_what_training_does(job, method):
    given = (*DATA, f"method={method}", *BASES[method][1:])
    variants = ("+job.variants={one:{}}",) if job == "compare" else ()
    of_training = idle(composed(*given))
    of_job = idle(composed(*given, f"job={job}", *variants))
    keys = [key for key in defaults("train") if not is_of(key, ("job", "test"))]
    for key in keys:
        is_read = is_of(key, JOBS[job].reads)
        is_idle = reason_of(key, of_training) is not None
        assert (reason_of(key, of_job) is not None) == (is_idle or not is_read), key


# the other jobs: what they read as they run


RUNS = {
    "gradients": (*DATA, "job.gradients=[coo]", "job.repeats=1"),
    "scale": (
        *("data=synthetic", "data.num_users=20", "data.num_items=10"),
        *("job.ratings=[20,40]", "job.repeats=1"),
    ),
    "device": (
        *(*DATA, "job.ranks=[2]", "job.lanes=2", "job.lane_rank=2", "job.repeats=1"),
        "job.lane_data.name=toy",
    ),
}


@contextmanager
def reading():
    """Within it, the keys and sections (`section.*`) that are read of configs are noted."""
    noted = set()
    get, contents = DictConfig._get_impl, BaseContainer._to_content

    def noting_a_key(self, key, *args, **kwargs):
        noted.add(self._get_full_key(key))
        return get(self, key, *args, **kwargs)

    def noting_a_section(conf, *args, **kwargs):
        noted.add(f"{conf._get_full_key(None)}.*")
        return contents(conf, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(DictConfig, "_get_impl", noting_a_key)
        patched.setattr(BaseContainer, "_to_content", staticmethod(noting_a_section))
        yield noted


@pytest.mark.slow
@pytest.mark.parametrize("job", RUNS)
def test_a_job_reads_what_it_says_it_reads(job, tmp_path, monkeypatch):
    monkeypatch.setattr("mfjax.app.jobs._floors.COPIED", 2**12)
    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:1])
    monkeypatch.setattr("mfjax.app.terminal.flat", lambda cfg: {})  # which reads all
    monkeypatch.setattr("mfjax.app.terminal.experiment_name", lambda: "run")
    cfg = composed(*RUNS[job], f"job={job}", "plots.draw=false")
    with reading() as noted:
        import_module(f"mfjax.app.jobs.{job}").run(cfg, tmp_path, began=0.0)
    known_keys = defaults(job)
    read = {key for key in noted if key in known_keys or key.endswith(".*")} - {".*"}
    read = {key.removesuffix(".*") for key in read if not is_of(key, ("hparams", "expected"))}
    reads = JOBS[job].reads
    assert {key for key in read if not is_of(key, reads)} == set()
    wanted = [key for key in reads if key not in schema.OF_THE_COMMAND and "hparams" not in key]
    assert {key for key in wanted if not any(is_of(one, [key]) for one in read)} == set()


@cache
def read_by_the_objective(spec):
    """The Hparams that the gradient reads."""
    gradient = GRADIENTS["coo"](spec)
    ratings = Ratings.of([0, 1], [0, 1], [3, 4], dtype=spec.dtype)
    factors = random_factors(spec)
    layout = gradient.prepare(ratings)
    traced = jax.make_jaxpr(gradient.value_and_grad)(factors, layout, Hparams.of(spec.dtype))
    _, used = partial_eval.dce_jaxpr(traced.jaxpr, [True] * len(traced.out_avals))
    of_hparams = used[-len(Hparams._fields) :]
    return [key for key, is_read in zip(Hparams._fields, of_hparams, strict=True) if is_read]


def points(job, cfg):
    """Where a job takes gradients: the factors, and the hyperparameters that these read."""
    if job == "device":
        found = points_of(Bench(cfg, build_dataset(cfg), Rates(1, 1)))
    else:
        missing = ("item_mean", "zero") if job == "scale" else (cfg.missing,)
        found = [_points.small(cfg, missing=one) for one in missing]
        found.append(_points.full(cfg, build_dataset(cfg)))
    return [
        (
            [side.tobytes() for side in point.factors],
            [getattr(point.hparams, key) for key in read_by_the_objective(point.spec)],
        )
        for point in found
    ]


CONVENTIONS = [(), ("bias=false",), ("missing=zero",)]


@pytest.mark.parametrize(
    "job, given",
    often(
        [
            *product(("gradients", "scale"), CONVENTIONS),
            *product(("device",), CONVENTIONS[:2]),
        ],
        one_of=2,
    ),
)
def test_a_hyperparameter_moves_a_gradient_or_is_refused(job, given):
    sized = ("data.num_ratings=40",) if job == "scale" else ()
    base = composed(*RUNS[job], f"job={job}", *given, *sized)
    before = points(job, base)
    found = idle(base)
    for key in Hparams._fields:
        if key == "fold" or (job, key) == ("device", "learning_rate"):
            continue  # no rating is of a fold here; the rate is of epochs, not of the gradient
        name = f"hparams.{key}"
        with changed(base, name, other(name, base.hparams[key], job)):
            moves = points(job, base) != before
        assert (reason_of(name, found) is None) == moves, key
