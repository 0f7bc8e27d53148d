"""The factors from which every method starts."""

import jax
import jax.numpy as jnp

from mfjax.objective import Terms, pinned
from mfjax.types import Factors, Hparams, Spec


def initial_factors(key: jax.Array, terms: Terms, hparams: Hparams, spec: Spec) -> Factors:
    """Normal factors of standard deviation `init_scale`; biases, and the rows of users and items without ratings, at 0.

    Column c draws from `fold_in(key, c)` on each side, so that a rank-8 lane of a rank-16 program equals the rank-8 fit.
    Returns Factors of `[num_users, columns]` and `[num_items, columns]`.
    """
    user_key, item_key = jax.random.split(key)
    latent = jnp.arange(spec.columns) < hparams.rank

    def side(key, count):
        column = jax.vmap(lambda c: jax.random.normal(jax.random.fold_in(key, c), count.shape, spec.dtype))
        drawn = hparams.init_scale * column(jnp.arange(spec.columns)).T
        return jnp.where(latent[None] & (count > 0)[:, None], drawn, 0)

    return pinned(Factors(side(user_key, terms.counts.user), side(item_key, terms.counts.item)), terms.columns)
