"""The config: what composes and builds, and that the schema has no list of its own."""

import importlib.util
import inspect
import itertools
import json
import math
import shlex
from pathlib import Path

import pytest
from configs import TINY, axes, built, composed, refusal
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf

from mfjax import GRADIENTS, METHODS, PUBLISHED, SOURCES, SPLITS, Hparams, Spec, Tiling
from mfjax.app import CONF, help, terminal
from mfjax.app.schema import CHOICES, JOBS, RANGES, RENAMED, keywords, known, schema

SCHEMA = OmegaConf.structured(schema())
EXPERIMENTS = sorted((CONF / "exp").glob("*.yaml"))
GROUPS = sorted(
    (folder.name, path.stem)
    for folder in CONF.iterdir()
    if folder.is_dir() and folder.name not in ("exp", "hydra")
    for path in folder.glob("*.yaml")
)
NEEDED = {
    # four ratings are too few to split
    ("data", "matrix"): ["data.rows=[[5,null,3],[4,2,null]]", "split=all"],
    ("data", "file"): ["data.path=bundled:ml-latest-small"],
    ("optimizer", "lbfgs"): ["method=descent"],
    ("split", "cold_items"): ["split.test=0.2", "split.validation=0.2"],
    ("sweep", "ials"): ["method=als", "missing=zero"],
}
TIMED = ("time", "leave_last_out")  # of the bundled ratings

by_name = pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)


# experiments and groups


@by_name
def test_every_experiment_composes_and_builds(path):
    cfg = composed(f"+exp={path.stem}")
    assert cfg.job.name in JOBS
    assert importlib.util.find_spec(f"mfjax.app.jobs.{cfg.job.name}")
    if cfg.job.name == "train":
        experiment = built(f"+exp={path.stem}")
        lanes = experiment.lanes
        assert axes(cfg).items() <= experiment.axes.items()
        assert len(lanes) == math.prod(map(len, experiment.axes.values())) == len(set(lanes))
        assert {lane.cut for lane in lanes} == set(experiment.sweep.plan.problems)


@by_name
def test_every_experiment_states_its_command_in_a_comment(path):
    (line,) = (
        line.removeprefix("# ")
        for line in path.read_text().splitlines()
        if line.startswith("# python -m mfjax.run ")
    )
    python, m, module, *arguments = shlex.split(line)
    assert (python, m, module) == ("python", "-m", "mfjax.run")
    assert f"+exp={path.stem}" in arguments
    composed(*(argument for argument in arguments if argument != "-m"))


@by_name
def test_sweep_none_turns_an_experiments_sweep_off_and_another_takes_its_place(path):
    cfg = composed(f"+exp={path.stem}", "sweep=none", "sweep.reg=[0.05,0.1]")
    assert axes(cfg) == {"reg": [0.05, 0.1]}


@pytest.mark.slow
@pytest.mark.parametrize("group, name", GROUPS)
def test_every_file_of_a_group_composes_and_builds(group, name):
    if name == "files":
        pytest.skip("it needs two files: tests/units/test_splits.py has them")
    tiny = () if group == "data" or name in TIMED else TINY
    assert built(*tiny, f"{group}={name}", *NEEDED.get((group, name), [])).lanes


@pytest.mark.parametrize("job", JOBS)
def test_a_run_has_the_keys_of_its_own_job_alone(job):
    cfg = composed(f"job={job}")
    assert cfg.job.name == job
    assert set(cfg.job) == set(known(job).job)


def test_the_groups_have_a_file_for_every_source_split_and_method():
    for group, table in (("data", SOURCES), ("split", SPLITS), ("method", METHODS)):
        assert set(table) - set(PUBLISHED) <= {name for of, name in GROUPS if of == group}


def test_help_lists_every_group_with_its_choices():
    text = " ".join(help.help_text().split())  # it wraps
    for group, files in itertools.groupby(GROUPS, key=lambda pair: pair[0]):
        named = {name for _, name in files} | set(PUBLISHED if group == "data" else ())
        assert f"{group}: {', '.join(sorted(named))}" in text
    stated = [path.relative_to(CONF / "exp") for path in (CONF / "exp").rglob("*.yaml")]
    named = sorted(path.with_suffix("").as_posix() for path in stated)
    assert f"exp: {', '.join(named)}" in text
    assert f"job: {', '.join(sorted(JOBS))}" in text
    assert f"gradient: {', '.join(GRADIENTS)}" in text
    assert max(map(len, help.help_text().splitlines())) < 80


def test_help_names_keys_that_there_are():
    assert set(help.FIRST_KEYS) <= set(EVERY_KEY)
    assert len(help.FIRST_KEYS) == 10


# the schema


def leaves(node, path=""):
    for key in node:
        child = None if OmegaConf.is_missing(node, key) else node[key]
        if OmegaConf.is_dict(child) and len(child):
            yield from leaves(child, f"{path}{key}.")
        else:
            yield f"{path}{key}", child


EVERY_KEY = {key: value for job in JOBS for key, value in leaves(known(job))}


def test_the_schema_takes_its_keys_types_and_defaults_from_the_nouns():
    defaults = Hparams()._asdict()
    assert OmegaConf.to_container(SCHEMA.hparams) == defaults
    assert list(SCHEMA.sweep) == list(Hparams._fields)
    kinds = {key: type(SCHEMA.hparams[key]) for key in defaults}
    assert kinds == {key: type(value) for key, value in defaults.items()}
    spec = Spec(1, 1, max_rank=1)
    shared = [key for key in SCHEMA if hasattr(spec, key)]
    assert {"missing", "loss", "loss_scale", "reg_by", "bias", "dtype"} == set(shared)
    assert all(SCHEMA[key] == getattr(spec, key) for key in shared)


@pytest.mark.parametrize(
    "section, table", [("data", SOURCES), ("split", SPLITS), ("method", METHODS)]
)
def test_a_section_has_the_keys_of_every_function_of_its_table(section, table):
    own = {key for function in table.values() for key in keywords(function)}
    assert set(SCHEMA[section]) == {"name", *own}


def test_every_range_and_choice_is_of_a_key_and_every_number_has_a_range():
    places = [f"hparams.{key}" if key in Hparams._fields else key for key in RANGES]
    assert set(places) <= set(EVERY_KEY)
    assert set(CHOICES) <= set(EVERY_KEY)
    numbers = {
        key
        for key, value in EVERY_KEY.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    assert numbers <= set(places)


def test_an_old_key_is_none_and_its_new_name_is_one():
    sections = {key.rpartition(".")[0] for key in EVERY_KEY}
    for old, new in RENAMED.items():
        if not new.startswith("hydra."):
            assert old not in EVERY_KEY
            assert new in EVERY_KEY or new in sections


# sweeps


@pytest.mark.parametrize(
    "override, expected",
    [
        ("sweep.init_seed=${range:5}", [0, 1, 2, 3, 4]),
        ("sweep.fold=${range:2,5}", [2, 3, 4]),
        ("sweep.reg=${linspace:0,1,5}", [0, 0.25, 0.5, 0.75, 1]),
        ("sweep.learning_rate=${logspace:0.001,10,5}", [0.001, 0.01, 0.1, 1, 10]),
    ],
)
def test_resolvers_expand(override, expected):
    ((_, values),) = axes(composed(override)).items()
    assert values == pytest.approx(expected)
    assert {type(value) for value in values} == {type(values[0])}


def test_logspace_runs_from_bound_to_bound_in_equal_ratios():
    values = axes(composed("sweep.learning_rate=${logspace:0.01,0.2,8}"))["learning_rate"]
    ratios = [b / a for a, b in itertools.pairwise(values)]
    assert (values[0], values[-1], len(values)) == (0.01, 0.2, 8)
    assert ratios == pytest.approx([20 ** (1 / 7)] * 7, rel=1e-5)  # rounded to six digits


def test_the_grid_is_every_combination_and_the_last_axis_varies_fastest():
    sweep = ("sweep.learning_rate=[0.1,0.2]", "sweep.reg=[0.3,0.4,0.5]")
    lanes = built(*TINY, "hparams.rank=3", *sweep).lanes
    pairs = [(lane.learning_rate, lane.reg) for lane in lanes]
    assert pairs == list(itertools.product((0.1, 0.2), (0.3, 0.4, 0.5)))
    assert {lane._replace(learning_rate=0.1, reg=0.3) for lane in lanes} == {lanes[0]}
    assert lanes[0].rank == 3


def test_no_sweep_is_one_lane():
    assert built(*TINY, "hparams.reg=0.7").lanes == [Hparams(reg=0.7)]


@pytest.mark.parametrize(
    "overrides",
    [
        ("optimizer=momentum", "sweep.momentum=[0.5,0.9]"),
        ("method=descent", "missing=zero", "sweep.missing_weight=[0.5,1]"),
        ("bias=true", "sweep.reg_bias=[0,1]"),
        ("split.validation=3", "sweep.fold=${range:3}"),
        ("split=all", "hparams.fold=-2", "sweep.reg=[0,1]"),
    ],
    ids=" ".join,
)
def test_what_has_an_effect_may_be_swept(overrides):
    (values,) = axes(composed(*overrides)).values()
    assert len(built(*TINY, *overrides).lanes) == len(values)


# what is built


@pytest.mark.parametrize("name", METHODS)
def test_a_methods_own_keys_reach_it(monkeypatch, name):
    for key in keywords(METHODS[name]):
        seen = []
        function = METHODS[name]
        signature = inspect.signature(function)

        def watched(spec, *, seen=seen, key=key, function=function, **given):
            seen.append(given[key])
            return function(spec, **given)

        watched.__signature__ = signature
        monkeypatch.setitem(METHODS, name, watched)
        of_words = signature.parameters[key].annotation is str
        value = "user" if of_words else 7
        built(*TINY, f"method={name}", f"method.{key}={value}")
        monkeypatch.setitem(METHODS, name, function)
        assert set(seen) == {value}


def test_tiles_are_cut_as_the_config_says():
    spec = built(
        *TINY, "method=als", "kernel=xla", "tiles.width=16", "tiles.chunk=64", "tiles.group=8"
    ).sweep.plan.spec
    assert spec.tiling == Tiling(width=16, chunk=64, group=8)


def test_tiles_are_cut_as_suits_the_ratings_where_the_config_does_not_say():
    assert set(SCHEMA.tiles) == {"width", "chunk", "group"}
    assert not any(SCHEMA.tiles.values())
    assert built(*TINY).sweep.plan.spec.tiling == Tiling(width=8)  # of five ratings a row


def test_ratings_that_float32_rounds_are_trained_in_float64_and_tested_as_they_were_read(tmp_path):
    ratings = tmp_path / "ratings.csv"
    values = [100_000_001 + 2 * n for n in range(40)]
    rows = [f"{n // 8},{n % 8},{value}" for n, value in enumerate(values)]
    ratings.write_text("\n".join(["user,item,rating", *rows]))
    given = (f"data.path={ratings}", "replicates=1", "split.test=0.2")
    assert "take dtype=float64" in refusal(*given)
    (problem,) = built(*given, "dtype=float64").sweep.plan.problems.values()
    parts = (problem.ratings.value, problem.test.value)
    assert sorted(value for part in parts for value in part.tolist()) == values


def test_every_split_seed_has_its_own_split_and_all_of_them_all_the_ratings():
    experiment = built(*TINY, "split.test=0.2", "sweep.split_seed=${range:3}")
    problems = experiment.sweep.plan.problems
    assert list(problems) == [(0, 0), (1, 0), (2, 0)]
    tests = [of.test for of in problems.values()]
    tested = {frozenset(zip(of.user.tolist(), of.item.tolist(), strict=True)) for of in tests}
    assert len(tested) == 3
    assert {len(of.ratings.value) + len(of.test.value) for of in problems.values()} == {30}
    assert "split_seed 0, 1, 2" in experiment.protocol


@pytest.mark.parametrize(
    "clip, bounds",
    [("true", (1, 5)), ("false", (-math.inf, math.inf)), ("[0.5,6]", (0.5, 6))],
)
def test_predictions_are_clipped_to_the_ratings_own_range_or_to_what_is_said(clip, bounds):
    matrix = ("data=matrix", "data.rows=[[5,null,3],[4,2,1]]", "split=all")
    assert tuple(built(*matrix, f"clip={clip}").sweep.plan.problems[0, 0].bounds) == bounds


def test_a_clip_that_is_said_stands_among_the_conventions():
    conventions = built(*TINY, "clip=[0.5,5]").conventions
    assert json.dumps(conventions["clip"]) == "[0.5, 5]"
    assert "clip=[0.5,5]" in terminal.to_paste(conventions)


@pytest.mark.parametrize("clip", ["[5,0.5]", "[1]", "[1,2,3]", "2", "range", "[a,b]", "null"])
def test_a_clip_that_is_no_range_is_refused(clip):
    assert "clip: expected true, false or [lowest,highest]" in refusal(*TINY, f"clip={clip}")


# launchers


@pytest.mark.parametrize(
    "path", sorted((CONF / "hydra/launcher").glob("*.yaml")), ids=lambda path: path.stem
)
def test_launchers_of_clusters_compose(path: Path):
    given = OmegaConf.load(path)
    (base,) = given.defaults
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            override = f"hydra/launcher={path.stem}"
            launcher = compose("config", [override], return_hydra_config=True).hydra.launcher
    except HydraException as error:
        assert f"hydra/launcher/{base}" in str(error)
        pytest.skip(f"the launcher {base} is not installed")
    own = OmegaConf.masked_copy(given, [key for key in given if key != "defaults"])
    assert OmegaConf.merge(launcher, own) == launcher
    assert "_target_" in launcher
