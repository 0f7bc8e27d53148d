"""A user's own functions in the place of rows: found, held to their contracts, known again."""

import sys

import pytest
from commands import QUIET, assert_refused, assert_succeeded, process, rows_of, strict_json
from configs import TINY, composed, refusal
from helpers import REPO
from marks import often

from mfjax import METHODS, SOURCES
from mfjax.app import adopted, own, schema
from mfjax.app.adopted import PLACES, OwnFunction, adopt_named_by, provenance_of
from mfjax.app.build import build, build_dataset, build_optimizer, method_in_values, variant_of
from mfjax.app.contracts import CONTRACTS, hold_to_contracts
from mfjax.app.identity import flat
from mfjax.app.ignored import refuse_idle
from mfjax.app.names import wrong_name
from mfjax.errors import InputError

MINE = """
import jax.numpy as jnp
import numpy as np
import optax
from helper import made as ratings

import mfjax
from mfjax import GRADIENTS, METHODS


def right(spec):
    return GRADIENTS["coo"](spec)


def doubled(spec):
    mine = right(spec)

    def value_and_grad(factors, layout, hparams):
        loss, grad = mine.value_and_grad(factors, layout, hparams)
        return loss, type(grad)(*(2 * side for side in grad))

    return mine._replace(value_and_grad=value_and_grad)


def bare(spec):
    mine = right(spec)
    return mine._replace(value_and_grad=lambda *at: mine.value_and_grad(*at)[1])


def failing(spec):
    def value_and_grad(factors, layout, hparams):
        return factors.user @ factors.user

    return right(spec)._replace(value_and_grad=value_and_grad)


def none(spec):
    pass


def only_ignore(spec):
    if spec.missing != "ignore":
        raise mfjax.InputError("missing=ignore alone")
    return right(spec)


def twice(spec, *, optimizer, times: int = 2):
    method = METHODS["sgd"](spec, optimizer=optimizer, batch_size=64)

    def step(state, layout, hparams, epoch):
        for _ in range(times):
            state, info = method.step(state, layout, hparams, epoch)
        return state, info

    return method._replace(step=step)


def backwards(spec, *, gradient, optimizer):
    method = METHODS["descent"](spec, gradient=gradient, optimizer=optimizer)

    def step(state, layout, hparams, epoch):
        after, info = method.step(state, layout, hparams, epoch)
        turned = [2 * a - b for a, b in zip(state.factors, after.factors)]
        return after._replace(factors=type(after.factors)(*turned)), info

    return method._replace(step=step)


def by_kernel(spec, *, kernel):
    return METHODS["als"](spec, kernel=kernel)


def cauchy(prediction, rating):
    return jnp.log1p((prediction - rating) ** 2) / 2


def of_two(prediction, rating):
    return jnp.stack([prediction, rating])


def whole(prediction, rating):
    return 1


def momentum(learning_rate, decay=0.5):
    return optax.chain(optax.trace(decay), optax.scale_by_learning_rate(learning_rate))


def rising(learning_rate):
    return optax.sgd(-learning_rate)


def twice_rated():
    return mfjax.from_ids("mine", [0, 0, 1], [0, 0, 1], [3, 4, 5])


def endless():
    return mfjax.from_ids("mine", [0, 0, 1], [0, 1, 1], [3, np.inf, 5])


def frame():
    return {"user": [0], "item": [0], "rating": [1]}


def broken():
    return 1 / 0


def halves(data, split_seed, *, share: float = 0.25):
    return mfjax.SPLITS["random"](data, split_seed, validation=share, test=share)


def leaving_none(data, split_seed):
    split = halves(data, split_seed)
    return mfjax.Split(np.zeros_like(split.fold), split.test, 1, 1, "leaving none")


def unseeded(data, split_seed):
    return halves(data, int(np.random.default_rng().integers(1000)))
"""
HELPER = """
import numpy as np

import mfjax


def made(*, size: int = 200, name: str | None = None):
    rng = np.random.default_rng(0)
    user, item = np.divmod(rng.permutation(40 * 30)[:size], 30)
    return mfjax.from_ids(name or "mine", user, item, rng.normal(3, 1, size))
"""


@pytest.fixture(autouse=True)
def mine(tmp_path, monkeypatch, forgotten):
    """The folder of the user's files."""
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "helper.py").write_text(HELPER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def asked(*overrides: str):
    """The config, as the command composes it."""
    if adopt_named_by(overrides):
        schema.register()
    cfg = composed(*overrides)
    refuse_idle(cfg, overrides)
    return cfg


def held(*overrides: str):
    cfg = asked(*overrides)
    hold_to_contracts(cfg)
    return cfg


# names


@pytest.mark.parametrize(
    "argument, message",
    [
        ("method=none.py:f", "method: no such file: none.py"),
        ("method=mine.py:twise", "mine.py has no function 'twise'; did you mean twice?"),
        ("gradient=mine.py:x", "has no function 'x'; it has right, doubled"),
        ("gradient=mine.py", "mine.py is a file; name the function in it: mine.py:FUNCTION"),
        ("loss=mine.py:couchy", "mine.py has no function 'couchy'; did you mean cauchy?"),
        ("optimizer=no_such.module.f", "optimizer: no module 'no_such' here"),
        ("data.name=no_such:f", "data: no module 'no_such' here"),
        ("split=nope", "a function of your own is split=file.py:function"),
    ],
)
def test_a_name_of_nothing_is_refused_before_anything_is_loaded(argument, message):
    assert message in wrong_name([argument])
    assert message in wrong_name(["-m", f"{argument},als"])


@pytest.mark.parametrize(
    "argument",
    [
        "method=mine.py:twice",
        "method=mine:twice",
        "data=mine.py:ratings",
        "split='mine.py:halves'",
        "optimizer=optax.contrib.prodigy",
        "optimizer.name=optax:adam",
        "gradient=sgd,mine.py:right",
        "data.path=some.csv:1",
        "method=${oc.env:METHOD}",
    ],
)
def test_a_name_of_something_passes(argument):
    assert wrong_name([argument]) is None or "sgd" in argument


def test_a_function_is_found_where_it_is_defined(mine):
    assert own.definition("mine.py:twice").file == mine / "mine.py"
    assert own.definition("mine:ratings").file == mine / "helper.py"
    assert own.definition("optax.contrib.prodigy").file.name == "_prodigy.py"
    assert own.definition("mfjax.methods.als").node.name == "als"
    assert own.definition("mfjax.checks.examples:draft_loss").file.is_relative_to(REPO)
    assert own.definition("numpy.add") is None or own.definition("numpy.add").node is None


def test_the_keys_of_a_function_are_read_in_its_source():
    parameters = own.signature("mine.py:ratings").parameters
    assert {key: one.annotation for key, one in parameters.items()} == {"size": int, "name": str}
    assert [one.default for one in parameters.values()] == [200, None]
    assert list(own.signature("mine.py:twice").parameters) == ["spec", "optimizer", "times"]


# rows


def test_a_function_is_a_row_whose_keys_are_keys_of_the_config():
    cfg = asked(*TINY, "method=mine.py:twice", "method.times=3")
    assert method_in_values(cfg)["times"] == 3
    assert build(cfg).lanes
    assert isinstance(METHODS["mine.py:twice"], OwnFunction)


@pytest.mark.parametrize(
    "overrides, message",
    [
        (("method=mine.py:twice", "method.tims=3"), "did you mean method.times"),
        (("method=mine.py:twice", "method.times=many"), "could not be converted to Integer"),
        (("method=mine.py:twice", "method.batch_size=3"), "method.batch_size has no effect with"),
        (
            ("method=mine.py:twice", "gradient=mine.py:right"),
            "gradient=mine.py:right has no effect",
        ),
        (("method=mine.py:twice", "tiles.width=16"), "tiles.width=16 has no effect with method="),
        (("method=mine.py:by_kernel", "optimizer=mine.py:momentum"), "has no effect with method="),
        (
            ("method=descent", "gradient=mine.py:right", "tiles.width=16"),
            "has no effect with gradient=",
        ),
    ],
)
def test_its_keys_are_checked_as_those_of_rows_are(overrides, message):
    assert message in refusal(*TINY, *overrides, until=asked)


def test_what_it_reads_may_be_set():
    asked(*TINY, "method=mine.py:by_kernel", "kernel=xla", "tiles.width=16")
    asked(*TINY, "method=descent", "gradient=mine.py:right", "optimizer=mine.py:momentum")


@pytest.mark.parametrize(
    "path", ["{}/mine.py:twice", "sub/other.py:twice", "../{0.name}/mine.py:twice"]
)
def test_a_group_takes_a_path(mine, path):
    (mine / "sub").mkdir()
    (mine / "sub" / "other.py").write_text(MINE)
    (mine / "sub" / "helper.py").write_text(HELPER)
    assert asked(*TINY, f"method={path.format(mine)}").method.name == path.format(mine)


def test_a_file_that_changes_is_another_row(mine):
    adopted.adopt("method.name", "mine.py:twice")
    before = METHODS["mine.py:twice"]
    assert not adopted.adopt("method.name", "mine.py:twice")
    assert METHODS["mine.py:twice"] is before
    (mine / "mine.py").write_text(MINE + "\n# changed\n")
    assert adopted.adopt("method.name", "mine.py:twice")
    assert METHODS["mine.py:twice"] is not before


def test_a_config_file_may_name_one():
    cfg = composed(*TINY)
    cfg.method.name = "mine.py:twice"
    schema_before = set(METHODS)
    variant = variant_of(cfg, {"method": {"times": 3}})
    assert set(METHODS) - schema_before == {"mine.py:twice"}
    assert build(variant).method["times"] == 3


def test_options_and_hyperparameters_reach_an_own_optimiser():
    cfg = asked(*TINY, "optimizer=mine.py:momentum", "+optimizer.options.decay=0.3")
    opt = build_optimizer(cfg)
    assert (opt.reads, opt.moves) == (("learning_rate",), "table")
    for more, message in (
        ("+optimizer.options.dcay=1", "mine.py:momentum has no dcay"),
        ("optimizer.reads=[]", "mine.py:momentum needs learning_rate"),
    ):
        assert message in refusal(*TINY, "optimizer=mine.py:momentum", more, until=asked)


# contracts


GOOD = {
    "method=descent gradient=mine.py:right": (),
    "method=descent gradient=mine.py:only_ignore": (),
    "method=mine.py:twice": pytest.mark.slow,
    "method=mine.py:by_kernel missing=zero bias=false": pytest.mark.slow,
    "optimizer=optax.contrib.prodigy": (),
    "loss=mine.py:cauchy": (),
    "split=mine.py:halves split.share=0.2": (),
}


@pytest.mark.parametrize("line", [pytest.param(line, marks=marks) for line, marks in GOOD.items()])
def test_what_keeps_its_contract_is_told_so_once(line, capsys):
    cfg = held(*TINY, *line.split(" "))
    assert " keeps its contract: " in capsys.readouterr().out
    hold_to_contracts(cfg)
    assert capsys.readouterr().out == ""


BAD = {
    "method=descent gradient=mine.py:doubled": "breaks its contract: is jax.grad: ignore, half,",
    "method=descent gradient=mine.py:bare": "expected a loss and Factors like those given",
    "method=descent gradient=mine.py:failing": "mine.py:32: failing raised TypeError",
    "method=descent gradient=mine.py:only_ignore missing=zero": "missing=ignore alone",
    "method=descent gradient=mine.py:none": "none returned a NoneType; expected a Gradient",
    "method=mine.py:backwards": "breaks its contract: lowers the objective",
    "optimizer=mine.py:rising": "breaks its contract: lowers the objective",
    "optimizer=mine.py:right": "right has no learning_rate",
    "loss=mine.py:of_two": "breaks its contract: it is a number\nexpected a scalar of scalars",
    "loss=mine.py:whole": "whole returned a int; expected a Array",
    "loss=mine.py:cauchy method=als": "needs loss=squared, got loss=mine.py:cauchy",
    "split=mine.py:leaving_none": "breaks its contract: each test fold and fold leaves some",
    "split=mine.py:unseeded": "the same seed cuts the same",
}


@pytest.mark.parametrize("line", often(BAD, one_of=2))
def test_what_breaks_its_contract_is_one_message(line):
    said = refusal(*TINY, *line.split(" "), until=held)
    assert BAD[line] in said
    assert len(said.splitlines()) <= 3


@pytest.mark.parametrize(
    "name, message",
    [
        ("twice_rated", "no pair is rated twice\nuser 0 rates item 0 twice"),
        ("endless", "ratings are finite\nrating 1 (counted from 0) is inf"),
        ("frame", "frame returned a dict; expected a Dataset"),
        ("broken", "broken raised ZeroDivisionError: division by zero"),
    ],
)
def test_ratings_are_held_to_their_contract_as_they_are_made(name, message):
    cfg = asked(f"data=mine.py:{name}")
    with pytest.raises(InputError) as refused:
        build_dataset(cfg)
    assert message in str(refused.value)


def test_ratings_of_ones_own():
    cfg = asked("data=mine.py:ratings", "data.size=100")
    assert len(build_dataset(cfg).value) == 100
    assert isinstance(SOURCES["mine.py:ratings"], OwnFunction)


def test_every_place_of_a_method_has_a_contract():
    held_as_made = {"data.name", "job.lane_data.name", "job.gradients"}
    assert set(CONTRACTS) == set(PLACES) - held_as_made


# knowing them again


def test_what_is_stored_of_a_function_is_its_name_its_file_and_its_digest(mine):
    variants = "+job.variants={one:{method:{name:'mine.py:twice'}}}"
    cfg = asked(*TINY, "job=compare", variants, "split=mine.py:halves")
    found = provenance_of(flat(cfg))
    assert {key: one["name"] for key, one in found.items()} == {
        "split.name": "mine.py:halves",
        "job.variants.one.method.name": "mine.py:twice",
    }
    assert {one["file"] for one in found.values()} == {str(mine / "mine.py")}
    before = flat(cfg)
    (mine / "mine.py").write_text(MINE + "\n# changed\n")
    differs = {key for key, value in flat(cfg).items() if before[key] != value}
    assert differs == {"split.name, sha256", "job.variants.one.method.name, sha256"}


def test_gradients_that_are_compared_and_candidates_are_stored_too():
    candidate = ("job.candidate.gradient=mine.py:right", "job.candidate.loss=mine.py:right")
    cfg = asked("job=gradients", "job.gradients=[coo,mine.py:doubled]", *candidate)
    assert set(provenance_of(flat(cfg))) == {
        "job.gradients.1",
        "job.candidate.gradient",
        "job.candidate.loss",
    }


# from end to end


@pytest.mark.slow
def test_a_run_of_ones_own_functions(mine):
    every = (
        *("data=mine.py:ratings", "split=mine.py:halves", "method=mine.py:twice"),
        *("optimizer=optax.contrib.prodigy", "epochs=3", QUIET[-1]),
    )
    assert_succeeded(process(mine, *every))
    results = strict_json(mine / "out" / "results.json")
    stored = results["provenance"]["own"]
    assert set(stored) == {"data.name", "split.name", "method.name", "optimizer.name"}
    assert results["method"]["name"] == "mine.py:twice"
    assert "finished already" in assert_succeeded(process(mine, *every, "resume=true")).stdout
    (mine / "mine.py").write_text(MINE + "\n# changed\n")
    assert_refused(process(mine, *every, "resume=true"), "is of another run")
    done = assert_succeeded(
        process(mine, "-m", *QUIET, "method=sgd,mine.py:twice", "hydra.sweep.dir=both")
    )
    assert "Best of 2 jobs, 0 of them failed" in done.stdout
    rows = rows_of(mine / "both" / "sweep.csv")
    assert [row["method"] for row in rows] == ["sgd", "mine.py:twice"]
    wrong = (*QUIET, "method=mine.py:backwards", "hydra.run.dir=wrong")
    assert_refused(process(mine, *wrong), "breaks its contract: lowers the objective")
