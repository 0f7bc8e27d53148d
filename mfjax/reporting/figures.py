"""Figures as files."""

from pathlib import Path

from matplotlib.figure import Figure

from mfjax.reporting.saving import Saving
from mfjax.reporting.style import fit_cells, refit_legends, styled
from mfjax.training.whole import taking_its_place

AS_DRAWN = Saving()
UNDATED = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}  # the same bits


@styled()
def save(figure: Figure, folder: Path | str, name: str, saving: Saving = AS_DRAWN) -> None:
    """Write `name.png` and the like into `folder`, a file a format; its layout is made anew.

    Args:
      figure: any of `mfjax.plots`.
      folder: which there is.
      name: of the files, without an ending.
      saving: what they look like.
    """
    title = figure.get_suptitle()
    figure.suptitle(title).set(visible=saving.title, in_layout=saving.title)
    if saving.size:
        figure.set_size_inches(saving.size)
        refit_legends(figure)
    layout = figure.get_layout_engine()
    if layout:
        layout.execute(figure)
    fit_cells(figure)
    # laid out once: every file would do it again, for more than the drawing takes
    figure.set_layout_engine(None)
    for kind in saving.format:
        with taking_its_place(Path(folder) / f"{name}.{kind}") as part:
            plain = title.replace(r"\$", "$")
            figure.savefig(part, format=kind, metadata={"Title": plain, **UNDATED[kind]})
    figure.set_layout_engine(layout)
