"""Ratings whose factors are known: planted, the dense toy, and a matrix written out."""

from collections.abc import Sized
from numbers import Real

import numpy as np

from mfjax.data.dataset import Dataset, digest
from mfjax.errors import InputError

MEAN, LOWEST, HIGHEST = 3.0, 0.5, 5.0
STREAM = 2  # default_rng([seed, STREAM])


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

    The number of ratings of the r-th most popular item is proportional to r**-popularity, but at most the number of
    users; an item's users are drawn without replacement, the r-th busiest in proportion to r**(-min(popularity, 1)/2).
    Users and items without a rating keep their ids, so that the shape is as asked.

    Args:
        num_users, num_items: the shape of the matrix.
        num_ratings: the number of different (user, item) pairs.
        rank: columns of the planted factors, normal, with u_i·v_j of standard deviation 1; 0: biases only.
        bias_scale, noise: standard deviations of the biases and of the noise, in rating units.
        popularity: the exponent; 0: uniform.
        half_stars: round to 0.5, 1.0, ..., 5.0.
        seed: same arguments, same bits.

    Raises:
        InputError: a size or a scale is out of range.
    """
    _check_at_least(1, num_users=num_users, num_items=num_items, num_ratings=num_ratings)
    _check_at_least(0, rank=rank, bias_scale=bias_scale, noise=noise, popularity=popularity, seed=seed)
    if num_ratings > num_users * num_items:
        raise InputError(f"num_ratings: expected at most num_users * num_items = {num_users * num_items}, got {num_ratings}")
    rng = np.random.default_rng([seed, STREAM])
    user, item = _pairs(rng, num_users, num_items, num_ratings, popularity)
    scale = max(rank, 1) ** -0.25
    value = MEAN + noise * rng.standard_normal(num_ratings)
    value += (bias_scale * rng.standard_normal(num_users))[user]
    value += (bias_scale * rng.standard_normal(num_items))[item]
    for _ in range(rank):  # column by column: n numbers at a time, not n x rank
        u, v = scale * rng.standard_normal(num_users), scale * rng.standard_normal(num_items)
        value += u[user] * v[item]
    if half_stars:
        value = np.clip(np.round(2 * value) / 2, LOWEST, HIGHEST)
    return _dataset("synthetic", num_users, num_items, user, item, value)


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
        observed: the fraction of entries that are ratings, in (0, 1]; chosen at random, such that no row and no
            column is empty if there are enough of them.
        seed: same arguments, same bits.

    Raises:
        InputError: a size, `noise` or `observed` is out of range.
    """
    _check_at_least(1, num_users=num_users, num_items=num_items, rank=rank)
    _check_at_least(0, noise=noise, seed=seed)
    if not 0 < observed <= 1:
        raise InputError(f"observed: expected a fraction above 0 and up to 1, got {observed}")
    rng = np.random.default_rng([seed, STREAM])
    dense = rng.random((num_users, rank)) @ rng.random((rank, num_items))
    dense += noise * rng.standard_normal(dense.shape)
    entry = _observed(rng, num_users, num_items, max(1, round(observed * dense.size)))
    user, item = np.divmod(entry, num_items)
    return _dataset("toy", num_users, num_items, user, item, dense[user, item])


def matrix(*, rows: list) -> Dataset:
    """The matrix written out: `rows[user][item]` is a rating, or None or nan where it is missing.

    Raises:
        InputError: rows of different lengths, an entry that is no finite number, or no rating at all.
    """
    widths = [len(row) if isinstance(row, Sized) else None for row in rows]
    if len(set(widths)) != 1 or None in widths:
        raise InputError(f"rows: expected lists of one length, one a user; got lengths {widths[:10]}")
    dense = np.array([[_entry(i, j, x) for j, x in enumerate(row)] for i, row in enumerate(rows)])
    user, item = np.nonzero(~np.isnan(dense))
    if not len(user):
        raise InputError("rows: expected at least one rating, got missing entries only")
    return _dataset("matrix", dense.shape[0], dense.shape[1], user, item, dense[user, item])


def _entry(i: int, j: int, entry: object) -> float:
    if entry is None:
        return np.nan
    if not isinstance(entry, Real) or np.isinf(float(entry)):
        raise InputError(f"rows[{i}][{j}]: expected a finite number, or null for a missing entry; got {entry!r}")
    return float(entry)


def _check_at_least(least: int, **arguments: float) -> None:
    for name, value in arguments.items():
        if not least <= value < np.inf:
            raise InputError(f"{name}: expected {least} or more, got {value}")


def _dataset(name: str, num_users: int, num_items: int, user: np.ndarray, item: np.ndarray, value: np.ndarray) -> Dataset:
    user, item = user.astype(np.int32), item.astype(np.int32)
    shape = np.array([num_users, num_items])
    return Dataset(name, user, item, value, np.arange(num_users), np.arange(num_items), digest(shape, user, item, value))


def _observed(rng: np.random.Generator, num_users: int, num_items: int, count: int) -> np.ndarray:
    """`count` entries (user * num_items + item), ascending; first those of one that meets every row and column."""
    step = np.arange(max(num_users, num_items))
    cover = rng.permutation(num_users)[step % num_users] * num_items + rng.permutation(num_items)[step % num_items]
    others = rng.permutation(np.setdiff1d(np.arange(num_users * num_items), cover))
    return np.sort(np.concatenate([rng.permutation(cover), others])[:count])


def _pairs(
    rng: np.random.Generator, num_users: int, num_items: int, num_ratings: int, popularity: float
) -> tuple[np.ndarray, np.ndarray]:
    """Different pairs in random order, (user [n], item [n]).

    An item with many users ranks all of them; the others draw users until each has enough different ones, which is
    quick because at most a quarter of the users is taken.
    """
    count = _item_counts(_power_law(rng, num_items, popularity), num_ratings, num_users)
    weight = _power_law(rng, num_users, min(popularity, 1) / 2)
    many = count > num_users // 4
    keys = [j * num_users + _ranked(rng, weight, count[j]) for j in np.flatnonzero(many)]
    keys.append(_drawn(rng, weight, np.where(many, 0, count)))
    item, user = np.divmod(rng.permutation(np.concatenate(keys)), num_users)
    return user, item


def _power_law(rng: np.random.Generator, n: int, exponent: float) -> np.ndarray:
    return rng.permutation(np.arange(1.0, n + 1) ** -exponent)


def _item_counts(weight: np.ndarray, total: int, most: int) -> np.ndarray:
    """Whole numbers that sum to `total`, proportional to weight as far as none exceeds `most`."""
    full = np.zeros(len(weight), bool)
    while True:
        left, rest = total - most * full.sum(), weight[~full].sum()
        share = np.where(full, most, weight * left / rest if rest else most)
        if not (share[~full] > most).any():
            break
        full |= share > most
    count = np.floor(share).astype(np.int64)
    by_remainder = np.lexsort((count - share, count == most))
    count[by_remainder[: total - count.sum()]] += 1
    return count


def _ranked(rng: np.random.Generator, weight: np.ndarray, count: int) -> np.ndarray:
    """`count` different users, one after the other in proportion to weight: the earliest of exponential arrivals."""
    arrival = rng.standard_exponential(len(weight)) / weight
    return np.argpartition(arrival, count - 1)[:count]


def _drawn(rng: np.random.Generator, weight: np.ndarray, count: np.ndarray) -> np.ndarray:
    """`count[j]` different users of each item j, as keys j * num_users + user: draw, drop repeats, draw what lacks."""
    num_users, cumulative = len(weight), np.cumsum(weight)
    keys, lack = np.empty(0, np.int64), count
    while lack.any():
        user = np.searchsorted(cumulative / cumulative[-1], rng.random(lack.sum()), side="right")
        drawn = np.repeat(np.arange(len(count)), lack) * num_users + user
        keys = np.sort(np.concatenate([keys, drawn]))  # 60 times faster than np.unique, which hashes (NumPy 2.4)
        keys = keys[np.diff(keys, prepend=-1) > 0]
        lack = count - np.bincount(keys // num_users, minlength=len(count))
    return keys
