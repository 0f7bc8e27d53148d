"""Bayesian matrix factorisation by Gibbs sampling: every factor drawn given all others.

    r_ij ~ N(μ + x_i·φ_j + c_j, 1/(τ γ_i δ_j w_ij))    x_i = [u_i | b_i], φ_j = [v_j | 1]
    x_i ~ N(m + Bᵀ f_i, Λ⁻¹)                           f_i the features of row i, in its bag
    Λ ~ Wishart(I/s, C)                                C free columns of x
    m | Λ ~ N(0, (β₀ Λ)⁻¹)
    B | Λ, λ ~ N(0, (λ Λ)⁻¹) a row
    λ, τ ~ Gamma(1, 1)
    γ_i, δ_j ~ Gamma(ν/2, ν/2)                         how far a user's, an item's ratings scatter

and the mirror image for items. A sweep draws, of the users and then of the items, the rows, (m, Λ),
B and λ, and then γ, δ, τ and the ν of each side. Of N rows with d features, E = X − F B the rows
less their features' part and ē its mean row:

    x_i    precision Λ + τ γ_i Σ_j w_ij δ_j φ_j φ_jᵀ, of mean its inverse times
           Λ (m + Bᵀ f_i) + τ γ_i Σ_j w_ij δ_j (r_ij − μ − c_j) φ_j                              (1)
    Λ      Wishart, of inverse scale sI + (E − 1ēᵀ)ᵀ(E − 1ēᵀ) + β₀N/(β₀+N) ē ēᵀ + λ BᵀB and
           C + N + d degrees of freedom; m ~ N(N ē/(β₀+N), ((β₀+N) Λ)⁻¹)                         (2)
    B      (FᵀF + λI) B = Fᵀ(X − 1mᵀ + N₁) + √λ N₂, rows of N₁ and N₂ ~ N(0, Λ⁻¹)                (3)
    λ      Gamma(1 + d C/2, 1 + tr(Λ BᵀB)/2)                                                     (4)
    γ_i    Gamma((ν + n_i)/2, (ν + τ Σ_j w_ij δ_j e_ij²)/2), δ_j alike                           (5)
    τ      Gamma(1 + n/2, 1 + Σ w_ij γ_i δ_j e_ij²/2)                                            (6)
    ν      ∝ (ν/2)^(Nν/2) Γ(ν/2)^(−N) exp(ν/2 Σ_i (ln γ_i − γ_i)), of either side its own        (7)

Sources: Salakhutdinov and Mnih, "Bayesian Probabilistic Matrix Factorization using Markov Chain
Monte Carlo", 2008, equations (6) to (14); Simm et al., "Macau: Scalable Bayesian Factorization with
High-Dimensional Side Information Using MCMC", 2017, equations (4) to (6), where (2) has the part of
B, without which the sampler is not of this model; (5) is derived from the scale mixture of normals
that a row's ratings are, Student's t with ν degrees of freedom.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from mfjax.averages import Sample, no_averages, with_sample
from mfjax.bags import Bag, Sources, collect, is_transductive, spread
from mfjax.bags.ridge import Basis, prepare_basis, solve_ridge
from mfjax.bags.tables import of_rated, prepare_bags
from mfjax.errors import InputError
from mfjax.kernels import Kernel
from mfjax.kernels.choice import best_kernel
from mfjax.kernels.kernel import ITEM, USER, Prior, with_side
from mfjax.kernels.predictions import predict
from mfjax.losses import require_squared
from mfjax.methods.draws import bartlett_shapes, gammas, normals, rows_of_precision, wishart
from mfjax.methods.initial import initial_factors
from mfjax.objective import FoldSums, LaneTerms, lane_terms, train_weight
from mfjax.types import (
    Averages,
    Factors,
    Hparams,
    Info,
    Kept,
    Method,
    Ratings,
    Sides,
    Spec,
    State,
)

BETA = 2.0  # β₀
FIRST_RIDGE = 10.0  # λ, before it is drawn
FREEDOMS = 2 * 2 ** (np.arange(25) / 4)  # 2 to 128: ν, as likely each before it is drawn
FIRST_FREEDOM = 8.0
NOISES = ("common", "user", "item", "both")

Vector = Float[Array, " columns"]
Matrix = Float[Array, "columns columns"]
Rows = Float[Array, "rows columns"]
Embeddings = Float[Array, "features columns"]


class Population(NamedTuple):
    """What the rows of one side have in common, and how far the ratings of each scatter.

    Args:
      mean: m, `[columns]` of x.
      precision: Λ, `[columns, columns]`; the unit matrix outside of the free columns.
      of_row: γ or δ, `[rows]`.
      freedom: ν, scalar.
      embeddings: B, `[features, columns]` of x; None without a bag.
      ridge: λ, scalar.
    """

    mean: Vector
    precision: Matrix
    of_row: Float[Array, " rows"]
    freedom: Float[Array, ""]
    embeddings: Embeddings | None
    ridge: Float[Array, ""]


class Chain(NamedTuple):
    """What a sampler knows beside the factors.

    Args:
      sides: the Population of each side.
      precision: τ, scalar.
      averages: of the predictions so far.
    """

    sides: Sides
    precision: Float[Array, ""]
    averages: Averages


class Gammas(NamedTuple):
    """The gamma variates of one side in a sweep, or their shapes.

    Args:
      of_row: of γ or δ, `[rows]`; () where there are none.
      precision: of Λ, `[columns]`.
      ridge: of λ, scalar; () without features.
    """

    of_row: Any
    precision: Vector
    ridge: Any


class Layout(NamedTuple):
    """The ratings as the kernel solves rows of them, and as they came; of each side its features.

    Args:
      rows: the kernel's.
      ratings: in any order.
      bags: the Bag of each side; None of one without features.
      bases: the Basis of each side; None without features, and of too many.
      sums: of the folds.
    """

    rows: Any
    ratings: Ratings
    bags: Sides
    bases: Sides
    sums: FoldSums


def gibbs(
    spec: Spec,
    *,
    kernel: Kernel | None = None,
    bags: Sources | None = None,
    noise: str = "both",
    noise_freedom: float | None = None,
    prior_scale: float = 1.0,
    burn_in: int = 20,
    thinning: int = 10,
    samples: int = 20,
) -> Method:
    """One epoch is one sweep over all that is drawn; from `burn_in` on, predictions are averaged.

    Derivation: the conditionals (1) to (7) of `mfjax.methods.gibbs`.

    Time: that of `als` an epoch, and O(ratings) for the averages.

    Args:
      spec: the shapes and the conventions.
      kernel: what sums and draws rows, made for `spec`; None: `best_kernel`.
      bags: the sources of the features of each side; None: no features.
      noise: whose ratings scatter by an own γ or δ: `common`, nobody's; `user`; `item`; `both`.
      noise_freedom: ν, at least 2; None: drawn, of either side its own, among `FREEDOMS`.
      prior_scale: s, positive: the larger, the wider the factors before a rating is seen.
      burn_in: epochs of which no prediction is averaged.
      thinning: epochs for one of which the sample is kept.
      samples: so many are kept, the last; what the model predicts of other pairs is their mean.
        Each has the memory of the factors, and of those of the items again where users have a bag
        of what they rated, by which new users are folded in.

    Returns:
      A Method that reads `init_seed` alone: neither λ nor a learning rate. What it predicts of the
      ratings that it was prepared with is the mean over its samples.

    Raises:
      InputError: a noise or ν that it does not know, a number out of range; missing entries that
        cost something.
    """
    _refuse_wrong(spec, noise, noise_freedom, prior_scale)
    counts = (("burn_in", burn_in, 0), ("thinning", thinning, 1), ("samples", samples, 1))
    for name, value, least in counts:
        if value < least:
            raise InputError(f"{name}: expected {least} or more, got {value}")
    kernel = kernel or best_kernel(spec)
    sources = bags or Sides((), ())
    rated = of_rated(bags, spec)
    scatters = Sides(user=noise in ("user", "both"), item=noise in ("item", "both"))

    def prepare(ratings: Ratings) -> Layout:
        rows = kernel.prepare(ratings)
        of_sides = prepare_bags(ratings, sources, spec, shares_rows=kernel.shares_rows)
        bases = [bag and prepare_basis(bag, rows.sums, spec) for bag in of_sides]
        return Layout(rows, ratings, of_sides, Sides(*bases), rows.sums)

    def init(
        key: Array, layout: Layout, hparams: Hparams, factors: Factors | None = None, /
    ) -> State:
        lane = lane_terms(layout.sums, hparams, spec)
        start = initial_factors(key, lane, hparams, spec, factors)
        freedom = jnp.full_like(lane.scale, noise_freedom or FIRST_FREEDOM)
        sides = Sides(*(_population(side, layout, lane, freedom, spec) for side in (USER, ITEM)))
        precision = jnp.ones_like(lane.scale)
        kept = kept_of(start, sides, precision, rated)
        chain = Chain(
            sides=sides,
            precision=precision,
            averages=no_averages(len(layout.ratings.value), samples, kept),
        )
        return State(start, chain)

    def step(
        state: State, layout: Layout, hparams: Hparams, epoch: Int[Array, ""] | int, /
    ) -> tuple[State, Info]:
        lane = lane_terms(layout.sums, hparams, spec)
        key = jax.random.fold_in(jax.random.key(hparams.init_seed), epoch)
        user_key, item_key, gamma_key, freedom_key = jax.random.split(key, 4)
        chain: Chain = state.optimizer
        factors = state.factors
        shapes = [_shapes(side, chain, lane, scatters[side], spec) for side in (USER, ITEM)]
        of_precision = 1 + lane.counts.user.sum() / 2
        of_user, of_item, of_precision = gammas(gamma_key, (*shapes, of_precision))
        draw = partial(
            _draw_side,
            layout=layout,
            lane=lane,
            prior_scale=prior_scale,
            kernel=kernel,
            spec=spec,
        )
        factors, user = draw(user_key, of_user, USER, factors, chain)
        chain = chain._replace(sides=with_side(chain.sides, USER, user))
        factors, item = draw(item_key, of_item, ITEM, factors, chain)
        chain = chain._replace(sides=with_side(chain.sides, ITEM, item))
        ratings = layout.ratings
        prediction = predict(factors, ratings.user, ratings.item) + lane.centre
        weight = train_weight(ratings.weight, ratings.fold, lane)
        squares = weight * (prediction - ratings.value) ** 2
        units = (of_user.of_row, of_item.of_row, of_precision)
        chain = _draw_noise(freedom_key, units, chain, squares, ratings, noise_freedom)
        of_pairs = chain.sides.user.of_row[ratings.user] * chain.sides.item.of_row[ratings.item]
        kept = kept_of(factors, chain.sides, chain.precision, rated)
        sample = Sample(kept, prediction, noise=1 / (chain.precision * of_pairs))
        averages = with_sample(chain.averages, sample, epoch >= burn_in, thinning)
        change = jax.tree.map(jnp.subtract, factors, state.factors)
        info = Info(loss=squares.sum() / 2, update_norm=optax.tree.norm(change))
        return State(factors, chain._replace(averages=averages)), info

    return Method(
        prepare=prepare,
        init=init,
        step=step,
        solves_rows=True,
        work_bytes=kernel.work_bytes,
        shares_rows=kernel.shares_rows,
        ignores=("reg", "reg_bias", "reg_by", "loss_scale"),
        averages=lambda state: state.optimizer.averages,
        burn_in=burn_in,
        transductive=is_transductive(bags),
    )


def _refuse_wrong(spec: Spec, noise: str, noise_freedom: float | None, prior_scale: float) -> None:
    if noise not in NOISES:
        raise InputError(f"noise: expected one of {', '.join(NOISES)}, got {noise}")
    if noise_freedom is not None and not noise_freedom >= 2:
        raise InputError(f"noise_freedom: expected at least 2 or none, got {noise_freedom}")
    if not prior_scale > 0:
        raise InputError(f"prior_scale: expected a positive number, got {prior_scale}")
    require_squared(spec, "method=gibbs", "use method=sgd or method=descent")
    if spec.missing != "ignore":
        raise InputError(
            f"method=gibbs sees only ratings and needs missing=ignore, got {spec.missing}; "
            "use method=als"
        )


# rows of x = [latent | own bias]


def places_of_row(side: int, spec: Spec) -> Int[np.ndarray, " columns"]:
    """The columns of a factor table that x has.

    Args:
      side: 0, users, or 1, items.
      spec: of which the rank and `bias` are read.

    Returns:
      `[columns]`.
    """
    bias = [spec.max_rank + side] if spec.bias else []
    return np.array([*range(spec.max_rank), *bias], np.int32)


def _free(side: int, lane: LaneTerms, spec: Spec) -> Vector:
    return lane.columns[side].free[places_of_row(side, spec)]


def _population(
    side: int, layout: Layout, lane: LaneTerms, freedom: Float[Array, ""], spec: Spec
) -> Population:
    free = _free(side, lane, spec)
    bag: Bag | None = layout.bags[side]
    embeddings = None
    if bag is not None:
        embeddings = jnp.zeros((bag.num_features, len(free)), free.dtype)
    return Population(
        mean=jnp.zeros_like(free),
        precision=jnp.diag(1 + free),
        of_row=jnp.ones_like(lane.counts[side]),
        freedom=freedom,
        embeddings=embeddings,
        ridge=jnp.full_like(lane.scale, FIRST_RIDGE),
    )


def kept_of(
    factors: Factors,
    sides: Sides,
    precision: Float[Array, ""],
    rated: Callable[[Sides], Embeddings] | None,
) -> Kept:
    """What is kept of a sample; a new user's γ is that of the mean user, 1.

    Args:
      factors: as they were drawn.
      sides: the Population of each side.
      precision: τ, scalar.
      rated: takes the embeddings of what users rated from all; None: users have none.

    Returns:
      A Kept.
    """
    users, items = sides
    embeddings = Sides(users.embeddings, items.embeddings)
    return Kept(
        user=factors.user,
        item=factors.item,
        prior_mean=users.mean,
        prior_precision=users.precision,
        prior_rated=rated and rated(embeddings),
        rating_precision=precision * items.of_row,
    )


def _shapes(side: int, chain: Chain, lane: LaneTerms, scatters: bool, spec: Spec) -> Gammas:
    """The shapes of equations (2), (4) and (5), which a sweep does not change before it draws ν."""
    free = _free(side, lane, spec)
    own: Population = chain.sides[side]
    num_features = 0 if own.embeddings is None else len(own.embeddings)
    freedom = free.sum() + len(own.of_row) + num_features
    return Gammas(
        of_row=(own.freedom + lane.counts[side]) / 2 if scatters else (),
        precision=bartlett_shapes(freedom, free),
        ridge=1 + num_features * free.sum() / 2 if num_features else (),
    )


# the conditionals


def _draw_side(
    key: Array,
    units: Gammas,
    side: int,
    factors: Factors,
    chain: Chain,
    *,
    layout: Layout,
    lane: LaneTerms,
    prior_scale: float,
    kernel: Kernel,
    spec: Spec,
) -> tuple[Factors, Population]:
    """The rows of one side, equation (1), and what they have in common, (2)."""
    row_key, common_key, embedding_key = jax.random.split(key, 3)
    own: Population = chain.sides[side]
    other: Population = chain.sides[1 - side]
    bag, embeddings = layout.bags[side], own.embeddings
    free = _free(side, lane, spec)
    num_rows = len(own.of_row)
    of_features = jnp.zeros((num_rows, len(free)), free.dtype)
    if embeddings is not None:
        of_features = spread(bag, embeddings, lane)
    prior = Prior(
        precision=own.precision,
        linear=(own.mean[None] + of_features) @ own.precision,
        scale=1 / (chain.precision * own.of_row),
        of_other=other.of_row,
        noise=normals(row_key, num_rows, free),
    )
    table = kernel.draw_rows(factors, side, layout.rows, lane, prior)
    rows = table[:, places_of_row(side, spec)]
    own_part = rows - of_features
    mean, precision = _draw_common(common_key, units.precision, own_part, own, free, prior_scale)
    own = own._replace(mean=mean, precision=precision)
    if embeddings is not None:
        basis = layout.bases[side]
        own = _draw_embeddings(
            embedding_key, units.ridge, rows, own, embeddings, bag, basis, lane, free
        )
    return with_side(factors, side, table), own


def _draw_common(
    key: Array, units: Vector, rows: Rows, before: Population, free: Vector, prior_scale: float
) -> tuple[Vector, Matrix]:
    """m and Λ, equation (2), of rows less their features' part."""
    precision_key, mean_key = jax.random.split(key)
    num_rows = len(rows)
    average = rows.mean(0)
    deviation = rows - average[None]
    shrunk = BETA * num_rows / (BETA + num_rows)
    inverse_scale = (
        prior_scale * jnp.eye(len(free), dtype=rows.dtype)
        + deviation.T @ deviation
        + shrunk * average[:, None] * average[None]
    )
    if before.embeddings is not None:
        inverse_scale += before.ridge * before.embeddings.T @ before.embeddings
    precision = wishart(precision_key, units, inverse_scale, free)
    lower = jnp.linalg.cholesky((BETA + num_rows) * precision)
    spread = rows_of_precision(normals(mean_key, 1, free), lower)[0]
    return num_rows * average / (BETA + num_rows) + spread, precision


def _draw_embeddings(
    key: Array,
    unit: Float[Array, ""],
    rows: Rows,
    own: Population,
    start: Embeddings,
    bag: Bag,
    basis: Basis | None,
    lane: LaneTerms,
    free: Vector,
) -> Population:
    """B and λ, equations (3) and (4)."""
    row_key, feature_key = jax.random.split(key)
    lower = jnp.linalg.cholesky(own.precision)
    of_rows = rows_of_precision(normals(row_key, len(rows), free), lower)
    of_features = rows_of_precision(normals(feature_key, bag.num_features, free), lower)
    right = collect(bag, rows - own.mean[None] + of_rows, lane)
    right += jnp.sqrt(own.ridge) * of_features
    embeddings = solve_ridge(bag, basis, own.ridge, right, start, lane)
    squares = ((embeddings @ own.precision) * embeddings).sum()
    return own._replace(embeddings=embeddings, ridge=unit / (1 + squares / 2))


def _draw_noise(
    key: Array,
    units: tuple,
    chain: Chain,
    squares: Float[Array, " n"],
    ratings: Ratings,
    noise_freedom: float | None,
) -> Chain:
    """γ, δ, τ and ν, equations (5) to (7), given gamma variates and w e² of every rating."""
    of_user, of_item, of_precision = units
    user_key, item_key = jax.random.split(key)

    def drawn(key, unit, side: Population, row, weighted: Float[Array, " n"]) -> Population:
        sums = jnp.zeros_like(unit).at[row].add(weighted)
        of_row = unit / ((side.freedom + chain.precision * sums) / 2)
        freedom = draw_freedom(key, of_row) if noise_freedom is None else side.freedom
        return side._replace(of_row=of_row, freedom=freedom)

    user, item = chain.sides
    if len(of_user):
        weighted = squares * item.of_row[ratings.item]
        user = drawn(user_key, of_user, user, ratings.user, weighted)
    if len(of_item):
        weighted = squares * user.of_row[ratings.user]
        item = drawn(item_key, of_item, item, ratings.item, weighted)
    total = (squares * user.of_row[ratings.user] * item.of_row[ratings.item]).sum()
    return chain._replace(sides=Sides(user, item), precision=of_precision / (1 + total / 2))


def draw_freedom(key: Array, of_row: Float[Array, " rows"]) -> Float[Array, ""]:
    """ν, equation (7), given γ or δ.

    Args:
      key: scalar key.
      of_row: `[rows]`, positive.

    Returns:
      One of `FREEDOMS`.
    """
    half = jnp.asarray(FREEDOMS / 2, of_row.dtype)
    a_row = half * jnp.log(half) - jax.lax.lgamma(half)
    likelihood = len(of_row) * a_row + half * (jnp.log(of_row) - of_row).sum()
    return 2 * half[jax.random.categorical(key, likelihood)]
