"""Hydra's `-m` as few programs: jobs that differ in traced hyperparameters alone train as lanes of one."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, configure_log, filter_overrides, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

log = logging.getLogger(__name__)


@dataclass
class LauncherConfig:
    """`width`: lanes a program. It is the same for any number of jobs, so that which of them run together changes no bit."""

    _target_: str = "hydra_plugins.mfjax_launcher.launcher.MfjaxLauncher"
    width: int = 64


ConfigStore.instance().store(group="hydra/launcher", name="mfjax", node=LauncherConfig, provider="mfjax")


class MfjaxLauncher(Launcher):
    """Composes each job, trains together what can be (`mfjax.app.multirun`), and hands each its share through Hydra's `run_job`:
    folders, callbacks and `JobReturn` are Hydra's own. Jobs whose config is not mfjax's run one after another."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.kept: dict[Any, Any] = {}
        self.config: DictConfig | None = None
        self.task_function: TaskFunction | None = None
        self.hydra_context: HydraContext | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config, self.hydra_context, self.task_function = config, hydra_context, task_function

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run a batch of jobs, and return what became of each, in their order."""
        from mfjax.app.multirun import FINISHED, handing
        from mfjax.errors import InputError
        from mfjax.training.checkpoint import remove

        if self.width < 1:
            raise InputError(f"hydra.launcher.width: expected a positive number, got {self.width}")
        assert self.config is not None and self.hydra_context is not None and self.task_function is not None
        setup_globals()
        self._log_as_a_multirun()
        sweep_dir = Path(str(self.config.hydra.sweep.dir))
        sweep_dir.mkdir(parents=True, exist_ok=True)
        log.info(f"Launching {len(job_overrides)} jobs, {self.width} lanes a program")
        configs = [self._composed(list(overrides), initial_job_idx + i) for i, overrides in enumerate(job_overrides)]
        trained, returns = self._trained(configs, sweep_dir), []
        for config, overrides, ready in zip(configs, job_overrides, trained or [None] * len(configs), strict=True):
            log.info(f"\t#{config.hydra.job.num} : {' '.join(filter_overrides(overrides))}")
            with handing(ready):
                returns.append(
                    run_job(
                        hydra_context=self.hydra_context,
                        task_function=self.task_function,
                        config=config,
                        job_dir_key="hydra.sweep.dir",
                        job_subdir_key="hydra.sweep.subdir",
                    )
                )
            self._log_as_a_multirun()
        if trained is not None and any(ready != FINISHED for ready in trained):
            remove(sweep_dir)
        return returns

    def _log_as_a_multirun(self) -> None:
        assert self.config is not None
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)

    def _composed(self, overrides: list[str], number: int) -> DictConfig:
        assert self.config is not None and self.hydra_context is not None
        config = self.hydra_context.config_loader.load_sweep_config(self.config, overrides)
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = number
        return config

    def _trained(self, configs: list[DictConfig], sweep_dir: Path) -> Sequence[Any] | None:
        """What to hand to each job; None where they are not mfjax's."""
        if not all({"job", "hparams", "sweep"} <= set(config) for config in configs):
            return None
        from mfjax.app.build import shadowed
        from mfjax.app.multirun import train_together

        for line in dict.fromkeys(line for config in configs for line in shadowed(config, config.hydra.overrides.task)):
            log.warning(line)
        folders = [sweep_dir / str(config.hydra.sweep.subdir) for config in configs]
        return train_together([_of_the_job(config) for config in configs], folders, sweep_dir, self.width, self.kept)


def _of_the_job(config: DictConfig) -> DictConfig:
    """The config as the job sees it, without Hydra's own part."""
    own = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    own._set_parent(config)  # in which `${hydra.…}` is found
    return own
