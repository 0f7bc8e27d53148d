"""How figures are saved. Apart from the figures, so that the config loads no matplotlib."""

from dataclasses import dataclass

FORMATS = ("png", "pdf", "svg")


@dataclass(frozen=True)
class Saving:
    """How a figure is saved.

    Args:
      title: whether it shows its title, which a paper has in a caption instead. The file's metadata
        have it in any case.
      format: of FORMATS, each a file.
      size: its width and height in inches; its own where not given.
    """

    title: bool = True
    format: tuple[str, ...] = ("png", "pdf")
    size: tuple[float, float] | None = None
