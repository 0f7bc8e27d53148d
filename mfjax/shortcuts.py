"""One setting, trained or cross-validated in one call: what `Plan`, `Sweep` and `tune` do."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from mfjax.data import PUBLISHED, SOURCES, SPLITS
from mfjax.data.dataset import Dataset
from mfjax.data.problem import Problem
from mfjax.data.reading import read
from mfjax.data.splits import Split
from mfjax.errors import InputError
from mfjax.gradients import GRADIENTS
from mfjax.kernels import KERNELS
from mfjax.kernels.choice import choice
from mfjax.kernels.layout import ALS_OVERHEAD, GRADIENT_OVERHEAD, tile_width
from mfjax.losses import HPARAMS as OF_LOSSES
from mfjax.losses import LOSSES, loss_of
from mfjax.methods import METHODS
from mfjax.methods.optimizers import optimizer
from mfjax.model import Model
from mfjax.training.epochs import Schedule
from mfjax.training.folding import with_given
from mfjax.training.lanes import Fit, Plan
from mfjax.training.protocol import Outcome, tune
from mfjax.training.sweep import Sweep
from mfjax.types import CONVENTIONS, NO_FOLD, REPLICATES, Hparams, Method, Ratings, Spec, Tiling

if TYPE_CHECKING:
    import polars as pl

OF_KERNEL = {"xla": "tiles", "native": "native"}  # the gradient where none is asked for
HPARAMS = tuple(name for name in Hparams._fields if name not in (*REPLICATES, "rank"))
DTYPES = ("float32", "float64")
SHAPES = ("num_users", "num_items", "max_rank", "tiling")  # of a Spec, which the data say
OF_SPEC = tuple(one.name for one in fields(Spec) if one.name not in SHAPES)


def fit(
    data: Any,
    method: str = "sgd",
    *,
    rank: int = Hparams().rank,
    epochs: int = Schedule.epochs,
    seed: int = 0,
    split: str | Split | None = None,
    **settings: Any,
) -> Model:
    """Train one setting, and be given its model; `tune` chooses between several.

    What is not said is as in the command's config: the defaults of `Hparams`, `Spec` and
    `Schedule`, and plain SGD.

    Args:
      data: a Dataset; a file, or the name of a published set; or what `Dataset.of` takes, such as a
        frame.
      method: one of METHODS.
      rank: columns of the factors, from 0.
      epochs: how long it trains, from 1.
      seed: of the first factors, of the order of the ratings, and of a split.
      split: None: it trains on every rating. Else one of SPLITS by its name, or a Split: validation
        chooses the epoch, training and validation ratings train so long again, and the ratings of
        its first test fold are kept apart.
      **settings: the other fields of `Hparams`, such as `learning_rate` and `reg`, but for those
        that repeat a setting; the conventions of `Spec`: `bias`, `missing`, `loss`, `loss_scale`,
        `reg_by` and `dtype`; the keywords of the method, of which `optimizer` may be a name, and
        `gradient` and `kernel` are names; and `clip`, as that of `Problem.of`.

    Returns:
      The model, with the ids of the data.

    Raises:
      InputError: a setting is not known, out of range or has no effect here; the data are wrong; or
        it diverged.

    Examples:
      model = mfjax.fit("bundled:ml-latest-small", rank=32, reg=0.08)
      model.recommend(15)
    """
    setting = _Setting.of(method, settings, rank, epochs, seed)
    dataset = dataset_of(data)
    cut = _cut(dataset, split, seed)
    trained = setting.tuned(dataset, cut, [0], refit=True)
    (final,) = _finished(trained.outcome)
    problem = trained.plan.problems[final.lane.hparams.cut]
    spec = trained.plan.spec
    return Model.of(with_given(final, problem, spec), dataset, problem, spec)


def cross_validate(
    data: Any,
    method: str = "sgd",
    *,
    folds: int = 5,
    rank: int = Hparams().rank,
    epochs: int = Schedule.epochs,
    seed: int = 0,
    **settings: Any,
) -> "pl.DataFrame":
    """Train one setting on all folds but one, and test it on that one, each in turn.

    The folds are those of `SPLITS["kfold"]`, without validation ratings, and lanes of one program.

    Source: k-fold cross-validation (Kohavi, "A Study of Cross-Validation and Bootstrap for Accuracy
    Estimation and Model Selection", 1995, section 2.2). It estimates the error of this setting: one
    that was chosen by these errors has a lower one here than on new ratings.

    Args:
      data, method, rank, epochs: as those of `fit`.
      folds: how many, from 2.
      seed: of the folds, of the first factors and of the order of the ratings.
      **settings: as those of `fit`.

    Returns:
      A Polars frame, a row a fold, of which nothing is averaged: `fold`, `train_ratings`,
      `test_ratings`, and the METRICS of the test ratings, `test_rmse`, ….

    Raises:
      InputError: as `fit`.

    Examples:
      mfjax.cross_validate("bundled:ml-latest-small", reg=0.08)["test_rmse"].mean()
    """
    import polars as pl

    setting = _Setting.of(method, settings, rank, epochs, seed)
    dataset = dataset_of(data)
    cut = SPLITS["kfold"](dataset, seed, folds=folds, validation=0)
    trained = setting.tuned(dataset, cut, range(folds), refit=False)
    rows = []
    for final, errors in zip(_finished(trained.outcome), trained.outcome.test, strict=True):
        problem = trained.plan.problems[final.lane.hparams.cut]
        rows.append(
            {
                "fold": final.lane.hparams.test_fold,
                "train_ratings": len(problem.ratings.value),
                "test_ratings": len(problem.test.value),
                **errors,
            }
        )
    return pl.DataFrame(rows)


def dataset_of(data: Any) -> Dataset:
    """A Dataset as it is; the ratings of a file, a published set, or of what is in memory.

    Raises InputError where they are wrong.
    """
    if isinstance(data, Dataset):
        return data
    if isinstance(data, str | Path):
        name = str(data)
        return SOURCES[name]() if name in PUBLISHED else read(name)
    return Dataset.of(data)


def suited_tiling(ratings: Ratings, spec: Spec, solves_rows: bool = False) -> Tiling:
    """How ratings are cut on this platform; wider where the method `solves_rows`."""
    on_cpu = jax.default_backend() == "cpu"
    of_platform = Tiling() if on_cpu else Tiling(chunk=2**18, group=2**12)
    overhead = ALS_OVERHEAD if solves_rows else GRADIENT_OVERHEAD
    return replace(of_platform, width=tile_width(ratings, spec, overhead))


# a setting


class _Tuned(NamedTuple):
    plan: Plan
    outcome: Outcome


class _Setting(NamedTuple):
    """What is trained, whatever the data: `conventions` are those of a Spec that are given."""

    make: Callable[[Spec], Method]
    hparams: Hparams
    conventions: Mapping[str, Any]
    epochs: int
    clip: bool | tuple[float, float]

    @classmethod
    def of(
        cls, method: str, settings: Mapping[str, Any], rank: int, epochs: int, seed: int
    ) -> "_Setting":
        """Raises InputError for what is not known, out of range, or idle."""
        if method not in METHODS:
            raise InputError(f"method: expected one of {', '.join(METHODS)}, got {method!r}")
        _, *own = inspect.signature(METHODS[method]).parameters
        _refuse_unknown(settings, (*HPARAMS, *OF_SPEC, *own, "clip"), method)
        given = {key: value for key, value in settings.items() if key in HPARAMS}
        _refuse_wrong(rank=rank, epochs=epochs, seed=seed, **given)
        hparams = Hparams(rank=rank, init_seed=seed, split_seed=seed, **given)
        conventions = {key: value for key, value in settings.items() if key in OF_SPEC}
        _refuse_unconventional(conventions)
        parts = {key: value for key, value in settings.items() if key in own}
        made = cls(
            make=_method(method, parts, epochs),
            hparams=hparams,
            conventions=conventions,
            epochs=epochs,
            clip=settings.get("clip", True),
        )
        made.refuse_idle(method, given)
        return made

    def spec(self, num_users: int, num_items: int) -> Spec:
        rank = int(self.hparams.rank)
        return Spec(num_users, num_items, max_rank=rank, **self.conventions)

    def refuse_idle(self, method: str, given: Mapping[str, Any]) -> None:
        """Raises InputError for a field of Hparams that nothing reads."""
        spec = self.spec(1, 1)
        reads = self.make(spec).reads
        idle = {
            "reg_bias": "bias=False" if not spec.bias else "",
            "missing_weight": f"missing={spec.missing!r}" if spec.missing != "zero" else "",
        }
        unread = set(OF_LOSSES) - set(loss_of(spec.loss).reads)
        idle |= dict.fromkeys(unread, f"loss={spec.loss!r}")
        for key in ("learning_rate", "momentum", "reg_bag"):
            idle[key] = "" if key in reads else f"method={method!r} as it is here"
        for key in given:
            if reason := idle.get(key):
                raise InputError(f"{key} has no effect with {reason}: leave it out")

    def tuned(self, dataset: Dataset, cut: Split, tests: Any, *, refit: bool) -> _Tuned:
        """The lanes of some test folds of a split, trained as one program."""
        spec = self.spec(dataset.num_users, dataset.num_items)
        method = self.make(spec)
        ratings = dataset.ratings(dtype=spec.dtype)
        spec = replace(spec, tiling=suited_tiling(ratings, spec, method.solves_rows))
        fold = 0 if cut.num_folds else NO_FOLD
        lanes = [self.hparams._replace(fold=fold, test_fold=test_fold) for test_fold in tests]
        problems = {
            lane.cut: Problem.of(dataset, cut, lane.test_fold, clip=self.clip, dtype=spec.dtype)
            for lane in lanes
        }
        schedule = Schedule(
            epochs=self.epochs,
            eval_every=1 if cut.num_folds else self.epochs,  # where the last epoch is the model
            epochs_per_call=min(Schedule.epochs_per_call, self.epochs),
        )
        plan = Plan(spec, self.make, problems, schedule)
        outcome = tune(Sweep(plan, lanes_per_program=len(lanes)), lanes, refit)
        return _Tuned(plan, outcome)


def _method(name: str, parts: Mapping[str, Any], epochs: int) -> Callable[[Spec], Method]:
    """What makes a row of METHODS with its parts, those that are not given as the command has them.

    Raises InputError for a part that is not known.
    """
    wants = inspect.signature(METHODS[name]).parameters
    given = dict(parts)
    tables = {"gradient": GRADIENTS, "kernel": KERNELS}
    for part, table in tables.items():
        if part in given and given[part] not in table:
            known = ", ".join(table)
            raise InputError(f"{part}: expected one of {known}, got {given[part]!r}")
    if "optimizer" in wants:
        asked = given.get("optimizer", "sgd")
        given["optimizer"] = optimizer(asked, epochs=epochs) if isinstance(asked, str) else asked

    def make(spec: Spec) -> Method:
        asked = dict(given)
        if "gradient" in wants:
            asked.setdefault("gradient", OF_KERNEL[choice(loss=spec.loss).name])
        named = tables.keys() & asked.keys()
        of_spec = {part: tables[part][asked[part]](spec) for part in named}
        return METHODS[name](spec, **{**asked, **of_spec})

    return make


def _cut(dataset: Dataset, split: str | Split | None, seed: int) -> Split:
    """The split that is asked for; without one, all trains."""
    if isinstance(split, Split):
        if len(split.test) != len(dataset.value):
            there = f"{len(dataset.value):,} ratings, and the split is of {len(split.test):,}"
            raise InputError(f"split: there are {there}: split these ratings")
        return split
    if split is None:
        return SPLITS["random"](dataset, seed, validation=0, test=0)
    if split not in SPLITS:
        raise InputError(f"split: expected one of {', '.join(SPLITS)}, got {split!r}")
    return SPLITS[split](dataset, seed)


def _finished(outcome: Outcome) -> list[Fit]:
    """The fits of an outcome. Raises InputError where one diverged."""
    for final in [*outcome.final, *outcome.chosen.fits]:
        if not final.alive:
            rate = final.lane.hparams.learning_rate
            raise InputError(
                f"{final.status}: try a learning_rate below {rate:g}, or a smaller init_scale"
            )
    return outcome.final


def _refuse_unknown(settings: Mapping[str, Any], known: tuple[str, ...], method: str) -> None:
    for key in settings:
        if key not in known:
            raise InputError(
                f"no setting {key!r} of method={method!r}\nit takes: {', '.join(known)}"
            )


def _refuse_unconventional(conventions: Mapping[str, Any]) -> None:
    """Raises InputError for a convention that there is none of, or that jax is not set up for."""
    for key, known in {**CONVENTIONS, "loss": (*LOSSES,), "dtype": DTYPES}.items():
        value = conventions.get(key, known[0])
        if value not in known:
            raise InputError(f"{key}: expected one of {', '.join(known)}, got {value!r}")
    if conventions.get("dtype") == "float64" and not jax.config.read("jax_enable_x64"):
        raise InputError("dtype='float64' needs jax.config.update('jax_enable_x64', True) first")


def _refuse_wrong(rank: int, epochs: int, seed: int, **hparams: Any) -> None:
    """Raises InputError for numbers that are none, or below what they may be."""
    least = {"rank": (rank, 0), "epochs": (epochs, 1), "seed": (seed, 0)}
    for key, (value, lowest) in least.items():
        if not isinstance(value, int | np.integer) or value < lowest:
            raise InputError(f"{key}: expected an integer from {lowest}, got {value!r}")
    for key, value in hparams.items():
        is_number = isinstance(value, int | float | np.number)
        if not is_number or not 0 <= value < np.inf:
            raise InputError(f"{key}: expected 0 or a positive number, got {value!r}")
        if key in OF_LOSSES and not value:
            raise InputError(f"{key}: expected a positive number, got {value!r}")
