"""The order in which an epoch visits the ratings: a permutation that is computed where it is used.

It is a generalised Feistel network with cycle walking (Black and Rogaway, "Ciphers with Arbitrary
Finite Domains", 2002, methods 3 and 2). With a = ⌈√n⌉ and b = ⌈n/a⌉, a place x < a·b is
(L, R) = divmod(x, b), and the rounds r = 0 … 5 move one of the two by the other:

    r even: L ← (L + f(R, k_r, a)) mod a        r odd: R ← (R + f(L, k_r, b)) mod b          (1)
    f(y, k, m) = ⌊⌊mix(y, k) / 2¹⁶⌋ · m / 2¹⁶⌋   k_r = mix(mix(mix(0x5F, split_seed), epoch), r)

Each round can be undone, so that no two places have one image L b + R. An image that is not below
n, of which there are fewer than a, goes through (1) again until it is.

All is uint32, so that NumPy, XLA on any device and C++ give the same integers. Measured over 200
orders of 90,000 places, of 10 seeds and 20 epochs, beside as many of NumPy's permutations:

                                                               this    NumPy's    by chance
    chi-square of 300 × 300 blocks of visits and places, mean   89,440     89,367   89,401 ± 30
    correlation of visits that follow one another, deviation    0.0035     0.0032       0.0033
    share of visits that ascend, mean                           0.4999     0.5002       0.5 ± 0.0001
    correlation of epochs that follow one another, deviation    0.0031     0.0032       0.0033
"""

import math
from collections.abc import Callable
from functools import reduce
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, UInt32

from mfjax.types import AnyArray

T = TypeVar("T")
Scalar = Int[AnyArray, ""] | int
Places = UInt32[AnyArray, " places"]

DOUBLE_ROUNDS = 3
VISITS = 0x5F  # keeps these keys apart from others that are made of a split_seed


def order(n: int, split_seed: Scalar, epoch: Scalar, xp: Any = jnp) -> UInt32[AnyArray, " n"]:
    """The places of n ratings in the order in which an epoch visits them, each once.

    A pure function. In XLA one core of an Intel Xeon takes 0.25 ms for 80,668 places and 2.8 ms for
    900,000, where NumPy's permutation and its transfer take 1.1 and 12.5 ms.

    Source: equation (1) of `mfjax.kernels.order`.

    Args:
      n: how many there are, static, from 1 and below 2³².
      split_seed: scalar, from 0.
      epoch: scalar, from 0.
      xp: `jax.numpy` or `numpy`, which computes it.

    Returns:
      `[n]`, a permutation of 0 … n − 1.
    """
    a = math.isqrt(n - 1) + 1
    b = -(-n // a)
    keys = round_keys(split_seed, epoch, xp)
    images = network(xp.arange(a * b, dtype=np.uint32), keys, (a, b), xp)
    return images if n == a * b else walked(images, n, xp)


def round_keys(split_seed: Scalar, epoch: Scalar, xp: Any) -> UInt32[AnyArray, "3 2"]:
    """k_r of equation (1), a row for every two rounds."""
    rounds = xp.arange(2 * DOUBLE_ROUNDS, dtype=np.uint32)
    keys = xp.full_like(rounds, VISITS)
    for more in (split_seed, epoch, rounds):
        keys = mix(keys, xp.asarray(more).astype(np.uint32))
    return keys.reshape(DOUBLE_ROUNDS, 2)


def mix(x: UInt32[AnyArray, "*n"], key: Any) -> UInt32[AnyArray, "*n"]:
    """A hash: multiplications by the primes of xxHash, and shifts."""
    x = (x + key) * np.uint32(0x9E3779B1)
    x = (x ^ x >> 15) * np.uint32(0x85EBCA77)
    x = (x ^ x >> 13) * np.uint32(0xC2B2AE3D)
    return x ^ x >> 16


def network(
    places: Places, keys: UInt32[AnyArray, "3 2"], sides: tuple[int, int], xp: Any
) -> Places:
    """The images of places by equation (1); `sides` are a and b.

    As a loop, which takes half of the time that XLA's CPU compiler needs for the rounds in a row.
    """
    a, b = map(np.uint32, sides)

    def moved(half: Places, other: Places, key: Any, size: np.uint32) -> Places:
        by = (mix(other, key) >> 16) * size >> 16
        after = half + by
        return xp.minimum(after, after - size)  # which wraps where `after` is below `size`

    def two_rounds(halves: tuple[Places, Places], key: Any) -> tuple[Places, Places]:
        left, right = halves
        left = moved(left, right, key[0], a)
        right = moved(right, left, key[1], b)
        return left, right

    left, right = folded(two_rounds, (places // b, places % b), keys, xp)
    return left * b + right


def walked(images: Places, n: int, xp: Any) -> UInt32[AnyArray, " n"]:
    """The images of the places below n, those beyond n replaced by what they lead to.

    The images of the places beyond n say where each of these leads; taken at themselves, they say
    where twice as many steps lead, and after some rounds of that, where all do.
    """
    beyond = images[n:]
    count = len(beyond)

    def followed(images: Places, beyond: UInt32[AnyArray, " beyond"]) -> Places:
        nth = xp.minimum(images - np.uint32(n), np.uint32(count - 1))
        return xp.where(images < np.uint32(n), images, xp.take(beyond, nth, mode="clip"))

    doublings = xp.arange(count.bit_length())
    beyond = folded(lambda beyond, _: followed(beyond, beyond), beyond, doublings, xp)
    return followed(images[:n], beyond)


def folded(step: Callable[[T, Any], T], start: T, each: Any, xp: Any) -> T:
    """`step` after `step` over an array, in XLA a loop."""
    if xp is np:
        return reduce(step, each, start)
    return jax.lax.scan(lambda carry, one: (step(carry, one), None), start, each)[0]
