"""Where each rating stands: the tiles of `mfjax.kernels.tiles`, laid out on the host."""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int
from numpy.typing import DTypeLike

from mfjax.memory import refuse_beyond_memory
from mfjax.objective import FoldSums, LaneTerms, Seen, entries_seen, with_few_missing
from mfjax.types import WIDTHS, Ratings, Spec, Tiling

ROWS = 8  # rows abreast in a strip, and the columns of one vector load

# the time of a tile's row beside its ratings, in ratings (experiments/tiles)
GRADIENT_OVERHEAD = 8
ALS_OVERHEAD = 32


class Side(NamedTuple):
    """The ratings by the rows of one side.

    `row` is the row at each position (the number of rows where there is none), and `position` its
    inverse; `col` are positions of the other side. Tile t of a shard belongs to its strip
    `strip[t]`, whose tiles are `first[s]` up to, and not, `first[s + 1]`.
    """

    row: Int[Array, " *positions"]
    position: Int[Array, " *rows"]
    strip: Int[Array, "*shards tiles"]
    first: Int[Array, "*shards ends"]
    col: Int[Array, "*shards tiles rows width"]
    value: Float[Array, "*shards tiles rows width"]
    weight: Float[Array, "*shards tiles rows width"]
    fold: Int[Array, "*shards tiles rows width"]


class Tiles(NamedTuple):
    """Both orientations, and the sums of the folds."""

    user: Side
    item: Side
    sums: FoldSums


# on the device


class Chunk(NamedTuple):
    """Some tiles of one shard, as many as are worked on at once."""

    strip: Int[Array, "*chunks tiles"]
    col: Int[Array, "*chunks tiles rows width"]
    value: Float[Array, "*chunks tiles rows width"]
    weight: Float[Array, "*chunks tiles rows width"]
    fold: Int[Array, "*chunks tiles rows width"]


class Rated(NamedTuple):
    """The ratings of the n rows of a chunk as a lane sees them, `[n, width]`."""

    col: Int[Array, "n width"]
    seen: Seen


def tiles_of(side: Side) -> Chunk:
    """The tiles of a side of one shard, all in one."""
    return Chunk(
        strip=side.strip,
        col=side.col,
        value=side.value,
        weight=side.weight,
        fold=side.fold,
    )


def tiles_a_step(tiling: Tiling) -> int:
    """The tiles that a scan works on at once."""
    return max(tiling.chunk // (ROWS * tiling.width), 1)


def rated(
    chunk: Chunk,
    own: Float[Array, " n"],
    other: Float[Array, " positions"],
    lane: LaneTerms,
    spec: Spec,
) -> Rated:
    """The ratings of a chunk, row by row; `own` and `other` are what b takes from each side."""
    width = chunk.col.shape[-1]

    def by_row(tiles):
        return tiles.reshape(-1, width)

    rows = jax.tree.map(by_row, chunk._replace(strip=None))
    background = own[:, None] + other[rows.col]
    return Rated(rows.col, entries_seen(rows, background, lane, spec))


def arranged(rows: Float[Array, "rows *columns"], side: Side) -> Float[Array, "positions *columns"]:
    """Rows in the order of their positions; 0 where there is no row."""
    return rows.at[side.row].get(mode="fill", fill_value=0)


def in_strips(rows: Float[Array, "positions *columns"]) -> Float[Array, "strips rows *columns"]:
    """Rows by position as strips of ROWS each."""
    return rows.reshape(-1, ROWS, *rows.shape[1:])


def rows_of_strips(
    strips: Float[Array, "strips rows *columns"], strip: Int[Array, " tiles"]
) -> Float[Array, "n *columns"]:
    """The rows of some tiles, each as often as it has tiles."""
    rows = strips.at[strip].get(mode="promise_in_bounds")
    return rows.reshape(-1, *rows.shape[2:])


def add_to_strips(
    total: Float[Array, "strips *rest"],
    part: Float[Array, "n *columns"],
    strip: Int[Array, " tiles"],
) -> Float[Array, "strips *rest"]:
    """Sums of strips with those of the rows of some tiles."""
    of_strip = total.shape[1:]
    tiles = part.reshape(len(strip), *of_strip)
    return total.at[strip].add(tiles, mode="promise_in_bounds")


# on the host


class Places(NamedTuple):
    """Where the rows of one side stand: the row and its number of ratings at each position."""

    row_at: np.ndarray
    count_at: np.ndarray
    position: np.ndarray  # of each row


def prepare(ratings: Ratings, spec: Spec) -> Tiles:
    """The tiles of both sides. Raises InputError where they would not fit in memory."""
    entries, sums = with_few_missing(ratings, spec)
    real = _without_padding(entries)
    user = _places(real.user, spec.num_users, spec.tiling)
    item = _places(real.item, spec.num_items, spec.tiling)
    tiles = _num_tiles(user, spec.tiling) + _num_tiles(item, spec.tiling)
    slots = tiles * ROWS * spec.tiling.width
    slot_bytes = 8 + 2 * np.dtype(spec.dtype).itemsize
    refuse_beyond_memory(
        slots * slot_bytes,
        f"the tiles of {len(real.value):,} ratings",
        "a smaller tiles.width, or fewer ratings",
    )
    turned = real._replace(user=real.item, item=real.user)
    return Tiles(
        user=_side(real, user, item, spec),
        item=_side(turned, item, user, spec),
        sums=sums,
    )


def _without_padding(ratings: Ratings) -> Ratings:
    real = ratings.weight > 0
    if real.all():
        return ratings
    return ratings.taken(real)


def tile_width(ratings: Ratings, spec: Spec, overhead: float = GRADIENT_OVERHEAD) -> int:
    """The width, of WIDTHS, that costs least on these ratings (experiments/tiles).

    The cost is their number with padding, and `overhead` for every row of a tile.

    Args:
      ratings: to lay out, in NumPy.
      spec: of which the numbers of users and items are read.
      overhead: the time of a tile's row beside its ratings, in ratings; `ALS_OVERHEAD` of a method
        that solves rows.

    Returns:
      A `Tiling.width`.
    """

    def cost(width: int) -> float:
        tiling = Tiling(width=width)
        user = _places(ratings.user, spec.num_users, tiling)
        item = _places(ratings.item, spec.num_items, tiling)
        tiles = _num_tiles(user, tiling) + _num_tiles(item, tiling)
        return tiles * (width + overhead)

    return min(WIDTHS, key=cost)


def _places(row: np.ndarray, num_rows: int, tiling: Tiling) -> Places:
    """Rows by their number of ratings, in strips.

    Strips are dealt to the shards in turn, and there are as many in each as fill its groups.
    """
    count = np.bincount(row, minlength=num_rows)
    longest_first = np.argsort(-count, kind="stable")
    group_strips = max(tiling.group // ROWS, 1)
    groups = -(-num_rows // (group_strips * ROWS * tiling.shards))
    strips = groups * group_strips  # of a shard
    strip, abreast = np.divmod(np.arange(num_rows), ROWS)
    turn, shard = np.divmod(strip, tiling.shards)
    place = (shard * strips + turn) * ROWS + abreast

    num_positions = tiling.shards * strips * ROWS
    row_at = np.full(num_positions, num_rows)
    row_at[place] = longest_first
    count_at = np.zeros(num_positions, np.int64)
    count_at[place] = count[longest_first]
    position = np.empty(num_rows, np.int64)
    position[longest_first] = place
    return Places(row_at, count_at, position)


def _tiles_needed(places: Places, tiling: Tiling) -> np.ndarray:
    """The tiles of each strip, `[shards, strips]`."""
    strips = places.count_at.reshape(tiling.shards, -1, ROWS)
    longest = strips.max(2)
    return -(-longest // tiling.width)


def _num_tiles(places: Places, tiling: Tiling) -> int:
    return int(_tiles_needed(places, tiling).sum())


def _side(ratings: Ratings, own: Places, other: Places, spec: Spec) -> Side:
    """The tiles of the side that is `ratings.user` here."""
    tiling = spec.tiling
    tiles_needed = _tiles_needed(own, tiling)
    ends = np.cumsum(tiles_needed, 1)
    first = np.pad(ends, ((0, 0), (1, 0)))
    strip = _strip_of_tiles(tiles_needed, first, tiling)
    order = order_by(own.position[ratings.user], len(own.count_at))
    slot = _slots(own.count_at, first, strip.shape[1], tiling)
    shape = (*strip.shape, ROWS, tiling.width)

    def tiled(column: np.ndarray, padding: float, dtype: DTypeLike) -> np.ndarray:
        full = np.full(shape, padding, dtype)
        full.reshape(-1)[slot] = column[order]
        return full

    return Side(
        row=own.row_at.astype(np.int32),
        position=own.position.astype(np.int32),
        strip=strip,
        first=first.astype(np.int32),
        col=tiled(other.position[ratings.item], 0, np.int32),
        value=tiled(ratings.value, 0, spec.dtype),
        weight=tiled(ratings.weight, 0, spec.dtype),
        fold=tiled(ratings.fold, -1, np.int32),
    )


def _strip_of_tiles(tiles_needed: np.ndarray, first: np.ndarray, tiling: Tiling) -> np.ndarray:
    """The strip of each tile, `[shards, tiles]`, with spare tiles that weigh nothing at the end."""
    shards, strips = tiles_needed.shape
    step = tiles_a_step(tiling)
    spare = max(step, tiling.group // ROWS)  # a reader may begin at any tile, and read as many
    longest = int(first[:, -1].max())
    steps = -(-(longest + spare) // step)
    strip = np.zeros((shards, steps * step), np.int32)
    for shard in range(shards):
        of_tiles = np.repeat(np.arange(strips), tiles_needed[shard])
        strip[shard, : len(of_tiles)] = of_tiles
    return strip


def _slots(
    count_at: np.ndarray,
    first: np.ndarray,
    tiles: int,
    tiling: Tiling,
) -> np.ndarray:
    """The slot of each rating in the order of positions, among those of all shards.

    What a position settles is computed once a position.
    """
    tile_slots = ROWS * tiling.width
    shard_tile = np.arange(len(first)) * tiles
    strip_tile = shard_tile[:, None] + first[:, :-1]
    strip_base = strip_tile.ravel() * tile_slots
    abreast = np.arange(ROWS) * tiling.width
    row_base = (strip_base[:, None] + abreast).ravel()
    before = np.cumsum(count_at) - count_at
    nth = np.arange(count_at.sum()) - np.repeat(before, count_at)
    tile, within = np.divmod(nth, tiling.width)
    return np.repeat(row_base, count_at) + tile * tile_slots + within


def order_by(position: np.ndarray, num_positions: int) -> np.ndarray:
    """The stable order of ratings by position, 16 bits at a time: NumPy counts numbers of so many.

    Five times faster than a sort.
    """
    digit = position.astype(np.uint16)  # the lowest bits
    order = np.argsort(digit, kind="stable")
    if num_positions <= 2**16:
        return order
    return order[order_by(position[order] >> 16, -(-num_positions // 2**16))]
