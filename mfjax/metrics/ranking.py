"""How good lists of the k best items are.

A list names its best item first, and has k places; one that no item is left for is a miss.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from mfjax.types import AnyArray

Gains = Float[AnyArray, "users k"]
OfUsers = Shaped[AnyArray, " users"]
OfItems = Shaped[AnyArray, " items"]


def recall(gain: Gains, relevant: OfUsers) -> Float[Array, " users"]:
    """The share of the relevant items that are in the list: hits / relevant.

    Also where there are more than k of them: then it is below 1.

    Source: Herlocker, Konstan, Terveen and Riedl, "Evaluating Collaborative Filtering Recommender
    Systems", 2004, cut at k; `R@k` of trec_eval.

    Args:
      gain: `[users, k]`, of the item in each place, above 0 where it is relevant.
      relevant: `[users]`, how many items are.

    Returns:
      `[users]`, from 0 to 1; NaN where nothing is relevant.
    """
    return _hits(gain).sum(1) / relevant


def precision(gain: Gains) -> Float[Array, " users"]:
    """The share of the k places whose item is relevant: hits / k.

    Source: Herlocker, Konstan, Terveen and Riedl, "Evaluating Collaborative Filtering Recommender
    Systems", 2004, cut at k; `P@k` of trec_eval, which divides by k however few items there are.

    Args:
      gain: `[users, k]`, of the item in each place, above 0 where it is relevant.

    Returns:
      `[users]`, from 0 to 1.
    """
    return _hits(gain).mean(1)


def ndcg(gain: Gains, ideal: Gains) -> Float[Array, " users"]:
    """The discounted gain of the list over that of the best list, Σ_p g_p / log₂(1 + p).

    p counts places from 1. The gain is linear: 1 of a relevant item, or its rating, and not
    2^rating - 1.

    Source: Järvelin and Kekäläinen, "Cumulated Gain-Based Evaluation of IR Techniques", 2002, with
    the discount log₂(1 + p) of Burges et al., "Learning to Rank Using Gradient Descent", 2005;
    `nDCG@k` of trec_eval and of ir_measures.

    Args:
      gain: `[users, k]`, of the item in each place; 0 of one that is not relevant.
      ideal: `[users, k]`, the greatest gains of the user, descending.

    Returns:
      `[users]`, from 0 to 1; NaN where nothing is relevant.
    """
    discount = 1 / jnp.log2(1 + _places(gain))
    return (gain * discount).sum(1) / (ideal * discount).sum(1)


def average_precision(gain: Gains, relevant: OfUsers) -> Float[Array, " users"]:
    """The mean over the relevant items of the precision at the place of each; 0 where it has none.

    It is divided by the relevant items, also where there are more than k of them.

    Source: Manning, Raghavan and Schütze, "Introduction to Information Retrieval", 2008, equation
    (8.8), cut at k; `AP@k` of trec_eval.

    Args:
      gain: `[users, k]`, of the item in each place, above 0 where it is relevant.
      relevant: `[users]`, how many items are.

    Returns:
      `[users]`, from 0 to 1; NaN where nothing is relevant.
    """
    hits = _hits(gain)
    return (hits * hits.cumsum(1) / _places(gain)).sum(1) / relevant


def reciprocal_rank(gain: Gains) -> Float[Array, " users"]:
    """1 / p of the first place p with a relevant item; 0 where there is none.

    Source: Voorhees, "The TREC-8 Question Answering Track Report", 1999; `RR@k` of ir_measures.

    Args:
      gain: `[users, k]`, of the item in each place, above 0 where it is relevant.

    Returns:
      `[users]`, from 0 to 1.
    """
    return (_hits(gain) / _places(gain)).max(1)


def hit_rate(gain: Gains) -> Float[Array, " users"]:
    """Whether a relevant item is in the list.

    Source: Deshpande and Karypis, "Item-Based Top-N Recommendation Algorithms", 2004; `Success@k`
    of trec_eval.

    Args:
      gain: `[users, k]`, of the item in each place, above 0 where it is relevant.

    Returns:
      `[users]`, 0 or 1.
    """
    return _hits(gain).max(1)


def auc(beaten: OfUsers, relevant: OfUsers, unseen: OfUsers) -> Float[AnyArray, " users"]:
    """How often a relevant item scores above one that is not, among all unseen; ties count half.

    Derivation: of the pairs that `beaten` counts, relevant (relevant - 1) / 2 are of two relevant
    items, as each such pair counts once, or half for each of them; the others are pairs of a
    relevant item and one of the unseen - relevant others (Mann and Whitney, "On a Test of Whether
    one of Two Random Variables is Stochastically Larger than the Other", 1947).

    Source: Rendle, Freudenthaler, Gantner and Schmidt-Thieme, "BPR: Bayesian Personalized Ranking
    from Implicit Feedback", 2009, section 6.2, with ties; a test item that is not relevant is one
    of the others.

    Args:
      beaten: `[users]`, the sum over relevant items of the unseen ones that score below, and half
        of the others that score the same.
      relevant: `[users]`, how many items are.
      unseen: `[users]`, how many items may be listed.

    Returns:
      `[users]`, from 0 to 1; NaN where every unseen item is relevant, or none is.
    """
    wins = beaten - relevant * (relevant - 1) / 2
    return wins / (relevant * (unseen - relevant))


def coverage(listed: OfItems) -> Float[Array, ""]:
    """The share of the items that are in anybody's list.

    Source: catalogue coverage (Ge, Delgado-Battenfeld and Jannach, "Beyond Accuracy: Evaluating
    Recommender Systems by Coverage and Serendipity", 2010).

    Args:
      listed: `[items]`, how many lists each is in.

    Returns:
      A scalar from 0 to 1.
    """
    return jnp.asarray(listed > 0, listed.dtype).mean()


def novelty(listed: OfItems, information: OfItems) -> Float[Array, ""]:
    """The mean self-information of what is listed, Σ_j n_j log₂(1 / p_j) / Σ_j n_j, in bits.

    n_j is how many lists the item is in, and p_j the share of the users who rated it.

    Source: Castells, Vargas and Wang, "Novelty and Diversity Metrics for Recommender Systems:
    Choice, Discovery and Relevance", 2011, with the p of Zhou et al., "Solving the Apparent
    Diversity-Accuracy Dilemma of Recommender Systems", 2010.

    Args:
      listed: `[items]`, how many lists each is in.
      information: `[items]`, log₂(1 / p_j).

    Returns:
      A scalar from 0; NaN where nothing is listed.
    """
    return jnp.sum(listed * information) / listed.sum()


def gini(listed: OfItems) -> Float[Array, ""]:
    """How unequally often items are listed, Σ_j (2j - m - 1) n_j / ((m - 1) Σ_j n_j).

    n_1 to n_m are how many lists each of the m items is in, ascending: 0 where all are in equally
    many, 1 where one item alone is listed.

    Source: Shani and Gunawardana, "Evaluating Recommendation Systems", Recommender Systems
    Handbook, 2011.

    Args:
      listed: `[items]`, how many lists each is in.

    Returns:
      A scalar from 0 to 1; NaN where nothing is listed, or there is one item.
    """
    share = jnp.sort(listed) / listed.sum()
    items = len(listed)
    place = jnp.arange(1, items + 1, dtype=share.dtype)
    return ((2 * place - items - 1) * share).sum() / (items - 1)


def _hits(gain: Gains) -> Float[Array, "users k"]:
    return jnp.asarray(gain > 0, gain.dtype)


def _places(gain: Gains) -> Float[Array, "1 k"]:
    return jnp.arange(1, gain.shape[1] + 1, dtype=gain.dtype)[None]
