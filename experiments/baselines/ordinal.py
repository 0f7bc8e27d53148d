"""Gibbs sampling of ordinal ratings: a rating says between which thresholds a latent value lies."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr, ndtri
from jaxtyping import Array, Float, Int

from mfjax.averages import Sample, with_sample
from mfjax.bags import Sources
from mfjax.bags.tables import of_rated
from mfjax.kernels import Kernel
from mfjax.kernels.choice import best_kernel
from mfjax.kernels.predictions import predict
from mfjax.methods.gibbs import Chain, gibbs, kept_of
from mfjax.objective import FoldSums, LaneTerms, lane_terms, train_weight
from mfjax.types import Factors, Hparams, Info, Kept, Method, Ratings, Spec, State

LEVELS = 5  # ratings are 1 to 5
FIRST = np.arange(1, LEVELS) + 0.5  # thresholds, of which the outer two stay where they are
GAP = 0.02  # the least between two of a user
ADAPTING = 100  # sweeps in which the step of the thresholds is adapted
FAR = 1e3


class Ordinal(NamedTuple):
    """What the sampler knows beside the factors.

    Args:
      chain: of the latent values, as `gibbs` has it, with the averages of the expected ratings.
      cuts: `[users, LEVELS - 1]`, thresholds of each user.
      common: `[LEVELS - 1]`, their means.
      variance: about them, scalar.
      pace: of a step of the thresholds, scalar.
    """

    chain: Chain
    cuts: Float[Array, "users cuts"]
    common: Float[Array, " cuts"]
    variance: Float[Array, ""]
    pace: Float[Array, ""]


class Layout(NamedTuple):
    """The layout of `gibbs`, where in it each rating stands, by user and by item, and its level."""

    rated: Any
    by_user: Int[Array, " n"]
    by_item: Int[Array, " n"]
    level: Int[Array, " n"]
    sums: FoldSums


def ordinal(
    spec: Spec,
    *,
    kernel: Kernel | None = None,
    bags: Sources | None = None,
    noise: str = "both",
    burn_in: int = 20,
    samples: int = 20,
) -> Method:
    """`gibbs` on latent values, drawn between the thresholds of each user.

    The thresholds are moved by a Metropolis step a user with the latent values integrated out, and
    are normal about common ones. A prediction is the expected rating.

    Source: Albert and Chib, "Bayesian Analysis of Binary and Polychotomous Response Data", 1993,
    section 4; thresholds of each user after Koren and Sill, "OrdRec", 2011, section 4.

    Args:
      spec: the shapes and the conventions.
      kernel: the compiled one, made for `spec`; None: `best_kernel`.
      bags, noise, samples: those of `gibbs`.
      burn_in: epochs of which no prediction is averaged.

    Returns:
      A Method for ratings of 1 to 5.
    """
    kernel = kernel or best_kernel(spec)
    rated_of = of_rated(bags, spec)
    of_latent = gibbs(spec, kernel=kernel, bags=bags, noise=noise, burn_in=10**6, samples=samples)

    def prepare(ratings: Ratings) -> Layout:
        rated = of_latent.prepare(ratings)
        places = np.arange(len(ratings.value)).astype(ratings.value.dtype)
        user, item, _ = kernel.prepare(ratings._replace(value=places))
        level = np.clip(np.round(np.asarray(ratings.value)), 1, LEVELS).astype(np.int32) - 1
        return Layout(
            rated, user.value.astype(np.int32), item.value.astype(np.int32), level, rated.sums
        )

    def init(
        key: Array, layout: Layout, hparams: Hparams, factors: Factors | None = None, /
    ) -> State:
        start, chain, _ = of_latent.init(key, layout.rated, hparams, factors)
        common = jnp.asarray(FIRST, start.user.dtype)
        own = Ordinal(
            chain=chain,
            cuts=jnp.tile(common[None], (spec.num_users, 1)),
            common=common,
            variance=jnp.asarray(0.05, common.dtype),
            pace=jnp.asarray(0.1, common.dtype),
        )
        return State(start, own)

    def step(
        state: State, layout: Layout, hparams: Hparams, epoch: Int[Array, ""] | int, /
    ) -> tuple[State, Info]:
        own: Ordinal = state.optimizer
        key = jax.random.fold_in(jax.random.key(hparams.init_seed), epoch)
        latent_key, cuts_key, common_key = jax.random.split(jax.random.fold_in(key, LEVELS), 3)
        ratings = layout.rated.ratings
        lane = lane_terms(layout.sums, hparams, spec)
        is_rated = train_weight(ratings.weight, ratings.fold, lane) > 0
        mean, spread = latent(state.factors, own.chain, ratings, lane)
        user = ratings.user

        def log_likelihood(cuts: Float[Array, "users cuts"]) -> Float[Array, " users"]:
            low, high, _ = between(cuts[user], layout.level, mean, spread)
            each = jnp.log(jnp.maximum(ndtr(high) - ndtr(low), 1e-30))
            of_user = jnp.zeros(len(cuts), mean.dtype).at[user].add(jnp.where(is_rated, each, 0))
            return of_user - ((cuts - own.common[None]) ** 2).sum(1) / (2 * own.variance)

        cuts, accepted = moved(cuts_key, own.cuts, own.pace, log_likelihood)
        pace = jnp.where(epoch < ADAPTING, own.pace * jnp.exp((accepted - 0.3) / 5), own.pace)
        common, variance = draw_common(common_key, cuts)
        value = draw_latent(latent_key, cuts[user], layout.level, mean, spread)
        value = jnp.where(is_rated, value, ratings.value)
        rows = layout.rated.rows
        rows = rows._replace(
            user=rows.user._replace(value=value[layout.by_user]),
            item=rows.item._replace(value=value[layout.by_item]),
        )
        rated = layout.rated._replace(rows=rows, ratings=ratings._replace(value=value))
        after, info = of_latent.step(State(state.factors, own.chain), rated, hparams, epoch)
        chain: Chain = after.optimizer
        kept = kept_of(after.factors, chain.sides, chain.precision, rated_of)
        sample = expected(kept, chain, cuts, ratings, lane)
        averages = with_sample(chain.averages, sample, epoch >= burn_in)
        chain = chain._replace(averages=averages)
        return State(after.factors, Ordinal(chain, cuts, common, variance, pace)), info

    return of_latent._replace(
        prepare=prepare,
        init=init,
        step=step,
        averages=lambda state: state.optimizer.chain.averages,
        burn_in=burn_in,
    )


def latent(
    factors: Factors, chain: Chain, ratings: Ratings, lane: LaneTerms
) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """Mean and standard deviation of the latent value of every rating."""
    users, items = chain.sides
    of_pairs = users.of_row[ratings.user] * items.of_row[ratings.item]
    mean = predict(factors, ratings.user, ratings.item) + lane.centre
    return mean, jax.lax.rsqrt(chain.precision * of_pairs)


def between(cuts, level, mean, spread):
    """The bounds of each level as standard normal quantiles, and whether they are mirrored.

    Bounds above the mean are mirrored below it, where float32 tells their probabilities apart.
    """
    ends = jnp.full((len(cuts), 1), FAR, cuts.dtype)
    bounds = jnp.concatenate([-ends, cuts, ends], 1)
    place = jnp.arange(len(level))
    low, high = ((bounds[place, level + end] - mean) / spread for end in (0, 1))
    is_above = low > 0
    return jnp.where(is_above, -high, low), jnp.where(is_above, -low, high), is_above


def draw_latent(key, cuts, level, mean, spread) -> Float[Array, " n"]:
    """Normal values between the thresholds of their levels."""
    low, high, is_mirrored = between(cuts, level, mean, spread)
    share = jax.random.uniform(key, mean.shape, mean.dtype)
    unit = ndtri(ndtr(low) + share * (ndtr(high) - ndtr(low)))
    unit = jnp.clip(jnp.where(jnp.isfinite(unit), unit, high), jnp.maximum(low, -8), high)
    return mean + spread * jnp.where(is_mirrored, -unit, unit)


def moved(key, cuts, pace, log_likelihood):
    """The thresholds after a Metropolis step a user, and the share that was accepted."""
    step_key, accept_key = jax.random.split(key)
    proposed = cuts + pace * jax.random.normal(step_key, cuts.shape, cuts.dtype)
    gain = log_likelihood(proposed) - log_likelihood(cuts)
    is_ordered = (jnp.diff(proposed, axis=1) > GAP).all(1)
    drawn = jax.random.uniform(accept_key, gain.shape, gain.dtype)
    is_accepted = is_ordered & (jnp.log(drawn) < gain)
    return jnp.where(is_accepted[:, None], proposed, cuts), is_accepted.mean()


def draw_common(key, cuts):
    """The means of the thresholds, the outer two fixed, and the variance about them."""
    mean_key, variance_key = jax.random.split(key)
    spread = jnp.sqrt(cuts.var() / len(cuts))
    drawn = cuts.mean(0) + spread * jax.random.normal(mean_key, cuts.shape[1:], cuts.dtype)
    common = jnp.asarray(FIRST, cuts.dtype).at[1:-1].set(drawn[1:-1])
    squares = ((cuts - common[None]) ** 2).sum()
    unit = jax.random.gamma(variance_key, 1 + cuts.size / 2, dtype=cuts.dtype)
    return common, (0.05 + squares / 2) / unit


def expected(kept: Kept, chain, cuts, ratings, lane) -> Sample:
    """The expected rating of every pair, and its variance."""
    mean, spread = latent(Factors(kept.user, kept.item), chain, ratings, lane)
    above = ndtr((mean[:, None] - cuts[ratings.user]) / spread[:, None])
    rating = 1 + above.sum(1)
    square = 1 + above @ (2 * jnp.arange(1, LEVELS, dtype=mean.dtype) + 1)
    return Sample(kept, rating, jnp.maximum(square - rating**2, 0))
