"""The rows of one fit, shared out over devices."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from mfjax.kernels.layout import Side
from mfjax.types import Tiling

SHARDED = ("strip", "first", "col", "value", "weight", "fold")  # with an axis of shards


def by_shard(function: Callable, tiling: Tiling, of_side: tuple, shared: tuple) -> tuple:
    """`function(*of_side, *shared)` for the rows of each shard, on its own device.

    A shard has its own tiles and positions, and all of the rest.

    Args:
      function: returns numbers, `[1]` or none, and a `mfjax.kernels.tiles.Table` of its rows.
      tiling: says how many shards there are.
      of_side: a `Side`, what goes by its positions, and the other side's `Table`.
      shared: what every shard needs whole.

    Returns:
      The numbers of all shards, `[shards]`, and the rows whole, on each device.
    """

    def of_one(of_side: tuple, shared: tuple) -> tuple:
        side, *rest = of_side
        return function(_one_shard(side), *rest, *shared)

    if tiling.shards == 1:
        return of_one(of_side, shared)

    def of_device(of_side: tuple, shared: tuple) -> tuple:
        numbers, rows = of_one(of_side, shared)
        return numbers, jax.lax.all_gather(rows, "row", tiled=True)

    sharded = P("row")
    whole = P()
    specs_of_side = (_fields_of_side(sharded, whole), sharded, whole)
    over_devices = jax.shard_map(
        of_device,
        mesh=_mesh(tiling),
        in_specs=(specs_of_side, whole),
        out_specs=(sharded, whole),
        check_vma=False,
    )
    return over_devices(of_side, shared)


def placement(data: Any, tiling: Tiling, leading: int = 0) -> Any:
    """The shardings that put `data` where `by_shard` reads it, for `jax.device_put`.

    The tiles of each shard are on its device, all the rest on every one. `leading` counts axes
    before that of the shards.
    """
    mesh = _mesh(tiling)
    before = [None] * leading
    whole = NamedSharding(mesh, P())
    sharded = NamedSharding(mesh, P(*before, "row"))

    def is_side(node: Any) -> bool:
        return isinstance(node, Side)

    def of_node(node: Any) -> Any:
        return _fields_of_side(sharded, whole) if is_side(node) else whole

    return jax.tree.map(of_node, data, is_leaf=is_side)


def _fields_of_side(sharded: Any, whole: Any) -> Side:
    return Side(*(sharded if name in SHARDED else whole for name in Side._fields))


def _mesh(tiling: Tiling) -> Mesh:
    devices = jax.local_devices()[: tiling.shards]
    return Mesh(np.array(devices), ("row",))


def _one_shard(side: Side) -> Side:
    first = {name: getattr(side, name)[0] for name in SHARDED}
    return side._replace(**first)
