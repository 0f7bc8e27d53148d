"""Averages over samples of the factors: of what is predicted, and a model of the last of them."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from mfjax.types import AnyArray, Averages, Factors, Spec


def no_averages(n: int, samples: int, factors: Factors) -> Averages:
    """The averages over no sample.

    Args:
      n: predictions that are averaged.
      samples: of the factors, that are kept.
      factors: of their shapes.

    Returns:
      Averages of zeros.
    """
    nothing = jnp.zeros(n, factors.user.dtype)
    kept = Factors(*(jnp.zeros((samples, *side.shape), side.dtype) for side in factors))
    return Averages(jnp.zeros((), jnp.int32), nothing, nothing, kept)


def with_sample(
    averages: Averages,
    prediction: Float[Array, " n"],
    factors: Factors,
    counts: Bool[AnyArray, ""] | bool,
    thinning: int = 1,
) -> Averages:
    """The averages with a sample more.

    Source: Welford, "Note on a Method for Calculating Corrected Sums of Squares and Products",
    1962.

    Args:
      averages: over those before.
      prediction: `[n]`, of the sample, in rating units.
      factors: the sample.
      counts: scalar, whether it does.
      thinning: samples for one of the factors that is kept.

    Returns:
      The Averages; of predictions the sample's own where none has counted yet.
    """
    count = averages.count + counts
    is_first = averages.count == 0
    gap = jnp.where(is_first, 0, prediction - averages.mean)
    mean = jnp.where(is_first, prediction, averages.mean + gap / jnp.maximum(count, 1))
    squares = averages.squares + gap * (prediction - mean)
    place = averages.count // thinning % len(averages.samples.user)

    def kept(samples: Array, side: Array) -> Array:
        return samples.at[place].set(jnp.where(counts, side, samples[place]))

    return Averages(
        count=count,
        mean=jnp.where(counts | is_first, mean, averages.mean),
        squares=jnp.where(counts, squares, averages.squares),
        samples=Factors(*map(kept, averages.samples, factors)),
    )


def spread(averages: Averages) -> Float[np.ndarray, " n"]:
    """The standard deviation of each prediction over the samples, on the host.

    Args:
      averages: over some samples.

    Returns:
      `[n]`, in rating units; NaN of fewer than two.
    """
    count = int(averages.count)
    squares = np.asarray(averages.squares, np.float64)
    return np.sqrt(squares / (count - 1)) if count > 1 else np.full(len(squares), np.nan)


def factors_of(averages: Averages, spec: Spec) -> Factors:
    """One model that predicts the mean of those that are kept, on the host.

    Derivation: the mean over S samples of u·v + b + c is the product of rows of S rank columns,
    each over √S, and of the mean biases.

    Args:
      averages: over some samples.
      spec: of which `bias` is read.

    Returns:
      Factors `[rows, samples · rank]`, and the columns of the biases; 0 where no sample has
      counted.
    """
    is_kept = np.any(averages.samples.user, axis=(1, 2))
    count = max(int(is_kept.sum()), 1)
    rank = averages.samples.user.shape[-1] - 2 * spec.bias

    def of_side(samples: Float[AnyArray, "samples rows columns"]) -> Float[np.ndarray, "rows k"]:
        some = np.asarray(samples)[:count]  # the others have not begun
        latent = some[..., :rank].transpose(1, 0, 2).reshape(some.shape[1], -1)
        return np.concatenate([latent / np.sqrt(count), some[..., rank:].mean(0)], 1)

    return Factors(*map(of_side, averages.samples))
