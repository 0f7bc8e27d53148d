r"""The tile engine: sums over the ratings of each row, without a scatter-add a rating.

∂L/∂U and ∂L/∂V need not come from one pass. The ratings are kept twice, by user and by item. On each side the rows stand in
the order of their number of ratings, ROWS of them abreast in a strip; a strip is cut into **tiles** of `width` ratings of
each of its rows, padded with weight 0. The rows of a strip are of about one length, so that little is padding:

    strip 0   ████████ ████████ ███░░░░░     3 tiles of ROWS × width ratings
              ████████ ████████ █░░░░░░░
    strip 1   ████████ ██░░░░░░              2 tiles

A scan works on `chunk` ratings at a time, which stay in cache. For each it gathers the other side's rows, takes two small
matrix products, and adds to `chunk / width` rows: the two sums are, with v_j the gathered rows and Ω_i the ratings of row i,

    gradient          Σ_{j ∈ Ω_i} E_ij v_j                                                                       (1)
    normal equations  A_i = Σ_{j ∈ Ω_i} w_ij v_j v_jᵀ        c_i = Σ_{j ∈ Ω_i} w_ij r_ij v_j        (`mfjax.kernels.normal`)

A row is known by its position, place in that order. With shards, every second (third, …) strip belongs to one device, which
reads the other side's table whole. Each device adds in the order of the layout: a CPU gives the same bits every run.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int
from scipy.sparse import coo_array

from mfjax.memory import refuse_beyond_memory
from mfjax.objective import Margins, Terms, margins, observed, train_weight
from mfjax.types import WIDTHS, Factors, Hparams, Ratings, Spec, Tiling

ROWS = 8  # rows abreast in a strip, and the columns of one vector load
GRADIENT_OVERHEAD, ALS_OVERHEAD = 8, 32  # the time of a tile's row beside its ratings, in ratings (experiments/tiles)
VECTOR_COLUMNS = 64  # from here on XLA's CPU compiler vectorises a gather of whole rows (experiments/tiles)


class Side(NamedTuple):
    """The ratings by the rows of one side. `row` is the row at each position (the number of rows where there is none), and
    `position` its inverse; `col` are positions of the other side. Tile t of a shard belongs to its strip `strip[t]`, whose
    tiles are `first[s]` up to, and not, `first[s + 1]`."""

    row: Int[Array, " *positions"]
    position: Int[Array, " *rows"]
    strip: Int[Array, "*shards tiles"]
    first: Int[Array, "*shards ends"]
    col: Int[Array, "*shards tiles rows width"]
    value: Float[Array, "*shards tiles rows width"]
    weight: Float[Array, "*shards tiles rows width"]
    fold: Int[Array, "*shards tiles rows width"]


class Tiles(NamedTuple):
    """Both orientations, and the margins of the folds."""

    user: Side
    item: Side
    margins: Margins


class Table(NamedTuple):
    """One side's rows in the order of their positions: latent columns, padded with zeros to a multiple of ROWS; the bias; and
    what b takes from this side (b_j of an item, 0 of a user)."""

    latent: Float[Array, "positions latent"]
    bias: Float[Array, " positions"]
    background: Float[Array, " positions"]


# the layout, on the host


def prepare(ratings: Ratings, spec: Spec) -> Tiles:
    """The tiles of both sides. Raises InputError where they would not fit in memory."""
    real = ratings.weight > 0
    kept = ratings if real.all() else Ratings(*(column[real] for column in ratings))
    user, item = (_arranged(*side, spec.tiling) for side in ((kept.user, spec.num_users), (kept.item, spec.num_items)))
    slots = sum(_tiles_needed(counts, spec.tiling).sum() for _, _, counts in (user, item)) * ROWS * spec.tiling.width
    refuse_beyond_memory(
        int(slots) * (8 + 2 * np.dtype(spec.dtype).itemsize),
        f"the tiles of {len(kept.value):,} ratings",
        "a smaller tiles.width, or fewer ratings",
    )
    return Tiles(
        _side(kept, user, item, spec),
        _side(kept._replace(user=kept.item, item=kept.user), item, user, spec),
        margins(ratings, spec),
    )


def tile_width(ratings: Ratings, spec: Spec, overhead: float = GRADIENT_OVERHEAD) -> int:
    """The width, of WIDTHS, that costs least on these ratings: their number with padding, and `overhead` for every row of a
    tile."""

    def cost(width: int) -> float:
        tiling = Tiling(width=width)
        sides = ((ratings.user, spec.num_users), (ratings.item, spec.num_items))
        return sum(float(_tiles_needed(_arranged(*side, tiling)[2], tiling).sum()) for side in sides) * (width + overhead)

    return min(WIDTHS, key=cost)


def _arranged(row: np.ndarray, num_rows: int, tiling: Tiling) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The row at each position, the position of each row, and the number of ratings at each position.

    Strips are dealt to the shards in turn, and there are as many in each as fill its groups.
    """
    count = np.bincount(row, minlength=num_rows)
    order = np.argsort(-count, kind="stable")
    group = max(tiling.group // ROWS, 1) * ROWS
    strips = -(-num_rows // (group * tiling.shards)) * group // ROWS  # of a shard
    strip, abreast = np.divmod(np.arange(num_rows), ROWS)
    place = ((strip % tiling.shards) * strips + strip // tiling.shards) * ROWS + abreast
    row_at, count_at = np.full(tiling.shards * strips * ROWS, num_rows), np.zeros(tiling.shards * strips * ROWS, np.int64)
    row_at[place], count_at[place] = order, count[order]
    position = np.empty(num_rows, np.int64)
    position[order] = place
    return row_at, position, count_at


def _tiles_needed(count_at: np.ndarray, tiling: Tiling) -> np.ndarray:
    """The tiles of each strip, `[shards, strips]`."""
    longest = count_at.reshape(tiling.shards, -1, ROWS).max(2)
    return -(-longest // tiling.width)


def _side(ratings: Ratings, own: tuple, other: tuple, spec: Spec) -> Side:
    """The tiles of the side that is `ratings.user` here."""
    tiling, (row_at, position, count_at) = spec.tiling, own
    tiles_of = _tiles_needed(count_at, tiling)
    shards, strips = tiles_of.shape
    first = np.pad(np.cumsum(tiles_of, 1), ((0, 0), (1, 0)))
    step = tiles_a_step(tiling)
    spare = max(step, tiling.group // ROWS)  # a reader may begin at any tile, and read as many
    tiles = -(-(int(first[:, -1].max()) + spare) // step) * step
    strip = np.zeros((shards, tiles), np.int32)
    for shard in range(shards):
        strip[shard, : first[shard, -1]] = np.repeat(np.arange(strips), tiles_of[shard])

    # rating by rating in the order of positions; what a position settles is computed once a position
    order = _order_by(position[ratings.user], len(count_at))
    strip_base = (np.arange(shards)[:, None] * tiles + first[:, :-1]).ravel() * ROWS
    slot_base = (strip_base[:, None] + np.arange(ROWS)).ravel() * tiling.width
    nth = np.arange(len(order)) - np.repeat(np.cumsum(count_at) - count_at, count_at)
    slot = np.repeat(slot_base, count_at) + nth // tiling.width * (ROWS * tiling.width) + nth % tiling.width

    def tiled(column: np.ndarray, padding: float, dtype) -> np.ndarray:
        full = np.full(shards * tiles * ROWS * tiling.width, padding, dtype)
        full[slot] = column[order]
        return full.reshape(shards, tiles, ROWS, tiling.width)

    return Side(
        row=row_at.astype(np.int32),
        position=position.astype(np.int32),
        strip=strip,
        first=first.astype(np.int32),
        col=tiled(other[1][ratings.item], 0, np.int32),
        value=tiled(ratings.value, 0, spec.dtype),
        weight=tiled(ratings.weight, 0, spec.dtype),
        fold=tiled(ratings.fold, -1, np.int32),
    )


def _order_by(position: np.ndarray, num_positions: int) -> np.ndarray:
    """The stable order of ratings by position: SciPy counts them, five times as fast as NumPy sorts."""
    at = (position, np.arange(len(position)))
    return coo_array((np.ones(len(position), np.int8), at), (num_positions, max(len(position), 1))).tocsr().indices


def tiles_a_step(tiling: Tiling) -> int:
    """The tiles that a scan works on at once."""
    return max(tiling.chunk // (ROWS * tiling.width), 1)


def work_bytes(spec: Spec) -> int:
    """An estimate of the temporaries of one lane: the gathered rows of a step, and the normal equations of a group."""
    tiling, columns = spec.tiling, spec.max_rank + ROWS
    floats = tiles_a_step(tiling) * ROWS * tiling.width * columns + tiling.group * columns**2
    return 3 * floats * np.dtype(spec.dtype).itemsize


# tables


def tables(factors: Factors, terms: Terms, layout: Tiles, spec: Spec) -> Factors:
    """Pinned factors and the background, a `Table` a side."""
    no_background = jnp.zeros_like(factors.user[:, 0])

    def table(name: str, background) -> Table:
        rows, side = getattr(factors, name), getattr(layout, name)
        latent, bias = rows[:, : spec.max_rank], rows[:, bias_column(name, spec)] if spec.bias else jnp.zeros_like(rows[:, 0])
        return Table(*(arranged(x, side) for x in (wide(latent), bias, background)))

    return Factors(table("user", no_background), table("item", terms.background))


def wide(latent: Float[Array, "rows rank"]) -> Float[Array, "rows latent"]:
    """Latent columns with zeros up to a multiple of ROWS, and at least that many."""
    rank = latent.shape[1]
    return jnp.pad(latent, ((0, 0), (0, max(-(-rank // ROWS), 1) * ROWS - rank)))


def bias_column(name: str, spec: Spec) -> int:
    """The column of a side's own bias; the other of the two last is pinned at 1."""
    return spec.max_rank + (name == "item")


def arranged(rows: Float[Array, "rows *columns"], side: Side) -> Float[Array, "positions *columns"]:
    """Rows in the order of their positions; 0 where there is no row."""
    return rows.at[side.row].get(mode="fill", fill_value=0)


def in_rows(table: Table, name: str, layout: Tiles, spec: Spec) -> Float[Array, "rows columns"]:
    """The rows of a table in the order of the factors, with 0 in the pinned column."""
    position = getattr(layout, name).position
    latent = table.latent.at[position].get(mode="promise_in_bounds")[:, : spec.max_rank]
    if not spec.bias:
        return latent
    bias = table.bias.at[position].get(mode="promise_in_bounds")[:, None]
    return jnp.concatenate([latent, *([bias, 0 * bias] if name == "user" else [0 * bias, bias])], axis=1)


def gathered(table: Float[Array, "positions columns"], col: Int[Array, "n width"], seen) -> Float[Array, "n width columns"]:
    """Rows of a table, and 0 where a rating is not `seen`.

    XLA's CPU compiler unrolls a gather of rows of fewer than about 75 floats into scalar moves. Narrow rows are read as pieces
    of one vector instead; from VECTOR_COLUMNS on, the product with `seen` makes the gather a part of a vectorised loop.
    Together they halve the time of the whole gradient (experiments/tiles).
    """
    columns = table.shape[1]
    if columns >= VECTOR_COLUMNS:
        return table.at[col].get(mode="promise_in_bounds") * seen[..., None]
    pieces = columns // ROWS
    piece = col[..., None] * pieces + jnp.arange(pieces)[None, None]
    return table.reshape(-1, ROWS).at[piece].get(mode="promise_in_bounds").reshape(*col.shape, columns)


# the sums


def error_sums(
    name: str, both: Factors, layout: Tiles, hparams: Hparams, terms: Terms, spec: Spec, of_values: bool = True
) -> tuple[Float[Array, ""], Table]:
    """The loss of the ratings and its gradient in the rows of one side, equation (1), both without s and the regulariser.

    `both` are the `tables`. With a background, the loss and the gradient are what the ratings add to those of
    `mfjax.objective.everywhere`. Without `of_values` ratings and background count as 0, which leaves the part of the gradient
    that is linear in the side's rows.
    """

    def of_shard(side: Side, own: Table, other: Table, hparams: Hparams, terms: Terms):
        latent, bias = own.latent.reshape(-1, ROWS, own.latent.shape[1]), own.bias.reshape(-1, ROWS)
        background = own.background.reshape(-1, ROWS)

        def step(sums, tiles):
            strip, *ratings = tiles
            of_rows = lambda x: x.at[strip].get(mode="promise_in_bounds").reshape(-1, *x.shape[2:])  # noqa: E731
            col, value, weight, fold = (x.reshape(-1, x.shape[-1]) for x in ratings)  # [rows of the tiles, width]
            weight = train_weight(weight, fold, hparams)
            near = gathered(other.latent, col, (weight > 0).astype(weight.dtype))
            prediction = jnp.einsum("nwc,nc->nw", near, of_rows(latent))
            if spec.bias:
                prediction += of_rows(bias)[:, None]
            if of_values:
                prediction += other.bias[col] if spec.bias else 0
                b = of_rows(background)[:, None] + other.background[col]
                error, loss = observed(prediction, value, weight, b, terms, spec)
            else:
                error, loss = observed(prediction, terms.centre, weight, jnp.zeros_like(prediction), terms, spec)
            parts = jnp.einsum("nwc,nw->nc", near, error), error.sum(1)
            sums = [
                total.at[strip].add(part.reshape(len(strip), -1), mode="promise_in_bounds")
                for total, part in zip(sums, parts, strict=True)
            ]
            return sums, loss.sum()

        chunks = [x.reshape(-1, tiles_a_step(spec.tiling), *x.shape[1:]) for x in tiles_of(side)]
        start = [jnp.zeros((len(x), x[0].size), x.dtype) for x in (latent, bias)]
        (latent_sums, bias_sums), loss = jax.lax.scan(step, start, chunks)
        return loss.sum()[None], Table(latent_sums.reshape(own.latent.shape), bias_sums.reshape(-1), own.background)

    loss, sums = by_shard(of_shard, spec.tiling, own_and_other(name, both, layout), (hparams, terms))
    return loss.sum(), sums


# rows of one fit over several devices


def tiles_of(side: Side) -> tuple:
    """What a scan over tiles reads: `[tiles, …]` each."""
    return side.strip, side.col, side.value, side.weight, side.fold


def own_and_other(name: str, both: Factors, layout: Tiles) -> tuple[Side, Table, Table]:
    """The tiles of a side, its table and the other's."""
    own, other = both if name == "user" else both[::-1]
    return getattr(layout, name), own, other


def by_shard(function, tiling: Tiling, of_side: tuple, shared: tuple):
    """`function(*of_side, *shared)`, which returns numbers and a `Table`, for the rows of each shard on its own device.

    `of_side` are a `Side`, what goes by its positions, and the other side's `Table`. A shard has its own tiles and positions,
    and all of the rest; the numbers come back one a shard, `[shards]`, and the rows whole, on each device.
    """
    if tiling.shards == 1:
        return function(_one_shard(of_side[0]), *of_side[1:], *shared)

    def of_device(of_side: tuple, shared: tuple):
        numbers, rows = function(_one_shard(of_side[0]), *of_side[1:], *shared)
        return numbers, jax.lax.all_gather(rows, "row", tiled=True)

    everywhere = lambda tree: jax.tree.map(lambda leaf: P(), tree)  # noqa: E731
    side = Side(*(P("row") if name in _SHARDED else P() for name in Side._fields))
    specs = (side, P("row"), everywhere(of_side[2])), everywhere(shared)
    over = partial(jax.shard_map, mesh=_mesh(tiling), in_specs=specs, out_specs=(P("row"), P()), check_vma=False)
    return over(of_device)(of_side, shared)


def placement(data, tiling: Tiling, leading: int = 0):
    """The shardings that put `data` where `by_shard` reads it, for `jax.device_put`: the tiles of each shard on its device, all
    the rest on every one. `leading` counts axes before that of the shards."""
    whole, split = (NamedSharding(_mesh(tiling), spec) for spec in (P(), P(*[None] * leading, "row")))

    def of(node):
        if isinstance(node, Side):
            return Side(*(split if name in _SHARDED else whole for name in Side._fields))
        return whole

    return jax.tree.map(of, data, is_leaf=lambda node: isinstance(node, Side))


def _mesh(tiling: Tiling) -> Mesh:
    return Mesh(np.array(jax.local_devices()[: tiling.shards]), ("row",))


def _one_shard(side: Side) -> Side:
    return side._replace(**{name: getattr(side, name)[0] for name in _SHARDED})


_SHARDED = ("strip", "first", "col", "value", "weight", "fold")  # the fields of a Side with an axis of shards
