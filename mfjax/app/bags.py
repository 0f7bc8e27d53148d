"""`bags`: from the names of sources to what gives the features of users and items."""

import inspect
from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from mfjax.bags import BAGS, Source, Sources
from mfjax.data.aside import read_aside
from mfjax.data.dataset import Dataset
from mfjax.errors import InputError
from mfjax.types import Sides

if TYPE_CHECKING:
    import polars as pl

SIDES = Sides._fields
NONE = "none"
KEYS = {"file": "about", "columns": "columns"}  # of a side, by the keyword of a source
TRANSDUCTIVE = "transductive: the bags have the pairs to be tested, without their values"


def build_bags(cfg: DictConfig, dataset: Dataset | None = None) -> Sources | None:
    """The sources of features that `bags` names; None where it names none.

    Without a `dataset`, those are left out that read what is known of its users and items.

    Raises InputError for a wrong name, and for columns that are not named.
    """
    sides = [list(_sources(cfg, side, dataset)) for side in SIDES]
    return Sides(*map(tuple, sides)) if bags_of(cfg) else None


def bags_of(cfg: DictConfig) -> dict[str, Any]:
    """What results say of the features; empty without any.

    The sources of each side, and whether their bags have the pairs to be tested.
    """
    names = {side: _names(cfg, side) for side in SIDES}
    if not any(names.values()):
        return {}
    return {**names, "transductive": cfg.bags.transductive and can_be_transductive(cfg)}


def bags_in_words(bags: Mapping[str, Any]) -> list[str]:
    """What a protocol says of the features that results name, in parts; empty without any."""
    sides = [f"{side} {in_words(bags[side])}" for side in SIDES if bags.get(side)]
    if not sides:
        return []
    return [f"bags: {', '.join(sides)}", *[TRANSDUCTIVE] * bags["transductive"]]


def known_in_words(cfg: DictConfig, dataset: Dataset) -> list[str]:
    """A line a side of whose users or items something is read: of how many, and where."""
    lines = []
    for side in SIDES:
        about = _about(cfg, side, dataset) if "file" in keys_of_bags(cfg, side) else None
        if about is not None:
            known = sum(any(value is not None for value in row) for row in about.rows())
            place = cfg.bags[f"{side}_file"] or dataset.name
            lines.append(f"{known:,} of {len(about):,} {side}s are known, by {place}")
    return lines


def in_words(names: Any) -> str:
    """The value of `bags.user` or `bags.item` as a command line has it."""
    several = [names] if isinstance(names, str) else list(names)
    return several[0] if len(several) == 1 else f"[{','.join(several)}]"


def keys_of_bags(cfg: DictConfig, side: str) -> set[str]:
    """The keys of a side, without its name, that its sources read: `file`, `columns`."""
    wanted = _keywords(cfg, side)
    return {key for key, keyword in KEYS.items() if keyword in wanted}


def can_be_transductive(cfg: DictConfig) -> bool:
    """Whether a source of either side reads `bags.transductive`."""
    return any("transductive" in _keywords(cfg, side) for side in SIDES)


def _keywords(cfg: DictConfig, side: str) -> set[str]:
    """What the sources of a side take."""
    return {key for name in _names(cfg, side) for key in inspect.signature(BAGS[name]).parameters}


def _names(cfg: DictConfig, side: str) -> list[str]:
    """The sources of a side. Raises InputError for one that is not there, or stands twice."""
    given = cfg.bags[side]
    names = list(given) if OmegaConf.is_list(given) else [given]
    if names == [NONE]:
        return []
    for name in names:
        if name not in BAGS:
            known = ", ".join([NONE, *BAGS])
            raise InputError(f"bags.{side}: expected one of {known}, or a list, got {name!r}")
    if len(set(names)) < len(names):
        raise InputError(f"bags.{side}: a source stands twice in {in_words(names)}")
    return names


def _sources(cfg: DictConfig, side: str, dataset: Dataset | None) -> Iterator[Source]:
    offers: dict[str, Any] = {
        "columns": cfg.bags[f"{side}_columns"],
        "transductive": cfg.bags.transductive,
    }
    for name in _names(cfg, side):
        wants = inspect.signature(BAGS[name]).parameters
        if "columns" in wants and not offers["columns"]:
            raise InputError(f"bags.{side}={name} needs bags.{side}_columns=[NAME,…]")
        if "about" in wants:
            if dataset is None:
                continue
            offers["about"] = _about(cfg, side, dataset)
        given = {key: x for key, x in offers.items() if key in wants}
        yield partial(BAGS[name], **given) if given else BAGS[name]


def _about(cfg: DictConfig, side: str, dataset: Dataset) -> "pl.DataFrame | None":
    """What is known of the users or items: of a file, or of the data."""
    file = cfg.bags[f"{side}_file"]
    if file is not None:
        return read_aside(file, getattr(dataset, f"{side}_ids"), f"bags.{side}_file")
    return dataset.items if side == "item" else None
