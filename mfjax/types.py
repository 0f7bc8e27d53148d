"""The nouns of mfjax, and the line between what is traced (`Hparams`) and static (`Spec`)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

MISSING = ("ignore", "item_mean", "zero")
LOSS_SCALE = ("half", "sum", "mean")
REG_BY = ("row", "count", "total")
WIDTHS = (8, 16, 32, 64)  # of tiles
NO_FOLD = -2  # a lane with this fold holds nothing out
AnyArray = Array | np.ndarray
REPLICATES = ("split_seed", "fold", "init_seed")  # the Hparams that repeat a setting


class Sides(NamedTuple):
    """A pair of anything, one of each side of the matrix."""

    user: Any
    item: Any


class Factors(NamedTuple):
    """The factor tables: what is trained."""

    user: Float[Array, "users columns"]
    item: Float[Array, "items columns"]


class Bounds(NamedTuple):
    """The range that predictions are clipped to before an error is taken; (-inf, inf): none."""

    low: Float[Array, ""] | float
    high: Float[Array, ""] | float


class Ratings(NamedTuple):
    """Ratings in coordinate form; (user, item) pairs with positive weight are unique.

    `weight` 0 is padding. `fold` f >= 0 is held out by a lane whose fold is f, and fold -1 by none.
    """

    user: Int[Array, " n"]
    item: Int[Array, " n"]
    value: Float[Array, " n"]
    weight: Float[Array, " n"]
    fold: Int[Array, " n"]

    @classmethod
    def of(
        cls,
        user: Iterable,
        item: Iterable,
        value: Iterable,
        weight: Iterable | None = None,
        fold: Iterable | None = None,
        *,
        dtype: str = "float32",
    ) -> Ratings:
        """Ratings from any sequences, with weight 1 and fold -1 where they are not given."""
        value = np.asarray(value, dtype)
        n = len(value)
        return cls(
            user=np.asarray(user, np.int32),
            item=np.asarray(item, np.int32),
            value=value,
            weight=np.ones(n, dtype) if weight is None else np.asarray(weight, dtype),
            fold=np.full(n, -1, np.int32) if fold is None else np.asarray(fold, np.int32),
        )

    def padded(self, n: int) -> Ratings:
        """The same ratings followed by weight-0 padding up to `n` rows."""
        extra = (0, n - len(self.value))
        return Ratings(
            user=np.pad(self.user, extra),
            item=np.pad(self.item, extra),
            value=np.pad(self.value, extra),
            weight=np.pad(self.weight, extra),
            fold=np.pad(self.fold, extra, constant_values=-1),
        )


class Hparams(NamedTuple):
    """All that a sweep may batch: traced scalars, so that a new value never compiles again.

    Ranges: learning_rate > 0; reg, reg_bias, init_scale, missing_weight >= 0; 0 <= momentum < 1;
    rank >= 0; fold >= 0 names the held-out fold and -2 holds nothing out; seeds are any 31-bit
    integers, `init_seed` of the factors and `split_seed` of the split and the shuffles.
    """

    learning_rate: float = 0.02
    reg: float = 0.05
    reg_bias: float = 0.01
    init_scale: float = 0.1
    missing_weight: float = 1.0
    momentum: float = 0.9
    rank: int = 16
    fold: int = 0
    init_seed: int = 0
    split_seed: int = 0

    @classmethod
    def of(cls, dtype: str = "float32", **fields: Any) -> Hparams:
        """Hparams whose every field has a fixed dtype.

        Without it, 0.5, 0 and float32(1) would be three traces.
        """
        defaults = cls()._asdict()
        values = defaults | fields

        def cast(key: str) -> np.ndarray:
            is_float = isinstance(defaults[key], float)
            return np.asarray(values[key], dtype if is_float else np.int32)

        return cls(**{key: cast(key) for key in values})

    @property
    def setting(self) -> tuple[tuple[str, float], ...]:
        """What a search chooses: the Hparams, but for those that repeat a setting.

        A setting is repeated on another split, another fold or from another start.
        """
        return tuple((key, value) for key, value in self._asdict().items() if key not in REPLICATES)


@dataclass(frozen=True)
class Tiling:
    """How the ratings are cut for `mfjax.kernels.tiles`; any choice gives the same sums, rounded.

    Args:
      width: ratings of a row in one tile.
      chunk: ratings worked on at once, so many as stay in cache.
      group: rows whose normal equations are solved at once.
      shards: devices that share the rows of one fit.
    """

    width: int = 8
    chunk: int = 1024
    group: int = 64
    shards: int = 1


@dataclass(frozen=True)
class Spec:
    """All that shapes a program: hashable, no pytree. The conventions are `mfjax.objective`'s."""

    num_users: int
    num_items: int
    max_rank: int = 16
    bias: bool = True
    missing: str = "ignore"
    loss_scale: str = "half"
    reg_by: str = "count"
    dtype: str = "float32"
    tiling: Tiling = Tiling()

    @property
    def columns(self) -> int:
        """Columns of each factor table: the rank's, and two more for the biases."""
        return self.max_rank + 2 * self.bias


@runtime_checkable
class PrepareFn(Protocol):
    """`prepare(ratings) -> layout`, once and on the host. May raise InputError or OutOfMemory."""

    def __call__(self, ratings: Ratings, /) -> Any: ...


@runtime_checkable
class GradientFn(Protocol):
    """`(factors, layout, hparams) -> (L, ∂L)`: the objective and its gradient, a pure function.

    The gradient of a pinned column is 0. `layout` holds the `fold_sums` of its ratings.
    """

    def __call__(
        self, factors: Factors, layout: Any, hparams: Hparams, /
    ) -> tuple[Float[Array, ""], Factors]: ...


class Gradient(NamedTuple):
    """One way to compute the gradient of the objective.

    `tolerance` is the most that max|a - b| / max|b| may be against `jax.grad` in float64.
    `work_bytes` are the temporaries of one lane. `shares_rows` says that devices may share the rows
    of a lane that is alone.
    """

    prepare: PrepareFn
    value_and_grad: GradientFn
    tolerance: float = 1e-10
    work_bytes: int = 0
    shares_rows: bool = False


class State(NamedTuple):
    """What the next epoch needs."""

    factors: Factors
    optimizer: PyTree


class Info(NamedTuple):
    """What a reader wants of an epoch, never fed back.

    The objective as the epoch saw it, and the norm of the factors' change.
    """

    loss: Float[Array, ""]
    update_norm: Float[Array, ""]


@runtime_checkable
class InitFn(Protocol):
    """`init(key, layout, hparams, factors=None) -> State`; `factors` are those of a warm start."""

    def __call__(
        self, key: Array, layout: Any, hparams: Hparams, factors: Factors | None = None, /
    ) -> State: ...


Visits = Int[Array, "batches batch"]  # places in the ratings


@runtime_checkable
class StepFn(Protocol):
    """`step(state, layout, hparams, visits) -> (State, Info)`: one epoch, a pure function.

    `visits` is what `VisitsFn` gave for this epoch.
    """

    def __call__(
        self,
        state: State,
        layout: Any,
        hparams: Hparams,
        visits: Int[Array, "batches batch"] | None,
        /,
    ) -> tuple[State, Info]: ...


@runtime_checkable
class VisitsFn(Protocol):
    """`visits(num_ratings, split_seed, epoch)`: the host's shuffle of the ratings of one epoch.

    A pure function; `[batches, batch_size]` places in the ratings, or None for a method that
    visits them in no order.
    """

    def __call__(self, num_ratings: int, split_seed: int, epoch: int, /) -> np.ndarray | None: ...


@runtime_checkable
class CheckFn(Protocol):
    """`check(ratings, hparams)` raises InputError, on the host, for a lane it cannot train."""

    def __call__(self, ratings: Ratings, hparams: Hparams, /) -> None: ...


def in_no_order(num_ratings: int, split_seed: int, epoch: int) -> None:
    """The visits of a method that takes all ratings at once."""


def any_lane(ratings: Ratings, hparams: Hparams) -> None:
    """The check of a method that can train every lane."""


class Method(NamedTuple):
    """A way to train: pure functions around one epoch.

    `reads` names the Hparams that the method reads beside the objective's. `solves_rows` says that
    it solves normal equations, for which wider tiles are faster; `work_bytes` and `shares_rows` are
    those of `Gradient`.
    """

    prepare: PrepareFn
    init: InitFn
    step: StepFn
    visits: VisitsFn = in_no_order
    reads: tuple[str, ...] = ()
    check: CheckFn = any_lane
    solves_rows: bool = False
    work_bytes: int = 0
    shares_rows: bool = False


@runtime_checkable
class MakeTransformation(Protocol):
    """`make(hparams, updates_per_epoch)`: the optax transformation of a lane."""

    def __call__(self, hparams: Hparams, updates_per_epoch: int, /) -> Any: ...


class Optimizer(NamedTuple):
    """An optax optimiser whose hyperparameters are traced.

    `reads` names the Hparams that it reads. `moves` says what a batch of `sgd` moves with it:
    `rows`, those that it touches, where an update is linear in the gradient and keeps no moments;
    `lazy`, the same rows and their moments; `table`, every row.
    """

    make: MakeTransformation
    reads: tuple[str, ...]
    moves: str = "table"


class Run(NamedTuple):
    """The scan carry of training, and all that a run needs to go on.

    Epochs count from 1; 0 is none. `best_score` is lower where better.
    """

    state: State
    best: Factors
    best_score: Float[Array, ""]
    best_epoch: Int[Array, ""]
    epoch: Int[Array, ""]
    alive: Bool[Array, ""]
    died_at: Int[Array, ""]
