"""Figures of results: pure functions that return a `Figure`, and `save`."""

from pathlib import Path

from matplotlib.figure import Figure

from mfjax.reporting.plots.curves import learning_curves, side_by_side
from mfjax.reporting.plots.maps import heat_map, jobs_map
from mfjax.reporting.plots.ratings import matrices, predictions
from mfjax.reporting.plots.style import fit_cells, refit_legends, styled
from mfjax.reporting.plots.variants import gradients, growth, scaling
from mfjax.reporting.saving import Saving
from mfjax.training.whole import taking_its_place

__all__ = [
    "Saving",
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
AS_DRAWN = Saving()


@styled()
def save(figure: Figure, folder: Path | str, name: str, saving: Saving = AS_DRAWN) -> None:
    """Write `name.png` and the like into `folder`, a file a format; its layout is made anew.

    Args:
      figure: any of these functions'.
      folder: which there is.
      name: of the files, without an ending.
      saving: what they look like.
    """
    title = figure.get_suptitle()
    figure.suptitle(title).set(visible=saving.title, in_layout=saving.title)
    if saving.size:
        figure.set_size_inches(saving.size)
        refit_legends(figure)
    figure.draw_without_rendering()
    fit_cells(figure)
    layout = figure.get_layout_engine()
    # laid out once: every file would do it again, for more than the drawing takes
    figure.set_layout_engine(None)
    for kind in saving.format:
        with taking_its_place(Path(folder) / f"{name}.{kind}") as part:
            plain = title.replace(r"\$", "$")
            figure.savefig(part, format=kind, metadata={"Title": plain})
    figure.set_layout_engine(layout)
