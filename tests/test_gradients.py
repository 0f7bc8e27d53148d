"""Every variant in the table against `jax.grad`, what must not change a gradient, and `as_loss`."""

import itertools
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_objective import compiled, random_factors

from mfjax import GRADIENTS, Factors, Hparams, InputError, Spec, as_loss
from mfjax.checks.compare import relative_error
from mfjax.types import LOSS_SCALE, MISSING, REG_BY

SPEC = Spec(6, 5, max_rank=3, dtype="float64")
HPARAMS = Hparams.of("float64", reg=0.3, reg_bias=0.07, missing_weight=0.4, rank=2, fold=1)
LANES = [HPARAMS._replace(rank=np.int32(rank), fold=np.int32(fold)) for rank, fold in ((3, 0), (2, 1), (0, -2), (3, -2))]
# every pair of values of (missing, loss_scale, reg_by, bias): Latin squares, 9 programs for 54 combinations
SPECS = [
    replace(SPEC, missing=MISSING[i], loss_scale=LOSS_SCALE[j], reg_by=REG_BY[(i + j) % 3], bias=(i + 2 * j) % 3 > 0)
    for i, j in itertools.product(range(3), repeat=2)
]


def at(name, spec, ratings, hparams=HPARAMS, factors=None):
    gradient = compiled(name, spec)
    return gradient.value_and_grad(random_factors(spec) if factors is None else factors, gradient.prepare(ratings), hparams)


def assert_same(ours, theirs, tolerance):
    assert float(ours[0]) == pytest.approx(float(theirs[0]), rel=1e-12)
    for side, a, b in zip(Factors._fields, ours[1], theirs[1], strict=True):
        assert relative_error(np.asarray(a), np.asarray(b)) <= tolerance, side


def test_the_cases_cover_every_pair():
    fields = ("missing", "loss_scale", "reg_by", "bias")
    for a, b in itertools.combinations(fields, 2):
        values = [{getattr(spec, field) for spec in SPECS} for field in (a, b)]
        assert {(getattr(spec, a), getattr(spec, b)) for spec in SPECS} == set(itertools.product(*values))


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: f"{s.missing}-{s.loss_scale}-{s.reg_by}-{'bias' * s.bias or 'plain'}")
@pytest.mark.parametrize("name", GRADIENTS)
def test_every_variant_is_jax_grad(ratings, name, spec):
    for hparams in LANES:
        ours, oracle = (at(variant, spec, ratings, hparams) for variant in (name, "autodiff"))
        assert_same(ours, oracle, GRADIENTS[name](spec).tolerance)


@pytest.mark.parametrize("name", GRADIENTS)
def test_pinned_columns_have_no_gradient(ratings, name):
    spec = replace(SPEC, missing="zero", loss_scale="mean", reg_by="total")
    for hparams in LANES:
        for grad, biases in zip(at(name, spec, ratings, hparams)[1], ((True, False), (False, True)), strict=True):
            free = [c < hparams.rank for c in range(spec.max_rank)] + list(biases)
            assert np.any(np.asarray(grad) != 0, axis=0).tolist() == free, hparams  # exactly 0, not nearly


@pytest.mark.parametrize("name", GRADIENTS)
def test_weight_0_is_an_absent_row(ratings, name):
    spec, real = replace(SPEC, missing="item_mean"), ratings.weight > 0
    absent = type(ratings)(*(column[real] for column in ratings))
    extra = {"user": 3, "item": 2, "value": 99.0, "weight": 0.0, "fold": 2}  # at a missing entry, in a fold of its own
    between = type(ratings)(*(np.insert(column, 4, extra[k]) for k, column in ratings._asdict().items()))
    assert_same(at(name, spec, between), at(name, spec, absent), 1e-14)  # rounding: other shapes, other order of sums


@pytest.mark.parametrize("name", sorted(GRADIENTS.keys() - {"numerical"}))  # differences cancel: useless in float32
def test_float32_is_close_to_float64(ratings, name):
    to_float32 = lambda x: x.astype(np.float32) if x.dtype.kind == "f" else x  # noqa: E731
    narrow, factors, hparams = jax.tree.map(to_float32, (ratings, random_factors(SPEC), HPARAMS))
    loss, grad = at(name, replace(SPEC, dtype="float32"), narrow, hparams, factors)
    expected_loss, expected = at(name, SPEC, ratings)
    assert {loss.dtype, grad.user.dtype, grad.item.dtype} == {np.dtype("float32")}
    assert float(loss) == pytest.approx(float(expected_loss), rel=1e-5)  # 1e-7 an operation, tens of terms
    assert all(relative_error(np.asarray(a), np.asarray(b)) < 1e-5 for a, b in zip(grad, expected, strict=True))


def test_a_dense_gradient_that_does_not_fit_is_refused(ratings):
    with pytest.raises(InputError, match=r"(?s)1,000,000 x 1,000,000.*GB.*tiles"):
        GRADIENTS["matrix"](replace(SPEC, num_users=10**6, num_items=10**6)).prepare(ratings)


def test_three_settings_are_one_trace(ratings):
    traces = []

    def fresh():
        gradient = GRADIENTS["coo"](SPEC)

        def counted(factors, layout, hparams):
            traces.append(hparams)
            return gradient.value_and_grad(factors, layout, hparams)

        return jax.jit(counted), gradient.prepare(ratings)

    for cast, expected in ((partial(Hparams.of, "float64"), 1), (Hparams, 3)):
        function, layout = fresh()
        traces.clear()
        losses = {float(function(random_factors(SPEC), layout, cast(reg=reg))[0]) for reg in (0.5, 0, np.float32(1))}
        assert (len(traces), len(losses)) == (expected, 3)


# as_loss


@pytest.fixture
def loss(ratings):
    """Two functions of (factors, reg): the loss of a hand-derived gradient, and the dense loss."""
    spec = replace(SPEC, missing="zero", loss_scale="sum")
    gradient, oracle = GRADIENTS["coo"](spec), GRADIENTS["autodiff"](spec)
    ours, (layout, dense) = as_loss(gradient), jax.device_put((gradient.prepare(ratings), oracle.prepare(ratings)))
    return (
        lambda factors, reg=0.3: ours(factors, layout, HPARAMS._replace(reg=reg)),
        lambda factors, reg=0.3: oracle.value_and_grad(factors, dense, HPARAMS._replace(reg=reg))[0],
    )


def inside_another(f):
    def whole(factors):
        halves = jax.lax.fori_loop(0, 2, lambda i, x: x + f(jax.tree.map(lambda side: side / (i + 1), factors)), 0.0)
        return jnp.log(halves) + jax.vmap(lambda c: f(Factors(c * factors.user, factors.item)))(jnp.arange(2.0)).sum()

    return jax.grad(whole)


TRANSFORMS = {
    "grad": jax.grad,
    "jvp": lambda f: lambda x: jax.jvp(f, (x,), (random_factors(SPEC, 5),)),
    "hessian": jax.hessian,
    "grad of grad norm": lambda f: jax.grad(lambda x: optax.tree.norm(jax.grad(f)(x))),
    "vmap, loop, log": inside_another,
    "mixed derivative": lambda f: lambda x: jax.jvp(lambda reg: jax.grad(f)(x, reg), (0.3,), (1.0,)),
}


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_as_loss_differentiates_like_the_dense_loss(loss, transform):
    ours, theirs = (jax.jit(transform(f))(random_factors(SPEC)) for f in loss)
    scale = max(float(abs(leaf).max()) for leaf in jax.tree.leaves(theirs))
    assert scale > 0.1
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-10 * scale), ours, theirs)


def test_as_loss_works_with_lbfgs(loss):
    function, solver = loss[0], optax.lbfgs()
    both = optax.value_and_grad_from_state(function)

    def step(carry, _):
        factors, state = carry
        value, grad = both(factors, state=state)
        updates, state = solver.update(grad, state, factors, value=value, grad=grad, value_fn=function)
        return (optax.apply_updates(factors, updates), state), (value, optax.tree.norm(grad))

    start = random_factors(SPEC)
    _, (_, norms) = jax.jit(lambda x: jax.lax.scan(step, (x, solver.init(x)), length=60))(start)
    assert float(norms[-1]) < 1e-6 * float(norms[0])


UNKNOWN = {
    "reg": (0.3, lambda reg, layout: (layout, HPARAMS._replace(reg=reg))),
    "missing_weight": (0.4, lambda alpha, layout: (layout, HPARAMS._replace(missing_weight=alpha))),
    "value": (
        np.ones(19),
        lambda value, layout: (layout._replace(ratings=layout.ratings._replace(value=value)), HPARAMS),
    ),
    "weight": (
        np.ones(19),
        lambda weight, layout: (layout._replace(ratings=layout.ratings._replace(weight=weight)), HPARAMS),
    ),
}
WAYS = {
    "grad": lambda f, x: jax.grad(f)(x),
    "jit of grad": lambda f, x: jax.jit(jax.grad(f))(x),
    "grad of jit": lambda f, x: jax.grad(jax.jit(f))(x),
    "jvp": lambda f, x: jax.jvp(f, (x,), (jnp.ones_like(x),)),
    "hessian": lambda f, x: jax.hessian(f)(x),
    "vmap": lambda f, x: jax.vmap(jax.grad(f))(jnp.stack([x, x])),
    "scan": lambda f, x: jax.grad(lambda x: jax.lax.scan(lambda c, _: (c + f(x), None), 0.0, length=2)[0])(x),
    "checkpoint": lambda f, x: jax.grad(jax.checkpoint(f))(x),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("argument", UNKNOWN)
def test_as_loss_never_gives_a_derivative_it_does_not_know(ratings, argument, way):
    spec = replace(SPEC, missing="zero")
    gradient = GRADIENTS["coo"](spec)
    layout, (point, place) = gradient.prepare(ratings), UNKNOWN[argument]
    with pytest.raises(TypeError, match="autodiff, coo_autodiff"):
        way(lambda x: as_loss(gradient)(random_factors(spec), *place(x, layout)), point)


def test_autodiff_variants_do_know_them(ratings):
    def derivative(name):
        gradient = compiled(name, SPEC)
        layout = gradient.prepare(ratings)
        return jax.grad(lambda reg: gradient.value_and_grad(random_factors(SPEC), layout, HPARAMS._replace(reg=reg))[0])(0.3)

    dense, through_gathers = map(derivative, ("autodiff", "coo_autodiff"))
    assert float(dense) == pytest.approx(float(through_gathers), rel=1e-12)
    assert float(dense) > 1
