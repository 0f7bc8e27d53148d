"""The nouns of mfjax, and the line between what is traced (`Hparams`) and static (`Spec`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from mfjax.errors import InputError

MISSING = ("ignore", "item_mean", "zero")
LOSS_SCALE = ("half", "sum", "mean")
REG_BY = ("row", "count", "total")
CONVENTIONS = {"missing": MISSING, "loss_scale": LOSS_SCALE, "reg_by": REG_BY}  # of the objective
WIDTHS = (8, 16, 32, 64)  # of tiles
NO_FOLD = -2  # a lane with this fold holds nothing out
ENDED = -1  # in place of an epoch, of a lane that trains no more
ASKED = -4  # the fold of a pair to be tested, which has weight 0 and no value
AnyArray = Array | np.ndarray
Cut = tuple[int, int]  # a split, by its split_seed, and one of its test folds
REPLICATES = ("split_seed", "test_fold", "fold", "init_seed")  # the Hparams that repeat a setting


class Sides(NamedTuple):
    """A pair of anything, one of each side of the matrix.

    Args:
      user: of the rows of U.
      item: of the rows of V.
    """

    user: Any
    item: Any


class Factors(NamedTuple):
    """The factor tables: what is trained.

    Args:
      user: `[users, columns]`, the latent columns and then, with biases, b_i and a pinned 1.
      item: `[items, columns]`, the latent columns and then, with biases, a pinned 1 and c_j.
    """

    user: Float[Array, "users columns"]
    item: Float[Array, "items columns"]


class Bounds(NamedTuple):
    """The range that predictions are clipped to before an error is taken; (-inf, inf): none.

    Args:
      low: scalar, in rating units.
      high: scalar, in rating units.
    """

    low: Float[Array, ""] | float
    high: Float[Array, ""] | float


class Ratings(NamedTuple):
    """Ratings in coordinate form; (user, item) pairs with positive weight are unique.

    Args:
      user: `[n]` rows of the user factors, from 0.
      item: `[n]` rows of the item factors, from 0.
      value: `[n]`, in rating units; finite.
      weight: `[n]`, w_ij of the objective, from 0; a rating of weight 0 is padding.
      fold: `[n]`; f >= 0 is held out by a lane whose fold is f, and -1 by none; `ASKED`, of weight
        0: a pair to be tested.
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
        """Ratings from any sequences.

        Args:
          user, item, value: `[n]` each.
          weight: `[n]`; None: all 1.
          fold: `[n]`; None: all -1, so that no lane holds any out.
          dtype: of the values and weights.

        Returns:
          NumPy arrays, the others int32; nothing is checked.
        """
        value = np.asarray(value, dtype)
        n = len(value)
        return cls(
            user=np.asarray(user, np.int32),
            item=np.asarray(item, np.int32),
            value=value,
            weight=np.ones(n, dtype) if weight is None else np.asarray(weight, dtype),
            fold=np.full(n, -1, np.int32) if fold is None else np.asarray(fold, np.int32),
        )

    def taken(self, which: np.ndarray) -> Ratings:
        """Some of the ratings.

        Args:
          which: `[n]` booleans, or places in any order.

        Returns:
          Those, in the order of `which`.
        """
        return Ratings(*(column[which] for column in self))

    def padded(self, n: int) -> Ratings:
        """The same ratings followed by padding of weight 0, at user 0 and item 0.

        Args:
          n: how many there are then, at least as many as there are.

        Returns:
          `n` ratings, as NumPy arrays.
        """
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

    Ranges: learning_rate, huber_delta, absolute_width > 0; reg, reg_bias, reg_bag, init_scale >= 0;
    0 <= missing_weight <= 1e6; 0 <= momentum < 1; 0 <= rank <= max_rank of its program;
    0 <= seeds < 2³¹.

    Args:
      learning_rate: of the optimiser.
      reg: λ of the factors.
      reg_bias: λ of the biases.
      reg_bag: λ of the embeddings of features.
      init_scale: standard deviation of the first factors.
      missing_weight: of a missing entry, with `missing=zero`.
      momentum: of an optimiser that reads it.
      huber_delta: δ of the loss `huber`, in rating units.
      absolute_width: ε of the loss `absolute`, in rating units.
      rank: columns of the factors; 0 leaves the biases alone.
      fold: the fold that is held out, to validate on; -2 holds nothing out.
      init_seed: of the first factors.
      split_seed: of the split, and of the order in which `sgd` visits the ratings.
      test_fold: the test fold of the split, which is kept apart for the end.
    """

    learning_rate: float = 0.02
    reg: float = 0.05
    reg_bias: float = 0.01
    reg_bag: float = 30.0
    init_scale: float = 0.1
    missing_weight: float = 1.0
    momentum: float = 0.9
    huber_delta: float = 1.0
    absolute_width: float = 0.1
    rank: int = 16
    fold: int = 0
    init_seed: int = 0
    split_seed: int = 0
    test_fold: int = 0

    @classmethod
    def of(cls, dtype: str = "float32", **fields: Any) -> Hparams:
        """Hparams whose every field has a fixed dtype.

        Without it, 0.5, 0 and float32(1) would be three traces.

        Args:
          dtype: of the fields that are no whole numbers.
          **fields: values of some fields; the others have their defaults.

        Returns:
          NumPy arrays, scalar where a scalar is given; rank, fold and seeds are int32.
        """
        defaults = cls()._asdict()
        values = defaults | fields

        def cast(key: str) -> np.ndarray:
            is_float = isinstance(defaults[key], float)
            return np.asarray(values[key], dtype if is_float else np.int32)

        return cls(**{key: cast(key) for key in values})

    @property
    def cut(self) -> Cut:
        """Which Problem a lane is of."""
        return self.split_seed, self.test_fold

    @property
    def setting(self) -> tuple[tuple[str, float], ...]:
        """What a search chooses: the Hparams, but for those that repeat a setting.

        A setting is repeated on another split or fold, or from another start.
        """
        return tuple((key, value) for key, value in self._asdict().items() if key not in REPLICATES)


@dataclass(frozen=True)
class Tiling:
    """How the ratings are cut for `mfjax.kernels.tiles`; any choice gives the same sums, rounded.

    Args:
      width: ratings of a row in one tile; `tile_width` chooses one of `WIDTHS`.
      chunk: ratings worked on at once, so many as stay in cache.
      group: rows whose normal equations are solved at once, a multiple of 8.
      shards: devices, or threads, that share the rows of one fit; its program sets how many.
    """

    width: int = 8
    chunk: int = 1024
    group: int = 64
    shards: int = 1


@dataclass(frozen=True)
class Spec:
    """All that shapes a program: hashable, no pytree. The conventions are `mfjax.objective`'s.

    Args:
      num_users, num_items: rows of the factor tables.
      max_rank: latent columns of the factor tables, of which a lane of lower rank pins some at 0.
      bias: whether predictions are μ + b_i + c_j + u_i·v_j, on ratings less μ, or u_i·v_j alone.
      missing: what a missing entry costs: `ignore`, nothing; `item_mean`, it counts as its item's
        mean training rating; `zero`, as 0 with weight `hparams.missing_weight`.
      loss: ℓ(p, r) of a prediction and a rating: one of `mfjax.losses.LOSSES`.
      loss_scale: `half`: ½ Σ e² + ½ λ Σ x²; `sum`: without the ½; `mean`: `half` over the number of
        training ratings.
      reg_by: what λ of a row is multiplied by: `row`, 1; `count`, its training ratings; `total`,
        all training ratings.
      dtype: of the factors and of all that is computed with them.
      tiling: how the ratings are cut.

    Raises:
      InputError: a missing entry costs something, and the loss is not `squared`.
    """

    num_users: int
    num_items: int
    max_rank: int = 16
    bias: bool = True
    missing: str = "ignore"
    loss: str = "squared"
    loss_scale: str = "half"
    reg_by: str = "count"
    dtype: str = "float32"
    tiling: Tiling = Tiling()

    def __post_init__(self):
        if self.missing != "ignore" and self.loss != Spec.loss:
            raise InputError(
                f"missing={self.missing} needs loss={Spec.loss}, got loss={self.loss}; "
                "use missing=ignore"
            )

    @property
    def columns(self) -> int:
        """Columns of each factor table: the rank's, and two more for the biases."""
        return self.max_rank + 2 * self.bias


@runtime_checkable
class PrepareFn(Protocol):
    """`prepare(ratings) -> layout`, once and on the host.

    Args:
      ratings: of every fold, in NumPy; padding of weight 0 may stand anywhere.

    Returns:
      The layout, a pytree of arrays; its `sums` are the `mfjax.objective.fold_sums` of the ratings.

    Raises:
      InputError: it cannot take these ratings.
      OutOfMemory: the layout would not fit.
    """

    def __call__(self, ratings: Ratings, /) -> Any: ...


@runtime_checkable
class GradientFn(Protocol):
    """`(factors, layout, hparams) -> (L, ∂L)`: the objective and its gradient, a pure function.

    Args:
      factors: of one lane; what stands in a pinned column is not read.
      layout: what `prepare` made.
      hparams: of one lane, traced.

    Returns:
      The scalar L of `mfjax.objective`, and its gradient in the factors, 0 in a pinned column.
    """

    def __call__(
        self, factors: Factors, layout: Any, hparams: Hparams, /
    ) -> tuple[Float[Array, ""], Factors]: ...


class ErrorSums(NamedTuple):
    """What the errors of some ratings come to; e is the clipped prediction less the rating.

    Args:
      squares: scalar Σ w e².
      absolutes: scalar Σ w |e|.
      weights: scalar Σ w.
    """

    squares: Float[AnyArray, ""] | np.floating
    absolutes: Float[AnyArray, ""]
    weights: Float[AnyArray, ""]


@runtime_checkable
class ErrorsFn(Protocol):
    """`errors(factors, ratings, lane, bounds)`: a lane's errors, a pure function.

    Args:
      factors: of the lane, pinned.
      ratings: of its problem.
      lane: the constants of L, a `mfjax.objective.LaneTerms`.
      bounds: to which predictions are clipped.

    Returns:
      The sums of its training ratings, and of those that it holds out.
    """

    def __call__(
        self, factors: Factors, ratings: Ratings, lane: Any, bounds: Bounds, /
    ) -> tuple[ErrorSums, ErrorSums]: ...


class Gradient(NamedTuple):
    """One way to compute the gradient of the objective.

    Args:
      prepare: the layout of the ratings, on the host.
      value_and_grad: the objective and its gradient.
      tolerance: the most that max|a - b| / max|b| may be against `jax.grad` in float64.
      work_bytes: an estimate of the temporaries of one lane, in bytes.
      shares_rows: whether devices may share the rows of a lane that is alone.
      errors: of a lane in one pass; None: as `mfjax.metrics.evaluation` sums them.
    """

    prepare: PrepareFn
    value_and_grad: GradientFn
    tolerance: float = 1e-10
    work_bytes: int = 0
    shares_rows: bool = False
    errors: ErrorsFn | None = None


class Kept(NamedTuple):
    """What is kept of a sample: the factors, and by what a new user's row is drawn given them.

    x = [latent | bias] of a row, without a bias latent; the mean of x is m and what the items that
    the user rated sum to, over the root of how many they are.

    Args:
      user: `[users, columns]`.
      item: `[items, columns]`.
      prior_mean: `[x]`, m.
      prior_precision: `[x, x]`, of x about its mean; 0 in a column that another sample has alone.
      prior_rated: `[items, x]`, what each item adds to the mean; None where none does.
      rating_precision: `[items]`, of a rating of each item about its prediction, its weight 1.
    """

    user: Float[AnyArray, "users columns"]
    item: Float[AnyArray, "items columns"]
    prior_mean: Float[AnyArray, " x"]
    prior_precision: Float[AnyArray, "x x"]
    prior_rated: Float[AnyArray, "items x"] | None
    rating_precision: Float[AnyArray, " items"]


class Averages(NamedTuple):
    """What a sampler has averaged over its samples.

    Args:
      num_samples: scalar, so far.
      mean: `[n]`, of the predictions of the ratings that `prepare` took, in rating units and not
        clipped; those of the last sample while none counts.
      squares: `[n]`, Σ (prediction − mean)².
      noise: `[n]`, the mean variance of a rating about its prediction.
      samples: what is kept of the last, `[samples, …]` each.
    """

    num_samples: Int[AnyArray, ""]
    mean: Float[AnyArray, " n"]
    squares: Float[AnyArray, " n"]
    noise: Float[AnyArray, " n"]
    samples: Kept


class State(NamedTuple):
    """What the next epoch needs.

    Args:
      factors: as the last epoch left them.
      optimizer: the optimiser's own state, a pytree; () where there is none.
      embeddings: `[features, columns]` of each side, of which the factors are partly made, and None
        of a side without features; None where neither has any.
    """

    factors: Factors
    optimizer: PyTree
    embeddings: Sides | None = None


class Info(NamedTuple):
    """What a reader wants of an epoch, never fed back.

    Args:
      loss: scalar, the objective as the epoch saw it; `descent` sees it before its step.
      update_norm: scalar, the Euclidean norm of the change of all factors.
    """

    loss: Float[Array, ""]
    update_norm: Float[Array, ""]


@runtime_checkable
class InitFn(Protocol):
    """`init(key, layout, hparams, factors=None) -> State`: before the first epoch, a pure function.

    Args:
      key: a scalar key, of which all that is random comes.
      layout: what `prepare` made.
      hparams: of one lane, traced.
      factors: of a warm start; None: drawn by `mfjax.methods.initial`.

    Returns:
      A State whose pinned columns are at their pins.
    """

    def __call__(
        self, key: Array, layout: Any, hparams: Hparams, factors: Factors | None = None, /
    ) -> State: ...


@runtime_checkable
class StepFn(Protocol):
    """`step(state, layout, hparams, epoch) -> (State, Info)`: one epoch, a pure function.

    Args:
      state: before the epoch.
      layout: what `prepare` made.
      hparams: of one lane, traced.
      epoch: scalar, traced: the epochs that were trained before.

    Returns:
      The State after the epoch, and its Info.
    """

    def __call__(
        self,
        state: State,
        layout: Any,
        hparams: Hparams,
        epoch: Int[Array, ""] | int,
        /,
    ) -> tuple[State, Info]: ...


@runtime_checkable
class CheckFn(Protocol):
    """`check(ratings, hparams)`: refuses, on the host, a lane that the method cannot train.

    Args:
      ratings: of the lane's split, its held-out fold among them.
      hparams: of the lane, not traced.

    Raises:
      InputError: why, and what to set.
    """

    def __call__(self, ratings: Ratings, hparams: Hparams, /) -> None: ...


def any_lane(ratings: Ratings, hparams: Hparams) -> None:
    """The check of a method that can train every lane.

    Args:
      ratings, hparams: as those of `CheckFn`, not read.
    """


class Method(NamedTuple):
    """A way to train: pure functions around one epoch.

    Args:
      prepare: the layout of the ratings, on the host.
      init: the state before the first epoch.
      step: one epoch.
      reads: names the Hparams that the method reads beside the objective's; `split_seed` is one
        where an epoch takes the ratings in batches, in an order of its own.
      check: refuses lanes that it cannot train, on the host.
      solves_rows: whether it solves normal equations, for which wider tiles are faster.
      work_bytes, shares_rows, errors: as those of `Gradient`.
      ignores: names the Hparams and conventions of the objective that it does not read.
      averages: of a state, where what predicts is a mean over epochs: of the ratings that it was
        prepared with, those to be tested among them with weight 0 and without their values. None:
        the factors of the state predict.
      burn_in: epochs that the averages are not over; a lane trains for more.
      rated: `(embeddings) -> [items, columns]`, what each item adds to the rows of the users who
        rated it, over the root of how many they rated; None: nothing.
      transductive: whether its bags have the pairs to be tested, which `prepare` then takes too.
      abreast: lanes of one split that are trained faster together, under `vmap`; an epoch of
        `ENDED` leaves a lane as it is, where they are more than one.
    """

    prepare: PrepareFn
    init: InitFn
    step: StepFn
    reads: tuple[str, ...] = ()
    check: CheckFn = any_lane
    solves_rows: bool = False
    work_bytes: int = 0
    shares_rows: bool = False
    errors: ErrorsFn | None = None
    ignores: tuple[str, ...] = ()
    averages: Callable[[State], Averages] | None = None
    burn_in: int = 0
    rated: Callable[[Sides], Float[AnyArray, "items columns"]] | None = None
    transductive: bool = False
    abreast: int = 1


@runtime_checkable
class MakeTransformation(Protocol):
    """`make(hparams, updates_per_epoch)`: the optax transformation of a lane.

    Args:
      hparams: of one lane, traced.
      updates_per_epoch: by which a schedule counts epochs; 1 of `descent`.

    Returns:
      An `optax.GradientTransformationExtraArgs`, made anew inside the traced program.
    """

    def __call__(self, hparams: Hparams, updates_per_epoch: int, /) -> Any: ...


class Rule(NamedTuple):
    """What an optimiser is, for a kernel that moves rows by itself.

    Args:
      name: of the optax alias.
      options: its keyword arguments, the same in every lane, as pairs.
      reads: names the Hparams handed to it by keyword.
      rate: `(hparams, updates_per_epoch)` to a learning rate, or to a schedule of them.
    """

    name: str
    options: tuple[tuple[str, Any], ...]
    reads: tuple[str, ...]
    rate: Callable[[Hparams, int], Any]


class Optimizer(NamedTuple):
    """An optax optimiser whose hyperparameters are traced.

    Args:
      make: the optax transformation of a lane.
      reads: names the Hparams that it reads.
      moves: what a batch of `sgd` moves with it: `rows`, those that it touches, where an update is
        linear in the gradient and keeps no moments; `lazy`, the same rows and their moments;
        `table`, every row.
      rule: which optax alias it is; None: nobody says.
    """

    make: MakeTransformation
    reads: tuple[str, ...]
    moves: str = "table"
    rule: Rule | None = None


class Run(NamedTuple):
    """The scan carry of training, and all that a run needs to go on.

    Epochs count from 1; 0 is none.

    Args:
      state: after the last epoch that was finite.
      best: the factors of the best epoch.
      best_score: scalar, of the column that chooses, lower is better; infinite until there is one.
      best_epoch: scalar.
      epoch: scalar, the last that was trained.
      alive: scalar, False from the epoch on whose loss or factors were not finite.
      died_at: scalar, that epoch.
      best_embeddings: of the best epoch; None where there are no features.
    """

    state: State
    best: Factors
    best_score: Float[Array, ""]
    best_epoch: Int[Array, ""]
    epoch: Int[Array, ""]
    alive: Bool[Array, ""]
    died_at: Int[Array, ""]
    best_embeddings: Sides | None = None
