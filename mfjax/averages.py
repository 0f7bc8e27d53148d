"""Averages over samples of the factors: of what is predicted, and a model of some of them."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from mfjax.types import AnyArray, Averages, Factors, Kept, Spec

COVERED = 0.9  # of the ratings, by their intervals


def no_averages(n: int, samples: int, kept: Kept) -> Averages:
    """The averages over no sample.

    Args:
      n: predictions that are averaged.
      samples: of which something is kept.
      kept: of one, for its shapes.

    Returns:
      Averages of zeros.
    """
    nothing = jnp.zeros(n, kept.user.dtype)
    of_samples = jax.tree.map(lambda part: jnp.zeros((samples, *part.shape), part.dtype), kept)
    return Averages(jnp.zeros((), jnp.int32), nothing, nothing, nothing, of_samples)


class Sample(NamedTuple):
    """One sample, and what it says of the ratings.

    Args:
      kept: as it was drawn.
      prediction: `[n]`, in rating units.
      noise: `[n]`, the variance of a rating about it.
    """

    kept: Kept
    prediction: Float[Array, " n"]
    noise: Float[Array, " n"]


def with_sample(
    averages: Averages, sample: Sample, counts: Bool[AnyArray, ""] | bool, thinning: int = 1
) -> Averages:
    """The averages with a sample more.

    Source: Welford, "Note on a Method for Calculating Corrected Sums of Squares and Products",
    1962.

    Args:
      averages: over those before.
      sample: the next.
      counts: scalar, whether it does.
      thinning: samples for one that is kept.

    Returns:
      The Averages; of predictions the sample's own where none has counted yet.
    """
    count = averages.num_samples + counts
    is_first = averages.num_samples == 0

    def mean_of(before: Array, new: Array) -> Array:
        mean = jnp.where(is_first, new, before + (new - before) / jnp.maximum(count, 1))
        return jnp.where(counts | is_first, mean, before)

    mean = mean_of(averages.mean, sample.prediction)
    gap = jnp.where(is_first | ~jnp.asarray(counts), 0, sample.prediction - averages.mean)
    place = averages.num_samples // thinning % len(averages.samples.user)

    def kept(samples: Array, part: Array) -> Array:
        return samples.at[place].set(jnp.where(counts, part, samples[place]))

    return Averages(
        num_samples=count,
        mean=mean,
        squares=averages.squares + gap * (sample.prediction - mean),
        noise=mean_of(averages.noise, sample.noise),
        samples=jax.tree.map(kept, averages.samples, sample.kept),
    )


# on the host


def spread(averages: Averages) -> Float[np.ndarray, " n"]:
    """The standard deviation of each prediction over the samples.

    Args:
      averages: over some samples.

    Returns:
      `[n]`, in rating units; NaN of fewer than two.
    """
    return np.sqrt(_variance(averages))


def intervals(averages: Averages) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Between which numbers a rating lies with probability `COVERED`, taken as normal.

    Args:
      averages: over some samples.

    Returns:
      The lowest and the highest, `[n]` each, in rating units and not clipped.
    """
    from scipy.stats import norm

    variance = np.nan_to_num(_variance(averages)) + np.asarray(averages.noise, np.float64)
    half = norm.ppf((1 + COVERED) / 2) * np.sqrt(variance)
    mean = np.asarray(averages.mean, np.float64)
    return mean - half, mean + half


def _variance(averages: Averages) -> Float[np.ndarray, " n"]:
    squares = np.asarray(averages.squares, np.float64)
    count = int(averages.num_samples)
    return squares / (count - 1) if count > 1 else np.full(len(squares), np.nan)


def finished(averages: Averages, rank: int, spec: Spec) -> Averages:
    """The averages of a lane, on the host, without the places that no sample has come to.

    Args:
      averages: of a program that may have more latent columns than the lane.
      rank: of the lane, whose columns alone are kept.
      spec: of which `bias` is read.

    Returns:
      The Averages; of one sample of zeros where none has counted.
    """
    count = max(int(np.any(averages.samples.user, axis=(1, 2)).sum()), 1)
    samples = jax.tree.map(lambda part: np.asarray(part)[:count], averages.samples)
    return averages._replace(samples=_with_rank(samples, rank, spec))


def _with_rank(samples: Kept, rank: int, spec: Spec) -> Kept:
    """Samples of `rank` latent columns: the first of theirs, and after those zeros."""

    def resized(part: np.ndarray, biases: int) -> np.ndarray:
        latent, own = np.split(part, [part.shape[-1] - biases], axis=-1)
        more = np.zeros((*part.shape[:-1], max(rank - latent.shape[-1], 0)), part.dtype)
        return np.concatenate([latent[..., :rank], more, own], axis=-1)

    one_way = resized(samples.prior_precision, spec.bias)
    return samples._replace(
        user=resized(samples.user, 2 * spec.bias),
        item=resized(samples.item, 2 * spec.bias),
        prior_mean=resized(samples.prior_mean, spec.bias),
        prior_precision=resized(one_way.swapaxes(1, 2), spec.bias),
        prior_rated=jax.tree.map(lambda part: resized(part, spec.bias), samples.prior_rated),
    )


def factors_of(averages: Averages, spec: Spec) -> Factors:
    """One model that predicts the mean of the samples that are kept.

    Derivation: the mean over S samples of u·v + b + c is the product of rows of S rank columns,
    each over √S, and of the mean biases.

    Args:
      averages: as `finished` has them.
      spec: of which `bias` is read.

    Returns:
      Factors `[rows, samples · rank]`, and the columns of the biases; 0 where no sample has
      counted.
    """
    rank = averages.samples.user.shape[-1] - 2 * spec.bias

    def of_side(some: Float[np.ndarray, "samples rows columns"]) -> Float[np.ndarray, "rows k"]:
        latent = some[..., :rank].transpose(1, 0, 2).reshape(some.shape[1], -1)
        return np.concatenate([latent / len(some) ** 0.5, some[..., rank:].mean(0)], 1)

    return Factors(of_side(averages.samples.user), of_side(averages.samples.item))


def pooled(chains: Sequence[Averages], spec: Spec) -> Averages:
    """The averages over the samples of several chains, of one rank or of several.

    Args:
      chains: of the same ratings, as `finished` has them, with a sample at least each.
      spec: of which `bias` is read.

    Returns:
      The Averages over all.
    """
    count = np.array([int(chain.num_samples) for chain in chains], np.float64)
    share = (count / count.sum())[:, None]
    means = np.stack([np.asarray(chain.mean, np.float64) for chain in chains])
    mean = (share * means).sum(0)
    between = (count[:, None] * (means - mean) ** 2).sum(0)
    within = sum(np.asarray(chain.squares, np.float64) for chain in chains)
    noise = np.stack([np.asarray(chain.noise, np.float64) for chain in chains])
    widest = max(chain.samples.user.shape[-1] for chain in chains) - 2 * spec.bias
    widened = [_with_rank(chain.samples, widest, spec) for chain in chains]
    return Averages(
        num_samples=np.asarray(int(count.sum()), np.int32),
        mean=mean,
        squares=between + within,
        noise=(share * noise).sum(0),
        samples=jax.tree.map(lambda *parts: np.concatenate(parts), *widened),
    )


class Mixing(NamedTuple):
    """How well several chains agree on predictions.

    Args:
      r_hat: the largest R̂ of a prediction; 1 where chains cannot be told apart.
      effective: the least effective number of samples of a prediction, of those of all chains.
    """

    r_hat: float
    effective: float


def mixing(chains: Sequence[Averages]) -> Mixing:
    """R̂ and the effective number of samples, from the chains' means and variances.

    Source: Gelman and Rubin, "Inference from Iterative Simulation Using Multiple Sequences", 1992,
    section 2.2; the effective number is that of Gelman et al., "Bayesian Data Analysis", second
    edition, 2003, equation (11.4).

    Args:
      chains: of one setting, from starts of their own, each with as many samples.

    Returns:
      The Mixing over all predictions; NaN of a chain alone.
    """
    if len(chains) < 2:
        return Mixing(np.nan, np.nan)
    count = int(chains[0].num_samples)
    within = np.mean([_variance(chain) for chain in chains], axis=0)
    means = np.stack([np.asarray(chain.mean, np.float64) for chain in chains])
    between = count * means.var(0, ddof=1)
    total = (count - 1) / count * within + between / count
    all_samples = len(chains) * count
    effective = np.minimum(all_samples * total / between, all_samples)
    return Mixing(float(np.sqrt(total / within).max()), float(effective.min()))
