"""The tile kernel: every rating stands where it should, and no tiling changes the gradient."""

import itertools
from dataclasses import replace

import jax
import numpy as np
import pytest
from helpers import assert_same, at, compiled
from marks import often

from mfjax import GRADIENTS, KERNELS, InputError, Ratings, Spec, Tiling, tile_width
from mfjax.kernels.kernel import ITEM, USER
from mfjax.kernels.layout import (
    ALS_OVERHEAD,
    GRADIENT_OVERHEAD,
    ROWS,
    arranged,
    prepare,
    tiles_a_step,
)
from mfjax.kernels.tiles import in_rows, tables, views
from mfjax.objective import lane_terms, pin
from mfjax.testing import lane, random_factors
from mfjax.types import MISSING, NO_FOLD, WIDTHS

SPEC = Spec(20, 310, max_rank=5, dtype="float64")  # of the skewed ratings
HPARAMS = lane(rank=3)
CHUNKS = (1, 500, 4096)  # less than a tile, no multiple of one, more than all
TILINGS = [
    Tiling(width, chunk, group, shards)
    for width, (chunk, group), shards in itertools.product(
        WIDTHS, zip(CHUNKS, (8, 64, 16), strict=True), (1, 2)
    )
]
# every pair of values of (width, chunk, shards, missing, bias): 12 programs for 144 combinations
SPECS = [
    replace(
        SPEC,
        missing=MISSING[j],
        bias=(i // 2 + j) % 2 == 1,
        tiling=Tiling(
            width=WIDTHS[i],
            chunk=CHUNKS[(i + j) % 3],
            group=8 if i % 2 else 64,
            shards=1 + (i + j) % 2,
        ),
    )
    for i, j in itertools.product(range(4), range(3))
]


def label(x):
    tiling = x if isinstance(x, Tiling) else x.tiling
    name = f"width{tiling.width}-chunk{tiling.chunk}-group{tiling.group}-shards{tiling.shards}"
    return name if x is tiling else f"{name}-{x.missing}-{'bias' * x.bias or 'plain'}"


def nothing():
    return Ratings.of([], [], [], dtype="float64")


# the layout


def coordinates(side, other):
    """(row, col, value, weight, fold) of every slot of a side that weighs something, in order."""
    strips = side.first.shape[1] - 1
    slot = np.nonzero(side.weight)
    shard, tile, abreast, _ = slot
    row = side.row[(shard * strips + side.strip[shard, tile]) * ROWS + abreast]
    columns = (x[slot] for x in (side.value, side.weight, side.fold))
    return sorted(zip(row, other.row[side.col[slot]], *columns, strict=True))


@pytest.mark.parametrize("tiling", TILINGS, ids=label)
def test_every_rating_stands_once_in_both_orientations(ratings, skewed, tiling):
    for given, (users, items) in ((ratings, (6, 5)), (skewed, (20, 310)), (nothing(), (6, 5))):
        layout = prepare(given, replace(SPEC, num_users=users, num_items=items, tiling=tiling))
        expected = [row for row in zip(*given, strict=True) if row[3] > 0]
        mirrored = [(item, user, *rest) for user, item, *rest in expected]
        assert coordinates(layout.user, layout.item) == sorted(expected)
        assert coordinates(layout.item, layout.user) == sorted(mirrored)


@pytest.mark.parametrize("tiling", TILINGS, ids=label)
def test_rows_stand_by_length_and_tiles_by_strip(skewed, tiling):
    layout = prepare(skewed, replace(SPEC, tiling=tiling))
    real = skewed.weight > 0
    sides = ((layout.user, skewed.user, 20), (layout.item, skewed.item, 310))
    for side, index, num_rows in sides:
        np.testing.assert_array_equal(side.row[side.position], np.arange(num_rows))
        spare = len(side.row) - num_rows
        assert sorted(side.row) == [*range(num_rows), *[num_rows] * spare]
        count = np.bincount(index[real], minlength=num_rows + 1)[side.row]
        count = count.reshape(tiling.shards, -1, ROWS)
        assert np.all(np.diff(count.reshape(tiling.shards, -1), axis=1) <= 0)
        needed = -(-count.max(2) // tiling.width)
        np.testing.assert_array_equal(np.diff(side.first, axis=1), needed)
        for strip, first in zip(side.strip, side.first, strict=True):
            expected = np.repeat(np.arange(len(first) - 1), np.diff(first))
            np.testing.assert_array_equal(strip[: first[-1]], expected)
        tiles = side.strip.shape[1]
        step = tiles_a_step(tiling)
        assert count.size % (tiling.group * tiling.shards) == 0
        assert tiles % step == 0
        # a reader may begin at the last tile
        assert tiles >= side.first.max() + max(step, tiling.group // ROWS)


@pytest.mark.slow
def test_tables_and_rows_are_inverse(skewed):
    spec = replace(SPEC, tiling=TILINGS[-1])  # of two shards
    layout = jax.device_put(KERNELS["xla"](spec).prepare(skewed))
    of_lane = lane_terms(layout.sums, HPARAMS, spec)
    factors = pin(random_factors(spec), of_lane.columns)
    laid_out = tables(factors, of_lane, layout, spec)
    both = views(laid_out, of_lane, layout, spec)
    for side, pinned in ((USER, spec.max_rank + 1), (ITEM, spec.max_rank)):
        rows = factors[side]
        places = layout[side]
        table = arranged(rows, places)
        np.testing.assert_array_equal(table[places.position], rows)
        assert not table[places.row == len(rows)].any()
        back = in_rows(laid_out[side], both[side], spec)
        np.testing.assert_array_equal(back, rows.at[:, pinned].set(0))


@pytest.mark.parametrize("overhead", [GRADIENT_OVERHEAD, ALS_OVERHEAD])
def test_the_width_is_the_one_that_costs_least(skewed, overhead):
    dense = Ratings.of(*np.indices((100, 130)).reshape(2, -1), np.ones(13000))
    diagonal = Ratings.of(np.arange(100), np.arange(100), np.ones(100))
    chosen = []
    for given, users, items in ((diagonal, 100, 130), (skewed, 20, 310), (dense, 100, 130)):
        spec = replace(SPEC, num_users=users, num_items=items)
        cost = {}
        for width in WIDTHS:
            layout = prepare(given, replace(spec, tiling=Tiling(width)))
            tiles = sum(side.first[:, -1].sum() for side in (layout.user, layout.item))
            cost[width] = tiles * (width + overhead)
        chosen.append(tile_width(given, spec, overhead))
        assert cost[chosen[-1]] == min(cost.values())
    assert chosen[0] == 8
    assert chosen[-1] >= 32


def test_tiles_that_do_not_fit_are_refused(skewed, monkeypatch):
    monkeypatch.setattr("mfjax.memory.memory_bytes", lambda: 4 * 10**5)
    prepare(skewed, SPEC)
    expected = (
        r"(?s)the tiles of \d+ ratings need about [\d.]+ GB.*has 0.0004 GB.*smaller tiles.width"
    )
    with pytest.raises(InputError, match=expected):
        prepare(skewed, replace(SPEC, tiling=Tiling(width=64)))


# the gradient


def test_the_cases_cover_every_pair():
    values = [(s.tiling.width, s.tiling.chunk, s.tiling.shards, s.missing, s.bias) for s in SPECS]
    every = WIDTHS, CHUNKS, (1, 2), MISSING, (False, True)
    for a, b in itertools.combinations(range(5), 2):
        assert {(v[a], v[b]) for v in values} == set(itertools.product(every[a], every[b]))


@pytest.mark.parametrize("spec", often(SPECS, one_of=4), ids=label)
def test_no_choice_of_tiles_changes_the_gradient(skewed, spec):
    for rank, fold in ((3, 1), (5, 0), (0, NO_FOLD)):
        hparams = lane(rank=rank, fold=fold)
        ours = at("tiles", spec, skewed, hparams)
        oracle = at("matrix", replace(spec, tiling=Tiling()), skewed, hparams)
        assert_same(ours, oracle, GRADIENTS["tiles"](spec).tolerance)


@pytest.mark.parametrize("max_rank", [0, 68])  # no column; from 64 on, whole rows are gathered
def test_at_every_rank(skewed, max_rank):
    spec = replace(SPEC, max_rank=max_rank, missing="item_mean")
    for rank in {max_rank, max_rank // 2}:
        hparams = lane(rank=rank)
        oracle = at("matrix", spec, skewed, hparams)
        assert_same(at("tiles", spec, skewed, hparams), oracle, 1e-10)


def test_without_ratings_only_what_is_off_the_ratings_is_left():
    spec = replace(SPEC, num_items=5, missing="zero")
    assert_same(at("tiles", spec, nothing()), at("matrix", spec, nothing()), 1e-10)


@pytest.mark.parametrize("spec", [SPECS[0], SPECS[3]], ids=label)  # one shard, and two
def test_the_same_bits_every_time(skewed, spec):
    assert {s.tiling.shards for s in (SPECS[0], SPECS[3])} == {1, 2}
    once, again = at("tiles", spec, skewed), at("tiles", spec, skewed)
    jax.tree.map(np.testing.assert_array_equal, once, again)


def test_lanes_under_vmap_are_a_loop_of_lanes(skewed):
    gradient = compiled("tiles", SPEC)
    layout = gradient.prepare(skewed)
    factors = random_factors(SPEC)
    lanes = [HPARAMS, lane(reg=0.1, rank=5, fold=0)]
    both = jax.jit(jax.vmap(gradient.value_and_grad, (None, None, 0)))
    stacked = both(factors, layout, jax.tree.map(lambda *leaves: np.stack(leaves), *lanes))
    for i, hparams in enumerate(lanes):
        ours = jax.tree.map(lambda x, i=i: x[i], stacked)
        alone = gradient.value_and_grad(factors, layout, hparams)
        assert_same(ours, alone, 1e-13)  # rounding: another program
