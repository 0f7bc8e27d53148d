"""Bags of features: their matrices, their sums, and the gradient of every variant given them."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close, epochs, laid_out, make
from jax.flatten_util import ravel_pytree

from mfjax import GRADIENTS, Factors, InputError, Sides, bags, optimizer, with_bags
from mfjax.bags import BAGS, prepare_bag
from mfjax.bags.tables import apart, stacked
from mfjax.gradients.dense import prepare as as_matrices
from mfjax.kernels.choice import available, choice
from mfjax.kernels.order import order
from mfjax.objective import dense_loss, fold_sums, held_out, lane_terms, pin, zero_pinned
from mfjax.testing import CONVENTIONS, LANE, LANES, SPEC, random_factors, small_ratings
from mfjax.types import NO_FOLD

KERNELS = available(["xla", "native"])
OFTEN = KERNELS[-1]  # the others are slow tests
MARKED = [*(pytest.param(name, marks=pytest.mark.slow) for name in KERNELS[:-1]), OFTEN]
ROUNDED = 1e-12  # relative, float64: the same terms in another order
SIDES = {"user": 0, "item": 1}
dense, spread, collect = map(jax.jit, (bags.dense, bags.spread, bags.collect))


def lane_of(ratings, hparams=LANE, spec=SPEC):
    return lane_terms(jax.device_put(fold_sums(ratings, spec)), hparams, spec)


def shape_of(side, spec=SPEC):
    rows = (spec.num_users, spec.num_items)
    return rows if side == 0 else rows[::-1]


# the matrices, by hand


def trained(ratings, hparams):
    return (ratings.weight > 0) & ~held_out(ratings.fold, hparams)


def rated_by_hand(ratings, side, hparams):
    matrix = np.zeros((SPEC.num_users, SPEC.num_items))
    for at in np.flatnonzero(trained(ratings, hparams)):
        matrix[ratings.user[at], ratings.item[at]] = 1
    matrix = matrix if side == 0 else matrix.T
    return matrix / np.sqrt(np.maximum(matrix.sum(1, keepdims=True), 1))


def popularity_by_hand(ratings, side, hparams):
    counts = np.log(1 + np.count_nonzero(rated_by_hand(ratings, side, hparams), axis=1))
    return ((counts - counts.mean()) / counts.std())[:, None]


BY_HAND = {"rated": rated_by_hand, "popularity": popularity_by_hand}


def both_by_hand(ratings, side, hparams):
    return np.concatenate([of(ratings, side, hparams) for of in BY_HAND.values()], 1)


BOTH = tuple(BAGS[name] for name in BY_HAND)


@pytest.mark.parametrize("kernel", MARKED)
@pytest.mark.parametrize("side", SIDES.values(), ids=SIDES)
@pytest.mark.parametrize("name", BY_HAND)
def test_a_bag_is_the_matrix_of_its_definition_in_every_lane(ratings, name, side, kernel):
    bag = prepare_bag([BAGS[name]], ratings, side, SPEC, kernel=kernel)
    for hparams in LANES:
        found = dense(bag, lane_of(ratings, hparams))
        assert_close([found], [BY_HAND[name](ratings, side, hparams)], ROUNDED)


def test_a_row_without_training_ratings_has_an_empty_bag(ratings):
    bag = prepare_bag([BAGS["rated"]], ratings, 0, SPEC)
    assert not np.any(np.asarray(dense(bag, lane_of(ratings)))[3])


@pytest.mark.parametrize("kernel", MARKED)
@pytest.mark.parametrize("side", SIDES.values(), ids=SIDES)
def test_the_sums_are_products_with_the_matrix_of_several_sources(ratings, side, kernel):
    bag = prepare_bag(BOTH, ratings, side, SPEC, kernel=kernel)
    lane = lane_of(ratings)
    matrix = both_by_hand(ratings, side, LANE)
    rng = np.random.default_rng(0)
    table = rng.normal(size=(matrix.shape[1], 4))
    rows = rng.normal(size=(matrix.shape[0], 4))
    assert bag.num_features == matrix.shape[1]
    ours = (spread(bag, table, lane), collect(bag, rows, lane))
    assert_close(ours, (matrix @ table, matrix.T @ rows), ROUNDED)


def test_lanes_that_hold_out_other_folds_share_one_program(ratings):
    bag = jax.device_put(prepare_bag(BOTH, ratings, 1, SPEC))
    rows = np.random.default_rng(0).normal(size=(SPEC.num_items, 3))
    traces = []

    def of_lane(fold):
        traces.append(fold)
        lane = lane_of(ratings, LANE._replace(fold=fold))
        return collect(bag, rows, lane)

    folds = np.array([0, 1, NO_FOLD])
    together = jax.jit(jax.vmap(of_lane))(folds)
    assert len(traces) == 1
    for fold, found in zip(folds, together, strict=True):
        matrix = both_by_hand(ratings, 1, LANE._replace(fold=fold))
        assert_close([found], [matrix.T @ rows], ROUNDED)


# the gradients

OF_SIDES = {
    "user": Sides((BAGS["rated"],), ()),
    "item": Sides((), BOTH),
    "both": Sides(BOTH, (BAGS["rated"],)),
}


def random_tables(spec, count):
    """Own rows and, after them, embeddings; the pinned columns not at their pins."""
    rng = np.random.default_rng(7)
    more = (rng.normal(size=(features, spec.columns)) for features in count)
    return Factors(*map(np.concatenate, zip(random_factors(spec), more, strict=True)))


def matrices_by_hand(sources, ratings, hparams):
    """X and Z, without features where there is no source."""
    names = {source: name for name, source in BAGS.items()}

    def of_side(side, of):
        parts = [BY_HAND[names[source]](ratings, side, hparams) for source in of]
        return np.concatenate([np.zeros((shape_of(side)[0], 0)), *parts], 1)

    return Sides(*(of_side(side, of) for side, of in enumerate(sources)))


def objective_by_hand(sources, ratings, hparams, spec):
    """L of `mfjax.bags` as a function of the tables, from full matrices alone."""
    layout = jax.device_put(as_matrices(ratings, spec))
    lane = lane_of(ratings, hparams, spec)
    plain = lane_of(ratings, hparams._replace(reg=0.0, reg_bias=0.0), spec)
    weights = jnp.where(held_out(layout.fold, hparams), 0, layout.weight)
    matrices = matrices_by_hand(sources, ratings, hparams)

    def objective(tables):
        own, embeddings = apart(tables, spec)
        own = pin(own, lane.columns)
        embeddings = [
            table if table is not None else np.zeros((0, spec.columns)) for table in embeddings
        ]
        embeddings = zero_pinned(Factors(*embeddings), lane.columns)
        sides = zip(own, matrices, embeddings, strict=True)
        factors = Factors(*(rows + matrix @ table for rows, matrix, table in sides))
        loss = dense_loss(factors, layout.value, weights, plain)
        for rows, table, columns, row_reg in zip(
            own, embeddings, lane.columns, lane.row_reg, strict=True
        ):
            decay = (row_reg[:, None] * columns.reg[None] * rows**2).sum()
            loss += lane.scale * (decay + hparams.reg_bag * (table**2).sum()) / 2
        return loss

    return objective, [matrix.shape[1] for matrix in matrices]


def marked(name, which):
    often = which == "both" and name in ("matrix", "tiles", "native")
    return pytest.param(name, which, marks=() if often else pytest.mark.slow)


CASES = [marked(name, which) for name in available(GRADIENTS) for which in OF_SIDES]
REG_BAG = np.float64(0.6)


@pytest.mark.parametrize(("name", "which"), CASES)
def test_every_gradient_given_bags_is_jax_grad_of_the_scalar(ratings, name, which):
    sources = OF_SIDES[which]
    spec = CONVENTIONS[(len(name) + len(which)) % len(CONVENTIONS)]
    hparams = LANE._replace(reg_bag=REG_BAG)
    objective, count = objective_by_hand(sources, ratings, hparams, spec)
    tables = random_tables(spec, count)
    gradient = with_bags(GRADIENTS[name](spec), sources, spec)
    loss, grad = jax.jit(gradient.value_and_grad)(tables, gradient.prepare(ratings), hparams)
    expected, by_jax = jax.jit(jax.value_and_grad(objective))(tables)
    assert float(loss) == pytest.approx(float(expected), rel=1e-12)
    for ours, theirs in zip(grad, by_jax, strict=True):
        error = np.abs(ours - theirs).max() / np.abs(theirs).max()
        assert error <= gradient.tolerance


@pytest.mark.parametrize("spec", CONVENTIONS[::4], ids=lambda spec: spec.missing)
def test_the_scalar_has_that_gradient_by_central_differences(ratings, spec):
    sources = OF_SIDES["both"]
    hparams = LANE._replace(reg_bag=REG_BAG)
    objective, count = objective_by_hand(sources, ratings, hparams, spec)
    tables = random_tables(spec, count)
    gradient = with_bags(GRADIENTS["coo"](spec), sources, spec)
    _, grad = jax.jit(gradient.value_and_grad)(tables, gradient.prepare(ratings), hparams)
    flat, unravel = ravel_pytree(tables)

    @jax.jit
    def differences(entries):
        steps = jnp.eye(entries.size)  # h = 1: L is quadratic in each entry
        ahead = jax.lax.map(lambda step: objective(unravel(entries + step)), steps)
        behind = jax.lax.map(lambda step: objective(unravel(entries - step)), steps)
        return (ahead - behind) / 2

    by_differences = unravel(differences(flat))
    for ours, theirs in zip(grad, by_differences, strict=True):
        assert np.abs(ours - theirs).max() <= 1e-10 * np.abs(theirs).max()


def test_pinned_columns_of_embeddings_have_no_gradient(ratings):
    sources = OF_SIDES["both"]
    gradient = with_bags(GRADIENTS["coo"](SPEC), sources, SPEC)
    tables = random_tables(SPEC, [shape_of(0)[1] + 1, shape_of(1)[1]])
    _, grad = jax.jit(gradient.value_and_grad)(tables, gradient.prepare(ratings), LANE)
    _, embeddings = apart(grad, SPEC)
    for table, columns in zip(embeddings, lane_of(ratings).columns, strict=True):
        moves = np.any(np.asarray(table) != 0, axis=0)
        np.testing.assert_array_equal(moves, np.asarray(columns.free) > 0)


# methods


ADAM = optimizer("adam")


def trained_factors(ratings, hparams=LANE, count=4, sources=OF_SIDES["both"]):
    method = make("descent", SPEC, opt=ADAM, bags=sources)
    layout = laid_out(method, ratings)
    state = method.init(jax.random.key(0), layout, hparams)
    losses = []
    for epoch in range(count):
        state, info = method.step(state, layout, hparams, epoch)
        losses.append(float(info.loss))
    return state, losses


def test_what_is_held_out_changes_no_bit_of_a_bagged_fit():
    ratings = small_ratings()
    out = held_out(ratings.fold, LANE)
    poisoned = ratings._replace(value=np.where(out, 1e6, ratings.value))
    ours, _ = trained_factors(ratings)
    theirs, _ = trained_factors(poisoned)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_a_held_out_rating_is_as_absent_from_bags_as_from_the_loss():
    ratings = small_ratings()
    kept = ratings.taken(~held_out(ratings.fold, LANE))
    ours, _ = trained_factors(ratings)
    theirs, _ = trained_factors(kept)
    assert_close(ours.factors, theirs.factors, 1e-9)  # Adam divides by small gradients
    assert_close(ours.embeddings, theirs.embeddings, 1e-9)


def test_descent_moves_embeddings_and_lowers_the_objective(ratings):
    state, losses = trained_factors(ratings, count=30)
    assert losses[-1] < losses[0]
    assert all(np.any(np.asarray(table) != 0) for table in state.embeddings)


def test_without_features_bags_change_no_number(ratings):
    bagged, _ = trained_factors(ratings, sources=Sides((), ()))
    (*_, plain), _ = epochs(make("descent", SPEC, opt=ADAM), ratings, LANE, 4)
    assert_close(bagged.factors, plain, 1e-9)


def test_the_factors_of_a_state_are_its_rows_and_the_sums_of_its_embeddings(ratings):
    state, _ = trained_factors(ratings)
    matrices = matrices_by_hand(OF_SIDES["both"], ratings, LANE)
    sides = zip(state.optimizer.factors, matrices, state.embeddings, strict=True)
    by_hand = [rows + matrix @ table for rows, matrix, table in sides]
    assert_close(state.factors, by_hand, ROUNDED)


def test_stacked_tables_come_apart_as_they_were():
    own = random_factors(SPEC)
    embeddings = Sides(random_factors(replace(SPEC, num_users=2), seed=1).user, None)
    again = apart(stacked(own, embeddings), SPEC)
    jax.tree.map(np.testing.assert_array_equal, again, (own, embeddings))


def test_the_ratings_of_a_bag_weigh_nothing_in_it(ratings):
    heavier = ratings._replace(weight=3 * ratings.weight, value=ratings.value - 1)
    both = [prepare_bag([BAGS["rated"]], one, 0, SPEC) for one in (ratings, heavier)]
    np.testing.assert_array_equal(*(dense(bag, lane_of(ratings)) for bag in both))


# alternating least squares


def gradient_norm(state, sources, ratings, hparams):
    """Of L at the tables of a state, as `with_bags` has it."""
    spread_out = [
        0 if bag is None else bags.spread(bag, table, lane_of(ratings, hparams))
        for bag, table in zip(
            [prepare_bag(of, ratings, side, SPEC) for side, of in enumerate(sources)],
            state.embeddings,
            strict=True,
        )
    ]
    own = Factors(*(rows - sums for rows, sums in zip(state.factors, spread_out, strict=True)))
    gradient = with_bags(GRADIENTS["coo"](SPEC), sources, SPEC)
    layout = jax.device_put(gradient.prepare(ratings))
    loss, grad = gradient.value_and_grad(stacked(own, state.embeddings), layout, hparams)
    return float(loss), max(float(jnp.abs(side).max()) for side in grad)


ALS_CASES = [
    pytest.param(
        *(name, kernel, which),
        marks=() if (name, kernel, which) == ("als", OFTEN, "both") else pytest.mark.slow,
    )
    for name in ("als", "als_cg")
    for kernel in KERNELS
    for which in OF_SIDES
]


@pytest.mark.parametrize(("name", "kernel", "which"), ALS_CASES)
def test_als_never_raises_the_objective_and_ends_where_its_gradient_is_0(
    ratings, name, kernel, which
):
    sources = OF_SIDES[which]
    hparams = LANE._replace(reg_bag=REG_BAG)
    method = make(name, SPEC, kernel=kernel, bags=sources)
    layout = laid_out(method, ratings)
    state = method.init(jax.random.key(0), layout, hparams)
    losses = []
    for epoch in range(300):
        state, info = method.step(state, layout, hparams, epoch)
        losses.append(float(info.loss))
    assert max(np.diff(losses)) <= 1e-12 * losses[0]
    loss, slope = gradient_norm(state, sources, ratings, hparams)
    assert losses[-1] == pytest.approx(loss, rel=1e-10)
    assert slope < 1e-6


# stochastic gradient descent

SGD = optimizer("sgd")


def visited(opt=SGD, count=1, sources=OF_SIDES["both"], **hparams):
    """The state after some epochs of batches of 4, and the losses."""
    ratings = small_ratings()
    hparams = LANE._replace(reg_bag=REG_BAG, **hparams)
    method = make("sgd", SPEC, kernel="xla", opt=opt, bags=sources, batch_size=4)
    layout = laid_out(method, ratings)
    state = method.init(jax.random.key(0), layout, hparams)
    losses = []
    for epoch in range(count):
        state, info = method.step(state, layout, hparams, epoch)
        losses.append(float(info.loss))
    return state, losses


def epoch_by_hand(factors, sums, ratings, hparams):
    """An epoch of batches of 4 by plain SGD, rating by rating, towards the sums of the features."""
    lane = jax.tree.map(np.asarray, lane_of(ratings, hparams))
    user, item = (
        np.where(count[:, None] > 0, np.asarray(rows), of_features + columns.pin)
        for rows, of_features, count, columns in zip(
            factors, sums, lane.counts, lane.columns, strict=True
        )
    )
    shares = [
        row_reg / np.maximum(count, 1)
        for row_reg, count in zip(lane.row_reg, lane.counts, strict=True)
    ]
    padded = ratings.padded(20)
    is_in = trained(padded, hparams)
    rate = float(hparams.learning_rate * lane.scale)
    for batch in order(20, hparams.split_seed, 0, np).reshape(-1, 4):
        u, v = user.copy(), item.copy()
        for n in batch[is_in[batch]]:
            i, j = padded.user[n], padded.item[n]
            error = padded.weight[n] * (u[i] @ v[j] + float(lane.centre) - padded.value[n])
            of_user = error * v[j] + shares[0][i] * lane.columns.user.reg * (u[i] - sums[0][i])
            of_item = error * u[i] + shares[1][j] * lane.columns.item.reg * (v[j] - sums[1][j])
            user[i] -= rate * of_user * lane.columns.user.free
            item[j] -= rate * of_item * lane.columns.item.free
    return Factors(user, item)


def test_an_epoch_of_sgd_given_bags_is_the_loop_and_then_the_ridge(ratings):
    sources = OF_SIDES["both"]
    hparams = LANE._replace(reg_bag=REG_BAG)
    method = make("sgd", SPEC, kernel="xla", opt=SGD, bags=sources, batch_size=4)
    layout = laid_out(method, ratings)
    state = method.init(jax.random.key(0), layout, hparams)
    rng = np.random.default_rng(3)
    lane = lane_of(ratings, hparams)
    tables = [
        rng.normal(size=table.shape) * columns.free[None]
        for table, columns in zip(state.embeddings, lane.columns, strict=True)
    ]
    state = state._replace(embeddings=Sides(*tables))
    after, _ = method.step(state, layout, hparams, 0)
    matrices = matrices_by_hand(sources, ratings, hparams)
    sums = [np.asarray(x @ table) for x, table in zip(matrices, tables, strict=True)]
    by_hand = epoch_by_hand(state.factors, sums, ratings, hparams)
    assert_close(after.factors, by_hand, ROUNDED)
    for side, matrix in enumerate(matrices):
        before, loss = (
            ridge_loss(table[side], side, matrix, by_hand, lane)
            for table in (tables, after.embeddings)
        )
        assert loss < before


def ridge_loss(table, side, matrix, factors, lane):
    """What of L depends on the embeddings of a side, given the factors."""
    table = np.asarray(table)
    own = factors[side] - matrix @ table
    weight = np.outer(lane.row_reg[side], lane.columns[side].reg)
    return ((weight * own**2).sum() + REG_BAG * (table**2).sum()) / 2


@pytest.mark.parametrize(
    "opt",
    [
        SGD,
        pytest.param(ADAM, marks=pytest.mark.slow),
        pytest.param(optimizer("adam", lazy=True), marks=pytest.mark.slow),
    ],
    ids=["plain", "adam", "lazy adam"],
)
def test_sgd_given_bags_lowers_the_objective(ratings, opt):
    sources = OF_SIDES["both"]
    rate = np.float64(0.003)
    losses = []
    for count in (0, 10, 20, 40, 80):
        state, _ = visited(opt, count, learning_rate=rate)
        losses.append(gradient_norm(state, sources, ratings, LANE._replace(reg_bag=REG_BAG))[0])
    assert max(np.diff(losses)) < 0
    assert all(np.any(np.asarray(table) != 0) for table in state.embeddings)


def test_sgd_without_features_is_plain_sgd(ratings):
    state, losses = visited(count=3, sources=Sides((), ()))
    (*_, plain), _ = epochs(
        make("sgd", SPEC, kernel="xla", opt=SGD, batch_size=4), ratings, LANE, 3
    )
    counts = lane_of(ratings).counts
    for ours, theirs, count in zip(state.factors, plain, counts, strict=True):
        is_rated = np.asarray(count) > 0
        np.testing.assert_allclose(ours[is_rated], theirs[is_rated], rtol=1e-12)
    assert losses[-1] < losses[0]


def test_the_compiled_batches_are_left_to_xla_given_bags():
    if "native" in KERNELS:
        with pytest.raises(InputError, match="no such batches; use kernel=xla"):
            make("sgd", SPEC, kernel="native", opt=SGD, bags=OF_SIDES["both"])
        chosen = choice(optimizer=SGD, has_bags=True)
        assert chosen == ("xla", "the compiled kernels take no batches with bags", False)
    assert choice(has_bags=True) == choice()
