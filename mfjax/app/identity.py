"""What tells one run from another: the values of its config that count, its data, and mfjax."""

import hashlib
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from mfjax.app.adopted import provenance_of
from mfjax.app.build import Experiment, plain_section
from mfjax.app.schema import CHANGES_NO_NUMBER, leaves
from mfjax.model import FACTORS

SUMS = "kernel, chosen"
OF_BUILT = ("data", SUMS)  # what is known once the data are read


def run_identity(values: Mapping[str, Any], built: Experiment | None = None) -> dict[str, Any]:
    """What a result or a checkpoint is of.

    Args:
      values: of the config: `flat`, or `static`.
      built: from it; None before it is. A run goes on with the kernel that it began with.
    """
    found = {}
    if built is not None:
        found["data"] = built.dataset.sha256
        if kernel := built.method.get("kernel"):
            found[SUMS] = kernel["name"]
    return {**values, **found, "mfjax": version("mfjax")}


def flat(cfg: DictConfig) -> dict[str, Any]:
    """The config's values by their dotted keys, but for those that change no number.

    And the digests of the user's own functions, and of the model that it starts from.
    """
    whole = plain_section(cfg)
    counting = {key: value for key, value in whole.items() if key not in CHANGES_NO_NUMBER}
    values = dict(sorted(leaves(counting)))
    digests = {f"{key}, sha256": of["sha256"] for key, of in provenance_of(values).items()}
    return values | digests | _digest_of_start(cfg) | _digests_of_asides(cfg)


def _digest_of_start(cfg: DictConfig) -> dict[str, str]:
    """That of the model of `init.path`, where there is one."""
    file = Path(cfg.init.path or "").expanduser() / FACTORS
    if cfg.init.path is None or not file.is_file():
        return {}
    return {"init.path, sha256": _digest_of(file)}


def _digests_of_asides(cfg: DictConfig) -> dict[str, str]:
    """Those of the files of what is known of users and items, where there are any."""
    keys = {key: cfg.bags[key] for key in ("user_file", "item_file") if cfg.bags[key] is not None}
    files = {key: Path(path).expanduser() for key, path in keys.items()}
    return {f"bags.{key}, sha256": _digest_of(at) for key, at in files.items() if at.is_file()}


def _digest_of(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def static(cfg: DictConfig) -> dict[str, Any]:
    """All of a config that shapes its program or its results, flat, but for what a lane may vary.

    That is `hparams` and `sweep`.
    """
    return {k: v for k, v in flat(cfg).items() if not k.startswith(("hparams.", "sweep."))}
