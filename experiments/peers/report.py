"""From the raw rounds to the tables and the figure."""

import csv
import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from environments import versions
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

import mfjax
from mfjax.reporting.formats import cell, markdown
from mfjax.reporting.style import BELOW, BLUE, SMALL, VERMILLION, styled

EPOCHS = 20  # of each setting of the sweep
CLOSE = 0.002  # a test error this near the best of all counts as reached
MOST_DIFFERENT = 1e-4  # relative, of the loss and the norms of two float32 gradients
CASE = ("job", "data", "rank")
ROUND_COLUMNS = (
    "job",
    "data",
    "rank",
    "contestant",
    "round",
    "seconds",
    "setup_seconds",
    "wall_seconds",
    "rmse",
    "peak_mb",
    "note",
    "check",
    "curve",
    "reg",
)
TITLES = {
    "gradient": "Full gradient of both sides, plain factorisation",
    "sgd": "One epoch of SGD, biased factorisation",
    "als": "One sweep of ALS, biased factorisation",
    "gibbs": "One sweep of Gibbs sampling, bags of both sides",
    "sweep": f"Sweep of 32 settings, {EPOCHS} epochs each",
    "thousand": f"Sweep of 1,000 settings, {EPOCHS} epochs each",
}
UNITS = {
    "gradient": "a gradient",
    "sgd": "an epoch",
    "als": "a sweep",
    "gibbs": "a sweep",
    "sweep": "a setting",
    "thousand": "a setting",
}
SWEEPS = ("sweep", "thousand")
BESIDE = (  # a job, its words, mfjax's entry and the peer
    ("gradient", "gradient", "mfjax native", "numba CSR loop"),
    ("gradient", "gradient", "mfjax native", "torch dense autograd"),
    ("gradient", "gradient", "mfjax native", "NumPy dense"),
    ("sgd", "SGD epoch", "mfjax sgd", "libmf AVX"),
    ("sgd", "SGD epoch", "mfjax sgd", "Surprise SVD"),
    ("als", "ALS, exact", "mfjax als", "LensKit BiasedMF"),
    ("als", "ALS, conjugate gradients", "mfjax als_cg", "cmfrec"),
    ("als", "ALS, conjugate gradients", "mfjax als_cg", "implicit ALS"),
    ("gibbs", "Gibbs sweep, bags", "mfjax gibbs, noise by user and item", "myFM"),
    ("sweep", "sweep of 32", "mfjax Sweep", "Surprise SVD"),
    ("sweep", "sweep of 32", "mfjax Sweep", "libmf AVX"),
    ("sweep", "sweep of 32", "mfjax Sweep", "torch Adam loop"),
    ("thousand", "sweep of 1,000", "mfjax Sweep", "Surprise SVD"),
    ("thousand", "sweep of 1,000", "mfjax Sweep", "libmf AVX"),
)
OURS = BLUE
PEERS = VERMILLION
MARKERS = {16: "o", 64: "s", 128: "^"}


class Mark(NamedTuple):
    """How the cases of a data set are drawn: how far above the line, how large, whether full."""

    height: float
    size: float
    is_filled: bool


DATA = {"100k": Mark(0.2, 6, False), "1M": Mark(-0.05, 6, True), "10M": Mark(-0.25, 9, True)}

Row = dict[str, Any]


# the raw rounds


def read(path: Path) -> list[Row]:
    """The rows of a CSV that `write` wrote; none where it is not there."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{key: _value(key, text) for key, text in row.items()} for row in rows]


def _value(key: str, text: str) -> Any:
    if key in ("job", "data", "contestant", "note"):
        return text
    return json.loads(text) if text else None


def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV, whole or not at all."""
    own = list(rows[0]) if rows else []
    columns = ROUND_COLUMNS if path.stem == "rounds" else own
    part = path.with_suffix(".part")
    with part.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({key: _text(row.get(key)) for key in columns})
    part.replace(path)


def _text(value: Any) -> Any:
    if isinstance(value, (dict, list)):
        return json.dumps(value)
    return "" if value is None else value


# the summary


def summarise(rows: list[Row], ours: Mapping[str, str], ratings: Mapping[str, int]) -> list[Row]:
    """One row a case and contestant.

    Args:
      rows: the rounds.
      ours: of each job, the contestant that the others are compared with.
      ratings: training ratings of each data set.
    """
    results = []
    for case in dict.fromkeys(tuple(row[key] for key in CASE) for row in rows):
        of_case = [row for row in rows if tuple(row[key] for key in CASE) == case]
        job, data, _ = case
        visits = ratings.get(data, 0) * (EPOCHS if job in SWEEPS else 1)
        baseline = _seconds_of_rounds(of_case, ours[job])
        for name in _unique(of_case, "contestant"):
            own = [row for row in of_case if row["contestant"] == name]
            result = dict(zip(CASE, case, strict=True)) | {"contestant": name}
            result |= _speed(own, baseline, visits)
            result |= _reached(own, of_case, result["seconds"])
            results.append(result | {"note": _note(own, of_case)})
    return results


def _unique(rows: Iterable[Mapping], key: str) -> list:
    return list(dict.fromkeys(row[key] for row in rows))


def _seconds_of_rounds(rows: list[Row], contestant: str) -> dict[int, float]:
    """The seconds of a contestant by round."""
    own = [row for row in rows if row["contestant"] == contestant]
    return {row["round"]: row["seconds"] for row in own if row["seconds"]}


def _ratio(seconds: dict[int, float], baseline: dict[int, float]) -> float | None:
    """Those of a contestant over those of another in the same round, the median."""
    ratios = [seconds[number] / baseline[number] for number in seconds if number in baseline]
    return float(np.median(ratios)) if ratios else None


def _speed(own: list[Row], baseline: dict[int, float], visits: int) -> Row:
    """Median and quartiles over the rounds.

    `ratio` compares with mfjax in the same round, above 1 where mfjax is faster.
    """
    seconds = _seconds_of_rounds(own, own[0]["contestant"])
    low, median, high = _quartiles(list(seconds.values()))
    return {
        "seconds": median,
        "low": low,
        "high": high,
        "wall_seconds": _median(own, "wall_seconds"),
        "m_ratings_a_second": visits / median / 1e6 if median and visits else None,
        "ratio": _ratio(seconds, baseline),
        "rmse": _median(own, "rmse"),
        "peak_mb": _median(own, "peak_mb"),
        "rounds": len(seconds),
        "setup_seconds": _median(own, "setup_seconds"),
    }


def _quartiles(values: Sequence[float]) -> Sequence[float | None]:
    """The lower quartile, the median and the upper one."""
    if not values:
        return (None, None, None)
    return np.quantile(values, (0.25, 0.5, 0.75)).tolist()


def _median(rows: list[Row], key: str) -> float | None:
    values = [row[key] for row in rows if row[key] is not None]
    return float(np.median(values)) if values else None


def _reached(own: list[Row], of_case: list[Row], seconds: float | None) -> Row:
    """How many sweeps, and seconds, it takes to a test error.

    That is within `CLOSE` of the best that any contestant reaches; of samplers, which improve for
    as long as they run, that of the contestant whose best is the worst.
    """
    reached = [row["rmse"] for row in of_case if row["curve"]]
    samples = any(row["job"] == "gibbs" for row in of_case)
    target = max(reached, default=0.0) if samples else min(reached, default=0.0) + CLOSE
    curve = next((row["curve"] for row in own if row["curve"]), {})
    near = (int(n) for n, rmse in curve.items() if rmse <= target)
    sweeps = next(near, None)
    return {
        "reg": next((row["reg"] for row in own if row["reg"]), None),
        "sweeps_to_rmse": sweeps,
        "seconds_to_rmse": sweeps * seconds if sweeps and seconds else None,
    }


def _note(own: list[Row], of_case: list[Row]) -> str:
    """What the contestant says of itself; and whether its gradient is another than most."""
    notes = [note for note in _unique(own, "note") if note]
    checks = [row["check"] for row in of_case if row["check"]]
    if checks:
        usual = np.median(checks, 0)
        ours = [row["check"] for row in own if row["check"]]
        if any(np.abs(np.asarray(check) / usual - 1).max() > MOST_DIFFERENT for check in ours):
            notes.append("ANOTHER GRADIENT than the others'")
    return "; ".join(notes)


# the tables


def tables(results: list[Row]) -> str:
    """A table a job, each under its title."""
    return "\n".join(
        f"\n**{TITLES[job]}**\n\n{table(job, results)}" for job in _unique(results, "job")
    )


def table(job: str, results: list[Row]) -> str:
    """What is known of a job's contestants, in Markdown."""
    rows = [row for row in results if row["job"] == job]
    columns = {
        "data": "data",
        "rank": "rank",
        "contestant": "contestant",
        "seconds": f"ms {UNITS[job]}",
        "spread": "quartiles",
        "m_ratings_a_second": "M ratings/s",
        "ratio": "ratio",
        "rmse": "RMSE",
    }
    if job in ("als", "gibbs"):
        columns["seconds_to_rmse"] = "s to RMSE"
    if job in SWEEPS:
        columns["wall_seconds"] = "s in all"
    columns |= {"peak_mb": "peak MB", "setup_seconds": "set-up s", "note": "note"}
    return markdown(list(columns.values()), [[_cell(row, key) for key in columns] for row in rows])


def table_beside(rounds: list[Row]) -> str:
    """The seconds of peers over those of mfjax in the same round, in Markdown: the medians."""
    measured = {tuple(row[key] for key in CASE[1:]) for row in rounds}
    cases = [(data, rank) for data in DATA for rank in MARKERS if (data, rank) in measured]
    lines = []
    for job, words, ours, peer in BESIDE:
        ratios = []
        for case in cases:
            of_case = [row for row in rounds if tuple(row[key] for key in CASE) == (job, *case)]
            baseline, seconds = (_seconds_of_rounds(of_case, name) for name in (ours, peer))
            ratios.append(_times(_ratio(seconds, baseline)))
        lines.append([words, ours.removeprefix("mfjax "), peer, *ratios])
    headings = ["job", "mfjax's entry", "beside", *(f"{data}, {rank}" for data, rank in cases)]
    return markdown(headings, lines)


def _times(ratio: float | None) -> str:
    return cell(ratio, ".1f" if ratio is None or round(ratio, 1) < 10 else ".0f")


def _cell(row: Row, key: str) -> str:
    if key == "spread":
        if not row["low"]:
            return "–"
        return f"{row['low'] * 1e3:.3g} to {row['high'] * 1e3:.3g}"
    value = row[key]
    if value is None:
        return "–"
    if key == "seconds":
        return f"{value * 1e3:.3g}"
    if key == "rmse":
        return f"{value:.4f}"
    if key == "peak_mb":
        return f"{value:,.0f}"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


# the figure


@styled()
def draw(results: list[Row], folder: Path) -> None:
    """The speed of every contestant, a panel a job, as `peers.png` and `peers.pdf`."""
    fast = [row for row in results if (row["m_ratings_a_second"] or 0) > 0]
    jobs = [job for job in TITLES if any(row["job"] == job for row in fast)]
    if not jobs:
        return
    across = min(len(jobs), 2)
    down = -(-len(jobs) // across)
    figure = Figure(figsize=(6.2 * across, 0.9 + 3.1 * down), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False).flat
    for axes, job in zip(panels, jobs, strict=False):
        _panel(axes, job, [row for row in fast if row["job"] == job])
    for axes in figure.axes[len(jobs) :]:
        axes.set_axis_off()
    figure.suptitle("mfjax and its peers, each case on one machine: more is faster")
    figure.legend(handles=_legend(fast), loc=BELOW, ncols=8)
    mfjax.plots.save(figure, folder, "peers")


def _panel(axes: Axes, job: str, rows: list[Row]) -> None:
    """One line a contestant, the fastest on top, and a mark a case."""

    def log_speed(name: str) -> float:
        own = [row for row in rows if row["contestant"] == name]
        return float(np.mean([np.log(row["m_ratings_a_second"]) for row in own]))

    names = sorted(_unique(rows, "contestant"), key=log_speed)
    for row in rows:
        _mark(axes, row, names.index(row["contestant"]))
    axes.set_xscale("log")
    axes.margins(x=0.08)
    axes.set_yticks(range(len(names)), names)
    for label in axes.get_yticklabels():
        if label.get_text().startswith("mfjax"):
            label.set(color=OURS, fontweight="bold")
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(lambda x, position: f"{x:g}" if _leading(x) in (2, 5) else "")
    axes.tick_params(axis="x", which="both", labelsize=SMALL)
    axes.grid(axis="x", which="both")
    axes.set_title(TITLES[job])
    axes.set_xlabel("million ratings a second")


def _mark(axes: Axes, row: Row, line: int) -> None:
    """One case of one contestant."""
    colour = OURS if row["contestant"].startswith("mfjax") else PEERS
    height, size, is_filled = DATA[row["data"]]
    axes.plot(
        row["m_ratings_a_second"],
        line + height,
        MARKERS[row["rank"]],
        color=colour,
        markerfacecolor=colour if is_filled else "white",
        markersize=size,
    )


def _leading(x: float) -> int:
    """The first digit of a number."""
    return round(x / 10 ** np.floor(np.log10(x) + 1e-9))


def _legend(rows: list[Row]) -> list[Line2D]:
    """What colours, shapes and filling say."""

    def mark(label: str, **style: Any) -> Line2D:
        shape = {"marker": "o", "color": "0.3", "linestyle": "none", "markersize": 7}
        return Line2D([], [], label=label, **(shape | style))

    colours = [mark("mfjax", color=OURS), mark("peers", color=PEERS)]
    ranks = sorted(_unique(rows, "rank"))
    shapes = [mark(f"rank {rank}", marker=MARKERS[rank]) for rank in ranks]
    filled = [
        mark(
            f"{name} ratings",
            markerfacecolor="0.3" if DATA[name].is_filled else "white",
            markersize=DATA[name].size,
        )
        for name in _unique(rows, "data")
    ]
    return colours + shapes + filled


# the machine


def write_hardware(path: Path, pythons: Mapping[str, Path]) -> None:
    """The machine, and the version of every package.

    Environments of an earlier run keep their entry.
    """
    known = json.loads(path.read_text())["packages"] if path.exists() else {}
    has_affinity = hasattr(os, "sched_getaffinity")
    content = {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count(),
        "memory_gb": _memory_gb(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": known | {name: versions(python) for name, python in pythons.items()},
    }
    path.write_text(json.dumps(content, indent=2) + "\n")


def _cpu() -> str:
    """The name of the processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _memory_gb() -> float | None:
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    pages = os.sysconf("SC_PHYS_PAGES")
    return round(os.sysconf("SC_PAGE_SIZE") * pages / 1e9, 1)
