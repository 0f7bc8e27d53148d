"""Configs as the command composes them, in this process."""

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from mfjax.app import CONF, messages, schema
from mfjax.app.build import build
from mfjax.app.check import check
from mfjax.app.ignored import refuse_idle
from mfjax.errors import InputError

schema.register()
TINY = ("data=toy", "data.num_users=6", "data.num_items=5", "replicates=1")


def composed(*overrides: str) -> DictConfig:
    """The config, checked."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("config", list(overrides))
    check(cfg)
    return cfg


def built(*overrides: str):
    cfg = composed(*overrides)
    refuse_idle(cfg, overrides)
    return build(cfg)


def refusal(*overrides: str, until=built) -> str:
    """What the command says of a config that it refuses before it trains."""
    try:
        until(*overrides)
    except (InputError, HydraException, OmegaConfBaseException) as error:
        return messages.short(error)
    raise AssertionError(f"{' '.join(overrides)} was not refused")


def axes(cfg: DictConfig) -> dict[str, list]:
    """What is swept."""
    return {key: list(values) for key, values in cfg.sweep.items() if values is not None}
