"""Every row of one side drawn given the other side, in XLA: normal equations from tiles.

`mfjax.kernels.kernel.Prior` states the distribution; with A and c its precision and the right side
of its mean, and A = L Lᵀ, a row is

    x = A⁻¹ c + √s L⁻ᵀ z                                                                         (1)
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mfjax.kernels.kernel import Prior
from mfjax.kernels.layout import Side, arranged
from mfjax.kernels.normal import Group, by_group, equations, in_pieces, normal_equations, rows_of
from mfjax.kernels.tiles import Table, View
from mfjax.objective import LaneTerms
from mfjax.types import Spec


class Shared(NamedTuple):
    """What all groups of a side have in common; `of_other` is by position."""

    free: Float[Array, " columns"]
    precision: Float[Array, "columns columns"]
    of_other: Float[Array, " positions"]
    lane: LaneTerms


class Own(NamedTuple):
    """What is a row's own."""

    linear: Float[Array, "n columns"]
    scale: Float[Array, " n"]
    noise: Float[Array, "n columns"]


def draw_rows(view: View, other: Side, prior: Prior, lane: LaneTerms, spec: Spec) -> Table:
    """The rows of one side, drawn given the other's; NaN where a precision has no factor."""
    own = Own(prior.linear, prior.scale, prior.noise)
    shared = Shared(
        free=view.columns.free,
        precision=prior.precision,
        of_other=arranged(prior.of_other, other),
        lane=lane,
    )
    return by_group(partial(_draw_group, spec=spec), view, rows_of(view, own), shared, spec)


def _draw_group(group: Group, shared: Shared, spec: Spec) -> Float[Array, "n columns"]:
    own: Own = group.rows.more
    free = shared.free
    is_real = group.rows.is_real
    scale = jnp.where(is_real, own.scale, 1)
    a, c = equations(normal_equations(group, shared.lane, spec, shared.of_other), spec)
    whole = a + scale[:, None, None] * shared.precision[None]
    both_free = free[:, None] * free[None]
    regular = whole * both_free[None] + jnp.diag(1 - free)[None]
    right = free[None] * (c + scale[:, None] * own.linear)
    noise = free[None] * jnp.sqrt(scale)[:, None] * own.noise
    return in_pieces(_drawn, regular, right, noise)


def _drawn(
    a: Float[Array, "*n columns columns"],
    right: Float[Array, "*n columns"],
    noise: Float[Array, "*n columns"],
) -> Float[Array, "*n columns"]:
    """Equation (1), of `noise` = √s z."""
    lower = jnp.linalg.cholesky(a)
    solve = partial(jax.scipy.linalg.solve_triangular, lower, lower=True)
    half = solve(right[..., None]) + noise[..., None]
    return solve(half, trans="T")[..., 0]
