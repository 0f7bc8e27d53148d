"""`python -m mfjax.run`: compose the config, hand it to its job, and turn a user's mistake into one short message."""

import importlib
import os
import sys
import time
import traceback
from pathlib import Path

BEGAN = time.perf_counter()  # before the imports: they are part of what a user waits for

import hydra  # noqa: E402
from hydra.core.hydra_config import HydraConfig  # noqa: E402
from omegaconf import DictConfig  # noqa: E402
from omegaconf.errors import OmegaConfBaseException  # noqa: E402

from mfjax import config  # noqa: E402
from mfjax.errors import InputError  # noqa: E402

JOBS = sorted(path.stem for path in (config.HERE / "jobs").glob("[!_]*.py"))

config.register()


@hydra.main(config_path=str(config.CONF), config_name="config", version_base="1.3")
def main(cfg: DictConfig) -> None:
    """Run one job in Hydra's output folder; exits 1 on a wrong input, 2 where a check failed."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    try:
        config.check(cfg)
        config.choose("job", dict.fromkeys(JOBS), cfg.job)
        set_up_jax(cfg)
        passed = importlib.import_module(f"mfjax.jobs.{cfg.job}").run(cfg, folder, BEGAN)
    except (InputError, OmegaConfBaseException) as error:
        if cfg.debug:
            traceback.print_exc()
        print("\n".join(f"error: {error}".splitlines()[:6]), file=sys.stderr)
        sys.exit(1)
    if not passed:
        sys.exit(2)


def set_up_jax(cfg: DictConfig) -> None:
    """Everything about jax that must be said before its first use."""
    if cfg.threads is not None:
        os.environ.setdefault("PJRT_NPROC", str(cfg.threads))
    import jax

    jax.config.update("jax_default_matmul_precision", cfg.matmul_precision)
    jax.config.update("jax_enable_x64", cfg.dtype == "float64" or cfg.job == "gradients")
    if cfg.platform is not None:
        jax.config.update("jax_platforms", cfg.platform)


if __name__ == "__main__":
    main()
