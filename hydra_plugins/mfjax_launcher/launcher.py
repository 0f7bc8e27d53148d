"""Hydra's `-m` as few programs.

Jobs that differ in traced hyperparameters alone train as lanes of one.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, configure_log, filter_overrides, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

log = logging.getLogger(__name__)


@dataclass
class LauncherConfig:
    """`lanes_per_program` is the same for any number of jobs.

    So which of them run together changes no bit.
    """

    _target_: str = "hydra_plugins.mfjax_launcher.launcher.MfjaxLauncher"
    lanes_per_program: int = 64


ConfigStore.instance().store(
    group="hydra/launcher", name="mfjax", node=LauncherConfig, provider="mfjax"
)


class MfjaxLauncher(Launcher):
    """Composes each job, trains together what can be, and hands each its share.

    They are trained by `mfjax.app.multirun`, and each then runs through Hydra's `run_job`: folders,
    callbacks and `JobReturn` are Hydra's own. Jobs whose config is not mfjax's run one after
    another.
    """

    def __init__(self, lanes_per_program: int) -> None:
        self.lanes_per_program = lanes_per_program
        self.sweeps: dict[Any, Any] = {}  # with the programs of the launches before
        self.config: DictConfig | None = None
        self.task_function: TaskFunction | None = None
        self.hydra_context: HydraContext | None = None

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.config = config
        self.hydra_context = hydra_context
        self.task_function = task_function

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run a batch of jobs, and return what became of each, in their order."""
        self._check()
        assert self.config is not None
        setup_globals()
        self._log_as_a_multirun()
        sweep_dir = Path(str(self.config.hydra.sweep.dir))
        sweep_dir.mkdir(parents=True, exist_ok=True)
        log.info(f"Launching {len(job_overrides)} jobs, {self.lanes_per_program} lanes a program")
        configs = [
            self._composed(list(overrides), number)
            for number, overrides in enumerate(job_overrides, initial_job_idx)
        ]
        if not all(map(_is_of_mfjax, configs)):
            return [self._run(config) for config in configs]
        return self._run_trained(configs, sweep_dir)

    def _check(self) -> None:
        from mfjax.errors import InputError

        if self.lanes_per_program < 1:
            raise InputError(
                "hydra.launcher.lanes_per_program: expected a positive number, "
                f"got {self.lanes_per_program}"
            )

    def _run_trained(self, configs: list[DictConfig], sweep_dir: Path) -> list[JobReturn]:
        from mfjax.app.check import shadowed
        from mfjax.app.handover import Finished, handing_over
        from mfjax.app.multirun import train_together
        from mfjax.app.session import own_part
        from mfjax.training.checkpoint import remove

        overrides = [list(config.hydra.overrides.task) for config in configs]
        lines = (line for pair in zip(configs, overrides, strict=True) for line in shadowed(*pair))
        for line in dict.fromkeys(lines):
            log.warning(line)
        cases = train_together(
            [own_part(config) for config in configs],
            [sweep_dir / str(config.hydra.sweep.subdir) for config in configs],
            sweep_dir,
            self.lanes_per_program,
            self.sweeps,
        )
        returns = []
        for config, case in zip(configs, cases, strict=True):
            with handing_over(case):
                returns.append(self._run(config))
        if any(case != Finished() for case in cases):
            remove(sweep_dir)
        return returns

    def _run(self, config: DictConfig) -> JobReturn:
        """Run one job, through Hydra."""
        assert self.hydra_context is not None and self.task_function is not None
        overrides = filter_overrides(config.hydra.overrides.task)
        log.info(f"\t#{config.hydra.job.num} : {' '.join(overrides)}")
        done = run_job(
            hydra_context=self.hydra_context,
            task_function=self.task_function,
            config=config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )
        self._log_as_a_multirun()
        return done

    def _log_as_a_multirun(self) -> None:
        assert self.config is not None
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)

    def _composed(self, overrides: list[str], number: int) -> DictConfig:
        assert self.config is not None and self.hydra_context is not None
        config = self.hydra_context.config_loader.load_sweep_config(self.config, overrides)
        with open_dict(config):
            config.hydra.job.id = number
            config.hydra.job.num = number
        return config


def _is_of_mfjax(config: DictConfig) -> bool:
    return {"job", "hparams", "sweep"} <= set(config)
