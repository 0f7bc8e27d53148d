"""Draws of the distributions of `mfjax.methods.gibbs` that `jax.random` has not, or not fast."""

from typing import NamedTuple, TypeVar

import jax
import jax.flatten_util
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mfjax.types import AnyArray

T = TypeVar("T")


class Attempt(NamedTuple):
    """A rejection sampler on its way."""

    key: Array
    drawn: Float[Array, "*n"]
    is_drawn: Bool[Array, "*n"]


def gamma(key: Array, shape: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Gamma variates of rate 1, all at once: each round draws again those that were rejected.

    Source: Marsaglia and Tsang, "A Simple Method for Generating Gamma Variables", 2000, section 6.

    Args:
      key: scalar key.
      shape: `[*n]`, at least 1.

    Returns:
      `[*n]`, of mean `shape`.
    """
    d = shape - 1 / 3
    c = 1 / jnp.sqrt(9 * d)

    def attempt(before: Attempt) -> Attempt:
        key, normal_key, uniform_key = jax.random.split(before.key, 3)
        x = jax.random.normal(normal_key, shape.shape, shape.dtype)
        u = jax.random.uniform(uniform_key, shape.shape, shape.dtype)
        v = (1 + c * x) ** 3
        log_v = jnp.log(jnp.where(v > 0, v, 1))
        is_in = (v > 0) & (jnp.log(u) < x**2 / 2 + d * (1 - v + log_v))
        drawn = jnp.where(before.is_drawn, before.drawn, d * v)
        return Attempt(key, drawn, before.is_drawn | is_in)

    start = Attempt(key, jnp.zeros_like(shape), jnp.zeros(shape.shape, bool))
    return jax.lax.while_loop(lambda now: ~now.is_drawn.all(), attempt, start).drawn


def gammas(key: Array, shapes: T) -> T:
    """Gamma variates of rate 1 for a tree of shapes, in one loop: the shapes of a sweep are known.

    Args:
      key: scalar key.
      shapes: a pytree of arrays, each at least 1.

    Returns:
      The same tree of variates.
    """
    flat, back = jax.flatten_util.ravel_pytree(shapes)
    return back(gamma(key, flat))


def normals(
    key: Array, num_rows: int, free: Float[Array, " columns"]
) -> Float[Array, "rows columns"]:
    """Normal variates, of column c by `fold_in(key, c)`, and 0 in columns that are not free.

    A lane of lower rank than its program draws what it would draw alone.

    Args:
      key: scalar key.
      num_rows: how many rows.
      free: `[columns]`, 1 or 0.

    Returns:
      `[rows, columns]`.
    """

    def draw(column):
        return jax.random.normal(jax.random.fold_in(key, column), (num_rows,), free.dtype)

    return jax.vmap(draw)(jnp.arange(len(free))).T * free[None]


def rows_of_precision(
    normal: Float[Array, "rows columns"], lower: Float[Array, "columns columns"]
) -> Float[Array, "rows columns"]:
    """Rows of variance Λ⁻¹ from rows of variance 1.

    Args:
      normal: `[rows, columns]`, z.
      lower: `[columns, columns]`, L of Λ = L Lᵀ.

    Returns:
      `[rows, columns]`, L⁻ᵀ z.
    """
    unit = jnp.eye(len(lower), dtype=lower.dtype)
    inverse = jax.scipy.linalg.solve_triangular(lower, unit, lower=True)  # a product is faster
    return normal @ inverse


def bartlett_shapes(
    freedom: Float[AnyArray, ""], free: Float[Array, " columns"]
) -> Float[Array, " columns"]:
    """The shapes of the gamma variates that `wishart` wants.

    Args:
      freedom: scalar, degrees of freedom, at least the free columns and 1 more.
      free: `[columns]`, 1 or 0.

    Returns:
      `[columns]`, half of the degrees of freedom of each column, and 1 of one that is not free.
    """
    place = jnp.cumsum(free) - free  # among the free columns
    return jnp.where(free > 0, jnp.maximum((freedom - place) / 2, 1), 1).astype(free.dtype)


def wishart(
    key: Array,
    gammas: Float[Array, " columns"],
    inverse_scale: Float[Array, "columns columns"],
    free: Float[Array, " columns"],
) -> Float[Array, "columns columns"]:
    """A Wishart matrix of scale `inverse_scale`⁻¹, in the columns that are free.

    Source: the decomposition of Bartlett (1933), in Odell and Feiveson, "A Numerical Procedure to
    Generate a Sample Covariance Matrix", 1966.

    Args:
      key: scalar key.
      gammas: `[columns]`, of `bartlett_shapes`.
      inverse_scale: `[columns, columns]`, the unit matrix outside of the free columns.
      free: `[columns]`, 1 or 0.

    Returns:
      `[columns, columns]`, the unit matrix outside of the free columns.
    """
    below = jnp.tril(normals(key, len(free), free), -1) * free[:, None]
    diagonal = jnp.where(free > 0, jnp.sqrt(2 * gammas), 1)
    lower = jnp.linalg.cholesky(inverse_scale)
    bartlett = below + jnp.diag(diagonal)
    root = jax.scipy.linalg.solve_triangular(lower, bartlett, lower=True, trans="T")
    return root @ root.T
