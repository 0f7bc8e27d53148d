"""Ratings whose factors are known: planted, the dense toy, and a matrix written out.

Their random numbers come from `default_rng([seed, STREAM])`.
"""

from collections.abc import Iterator, Sized
from numbers import Real
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64
from numpy.random import Generator, default_rng

from mfjax.data.dataset import Dataset, digest_of_arrays
from mfjax.errors import InputError

MEAN = 3.0
LOWEST = 0.5
HIGHEST = 5.0
STREAM = 2


class Pairs(NamedTuple):
    """Different (user, item) pairs of a matrix of `shape`, (users, items)."""

    shape: tuple[int, int]
    user: Int64[np.ndarray, " n"]
    item: Int64[np.ndarray, " n"]


def synthetic(
    *,
    num_users: int = 500,
    num_items: int = 300,
    num_ratings: int = 20_000,
    rank: int = 8,
    bias_scale: float = 0.5,
    noise: float = 0.3,
    popularity: float = 1.0,
    half_stars: bool = False,
    seed: int = 0,
) -> Dataset:
    """Ratings 3 + b_i + c_j + u_i·v_j + noise, in random order, with popular items and busy users.

    The number of ratings of the r-th most popular item is proportional to r**-popularity, but at
    most the number of users; an item's users are drawn without replacement, the r-th busiest in
    proportion to r**(-min(popularity, 1)/2). Users and items without a rating keep their ids, so
    that the shape is as asked.

    Args:
      num_users, num_items: the shape of the matrix.
      num_ratings: the number of different (user, item) pairs.
      rank: columns of the planted factors, normal, with u_i·v_j of standard deviation 1; 0: biases
        only.
      bias_scale, noise: standard deviations of the biases and of the noise, in rating units.
      popularity: the exponent; 0: uniform.
      half_stars: round to 0.5, 1.0, ..., 5.0.
      seed: same arguments, same bits.

    Returns:
      The ratings in random order; their factors and biases are not kept.

    Raises:
      InputError: a size or a scale is out of range.
    """
    _check_at_least(1, num_users=num_users, num_items=num_items, num_ratings=num_ratings)
    _check_at_least(0, rank=rank, bias_scale=bias_scale, noise=noise)
    _check_at_least(0, popularity=popularity, seed=seed)
    _check_room(num_ratings, num_users * num_items)
    rng = default_rng([seed, STREAM])
    pairs = _popular_pairs(rng, (num_users, num_items), num_ratings, popularity)
    value = MEAN + noise * rng.standard_normal(num_ratings)
    for term in _planted(rng, pairs, rank, bias_scale):
        value += term
    if half_stars:
        rounded = np.round(2 * value) / 2
        value = np.clip(rounded, LOWEST, HIGHEST)
    return _dataset("synthetic", pairs, value)


def toy(
    *,
    num_users: int = 30,
    num_items: int = 20,
    rank: int = 2,
    noise: float = 0.0,
    observed: float = 1.0,
    seed: int = 0,
) -> Dataset:
    """The textbook D = C F, C [users, rank] and F [rank, items] uniform in [0, 1), row by row.

    Args:
      num_users, num_items, rank: the shapes.
      noise: standard deviation of normal noise.
      observed: the fraction of entries that are ratings, in (0, 1]; chosen at random, such that no
        row and no column is empty if there are enough of them.
      seed: same arguments, same bits.

    Returns:
      The observed entries, user by user.

    Raises:
      InputError: a size, `noise` or `observed` is out of range.
    """
    _check_at_least(1, num_users=num_users, num_items=num_items, rank=rank)
    _check_at_least(0, noise=noise, seed=seed)
    if not 0 < observed <= 1:
        raise InputError(f"observed: expected a fraction above 0 and up to 1, got {observed}")
    rng = default_rng([seed, STREAM])
    user_factors = rng.random((num_users, rank))
    item_factors = rng.random((rank, num_items))
    dense = user_factors @ item_factors
    dense += noise * rng.standard_normal(dense.shape)
    num_ratings = max(1, round(observed * dense.size))
    cells = _covering_cells(rng, dense.shape, num_ratings)
    return _of_cells("toy", dense, cells)


def matrix(*, rows: list) -> Dataset:
    """The matrix written out: `rows[user][item]` is a rating, or missing.

    Args:
      rows: the matrix, a list a user; None (`null` in a config) or nan where an entry is missing.

    Returns:
      The entries that are there, user by user.

    Raises:
      InputError: rows of different lengths, an entry that is no finite number, or no rating at all.
    """
    lengths = [len(row) if isinstance(row, Sized) else None for row in rows]
    if len(set(lengths)) != 1 or None in lengths:
        raise InputError(
            f"rows: expected lists of one length, one a user; got lengths {lengths[:10]}"
        )
    entries = [[_entry(i, j, entry) for j, entry in enumerate(row)] for i, row in enumerate(rows)]
    dense = np.array(entries)
    cells = np.flatnonzero(~np.isnan(dense))
    if not len(cells):
        raise InputError("rows: expected at least one rating, got missing entries only")
    return _of_cells("matrix", dense, cells)


def _entry(i: int, j: int, entry: object) -> float:
    """The number of an entry, and nan where it is missing."""
    if entry is None:
        return np.nan
    if not isinstance(entry, Real) or np.isinf(float(entry)):
        raise InputError(
            f"rows[{i}][{j}]: expected a finite number, or null for a missing entry; got {entry!r}"
        )
    return float(entry)


def _check_at_least(least: int, **arguments: float) -> None:
    for name, value in arguments.items():
        if not least <= value < np.inf:
            raise InputError(f"{name}: expected {least} or more, got {value}")


def _check_room(num_ratings: int, most: int) -> None:
    if num_ratings > most:
        raise InputError(
            f"num_ratings: expected at most num_users * num_items = {most}, got {num_ratings}"
        )


def _of_cells(
    name: str, dense: Float64[np.ndarray, "users items"], cells: Int64[np.ndarray, " n"]
) -> Dataset:
    """The ratings that stand in some cells (user * num_items + item) of a matrix."""
    user, item = np.divmod(cells, dense.shape[1])
    pairs = Pairs(dense.shape, user, item)
    return _dataset(name, pairs, dense[user, item])


def _dataset(name: str, pairs: Pairs, value: Float64[np.ndarray, " n"]) -> Dataset:
    """Ratings of pairs; the ids are the numbers."""
    num_users, num_items = pairs.shape
    user = pairs.user.astype(np.int32)
    item = pairs.item.astype(np.int32)
    return Dataset(
        name=name,
        user=user,
        item=item,
        value=value,
        user_ids=np.arange(num_users),
        item_ids=np.arange(num_items),
        sha256=digest_of_arrays(np.array(pairs.shape), user, item, value),
    )


# which cells of the toy are ratings


def _covering_cells(
    rng: Generator, shape: tuple[int, int], count: int
) -> Int64[np.ndarray, " count"]:
    """`count` cells (user * num_items + item), ascending.

    The first to be chosen are those of a set that meets every row and column.
    """
    num_users, num_items = shape
    step = np.arange(max(num_users, num_items))
    user = rng.permutation(num_users)[step % num_users]
    item = rng.permutation(num_items)[step % num_items]
    cover = user * num_items + item
    rest = np.setdiff1d(np.arange(num_users * num_items), cover)
    others = rng.permutation(rest)
    cells = np.concatenate([rng.permutation(cover), others])
    return np.sort(cells[:count])


# what is planted, and who rates what


def _planted(
    rng: Generator, pairs: Pairs, rank: int, bias_scale: float
) -> Iterator[Float64[np.ndarray, " n"]]:
    """b_i, c_j and the terms of u_i·v_j of each pair: n numbers at a time, not n x rank."""
    num_users, num_items = pairs.shape
    yield (bias_scale * rng.standard_normal(num_users))[pairs.user]
    yield (bias_scale * rng.standard_normal(num_items))[pairs.item]
    scale = max(rank, 1) ** -0.25
    for _ in range(rank):
        u = scale * rng.standard_normal(num_users)
        v = scale * rng.standard_normal(num_items)
        yield u[pairs.user] * v[pairs.item]


def _popular_pairs(
    rng: Generator, shape: tuple[int, int], num_ratings: int, popularity: float
) -> Pairs:
    """Different pairs in random order.

    An item with many users ranks all of them; the others draw users until each has enough different
    ones, which is quick because at most a quarter of the users is taken.
    """
    num_users, num_items = shape
    item_weight = _power_law(rng, num_items, popularity)
    count = _item_counts(item_weight, num_ratings, num_users)
    user_weight = _power_law(rng, num_users, min(popularity, 1) / 2)
    many = count > num_users // 4
    keys = []
    for j in np.flatnonzero(many):
        ranked = _ranked(rng, user_weight, int(count[j]))
        keys.append(j * num_users + ranked)
    of_others = np.where(many, 0, count)
    keys.append(_drawn(rng, user_weight, of_others))
    shuffled = rng.permutation(np.concatenate(keys))
    item, user = np.divmod(shuffled, num_users)
    return Pairs(shape, user, item)


def _power_law(rng: Generator, n: int, exponent: float) -> Float64[np.ndarray, " n"]:
    return rng.permutation(np.arange(1.0, n + 1) ** -exponent)


def _item_counts(
    weight: Float64[np.ndarray, " items"], total: int, most: int
) -> Int64[np.ndarray, " items"]:
    """Whole numbers that sum to `total`, proportional to weight as far as none exceeds `most`."""
    share = _shares(weight, total, most)
    count = np.floor(share).astype(np.int64)
    by_remainder = np.lexsort((count - share, count == most))
    count[by_remainder[: total - count.sum()]] += 1
    return count


def _shares(
    weight: Float64[np.ndarray, " items"], total: int, most: int
) -> Float64[np.ndarray, " items"]:
    """The counts before they are rounded."""
    full = np.zeros(len(weight), bool)
    while True:
        left = total - most * full.sum()
        rest = weight[~full].sum()
        proportional = weight * left / rest if rest else float(most)
        share = np.where(full, most, proportional)
        if not (share[~full] > most).any():
            return share
        full |= share > most


def _ranked(
    rng: Generator, weight: Float64[np.ndarray, " users"], count: int
) -> Int64[np.ndarray, " count"]:
    """`count` different users, one after the other in proportion to weight.

    They are the earliest of exponential arrivals.
    """
    arrival = rng.standard_exponential(len(weight)) / weight
    return np.argpartition(arrival, count - 1)[:count]


def _drawn(
    rng: Generator,
    weight: Float64[np.ndarray, " users"],
    count: Int64[np.ndarray, " items"],
) -> Int64[np.ndarray, " n"]:
    """`count[j]` different users of each item j, as keys j * num_users + user, ascending.

    Draws, drops repeats, and draws what lacks.
    """
    num_users = len(weight)
    cumulative = np.cumsum(weight)
    cumulative /= cumulative[-1]
    items = np.arange(len(count))
    keys = np.empty(0, np.int64)
    lack = count
    while lack.any():
        item = np.repeat(items, lack)
        user = np.searchsorted(cumulative, rng.random(lack.sum()), side="right")
        drawn = item * num_users + user
        # 60 times faster than np.unique, which hashes (NumPy 2.4)
        keys = np.sort(np.concatenate([keys, drawn]))
        keys = keys[np.diff(keys, prepend=-1) > 0]
        found = np.bincount(keys // num_users, minlength=len(count))
        lack = count - found
    return keys
