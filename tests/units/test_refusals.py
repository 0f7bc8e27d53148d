"""What a config is refused for, and how: one short message that says what to write instead."""

import gzip
import itertools
import re

import pytest
from configs import TINY, composed, refusal
from marks import often

from mfjax import METHODS, SOURCES, SPLITS
from mfjax.app.ignored import refuse_idle
from mfjax.app.schema import CHOICES, RENAMED, keywords
from mfjax.errors import InputError

MOST_LINES = 6


def assert_says(said: str, message: str) -> None:
    assert message in said
    assert 1 <= len(said.splitlines()) <= MOST_LINES


# keys


UNKNOWN = {
    "+lr=3": "unknown key lr; python -m mfjax.run --cfg job shows every key",
    "epocks=3": "unknown key epocks; did you mean epochs",
    "+epoch=3": "unknown key epoch; did you mean epochs",
    "learning_rate=1": "did you mean hparams.learning_rate",
    "hparams.learningrate=1": "did you mean hparams.learning_rate",
    "+hparams.learning_rte=1": "did you mean hparams.learning_rate",
    "sweep.lr=[1]": "unknown key sweep.lr",
    "+sweep.learning_rte=[1]": "did you mean sweep.learning_rate",
    "data.pth=x": "did you mean data.path",
    "method.batch=3": "did you mean method.batch_size",
    "job=gradients +job.candidate.gradeint=a:b": "did you mean job.candidate.gradient",
    "plots.titel=false": "did you mean plots.title",
    "plots=false": "plots is a section; it is now plots.draw",
    "search=random": "search is a section: set one of its keys, search.name, search.samples, ",
    "seed=3": "did you mean hparams.init_seed or hparams.split_seed?",
    "job.repeats=3": "it is a key of job=gradients, scale, device",
    "+chunk=3": "it is now epochs_per_call",
    "exp=movielens": "write +exp=",
    "optimizer=nope": "adagrad, adam,",
    "+exp=nope": "gradients, ",
    "job=nope": "compare, device,",
    "method=nope": "als, als_cg, descent, gibbs, sgd",
    "epochs": "missing EQUAL",
    "sweep.reg=[0.1": "no viable alternative at input '[0.1'",
}


@pytest.mark.parametrize("line", often(UNKNOWN, one_of=2))
def test_what_is_no_key_or_file_is_refused_with_what_is(line):
    assert_says(refusal(*line.split(" "), until=composed), UNKNOWN[line])


@pytest.mark.parametrize("old", often(RENAMED, one_of=3))
def test_an_old_key_is_refused_with_its_new_name(old):
    value = "[1]" if old.startswith("sweep.") else "1"
    assert_says(refusal(f"{old}={value}", until=composed), f"it is now {RENAMED[old]}")


def test_what_stood_below_an_old_section_is_refused_with_its_new_place():
    said = refusal("check.candidate.gradient=a:b", until=composed)
    assert_says(said, "it is now job.candidate.gradient of job=gradients")


# types and values


@pytest.mark.parametrize(
    "override, message",
    [
        ("epochs=many", "'many' of type 'str' could not be converted to Integer"),
        ("bias=perhaps", "'perhaps'"),
        ("sweep.rank=[1.5]", "1.5"),
        ("sweep.reg=0.1", "expected a list, such as [0.05,0.1]"),
        ("sweep.fold=[a]", "'a'"),
    ],
)
def test_a_value_of_another_type_is_refused(override, message):
    assert_says(refusal(override, until=composed), message)


VALUES = {
    "epochs=0": "epochs: expected an integer from 1 to 100000000, got 0",
    "method.batch_size=-1": "method.batch_size: expected an integer from 1 to 16777216, got -1",
    "method=als_cg method.cg_steps=0": "method.cg_steps: expected an integer from 1 to 1000, got 0",
    "eval_every=0": "eval_every: expected an integer from 1",
    "patience=0": "patience: expected an integer from 1",
    "threads=0": "threads: expected an integer from 1 to 1024, got 0",
    "hparams.learning_rate=0": "rate: expected a positive number up to 1e+30",
    "hparams.learning_rate=nan": "rate: expected a positive number up to 1e+30, got nan",
    "hparams.learning_rate=inf": "rate: expected a positive number up to 1e+30, got inf",
    "hparams.reg=-0.1": "hparams.reg: expected 0 or a positive number up to 1e+30, got -0.1",
    "hparams.momentum=1": "hparams.momentum: expected a number from 0 up to, and not, 1, got 1",
    "hparams.rank=-1": "hparams.rank: expected an integer from 0 to 4096",
    "hparams.init_seed=-1": "hparams.init_seed: expected an integer from 0",
    "hparams.fold=-3": "hparams.fold: expected a fold's number",
    "sweep.reg=[0.1,-1]": "sweep.reg: expected 0 or a positive number up to 1e+30, got -1",
    "sweep.split_seed=[2147483648]": "sweep.split_seed: expected an integer from 0 to 2147483647",
    "sweep.reg=[]": "sweep.reg: expected at least one value, got an empty list",
    "tiles.width=12": "tiles.width: expected one of 8, 16, 32, 64, got 12",
    "tiles.group=12": "tiles.group: expected a multiple of 8, up to 1048576, got 12",
    "tiles.chunk=0": "tiles.chunk: expected an integer from 1",
    "job=gradients job.shares=[0.5,2]": "job.shares: expected a share above 0 and at most 1, got 2",
    "plots.format=[png,gif]": "plots.format: expected one of png, pdf, svg, got gif",
    "plots.size=[3,0]": "plots.size: expected a positive number of inches up to 100, got 0",
    "plots.size=[3]": "plots.size: expected [WIDTH,HEIGHT] in inches, got [3.0]",
    "missing=zeros": "missing: expected one of ignore, item_mean, zero, got 'zeros'",
    "loss=hubert": "loss: expected one of squared, huber, absolute, logistic, poisson, got",
    "loss_scale=double": "loss_scale: expected one of",
    "loss=huber hparams.huber_delta=0": "hparams.huber_delta: expected a positive number",
    "reg_by=column": "reg_by: expected one of",
    "dtype=float16": "dtype: expected one of float32, float64",
    "data.name=web": "data.name: expected one of",
    "split.name=by_user": "split.name: expected one of",
    "method.name=nope": "method.name: expected one of descent, sgd",
    "gradient=nope": "gradient: expected one of autodiff",
    "choose_by=ndcg": "choose_by: expected one of validation_rmse, validation_mae, validation_r2",
    "choose_by=test_rmse": "choose_by: expected one of validation_rmse",
    "matmul_precision=low": "matmul_precision: expected one of",
    "job=device job.lane_data.name=nope": "job.lane_data.name: expected one of",
    "job=device job.ranks=[-1]": "job.ranks: expected an integer from 0 to 4096, got -1",
    "job=scale job.ratings=[0,100]": "job.ratings: expected an integer from 1 to 2147483647, got 0",
    "job.name=gradients": "write job=gradients",
    "epochs=1000000000000": "epochs: expected an integer from 1 to 100000000, got 1000000000000",
    "hparams.learning_rate=1e39": "hparams.learning_rate: expected a positive number up to 1e+30",
    "devices=100000": "devices: expected an integer from 1 to 1024, got 100000",
    "plots.size=[3,1000]": "plots.size: expected a positive number of inches up to 100, got 1000",
    "distributed.process=-1": "distributed.process: expected an integer from 0",
    "sweep.split_seed=${range:2000000}": "expected at most 10000 values, got 2000000",
    "+expected.x=3": "expected.x: expected {value: …, within: …}, got 3",
    "+expected.x={value:[a],within:1}": "expected.x.value: ['a'] is not of numbers",
}


@pytest.mark.parametrize("line", often(VALUES, one_of=3))
def test_a_value_out_of_range_is_refused(line):
    assert_says(refusal(*line.split(" "), until=composed), VALUES[line])


# what would have no effect


TABLES = {"data": SOURCES, "split": SPLITS, "method": METHODS}
VALUES_OF = {"bool": "true", "str": "x", "list": "[1]"}  # and 1 of a number


def others_keys(section):
    """(section, a row of its table, a key that others take and it does not, a value of it).

    One key of every third row is tried often, another of the next; the others are slow tests.
    """
    table = TABLES[section]
    kinds = {key: kind for function in table.values() for key, kind in keywords(function).items()}
    for nth, (name, function) in enumerate(table.items()):
        others = sorted(kinds.keys() - keywords(function).keys())
        for key in others:
            kind = getattr(kinds[key], "__name__", str(kinds[key])).split(" ")[0]
            choices = CHOICES.get(f"{section}.{key}", [VALUES_OF.get(kind, "1")])
            is_often = nth % 3 == 0 and key == others[nth % len(others)]
            marks = () if is_often else pytest.mark.slow
            yield pytest.param(section, name, key, next(iter(choices)), marks=marks)


@pytest.mark.parametrize("section, name, key, value", [*itertools.chain(*map(others_keys, TABLES))])
def test_a_key_of_another_row_is_refused(section, name, key, value):
    data = () if section == "data" else TINY
    said = refusal(*data, f"{section}={name}", f"{section}.{key}={value}")
    assert_says(said, f"{section}.{key} has no effect with ")


IDLE_AXES = {  # what reads none of it, the axis, and the reason
    "sgd": ((), "momentum=[0.5,0.9]", "optimizer=sgd"),
    "adam": (("optimizer=adam",), "momentum=[0.5,0.9]", "optimizer=adam"),
    "lbfgs": (("method=descent", "optimizer=lbfgs"), "learning_rate=[0.1,0.2]", "optimizer=lbfgs"),
    "als": (("method=als",), "learning_rate=[0.1,0.3]", "method=als"),
    "als, momentum": (("method=als",), "momentum=[0.1,0.3]", "method=als"),
    "als_cg": (("method=als_cg",), "learning_rate=[0.1,0.3]", "method=als_cg"),
    "ignore": ((), "missing_weight=[0.5,1]", "missing=ignore"),
    "item_mean": (
        ("method=descent", "missing=item_mean"),
        "missing_weight=[0.5,1]",
        "missing=item_mean",
    ),
    "no bias": (("bias=false",), "reg_bias=[0,1]", "bias=false"),
    "loss": (("loss=huber",), "absolute_width=[0.1,1]", "loss=huber"),
}


@pytest.mark.parametrize("others, axis, reason", IDLE_AXES.values(), ids=IDLE_AXES)
def test_an_axis_that_nothing_reads_is_refused(others, axis, reason):
    said = refusal(*TINY, *others, f"sweep.{axis}")
    assert_says(said, f"sweep.{axis} has no effect with {reason}: all its lanes would be the same")


IDLE = {
    "method=als gradient=coo": "gradient=coo has no effect with method=als; leave it out",
    "gradient=coo": "gradient=coo has no effect with method=sgd",
    "matmul_precision=default": "matmul_precision=default has no effect on platform=cpu; leave it",
    "method=als optimizer=adam": "optimizer=adam has no effect with method=als",
    "method=als optimizer=sgd": "optimizer=sgd has no effect with method=als",
    "method=als optimizer.schedule=cosine": "optimizer.schedule=cosine has no effect with method=",
    "method=als hparams.learning_rate=0.02": "hparams.learning_rate=0.02 has no effect",
    "hparams.momentum=0.5": "hparams.momentum=0.5 has no effect with optimizer=sgd",
    "hparams.missing_weight=0.5": "has no effect with missing=ignore",
    "bias=false hparams.reg_bias=0.1": "has no effect with bias=false",
    "hparams.huber_delta=2": "hparams.huber_delta=2 has no effect with loss=squared",
    "loss=huber method=als": "needs loss=squared, got loss=huber; use method=sgd or descent",
    "loss=huber method=descent missing=zero": "missing=zero needs loss=squared, got loss=huber",
    "loss=huber kernel=native": "needs loss=squared, got loss=huber; use kernel=xla",
    "loss=huber method=descent gradient=native": "needs loss=squared, got loss=huber; use kernel=",
    "method=als method.batch_size=7": "method.batch_size has no effect with method=als;",
    "method.cg_steps=7": "method.cg_steps has no effect with method=sgd; it takes batch_size",
    "tiles.width=16": "tiles.width=16 has no effect with method=sgd",
    "method=descent gradient=coo tiles.chunk=64": "tiles.chunk=64 has no effect with gradient=coo",
    "method=descent optimizer=lazy_adam": (
        "optimizer.lazy=true, of optimizer=lazy_adam, has no effect with method=descent"
    ),
    "optimizer.lazy=true": "has no effect with optimizer=sgd, which moves no other rows",
    "optimizer.final=0.5": "optimizer.final=0.5 has no effect with optimizer.schedule=constant",
    "optimizer.schedule=exponential optimizer.final=0": (
        "optimizer.schedule=exponential has no effect with optimizer.final=0"
    ),
    "optimizer.schedule=linear optimizer.final=1": "has no effect with optimizer.final=1",
    "search.samples=7": "search.samples=7 has no effect with search.name=grid",
    "search.first=7": "search.first=7 has no effect without search.eta",
    "search.eta=2": "search.eta=2 has no effect with one setting alone",
    "split=all patience=3": "patience=3 has no effect with split.name=random, which holds",
    "hparams.fold=-2 refit=true": "refit=true has no effect with fold -2, which holds nothing out",
    "hparams.test_fold=1": "hparams.test_fold=1: split.name=random has 1 test fold(s)",
    "split=kfold hparams.test_fold=2": "sweep.test_fold=[2] takes it alone",
    "split=kfold sweep.test_fold=[0,9]": "sweep.test_fold=9: split.name=kfold has 5 test fold(s)",
    "split=time": "needs the times of the ratings",
    "split=files": "needs a file of test ratings",
    "method=als split=blocks split.validation=0 hparams.split_seed=3": "which draws nothing here",
    "hparams.rank=0 hparams.init_scale=1": "hparams.init_scale=1 has no effect with rank 0",
    "plots.draw=false plots.title=false": "plots.title=false has no effect with plots.draw=false",
    "distributed.process=1": "has no effect without distributed.enabled=true",
    "test=all": "test=all has no effect in a run of its own",
    "job=gradients epochs=3": "epochs=3 has no effect with job=gradients; leave it out",
    "job=gradients sweep.reg=[0.1,1]": "sweep.reg=[0.1,1] has no effect with job=gradients",
    "job=gradients job.candidate.step=1": "has no effect without job.candidate.gradient",
    "job=gradients job.gradients=[] job.repeats=3": "has no effect with job.gradients=[]",
    "job=gradients job.gradients=[coo] tiles.width=8": "has no effect with job.gradients=[coo]",
    "job=scale data.num_ratings=7": "has no effect with job.ratings, which takes its place",
    "job=device hparams.rank=7": "has no effect with job.ranks, which takes its place",
    "job=device method=als": "method=als has no effect with job=device",
    "job=compare resume=true": "resume=true has no effect with job=compare",
    "job=walkthrough refit=false": "refit=false has no effect with job=walkthrough",
}


@pytest.mark.parametrize("line", often(IDLE, one_of=3))
def test_what_has_no_effect_is_refused_with_the_reason(line):
    assert_says(refusal(*TINY[:-1], *line.split(" ")), IDLE[line])


def test_what_an_experiment_sets_and_the_command_line_makes_idle_is_no_mistake():
    for line in ("+exp=imputed method=als", "+exp=imputed job=gradients"):
        overrides = line.split(" ")
        refuse_idle(composed(*overrides), overrides)


def test_what_a_file_sets_beside_what_makes_it_idle_is_refused():
    cfg = composed("method=als", "optimizer=adam")
    with pytest.raises(
        InputError, match=r"optimizer.name=adam .*; leave it out, or optimizer.name=sgd"
    ):
        refuse_idle(cfg)


def test_an_experiments_axis_whose_lanes_would_be_copies_is_refused_with_the_way_out():
    said = refusal("+exp=movielens", "method=als")
    assert_says(said, "sweep.learning_rate=[0.005,0.01,0.02] has no effect with method=als")
    assert_says(said, "leave it out, or sweep=none")


@pytest.mark.parametrize(
    "given, message",
    [
        (
            "one:{method:{name:als},gradient:coo}",
            "job.variants.one: gradient=coo has no effect with",
        ),
        (
            "one:{method:{name:als}},two:{method:{name:als_cg}}",
            "hparams.learning_rate=1 has no effect",
        ),
        ("one:{method:{name:als}},two:{}", None),
    ],
)
def test_a_variant_reads_what_it_sets_and_one_of_them_what_all_share(given, message):
    overrides = ["job=compare", f"+job.variants={{{given}}}", "hparams.learning_rate=1"]
    cfg = composed(*TINY, *overrides)
    if message is None:
        refuse_idle(cfg, overrides)
        return
    with pytest.raises(InputError, match=re.escape(message)):
        refuse_idle(cfg, overrides)


def test_mfjaxs_launcher_has_its_own_lanes_a_program():
    cfg = composed(*TINY, "lanes_per_program=7")
    with pytest.raises(InputError, match=r"has its own: hydra\.launcher\.lanes_per_program"):
        refuse_idle(cfg, ["lanes_per_program=7"], launched=True)
    refuse_idle(cfg, ["lanes_per_program=7"])


# what cannot be


BUILT = {
    "data=file": ((), "data.name=file needs data.path; add data.path="),
    "data=matrix": ((), "data.name=matrix needs data.rows"),
    "data.num_users=0": (TINY, "data.num_users: expected an integer from 1 to 2147483647, got 0"),
    "data.rows=[[1,2],[3]]": (("data=matrix",), "data.rows: expected lists of one length"),
    "method=sgd": ((*TINY, "missing=zero"), "use method=descent"),
    "optimizer=lbfgs": (TINY, "use method=descent for a line search"),
    "optimizer.name=nope": (TINY, "optimizer.name: expected an optax optimiser"),
    "optimizer.name=contrib": (TINY, "optimizer.name: expected an optax optimiser"),
    "optimizer.schedule=nope": (TINY, "optimizer.schedule: expected one of constant"),
    "optimizer.reads=[]": (TINY, "optax.sgd needs learning_rate: name it in optimizer.reads"),
    "optimizer.reads=[reg]": (TINY, "optax.sgd has no reg\nit takes: learning_rate"),
    "+optimizer.options.beta=1": (TINY, "optax.sgd has no beta\nit takes: learning_rate"),
    "optimizer.schedule=cosine": (
        (*TINY, "method=descent", "optimizer=lbfgs"),
        "scales a learning rate",
    ),
    "optimizer.lazy=true": (
        (*TINY, "method=descent", "optimizer=lbfgs"),
        "optimizer.lazy=true needs an optimiser that treats",
    ),
    "sweep.fold=[0,1]": (TINY, "sweep.fold=1: split.name=random has 1 fold"),
    "sweep.fold=[0,9]": (
        (*TINY, "split.validation=5"),
        "sweep.fold=9: split.name=random has 5 fold",
    ),
    "hparams.fold=5": (
        (*TINY, "split.validation=5"),
        "hparams.fold=5: split.name=random has 5 fold",
    ),
    "split.test=1": (TINY, "split.test: expected a fraction"),
    "split.validation=2.5": (TINY, "split.validation: expected a fraction"),
    "init.user=[[1]]": (TINY, "init.user: expected 6 rows of 16 numbers, got shape (1, 1)"),
    "search.name=nope": (TINY, "search.name: expected one of grid, random, got 'nope'"),
}


@pytest.mark.parametrize("override", often(BUILT, one_of=2))
def test_build_refuses_what_cannot_be(override):
    others, message = BUILT[override]
    assert_says(refusal(*others, override), message)


BEFORE_DATA = {  # though the file is not there
    "split.folds=3": "split.folds has no effect with split.name=random",
    "data.num_users=3": "data.num_users has no effect with data.name=file",
    "optimizer.name=nope": "optimizer.name: expected an optax optimiser",
    "method=als sweep.learning_rate=[0.1,0.2]": "learning_rate=[0.1,0.2] has no effect with method",
    "method=als gradient=coo": "gradient=coo has no effect with method=als",
    "missing=zero": "use method=descent",
    "+expected.x=3": "expected.x: expected {value",
}


@pytest.mark.parametrize("line", BEFORE_DATA)
def test_what_can_be_refused_before_the_data_are_read_is(line):
    assert_says(refusal("data.path=no.csv", *line.split(" ")), BEFORE_DATA[line])


# files


FILES = {
    "fine.csv": b"user,item,rating\n1,2,3\n1,3,4\n2,2,4\n",
    "word.csv": b"user,item,rating\n1,2,3\n1,3,good\n",
    "nan.csv": b"user,item,rating\n1,2,3\n1,3,nan\n",
    "twice.csv": b"user,item,rating\n1,2,3\n2,2,3\n1,2,4\n",
    "gap.csv": b"user,item,rating\n1,2,3\n,3,4\n",
    "header.csv": b"user,item,rating\n",
    "empty.csv": b"",
    "cut.csv.gz": gzip.compress(b"1,2,3\n" * 1000)[:-12],
    "cut.parquet": b"PAR1 and no more",
    "latin.csv": "user,item,rating\né,2,3\n".encode("latin-1"),
}
WRONG_FILES = {
    "no.csv": "no.csv: file not found",
    ".": "is a directory",
    "bundled:ml-20m": "bundled: bundled:ml-latest-small",
    "cut.csv.gz": "truncated or corrupt gzip",
    "cut.parquet": "cannot be read as Parquet",
    "word.csv": "word.csv, line 3: the rating 'good' is not a number",
    "nan.csv": "nan.csv, line 3: the rating 'nan' is not",
    "gap.csv": "gap.csv, line 3: the user id is empty",
    "latin.csv": "latin.csv",
    "fine.csv data.columns=[user,item,stars]": "no column 'stars'",
    "fine.csv data.columns=[0,1,7]": "positions 0 to 2",
    "empty.csv": "empty.csv: empty file",
    "header.csv": "no ratings, only the names of columns",
    "twice.csv": "twice.csv, line 4: user '1' has rated item '2' before, on line 2",
    "fine.csv split.test=0": "split.validation: expected at least one rating",
}


@pytest.mark.parametrize("given", often(WRONG_FILES, one_of=3))
def test_a_wrong_file_is_refused(tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    for name, data in FILES.items():
        (tmp_path / name).write_bytes(data)
    assert_says(refusal(*f"data.path={given}".split(" ")), WRONG_FILES[given])
