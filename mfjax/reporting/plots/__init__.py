"""Figures of results: pure functions that return a `Figure`, and `save`. They never touch pyplot's global state.

Colours are Okabe and Ito's or viridis, and line styles and markers differ with them, so that figures read in grey too.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from textwrap import fill, shorten
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from mfjax.metrics.rating import Bounds, errors
from mfjax.training.protocol import Outcome
from mfjax.training.sweep import Fit
from mfjax.types import REPLICATES

BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9"
CURVES = {
    "train_rmse": {"label": "training RMSE", "color": BLUE, "linestyle": "--"},
    "validation_rmse": {"label": "validation RMSE", "color": VERMILLION, "linestyle": "-"},
}
OBJECTIVE = "objective, which training minimises"
WORDS = {"setting": ("chosen", "diverged"), "job": ("best", "failed")}  # for the least criterion, and for an infinite one
LEVELS = 12  # ratings of at most so many distinct values are shown value by value
CELLS = 60  # a matrix of at most so many cells, and 10 columns, has its values written in


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write `name.png` and `name.pdf` into `folder`."""
    figure.draw_without_rendering()
    figure.set_layout_engine(None)  # laid out once: every save would do it again, for more than the drawing takes
    for kind in ("png", "pdf"):
        figure.savefig(folder / f"{name}.{kind}", dpi=150)


def learning_curves(outcome: Outcome) -> Figure:
    """Errors (left) and objective (right) of the chosen setting by epoch, the other settings behind it in grey."""
    chosen, others = outcome.chosen, outcome.settings[1:]
    swept = ", ".join(f"{k} {v:.4g}" for k, v in chosen.hparams.items() if any(s.hparams[k] != v for s in others))
    title = f"Learning curves of the chosen setting{swept and f': {swept}'}\n{_over(chosen.fits)}"
    figure, (left, right) = _panels(title, ("errors", OBJECTIVE), sharex=True)
    for i, setting in enumerate(others):
        epochs, values = _series(setting.fits, outcome.criterion)
        label = f"{CURVES[outcome.criterion]['label']} of other settings" if i == 0 else None
        left.plot(epochs, values.mean(axis=0), color="0.75", linewidth=0.8, zorder=1, label=label)
    shown = [_curve(left, chosen.fits, metric, **style) for metric, style in CURVES.items()]
    _scale_y(left, np.concatenate(shown), fenced=True)
    _scale_y(right, _curve(right, chosen.fits, "loss", color=BLUE))
    if outcome.criterion == "validation_rmse":
        best = [fit for fit in _shown(chosen.fits) if fit.best_epoch]
        for axes, metric in ((left, outcome.criterion), (right, "loss")):
            x, y = [fit.best_epoch for fit in best], [fit.at_best(metric) for fit in best]
            axes.plot(x, y, "o", color="black", mfc="white", label="best epoch of a fit")
    _by_epoch(figure, left, right)
    return figure


def side_by_side(curves: dict[str, Outcome]) -> Figure:
    """Training error (left) and objective (right) by epoch of the chosen setting of each outcome."""
    over = " or ".join(sorted({_over(outcome.chosen.fits) for outcome in curves.values()}))
    names = "errors on the training ratings", OBJECTIVE
    figure, (left, right) = _panels(f"Training by {', '.join(curves)}\n{over}", names, sharex=True)
    for axes, metric in ((left, "train_rmse"), (right, "loss")):
        named = enumerate(curves.items())
        shown = [_curve(axes, outcome.chosen.fits, metric, label=name, **_style(i)) for i, (name, outcome) in named]
        _scale_y(axes, np.concatenate(shown), fenced=metric != "loss")
    _by_epoch(figure, left, right)
    return figure


def heat_map(outcome: Outcome, axes: dict[str, list[float]]) -> Figure | None:
    """The criterion over the two axes with the most values, at the best of the others; over an only axis, a line."""
    names = _axes({k: v for k, v in axes.items() if k not in REPLICATES})
    dropped = any(fit.status.startswith("dropped") for setting in outcome.settings for fit in setting.fits)
    label = CURVES[outcome.criterion]["label"] + (" (to where each was dropped)" if dropped else "")
    if len(names) < 2:
        return _profile(outcome, names[0], label) if names else None
    points = [(setting.hparams, setting.criterion) for setting in outcome.settings]
    return _map(points, names, label, "setting")


def jobs_map(rows: Sequence[Mapping[str, Any]], varied: Sequence[str]) -> Figure | None:
    """The validation RMSE of a multirun's jobs over the two keys with the most values, at the best of the others."""

    def typed(value: Any) -> Any:
        try:
            return float(value)
        except (TypeError, ValueError):
            return str(value)

    points = [({key: typed(row.get(key)) for key in varied}, row["validation_rmse"]) for row in rows]
    names = _axes({key: [point[key] for point, _ in points] for key in varied})
    if len(names) < 2:
        return None
    return _map([(point, np.inf if rmse is None else rmse) for point, rmse in points], names, "validation RMSE", "job")


def _axes(values: Mapping[str, Sequence[Any]]) -> list[str]:
    """The keys of several values, those with the most first."""
    several = {key: len(set(of)) for key, of in values.items() if len(set(of)) > 1}
    return sorted(several, key=lambda key: -several[key])


def _scattered(
    points: Sequence[tuple[Mapping[str, Any], float]], x: str, y: str, others: Sequence[str], label: str, what: str
) -> Figure:
    """The criterion of points that were drawn, and fill no grid; a cross where there is none, the best of all outlined."""
    best = min(points, key=lambda p: p[1])
    rest = f"differing in {', '.join(others)} too; " if others else ""
    good, bad = ([point for point in points if np.isfinite(point[1]) == finite] for finite in (True, False))
    least, lost = WORDS[what]
    outlined = f"outlined: the {least} {what}{f'; ×: {lost}' if bad else ''}"
    figure, (panel,) = _panels(f"{label[0].upper()}{label[1:]} by {x} and {y}\n{rest}{outlined}", size=(6.5, 4.8))
    if good:
        values = np.array([criterion for _, criterion in good])
        low, high = _range(values)
        at = [[point[key] for point, _ in good] for key in (x, y)]
        dots = panel.scatter(*at, c=values, cmap="viridis_r", vmin=low, vmax=high, s=45, zorder=2)
        panel.scatter(best[0][x], best[0][y], s=110, facecolors="none", edgecolors="black", linewidths=1.8, zorder=3)
        figure.colorbar(dots, label="RMSE (lower is better)", extend="max" if (values > high).any() else "neither")
    panel.scatter([point[x] for point, _ in bad], [point[y] for point, _ in bad], marker="x", color="0.6", zorder=1)
    for key, axis, scale in ((x, panel.xaxis, panel.set_xscale), (y, panel.yaxis, panel.set_yscale)):
        at = [point[key] for point, _ in points]
        if not any(isinstance(value, str) for value in at) and 0 < 10 * min(at) <= max(at):
            scale("log")
            _log_ticks(axis)
    panel.set(xlabel=x, ylabel=y)
    return figure


def _map(points: Sequence[tuple[Mapping[str, Any], float]], names: Sequence[str], label: str, what: str) -> Figure:
    """The least criterion (infinite: there is none) over the first two of `names`, the best of all outlined."""
    (x, y), others = names[:2], names[2:]
    cells = math.prod(len({point[key] for point, _ in points}) for key in (x, y))
    if 2 * len({(point[x], point[y]) for point, _ in points}) < cells:
        return _scattered(points, x, y, others, label, what)
    ticks = {key: sorted({point[key] for point, _ in points}, key=lambda v: (isinstance(v, str), v)) for key in (x, y)}
    values, row, column = np.full((len(ticks[y]), len(ticks[x])), np.nan), 0, 0
    for point, criterion in sorted(points, key=lambda p: -p[1]):  # the best last, so that a cell keeps its best
        row, column = (ticks[key].index(point[key]) for key in (y, x))
        values[row, column] = criterion
    title = f"Mean {label} by {x} and {y}" if what == "setting" else f"{label[0].upper()}{label[1:]} by {x} and {y}"
    rest = f"each at its best {', '.join(others)}; " if others else ""
    size = max(6, 0.75 * len(ticks[x]) + 2.2), max(3, 0.5 * len(ticks[y]) + 1.6)
    least, lost = WORDS[what]
    figure, (panel,) = _panels(f"{title}\n{rest}outlined: the {least} {what}", size=size)
    low, high = _range(values)
    image = _cells(panel, values, partial(_criterion, lost), cmap="viridis_r", vmin=low, vmax=high)
    if np.isfinite(values).any():
        above = np.isfinite(values) & (values > high)
        figure.colorbar(image, label="RMSE (lower is better)", extend="max" if above.any() else "neither")
        for color, width in (("white", 5), ("black", 2)):
            corner = column - 0.5, row - 0.5
            panel.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=color, linewidth=width, zorder=3))
    panel.set(xlabel=x, ylabel=y)
    for key, set_ticks in ((x, panel.set_xticks), (y, panel.set_yticks)):
        set_ticks(range(len(ticks[key])), [v if isinstance(v, str) else f"{v:g}" for v in ticks[key]])
    return figure


def _criterion(lost: str, value: float) -> str:
    return f"{value:#.4g}" if np.isfinite(value) else "not run" if np.isnan(value) else lost


def _profile(outcome: Outcome, name: str, label: str) -> Figure:
    """The criterion along one axis: every fit, the mean of each setting, and the settings of which a fit diverged."""
    settings = sorted(outcome.settings, key=lambda s: s.hparams[name])
    alive, diverged = ([s for s in settings if s.alive == kind] for kind in (True, False))
    figure, (axes,) = _panels(f"Mean {label} by {name}", size=(6, 3.8))
    fits = np.array([(s.hparams[name], fit.at_best(outcome.criterion)) for s in alive for fit in s.fits]).reshape(-1, 2)
    axes.plot(*fits.T, ".", color="0.6", label="a fit")
    axes.plot([s.hparams[name] for s in alive], [s.criterion for s in alive], "o-", color=BLUE, label="mean of the fits")
    if diverged:
        x, at_top = [s.hparams[name] for s in diverged], axes.get_xaxis_transform()
        axes.plot(x, [0.95] * len(x), "x", color=VERMILLION, transform=at_top, label="diverged")
    values = [s.hparams[name] for s in settings]
    if 0 < 10 * values[0] < values[-1]:
        axes.set_xscale("log")
        axes.set_xticks(values, [f"{v:g}" for v in values])
        axes.xaxis.minorticks_off()
    _scale_y(axes, fits[:, 1], fenced=True)
    axes.set(xlabel=name, ylabel=f"{CURVES[outcome.criterion]['label']} (lower is better)")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def predictions(predicted: np.ndarray, actual: np.ndarray, bounds: Bounds, label: str) -> Figure:
    """Predictions `[n]`, n >= 1, clipped to `bounds`, against the ratings `[n]` (left), and their errors (right)."""
    predicted, actual = np.clip(np.asarray(predicted, float), *bounds), np.asarray(actual, float)
    error, levels = predicted - actual, np.unique(actual)
    rmse, mae = errors(error, np.ones_like(error))
    title = f"Predictions of {len(error):,} {label}\nRMSE {rmse:.4f}, MAE {mae:.4f}, bias {error.mean():+.4f}"
    boxes = len(levels) <= LEVELS
    names = "box: quartiles; whiskers: 5–95 %; dashed: exact" if boxes else "dashed: exact", "errors"
    figure, (left, right) = _panels(title, names)
    if boxes:
        width = 0.6 * np.diff(levels).min(initial=np.ptp(levels) or 1)
        style = {"patch_artist": True, "boxprops": {"facecolor": SKY}, "medianprops": {"color": "black"}}
        groups = [predicted[actual == level] for level in levels]
        left.boxplot(groups, positions=levels, widths=width, whis=(5, 95), showfliers=False, manage_ticks=False, **style)
    elif len(actual) < 2000:
        left.scatter(actual, predicted, s=12, color=BLUE, alpha=0.6, linewidths=0)
    else:
        cells = left.hexbin(actual, predicted, gridsize=40, bins="log", mincnt=1, cmap="viridis_r", linewidths=0.1)
        figure.colorbar(cells, label="ratings in a cell")
    left.plot(levels[[0, -1]], levels[[0, -1]], color=VERMILLION, linestyle="--", zorder=3)
    left.set(xlabel="actual rating", ylabel="predicted rating")
    right.hist(error, bins=50, color=BLUE)
    right.axvline(0, color="black", linewidth=1)
    right.set(xlabel="predicted − actual rating", ylabel="number of ratings")
    return figure


def matrices(actual: np.ndarray, predicted: np.ndarray, missing: np.ndarray) -> Figure:
    """R, R̂ and R̂ − R, `[users, items]`, of a problem small enough to be seen whole; `missing` entries are hatched."""
    known = np.where(missing, np.nan, actual)
    rows, columns = known.shape
    size = 10, 1.5 + np.clip(2.6 * rows / columns, 1.6, 5)
    names = "actual, $R$", r"predicted, $\hat{R}$", r"error, $\hat{R} - R$"
    figure, panels = _panels("Ratings, predictions and their difference; hatched: not rated", names, size)
    low, high = _range(np.append(known, predicted), fenced=False)
    digits = max(0, (2 if columns <= 6 else 1) - int(np.floor(np.log10(max(abs(low), abs(high), 1e-9)))))

    def write(value: float) -> str:
        return f"{value:z.{digits}f}" if rows * columns <= CELLS and columns <= 10 and np.isfinite(value) else ""

    # errors below 1 % of the range of the ratings look like none
    furthest = max(*np.abs(_range(predicted - known, fenced=False)), 0.01 * (high - low), 1e-12)
    rating = [_cells(axes, x, write, vmin=low, vmax=high) for axes, x in zip(panels, (known, predicted), strict=False)]
    error = _cells(panels[2], predicted - known, write, cmap="PuOr", vmin=-furthest, vmax=furthest)
    figure.colorbar(rating[0], ax=panels[:2], label="rating", pad=0.02)
    figure.colorbar(error, ax=panels[2], label="predicted − actual")
    for axes in panels:
        axes.set(xlabel="item", ylabel="user")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(8, integer=True))
    return figure


def gradients(rows: Sequence[dict[str, Any]]) -> Figure:
    """Relative errors (left) and milliseconds a call (right), a line a gradient variant in the order of `rows`."""
    ratings = " and ".join(f"{n:,}" for n in sorted({row["ratings"] for row in rows}))
    title = f"Gradient variants: error against the oracle, and time a call on {ratings} ratings"
    figure, (left, right) = _panels(title, ("error", "time"), (9, 1.8 + 0.32 * len(rows)), sharey=True)
    _gradient_errors(left, rows)
    _gradient_times(right, rows)
    left.set_yticks(range(len(rows)), [row["gradient"] for row in rows])
    left.set_ylim(len(rows) - 0.4, -0.6)
    for tick, row in zip(left.get_yticklabels(), rows, strict=True):
        tick.set_color(VERMILLION if row["status"] == "FAILED" else "black")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return figure


def _gradient_errors(axes: Axes, rows: Sequence[dict[str, Any]]) -> None:
    user, item, tolerance = (_column(rows, key) for key in ("error_user", "error_item", "tolerance"))
    low, high = _range(np.concatenate([x[x > 0] for x in (user, item, tolerance)]), fenced=False)
    floor, y = low / 30, range(len(rows))
    axes.set(xscale="log", xlim=(floor / 2, high * 3), xlabel="relative error, max|a − b| / max|b| (b: oracle)")
    axes.plot(np.where(user == 0, floor, user), y, "o", color=BLUE, mfc="none", label="error, user factors")
    axes.plot(np.where(item == 0, floor, item), y, "x", color=GREEN, label="error, item factors")
    axes.plot(tolerance, y, "|", color="black", markersize=14, label="tolerance")
    if 0 in np.append(user, item):
        ticks = [tick for tick in axes.get_xticks() if low / 3 < tick < high * 3]
        axes.set_xticks([floor, *ticks], ["0", *(f"$10^{{{np.log10(tick):.0f}}}$" for tick in ticks)])
        axes.xaxis.minorticks_off()


def _gradient_times(axes: Axes, rows: Sequence[dict[str, Any]]) -> None:
    ms, low, high = (_column(rows, key) for key in ("ms", "ms_low", "ms_high"))
    least, most = _range(np.concatenate([ms, low, high]), fenced=False)
    colors = [VERMILLION if row["status"] == "FAILED" else SKY for row in rows]
    axes.barh(range(len(rows)), ms, xerr=[ms - low, high - ms], color=colors, capsize=2)
    axes.set(xscale="log", xlim=(least / 2, most * 8), xlabel="time a call (ms; whiskers: quartiles)")
    _log_ticks(axes.xaxis)
    axes.grid(visible=False, axis="y")
    for y, row in enumerate(rows):
        note = ([] if row["ms"] is None else [f"{row['ms']:.3g} ms"]) + [row["status"]] * (row["status"] != "ok")
        x = np.nanmax([ms[y], high[y], least / 2])
        color = VERMILLION if row["status"] == "FAILED" else "black"
        axes.text(x, y, f" {shorten(', '.join(note), 50, placeholder=' …')}", va="center", fontsize="small", color=color)


def scaling(rows: Sequence[dict[str, Any]]) -> Figure:
    """Milliseconds a call against the number of ratings, a line a gradient variant, the slowest first in the legend."""
    timed = sorted((row for row in rows if row["ms"] is not None), key=lambda row: row["ratings"])
    slowest = sorted({row["gradient"]: row["ms"] for row in timed}.items(), key=lambda pair: -pair[1])
    figure, (axes,) = _panels("Time of a gradient call by number of ratings", size=(7.5, 4.2))
    for i, (name, _) in enumerate(slowest):
        own = [row for row in timed if row["gradient"] == name]
        label = name + " (FAILED)" * any(row["status"] == "FAILED" for row in own)
        axes.plot([r["ratings"] for r in own], [r["ms"] for r in own], marker="osv^D"[i % 5], label=label, **_style(i))
    sizes = np.unique([row["ratings"] for row in timed])
    if len(sizes):
        least = min(row["ms"] for row in timed if row["ratings"] == sizes[0])
        axes.plot(sizes, least * sizes / sizes[0], color="0.5", linestyle=(0, (6, 4)), label="proportional to ratings")
    axes.set(xscale="log", yscale="log", xlabel="number of ratings", ylabel="time a call (ms)")
    axes.set_xticks(sizes, [f"{n:,}" for n in sizes])
    axes.xaxis.minorticks_off()
    figure.legend(loc="outside right center", frameon=False)
    return figure


def growth(rows: Sequence[dict[str, Any]], fits: Mapping[str, Any], dense_bytes: int, title: str) -> Figure:
    """Milliseconds a call (left) and bytes of memory (right) by number of ratings, with the power laws fitted to them.

    `fits` has a `mfjax.app.jobs.scale.Power` for `time` and one for `memory`; `dense_bytes` is what one dense matrix would take.
    """
    figure, (left, right) = _panels(title, ("time", "memory"), (9, 4.4))
    ratings, ms, low, high = (_column(rows, key) for key in ("ratings", "ms", "ms_low", "ms_high"))
    left.errorbar(ratings, ms, yerr=[ms - low, high - ms], fmt="o", color=BLUE, capsize=2, label="a call (whiskers: quartiles)")
    left.plot(ratings, fits["time"].at(ratings), color=BLUE, label=f"ratings$^{{{fits['time'].exponent:.2f}}}$, fitted")
    right.plot(ratings, _column(rows, "peak_bytes") / 1e9, "s", color=VERMILLION, label="peak of the process")
    right.plot(
        *(ratings, fits["memory"].at(ratings) / 1e9, "-"),
        color=VERMILLION,
        label=f"ratings$^{{{fits['memory'].exponent:.2f}}}$, fitted",
    )
    right.plot(ratings, _column(rows, "layout_bytes") / 1e9, "^", color=GREEN, mfc="none", label="layout of the ratings")
    right.axhline(dense_bytes / 1e9, color="black", linestyle="--", label=f"one dense matrix, {dense_bytes / 1e9:,.3g} GB")
    left.plot(ratings, ms[-1] * ratings / ratings[-1], color="0.5", linestyle=(0, (6, 4)), label="proportional to ratings")
    left.set(xscale="log", yscale="log", ylabel="time a call (ms)")
    right.set(xscale="log", yscale="log", ylabel="memory (GB)")
    for axes in (left, right):
        axes.set_xlabel("number of ratings")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2, frameon=False, fontsize="small")
    return figure


def _panels(title: str, names: Sequence[str] = ("",), size=(8, 4), **options: Any) -> tuple[Figure, list[Axes]]:
    """A figure of `size` inches with a panel a name, side by side, and the panels."""
    figure = Figure(size, layout="constrained")
    figure.suptitle("\n".join(fill(line, int(11 * size[0])) for line in title.splitlines()), fontsize="large")
    panels = list(figure.subplots(1, len(names), squeeze=False, **options)[0])
    for axes, name in zip(panels, names, strict=True):
        axes.set_title(name, fontsize="medium")
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_axisbelow(True)
        axes.grid(alpha=0.3)
    return figure, panels


def _style(i: int) -> dict[str, Any]:
    """The colour and line of the i-th of several curves; both change from one to the next."""
    colors, lines = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY), ("-", "--", "-.", ":")
    return {"color": colors[i % len(colors)], "linestyle": lines[i % len(lines)]}


def _shown(fits: Sequence[Fit]) -> Sequence[Fit]:
    """The fits that did not diverge, or all where every one did."""
    return [fit for fit in fits if fit.alive] or fits


def _over(fits: Sequence[Fit]) -> str:
    """What the curves of these fits are, in words."""
    n, diverged = len(_shown(fits)), sum(not fit.alive for fit in fits)
    over = f"mean of {n} fits, band from least to greatest" if n > 1 else "one fit"
    return over + (f" ({diverged} of {len(fits)} diverged)" if diverged else "")


def _series(fits: Sequence[Fit], metric: str) -> tuple[np.ndarray, np.ndarray]:
    """The epochs `[epochs]` at which any fit has the metric, and its values `[fits, epochs]`, NaN where a fit has none."""
    histories = [getattr(fit.history, metric) for fit in _shown(fits)]
    values = np.full((len(histories), max(map(len, histories))), np.nan)
    for row, history in zip(values, histories, strict=True):
        row[: len(history)] = history
    values[~np.isfinite(values)] = np.nan
    evaluated = np.isfinite(values).any(axis=0)
    return np.flatnonzero(evaluated) + 1, values[:, evaluated]


def _curve(axes: Axes, fits: Sequence[Fit], metric: str, **style: Any) -> np.ndarray:
    """Draw the mean over the fits, where all have a value, and the band that holds them; the values drawn, `[n]`."""
    epochs, values = _series(fits, metric)
    if len(epochs):
        axes.plot(epochs, values.mean(axis=0), marker="." if len(epochs) <= 25 else "", **style)
        low, high = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
        axes.fill_between(epochs, low, high, facecolor=(style["color"], 0.2), edgecolor=(style["color"], 0.5), linewidth=0.8)
    return values.ravel()


def _by_epoch(figure: Figure, left: Axes, right: Axes) -> None:
    """Label a panel of errors and one of the objective, and put the legend of both below them."""
    left.set(xlabel="epoch", ylabel="RMSE (in units of the ratings)")
    right.set(xlabel="epoch", ylabel="objective (loss)")
    left.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize="small")


def _range(values: np.ndarray, fenced: bool = True) -> tuple[float, float]:
    """The least and the greatest finite value, (1, 1) if none is; `fenced`, at most Tukey's outer fence of the logarithms,
    because what lies above it would flatten the rest."""
    finite = values[np.isfinite(values)] if np.isfinite(values).any() else np.ones(1)
    low, high = float(finite.min()), float(finite.max())
    if fenced and low > 0:
        quarter, three_quarters = np.quantile(np.log(finite), [0.25, 0.75])
        fence = three_quarters + 3 * (three_quarters - quarter)
        high = high if np.log(high) <= fence else float(np.exp(fence))
    return low, high


def _scale_y(axes: Axes, values: np.ndarray, fenced: bool = False) -> None:
    """Fit the y axis to `_range` of the values, and make it logarithmic over more than a decade."""
    low, high = _range(values, fenced)
    if 0 < 10 * low < high:
        axes.set(yscale="log", ylim=(low / (high / low) ** 0.05, high * (high / low) ** 0.05))
    elif low < high:
        axes.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))


def _log_ticks(axis: Axis) -> None:
    """Label a logarithmic axis at 1, 2, 5, 10, …; one of three decades or more at 1, 10, 100, …"""
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1000 * low else (1,)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def _cells(axes: Axes, values: np.ndarray, write: Callable[[float], str], **scale: Any) -> AxesImage:
    """The matrix as cells in viridis (or `cmap`), hatched where it is not finite, with what `write` makes of every value."""
    known = np.ma.masked_invalid(values)
    axes.patch.set(facecolor="0.92", edgecolor="0.75", hatch="////")
    axes.grid(visible=False)
    image = axes.imshow(known, aspect="auto", **{"cmap": "viridis", **scale})
    dark = np.isfinite(values) & (image.to_rgba(known)[..., :3] @ (0.3, 0.59, 0.11) < 0.5)
    size = "small" if values.shape[1] <= 6 else "x-small"
    for (row, column), value in np.ndenumerate(values):
        if text := write(float(value)):
            color = "white" if dark[row, column] else "black"
            axes.text(column, row, text, ha="center", va="center", color=color, fontsize=size)
    return image


def _column(rows: Sequence[dict[str, Any]], key: str) -> np.ndarray:
    """One key of the rows, NaN for None."""
    return np.array([np.nan if row.get(key) is None else row[key] for row in rows], float)
