"""The k best items of each user among all unseen ones, and how good these lists are.

An item's score is u_i·v_j, the biases among it: what else a prediction adds is the same for all
items of a user. Every item is a candidate but for those that the user has rated already, and of
equal scores the lower item row comes first. Users are scored a chunk at a time, so that memory is
O(chunk · items).
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mfjax.errors import InputError
from mfjax.metrics import METRICS, Metric, names_of_lists
from mfjax.types import AnyArray, Factors, Ratings

CHUNK_BYTES = 1 << 22  # of the scores of a chunk in float32, which stay in cache

Rows = Int[np.ndarray, " n"]


class ListRule(NamedTuple):
    """Which lists are made, and what is relevant in them.

    Args:
      relevant: the least rating that is relevant, in rating units.
      k: places of a list, from 1.
      graded: whether the gain of a relevant item is its rating, and not 1; `ndcg` depends on it.
    """

    relevant: float
    k: int = 10
    graded: bool = False

    @property
    def words(self) -> str:
        """What the lists are, for a protocol."""
        gain = ", with its rating as gain" if self.graded else ""
        return (
            f"lists of the {self.k} best of all items that a user has not rated before; relevant: "
            f"rated {self.relevant:g} or more{gain}"
        )


class Pairs(NamedTuple):
    """(user, item) pairs in the order of the chunks that their users are in.

    Args:
      row: `[n]`, the user's place in its chunk.
      item: `[n]` rows of the item factors.
      start: `[bounds]`, where the pairs of each chunk start, and after them where the last ends.
      slot: `[most]`, as many as the chunk with the most pairs has; what stands in it is not read.
    """

    row: Int[AnyArray, " n"]
    item: Int[AnyArray, " n"]
    start: Int[AnyArray, " bounds"]
    slot: Int[AnyArray, " most"]


class Lists(NamedTuple):
    """Whose lists are made, and what is relevant in them: arrays of the host, once a problem.

    Arrays that are padded with zeros at their ends say the same.

    Args:
      user: `[chunks, chunk]` rows of the user factors, padded with 0.
      scored: `[chunks, chunk]`, False of padding.
      seen: what the lists leave out.
      relevant: what they should name.
      gain: `[relevant]`, of each relevant pair; above 0.
      ideal: `[relevant]`, its place among its user's by gain, the greatest at 0.
      information: `[items]`, log₂(1 / p) in bits, with p the share of the users with a seen rating
        who rated the item; one that nobody rated counts as rated once.
    """

    user: Int[AnyArray, "chunks chunk"]
    scored: Bool[AnyArray, "chunks chunk"]
    seen: Pairs
    relevant: Pairs
    gain: Float[AnyArray, " relevant"]
    ideal: Int[AnyArray, " relevant"]
    information: Float[AnyArray, " items"]

    @property
    def users(self) -> int:
        """How many users have something relevant: the means are over these."""
        bounds = self.relevant.start
        of_pair = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
        places = of_pair * self.user.shape[1] + self.relevant.row
        return int(np.count_nonzero(np.bincount(places)))

    @property
    def users_left_out(self) -> int:
        """How many users have test ratings, and none that is relevant."""
        return int(self.scored.sum()) - self.users


def evaluate_lists(
    factors: Factors,
    seen: Ratings,
    test: Ratings,
    *,
    relevant: float,
    k: int = 10,
    graded: bool = False,
    names: Sequence[str] | None = None,
    chunk: int | None = None,
) -> dict[str, float]:
    """How good the lists of the k best items are, over all users with test ratings.

    Args:
      factors: of a trained lane.
      seen: what the lane was trained on, and whatever else the lists are to leave out.
      test: ratings of other pairs; of weight 0 they are padding, else all weigh the same.
      relevant: the least test rating that is relevant, in rating units.
      k: places of a list, from 1.
      graded: whether the gain of a relevant item is its rating, and not 1; `ndcg` depends on it.
      names: of metrics in `METRICS`; only these are computed. None: all of lists.
      chunk: users at a time, from 1; None: as many as have 4 MiB of float32 scores.

    Returns:
      Each of `names`; then `users`, how many have a relevant test rating, over whom the means are
      taken, and `users_left_out`, how many have test ratings and no relevant one. `coverage`,
      `novelty` and `gini` are of the lists of both; `auc` leaves out, besides, users whose unseen
      items are all relevant. A metric is NaN where a score is not finite, and where there are no
      test ratings.

    Raises:
      InputError: a rating is of a user or an item that is not there, a pair is both seen and
        tested, a gain is not positive, no metric has such a name, or `k` or `chunk` is below 1.
    """
    shape = (len(factors.user), len(factors.item))
    lists = prepare_lists(seen, test, shape, relevant=relevant, graded=graded, chunk=chunk)
    chosen = tuple(names_of_lists() if names is None else names)
    metrics = compiled_metrics(factors, lists, chosen, k)
    values = {name: float(metrics[name]) for name in chosen}
    return values | {"users": lists.users, "users_left_out": lists.users_left_out}


# on the host


def prepare_lists(
    seen: Ratings,
    test: Ratings,
    shape: tuple[int, int],
    *,
    relevant: float,
    graded: bool = False,
    chunk: int | None = None,
) -> Lists:
    """What `list_metrics` reads, once a problem and on the host.

    Users are dealt out to the chunks, those with the most ratings first, so that the chunks have
    about as many pairs each.

    Args:
      seen, test, relevant, graded, chunk: as those of `evaluate_lists`; of a lane that validates,
        `test` is the fold that it holds out, and `seen` the others.
      shape: how many users and items there are.

    Returns:
      Lists of NumPy arrays.

    Raises:
      InputError: a rating is of a user or an item that is not there, a pair is both seen and
        tested, a gain is not positive, or `chunk` is below 1.
    """
    seen = _within(seen, shape)
    test = _within(test, shape)
    _refuse_seen(seen, test, shape[1])
    tested = np.bincount(test.user, minlength=shape[0])
    users = np.flatnonzero(tested)
    ratings = tested + np.bincount(seen.user, minlength=shape[0])
    dealt = users[np.argsort(-ratings[users], kind="stable")]
    chunks, width = _chunks(len(users), shape[1], chunk)
    deal = np.full(shape[0], -1)
    deal[dealt] = np.arange(len(users))
    in_chunks = np.arange(width * chunks).reshape(width, chunks).T
    gain = _gains(test.value, relevant, graded)
    is_relevant = gain > 0
    wanted, wanted_order = _pairs(deal[test.user], test.item, is_relevant, chunks)
    left_out, _ = _pairs(deal[seen.user], seen.item, deal[seen.user] >= 0, chunks)
    return Lists(
        user=np.pad(dealt, (0, width * chunks - len(users)))[in_chunks].astype(np.int32),
        scored=in_chunks < len(users),
        seen=left_out,
        relevant=wanted,
        gain=gain[wanted_order],
        ideal=_ideal_places(test.user, gain)[wanted_order],
        information=_information(seen, shape[1]),
    )


def _within(ratings: Ratings, shape: tuple[int, int]) -> Ratings:
    """The ratings without padding. Raises InputError for rows beyond the shape."""
    real = Ratings(*(np.asarray(column)[ratings.weight > 0] for column in ratings))
    for side, there in zip(("user", "item"), shape, strict=True):
        last = getattr(real, side).max(initial=-1)
        if last >= there:
            raise InputError(f"expected ratings of {there} {side}s, got one of {side} {last}")
    return real


def _refuse_seen(seen: Ratings, test: Ratings, items: int) -> None:
    """Raises InputError for a pair that is in both."""
    tested = test.user.astype(np.int64) * items + test.item
    known = seen.user.astype(np.int64) * items + seen.item
    both = np.isin(tested, known, assume_unique=True)  # as Ratings are
    if both.any():
        first = int(both.argmax())
        raise InputError(
            f"expected test ratings of pairs that are not seen, got {both.sum()} that are, such as "
            f"user {test.user[first]} and item {test.item[first]}\n"
            "leave the held-out fold out of the seen ratings"
        )


def _chunks(users: int, items: int, chunk: int | None) -> tuple[int, int]:
    """How many chunks, and how many users in each. Raises InputError for a chunk below 1."""
    most = max(CHUNK_BYTES // (4 * items), 1) if chunk is None else chunk
    if most < 1:
        raise InputError(f"chunk: expected 1 or more users, got {chunk}")
    chunks = max(-(-users // most), 1)
    return chunks, max(-(-users // chunks), 1)


def _gains(
    value: Float[np.ndarray, " n"], relevant: float, graded: bool
) -> Float[np.ndarray, " n"]:
    """The gain of each rating, 0 where it is not relevant. Raises InputError for one below that."""
    is_relevant = value >= relevant
    if graded and value.min(where=is_relevant, initial=np.inf) <= 0:
        least = value[is_relevant].min()
        raise InputError(
            f"graded: expected positive ratings as gains, got {least:g} as relevant\n"
            "take a higher least relevant rating, or graded=False"
        )
    return np.where(is_relevant, value if graded else 1.0, 0.0)


def _pairs(
    deal: Rows, item: Rows, chosen: Bool[np.ndarray, " n"], chunks: int
) -> tuple[Pairs, Int[np.ndarray, " chosen"]]:
    """The chosen pairs of users by their places in the deal, and the order that they are in."""
    places = np.flatnonzero(chosen)
    of_chunk = deal[places] % chunks
    order = places[np.argsort(of_chunk, kind="stable")]
    sizes = np.bincount(of_chunk, minlength=chunks)
    pairs = Pairs(
        row=(deal[order] // chunks).astype(np.int32),
        item=item[order],
        start=np.append(0, np.cumsum(sizes)).astype(np.int32),
        slot=np.zeros(sizes.max(), np.int32),
    )
    return pairs, order


def _ideal_places(user: Rows, gain: Float[np.ndarray, " n"]) -> Rows:
    """The place of each gain among its user's, the greatest at 0."""
    order = np.lexsort((-gain, user))
    in_order = user[order]
    place = np.empty(len(user), np.int32)
    place[order] = np.arange(len(user)) - np.searchsorted(in_order, in_order)
    return place


def _information(seen: Ratings, items: int) -> Float[np.ndarray, " items"]:
    users = max(np.count_nonzero(np.bincount(seen.user)), 1)
    raters = np.bincount(seen.item, minlength=items)
    return np.log2(users / np.maximum(raters, 1))


# on the device


class _Slice(NamedTuple):
    """The pairs of one chunk: where they stand, and their rows, beyond all users in padding."""

    at: Int[Array, " most"]
    row: Int[Array, " most"]
    item: Int[Array, " most"]


def list_metrics(
    factors: Factors, lists: Lists, names: Sequence[str], k: int
) -> dict[str, Float[Array, ""]]:
    """Metrics of the lists of one lane, a pure function; lanes that share `lists` are for `vmap`.

    Args:
      factors: of one lane, pinned.
      lists: what `prepare_lists` made.
      names: of metrics of lists in `METRICS`, static; only these are computed.
      k: places of a list, from 1, static.

    Returns:
      A scalar each by name, as `evaluate_lists` says.

    Raises:
      InputError: no metric has such a name, or `k` is below 1.
    """
    if k < 1:
        raise InputError(f"k: expected 1 or more places of a list, got {k}")
    metrics = {name: _metric(name) for name in names}
    needs = {"relevant"}.union(*(metric.needs for metric in metrics.values()))
    factors, lists = jax.tree.map(jnp.asarray, (factors, lists))
    by_user = {name: metric for name, metric in metrics.items() if metric.is_by_user}

    def of_chunk(listed, chunk):
        scores, seen, is_finite = _scores(factors, lists, chunk)
        best = _best(scores, k) if needs & {"gain", "listed"} else None
        if "listed" in needs:
            named = jnp.where(lists.scored[chunk][:, None], best, len(listed))
            listed = listed.at[named.ravel()].add(1, mode="drop")
        found = _found(needs, lists, chunk, scores, seen, best, k)
        sums = {name: _sum(metric, found) for name, metric in by_user.items()}
        return listed, (sums, is_finite)

    none_listed = jnp.zeros(len(factors.item), factors.item.dtype)
    chunks = jnp.arange(len(lists.user))
    listed, (sums, is_finite) = jax.lax.scan(of_chunk, none_listed, chunks)
    of_items = {"listed": listed, "information": lists.information.astype(listed.dtype)}
    is_measured = is_finite.all() & lists.scored.any()

    def value_of(name: str, metric: Metric) -> Float[Array, ""]:
        if metric.is_by_user:
            total, users = sums[name]
            value = total.sum() / users.sum()
        else:
            value = metric.of(**{need: of_items[need] for need in metric.needs})
        return jnp.where(is_measured, value, jnp.nan)

    return {name: value_of(name, metric) for name, metric in metrics.items()}


compiled_metrics = jax.jit(list_metrics, static_argnums=(2, 3))


def _metric(name: str) -> Metric:
    if name not in METRICS or not METRICS[name].is_of_lists:
        known = ", ".join(names_of_lists())
        raise InputError(f"expected a metric of lists of {known}; got {name!r}")
    return METRICS[name]


def _scores(factors: Factors, lists: Lists, chunk: Int[Array, ""]):
    """`[chunk, items]`, -∞ where seen; which those are; and whether the others are finite."""
    users = lists.user[chunk]
    scores = factors.user[users] @ factors.item.T
    scores = jnp.where(scores == 0, 0, scores)  # `top_k` has -0 below 0
    seen = _slice(lists.seen, chunk, len(users))
    unseen = scores.at[seen.row, seen.item].set(-jnp.inf, mode="drop")
    return unseen, seen, jnp.isfinite(scores).all()


def _slice(pairs: Pairs, chunk: Int[Array, ""], users: int) -> _Slice:
    at = pairs.start[chunk] + jnp.arange(len(pairs.slot))
    is_there = at < pairs.start[chunk + 1]
    return _Slice(at, row=jnp.where(is_there, pairs.row[at], users), item=pairs.item[at])


def _best(scores: Float[Array, "chunk items"], k: int) -> Int[Array, "chunk k"]:
    """The items of the highest unseen scores; the number of items where none is left."""
    items = scores.shape[1]
    score, item = jax.lax.top_k(scores, min(k, items))
    named = jnp.where(score > -jnp.inf, item, items)
    return jnp.pad(named, ((0, 0), (0, k - named.shape[1])), constant_values=items)


def _found(needs, lists: Lists, chunk, scores, seen: _Slice, best, k: int):
    """What the metrics of a chunk need of each user, by name."""
    users, items = scores.shape
    relevant = _slice(lists.relevant, chunk, users)
    gain = lists.gain[relevant.at].astype(scores.dtype)
    row = relevant.row

    def number(rows):
        return jnp.zeros(users, scores.dtype).at[rows].add(1, mode="drop")

    def in_list():
        is_named = best[row] == relevant.item[:, None]
        gains = jnp.where(is_named, gain[:, None], 0)
        return jnp.zeros((users, k), scores.dtype).at[row].add(gains, mode="drop")

    def at_best():
        place = lists.ideal[relevant.at]
        return jnp.zeros((users, k), scores.dtype).at[row, place].set(gain, mode="drop")

    def unseen():
        return items - number(seen.row)

    def beaten():
        below = unseen()[row] - _above(scores, relevant)
        return jnp.zeros(users, scores.dtype).at[row].add(below, mode="drop")

    arrays = {
        "gain": in_list,
        "ideal": at_best,
        "relevant": partial(number, row),
        "unseen": unseen,
        "beaten": beaten,
    }
    return {name: array() for name, array in arrays.items() if name in needs}


def _above(scores: Float[Array, "chunk items"], pairs: _Slice) -> Float[Array, " most"]:
    """How many of its user's items score above each pair's, or the same: those count half.

    But for the pair's own, which counts whole.
    """

    def of_pair(row, item):
        own = scores[row]
        halves = 2 * (own > own[item]) + (own == own[item])
        return (halves.sum(dtype=jnp.int32) + 1).astype(scores.dtype) / 2

    at_once = min(len(scores), len(pairs.row)) or None
    return jax.lax.map(lambda pair: of_pair(*pair), (pairs.row, pairs.item), batch_size=at_once)


def _sum(metric: Metric, found) -> tuple[Float[Array, ""], Int[Array, ""]]:
    """The sum over the users that have the metric, and how many do."""
    value = metric.of(**{need: found[need] for need in metric.needs})
    has_it = (found["relevant"] > 0) & ~jnp.isnan(value)
    return jnp.where(has_it, value, 0).sum(), has_it.sum()
