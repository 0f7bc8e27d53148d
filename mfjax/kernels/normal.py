r"""Every row of one side at its exact minimum, given the other side: normal equations from tiles, and their solutions.

In row i the objective is ½ Σ_j w_ij (x·φ_j − y_ij)² + ½ Σ_c λ_c x_c², with x = [u_i | b_i], φ_j = [v_j | 1] (with biases; else
x = u_i, φ_j = v_j), y_ij = r_ij − c_j − μ and λ_c = ρ_i reg_c. Its minimum solves

    (A_i + diag λ) x = c_i        A_i = Σ_{j ∈ Ω_i} w_ij φ_j φ_jᵀ        c_i = Σ_{j ∈ Ω_i} w_ij y_ij φ_j                    (1)

Missing entries add α Σ_j φ_j φ_jᵀ and α Σ_j (b_ij − c_j) φ_j over *all* rows j of the other side, and each rating takes off
what they say of it: w becomes w − α, and w y becomes w y − α (b − c). With Φ the rows √w φ of a row's n ratings, and t the
numbers √w y, the same x is

    x = D Φᵀ (Φ D Φᵀ + I)⁻¹ t        D = diag 1/λ                                                                        (2)

(derived from (1) by the push-through identity), n × n instead of k × k: for the many rows with few ratings. The residuals are
then (Φ D Φᵀ + I)⁻¹ t.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mfjax.kernels.tiles import (
    ROWS,
    Side,
    Table,
    Tiles,
    arranged,
    bias_column,
    by_shard,
    gathered,
    own_and_other,
    tiles_a_step,
    tiles_of,
    wide,
)
from mfjax.objective import Terms, train_weight
from mfjax.types import Factors, Hparams, Spec


class Normal(NamedTuple):
    """Sums over the ratings of n rows: A and c of equation (1) in their latent and bias parts, and Σ w y²."""

    gram: Float[Array, "*n latent latent"]
    pair: Float[Array, "*n latent 2"]  # Σ w v and Σ w y v
    scalar: Float[Array, "*n 3"]  # Σ w, Σ w y and Σ w y²


class Ridge(NamedTuple):
    """`free` (0 or 1) and λ of the columns of x: `[columns]`, and `[n, columns]`."""

    free: Float[Array, " columns"]
    reg: Float[Array, "*n columns"]


def solve_rows(
    name: str, both: Factors, layout: Tiles, hparams: Hparams, terms: Terms, spec: Spec
) -> tuple[Float[Array, ""], Table]:
    """The rows of one side at their minimum, and what their ratings and missing entries then cost (without s).

    `both` are the `tables`. A λ of 0 has 1e-6 of the mean of A's diagonal added to it.
    """
    side, own, other = own_and_other(name, both, layout)
    columns = getattr(terms.columns, name)
    kept = np.array([*range(spec.max_rank), *([bias_column(name, spec)] if spec.bias else [])], int)
    free, reg = (x[kept] for x in (columns.free, columns.reg))
    row_reg = arranged(getattr(terms.row_reg, name), side)
    real = side.row < len(side.position)
    missing = _missing(other, spec.num_users + spec.num_items - len(side.position))
    is_small = spec.missing == "ignore" and 2 * spec.tiling.width <= len(kept)

    def of_shard(side: Side, rows: tuple, other: Table, missing: Normal, free, reg, hparams: Hparams, terms: Terms):
        def of_group(group):
            own, row_reg, real = jax.tree.map(lambda x: x.reshape(-1, spec.tiling.group, *x.shape[1:])[group], rows)
            ridge = Ridge(free, row_reg[:, None] * reg[None])

            def by_columns():
                normal = _normal_equations(side, own, other, group, hparams, terms, spec)
                if spec.missing != "ignore":
                    normal = _with_missing(normal, missing, own.background, terms.alpha)
                return _minimum(normal, ridge, spec)

            def by_ratings():
                return _minimum_of_few(side, other, group, ridge, hparams, terms, spec)

            strips = spec.tiling.group // ROWS
            tiles = jax.lax.dynamic_slice_in_dim(side.first, group * strips, strips + 1)
            few = is_small & (jnp.diff(tiles).max() <= 1) & jnp.all((reg > 0) | (free == 0))
            x, loss = jax.lax.cond(few, by_ratings, by_columns) if is_small else by_columns()
            return jnp.where(real[:, None], x, 0), jnp.where(real, loss, 0).sum()

        x, loss = jax.lax.map(of_group, jnp.arange(len(rows[1]) // spec.tiling.group))
        x = x.reshape(-1, x.shape[-1])
        latent = wide(x[:, : spec.max_rank])
        bias = x[:, spec.max_rank] if spec.bias else jnp.zeros_like(x[:, 0])
        return loss.sum()[None], Table(latent, bias, rows[0].background)

    of_side, shared = (side, (own, row_reg, real), other), (missing, free, reg, hparams, terms)
    loss, solved = by_shard(of_shard, spec.tiling, of_side, shared)
    return loss.sum(), solved


def _ratings(side: Side, other: Table, first_tile, num_tiles: int, last_tile, hparams: Hparams, terms: Terms, spec: Spec):
    """The strips of some tiles, and of their rows `[n, width]`: positions of the other side, training weights (0 from
    `last_tile` on) and y."""
    strip, *ratings = (jax.lax.dynamic_slice_in_dim(x, first_tile, num_tiles) for x in tiles_of(side))
    col, value, weight, fold = (x.reshape(-1, x.shape[-1]) for x in ratings)
    inside = first_tile + jnp.arange(num_tiles) < last_tile
    weight = jnp.where(jnp.repeat(inside, ROWS)[:, None], train_weight(weight, fold, hparams), 0)
    target = value - terms.centre - (other.bias[col] if spec.bias else 0)
    return jnp.where(inside, strip, 0), col, weight, target


def _normal_equations(side: Side, own: Table, other: Table, group, hparams: Hparams, terms: Terms, spec: Spec) -> Normal:
    """Equation (1) of one group of rows, in as many steps as its tiles need."""
    strips, step, latent = spec.tiling.group // ROWS, tiles_a_step(spec.tiling), other.latent.shape[1]
    begin, end = side.first[group * strips], side.first[(group + 1) * strips]
    background = own.background.reshape(-1, ROWS)

    def add(nth, sums: Normal) -> Normal:
        strip, col, weight, target = _ratings(side, other, begin + nth * step, step, end, hparams, terms, spec)
        to = jnp.maximum(strip - group * strips, 0)
        near = gathered(other.latent, col, (weight > 0).astype(weight.dtype))
        of = [weight, weight * target, weight * target**2]
        if spec.missing != "ignore":
            alpha = jnp.where(weight > 0, terms.alpha, 0)
            b = background[to].reshape(-1, 1) + other.background[col] - other.bias[col]
            of = [x - alpha * b**power for power, x in enumerate(of)]
        parts = Normal(
            jnp.einsum("nwc,nwd->ncd", near * of[0][..., None], near),
            jnp.stack([jnp.einsum("nwc,nw->nc", near, x) for x in of[:2]], -1),
            jnp.stack(of, -1).sum(1),
        )
        into = lambda total, part: total.at[to].add(part.reshape(step, ROWS, *part.shape[1:]), mode="promise_in_bounds")  # noqa: E731
        return jax.tree.map(into, sums, parts)

    zeros = Normal(*(jnp.zeros((strips, ROWS, *shape), other.latent.dtype) for shape in ((latent, latent), (latent, 2), (3,))))
    sums = jax.lax.fori_loop(0, -(-(end - begin) // step), add, zeros)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), sums)


def _missing(other: Table, num_others: int) -> Normal:
    """The sums of equation (1) over all rows of the other side, with b_j − c_j for y."""
    target = other.background - other.bias
    pair = jnp.stack([other.latent.sum(0), other.latent.T @ target], -1)
    return Normal(
        other.latent.T @ other.latent, pair, jnp.stack([jnp.full_like(target[0], num_others), target.sum(), (target**2).sum()])
    )


def _with_missing(normal: Normal, missing: Normal, own: Float[Array, " n"], alpha) -> Normal:
    """The normal equations with α times those of the missing entries; `own` is what b takes from these rows."""
    (total, right), (count, sum_target, square) = (jnp.moveaxis(x, -1, 0) for x in (missing.pair, missing.scalar))
    rights = right[None] + own[:, None] * total[None]
    pair = jnp.stack([jnp.broadcast_to(total[None], rights.shape), rights], -1)
    scalars = jnp.full_like(own, count), sum_target + own * count, square + 2 * own * sum_target + count * own**2
    return Normal(
        normal.gram + alpha * missing.gram[None], normal.pair + alpha * pair, normal.scalar + alpha * jnp.stack(scalars, -1)
    )


def _minimum(normal: Normal, ridge: Ridge, spec: Spec) -> tuple[Float[Array, "n columns"], Float[Array, " n"]]:
    """x of equation (1), and ½ Σ w (x·φ − y)² there."""
    rank, (free, reg) = spec.max_rank, ridge
    a, c = normal.gram[:, :rank, :rank], normal.pair[:, :rank, 1]
    if spec.bias:
        edge = normal.pair[:, :rank, :1]
        a = jnp.concatenate([jnp.concatenate([a, edge], 2), jnp.concatenate([edge.mT, normal.scalar[:, None, :1]], 2)], 1)
        c = jnp.concatenate([c, normal.scalar[:, 1:2]], 1)
    size = (jnp.einsum("ncc->nc", a) * free[None]).sum(1, keepdims=True) / jnp.maximum(free.sum(), 1)
    ridges = free[None] * (jnp.where(reg > 0, reg, 1e-6 * size) + _TINY) + (1 - free)[None]
    regular = a * (free[:, None] * free[None])[None] + ridges[..., None] * jnp.eye(len(free), dtype=a.dtype)[None]
    x = jax.lax.platform_dependent(regular, free[None] * c, cpu=_solved_in_pieces, default=_solved)
    return x, jnp.einsum("nc,ncd,nd->n", x, a, x) / 2 - (c * x).sum(1) + normal.scalar[:, 2] / 2


_TINY = 1e-30  # keeps a row of zeros regular


def _minimum_of_few(side: Side, other: Table, group, ridge: Ridge, hparams: Hparams, terms: Terms, spec: Spec):
    """x of equation (2), and ½ Σ w (x·φ − y)² there, of a group whose strips have one tile each, or none, which come last."""
    strips, rank = spec.tiling.group // ROWS, spec.max_rank
    begin, end = side.first[group * strips], side.first[(group + 1) * strips]
    _, col, weight, target = _ratings(side, other, begin, strips, end, hparams, terms, spec)
    root = jnp.sqrt(weight)
    near = gathered(other.latent, col, (weight > 0).astype(weight.dtype))[..., :rank] * root[..., None]
    scale = ridge.free[None] / jnp.where(ridge.reg > 0, ridge.reg, 1)
    inner = jnp.einsum("nwc,nvc->nwv", near * scale[:, None, :rank], near)
    if spec.bias:
        inner += scale[:, rank, None, None] * root[:, :, None] * root[:, None]
    inner += jnp.eye(inner.shape[-1], dtype=inner.dtype)[None]
    residual = jax.lax.platform_dependent(inner, root * target, cpu=_solved_in_pieces, default=_solved)
    x = jnp.einsum("nwc,nw->nc", near, residual)
    if spec.bias:
        x = jnp.concatenate([x, (root * residual).sum(1, keepdims=True)], 1)
    return scale * x, (residual**2).sum(1) / 2


def _solved(a: Float[Array, "*n columns columns"], right: Float[Array, "*n columns"]) -> Float[Array, "*n columns"]:
    return jax.scipy.linalg.cho_solve((jnp.linalg.cholesky(a), True), right[..., None])[..., 0]


def _solved_in_pieces(a: Float[Array, "n columns columns"], right: Float[Array, "n columns"]) -> Float[Array, "n columns"]:
    """As `_solved`, so few rows at a time that jaxlib does not hand them to XLA's threads.

    It does so from 200,000 FLOPs a call and waits on a thread of the same pool: two CPU devices that do so at once wait for
    each other for ever (jaxlib 0.10.2).
    """
    rows = 1 << max((200_000 // a.shape[-1] ** 3).bit_length() - 1, 0)
    if rows >= len(a):
        return _solved(a, right)
    return jax.lax.map(lambda row: _solved(*row), (a, right), batch_size=rows)
