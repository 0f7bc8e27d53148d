"""What can be chosen: the tables of the code, and the groups of `conf/`."""

import importlib
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mfjax.app import CONF
from mfjax.app.schema import JOBS, PROVIDED, keywords
from mfjax.bags import BAGS
from mfjax.data import PUBLISHED, SOURCES, SPLITS
from mfjax.gradients import GRADIENTS
from mfjax.kernels import KERNELS
from mfjax.losses import LOSSES, loss_of
from mfjax.methods import METHODS
from mfjax.methods.optimizers import SCHEDULES
from mfjax.metrics import METRICS
from mfjax.types import Spec
from pages.docstrings import summary
from pages.markdown import code, codes, table

INTRODUCTION = """# What can be chosen

Generated from the tables of the code: a row there is all that it takes to be chosen on the command
line, listed here and in error messages, and tested.
"""
ANY_SPEC = Spec(num_users=1, num_items=1)


def page() -> str:
    """The reference of the tables, in Markdown."""
    parts = [INTRODUCTION]
    for heading, about, headings, rows in tables():
        parts.append(f"## {heading}\n\n{about}\n")
        parts.append(table(headings, rows))
    return "\n".join(parts)


def tables() -> Iterator[tuple[str, str, list[str], list[list[str]]]]:
    """(heading, what it is, headings, rows) of each table."""
    yield _gradients()
    yield _losses()
    yield _methods()
    yield (
        "Optimisers",
        "`sgd` and `descent` take every optimiser of optax by its name (`optimizer.name=NAME`); "
        "those of the group `optimizer` are ready made. `optimizer.schedule` is one of "
        f"{codes(SCHEDULES)}.",
        ["`optimizer=`", "what it sets"],
        [[code(path.stem), _sets(path)] for path in _files("optimizer")],
    )
    yield _kernels()
    yield _bags()
    yield _metrics()
    yield _metrics_of_lists()
    made = {name: source for name, source in SOURCES.items() if name not in PUBLISHED}
    yield _functions("Sources", "`data.name` names one; `data=NAME` is its group.", made)
    yield _published()
    yield _functions("Splits", "`split.name` names one; `split=NAME` is its group.", SPLITS)
    yield _jobs()
    yield _groups()


def _gradients() -> tuple[str, str, list[str], list[list[str]]]:
    rows = []
    for name, make in GRADIENTS.items():
        gradient = make(ANY_SPEC)
        tolerance = f"{gradient.tolerance:g}"
        shares = "yes" if gradient.shares_rows else "no"
        rows.append([code(name), summary(make), tolerance, shares])
    about = (
        "`gradient=NAME`, for the methods that want one. All compute the gradient of the one "
        "[objective](objective.md); the tolerance is the most that max|a − b| / max|b| may be "
        "against `jax.grad` in float64. Rows may be shared out over devices where a fit is alone."
    )
    return "Gradients", about, ["name", "how", "tolerance", "shares rows"], rows


def _losses() -> tuple[str, str, list[str], list[list[str]]]:
    rows = []
    for name in LOSSES:
        loss = loss_of(name)
        reads = codes(f"hparams.{key}" for key in loss.reads)
        low, high = (f"{end:g}" for end in loss.takes)
        rows.append([code(name), summary(loss.value), code(loss.link), reads, f"{low} to {high}"])
    about = (
        "`loss=NAME`: what a prediction p costs beside a rating r. By the link p stands for a "
        "rating: itself, the logit of it or the logarithm of it. `loss=file.py:function` is "
        "[your own](../tutorials/add_a_loss.md)."
    )
    return "Losses", about, ["name", "what it is", "link", "reads", "ratings"], rows


def _methods() -> tuple[str, str, list[str], list[list[str]]]:
    rows = []
    for name, make in METHODS.items():
        parameters = inspect.signature(make).parameters
        wants = codes(part for part in parameters if part in PROVIDED and part != "spec")
        rows.append([code(name), summary(make), wants, _own_keys("method", make)])
    about = "`method=NAME`. What a method wants is made for it from the config."
    return "Methods", about, ["name", "one epoch", "wants", "keys of its own"], rows


def _kernels() -> tuple[str, str, list[str], list[list[str]]]:
    rows = [[code(name), summary(make)] for name, make in KERNELS.items()]
    about = (
        "Ways to sum over the ratings of each row. Each is a gradient too, and what `als` takes."
    )
    return "Kernels", about, ["name", "how"], rows


def _bags() -> tuple[str, str, list[str], list[list[str]]]:
    rows = [[code(name), summary(source)] for name, source in BAGS.items()]
    about = (
        "`bags.user=NAME`, `bags.item=NAME`, or a list of several: what users and items are made "
        "of beside a row of their own. See [bags](../guide/bags.md)."
    )
    return "Bags", about, ["name", "features"], rows


def _metrics() -> tuple[str, str, list[str], list[list[str]]]:
    rows = [
        [code(name), metric.label, metric.better, codes(metric.needs), summary(metric.of)]
        for name, metric in METRICS.items()
        if not metric.is_of_lists
    ]
    about = (
        "Each has a column a part of the ratings (`train_`, `validation_`, `test_`) in every table "
        "and file, those that need more than sums of the test ratings alone; "
        "`choose_by=validation_NAME` lets any choose, and be measured of all."
    )
    return "Metrics", about, ["name", "label", "better", "needs", "what it is"], rows


def _metrics_of_lists() -> tuple[str, str, list[str], list[list[str]]]:
    rows = [
        [code(name), metric.label, metric.better, summary(metric.of)]
        for name, metric in METRICS.items()
        if metric.is_of_lists
    ]
    about = (
        "Of the `lists.k` best items of each user with test ratings, where `lists.relevant` says "
        "which of those are relevant; `choose_by=validation_NAME` lets any choose. Every item that "
        "the user has not rated before is a candidate, and of equal scores the lower item row "
        "comes first. `mfjax.evaluate_lists(…, names=[NAME])` computes them, too."
    )
    return "Metrics of lists", about, ["name", "label", "better", "what it is"], rows


def _published() -> tuple[str, str, list[str], list[list[str]]]:
    rows = []
    for name, record in PUBLISHED.items():
        users, items, ratings = record.shape
        low, high = record.scale
        shape = [f"{ratings:,}", f"{users:,} × {items:,}", f"{low:g} to {high:g}"]
        rows.append([code(name), *shape, record.licence, f"<{record.address}>"])
    about = (
        "Sources too, `data=NAME`: downloaded once, checked and kept; `data.path` is a copy of "
        "your own."
    )
    headings = ["name", "ratings", "users × items", "scale", "licence", "address"]
    return "Published sets", about, headings, rows


def _functions(
    heading: str, about: str, functions: dict[str, Callable]
) -> tuple[str, str, list[str], list[list[str]]]:
    section = {"Sources": "data", "Splits": "split"}[heading]
    rows = [
        [code(name), summary(function), _own_keys(section, function)]
        for name, function in functions.items()
    ]
    return heading, about, ["name", "what it is", "keys of its own"], rows


def _jobs() -> tuple[str, str, list[str], list[list[str]]]:
    rows = []
    for name in JOBS:
        module = importlib.import_module(f"mfjax.app.jobs.{name}")
        rows.append([code(name), summary(module)])
    about = "`job=NAME`; an experiment chooses its own. Each has [its own keys](keys.md)."
    return "Jobs", about, ["name", "what it does"], rows


def _groups() -> tuple[str, str, list[str], list[list[str]]]:
    folders = sorted({path.parent for path in CONF.glob("*/**/*.yaml")})
    rows = []
    for folder in folders:
        group = folder.relative_to(CONF).as_posix()
        plus = "+" if group == "exp" else ""
        if group == "optimizer":
            continue  # they have a table of their own
        for path in _files(group):
            rows.append([code(f"{plus}{group}={path.stem}"), comment(path) or _sets(path)])
    about = (
        "The files of `conf/`, which set several keys at once; those of `optimizer` stand above."
    )
    return "Groups", about, ["on the command line", "what it says of itself"], rows


# rows


def _own_keys(section: str, function: Callable) -> str:
    parameters = inspect.signature(function).parameters
    return codes(
        f"{section}.{key}" if _is_needed(parameters[key]) else f"{section}.{key}={_said(default)}"
        for key in keywords(function)
        for default in [parameters[key].default]
    )


def _is_needed(parameter: inspect.Parameter) -> bool:
    return parameter.default is inspect.Parameter.empty


def _said(default: Any) -> str:
    if isinstance(default, list):
        return f"[{','.join(map(str, default))}]"
    return {None: "null", True: "true", False: "false"}.get(default, str(default))


def _files(group: str) -> list[Path]:
    return sorted((CONF / group).glob("*.yaml"))


def comment(path: Path) -> str:
    """The comment at the head of a file of `conf/`, on one line and without its command."""
    said = []
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            break
        text = line.removeprefix("#").strip()
        if not text.startswith(("@package", "python -m ")):
            said.append(text)
    return " ".join(said)


def _sets(path: Path) -> str:
    lines = (line for line in path.read_text().splitlines() if not line.startswith("#"))
    return ", ".join([*map(code, lines), *filter(None, [comment(path)])])
