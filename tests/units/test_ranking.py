"""Metrics of lists: against trec_eval, a double loop and SciPy, in chunks, under vmap and NaN."""

import ir_measures
import jax
import numpy as np
import pytest
import scipy.stats
from ir_measures import AP, RR, P, R, Success, nDCG
from marks import often

from mfjax import Factors, InputError, Ratings
from mfjax.metrics import METRICS, Metric, names_of_lists
from mfjax.metrics import lists as chunked
from mfjax.metrics.lists import evaluate_lists, list_metrics, prepare_lists
from mfjax.metrics.ranking import average_precision, gini, ndcg, recall

RANKING = names_of_lists()

USERS, ITEMS = 15, 11  # 13 with test ratings, which no chunk divides
RELEVANT = 3.5
BY_TREC = {"recall": R, "precision": P, "ndcg": nDCG, "map": AP, "mrr": RR, "hit_rate": Success}
FLOAT64 = 1e-12
FLOAT32 = 1e-5  # sums of about a hundred values, each rounded to 6e-8


def case(seed, columns=2):
    """Factors of small integers, so that many scores are equal, and ratings seen and tested.

    User 0 has no relevant test rating, 1 none at all, 2 has seen all items; 3 has seen all but its
    test items, all relevant; 4 has seen nothing, and nobody has seen item 0.
    """
    rng = np.random.default_rng(seed)
    factors = Factors(*(rng.integers(-1, 2, (n, columns)).astype(float) for n in (USERS, ITEMS)))
    part = rng.choice(3, (USERS, ITEMS), p=[0.4, 0.3, 0.3])  # unrated, seen, tested
    value = rng.integers(1, 11, (USERS, ITEMS)) / 2
    part[:, 0] = np.where(part[:, 0] == 1, 0, part[:, 0])
    part[0, :5], value[0] = 2, 1.0
    part[1] = np.minimum(part[1], 1)
    part[2] = 1
    part[3], value[3] = np.where(part[3] == 2, 2, 1), 5.0
    part[3, 0] = 2
    part[4] = np.where(part[4] == 1, 0, part[4])
    part[5:, 1], value[5:, 1] = 2, 4.0

    def ratings(which):
        user, item = np.nonzero(part == which)
        shuffled = rng.permutation(len(user))
        return Ratings.of(user[shuffled], item[shuffled], value[user, item][shuffled]).padded(
            len(user) + 3
        )

    return factors, ratings(1), ratings(2)


def rows(ratings):
    """The item rows and the values of each user, padding left out."""
    of_user = {}
    for user, item, value, weight, _ in zip(*ratings, strict=True):
        if weight > 0:
            of_user.setdefault(int(user), {})[int(item)] = float(value)
    return of_user


def ordered(factors, user, seen):
    """The unseen items, the highest score first and the lower row of equal ones, and the scores."""
    scores = factors.item @ factors.user[user]
    order = sorted(set(range(len(scores))) - set(seen), key=lambda item: (-scores[item], item))
    return order, scores


def by_loop(factors, seen, test, k, graded):
    """Every metric by its definition, an item at a time."""
    seen, test = rows(seen), rows(test)
    values = {name: [] for name in RANKING if METRICS[name].is_by_user}
    counts = np.zeros(len(factors.item))
    for user, rated in test.items():
        order, scores = ordered(factors, user, seen.get(user, ()))
        counts[order[:k]] += 1
        gain = {j: x if graded else 1.0 for j, x in rated.items() if x >= RELEVANT}
        if not gain:
            continue
        places = [place for place, item in enumerate(order[:k], 1) if item in gain]
        dcg = sum(gain[order[p - 1]] / np.log2(1 + p) for p in places)
        best = sorted(gain.values(), reverse=True)[:k]
        values["recall"].append(len(places) / len(gain))
        values["precision"].append(len(places) / k)
        values["ndcg"].append(dcg / sum(x / np.log2(1 + p) for p, x in enumerate(best, 1)))
        values["map"].append(sum(n / p for n, p in enumerate(places, 1)) / len(gain))
        values["mrr"].append(1 / places[0] if places else 0)
        values["hit_rate"].append(float(bool(places)))
        others = [item for item in order if item not in gain]
        if others:
            pairs = [(scores[i], scores[j]) for i in gain for j in others]
            values["auc"].append(np.mean([(i > j) + (i == j) / 2 for i, j in pairs]))
    raters = np.bincount([item for items in seen.values() for item in items], minlength=ITEMS)
    information = np.log2(len(seen) / np.maximum(raters, 1))
    differences = np.abs(counts[:, None] - counts[None]).sum()
    return {name: np.mean(of_users) for name, of_users in values.items()} | {
        "coverage": np.mean(counts > 0),
        "novelty": (counts * information).sum() / counts.sum(),
        "gini": differences / (2 * counts.sum() * (ITEMS - 1)),
        "users": len(values["recall"]),
        "users_left_out": len(test) - len(values["recall"]),
    }


@pytest.mark.parametrize("k", often([3, 1, ITEMS, ITEMS + 4], one_of=4))
def test_every_metric_is_that_of_a_double_loop(k):
    problem = case(seed=k)
    for graded in (False, True):
        ours = evaluate_lists(*problem, relevant=RELEVANT, k=k, graded=graded)
        theirs = by_loop(*problem, k, graded)
        assert ours == pytest.approx(theirs, rel=FLOAT64), graded
        assert ours["users_left_out"] >= 1
        assert list(ours) == [*RANKING, "users", "users_left_out"]


@pytest.mark.parametrize("graded", [False, True])
@pytest.mark.parametrize("k", [1, 5, 30])
def test_metrics_of_hits_are_those_of_trec_eval(k, graded):
    """trec_eval takes whole gains, so that they are doubled, and lists without equal scores."""
    factors, seen, test = case(7)
    run, relevances = {}, {}
    for user, rated in rows(test).items():
        order, _ = ordered(factors, user, rows(seen).get(user, ()))
        run[str(user)] = {str(item): float(-place) for place, item in enumerate(order)}
        gains = {str(j): int(2 * x) if graded else 1 for j, x in rated.items() if x >= RELEVANT}
        if gains:
            relevances[str(user)] = gains
    run = {user: run[user] for user in relevances}
    theirs = ir_measures.calc_aggregate(
        [measure @ k for measure in BY_TREC.values()], relevances, run
    )
    ours = evaluate_lists(
        factors, seen, test, relevant=RELEVANT, k=k, graded=graded, names=list(BY_TREC)
    )
    assert ours["users"] == len(relevances)
    for name, measure in BY_TREC.items():
        assert ours[name] == pytest.approx(theirs[measure @ k], rel=FLOAT64), name


def test_auc_is_the_statistic_of_mann_and_whitney():
    factors, seen, test = case(11)
    of_users = []
    for user, rated in rows(test).items():
        order, scores = ordered(factors, user, rows(seen).get(user, ()))
        relevant = [item for item, value in rated.items() if value >= RELEVANT]
        others = [item for item in order if item not in relevant]
        if relevant and others:
            u = scipy.stats.mannwhitneyu(scores[relevant], scores[others], method="asymptotic")
            of_users.append(u.statistic / len(relevant) / len(others))
    ours = evaluate_lists(factors, seen, test, relevant=RELEVANT, names=["auc"])
    assert ours["auc"] == pytest.approx(np.mean(of_users), rel=FLOAT64)
    assert len(of_users) == ours["users"] - 1  # all that user 3 has not seen is relevant


def test_formulas_by_hand():
    gain = np.array([[2.0, 0.0, 1.0]])
    assert recall(gain, np.array([4.0])) == pytest.approx([2 / 4])
    assert average_precision(gain, np.array([4.0])) == pytest.approx([(1 + 2 / 3) / 4])
    best = 4 + 2 / np.log2(3) + 1 / 2
    assert ndcg(gain, np.array([[4.0, 2.0, 1.0]])) == pytest.approx([(2 + 1 / 2) / best])
    assert gini(np.array([0.0, 0.0, 7.0])) == pytest.approx(1)
    assert gini(np.array([3.0, 3.0, 3.0])) == pytest.approx(0, abs=FLOAT64)


# ties, sizes and dtypes


def test_of_equal_scores_the_lower_row_comes_first_and_no_zero_is_negative():
    factors = Factors(np.array([[-1.0]]), np.array([[0.0], [-0.0], [0.0], [-0.0]]))
    nothing = Ratings.of([], [], [])
    for item in range(4):
        test = Ratings.of([0], [item], [5])
        ours = evaluate_lists(factors, nothing, test, relevant=4, k=4, names=["mrr", "auc"])
        assert ours["mrr"] == pytest.approx(1 / (item + 1))
        assert ours["auc"] == 0.5


@pytest.mark.parametrize("chunk", [1, 3, 1000])
def test_chunks_change_nothing(chunk):
    problem = case(5)
    whole = evaluate_lists(*problem, relevant=RELEVANT, k=3)
    in_chunks = evaluate_lists(*problem, relevant=RELEVANT, k=3, chunk=chunk)
    assert in_chunks == pytest.approx(whole, rel=FLOAT64)


def test_the_order_of_the_ratings_changes_nothing():
    factors, seen, test = case(5)
    turned = [Ratings(*(column[::-1] for column in ratings)) for ratings in (seen, test)]
    ours = evaluate_lists(factors, *turned, relevant=RELEVANT, k=3)
    assert ours == pytest.approx(evaluate_lists(factors, seen, test, relevant=RELEVANT, k=3))


def test_float32_agrees_with_float64():
    rng = np.random.default_rng(0)
    wide = Factors(rng.normal(size=(USERS, 8)), rng.normal(size=(ITEMS, 8)))
    narrow = Factors(*(side.astype(np.float32) for side in wide))
    _, seen, test = case(5)
    lists = prepare_lists(seen, test, (USERS, ITEMS), relevant=RELEVANT, graded=True)
    ours, theirs = (chunked.compiled_metrics(of, lists, tuple(RANKING), 3) for of in (narrow, wide))
    for name in RANKING:
        assert ours[name].dtype == np.float32
        assert float(ours[name]) == pytest.approx(float(theirs[name]), rel=FLOAT32), name


# what has no value


def test_a_lane_that_diverged_has_no_metrics_and_no_error():
    factors, seen, test = case(5)
    for wrong in (np.nan, np.inf, 1e200):
        items = factors.item.copy()
        items[2] = wrong
        users = np.where(factors.user == 0, 1e200, factors.user)
        ours = evaluate_lists(Factors(users, items), seen, test, relevant=RELEVANT)
        assert np.isnan([ours[name] for name in RANKING]).all(), wrong
        assert ours["users"] > 0


def test_without_test_ratings_or_relevant_ones_means_are_nan():
    factors, seen, test = case(5)
    without = evaluate_lists(factors, seen, test._replace(weight=0 * test.weight), relevant=3)
    assert np.isnan([without[name] for name in RANKING]).all()
    assert (without["users"], without["users_left_out"]) == (0, 0)
    irrelevant = evaluate_lists(factors, seen, test, relevant=6)
    assert all(np.isnan(irrelevant[name]) == METRICS[name].is_by_user for name in RANKING)
    assert (irrelevant["users"], irrelevant["users_left_out"]) == (0, len(rows(test)))


def test_what_is_wrong_is_refused():
    factors, seen, test = case(5)
    beyond = test._replace(item=test.item + ITEMS)
    cases = {
        "got one of item": lambda: evaluate_lists(factors, seen, beyond, relevant=3),
        "that are not seen, got": lambda: evaluate_lists(factors, test, test, relevant=3),
        "got -0.5 as relevant": lambda: evaluate_lists(
            factors, seen, test._replace(value=test.value - 1), relevant=-9, graded=True
        ),
        "k: expected 1": lambda: evaluate_lists(factors, seen, test, relevant=3, k=0),
        "chunk: expected 1": lambda: evaluate_lists(factors, seen, test, relevant=3, chunk=0),
        "got 'rmse'": lambda: evaluate_lists(factors, seen, test, relevant=3, names=["rmse"]),
    }
    for message, call in cases.items():
        with pytest.raises(InputError, match=message):
            call()


# inside a program


def test_vmap_over_lanes_is_a_loop():
    _, seen, test = case(5)
    lists = prepare_lists(seen, test, (USERS, ITEMS), relevant=RELEVANT, chunk=4)
    lanes = [case(seed)[0] for seed in range(3)]
    names = ("ndcg", "auc", "gini")
    stacked = Factors(*map(np.stack, zip(*lanes, strict=True)))
    together = jax.jit(jax.vmap(lambda factors: list_metrics(factors, lists, names, 3)))(stacked)
    for lane, factors in enumerate(lanes):
        alone = chunked.compiled_metrics(factors, lists, names, 3)
        for name in names:
            assert float(together[name][lane]) == pytest.approx(float(alone[name]), rel=FLOAT64)


def test_the_same_shapes_are_traced_once(monkeypatch):
    traces = []

    def counted(gain):
        traces.append(gain)
        return gain.sum(1)

    monkeypatch.setitem(METRICS, "counted", Metric(counted, ("gain",), "higher", "counted"))
    factors, seen, test = case(5)
    for lane in (factors, case(6)[0]):
        evaluate_lists(lane, seen, test, relevant=RELEVANT, names=["counted"])
    assert len(traces) == 1


def test_only_what_is_asked_for_is_computed():
    factors, seen, test = case(5)
    lists = prepare_lists(seen, test, (USERS, ITEMS), relevant=RELEVANT)

    def program(name):
        return str(jax.make_jaxpr(lambda each: list_metrics(each, lists, (name,), 3))(factors))

    assert "top_k" in program("ndcg") and "top_k" not in program("auc")
    assert (program("ndcg").count("scan["), program("auc").count("scan[")) == (1, 2)


@pytest.mark.slow
def test_the_memory_of_many_users_is_that_of_a_chunk():
    """20,000 users x 6,000 items would be 480 MB of scores; 16 MiB hold all temporaries."""
    users, items = 20_000, 6_000
    rng = np.random.default_rng(0)
    factors = Factors(*(rng.normal(size=(n, 16)).astype(np.float32) for n in (users, items)))
    user, item = np.divmod(np.unique(rng.integers(0, users * items, 1_000_000)), items)
    value = rng.integers(1, 11, len(user)) / 2
    is_test = rng.random(len(user)) < 0.1

    def part(which):
        return Ratings.of(user[which], item[which], value[which])

    lists = prepare_lists(part(~is_test), part(is_test), (users, items), relevant=4)
    program = chunked.compiled_metrics.lower(factors, lists, tuple(RANKING), 10).compile()
    assert program.memory_analysis().temp_size_in_bytes <= 4 * chunked.CHUNK_BYTES
    metrics = program(factors, lists)
    assert float(metrics["auc"]) == pytest.approx(0.5, abs=0.01)
    assert float(metrics["recall"]) == pytest.approx(10 / items, rel=0.3)
