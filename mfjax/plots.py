"""Figures of results: pure functions that return a `Figure`, and `save`. They never touch pyplot's global state.

Colours are Okabe and Ito's or viridis, and line styles and markers differ with them, so that figures read in grey too.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from textwrap import fill, shorten
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import CenteredNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from mfjax.metrics import Bounds, errors
from mfjax.protocol import REPLICATES, Outcome
from mfjax.sweep import Fit

BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9"
CURVES = {
    "train_rmse": {"label": "training RMSE", "color": BLUE, "linestyle": "--"},
    "validation_rmse": {"label": "validation RMSE", "color": VERMILLION, "linestyle": "-"},
}
RMSE = "RMSE (in units of the ratings)"
LOSS = "objective (loss)"
LEVELS = 12  # ratings of at most so many distinct values are shown value by value
ANNOTATED = 60, 10  # a matrix of at most so many cells and columns has its values written in


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write `name.png` and `name.pdf` into `folder`."""
    for kind in ("png", "pdf"):
        figure.savefig(folder / f"{name}.{kind}", dpi=150)


def learning_curves(outcome: Outcome) -> Figure:
    """Errors (left) and objective (right) of the chosen setting by epoch, the other settings behind it in grey."""
    chosen, others = outcome.chosen, outcome.settings[1:]
    swept = ", ".join(f"{k} {v:g}" for k, v in chosen.hparams.items() if any(s.hparams[k] != v for s in others))
    figure, (left, right) = _panels(
        f"Learning curves of the chosen setting{swept and f' ({swept})'}, {_over(chosen.fits)}"
    )
    for i, setting in enumerate(others):
        epochs, values = _series(setting.fits, outcome.criterion)
        label = f"{'_' if i else ''}other settings, {CURVES[outcome.criterion]['label']}"
        left.plot(epochs, values.mean(0), color="0.75", linewidth=0.8, zorder=1, label=label)
    shown = [_curve(left, chosen.fits, metric, **style) for metric, style in CURVES.items()]
    _scale_y(left, np.concatenate(shown), fenced=True)
    _scale_y(right, _curve(right, chosen.fits, "loss", color=BLUE))
    best = [fit for fit in chosen.fits if fit.best_epoch and outcome.criterion == "validation_rmse"]
    for axes, metric in ((left, outcome.criterion), (right, "loss")) if best else ():
        values = [fit.at_best(metric) for fit in best]
        axes.plot([fit.best_epoch for fit in best], values, "o", color="black", mfc="white", label="best epoch of a fit")
    _by_epoch(figure, left, right, "Errors")
    return figure


def side_by_side(curves: dict[str, Outcome]) -> Figure:
    """Training error (left) and objective (right) by epoch of the chosen setting of each outcome."""
    over = {_over(outcome.chosen.fits) for outcome in curves.values()}
    figure, (left, right) = _panels(f"{', '.join(curves)}: training compared, {' and '.join(sorted(over))}")
    for axes, metric in ((left, "train_rmse"), (right, "loss")):
        shown = [
            _curve(axes, outcome.chosen.fits, metric, label=name, **_style(i))
            for i, (name, outcome) in enumerate(curves.items())
        ]
        _scale_y(axes, np.concatenate(shown), fenced=metric != "loss")
    _by_epoch(figure, left, right, "Training error")
    return figure


def heat_map(outcome: Outcome, axes: dict[str, list[float]]) -> Figure | None:
    """The criterion over the two axes with the most values, at the best of the others; over an only axis, a line."""
    ticks = {k: sorted(set(v)) for k, v in axes.items() if k not in REPLICATES and len(set(v)) > 1}
    names = sorted(ticks, key=lambda k: -len(ticks[k]))
    if len(names) < 2:
        return _profile(outcome, names[0]) if names else None
    (x, y), others = names[:2], names[2:]
    values, row, column = np.full((len(ticks[y]), len(ticks[x])), np.nan), 0, 0
    for setting in reversed(outcome.settings):  # the chosen setting last, so that the best of a cell is what stays
        row, column = (ticks[k].index(setting.hparams[k]) for k in (y, x))
        values[row, column] = setting.criterion
    label, rest = CURVES[outcome.criterion]["label"], f", at the best {' and '.join(others)}" if others else ""
    size = max(6, 0.75 * len(ticks[x]) + 2.2), max(3, 0.5 * len(ticks[y]) + 1.6)
    figure, (panel,) = _panels(f"Mean {label} by {x} and {y}{rest}", size, 1)
    image = _cells(panel, values, lambda v: f"{v:#.4g}" if np.isfinite(v) else "not run" if np.isnan(v) else "diverged")
    if outcome.chosen.alive:
        image.set_clim(outcome.chosen.criterion, _fence(values))
        cut = np.isfinite(values) & (values > _fence(values))
        figure.colorbar(image, label=f"{label} (lower is better)", extend="max" if cut.any() else "neither")
        for color, width in (("white", 5), ("black", 2)):
            panel.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, color=color, linewidth=width, zorder=3))
    panel.set(xlabel=x, ylabel=y, title="outlined: the chosen setting")
    panel.set_xticks(range(len(ticks[x])), [f"{v:g}" for v in ticks[x]])
    panel.set_yticks(range(len(ticks[y])), [f"{v:g}" for v in ticks[y]])
    return figure


def _profile(outcome: Outcome, name: str) -> Figure:
    """The criterion along one axis: every fit, the mean of a setting's, and the settings that diverged."""
    label, settings = CURVES[outcome.criterion]["label"], sorted(outcome.settings, key=lambda s: s.hparams[name])
    figure, (axes,) = _panels(f"Mean {label} by {name}", (6, 3.8), 1)
    for setting in settings:
        x = [setting.hparams[name]] * len(setting.fits)
        axes.plot(x, [fit.at_best(outcome.criterion) for fit in setting.fits], ".", color="0.6")
