"""Alternating least squares: each row at its exact minimum given the other side, or some conjugate-gradient steps nearer."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from mfjax.errors import InputError
from mfjax.kernels.normal import solve_rows
from mfjax.kernels.tiles import Tiles, error_sums, in_rows, prepare, tables
from mfjax.methods.initial import initial_factors
from mfjax.objective import Terms, everywhere, pinned, regulariser, terms
from mfjax.types import Factors, Gradient, Hparams, Info, Method, Optimizer, Ratings, Spec, State


def als(spec: Spec, gradient: Gradient | None, optimizer: Optimizer) -> Method:
    """One epoch solves every user's row given the items, and then every item's given the users, biases jointly.

    Derivation: L is quadratic in one row, and the rows of a side do not meet: ∂L/∂u_i = 0 is (A_i + ρ_i diag(reg)) u_i = c_i
    with A_i and c_i of equation (1) of `mfjax.kernels.normal`. Each half-step is the minimum of L over a whole side, so that L never
    rises, and s of `mfjax.objective` drops out. With `reg_by=count` this is ALS-WR (Zhou, Wilkinson, Schreiber and Pan,
    "Large-scale Parallel Collaborative Filtering for the Netflix Prize", 2008); with a background, the missing entries cost a
    Gram matrix a side (Hu, Koren and Volinsky, "Collaborative Filtering for Implicit Feedback Datasets", 2008).

    Time: O(ratings · k² + (users + items) · k³) an epoch. Neither `gradient` nor `optimizer` is used.
    """

    def sweep(factors: Factors, layout: Tiles, hparams: Hparams, t: Terms) -> tuple[Factors, Float[Array, ""]]:
        both = tables(factors, t, layout, spec)
        both = both._replace(user=solve_rows("user", both, layout, hparams, t, spec)[1])
        loss, item = solve_rows("item", both, layout, hparams, t, spec)
        after = Factors(in_rows(both.user, "user", layout, spec), in_rows(item, "item", layout, spec))
        after = pinned(after, t.columns)
        return after, t.scale * (loss + regulariser(after, t)[0])

    return _alternating(spec, sweep, check=_refuse_without_regulariser(spec))


def als_cg(spec: Spec, gradient: Gradient | None, optimizer: Optimizer) -> Method:
    """As `als`, with `cg_steps` steps of conjugate gradients from where each row is, in place of its exact solution.

    Derivation: ∂L/∂u_i is linear in u_i, with the matrix A_i + ρ_i diag(reg) of `als`; a product with it is the gradient of
    this side without ratings and background, so that no k × k matrix is formed (Takács, Pilászy and Tikk, "Applications of
    the Conjugate Gradient Method for Implicit Feedback Collaborative Filtering", 2011). L never rises here either.

    Time: O(cg_steps · (ratings · k + (users + items) · k²)) an epoch: less than `als` at large ranks.
    """

    def sweep(factors: Factors, layout: Tiles, hparams: Hparams, t: Terms) -> tuple[Factors, Float[Array, ""]]:
        factors, _ = _conjugate_gradients(factors, "user", layout, hparams, t, spec)
        factors, loss = _conjugate_gradients(factors, "item", layout, hparams, t, spec)
        return factors, t.scale * loss

    return _alternating(spec, sweep)


def _alternating(spec: Spec, sweep, **more) -> Method:
    """A method whose epoch is `sweep(factors, layout, hparams, terms) -> (factors, loss)`."""

    def init(key, layout: Tiles, hparams: Hparams, factors: Factors | None = None) -> State:
        t = terms(layout.margins, hparams, spec)
        return State(initial_factors(key, t, hparams, spec) if factors is None else pinned(factors, t.columns), ())

    def step(state: State, layout: Tiles, hparams: Hparams, order) -> tuple[State, Info]:
        after, loss = sweep(state.factors, layout, hparams, terms(layout.margins, hparams, spec))
        change = jax.tree.map(jnp.subtract, after, state.factors)
        return State(after, ()), Info(loss, optax.tree.norm(change))

    order = lambda num_ratings, data_seed, epoch: None  # noqa: E731
    return Method(lambda ratings: prepare(ratings, spec), init, step, order, takes=(), **more)


def _conjugate_gradients(factors: Factors, name: str, layout: Tiles, hparams: Hparams, t: Terms, spec: Spec):
    """The factors with one side moved towards its minimum, and L (without s) there. All rows take their steps together."""

    def gradient(rows, t: Terms, of_values: bool):
        at = factors._replace(**{name: rows})
        loss, sums = error_sums(name, tables(at, t, layout, spec), layout, hparams, t, spec, of_values)
        rest, grad = everywhere(at, t, spec)
        columns = getattr(t.columns, name)
        return loss + rest, (getattr(grad, name) + in_rows(sums, name, layout, spec)) * columns.free[None]

    def product(direction):
        return gradient(direction, t._replace(background=jnp.zeros_like(t.background)), of_values=False)[1]

    def dot(a, b):
        return (a * b).sum(1, keepdims=True)

    def step(carry, _):
        rows, residual, direction = carry
        image = product(direction)
        length = _ratio(dot(residual, residual), dot(direction, image))
        after = residual - length * image
        turn = _ratio(dot(after, after), dot(residual, residual))
        return (rows + length * direction, after, after + turn * direction), None

    start = getattr(factors, name)
    residual = -gradient(start, t, of_values=True)[1]
    (rows, _, _), _ = jax.lax.scan(step, (start, residual, residual), length=spec.cg_steps)
    factors = factors._replace(**{name: rows})
    return factors, gradient(rows, t, of_values=True)[0]


def _ratio(a, b):
    """a / b, and 0 where b is 0: a row at its minimum stays there."""
    return jnp.where(b > 0, a / jnp.where(b > 0, b, 1), 0)


def _refuse_without_regulariser(spec: Spec):
    """What `als` cannot solve: a row with fewer ratings than columns, if nothing else determines it."""

    def check(ratings: Ratings, hparams: Hparams) -> None:
        if hparams.reg > 0 or hparams.rank == 0 or spec.missing != "ignore":
            return
        columns = int(hparams.rank) + spec.bias
        trained = (ratings.weight > 0) & ~((ratings.fold >= 0) & (ratings.fold == hparams.fold))
        for name, row in (("user", ratings.user), ("item", ratings.item)):
            count = np.bincount(row[trained])
            few = np.flatnonzero((count > 0) & (count < columns))
            if len(few):
                raise InputError(
                    f"method=als with reg=0: {name} {few[0]} (counted from 0) has {count[few[0]]} training rating(s) and "
                    f"{columns} free columns, so that many rows fit them equally well; {len(few):,} {name}s are like it\n"
                    "set hparams.reg above 0, or a lower hparams.rank"
                )

    return check
