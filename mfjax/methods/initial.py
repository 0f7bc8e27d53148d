"""The factors from which every method starts."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mfjax.objective import LaneTerms, pin
from mfjax.types import Factors, Hparams, Spec


def initial_factors(
    key: Array,
    lane: LaneTerms,
    hparams: Hparams,
    spec: Spec,
    given: Factors | None = None,
) -> Factors:
    """The factors of a warm start where they are `given`, else normal ones.

    Those have standard deviation `init_scale`; biases, and the rows of users and items without
    ratings, are 0. Column c draws from `fold_in(key, c)` on each side, so that a rank-8 lane of a
    rank-16 program equals the rank-8 fit.

    Returns:
      Factors `[users, columns]` and `[items, columns]`, their pinned columns at their pins.
    """
    if given is not None:
        return pin(given, lane.columns)
    column = jnp.arange(spec.columns)
    is_latent = column < hparams.rank

    def side(key: Array, count: Float[Array, " rows"]):
        def draw(column):
            own_key = jax.random.fold_in(key, column)
            return jax.random.normal(own_key, count.shape, spec.dtype)

        normal = jax.vmap(draw)(column).T
        is_drawn = is_latent[None] & (count > 0)[:, None]
        return jnp.where(is_drawn, hparams.init_scale * normal, 0)

    user_key, item_key = jax.random.split(key)
    user = side(user_key, lane.counts.user)
    item = side(item_key, lane.counts.item)
    return pin(Factors(user, item), lane.columns)
