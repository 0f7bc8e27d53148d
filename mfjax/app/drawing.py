"""How a run saves its figures."""

from contextlib import AbstractContextManager, nullcontext, suppress

import jax
from omegaconf import DictConfig

from mfjax.reporting.apart import Apart
from mfjax.reporting.provenance import usable_cores
from mfjax.reporting.saving import Saving


def saving_of(cfg: DictConfig) -> Saving:
    """What the config says of the files of figures."""
    plots = cfg.plots
    size = None if plots.size is None else tuple(plots.size)
    return Saving(plots.title, tuple(plots.format), size)


def drawing_apart(cfg: DictConfig) -> AbstractContextManager[Apart | None]:
    """Within it there is a process that saves figures, where there is a core for it."""
    draws = cfg.plots.draw and jax.process_index() == 0
    if draws and usable_cores() > 1:
        with suppress(OSError):  # of a machine that has no process for it
            return Apart(cfg.plots.format)
    return nullcontext()
