"""What Hydra says of the job that is running."""

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode


def is_multirun() -> bool:
    """Whether this is one job of several."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def experiment_name() -> str:
    """The name given with `+exp=`, or `run`."""
    return HydraConfig.get().runtime.choices.get("exp", "run")
