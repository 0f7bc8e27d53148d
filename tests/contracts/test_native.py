"""What holds of the compiled kernels beside their sums: in place, the same bits, errors by name."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import method_of
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from marks import often

from mfjax import GRADIENTS, KERNELS, Bounds, Hparams, InputError, Ratings, Spec, Tiling, optimizer
from mfjax.kernels.kernel import ITEM, USER
from mfjax.kernels.native import calls
from mfjax.kernels.native.library import Missing, library
from mfjax.kernels.native.visits import STRATA, STRATA_FROM
from mfjax.kernels.order import order
from mfjax.objective import lane_terms, pin
from mfjax.testing import random_factors

pytestmark = pytest.mark.skipif(
    isinstance(library(), Missing), reason="there are no compiled kernels here"
)
SPEC = Spec(200, 150, max_rank=18)
LARGER = Spec(500, 300, max_rank=18)
HPARAMS = Hparams.of(rank=18, fold=0, reg=0.1, reg_bias=0.05)
LAZY = optimizer("adam", lazy=True)


@pytest.fixture(scope="module")
def ratings():
    return random_ratings(SPEC, 6000)


@pytest.fixture(scope="module")
def many_ratings():
    return random_ratings(LARGER, STRATA_FROM)


def random_ratings(spec, count):
    rng = np.random.default_rng(5)
    place = rng.choice(spec.num_users * spec.num_items, count, replace=False)
    user, item = np.divmod(place, spec.num_items)
    return Ratings.of(user, item, rng.normal(3, 1, count), fold=rng.integers(-1, 2, count))


def assert_same(ours, theirs):
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def with_threads(threads):
    return replace(SPEC, tiling=Tiling(shards=threads))


def epoch_of(spec, ratings, opt=None, **own):
    """An epoch of the method, its state and its layout."""
    method = method_of("sgd", spec, kernel="native", opt=opt or optimizer("sgd"), **own)
    layout = jax.device_put(method.prepare(ratings))
    return method, method.init(jax.random.key(0), layout, HPARAMS), layout


@pytest.mark.parametrize("missing", often(["ignore", "zero"], one_of=2))
def test_any_number_of_threads_gives_the_same_bits(ratings, missing):
    def results(threads):
        spec = replace(with_threads(threads), missing=missing)
        kernel = KERNELS["native"](spec)
        layout = jax.device_put(kernel.prepare(ratings))
        lane = lane_terms(layout.sums, HPARAMS, spec)
        factors = pin(random_factors(spec), lane.columns)
        rows = [kernel.solve_rows(factors, side, layout, lane) for side in (USER, ITEM)]
        nearer = [
            kernel.approach_rows(factors, side, layout, lane, steps=2) for side in (USER, ITEM)
        ]
        told = kernel.errors(factors, jax.device_put(ratings), lane, Bounds(1, 5))
        return kernel.gradient(factors, layout, lane), rows, nearer, told

    alone = results(1)
    for _ in range(3):
        assert_same(results(3), alone)


def test_strata_give_the_same_bits_on_any_number_of_threads(many_ratings):
    def after(threads):
        spec = replace(LARGER, tiling=Tiling(shards=threads))
        method, state, layout = epoch_of(spec, many_ratings, batch_size=1)
        assert len(layout.block) == STRATA**2 + 1
        return jax.jit(method.step)(state, layout, HPARAMS, 1)

    alone = after(1)
    assert_same(after(2), alone)
    assert_same(after(3), alone)


def test_strata_visit_each_rating_once(many_ratings):
    still = HPARAMS._replace(learning_rate=np.float32(0))

    def loss(batch_size):
        method, state, layout = epoch_of(LARGER, many_ratings, batch_size=batch_size)
        return jax.jit(method.step)(state, layout, still, 1)[1].loss

    np.testing.assert_allclose(loss(1), loss(16), rtol=1e-6)


@pytest.mark.parametrize("opt, batch_size", [(None, 1), (None, 16), (LAZY, 16)])
def test_the_tables_are_moved_in_place(ratings, opt, batch_size):
    method, state, layout = epoch_of(SPEC, ratings, opt, batch_size=batch_size)

    def epochs(state, layout):
        def one(state, epoch):
            return method.step(state, layout, HPARAMS, epoch)[0], None

        return jax.lax.scan(one, state, jnp.arange(3))[0]

    program = jax.jit(epochs, donate_argnums=0).lower(state, layout).compile().as_text()
    tables = ("f32[200,20]", "f32[150,20]")
    copies = [line for line in program.splitlines() if " copy(" in line and "(f32[" not in line]
    assert not [line for line in copies if any(table in line for table in tables)]


def test_the_order_is_that_of_numpy():
    for n in (1, 2, 7, 100, 6000, 40_001):
        places = visited(n)
        np.testing.assert_array_equal(places, order(n, 3, 11, np))


def visited(n):
    """The order in which the kernel visits n ratings, which it writes beside its results."""
    spec = Spec(1, 1, max_rank=1, bias=False)
    _, _, layout = epoch_of(spec, Ratings.of(np.zeros(n), np.zeros(n), np.ones(n)), batch_size=1)
    lane = lane_terms(layout.sums, HPARAMS, spec)
    factors = jax.device_put(random_factors(spec))
    one = jnp.ones((), jnp.float32)
    block, *ratings, _ = layout
    *_, places = calls.pairs(
        factors,
        block,
        ratings,
        [one[None], one[None]],
        lane,
        rates=jnp.zeros(n, "float32"),
        split_seed=3,
        number=11,
        attributes=calls.attributes(spec, strata=1, slices=1, abreast=1),
    )
    return np.asarray(places)


def test_it_works_under_vmap_map_and_shard_map(ratings):
    gradient = GRADIENTS["native"](SPEC)
    layout = jax.device_put(gradient.prepare(ratings))
    factors = jax.device_put(random_factors(SPEC))
    scales = jnp.array([0.5, 1.0, 2.0], "float32")

    def of_scale(scale):
        return gradient.value_and_grad(jax.tree.map(lambda x: scale * x, factors), layout, HPARAMS)

    one_by_one = [jax.jit(of_scale)(scale) for scale in scales]
    stacked = jax.tree.map(lambda *each: jnp.stack(each), *one_by_one)
    assert_same(jax.jit(jax.vmap(of_scale))(scales), stacked)
    assert_same(jax.jit(partial(jax.lax.map, of_scale))(scales), stacked)
    mesh = Mesh(np.array(jax.devices()[:1]), ("lane",))
    mapped = jax.shard_map(
        partial(jax.lax.map, of_scale),
        mesh=mesh,
        in_specs=P("lane"),
        out_specs=P("lane"),
        check_vma=False,
    )
    assert_same(jax.jit(mapped)(scales), stacked)


WRONG = {
    "col of a row that is not there": (lambda rows: rows._replace(col=rows.col + 150), "col"),
    "start that falls": (lambda rows: rows._replace(start=rows.start[::-1]), "start"),
    "values of another length": (lambda rows: rows._replace(value=rows.value[1:]), "value"),
    "fold of another type": (lambda rows: rows._replace(fold=rows.fold.astype("f4")), "fold"),
    "chunks without the last rows": (lambda rows: rows._replace(chunk=rows.chunk[:-2]), "chunk"),
}


@pytest.mark.parametrize("wrong, named", WRONG.values(), ids=WRONG)
def test_wrong_operands_are_an_error_with_their_name(ratings, wrong, named):
    gradient = GRADIENTS["native"](SPEC)
    layout = gradient.prepare(ratings)
    layout = layout._replace(user=wrong(layout.user))
    with pytest.raises(jax.errors.JaxRuntimeError, match=named):
        jax.block_until_ready(
            jax.jit(gradient.value_and_grad)(random_factors(SPEC), layout, HPARAMS)
        )


def test_an_optimiser_that_it_does_not_know_is_refused_and_left_to_xla():
    from mfjax.kernels.choice import choice

    with pytest.raises(InputError, match="kernel=native knows plain sgd and lazy"):
        KERNELS["native"](SPEC).visitor(optimizer("adam"), 4)
    assert choice(optimizer=optimizer("adam")).name == "xla"
    assert choice(optimizer=LAZY).name == choice().name == "native"
