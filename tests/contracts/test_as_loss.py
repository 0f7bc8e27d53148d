"""`as_loss`: a scalar whose derivative is a gradient of the table, under every transformation."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import compiled

from mfjax import GRADIENTS, Factors, as_loss
from mfjax.testing import LANE, SPEC, random_factors


@pytest.fixture
def loss(ratings):
    """Two functions of (factors, reg): the loss of a hand-derived gradient, and the dense loss."""
    spec = replace(SPEC, missing="zero", loss_scale="sum")
    gradient = GRADIENTS["coo"](spec)
    oracle = GRADIENTS["autodiff"](spec)
    layout = jax.device_put(gradient.prepare(ratings))
    dense = jax.device_put(oracle.prepare(ratings))
    scalar = as_loss(gradient)

    def ours(factors, reg=0.3):
        return scalar(factors, layout, LANE._replace(reg=reg))

    def theirs(factors, reg=0.3):
        return oracle.value_and_grad(factors, dense, LANE._replace(reg=reg))[0]

    return ours, theirs


def inside_another(f):
    def whole(factors):
        def with_part(i, total):
            return total + f(jax.tree.map(lambda side: side / (i + 1), factors))

        def scaled(c):
            return f(Factors(c * factors.user, factors.item))

        halves = jax.lax.fori_loop(0, 2, with_part, 0.0)
        return jnp.log(halves) + jax.vmap(scaled)(jnp.arange(2.0)).sum()

    return jax.grad(whole)


def mixed_derivative(f):
    def of(x):
        return jax.jvp(lambda reg: jax.grad(f)(x, reg), (0.3,), (1.0,))

    return of


TRANSFORMS = {
    "grad": jax.grad,
    "jvp": lambda f: lambda x: jax.jvp(f, (x,), (random_factors(SPEC, 5),)),
    "hessian": jax.hessian,
    "grad of grad norm": lambda f: jax.grad(lambda x: optax.tree.norm(jax.grad(f)(x))),
    "vmap, loop, log": inside_another,
    "mixed derivative": mixed_derivative,
}


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_as_loss_differentiates_like_the_dense_loss(loss, transform):
    ours, theirs = (jax.jit(transform(f))(random_factors(SPEC)) for f in loss)
    scale = max(float(abs(leaf).max()) for leaf in jax.tree.leaves(theirs))
    assert scale > 0.1

    def same(a, b):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-10 * scale)

    jax.tree.map(same, ours, theirs)


def test_as_loss_works_with_lbfgs(loss):
    function, _ = loss
    solver = optax.lbfgs()
    both = optax.value_and_grad_from_state(function)

    def step(carry, _):
        factors, state = carry
        value, grad = both(factors, state=state)
        updates, state = solver.update(
            grad, state, factors, value=value, grad=grad, value_fn=function
        )
        return (optax.apply_updates(factors, updates), state), optax.tree.norm(grad)

    def run(start):
        return jax.lax.scan(step, (start, solver.init(start)), length=60)

    _, norms = jax.jit(run)(random_factors(SPEC))
    assert float(norms[-1]) < 1e-6 * float(norms[0])


def with_ratings(**columns):
    return lambda layout: layout._replace(ratings=layout.ratings._replace(**columns))


UNKNOWN = {
    "reg": (0.3, lambda reg, layout: (layout, LANE._replace(reg=reg))),
    "missing_weight": (0.4, lambda alpha, layout: (layout, LANE._replace(missing_weight=alpha))),
    "value": (np.ones(19), lambda value, layout: (with_ratings(value=value)(layout), LANE)),
    "weight": (np.ones(19), lambda weight, layout: (with_ratings(weight=weight)(layout), LANE)),
}


def grad_of_a_scan(f, x):
    def twice(x):
        return jax.lax.scan(lambda total, _: (total + f(x), None), 0.0, length=2)[0]

    return jax.grad(twice)(x)


WAYS = {
    "grad": lambda f, x: jax.grad(f)(x),
    "jit of grad": lambda f, x: jax.jit(jax.grad(f))(x),
    "grad of jit": lambda f, x: jax.grad(jax.jit(f))(x),
    "jvp": lambda f, x: jax.jvp(f, (x,), (jnp.ones_like(x),)),
    "hessian": lambda f, x: jax.hessian(f)(x),
    "vmap": lambda f, x: jax.vmap(jax.grad(f))(jnp.stack([x, x])),
    "scan": grad_of_a_scan,
    "checkpoint": lambda f, x: jax.grad(jax.checkpoint(f))(x),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("argument", UNKNOWN)
def test_as_loss_never_gives_a_derivative_it_does_not_know(ratings, argument, way):
    spec = replace(SPEC, missing="zero")
    gradient = GRADIENTS["coo"](spec)
    layout = gradient.prepare(ratings)
    point, place = UNKNOWN[argument]

    def scalar(x):
        return as_loss(gradient)(random_factors(spec), *place(x, layout))

    with pytest.raises(TypeError, match="autodiff, coo_autodiff"):
        way(scalar, point)


def test_autodiff_variants_do_know_them(ratings):
    def derivative(name):
        gradient = compiled(name, SPEC)
        layout = gradient.prepare(ratings)

        def scalar(reg):
            return gradient.value_and_grad(random_factors(SPEC), layout, LANE._replace(reg=reg))[0]

        return jax.grad(scalar)(0.3)

    dense, through_gathers = map(derivative, ("autodiff", "coo_autodiff"))
    assert float(dense) == pytest.approx(float(through_gathers), rel=1e-12)
    assert float(dense) > 1
