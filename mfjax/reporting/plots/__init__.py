"""Figures of results: pure functions that return a `Figure`, and `save`."""

from mfjax.reporting.figures import save
from mfjax.reporting.plots.against import against
from mfjax.reporting.plots.curves import learning_curves, side_by_side
from mfjax.reporting.plots.differences import forest
from mfjax.reporting.plots.maps import heat_map, jobs_map
from mfjax.reporting.plots.parallel import parallel
from mfjax.reporting.plots.ratings import matrices, predictions
from mfjax.reporting.plots.variants import gradients, growth, scaling
from mfjax.reporting.saving import Saving

__all__ = [
    "Saving",
    "against",
    "forest",
    "gradients",
    "growth",
    "heat_map",
    "jobs_map",
    "learning_curves",
    "matrices",
    "parallel",
    "predictions",
    "save",
    "scaling",
    "side_by_side",
]
