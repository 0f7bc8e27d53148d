"""From the raw rounds to the tables and the figure."""

import csv
import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from environments import versions
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

EPOCHS = 20  # of each setting of the sweep
CLOSE = 0.002  # a test error this near the best of all counts as reached
MOST_DIFFERENT = 1e-4  # relative, of the loss and the norms of two float32 gradients
CASE = ("job", "data", "rank")
ROUND_COLUMNS = (
    *("job", "data", "rank", "contestant", "round", "seconds", "setup_seconds", "wall_seconds", "rmse", "peak_mb", "note"),
    *("check", "curve", "reg"),
)
TITLES = {
    "gradient": "Full gradient of both sides, plain factorisation",
    "sgd": "One epoch of SGD, biased factorisation",
    "als": "One sweep of ALS, biased factorisation",
    "sweep": f"Sweep of 32 settings, {EPOCHS} epochs each",
}
OURS, PEERS = "#0072B2", "#D55E00"
MARKERS = {16: "o", 64: "s", 128: "^"}


# the raw rounds


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a CSV that `write` wrote; none where it is not there."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [{key: _value(key, text) for key, text in row.items()} for row in csv.DictReader(file)]


def _value(key: str, text: str) -> Any:
    if key in ("job", "data", "contestant", "note"):
        return text
    return json.loads(text) if text else None


def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV, whole or not at all."""
    columns = ROUND_COLUMNS if path.stem == "rounds" else list(rows[0]) if rows else []
    part = path.with_suffix(".part")
    with part.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: _text(row.get(key)) for key in columns} for row in rows)
    part.replace(path)


def _text(value: Any) -> Any:
    if isinstance(value, (dict, list)):
        return json.dumps(value)
    return "" if value is None else value


# the summary


def summarise(rows: list[dict], ours: Mapping[str, str], ratings: Mapping[str, int]) -> list[dict[str, Any]]:
    """One row a case and contestant."""
    results = []
    for case in dict.fromkeys(tuple(row[key] for key in CASE) for row in rows):
        of_case = [row for row in rows if tuple(row[key] for key in CASE) == case]
        by_name = {name: [r for r in of_case if r["contestant"] == name] for name in _unique(of_case, "contestant")}
        job, data, _ = case
        baseline = {row["round"]: row["seconds"] for row in by_name.get(ours[job], []) if row["seconds"]}
        target = min((row["rmse"] for row in of_case if row["curve"]), default=0.0) + CLOSE
        for name, own in by_name.items():
            result = dict(zip(CASE, case, strict=True)) | {"contestant": name}
            result |= _speed(own, baseline, ratings.get(data, 0) * (EPOCHS if job == "sweep" else 1))
            results.append(result | _reached(own, target, result["seconds"]) | {"note": _note(own, of_case)})
    return results


def _unique(rows: Iterable[Mapping], key: str) -> list:
    return list(dict.fromkeys(row[key] for row in rows))


def _speed(own: list[dict], baseline: dict[int, float], ratings: int) -> dict[str, Any]:
    """Median and quartiles over the rounds; `ratio` compares with mfjax in the same round, above 1 where mfjax is faster."""
    seconds = [row["seconds"] for row in own if row["seconds"]]
    low, median, high = np.quantile(seconds, (0.25, 0.5, 0.75)).tolist() if seconds else (None, None, None)
    ratios = [row["seconds"] / baseline[row["round"]] for row in own if row["seconds"] and row["round"] in baseline]
    return {
        "seconds": median,
        "low": low,
        "high": high,
        "wall_seconds": _median(own, "wall_seconds"),
        "m_ratings_a_second": ratings / median / 1e6 if median and ratings else None,
        "ratio": float(np.median(ratios)) if ratios else None,
        "rmse": _median(own, "rmse"),
        "peak_mb": _median(own, "peak_mb"),
        "rounds": len(seconds),
        "setup_seconds": _median(own, "setup_seconds"),
    }


def _median(rows: list[dict], key: str) -> float | None:
    values = [row[key] for row in rows if row[key] is not None]
    return float(np.median(values)) if values else None


def _reached(own: list[dict], target: float, seconds: float | None) -> dict[str, Any]:
    """How many sweeps, and seconds, it takes to come within `CLOSE` of the best test error that any contestant reaches."""
    curve = next((row["curve"] for row in own if row["curve"]), {})
    sweeps = next((int(n) for n, rmse in curve.items() if rmse <= target), None)
    reg = next((row["reg"] for row in own if row["reg"]), None)
    return {"reg": reg, "sweeps_to_rmse": sweeps, "seconds_to_rmse": sweeps * seconds if sweeps and seconds else None}


def _note(own: list[dict], of_case: list[dict]) -> str:
    """What the contestant says of itself; and whether its gradient is another than most."""
    notes = [note for note in _unique(own, "note") if note]
    checks = [row["check"] for row in of_case if row["check"]]
    if checks:
        usual = np.median(checks, 0)
        if any(np.abs(np.asarray(row["check"]) / usual - 1).max() > MOST_DIFFERENT for row in own if row["check"]):
            notes.append("ANOTHER GRADIENT than the others'")
    return "; ".join(notes)


# what a reader sees


def markdown(results: list[dict[str, Any]]) -> str:
    """A table a job, for the README."""
    return "\n".join(_table(job, [r for r in results if r["job"] == job]) for job in _unique(results, "job"))


def _table(job: str, rows: list[dict[str, Any]]) -> str:
    unit = {"gradient": "a gradient", "sgd": "an epoch", "als": "a sweep", "sweep": "a setting"}[job]
    columns = {"data": "data", "rank": "rank", "contestant": "contestant", "seconds": f"ms {unit}"}
    columns |= {"spread": "quartiles", "m_ratings_a_second": "M ratings/s", "ratio": "ratio", "rmse": "RMSE"}
    columns |= {"seconds_to_rmse": "s to RMSE"} if job == "als" else {}
    columns |= {"wall_seconds": "s in all"} if job == "sweep" else {}
    columns |= {"peak_mb": "peak MB", "setup_seconds": "set-up s", "note": "note"}
    lines = [list(columns.values()), ["---"] * len(columns), *([_cell(row, key) for key in columns] for row in rows)]
    return f"\n**{TITLES[job]}**\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(row: dict[str, Any], key: str) -> str:
    if key == "spread":
        return f"{row['low'] * 1e3:.3g} to {row['high'] * 1e3:.3g}" if row["low"] else "–"
    value = row[key]
    if value is None:
        return "–"
    if key == "seconds":
        return f"{value * 1e3:.3g}"
    if key == "rmse":
        return f"{value:.4f}"
    if key == "peak_mb":
        return f"{value:,.0f}"
    return f"{value:.3g}" if isinstance(value, float) else str(value).replace("|", "/")


def draw(results: list[dict[str, Any]], folder: Path) -> None:
    """The speed of every contestant, a panel a job, as `peers.png` and `peers.pdf`."""
    fast = [row for row in results if (row["m_ratings_a_second"] or 0) > 0]
    jobs = [job for job in TITLES if any(row["job"] == job for row in fast)]
    if not jobs:
        return
    across = min(len(jobs), 2)
    figure = Figure(figsize=(6.2 * across, 0.9 + 3.1 * -(-len(jobs) // across)), layout="constrained")
    for axes, job in zip(figure.subplots(-(-len(jobs) // across), across, squeeze=False).flat, jobs, strict=False):
        _panel(axes, job, [row for row in fast if row["job"] == job])
    for axes in figure.axes[len(jobs) :]:
        axes.set_axis_off()
    figure.suptitle("mfjax and its peers on one machine: more is faster", fontsize=13)
    figure.legend(handles=_legend(fast), loc="outside lower center", ncols=7, frameon=False, fontsize=9)
    for kind in ("png", "pdf"):
        figure.savefig(folder / f"peers.{kind}", dpi=150)


def _panel(axes, job: str, rows: list[dict[str, Any]]) -> None:
    """One line a contestant, the fastest on top, and a mark a case."""
    names = _unique(rows, "contestant")
    names.sort(key=lambda name: np.mean([np.log(r["m_ratings_a_second"]) for r in rows if r["contestant"] == name]))
    for row in rows:
        colour = OURS if row["contestant"].startswith("mfjax") else PEERS
        small = row["data"] == "100k"
        axes.plot(
            row["m_ratings_a_second"],
            names.index(row["contestant"]) + (0.16 if small else -0.16),
            MARKERS[row["rank"]],
            color=colour,
            markerfacecolor="white" if small else colour,
            markersize=7,
        )
    axes.set_xscale("log")
    axes.margins(x=0.08)
    axes.set_yticks(range(len(names)), names)
    for label in axes.get_yticklabels():
        if label.get_text().startswith("mfjax"):
            label.set(color=OURS, fontweight="bold")
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.xaxis.set_major_formatter(lambda x, position: f"{x:g}")
    axes.xaxis.set_minor_formatter(lambda x, position: f"{x:g}" if _leading(x) in (2, 5) else "")
    axes.tick_params(axis="x", which="both", labelsize=8)
    axes.grid(axis="x", which="major", color="0.8")
    axes.grid(axis="x", which="minor", color="0.93")
    axes.set_axisbelow(True)
    axes.set_title(TITLES[job], fontsize=11)
    axes.set_xlabel("million ratings a second")


def _leading(x: float) -> int:
    return round(x / 10 ** np.floor(np.log10(x) + 1e-9))


def _legend(rows: list[dict[str, Any]]) -> list[Line2D]:
    """What colours, shapes and filling say."""
    mark = {"linestyle": "none", "markersize": 7}
    colours = [Line2D([], [], marker="o", color=c, label=name, **mark) for c, name in ((OURS, "mfjax"), (PEERS, "peers"))]
    ranks = sorted(_unique(rows, "rank"))
    shapes = [Line2D([], [], marker=MARKERS[rank], color="0.3", label=f"rank {rank}", **mark) for rank in ranks]
    fills = {"100k": ("white", "100k ratings"), "1M": ("0.3", "1M ratings")}
    filled = [
        Line2D([], [], marker="o", color="0.3", markerfacecolor=fills[data][0], label=fills[data][1], **mark)
        for data in _unique(rows, "data")
    ]
    return colours + shapes + filled


def write_hardware(path: Path, pythons: Mapping[str, Path]) -> None:
    """The machine, and the version of every package; environments of an earlier run keep their entry."""
    known = json.loads(path.read_text())["packages"] if path.exists() else {}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    content = {
        "cpu": _cpu(),
        "cores": cores,
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
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
