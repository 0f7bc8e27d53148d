"""Figures of results: pure functions that return a `Figure`, and `save`."""

from pathlib import Path

from matplotlib.figure import Figure

from mfjax.reporting.plots.curves import learning_curves, side_by_side
from mfjax.reporting.plots.maps import heat_map, jobs_map
from mfjax.reporting.plots.ratings import matrices, predictions
from mfjax.reporting.plots.variants import gradients, growth, scaling

__all__ = [
    "gradients",
    "growth",
    "heat_map",
    "jobs_map",
    "learning_curves",
    "matrices",
    "predictions",
    "save",
    "scaling",
    "side_by_side",
]


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write `name.png` and `name.pdf` into `folder`."""
    figure.draw_without_rendering()
    # laid out once: every save would do it again, for more than the drawing takes
    figure.set_layout_engine(None)
    for kind in ("png", "pdf"):
        figure.savefig(folder / f"{name}.{kind}", dpi=150)
