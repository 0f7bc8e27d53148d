"""The compiled kernels as functions of arrays, for use inside `jax.jit`.

Their operands are checked again on the other side: what has another shape, dtype or range is an
error of XLA's with the name of the operand, and is not read.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mfjax.kernels.kernel import ITEM, USER, Loss, Prior
from mfjax.kernels.native.layout import Compressed
from mfjax.objective import LaneTerms
from mfjax.types import AnyArray, Bounds, ErrorSums, Factors, Info, Ratings, Spec

LINE = 64  # bytes of a cache line
KNOWN = (16, 32, 64, 128)  # columns of float32 that the kernels are compiled for


def gradient(
    factors: Factors, layout: Compressed, lane: LaneTerms, spec: Spec
) -> tuple[Loss, Factors]:
    """L and its gradient, but for the missing entries' part over all entries.

    Args:
      factors: what stands in a pinned column is not read.
      layout: the ratings.
      lane: the constants of L.
      spec: the conventions.

    Returns:
      s times the loss of the ratings and of the regulariser, and its gradient.
    """
    user, item = factors
    rooms = (_room(user, spec), _room(item, spec))
    call = _call("mfjax_gradient", (_scalar(user), _like(user), _like(item), *rooms))
    loss, *grad = call(
        *factors,
        *layout.user,
        *layout.item,
        *lane.row_reg,
        *lane.columns.user,
        *lane.columns.item,
        lane.background,
        *_lane(lane),
        **attributes(spec),
    )
    return loss, Factors(*grad[:2])


def loss(factors: Factors, layout: Compressed, lane: LaneTerms, spec: Spec) -> Loss:
    """The loss of the ratings, less what `mfjax.objective.off_ratings` says there; without s."""
    side = USER if spec.num_users >= spec.num_items else ITEM  # the shorter table is laid out
    call = _call("mfjax_loss", (_scalar(factors.user), _room(factors[1 - side], spec)))
    found, _ = call(*_side(factors, side, layout, lane), **attributes(spec, is_item=side))
    return found


def solve(
    factors: Factors, side: int, layout: Compressed, lane: LaneTerms, spec: Spec
) -> Float[Array, "rows columns"]:
    """The rows of one side at their minimum.

    Args:
      factors: of the lane; the other side's are pinned.
      side: 0, users, or 1, items.
      layout: the ratings.
      lane: the constants of L.
      spec: the conventions.

    Returns:
      The rows, with their pins.
    """
    call = _call("mfjax_solve", (_like(factors[side]), _room(factors[1 - side], spec)))
    found, _ = call(
        *_side(factors, side, layout, lane),
        *_missing(factors, side, lane, spec),
        **attributes(spec, is_item=side),
    )
    return found


def approach(
    factors: Factors, side: int, layout: Compressed, lane: LaneTerms, steps: int, spec: Spec
) -> tuple[Float[Array, "rows columns"], Loss]:
    """The rows of one side nearer to their minimum, by conjugate gradients.

    Args:
      factors: of the lane; the other side's are pinned.
      side: 0, users, or 1, items.
      layout: the ratings.
      lane: the constants of L.
      steps: of conjugate gradients.
      spec: the conventions.

    Returns:
      The rows, with their pins, and `loss` before, less what the steps take off L, without s: with
      `off_ratings` before, L of these rows.
    """
    room = _room(factors[1 - side], spec)
    call = _call("mfjax_approach", (_like(factors[side]), _scalar(factors[side]), room))
    found, loss, _ = call(
        *_side(factors, side, layout, lane),
        *_missing(factors, side, lane, spec),
        **attributes(spec, is_item=side, steps=steps),
    )
    return found, loss


def draw(
    factors: Factors,
    side: int,
    layout: Compressed,
    lane: LaneTerms,
    prior: Prior,
    spec: Spec,
) -> Float[Array, "rows columns"]:
    """The rows of one side, drawn given the other's.

    Args:
      factors: of the lane; the other side's are pinned.
      side: 0, users, or 1, items.
      layout: the ratings.
      lane: of which the fold and the centre are read.
      prior: what they are drawn given beside their ratings.
      spec: the conventions.

    Returns:
      The rows, with their pins.
    """
    call = _call("mfjax_draw", (_like(factors[side]), _room(factors[1 - side], spec)))
    found, _ = call(*_side(factors, side, layout, lane), *prior, **attributes(spec, is_item=side))
    return found


def sums(
    rows: Float[Array, "others columns"],
    side: int,
    layout: Compressed,
    lane: LaneTerms,
    spec: Spec,
) -> Float[Array, "rows columns"]:
    """What rows of the other side sum to over the ratings of each row, times their weights.

    Args:
      rows: of the other side.
      side: 0, users, or 1, items.
      layout: the ratings, of which values are not read.
      lane: whose held-out ratings are left out.
      spec: of which the threads are read.

    Returns:
      A row a row of the side.
    """
    start, *_ = layout[side]
    found = jax.ShapeDtypeStruct((len(start) - 1, rows.shape[1]), rows.dtype)
    call = _call("mfjax_sums", found)
    fold = jnp.asarray(lane.fold, jnp.int32)
    return call(rows, *layout[side], fold, threads=np.int64(spec.tiling.shards))


def errors(
    factors: Factors,
    ratings: Ratings,
    lane: LaneTerms,
    bounds: Bounds,
    spec: Spec,
) -> tuple[ErrorSums, ErrorSums]:
    """The sums of a lane's errors on its training ratings and on those that it holds out.

    Args:
      factors: of the lane, pinned.
      ratings: of its problem.
      lane: the constants of L.
      bounds: to which predictions are clipped.
      spec: of which the rank and the threads are read.

    Returns:
      Those of training, and those of validation.
    """
    dtype = factors.user.dtype
    call = _call("mfjax_errors", jax.ShapeDtypeStruct((2, len(ErrorSums._fields)), dtype))
    sums = call(
        *factors,
        ratings.user,
        ratings.item,
        ratings.value,
        ratings.weight,
        ratings.fold,
        jnp.asarray(lane.fold, jnp.int32),
        jnp.stack([jnp.asarray(scalar, dtype) for scalar in (lane.centre, *bounds)]),
        **attributes(spec),
    )
    return ErrorSums(*sums[0]), ErrorSums(*sums[1])


def batches(
    factors: Factors,
    moments: Sequence[Factors],
    ratings: Sequence[Array],
    shares: Sequence[Array],
    lane: LaneTerms,
    *,
    rates: Float[Array, " rates"],
    options: Float[Array, " options"],
    updates: Int[AnyArray, ""],
    split_seed: Int[AnyArray, ""] | int,
    number: Int[AnyArray, ""] | int,
    attributes: dict[str, np.int64],
) -> tuple[Factors, list[Factors], Info]:
    """An epoch of stochastic gradient descent in batches.

    Args:
      factors: pinned; moved in place.
      moments: tables of their shapes, as many as the rule has; moved in place.
      ratings: those of `mfjax.kernels.native.visits.Visited`, without the blocks and the sums.
      shares: of users and of items, by place.
      lane: the constants of L.
      rates: the learning rate of each batch, or one for all.
      options: of the rule.
      updates: batches before this epoch.
      split_seed, number: of the order, the latter the epochs before this one.
      attributes: those of `attributes`, with batch_size, rule and moments.

    Returns:
      The factors and the moments after it, and its Info.
    """
    tables = [*factors, *(side for moment in moments for side in moment)]
    scalars = (updates, split_seed, number)
    operands = [
        *factors,
        *ratings,
        *lane.row_reg,
        *shares,
        *lane.columns.user,
        *lane.columns.item,
        *_lane(lane),
        rates,
        options,
        *(jnp.asarray(scalar, jnp.int32) for scalar in scalars),
    ]
    first = len(operands)  # of the moments
    user, item, *of_moments = map(_like, tables)
    sums = jax.ShapeDtypeStruct((2,), factors.user.dtype)
    is_apart = not moments  # the biases, from the columns that a visit moves
    columns = int(attributes["rank"]) if is_apart else factors.user.shape[1]
    wide = _on_whole_lines(columns, factors.user.dtype)
    rooms = [jax.ShapeDtypeStruct((len(table), wide), table.dtype) for table in tables]
    call = _call(
        "mfjax_epoch",
        (user, item, sums, *of_moments, _order(ratings), *rooms),
        input_output_aliases={0: 0, 1: 1, **{first + i: 3 + i for i in range(len(of_moments))}},
    )
    user, item, (loss, squares), *rest = call(*operands, *tables[2:], **attributes)
    moved = rest[: len(of_moments)]
    pairs = zip(moved[::2], moved[1::2], strict=True)
    info = Info(loss, jnp.sqrt(squares))
    return Factors(user, item), [Factors(*pair) for pair in pairs], info


def pairs(
    factors: Factors,
    block: Int[Array, " bounds"],
    ratings: Sequence[Array],
    shares: Sequence[Array],
    lane: LaneTerms,
    *,
    rates: Float[Array, " rates"],
    split_seed: Int[AnyArray, ""] | int,
    number: Int[AnyArray, ""] | int,
    attributes: dict[str, np.int64],
) -> tuple[Factors, Info, Int[Array, " n"]]:
    """An epoch of plain stochastic gradient descent one pair at a time.

    Under `vmap` lanes of the same ratings and the same order go side by side, to the same bits.

    Args:
      factors: pinned; moved in place.
      block: of `mfjax.kernels.native.visits.Visited`.
      ratings: of the same, without the blocks and the sums.
      shares: of users and of items.
      lane: the constants of L.
      rates: the learning rate of each visit, or one for all.
      split_seed, number: of the order, the latter the epochs before this one; below 0: the lane
        stays as it is.
      attributes: those of `attributes`, with strata, slices and abreast, the most lanes to go side
        by side.

    Returns:
      The factors after it, its Info, and the order in which it visited the ratings, of each block
      its own places.
    """
    user, item = factors
    of_lane = (
        user,
        item,
        lane.row_reg.user,
        shares[0],
        lane.row_reg.item,
        shares[1],
        *lane.columns.user,
        *lane.columns.item,
        *_lane(lane),
        rates,
        *(jnp.asarray(scalar, jnp.int32) for scalar in (split_seed, number)),
    )
    epoch = jax.custom_batching.custom_vmap(partial(_pairs, lanes=0, attributes=attributes))
    epoch.def_vmap(partial(_pairs_under_vmap, attributes=attributes))
    user, item, (loss, squares), visits = epoch((block, *ratings), of_lane)
    return Factors(user, item), Info(loss, jnp.sqrt(squares)), visits


def _pairs_under_vmap(
    size: int, is_batched: Any, data: Sequence[Array], of_lane: Sequence[Array], **options: Any
) -> tuple[list[Array], list[bool]]:
    """The rule of `vmap`: lanes of other ratings than each other's follow one another."""
    data_is, lane_is = is_batched

    def each(arrays: Sequence[Array], are: Sequence[bool]) -> list[Array]:
        whole = zip(arrays, are, strict=True)
        return [
            a if is_of_lane else jnp.broadcast_to(a, (size, *a.shape)) for a, is_of_lane in whole
        ]

    lanes = each(of_lane, lane_is)
    if not any(data_is):
        return _pairs(data, lanes, size, **options), [True, True, True, False]
    one = partial(_pairs, lanes=0, **options)
    return jax.lax.map(lambda both: one(*both), (each(data, data_is), lanes)), [True] * 4


def _pairs(
    data: Sequence[Array], operands: Sequence[Array], lanes: int, attributes: dict[str, np.int64]
) -> list[Array]:
    """Both tables, their loss and squared change, and the order.

    The operands, and what comes of them but the order, are of so many lanes, `[lanes, …]`; of one,
    without that axis, where `lanes` is 0. (A table to which XLA adds an axis is copied.)
    """
    user, item, *rest = operands
    abreast = min(int(attributes["abreast"]), 1 << max(lanes - 1, 0).bit_length())
    rooms = [_rooms(table, int(attributes["rank"]), abreast) for table in (user, item)]
    sums = jax.ShapeDtypeStruct((*user.shape[:-2], 2), user.dtype)
    call = _call(
        "mfjax_pairs",
        (_like(user), _like(item), sums, _order(data[1:]), *rooms),
        input_output_aliases={0: 0, 1: 1},
    )
    attributes = attributes | {"lanes": np.int64(lanes), "abreast": np.int64(abreast)}
    *results, _, _ = call(user, item, *data, *rest, **attributes)
    return results


def _rooms(tables: Array, columns: int, abreast: int) -> jax.ShapeDtypeStruct:
    """`Abreast` of `src/abreast.h`: latent columns on whole cache lines, biases and shares."""
    rows = tables.shape[-2]
    numbers = rows * abreast * (_on_whole_lines(columns, tables.dtype) + 2)
    return jax.ShapeDtypeStruct((numbers,), tables.dtype)


def _order(ratings: Sequence[Array]) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(ratings[0].shape, jnp.int32)


def _call(name: str, results: Any, **options: Any) -> Callable:
    return jax.ffi.ffi_call(name, results, vmap_method="sequential", **options)


def _like(rows: Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(rows.shape, rows.dtype)


def _on_whole_lines(columns: int, dtype: np.dtype) -> int:
    """`on_whole_lines` of `src/latent.h`."""
    if dtype == np.float32 and columns <= KNOWN[-1]:
        return next(known for known in KNOWN if columns <= known)
    of_line = LINE // dtype.itemsize
    return max(-(-columns // of_line), 1) * of_line


def _room(rows: Array, spec: Spec) -> jax.ShapeDtypeStruct:
    """`Latent` of `src/operands.h`: latent columns on whole cache lines, then biases."""
    wide = _on_whole_lines(spec.max_rank, rows.dtype)
    return jax.ShapeDtypeStruct((rows.shape[0] * (wide + 1),), rows.dtype)


def _scalar(rows: Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((), rows.dtype)


def attributes(spec: Spec, **more: int) -> dict[str, np.int64]:
    """The static operands of a call, as XLA takes them."""
    values = {
        "threads": spec.tiling.shards,
        "rank": spec.max_rank,
        "missing": spec.missing != "ignore",
        **more,
    }
    return {name: np.int64(value) for name, value in values.items()}


def _lane(lane: LaneTerms) -> tuple[Array, Array]:
    """The scalars of a lane, in the order of `src/operands.h`."""
    scalars = [lane.centre, lane.alpha, lane.gram_alpha, lane.scale]
    return jnp.asarray(lane.fold, jnp.int32), jnp.stack(jnp.broadcast_arrays(*scalars))


def _side(factors: Factors, side: int, layout: Compressed, lane: LaneTerms) -> list[Array]:
    """What `OneSide` of `src/handlers.cpp` reads."""
    return [
        factors[side],
        factors[1 - side],
        *layout[side],
        lane.row_reg[side],
        *lane.columns[side],
        *lane.columns[1 - side],
        lane.background,
        *_lane(lane),
    ]


def _missing(
    factors: Factors, side: int, lane: LaneTerms, spec: Spec
) -> tuple[Array, Array, Array]:
    """`Missing` of `src/operands.h`: sums over all rows of the other side, times α."""
    other = factors[1 - side]
    nothing = jnp.zeros_like(other[0])
    if spec.missing == "ignore":
        return nothing[:, None] * nothing[None], nothing, nothing
    alpha = lane.gram_alpha
    # b is an item's: of items as the own side it multiplies the sum, of the others their rows
    target = lane.background @ other if side == USER else nothing
    return alpha * (other.T @ other), alpha * target, alpha * other.sum(0)
