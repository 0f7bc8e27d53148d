"""Lists of models tuned for lists, and for RMSE: `python experiments/ials/run.py`.

README.md says what came out.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("PJRT_NPROC", "2")  # XLA's threads, as the command has them
import jax
import numpy as np
from omegaconf import DictConfig, OmegaConf

import mfjax
from mfjax.metrics.lists import ListRule, Lists, compiled_metrics, prepare_lists
from mfjax.reporting.course import say, waiting
from mfjax.reporting.files import write_csv
from mfjax.reporting.formats import markdown
from mfjax.reporting.statistics import interval
from mfjax.types import Cut, Factors, Ratings

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
sys.path.append(str(ROOT / "experiments" / "peers"))
from environments import NotInstalled, default_folder, python_of, versions  # noqa: E402

CONF = ROOT / "conf"
PEER = FOLDER / "implicit_.py"
SHOWN = ("ndcg", "recall", "coverage", "novelty", "auc")
ALPHAS = (1.25, 2.5, 5, 10, 20)  # implicit's grid: 1 / missing_weight of ours
REGULARIZATIONS = (5, 10, 20, 40, 80)  # beside confidences of alpha: alpha times reg of ours

Row = dict[str, Any]


class Cuts(NamedTuple):
    """The same splits of all ratings, and of those that count as interactions."""

    data: mfjax.Dataset
    liked: mfjax.Dataset
    explicit: dict[Cut, mfjax.Problem]
    implicit: dict[Cut, mfjax.Problem]


class Tuned(NamedTuple):
    """The final factors of each split, the chosen setting in words, and the seconds of it all."""

    factors: list[Factors]
    chosen: str
    seconds: float = 0.0


def main() -> None:
    """Tune every model, measure its lists on the test ratings, and write the tables."""
    parser = argparse.ArgumentParser(
        description="Lists of iALS beside those of implicit, and of models tuned for RMSE."
    )
    add = parser.add_argument
    splits_help = "splits, of split_seed 0, 1, …; from 2, of which there is an interval"
    add("--splits", type=int, default=3, choices=range(2, 101), metavar="N", help=splits_help)
    home = default_folder()
    add("--environments", type=Path, default=home, help="folder of the peers' environments")
    add("--output", type=Path, default=FOLDER, help="folder of the results")
    arguments = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", os.cpu_count())
    conf = OmegaConf.load(CONF / "exp" / "ials.yaml")
    assert isinstance(conf, DictConfig)
    cuts = cut(conf.implicit, arguments.splits)
    try:
        peer = python_of("implicit", arguments.environments)
    except NotInstalled as error:
        parser.exit(1, f"implicit: {error}\n")
    say("implicit", versions(peer)["implicit"])
    models = {
        "mfjax als, tuned for NDCG": ials(cuts, conf),
        "implicit, tuned for NDCG": of_peer(cuts, conf, peer),
        "mfjax als, tuned for RMSE": by_row(cuts, conf, "als"),
        "mfjax sgd, tuned for RMSE": by_row(cuts, conf, "sgd"),
        "mfjax sgd, tuned for RMSE, λ a rating": by_rating(cuts, conf),
        "most popular": popular(cuts),
    }
    rows = list(measured(models, cuts, conf))
    write_csv(arguments.output / "splits.csv", rows)
    report(rows, models, cuts, arguments.output)


def cut(least: float, splits: int) -> Cuts:
    """The bundled ratings, cut before those below `least` are left out."""
    data = mfjax.read("bundled:ml-latest-small")
    liked = data.interactions(least)
    counts = data.value >= least
    explicit: dict[Cut, mfjax.Problem] = {}
    implicit: dict[Cut, mfjax.Problem] = {}
    for seed in range(splits):
        split = mfjax.SPLITS["random"](data, seed)
        of_liked = replace(split, fold=split.fold[counts], test=split.test[counts])
        explicit[seed, 0] = mfjax.Problem.of(data, split)
        implicit[seed, 0] = mfjax.Problem.of(liked, of_liked, clip=False)
    return Cuts(data, liked, explicit, implicit)


# ours


def ials(cuts: Cuts, conf: DictConfig) -> Tuned:
    """`+exp=ials` on these splits."""
    spec = spec_of(cuts, conf, missing=conf.missing, reg_by=conf.reg_by, bias=conf.bias)
    rule = ListRule(**conf.lists)
    schedule = mfjax.Schedule(
        epochs=conf.epochs,
        eval_every=conf.eval_every,
        choose_by=conf.choose_by,
        lists=rule,
    )
    plan = mfjax.Plan(spec, exact, cuts.implicit, schedule)
    return tuned("als for NDCG", plan, OmegaConf.load(CONF / "sweep" / "ials.yaml"))


def by_row(cuts: Cuts, conf: DictConfig, method: str) -> Tuned:
    """A variant of `+exp=citable`, of the rank of the others: λ a row."""
    citable = OmegaConf.load(CONF / "exp" / "citable.yaml")
    return rated(cuts, conf, method, citable, citable.job.variants[method].sweep)


def by_rating(cuts: Cuts, conf: DictConfig) -> Tuned:
    """`+exp=movielens`, of the rank of the others: λ a rating."""
    movielens = OmegaConf.load(CONF / "exp" / "movielens.yaml")
    return rated(cuts, conf, "sgd", movielens, OmegaConf.load(CONF / "sweep" / "movielens.yaml"))


def rated(cuts: Cuts, conf: DictConfig, method: str, exp: Any, axes: Any) -> Tuned:
    """A model of the ratings, tuned for RMSE over `axes` as the experiment `exp` says."""
    spec = spec_of(cuts, conf, reg_by=exp.reg_by)
    schedule = mfjax.Schedule(
        epochs=exp.epochs,
        eval_every=exp.eval_every,
        patience=exp.patience,
    )
    make = {"als": exact, "sgd": stochastic}[method]
    plan = mfjax.Plan(spec, make, cuts.explicit, schedule)
    return tuned(f"{method} for RMSE, λ by {exp.reg_by}", plan, axes)


def spec_of(cuts: Cuts, conf: DictConfig, **conventions: Any) -> mfjax.Spec:
    shape = (cuts.data.num_users, cuts.data.num_items)
    return mfjax.Spec(*shape, max_rank=conf.hparams.rank, **conventions)


def exact(spec: mfjax.Spec) -> mfjax.Method:
    return mfjax.METHODS["als"](spec, kernel=mfjax.best_kernel(spec))


def stochastic(spec: mfjax.Spec) -> mfjax.Method:
    opt = mfjax.optimizer("sgd")
    return mfjax.METHODS["sgd"](spec, optimizer=opt, kernel=mfjax.best_kernel(spec, opt))


def tuned(what: str, plan: mfjax.Plan, axes: Mapping[str, Sequence[float]]) -> Tuned:
    """The best setting of all splits, trained again on training and validation ratings."""
    began = time.perf_counter()
    base = mfjax.Hparams(rank=plan.spec.max_rank)
    seeds = [seed for seed, _ in plan.problems]
    lanes = mfjax.grid(base, {**axes, "split_seed": seeds})
    sweep = mfjax.Sweep(plan, lanes_per_program=64)
    with mfjax.progress(sweep, what) as on_progress:
        outcome = mfjax.tune(sweep, lanes, refit=True, on_progress=on_progress)
    setting = {key: float(f"{outcome.chosen.hparams[key]:.6g}") for key in axes}
    epochs = [fit.best_epoch for fit in outcome.chosen.fits]
    chosen = in_words(setting, epochs, outcome.chosen.criterion)
    return Tuned([fit.factors for fit in outcome.final], chosen, time.perf_counter() - began)


def in_words(setting: Mapping[str, float], epochs: Sequence[int], criterion: float) -> str:
    values = " ".join(f"{key}={value:g}" for key, value in setting.items())
    return f"{values}, epochs {'/'.join(map(str, epochs))}, validation {criterion:.4f}"


def popular(cuts: Cuts) -> Tuned:
    """An item's score is the number of its interactions that are not tested."""
    users = np.ones((cuts.data.num_users, 1), np.float32)

    def of_problem(problem: mfjax.Problem) -> Factors:
        count = np.bincount(problem.ratings.item, minlength=cuts.data.num_items)
        return Factors(users, count[:, None].astype(np.float32))

    return Tuned([of_problem(problem) for problem in cuts.implicit.values()], "nothing to choose")


# implicit


def of_peer(cuts: Cuts, conf: DictConfig, python: Path) -> Tuned:
    """implicit's ALS, chosen as `mfjax.tune` chooses, on the same pairs and as many settings."""
    began = time.perf_counter()
    settings = [
        {"alpha": alpha, "regularization": reg}
        for alpha, reg in itertools.product(ALPHAS, REGULARIZATIONS)
    ]
    epochs = [*range(conf.eval_every, conf.epochs + 1, conf.eval_every)]
    with waiting("implicit for NDCG"):
        curves = validated(cuts, conf, python, settings, epochs)
    criterion = curves.max(-1).mean(-1)
    best = int(criterion.argmax())
    chosen = settings[best]
    best_epochs = [epochs[place] for place in curves[best].argmax(-1)]
    pairs = [problem.ratings for problem in cuts.implicit.values()]
    fits = [
        {**chosen, "epochs": [of_split], "name": f"final_{i}", "pairs": f"{i}.npz"}
        for i, of_split in enumerate(best_epochs)
    ]
    final = [factors for _, (factors,) in fitted(cuts, conf, python, pairs, fits)]
    words = in_words(chosen, best_epochs, criterion[best])
    return Tuned(final, words, time.perf_counter() - began)


def validated(
    cuts: Cuts,
    conf: DictConfig,
    python: Path,
    settings: Sequence[Row],
    epochs: Sequence[int],
) -> np.ndarray:
    """`[settings, splits, epochs]`, NDCG of the lists on the validation pairs."""
    problems = list(cuts.implicit.values())
    shape = (cuts.data.num_users, cuts.data.num_items)
    trained = [where(problem.ratings, problem.ratings.fold < 0) for problem in problems]
    held_out = [where(problem.ratings, problem.ratings.fold >= 0) for problem in problems]
    lists: list[Lists] = [
        prepare_lists(seen, test, shape, relevant=conf.lists.relevant)
        for seen, test in zip(trained, held_out, strict=True)
    ]
    fits = [
        {**setting, "epochs": epochs, "name": f"{i}_{j}", "pairs": f"{j}.npz"}
        for i, setting in enumerate(settings)
        for j in range(len(problems))
    ]
    curves = np.empty((len(settings), len(problems), len(epochs)))
    for name, course in fitted(cuts, conf, python, trained, fits):
        i, j = map(int, name.split("_"))
        for place, factors in enumerate(course):
            found = compiled_metrics(factors, lists[j], ("ndcg",), conf.lists.k)
            curves[i, j, place] = found["ndcg"]
    return curves


def where(ratings: Ratings, chosen: np.ndarray) -> Ratings:
    return Ratings(*(column[chosen] for column in ratings))


def fitted(
    cuts: Cuts,
    conf: DictConfig,
    python: Path,
    pairs: Sequence[Ratings],
    fits: Sequence[Row],
) -> Iterator[tuple[str, list[Factors]]]:
    """The name of each fit, and its factors after each of its epochs, as they are ready."""
    task = {
        "shape": [cuts.data.num_users, cuts.data.num_items],
        "rank": conf.hparams.rank,
        "fits": fits,
    }
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "task.json").write_text(json.dumps(task))
        for i, of_split in enumerate(pairs):
            np.savez(folder / f"{i}.npz", user=of_split.user, item=of_split.item)
        words = [str(python), str(PEER), temporary]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            for line in child.stdout:
                name = line.strip()
                path = folder / f"{name}.npz"
                with np.load(path) as made:
                    course = list(map(Factors, made["user"], made["item"]))
                path.unlink()
                yield name, course
        if child.returncode:
            raise SystemExit(f"{PEER.name} ended with {child.returncode}")


# what is measured


def measured(models: Mapping[str, Tuned], cuts: Cuts, conf: DictConfig) -> Iterator[Row]:
    """A row a model and split: of all items that a user has not rated, the best."""
    for name, model in models.items():
        of_splits = zip(cuts.explicit.items(), model.factors, strict=True)
        for ((seed, _), problem), factors in of_splits:
            metrics = mfjax.evaluate_lists(
                factors,
                problem.ratings,
                problem.test,
                relevant=conf.implicit,
                k=conf.lists.k,
                names=SHOWN,
            )
            yield {"model": name, "split_seed": seed, **metrics}


def report(rows: Sequence[Row], models: Mapping[str, Tuned], cuts: Cuts, output: Path) -> None:
    """lists.csv with the intervals, the same as Markdown, and ours less the peer's."""
    problem = next(iter(cuts.explicit.values()))
    overlap = len(problem.test.value) / len(problem.ratings.value)
    table, lines = [], []
    for name, model in models.items():
        of_model = {key: [row[key] for row in rows if row["model"] == name] for key in SHOWN}
        intervals = {key: interval(values, overlap) for key, values in of_model.items()}
        row: Row = {"model": name, "chosen": model.chosen, "seconds": round(model.seconds, 1)}
        for key, of_key in intervals.items():
            row |= {key: of_key.mean, f"{key}_low": of_key.low, f"{key}_high": of_key.high}
        table.append(row)
        cells = [f"{of.mean:.3f} ± {of.high - of.mean:.3f}" for of in intervals.values()]
        lines.append([name, *cells, f"{model.seconds:.0f}"])
        say(f"{name}: {model.chosen}")
    write_csv(output / "lists.csv", table)
    say(markdown(["model", *SHOWN, "seconds"], lines))
    ours, theirs, *_ = models
    of_each = [[row["ndcg"] for row in rows if row["model"] == name] for name in (ours, theirs)]
    over, t_test, _ = mfjax.paired.difference(*of_each, overlap)
    say(f"NDCG, ours − theirs: {over.mean:.4f} ({over.low:.4f} to {over.high:.4f}), p {t_test:.2f}")


if __name__ == "__main__":
    main()
