"""The model that is a mean of samples: what it keeps of them, and the rows of new users."""

import jax
import numpy as np
import pytest
from configs import refusal

import mfjax
from mfjax import Bounds, Hparams, InputError, Lane, Problem, Ratings, Spec, from_ids
from mfjax.averages import factors_of, finished, pooled
from mfjax.training.folding import SEED, drawn_rows
from mfjax.training.lanes import Fit, unstacked
from mfjax.types import NO_FOLD, Averages, Kept

USERS, ITEMS = 9, 7
GIVEN = {1: 4.0, 3: 2.0, 6: 5.0}
BY_CASE = {  # ranks of the chains that are pooled, biases, whether items add to who rated them
    "one chain": ([3], True, True),
    "no bias": ([3], False, True),
    "no bag": ([2], True, False),
    "two ranks": ([2, 3], True, True),
}


def averages_of(rng, rank, spec, *, bag, columns=None, places=4):
    """Three samples of a rank, in a program of more latent columns and `places` for samples."""
    latent = rank if columns is None else columns
    bias = int(spec.bias)
    row = np.append(np.arange(latent) < rank, np.ones(bias, bool))
    table = np.append(row, np.ones(bias, bool))
    root = rng.normal(size=(places, latent + bias, latent + bias)) * row[:, None] * row
    parts = Kept(
        user=rng.normal(size=(places, USERS, latent + 2 * bias)) * table,
        item=rng.normal(size=(places, ITEMS, latent + 2 * bias)) * table,
        prior_mean=rng.normal(size=(places, latent + bias)) * row,
        prior_precision=root @ root.swapaxes(1, 2) + np.eye(latent + bias),
        prior_rated=rng.normal(size=(places, ITEMS, latent + bias)) * row if bag else None,
        rating_precision=rng.uniform(0.5, 2, size=(places, ITEMS)),
    )
    if bias:
        parts.user[..., -1] = parts.item[..., -2] = 1
    jax.tree.map(lambda part: part[3:].fill(0), parts)
    nothing = np.zeros(0)
    return Averages(np.asarray(3), nothing, nothing, nothing, parts)


def model_of(averages, rank, spec):
    rng = np.random.default_rng(0)
    user, item = np.unravel_index(rng.permutation(USERS * ITEMS)[:40], (USERS, ITEMS))
    dataset = from_ids("made", 10 * (user + 1), item, rng.integers(1, 6, 40))
    ratings = dataset.ratings(dtype="float64")
    lane = Lane(Hparams(rank=rank, fold=NO_FOLD), 1)
    factors = factors_of(averages, spec)
    fit = Fit(lane, factors, 3.0 * spec.bias, "finished", 1, {}, averages=averages)
    problem = Problem(ratings, ratings, Bounds(-np.inf, np.inf))
    return mfjax.Model.of(fit, dataset, problem, spec)


def case_of(name):
    """The samples of a case, those of chains one after the other, and their model."""
    ranks, bias, bag = BY_CASE[name]
    rng = np.random.default_rng(1)
    spec = Spec(USERS, ITEMS, max_rank=max(ranks), bias=bias, dtype="float64")
    chains = [finished(averages_of(rng, rank, spec, bag=bag), rank, spec) for rank in ranks]
    whole = pooled(chains, spec) if len(chains) > 1 else chains[0]
    samples = [unstacked(chain.samples, [s])[0] for chain in chains for s in range(3)]
    return samples, model_of(whole, ranks[0], spec), spec


def predicted_densely(samples, spec):
    """What each sample predicts of a new user and every item, a loop over its ratings."""
    widest = max(len(kept.prior_mean) for kept in samples)
    noise = np.random.default_rng(SEED).normal(size=(len(samples), widest))
    noise -= noise.mean(0)
    found = []
    for kept, z in zip(samples, noise, strict=True):
        columns = len(kept.prior_mean)
        phi, other = kept.item, np.zeros(ITEMS)
        if spec.bias:
            phi, other = kept.item[:, :-1], kept.item[:, -1]
            z = np.append(z[: columns - 1], z[-1])
        mean = kept.prior_mean.copy()
        if kept.prior_rated is not None:
            mean += sum(kept.prior_rated[j] for j in GIVEN) / np.sqrt(len(GIVEN))
        precision = kept.prior_precision.copy()
        right = precision @ mean
        for j, value in GIVEN.items():
            precision += kept.rating_precision[j] * np.outer(phi[j], phi[j])
            right += kept.rating_precision[j] * (value - 3 * spec.bias - other[j]) * phi[j]
        root = np.linalg.inv(np.linalg.cholesky(precision)).T
        row = np.linalg.inv(precision) @ right + root @ z[:columns]
        found.append(phi @ row + other + 3 * spec.bias)
    return np.stack(found)


@pytest.mark.parametrize("name", BY_CASE)
def test_a_new_user_is_drawn_given_every_sample(name):
    samples, model, spec = case_of(name)
    expected = predicted_densely(samples, spec)
    for user in (5, 40, 999):
        folded = model.fold_in(user, GIVEN)
        mean, spread = folded.predict([user] * ITEMS, range(ITEMS), spread=True)
        np.testing.assert_allclose(mean, expected.mean(0), rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(spread, expected.std(0, ddof=1), rtol=1e-10, atol=1e-10)
        others = model.user_ids[model.user_ids != user].tolist()
        for item in range(ITEMS):
            ours = folded.predict(others, item, spread=True)
            np.testing.assert_array_equal(ours, model.predict(others, item, spread=True))


def test_the_spread_of_a_new_user_has_that_of_the_row():
    rng = np.random.default_rng(2)
    root, items = rng.normal(size=(3, 3)), rng.normal(size=(2, 3))
    mean, precision = rng.normal(size=3), root @ root.T + np.eye(3)
    of_ratings, target = np.array([0.5, 2.0]), np.array([1.0, -1.0])
    alike = [mean, precision, items, of_ratings, target]
    rows = drawn_rows(*(np.repeat(one[None], 4_000, axis=0) for one in alike))
    a = precision + items.T @ (of_ratings[:, None] * items)
    expected = np.linalg.solve(a, precision @ mean + items.T @ (of_ratings * target))
    np.testing.assert_allclose(rows.mean(0), expected, rtol=1e-10)
    covariance = np.linalg.inv(a)
    error = np.sqrt((np.outer(*[np.diag(covariance)] * 2) + covariance**2) / 4_000)
    assert np.all(abs(np.cov(rows.T) - covariance) < 4 * error)


def test_a_user_who_rated_nothing_is_drawn_from_the_population():
    samples, model, _ = case_of("one chain")
    row = np.sqrt(3) * model.fold_in(999, {}).user_factors[-1]
    noise = np.random.default_rng(SEED).normal(size=(3, 4))
    noise -= noise.mean(0)
    for s, kept in enumerate(samples):
        lower = np.linalg.cholesky(kept.prior_precision)
        drawn = kept.prior_mean + np.linalg.solve(lower.T, noise[s])
        np.testing.assert_allclose(row.reshape(3, 3)[s], drawn[:3], rtol=1e-10)


def test_what_a_program_has_beyond_the_rank_and_the_samples_is_left_out():
    spec = Spec(USERS, ITEMS, max_rank=16, dtype="float64")
    averages = averages_of(np.random.default_rng(3), 2, spec, bag=True, columns=16)
    own = finished(averages, 2, spec).samples
    shapes = [(3, USERS, 4), (3, ITEMS, 4), (3, 3), (3, 3, 3), (3, ITEMS, 3), (3, ITEMS)]
    assert [part.shape for part in own] == shapes
    products = averages.samples.user[:3] @ averages.samples.item[:3].swapaxes(1, 2)
    np.testing.assert_allclose(own.user @ own.item.swapaxes(1, 2), products, rtol=1e-12)
    assert "mean of 3 samples, rank 2," in repr(model_of(finished(averages, 2, spec), 2, spec))


def test_a_mean_of_samples_is_saved_with_what_folds_users_in(tmp_path):
    _, model, _ = case_of("two ranks")
    model.fold_in(5, GIVEN).save(tmp_path)
    again = mfjax.load(tmp_path).fold_in(6, GIVEN)
    for ours, theirs in zip(
        again.predict(5, range(ITEMS), spread=True),
        again.predict(6, range(ITEMS), spread=True),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)
    lists = again.recommend([5, 6], n=ITEMS)
    assert set(lists["item"]) == set(range(ITEMS)) - set(GIVEN)


def test_a_model_of_a_version_that_kept_less_says_what_it_lacks(tmp_path):
    _, model, _ = case_of("one chain")
    model.save(tmp_path)
    older = {name: array for name, array in vars(model).items() if name != "prior_mean"}
    np.savez(tmp_path / "factors.npz", **older)
    with pytest.raises(InputError, match="it differs in prior_mean; train the model again"):
        mfjax.load(tmp_path)


def gibbs_plan(epochs, **own):
    """Of a method that samples, on 63 ratings."""
    ratings = Ratings.of(*np.indices((USERS, ITEMS)).reshape(2, -1), np.arange(63) % 5)
    problem = Problem(ratings, ratings.taken(ratings.item == 0), Bounds(0, 4))

    def method(spec):
        return mfjax.METHODS["gibbs"](spec, **own)

    schedule = mfjax.Schedule(epochs, epochs_per_call=1)
    return mfjax.Plan(Spec(USERS, ITEMS, max_rank=2), method, {(0, 0): problem}, schedule)


def test_so_few_epochs_that_no_sample_counts_are_refused():
    few = "epochs=20: expected more than burn_in=20, or no sample counts"
    lanes = [Hparams(fold=NO_FOLD, rank=rank) for rank in (1, 2)]
    sweep = mfjax.Sweep(gibbs_plan(30), lanes_per_program=2)
    with pytest.raises(InputError, match=few):
        sweep.train([Lane(hparams, 20) for hparams in lanes])
    halving = mfjax.Halving(eta=2, first=2)
    with pytest.raises(InputError, match=few):
        mfjax.tune(mfjax.Sweep(gibbs_plan(20), 2), lanes, refit=False, halving=halving)
    with pytest.raises(InputError, match=few):
        mfjax.fit(from_ids("made", [1, 2], [1, 2], [3, 4]), "gibbs", epochs=20, rank=1)
    assert refusal("method=gibbs", "epochs=20") == few


@pytest.mark.slow
def test_chains_that_devices_share_are_pooled_into_a_model():
    plan = gibbs_plan(3, burn_in=1, thinning=1, samples=2)
    (problem,) = plan.problems.values()
    dataset = from_ids("made", *problem.ratings[:3])
    base = Hparams(fold=NO_FOLD, rank=2)
    starts = mfjax.grid(base, {"init_seed": [0, 1], "rank": [1, 2]})
    outcome = mfjax.tune(mfjax.Sweep(plan, len(starts)), starts, refit=False, ensemble=True)
    (final,) = outcome.final
    model = mfjax.Model.of(final, dataset, problem, plan.spec).fold_in(99, {0: 1.0})
    assert "mean of 8 samples, rank 2," in repr(model)
    mean, spread = model.predict(99, range(ITEMS), spread=True)
    assert np.all(np.isfinite(mean)) and np.all(spread > 0)
