"""The config: what composes and builds, what is refused and how, and that the schema has no list of its own."""

import importlib.util
import itertools
import math

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import ConfigCompositionException, HydraException
from omegaconf import OmegaConf

from mfjax.app import build as config
from mfjax.app.jobs import JOBS
from mfjax.errors import InputError
from mfjax.types import Hparams, Spec, Tiling

config.register()
SCHEMA = OmegaConf.structured(config.Config)
EXPERIMENTS = sorted(path.stem for path in (config.CONF / "exp").glob("*.yaml"))
GROUPS = sorted(
    (folder.name, path.stem)
    for folder in config.CONF.iterdir()
    if folder.is_dir() and folder.name != "exp"
    for path in folder.glob("*.yaml")
)
TINY = ("data=toy", "data.num_users=6", "data.num_items=5")
NEEDED = {
    ("data", "matrix"): ["data.rows=[[5,null,3],[4,2,null]]", "split=all"],  # four ratings are too few to split
    ("data", "file"): ["data.path=bundled:ml-latest-small"],
    ("optimizer", "lbfgs"): ["method=descent"],
}


def composed(*overrides):
    """The config as the command composes it, checked."""
    with initialize_config_dir(str(config.CONF), version_base="1.3"):
        cfg = compose("config", list(overrides))
    config.check(cfg)
    return cfg


def axes(cfg):
    return {key: list(values) for key, values in cfg.sweep.items() if values is not None}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_composes_and_builds(name):
    cfg = composed(f"+exp={name}")
    assert cfg.job in JOBS and importlib.util.find_spec(f"mfjax.app.jobs.{cfg.job}")
    if cfg.job == "train":
        experiment = config.build(cfg)
        assert len(experiment.lanes) == math.prod(map(len, axes(cfg).values())) == len(set(experiment.lanes))
        assert {lane.data_seed for lane in experiment.lanes} == set(experiment.sweep.problems)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_sweep_none_turns_an_experiments_sweep_off_and_another_takes_its_place(name):
    assert axes(composed(f"+exp={name}", "sweep=none", "sweep.reg=[0.05,0.1]")) == {"reg": [0.05, 0.1]}


@pytest.mark.parametrize("group, name", GROUPS)
def test_every_file_of_a_group_composes_and_builds(group, name):
    tiny = () if group == "data" else TINY
    cfg = composed(*tiny, f"{group}={name}", *NEEDED.get((group, name), []))
    assert config.build(cfg).lanes


def test_the_groups_have_a_file_for_every_source_and_every_split():
    assert set(config.SOURCES) <= {name for group, name in GROUPS if group == "data"}
    assert set(config.SPLITS) <= {name for group, name in GROUPS if group == "split"}


def test_the_schema_takes_its_keys_types_and_defaults_from_the_nouns():
    defaults = Hparams()._asdict()
    assert OmegaConf.to_container(SCHEMA.hparams) == defaults
    assert list(SCHEMA.sweep) == list(Hparams._fields)
    assert {key: type(SCHEMA.hparams[key]) for key in defaults} == {key: type(value) for key, value in defaults.items()}
    spec = Spec(1, 1, max_rank=1)
    assert {key: SCHEMA[key] for key in SCHEMA if hasattr(spec, key)} == {
        key: getattr(spec, key) for key in SCHEMA if hasattr(spec, key)
    }


def test_every_range_and_choice_is_of_a_key_and_every_number_has_a_range():
    def leaves(node, path=""):
        for key in node:
            child = None if OmegaConf.is_missing(node, key) else node[key]
            if OmegaConf.is_dict(child):
                yield from leaves(child, f"{path}{key}.")
            else:
                yield f"{path}{key}", child

    keys = dict(leaves(SCHEMA))
    places = [f"hparams.{key}" if key in Hparams._fields else key for key in config.RANGES]
    assert set(places) <= set(keys) and set(config.CHOICES) <= set(keys)
    numbers = {key for key, value in keys.items() if isinstance(value, (int, float)) and not isinstance(value, bool)}
    assert numbers <= set(places)


@pytest.mark.parametrize(
    "override, expected",
    [
        ("sweep.seed=${range:5}", [0, 1, 2, 3, 4]),
        ("sweep.fold=${range:2,5}", [2, 3, 4]),
        ("sweep.reg=${linspace:0,1,5}", [0, 0.25, 0.5, 0.75, 1]),
        ("sweep.learning_rate=${logspace:0.001,10,5}", [0.001, 0.01, 0.1, 1, 10]),
    ],
)
def test_resolvers_expand(override, expected):
    ((_, values),) = axes(composed(override)).items()
    assert values == pytest.approx(expected) and [type(v) for v in values] == [type(values[0])] * len(expected)


def test_logspace_runs_from_bound_to_bound_in_equal_ratios():
    values = axes(composed("sweep.learning_rate=${logspace:0.01,0.2,8}"))["learning_rate"]
    ratios = [b / a for a, b in itertools.pairwise(values)]
    assert (values[0], values[-1], len(values)) == (0.01, 0.2, 8)
    assert ratios == pytest.approx([20 ** (1 / 7)] * 7, rel=1e-5)  # the values are rounded to six digits


def test_the_grid_is_every_combination_and_the_last_axis_varies_fastest():
    cfg = composed(*TINY, "hparams.rank=3", "sweep.learning_rate=[0.1,0.2]", "sweep.reg=[0.3,0.4,0.5]")
    lanes = config.build(cfg).lanes
    assert [(lane.learning_rate, lane.reg) for lane in lanes] == [(a, b) for a in (0.1, 0.2) for b in (0.3, 0.4, 0.5)]
    assert {lane._replace(learning_rate=0.1, reg=0.3) for lane in lanes} == {lanes[0]} and lanes[0].rank == 3


def test_no_sweep_is_one_lane():
    cfg = composed(*TINY, "hparams.reg=0.7")
    assert config.build(cfg).lanes == [Hparams(reg=0.7)]


@pytest.mark.parametrize("override", ["epocks=3", "hparams.learningrate=1", "sweep.lr=[1]", "data.pth=x", "exp=movielens"])
def test_an_unknown_key_does_not_compose(override):
    with pytest.raises(ConfigCompositionException):
        composed(override)


@pytest.mark.parametrize("override", ["epochs=many", "bias=perhaps", "sweep.rank=[1.5]", "sweep.reg=0.1", "sweep.fold=[a]"])
def test_a_value_of_another_type_does_not_compose(override):
    with pytest.raises(HydraException):
        composed(override)


CHECKED = {
    "+epoch=3": "unknown key epoch; did you mean epochs",
    "+zzz=3": "unknown key zzz; python -m mfjax.run --cfg job shows every key",
    "+hparams.learning_rte=1": "unknown key hparams.learning_rte; did you mean hparams.learning_rate",
    "+sweep.learning_rte=[1]": "did you mean sweep.learning_rate",
    "+check.candidate.gradeint=a:b": "did you mean check.candidate.gradient",
    "epochs=0": "epochs: expected a positive number, got 0",
    "batch_size=-1": "batch_size: expected a positive",
    "eval_every=0": "eval_every: expected a positive",
    "patience=0": "patience: expected a positive",
    "threads=0": "threads: expected a positive",
    "hparams.learning_rate=0": "hparams.learning_rate: expected a positive number, got 0",
    "hparams.learning_rate=nan": "hparams.learning_rate: expected a positive number, got nan",
    "hparams.learning_rate=inf": "hparams.learning_rate: expected a positive number, got inf",
    "hparams.reg=-0.1": "hparams.reg: expected 0 or a positive number, got -0.1",
    "hparams.momentum=1": "hparams.momentum: expected a number from 0 up to, and not, 1, got 1",
    "hparams.rank=-1": "hparams.rank: expected an integer from 0 to 4096",
    "hparams.seed=-1": "hparams.seed: expected an integer from 0",
    "hparams.fold=-3": "hparams.fold: expected a fold's number",
    "sweep.reg=[0.1,-1]": "sweep.reg: expected 0 or a positive number, got -1",
    "sweep.data_seed=[2147483648]": "sweep.data_seed: expected an integer from 0 to 2147483647",
    "sweep.reg=[]": "sweep.reg: expected at least one value, got an empty list",
    "cg_steps=0": "cg_steps: expected a positive",
    "tiles.width=12": "tiles.width: expected one of 8, 16, 32, 64, got 12",
    "tiles.group=12": "tiles.group: expected a multiple of 8, got 12",
    "tiles.chunk=0": "tiles.chunk: expected a positive",
    "check.shares=[0.5,2]": "check.shares: expected a share above 0 and at most 1, got 2",
    "missing=zeros": "missing: expected one of ignore, item_mean, zero, got 'zeros'",
    "loss_scale=double": "loss_scale: expected one of",
    "reg_by=column": "reg_by: expected one of",
    "dtype=float16": "dtype: expected one of float32, float64",
    "data.source=web": "data.source: expected one of",
    "split.kind=by_user": "split.kind: expected one of",
    "matmul_precision=low": "matmul_precision: expected one of",
}


@pytest.mark.parametrize("override", CHECKED)
def test_check_refuses_and_says_what_it_expected(override):
    with pytest.raises(InputError) as error:
        composed(override)
    assert CHECKED[override] in str(error.value) and len(str(error.value).splitlines()) <= 6


BUILT = {
    "data.noise=1": ((), "data.noise has no effect with data.source=file; it takes path"),
    "data.path=x": (TINY, "data.path has no effect with data.source=toy"),
    "split.folds=3": ((), "split.folds has no effect with split.kind=random; it takes validation, test"),
    "split.validation=0.2": (("split=kfold",), "split.validation has no effect with split.kind=kfold"),
    "data=file": ((), "data.source=file needs data.path"),
    "data=matrix": ((), "data.source=matrix needs data.rows"),
    "gradient=nope": ((), "gradient: expected one of autodiff"),
    "method=nope": ((), "method: expected one of descent, sgd"),
    "optimizer.name=nope": ((), "optimizer.name: expected an optax optimiser"),
    "optimizer.schedule=nope": ((), "optimizer.schedule: expected one of constant"),
    "optimizer.takes=[reg]": ((), "optax.sgd has no reg\nit takes: learning_rate"),
    "+optimizer.options.beta=1": ((), "optax.sgd has no beta\nit takes: learning_rate"),
    "optimizer.schedule=cosine": (("optimizer=lbfgs",), "scales a learning rate"),
    "sweep.momentum=[0.5,0.9]": ((), "sweep.momentum has no effect with optimizer=sgd"),
    "sweep.learning_rate=[0.1,0.2]": (
        ("method=descent", "optimizer=lbfgs"),
        "sweep.learning_rate has no effect with optimizer=lbfgs",
    ),
    "sweep.learning_rate=[0.1,0.3]": (("method=als",), "sweep.learning_rate has no effect with method=als"),
    "optimizer.lazy=true": (("method=descent", "optimizer=lbfgs"), "optimizer.lazy=true needs an optimiser that treats"),
    "sweep.missing_weight=[0.5,1]": ((), "sweep.missing_weight has no effect with missing=ignore"),
    "sweep.reg_bias=[0,1]": (("bias=false",), "sweep.reg_bias has no effect with bias=false"),
    "sweep.fold=[0,1]": ((), "fold 1: split.kind=random has 1 fold"),
    "hparams.fold=5": (("split=kfold",), "fold 5: split.kind=kfold has 5 fold"),
    "split.test=1": ((), "test: expected a fraction"),
}


@pytest.mark.parametrize("override", BUILT)
def test_build_refuses_what_would_have_no_effect_or_cannot_be(override):
    others, message = BUILT[override]
    data = () if override.startswith("data") else TINY
    cfg = composed(*data, *others, override)
    with pytest.raises(InputError) as error:
        config.build(cfg)
    assert message in str(error.value) and len(str(error.value).splitlines()) <= 6


def test_a_module_of_optax_is_no_optimizer():
    with pytest.raises(InputError, match="expected an optax"):
        config.build(composed(*TINY, "optimizer.name=contrib"))


@pytest.mark.parametrize(
    "overrides",
    [
        ("optimizer=momentum", "sweep.momentum=[0.5,0.9]"),
        ("method=descent", "missing=zero", "sweep.missing_weight=[0.5,1]"),
        ("bias=true", "sweep.reg_bias=[0,1]"),
        ("split=kfold", "split.folds=3", "sweep.fold=${range:3}"),
        ("split=all", "hparams.fold=-2", "sweep.reg=[0,1]"),
    ],
    ids=lambda overrides: " ".join(overrides),
)
def test_what_has_an_effect_may_be_swept(overrides):
    cfg = composed(*TINY, *overrides)
    assert len(config.build(cfg).lanes) == len(next(iter(axes(cfg).values())))


def test_tiles_are_cut_as_the_config_says_or_as_suits_the_ratings():
    as_given = composed(*TINY, "tiles.width=16", "tiles.chunk=64", "tiles.group=8")
    assert config.build(as_given).sweep.spec.tiling == Tiling(width=16, chunk=64, group=8)
    assert config.build(composed(*TINY)).sweep.spec.tiling == Tiling(width=8)  # of five ratings a row
    assert as_given.gradient == "tiles" and OmegaConf.to_container(SCHEMA.tiles) == dict.fromkeys(("width", "chunk", "group"))


def test_every_data_seed_has_its_own_split_and_all_of_them_all_the_ratings():
    problems = config.build(composed(*TINY, "split.test=0.2", "sweep.data_seed=${range:3}")).sweep.problems
    assert list(problems) == [0, 1, 2]
    pairs = [sorted(zip(p.test.user.tolist(), p.test.item.tolist(), strict=True)) for p in problems.values()]
    assert len(set(map(tuple, pairs))) == 3 and {len(p.ratings.value) + len(p.test.value) for p in problems.values()} == {30}


@pytest.mark.parametrize("clip, bounds", [("true", (1, 5)), ("false", (-math.inf, math.inf))])
def test_predictions_are_clipped_to_the_ratings_own_range(clip, bounds):
    cfg = composed("data=matrix", "data.rows=[[5,null,3],[4,2,1]]", "split=all", f"clip={clip}")
    assert tuple(config.build(cfg).sweep.problems[0].bounds) == bounds


@pytest.mark.parametrize("path", sorted((config.CONF / "hydra/launcher").glob("*.yaml")), ids=lambda path: path.stem)
def test_launchers_of_clusters_compose(path):
    (base,) = OmegaConf.load(path).defaults
    try:
        with initialize_config_dir(str(config.CONF), version_base="1.3"):
            cfg = compose("config", [f"hydra/launcher={path.stem}"], return_hydra_config=True)
    except HydraException as error:
        assert f"hydra/launcher/{base}" in str(error)
        pytest.skip(f"the launcher {base} is not installed")
    own = OmegaConf.masked_copy(OmegaConf.load(path), [key for key in OmegaConf.load(path) if key != "defaults"])
    assert OmegaConf.merge(cfg.hydra.launcher, own) == cfg.hydra.launcher and "_target_" in cfg.hydra.launcher
