"""Whether a sampler's sweeps are of its model: two ways to draw parameters and ratings together."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mfjax.bags import BAGS
from mfjax.kernels import KERNELS
from mfjax.methods.gibbs import BETA, FREEDOMS, Chain, gibbs
from mfjax.types import Hparams, Ratings, Sides, Spec, State

BATCHES = 50  # of the sweeps, whose means are taken as independent
LEFT_OUT = 20  # a share of 1/20 of the sweeps, the first, is

Drawn = tuple[Any, ...]  # operands of `statistics`, in their order


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


def joint_distribution(case: Case, steps: int, seed: int = 0) -> dict[str, float]:
    """How many standard errors the two ways to draw are apart, statistic by statistic.

    One draws all that the model has from its prior, and ratings given that; the other sweeps given
    the ratings, and draws ratings given what the sweep came to. Both are of one distribution where
    every conditional is right.

    Source: Geweke, "Getting It Right: Joint Distribution Tests of Posterior Simulators", 2004,
    section 3.

    Args:
      case: the problem.
      steps: sweeps, and draws from the prior.
      seed: of all that is drawn.

    Returns:
      By statistic, about standard normal where the sampler is right.
    """
    rng = np.random.default_rng(seed)
    of_prior = [prior_draw(case, rng) for _ in range(steps)]
    columns = [np.stack(column) for column in zip(*of_prior, strict=True)]
    exact = np.asarray(jax.jit(jax.vmap(statistics))(*columns))
    swept = np.asarray(sweeps(case, steps, seed))[steps // LEFT_OUT :]
    whole = len(swept) // BATCHES * BATCHES
    batches = swept[:whole].reshape(BATCHES, -1, swept.shape[1]).mean(1)
    error = np.sqrt(batches.var(0, ddof=1) / BATCHES + exact.var(0) / steps)
    apart = (batches.mean(0) - exact.mean(0)) / np.where(error > 0, error, 1)
    return dict(zip(NAMES, apart.tolist(), strict=True))


NAMES = (
    "mean",
    "mean squared",
    "log determinant of the precision",
    "factors squared",
    "biases",
    "embeddings squared",
    "log ridge",
    "log scatter of rows",
    "log freedom of the scatter",
    "log precision",
    "ratings",
    "ratings squared",
)


def statistics(mean, precision, rows, embeddings, ridge, of_row, freedom, tau, values) -> Array:
    """Of the users, and of the ratings; bounded or logarithmic, so that all have variances."""
    return jnp.stack(
        [
            jnp.tanh(mean).sum(),
            jnp.tanh(mean[:-1] ** 2).sum(),
            jnp.linalg.slogdet(precision)[1],
            jnp.tanh(rows[:, :-1] ** 2).mean(),
            jnp.tanh(rows[:, -1]).mean(),
            jnp.tanh(embeddings**2).sum(),
            jnp.log(ridge),
            jnp.log(of_row).mean(),
            jnp.log(freedom),
            jnp.log(tau),
            jnp.tanh(values).mean(),
            jnp.tanh(values**2).mean(),
        ]
    )


# from the prior


def prior_draw(case: Case, rng: np.random.Generator) -> Drawn:
    """The operands of `statistics`."""
    user, item = case.pairs
    users = _prior_side(case, 0, rng)
    items = _prior_side(case, 1, rng)
    tau = rng.exponential()
    of_pairs = tau * users[5][user] * items[5][item]
    own, other = users[2][user], items[2][item]
    center = (own[:, :-1] * other[:, :-1]).sum(1) + own[:, -1] + other[:, -1]
    values = center + rng.normal(size=len(center)) / np.sqrt(of_pairs)
    return (*users, tau, values)


def _prior_side(case: Case, side: int, rng: np.random.Generator) -> Drawn:
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
    return mean, precision, rows, embeddings, ridge, of_row, freedom


# from sweeps


def sweeps(case: Case, steps: int, seed: int) -> Float[Array, "steps statistics"]:
    """The statistics after each sweep and the ratings that are drawn given it."""
    spec = Spec(case.users, case.items, case.rank, dtype="float64")
    bags = Sides((BAGS["rated"],), (BAGS["rated"],)) if case.bags else None
    kernel = KERNELS[case.kernel](spec)
    prior = {key: getattr(case, key) for key in ("noise", "noise_freedom", "prior_scale")}
    method = gibbs(spec, kernel=kernel, bags=bags, **prior, samples=1)
    user, item = case.pairs
    places = Ratings.of(user, item, 1 + np.arange(len(user)), dtype="float64")
    layout = jax.device_put(method.prepare(places))
    sums = layout.sums._replace(item_sum=0 * layout.sums.item_sum)  # μ = 0 is the model's
    hparams = Hparams.of("float64", rank=case.rank, fold=-2, init_seed=seed)
    ratings_key = jax.random.key(seed + 1)

    def rated(values: Float[Array, " n"]):
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

    def advance(carry, step):
        state, values = carry
        state, _ = method.step(state, rated(values), hparams, step)
        values = new_values(jax.random.fold_in(ratings_key, step), state)
        chain: Chain = state.optimizer
        own = chain.sides.user
        ridge = own.ridge if case.bags else jnp.ones_like(own.ridge)
        rows = state.factors.user[:, :-1]
        embeddings = jnp.zeros(0) if own.embeddings is None else own.embeddings
        freedom = own.freedom if case.noise in ("user", "both") else jnp.ones_like(own.freedom)
        drawn = (own.mean, own.precision, rows, embeddings, ridge, own.of_row, freedom)
        return (state, values), statistics(*drawn, chain.precision, values)

    state = method.init(jax.random.key(seed), layout._replace(sums=sums), hparams)
    first = (state, jnp.zeros(len(user)))
    _, seen = jax.jit(partial(jax.lax.scan, advance))(first, jnp.arange(steps))
    return seen
