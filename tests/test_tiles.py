"""The tile engine: every rating stands where it should, and no choice of tiles changes the gradient."""

import itertools
from dataclasses import replace

import jax
import numpy as np
import pytest
from test_gradients import assert_same, at
from test_objective import compiled, random_factors

from mfjax import GRADIENTS, Factors, Hparams, InputError, Ratings, Spec, Tiling, tile_width
from mfjax.kernels.tiles import ALS_OVERHEAD, GRADIENT_OVERHEAD, ROWS, arranged, in_rows, prepare, tables, tiles_a_step
from mfjax.objective import pinned, terms
from mfjax.types import MISSING, WIDTHS

SPEC = Spec(20, 310, max_rank=5, dtype="float64")  # of the skewed ratings
HPARAMS = Hparams.of("float64", reg=0.3, reg_bias=0.07, missing_weight=0.4, rank=3, fold=1)
CHUNKS = (1, 500, 4096)  # less than a tile, no multiple of one, more than all
TILINGS = [
    Tiling(width, chunk, group, shards)
    for width, (chunk, group), shards in itertools.product(WIDTHS, zip(CHUNKS, (8, 64, 16), strict=True), (1, 2))
]
# every pair of values of (width, chunk, shards, missing, bias): 12 programs for 144 combinations
SPECS = [
    replace(
        SPEC,
        missing=MISSING[j],
        bias=(i // 2 + j) % 2 == 1,
        tiling=Tiling(WIDTHS[i], CHUNKS[(i + j) % 3], group=8 if i % 2 else 64, shards=1 + (i + j) % 2),
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
    shard, tile, abreast, _ = slot = np.nonzero(side.weight)
    row = side.row[(shard * strips + side.strip[shard, tile]) * ROWS + abreast]
    return sorted(zip(row, other.row[side.col[slot]], *(x[slot] for x in side[5:]), strict=True))


@pytest.mark.parametrize("tiling", TILINGS, ids=label)
def test_every_rating_stands_once_in_both_orientations(ratings, skewed, tiling):
    for given, (users, items) in ((ratings, (6, 5)), (skewed, (20, 310)), (nothing(), (6, 5))):
        layout = prepare(given, replace(SPEC, num_users=users, num_items=items, tiling=tiling))
        expected = [row for row in zip(*given, strict=True) if row[3] > 0]
        assert coordinates(layout.user, layout.item) == sorted(expected)
        assert coordinates(layout.item, layout.user) == sorted((i, u, *rest) for u, i, *rest in expected)


@pytest.mark.parametrize("tiling", TILINGS, ids=label)
def test_rows_stand_by_length_and_tiles_by_strip(skewed, tiling):
    layout = prepare(skewed, replace(SPEC, tiling=tiling))
    for side, index, num_rows in ((layout.user, skewed.user, 20), (layout.item, skewed.item, 310)):
        np.testing.assert_array_equal(side.row[side.position], np.arange(num_rows))
        assert sorted(side.row) == [*range(num_rows), *[num_rows] * (len(side.row) - num_rows)]
        count = np.bincount(index[skewed.weight > 0], minlength=num_rows + 1)[side.row].reshape(tiling.shards, -1, ROWS)
        assert np.all(np.diff(count.reshape(tiling.shards, -1), axis=1) <= 0)
        np.testing.assert_array_equal(np.diff(side.first, axis=1), -(-count.max(2) // tiling.width))
        for strip, first in zip(side.strip, side.first, strict=True):
            np.testing.assert_array_equal(strip[: first[-1]], np.repeat(np.arange(len(first) - 1), np.diff(first)))
        tiles, step = side.strip.shape[1], tiles_a_step(tiling)
        assert count.size % (tiling.group * tiling.shards) == 0 and tiles % step == 0
        assert tiles >= side.first.max() + max(step, tiling.group // ROWS)  # a reader that begins at the last tile


def test_tables_and_rows_are_inverse(skewed):
    spec = replace(SPEC, tiling=TILINGS[-1])  # of two shards
    layout = prepare(skewed, spec)
    t = terms(layout.margins, HPARAMS, spec)
    factors = pinned(random_factors(spec), t.columns)
    both = tables(factors, t, layout, spec)
    for name, pin in zip(Factors._fields, (spec.max_rank + 1, spec.max_rank), strict=True):
        rows, side = getattr(factors, name), getattr(layout, name)
        table = arranged(rows, side)
        np.testing.assert_array_equal(table[side.position], rows)
        assert not np.asarray(table)[side.row == len(rows)].any()
        np.testing.assert_array_equal(in_rows(getattr(both, name), name, layout, spec), rows.at[:, pin].set(0))


@pytest.mark.parametrize("overhead", [GRADIENT_OVERHEAD, ALS_OVERHEAD])
def test_the_width_is_the_one_that_costs_least(skewed, overhead):
    dense = Ratings.of(*np.indices((100, 130)).reshape(2, -1), np.ones(13000))
    diagonal = Ratings.of(np.arange(100), np.arange(100), np.ones(100))
    chosen = []
    for given, users, items in ((diagonal, 100, 130), (skewed, 20, 310), (dense, 100, 130)):
        cost = {}
        for width in WIDTHS:
            layout = prepare(given, replace(SPEC, num_users=users, num_items=items, tiling=Tiling(width)))
            cost[width] = sum(side.first[:, -1].sum() for side in layout[:2]) * (width + overhead)
        chosen.append(tile_width(given, replace(SPEC, num_users=users, num_items=items), overhead))
        assert cost[chosen[-1]] == min(cost.values())
    assert chosen[0] == 8 and chosen[-1] >= 32


def test_tiles_that_do_not_fit_are_refused(skewed, monkeypatch):
    monkeypatch.setattr("mfjax.memory.memory_bytes", lambda: 4 * 10**5)
    prepare(skewed, SPEC)
    with pytest.raises(
        InputError, match=r"(?s)the tiles of \d+ ratings need about [\d.]+ GB.*has 0.0004 GB.*smaller tiles.width"
    ):
        prepare(skewed, replace(SPEC, tiling=Tiling(width=64)))


# the gradient


def test_the_cases_cover_every_pair():
    values = [(s.tiling.width, s.tiling.chunk, s.tiling.shards, s.missing, s.bias) for s in SPECS]
    every = WIDTHS, CHUNKS, (1, 2), MISSING, (False, True)
    for a, b in itertools.combinations(range(5), 2):
        assert {(v[a], v[b]) for v in values} == set(itertools.product(every[a], every[b]))


@pytest.mark.parametrize("spec", SPECS, ids=label)
def test_no_choice_of_tiles_changes_the_gradient(skewed, spec):
    for rank, fold in ((3, 1), (5, 0), (0, -2)):
        hparams = HPARAMS._replace(rank=np.int32(rank), fold=np.int32(fold))
        ours, oracle = at("tiles", spec, skewed, hparams), at("matrix", replace(spec, tiling=Tiling()), skewed, hparams)
        assert_same(ours, oracle, GRADIENTS["tiles"](spec).tolerance)


@pytest.mark.parametrize("max_rank", [0, 68])  # no column; from 64 on, whole rows are gathered
def test_at_every_rank(skewed, max_rank):
    spec = replace(SPEC, max_rank=max_rank, missing="item_mean")
    for rank in {max_rank, max_rank // 2}:
        hparams = HPARAMS._replace(rank=np.int32(rank))
        assert_same(at("tiles", spec, skewed, hparams), at("matrix", spec, skewed, hparams), 1e-10)


def test_without_ratings_only_what_is_everywhere_is_left():
    spec = replace(SPEC, num_items=5, missing="zero")
    assert_same(at("tiles", spec, nothing()), at("matrix", spec, nothing()), 1e-10)


@pytest.mark.parametrize("spec", [SPECS[0], SPECS[3]], ids=label)  # one shard, and two
def test_the_same_bits_every_time(skewed, spec):
    assert {s.tiling.shards for s in (SPECS[0], SPECS[3])} == {1, 2}
    once, again = at("tiles", spec, skewed), at("tiles", spec, skewed)
    jax.tree.map(np.testing.assert_array_equal, once, again)


def test_three_settings_are_one_trace(skewed):
    traces, gradient = [], GRADIENTS["tiles"](SPEC)
    layout = gradient.prepare(skewed)
    function = jax.jit(lambda *args: traces.append(args) or gradient.value_and_grad(*args))
    for reg in (0.5, 0, np.float32(1)):
        function.eval_shape(random_factors(SPEC), layout, Hparams.of("float64", reg=reg, rank=2))
    assert len(traces) == 1


def test_lanes_under_vmap_are_a_loop_of_lanes(skewed):
    gradient = compiled("tiles", SPEC)
    factors, layout = random_factors(SPEC), gradient.prepare(skewed)
    lanes = [HPARAMS, HPARAMS._replace(reg=np.float64(0.1), rank=np.int32(5), fold=np.int32(0))]
    both = jax.jit(jax.vmap(gradient.value_and_grad, (None, None, 0)))
    stacked = both(factors, layout, Hparams(*map(np.stack, zip(*lanes, strict=True))))
    for i, hparams in enumerate(lanes):
        ours = jax.tree.map(lambda x, i=i: x[i], stacked)
        assert_same(ours, gradient.value_and_grad(factors, layout, hparams), 1e-13)  # rounding: another program
