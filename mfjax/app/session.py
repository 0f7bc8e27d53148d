"""What Hydra says of the job that is running, and what is left to do as the command ends."""

import re
from contextlib import ExitStack
from contextvars import ContextVar
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

ending: ContextVar[ExitStack] = ContextVar("what the command leaves as it ends, however it does")


def is_multirun() -> bool:
    """Whether this is one job of several."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def experiment_name() -> str:
    """The name given with `+exp=`, or `run`."""
    return HydraConfig.get().runtime.choices.get("exp", "run")


def own_part(config: DictConfig) -> DictConfig:
    """The config as the job sees it, without Hydra's own part."""
    own = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    own._set_parent(config)  # in which `${hydra.…}` is found
    return own


def overrides_of(own: DictConfig) -> list[str]:
    """The overrides of the command line for the job of a config that `own_part` made."""
    config: Any = own._get_parent()
    if config is None or "hydra" not in config:  # of one that was composed without Hydra's part
        return []
    return list(config.hydra.overrides.task)


def as_written(override: str) -> str:
    """An override without the backslashes that Hydra puts into those of the jobs of `-m`."""
    return re.sub(r"\\([\\()\[\]{}:=, \t])", r"\1", override)
