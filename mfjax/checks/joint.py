"""Whether a sampler's sweeps are of its model: what they do to draws of parameters and ratings."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mfjax.bags import BAGS
from mfjax.kernels import KERNELS
from mfjax.kernels.kernel import ITEM, USER
from mfjax.methods.gibbs import BETA, FREEDOMS, Chain, Population, gibbs, places_of_row
from mfjax.types import Factors, Hparams, Ratings, Sides, Spec, State

BATCH = 1_000  # chains at once


class Side(NamedTuple):
    """What is drawn of one side: its Population, and its rows `[rows, columns]` of x."""

    population: Population
    rows: Float[Array, "rows columns"]


class Drawn(NamedTuple):
    """All that is drawn: both sides, τ and the ratings."""

    user: Side
    item: Side
    precision: Float[Array, ""]
    values: Float[Array, " n"]


class Case(NamedTuple):
    """The tiny problem: every user rates every item.

    Args:
      users, items, rank: its shape.
      noise, noise_freedom, prior_scale: those of `mfjax.methods.gibbs.gibbs`.
      bags: whether each side has the bag of whom or what it rated.
      kernel: a row of KERNELS.
    """

    users: int = 4
    items: int = 3
    rank: int = 1
    noise: str = "both"
    noise_freedom: float | None = None
    prior_scale: float = 1.0
    bags: bool = False
    kernel: str = "xla"

    @property
    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """User and item of every rating."""
        user, item = np.divmod(np.arange(self.users * self.items), self.items)
        return user, item


def joint_distribution(case: Case, chains: int, sweeps: int = 5, seed: int = 0) -> dict[str, float]:
    """By how many standard errors sweeps move what is of the joint distribution already.

    Each chain begins at parameters and ratings drawn from the model. A sweep given the ratings,
    and ratings drawn anew given what it came to, leave their distribution as it is where every
    conditional is right; and the chains are independent, so that the standard errors are exact.

    Source: Geweke, "Getting It Right: Joint Distribution Tests of Posterior Simulators", 2004,
    section 3; from exact draws after Gandy and Scott, "Unit Testing for MCMC and other Monte Carlo
    Methods", 2020, section 3.

    Args:
      case: the problem.
      chains: so many, in whole batches of `BATCH`.
      sweeps: of each.
      seed: of all that is drawn.

    Returns:
      By statistic, about standard normal where the sampler is right; 0 of what is not drawn.
    """
    rng = np.random.default_rng(seed)
    advance = jax.jit(jax.vmap(swept(case, sweeps)))
    measure = jax.jit(jax.vmap(statistics))
    gaps = []
    for first in range(0, chains, BATCH):
        drawn = [prior_draw(case, rng) for _ in range(BATCH)]
        before = jax.tree.map(lambda *leaves: np.stack(leaves), *drawn)
        after = advance(seed + first + np.arange(BATCH), before)
        gaps.append(np.asarray(measure(after)) - np.asarray(measure(before)))
    gap = np.concatenate(gaps)
    error = gap.std(0, ddof=1) / np.sqrt(len(gap))
    apart = gap.mean(0) / np.where(error > 0, error, 1)
    return dict(zip(NAMES, apart.tolist(), strict=True))


OF_A_SIDE = (
    "mean",
    "mean squared",
    "log determinant of the precision",
    "factors squared",
    "biases",
    "embeddings squared",
    "log ridge",
    "log scatter",
    "log freedom of the scatter",
)
NAMES = (
    *(f"{side}: {name}" for side in Sides._fields for name in OF_A_SIDE),
    *("log precision", "ratings", "ratings squared"),
)


def statistics(drawn: Drawn) -> Float[Array, " statistics"]:
    """Of both sides, and of the ratings; bounded or logarithmic, so that all have variances."""
    return jnp.stack(
        [
            *_of_side(drawn.user),
            *_of_side(drawn.item),
            jnp.log(drawn.precision),
            jnp.tanh(drawn.values).mean(),
            jnp.tanh(drawn.values**2).mean(),
        ]
    )


def _of_side(side: Side) -> list[Array]:
    own, rows = side
    embeddings = jnp.zeros(1) if own.embeddings is None else own.embeddings
    return [
        jnp.tanh(own.mean).sum(),
        jnp.tanh(own.mean[:-1] ** 2).sum(),
        jnp.linalg.slogdet(own.precision)[1],
        jnp.tanh(rows[:, :-1] ** 2).mean(),
        jnp.tanh(rows[:, -1]).mean(),
        jnp.tanh(embeddings**2).sum(),
        jnp.log(own.ridge),
        jnp.log(own.of_row).mean(),
        jnp.log(own.freedom),
    ]


# from the prior


def prior_draw(case: Case, rng: np.random.Generator) -> Drawn:
    """Parameters and ratings from the model as it is stated."""
    user, item = case.pairs
    users, items = (_prior_side(case, side, rng) for side in (USER, ITEM))
    precision = rng.exponential()
    of_pairs = precision * users.population.of_row[user] * items.population.of_row[item]
    own, other = users.rows[user], items.rows[item]
    center = (own[:, :-1] * other[:, :-1]).sum(1) + own[:, -1] + other[:, -1]
    values = center + rng.normal(size=len(center)) / np.sqrt(of_pairs)
    return Drawn(users, items, np.float64(precision), values)


def _prior_side(case: Case, side: int, rng: np.random.Generator) -> Side:
    num_rows = (case.users, case.items)[side]
    num_features = (case.items, case.users)[side] if case.bags else 0
    columns = case.rank + 1
    normal = rng.normal(size=(columns, columns))
    precision = normal @ normal.T / case.prior_scale
    lower = np.linalg.cholesky(precision)

    def of_precision(count: int, times: float = 1.0) -> np.ndarray:
        return np.linalg.solve(np.sqrt(times) * lower.T, rng.normal(size=(columns, count))).T

    mean = of_precision(1, BETA)[0]
    ridge = rng.exponential() if case.bags else 1.0
    embeddings = of_precision(num_features, ridge)
    features = np.full((num_rows, num_features), 1 / np.sqrt(max(num_features, 1)))
    rows = mean + features @ embeddings + of_precision(num_rows)
    scatters = case.noise in ("both", ("user", "item")[side])
    freedom = (case.noise_freedom or rng.choice(FREEDOMS)) if scatters else 1.0
    of_row = rng.gamma(freedom / 2, 2 / freedom, num_rows) if scatters else np.ones(num_rows)
    population = Population(
        mean=mean,
        precision=precision,
        of_row=of_row,
        freedom=np.float64(freedom),
        embeddings=embeddings if case.bags else None,
        ridge=np.float64(ridge),
    )
    return Side(population, rows)


# sweeps


def swept(case: Case, sweeps: int) -> Callable[[Any, Drawn], Drawn]:
    """`(seed, drawn) -> drawn` after sweeps, and ratings drawn anew after each."""
    spec = Spec(case.users, case.items, case.rank, dtype="float64")
    bags = Sides((BAGS["rated"],), (BAGS["rated"],)) if case.bags else None
    kernel = KERNELS[case.kernel](spec)
    prior = {key: getattr(case, key) for key in ("noise", "noise_freedom", "prior_scale")}
    method = gibbs(spec, kernel=kernel, bags=bags, **prior, samples=1)
    user, item = case.pairs
    places = Ratings.of(user, item, 1 + np.arange(len(user)), dtype="float64")
    layout = jax.device_put(method.prepare(places))
    sums = layout.sums._replace(item_sum=0 * layout.sums.item_sum)  # μ = 0 is the model's

    def rated(values: Float[Array, " n"]) -> Any:
        def filled(path, leaf):
            if not path or getattr(path[-1], "name", "") != "value":
                return leaf
            return values[jnp.maximum(jnp.asarray(leaf, int) - 1, 0)]

        rows = jax.tree.map_with_path(filled, layout.rows)
        ratings = layout.ratings._replace(value=values)
        return layout._replace(rows=rows, ratings=ratings, sums=sums)

    def new_values(key: Array, state: State) -> Float[Array, " n"]:
        chain: Chain = state.optimizer
        users, items = chain.sides
        of_pairs = chain.precision * users.of_row[user] * items.of_row[item]
        mean = (state.factors.user[user] * state.factors.item[item]).sum(-1)
        return mean + jax.random.normal(key, mean.shape, mean.dtype) / jnp.sqrt(of_pairs)

    def state_of(drawn: Drawn, hparams: Hparams) -> State:
        start = method.init(jax.random.key(0), layout, hparams)
        tables = [
            table.at[:, places_of_row(n, spec)].set(side.rows)
            for n, (side, table) in enumerate(zip(drawn[:2], start.factors, strict=True))
        ]
        sides = Sides(drawn.user.population, drawn.item.population)
        chain = start.optimizer._replace(sides=sides, precision=drawn.precision)
        return State(Factors(*tables), chain)

    def drawn_of(state: State, values: Float[Array, " n"]) -> Drawn:
        chain: Chain = state.optimizer
        sides = [
            Side(population, table[:, places_of_row(n, spec)])
            for n, (population, table) in enumerate(zip(chain.sides, state.factors, strict=True))
        ]
        return Drawn(sides[0], sides[1], chain.precision, values)

    def advance(seed: Any, drawn: Drawn) -> Drawn:
        hparams = Hparams.of("float64", rank=case.rank, fold=-2)._replace(init_seed=seed)
        ratings_key = jax.random.fold_in(jax.random.key(seed), sweeps)

        def sweep(carry, step):
            state, values = carry
            state, _ = method.step(state, rated(values), hparams, step)
            values = new_values(jax.random.fold_in(ratings_key, step), state)
            return (state, values), None

        first = (state_of(drawn, hparams), drawn.values)
        (state, values), _ = jax.lax.scan(sweep, first, jnp.arange(sweeps))
        return drawn_of(state, values)

    return advance
