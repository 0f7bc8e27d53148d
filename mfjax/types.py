"""The nouns of mfjax, and the line between what is traced (`Hparams`) and what is static (`Spec`).

Importing this module loads neither jax nor Hydra: the config schema is generated from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int, PyTree

MISSING = ("ignore", "item_mean", "zero")
LOSS_SCALE = ("half", "sum", "mean")
REG_BY = ("row", "count", "total")
WIDTHS = (8, 16, 32, 64)  # of tiles
NO_FOLD = -2  # a lane with this fold holds nothing out
REPLICATES = ("data_seed", "fold", "seed")  # the Hparams that repeat a setting; the others make it


class Ratings(NamedTuple):
    """Ratings in coordinate form; (user, item) pairs with positive weight are unique.

    Shapes: every field `[n]`. `weight` 0 is padding; `fold` f >= 0 is held out by a lane whose fold is f, and fold -1 by none.
    """

    user: Int[Array, " n"]
    item: Int[Array, " n"]
    value: Float[Array, " n"]
    weight: Float[Array, " n"]
    fold: Int[Array, " n"]

    @classmethod
    def of(cls, user, item, value, weight=None, fold=None, *, dtype: str = "float32") -> Ratings:
        """Ratings from any sequences, with weight 1 and fold -1 where they are not given."""
        n = len(value)
        return cls(
            user=np.asarray(user, np.int32),
            item=np.asarray(item, np.int32),
            value=np.asarray(value, dtype),
            weight=np.ones(n, dtype) if weight is None else np.asarray(weight, dtype),
            fold=np.full(n, -1, np.int32) if fold is None else np.asarray(fold, np.int32),
        )

    def padded(self, n: int) -> Ratings:
        """The same ratings followed by weight-0 padding up to `n` rows."""
        extra = n - len(self.value)
        return Ratings(
            *(np.pad(x, (0, extra)) for x in (self.user, self.item, self.value, self.weight)),
            fold=np.pad(self.fold, (0, extra), constant_values=-1),
        )


class Factors(NamedTuple):
    """One value a side: `user` is `[num_users, columns]` and `item` `[num_items, columns]` for the factors themselves."""

    user: Any
    item: Any


class Hparams(NamedTuple):
    """All that a sweep may batch: traced scalars, so that a new value never compiles again.

    Ranges: learning_rate > 0; reg, reg_bias, init_scale, missing_weight >= 0; 0 <= momentum < 1; rank >= 0;
    fold >= 0 names the held-out fold and -2 holds nothing out; seeds are any 31-bit integers.
    """

    learning_rate: float = 0.02
    reg: float = 0.05
    reg_bias: float = 0.01
    init_scale: float = 0.1
    missing_weight: float = 1.0
    momentum: float = 0.9
    rank: int = 16
    fold: int = 0
    seed: int = 0
    data_seed: int = 0

    @classmethod
    def of(cls, dtype: str = "float32", **fields: Any) -> Hparams:
        """Hparams whose every field has a fixed dtype (0.5, 0 and float32(1) would otherwise be three traces)."""
        kinds = cls()._asdict()
        values = kinds | fields
        return cls(**{k: np.asarray(v, dtype if isinstance(kinds[k], float) else np.int32) for k, v in values.items()})

    @property
    def setting(self) -> tuple[tuple[str, float], ...]:
        """What a search chooses: the Hparams, but for those that repeat a setting on another split or from another start."""
        return tuple((key, value) for key, value in self._asdict().items() if key not in REPLICATES)


@dataclass(frozen=True)
class Tiling:
    """How the ratings are cut for the tile engine (`mfjax.kernels.tiles`); every choice gives the same sums, to rounding.

    `width`: ratings of a row in one tile; `chunk`: ratings worked on at once, so many as stay in cache; `group`: rows whose
    normal equations are solved at once; `shards`: devices that share the rows of one fit.
    """

    width: int = 8
    chunk: int = 1024
    group: int = 64
    shards: int = 1


@dataclass(frozen=True)
class Spec:
    """All that shapes the program: hashable, no pytree. The conventions are those of `mfjax.objective`."""

    num_users: int
    num_items: int
    max_rank: int = 16
    bias: bool = True
    missing: str = "ignore"
    loss_scale: str = "half"
    reg_by: str = "count"
    batch_size: int = 256
    cg_steps: int = 3
    dtype: str = "float32"
    tiling: Tiling = Tiling()

    @property
    def columns(self) -> int:
        """Columns of each factor table: the rank's, and two more for the biases."""
        return self.max_rank + 2 * self.bias


class Gradient(NamedTuple):
    """One way to compute the gradient of the objective.

    `prepare(ratings) -> layout` once, on the host; `value_and_grad(factors, layout, hparams) -> (loss, Factors)`.
    Every layout holds the `margins` of its ratings. `tolerance`: max|a - b| / max|b| against `jax.grad` in float64.
    """

    prepare: Callable[[Ratings], Any]
    value_and_grad: Callable[[Factors, Any, Hparams], tuple[Float[Array, ""], Factors]]
    tolerance: float = 1e-10


class State(NamedTuple):
    """What the next epoch needs."""

    factors: Factors
    optimizer: PyTree


class Info(NamedTuple):
    """What a reader wants of an epoch, never fed back: the objective as visited, and the norm of the factors' change."""

    loss: Float[Array, ""]
    update_norm: Float[Array, ""]


class Method(NamedTuple):
    """A way to train: pure functions around one epoch.

    `prepare(ratings) -> layout`; `init(key, layout, hparams, factors=None) -> State` (factors: warm start);
    `step(state, layout, hparams, order) -> (State, Info)`, one epoch;
    `order(num_ratings, data_seed, epoch) -> [batches, batch_size] | None`, the host's shuffle.
    `takes` names the Hparams that the method reads beside the objective's; `check(ratings, hparams)` raises InputError, on
    the host, for a lane that it cannot train.
    """

    prepare: Callable[[Ratings], Any]
    init: Callable[..., State]
    step: Callable[[State, Any, Hparams, Any], tuple[State, Info]]
    order: Callable[[int, int, int], np.ndarray | None]
    takes: tuple[str, ...]
    check: Callable[[Ratings, Hparams], None] = lambda ratings, hparams: None


class Optimizer(NamedTuple):
    """`make(hparams)` gives the optax transformation; `takes` names the Hparams it reads.

    `rowwise`: an update is linear in the gradient and keeps no moments, so a batch may update only the rows it touches.
    `lazy`: it does so too, with moments (`mfjax.methods.sgd`).
    """

    make: Callable[[Hparams], Any]
    takes: tuple[str, ...]
    rowwise: bool
    lazy: bool = False


class Run(NamedTuple):
    """The scan carry of training, and all that a run needs to go on. Epochs count from 1; 0 is none."""

    state: State
    best: Factors
    best_metric: Float[Array, ""]
    best_epoch: Int[Array, ""]
    epoch: Int[Array, ""]
    alive: Bool[Array, ""]
    died_at: Int[Array, ""]
