"""Optuna through Hydra: batches of trials are asked for, run as the jobs of one launch, and told.

The study lies in the multirun's folder, and a trial's number is its job's. A second command in that
folder goes on with it.
"""

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.mfjax_optuna.axes import distribution, refuse_other_axes

log = logging.getLogger(__name__)
PLAIN = "/ !$&'()*+,:;=@[]"  # in the path of a URL of SQLite: all but %, ? and #
RANGES = {"n_trials": (1, 10**6), "batch": (1, 10**6), "seed": (0, 2**32 - 1)}


@dataclass
class SweeperConfig:
    """A search.

    Args:
      params: the axes, a key and what stands after its `=` on the command line, where the same key
        takes its place.
      n_trials: how many more; with `resume=true`, how many in all.
      batch: how many at once, which are lanes of one program.
      seed: of the sampler.
      storage: where the study is kept, if not in the multirun's folder.
    """

    _target_: str = "hydra_plugins.mfjax_optuna.sweeper.OptunaSweeper"
    params: dict[str, Any] = field(default_factory=dict)
    n_trials: int = 64
    batch: int = 16
    seed: int = 0
    storage: str | None = None


ConfigStore.instance().store(
    group="hydra/sweeper", name="mfjax_optuna", node=SweeperConfig, provider="mfjax"
)


class OptunaSweeper(Sweeper):
    """Minimises what the jobs return, over the axes of `params` and of the command line.

    `a=1,2` is a choice, `a=range(1,9)` whole numbers, `a=interval(0.1,1)` numbers, and
    `a=tag(log,interval(0.01,1))` numbers on a logarithmic scale.

    A job that fails, or returns no finite number, is a failed trial. Sampled by TPE, which takes
    the trials of a batch that have no value yet for bad ones, so that a batch does not repeat
    itself (Bergstra, Bardenet, Bengio and Kégl, 2011).
    """

    def __init__(
        self, *, params: DictConfig, n_trials: int, batch: int, seed: int, storage: str | None
    ) -> None:
        self.params = params
        self.n_trials = n_trials
        self.batch = batch
        self.seed = seed
        self.storage = storage

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.config = config
        self.hydra_context = hydra_context
        self.launcher: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Run the trials.

        Raises InputError where Optuna is not installed, where there is nothing to search or to run,
        for an axis that cannot be searched, and where the study cannot be kept.
        """
        optuna = _optuna()
        self._check()
        overrides = self._overrides(arguments)
        axes = {
            key: distribution(key, one) for key, one in overrides.items() if one.is_sweep_override()
        }
        _refuse_no_axis(axes)
        fixed = [str(one.input_line) for one in overrides.values() if not one.is_sweep_override()]
        with keeping(self._url):
            study = self._study(optuna)
            _refuse_other_jobs(study, fixed)
            refuse_other_axes(study, axes)
            for trials in self._batches(study, axes):
                self._run(study, trials, fixed)
        if study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE]):
            best = study.best_trial
            number = f"#{best.number}"
            log.info(
                f"Best of {len(study.trials)} trials: {number}, {best.value:.5f}, {best.params}"
            )

    def _check(self) -> None:
        from mfjax.errors import InputError

        for key, (least, most) in RANGES.items():
            number = getattr(self, key)
            if not least <= number <= most:
                raise InputError(
                    f"hydra.sweeper.{key}: expected an integer from {least} to {most}, got {number}"
                )

    @property
    def _folder(self) -> Path:
        return Path(self.config.hydra.sweep.dir)

    @property
    def _url(self) -> str:
        """Of the data base that the study is kept in."""
        file = (self._folder / "study.db").resolve()
        return self.storage or f"sqlite:///{quote(str(file), safe=PLAIN)}"

    def _overrides(self, arguments: Sequence[str]) -> dict[str, Override]:
        """What is overridden, by key: the last of a key, those of the command line at the end."""
        own = [f"{key}={value}" for key, value in self.params.items()]
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        return {one.get_key_element(): one for one in parser.parse_overrides([*own, *arguments])}

    def _study(self, optuna: Any) -> Any:
        """The study, which is made where there is none.

        Its multirun.yaml says when it began: a command that goes on with it leaves that as it is,
        so that its summary holds all jobs of the study.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = optuna.samplers.TPESampler(
            seed=self.seed, n_startup_trials=self.batch, constant_liar=True
        )
        study = optuna.create_study(
            storage=self._url,
            sampler=sampler,
            study_name="mfjax",
            direction="minimize",
            load_if_exists=True,
        )
        begins = self._folder / "multirun.yaml"
        if not study.trials or not begins.is_file():
            OmegaConf.save(self.config, begins)
        return study

    def _batches(self, study: Any, axes: dict[str, Any]) -> Iterator[Sequence[Any]]:
        """The trials of one launch after another.

        First, with `resume=true`, those that were under way when a run ended.
        """
        from optuna.trial import TrialState

        resume = bool(self.config.get("resume"))
        stale = study.get_trials(states=[TrialState.RUNNING])
        whole = [trial for trial in stale if resume and trial.params.keys() == axes.keys()]
        for trial in stale:
            if trial not in whole:
                study.tell(trial.number, state=TrialState.FAIL)
        left = self.n_trials - (len(study.trials) if resume else 0)
        if whole:
            yield whole
        while left > 0:
            trials = [study.ask(axes) for _ in range(min(self.batch, left))]
            left -= len(trials)
            yield trials

    def _run(self, study: Any, trials: Sequence[Any], fixed: Sequence[str]) -> None:
        """Run the trials of one launch, and tell the study what they came to."""
        from optuna.trial import TrialState

        jobs = [
            [*fixed, *(f"{key}={value}" for key, value in trial.params.items())] for trial in trials
        ]
        self.validate_batch_is_legal(jobs)
        returns = self.launcher.launch(jobs, initial_job_idx=trials[0].number)
        for trial, job in zip(trials, returns, strict=True):
            value = _value(job)
            study.tell(trial.number, value, state=TrialState.FAIL if value is None else None)


def _optuna() -> Any:
    from mfjax.errors import InputError

    try:
        import optuna
    except ModuleNotFoundError as error:
        raise InputError(
            'hydra/sweeper=mfjax_optuna needs Optuna\npip install "mfjax[optuna]"'
        ) from error
    return optuna


def _refuse_no_axis(axes: dict[str, Any]) -> None:
    from mfjax.errors import InputError

    if not axes:
        raise InputError(
            "hydra/sweeper=mfjax_optuna: expected an axis to search, "
            "such as 'hparams.reg=interval(0.02,0.3)'"
        )


def _refuse_other_jobs(study: Any, fixed: Sequence[str]) -> None:
    """Raises InputError where the study is of jobs with other overrides than these."""
    from mfjax.app.schema import CHANGES_NO_NUMBER
    from mfjax.errors import InputError

    ours = [one for one in fixed if not one.startswith(CHANGES_NO_NUMBER)]
    theirs = study.user_attrs.get("fixed")
    if theirs is None:
        study.set_user_attr("fixed", ours)
    elif differing := sorted({*theirs} ^ {*ours}):
        raise InputError(
            f"the study is of other jobs; they differ in {', '.join(differing)}\n"
            "choose another hydra.sweep.dir"
        )


@contextmanager
def keeping(url: str) -> Iterator[None]:
    """Raises InputError where the study cannot be kept within it."""
    from optuna.exceptions import OptunaError
    from sqlalchemy.exc import SQLAlchemyError

    from mfjax.errors import InputError

    try:
        yield
    except (OptunaError, SQLAlchemyError, ImportError) as error:
        cause = error.__cause__ or error
        raise InputError(
            f"hydra.sweeper.storage={url}: {str(cause).splitlines()[0]}\n"
            "expected the URL of a data base in a folder that is there and can be written to, such "
            "as sqlite:////home/me/study.db"
        ) from error


def _value(job: JobReturn) -> float | None:
    """What a job returned; None where it failed, or returned no finite number."""
    if job.status != JobStatus.COMPLETED or job.return_value is None:
        return None
    if not math.isfinite(job.return_value):
        return None
    return float(job.return_value)
