"""Where a gradient is taken: a small random problem, or the data at hand."""

from dataclasses import replace
from typing import NamedTuple

import jax
import numpy as np

from mfjax.types import Factors, Hparams, Ratings, Spec


class Point(NamedTuple):
    """Where a gradient is taken.

    Args:
      spec: what shapes it: sizes and conventions.
      ratings: those that are seen.
      factors: of both sides.
      hparams: the setting.
    """

    spec: Spec
    ratings: Ratings
    factors: Factors
    hparams: Hparams


def small_point(
    spec: Spec,
    hparams: Hparams,
    num_users: int,
    num_items: int,
    rank: int,
) -> Point:
    """A small random problem in float64.

    Every rating is uniform on [0, 1) and two thirds of them are seen (all of a 3 x 3), user factors
    are uniform, item factors normal.

    Args:
      spec: the conventions.
      hparams: the setting; its `init_seed` draws everything.
      num_users, num_items, rank: of the problem.

    Returns:
      The point, on the host.
    """
    spec = replace(
        spec,
        num_users=num_users,
        num_items=num_items,
        max_rank=rank,
        dtype="float64",
    )
    rng = np.random.default_rng(hparams.init_seed)
    share = 2 / 3 if num_users * num_items > 9 else 1
    seen = rng.random((num_users, num_items)) < share
    factors = Factors(
        user=rng.random((num_users, spec.columns)),
        item=rng.normal(size=(num_items, spec.columns)),
    )
    user, item = np.nonzero(seen)
    value = rng.random(len(user))
    ratings = Ratings.of(user, item, value, dtype=spec.dtype)
    setting = hparams._replace(rank=rank)
    return Point(spec, ratings, factors, _typed(setting, spec))


def full_point(spec: Spec, ratings: Ratings, hparams: Hparams) -> Point:
    """The data at hand, at random factors of the setting's `init_scale`.

    Args:
      spec: of the ratings.
      ratings: all of them are seen.
      hparams: the setting; its `init_seed` draws the factors.

    Returns:
      The point, on the host.
    """
    rng = np.random.default_rng(hparams.init_seed)

    def side(num_rows: int) -> np.ndarray:
        drawn = rng.normal(size=(num_rows, spec.columns))
        return (drawn * hparams.init_scale).astype(spec.dtype)

    user = side(spec.num_users)
    item = side(spec.num_items)
    factors = Factors(user, item)
    return Point(spec, ratings, factors, _typed(hparams, spec))


def _typed(hparams: Hparams, spec: Spec) -> Hparams:
    return Hparams.of(spec.dtype, **hparams._asdict())


def in_float64(point: Point) -> Point:
    """The same point in float64."""

    def widened(leaf: np.ndarray) -> np.ndarray:
        return leaf.astype(np.float64) if leaf.dtype.kind == "f" else leaf

    spec = replace(point.spec, dtype="float64")
    arrays = (point.ratings, point.factors, point.hparams)
    return Point(spec, *jax.tree.map(widened, arrays))
