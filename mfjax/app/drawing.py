"""How a run saves its figures."""

from omegaconf import DictConfig

from mfjax.reporting.saving import Saving


def saving_of(cfg: DictConfig) -> Saving:
    """What the config says of the files of figures."""
    plots = cfg.plots
    size = None if plots.size is None else tuple(plots.size)
    return Saving(plots.title, tuple(plots.format), size)
