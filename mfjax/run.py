"""`python -m mfjax.run`: compose the config, hand it to its job, and turn a user's mistake into one short message."""

import hashlib
import importlib
import logging
import os
import platform
import re
import sys
import time
import traceback
from pathlib import Path

BEGAN = time.perf_counter()  # before the imports: they are part of what a user waits for

import hydra  # noqa: E402
import platformdirs  # noqa: E402
from hydra.core.hydra_config import HydraConfig  # noqa: E402
from hydra.errors import HydraException  # noqa: E402
from omegaconf import DictConfig  # noqa: E402
from omegaconf.errors import OmegaConfBaseException  # noqa: E402

from mfjax import config  # noqa: E402
from mfjax.errors import InputError  # noqa: E402

HELP = """mfjax: matrix factorisation of rating matrices in JAX

Usage: python -m mfjax.run [+exp=NAME] [GROUP=NAME ...] [KEY=VALUE ...]

Groups
{groups}

Examples
  python -m mfjax.run +exp=movielens                                  tune biased factorisation, report test RMSE
  python -m mfjax.run +exp=movielens hparams.rank=64                  the same at rank 64
  python -m mfjax.run +exp=movielens sweep=none sweep.reg=[0.05,0.1]  another sweep
  python -m mfjax.run +exp=gradients                                  compare every gradient variant
  python -m mfjax.run data=file data.path=ratings.csv                 your own ratings
  python -m mfjax.run +exp=movielens --cfg job                        show every key and its value

Results go to outputs/ (hydra.run.dir=FOLDER to choose). debug=true shows tracebacks. --hydra-help shows Hydra's own flags."""
JOBS = sorted(path.stem for path in (config.HERE / "jobs").glob("[!_]*.py"))

config.register()


def main() -> None:
    """The command: exits 1 on a wrong input, with its reason in at most six lines, and 2 where a check failed."""
    if {"--help", "-h"} & set(sys.argv[1:]):  # Hydra's own takes three times as long: it copies the schema for every group
        print(help_text())
        return
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra hands errors on, and this function shortens them
    try:
        run()
    except (InputError, HydraException, OmegaConfBaseException) as error:
        if "debug=true" in (argument.lower() for argument in sys.argv):
            traceback.print_exc()
        if logging.getLogger().handlers:  # run.log, where the run came that far
            logging.getLogger("mfjax").error(short(error))
        print(f"error: {short(error)}", file=sys.stderr)
        sys.exit(1)


@hydra.main(config_path=str(config.CONF), config_name="config", version_base="1.3")
def run(cfg: DictConfig) -> None:
    """Run one job in Hydra's output folder."""
    config.check(cfg)
    config.choose("job", dict.fromkeys(JOBS), cfg.job)
    set_up_jax(cfg)
    passed = importlib.import_module(f"mfjax.jobs.{cfg.job}").run(cfg, Path(HydraConfig.get().runtime.output_dir), BEGAN)
    if not passed:
        sys.exit(2)


def help_text() -> str:
    """The usage, with the groups that conf/ holds."""
    folders = sorted(folder for folder in config.CONF.iterdir() if folder.is_dir())
    groups = (f"  {f.name}: {', '.join(sorted(path.stem for path in f.glob('*.yaml')))}" for f in folders)
    return HELP.format(groups="\n".join(groups))


def set_up_jax(cfg: DictConfig) -> None:
    """Everything about jax that must be said before its first use. Raises InputError for a platform that is not there."""
    if cfg.threads is not None:
        os.environ.setdefault("PJRT_NPROC", str(cfg.threads))
    import jax

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    jax.config.update("jax_num_cpu_devices", cfg.devices or cores)  # which share the lanes out
    jax.config.update("jax_default_matmul_precision", cfg.matmul_precision)
    jax.config.update("jax_enable_x64", cfg.dtype == "float64" or cfg.job == "gradients")
    if cfg.platform is not None:
        jax.config.update("jax_platforms", cfg.platform)
    if cfg.compilation_cache:
        jax.config.update("jax_compilation_cache_dir", str(compilation_cache()))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    try:
        jax.devices()
    except RuntimeError as error:
        raise InputError(f"platform={cfg.platform}: jax finds no such device here; try platform=cpu") from error


def compilation_cache() -> Path:
    """The folder in which compiled programs are kept from run to run: one a kind of processor, whose code they are."""
    processor = f"{platform.machine()} {platform.processor()} {_cpu_flags()}"
    name = f"{platform.machine()}-{hashlib.sha256(processor.encode()).hexdigest()[:12]}"
    return platformdirs.user_cache_path("mfjax") / "compiled" / name


def _cpu_flags() -> str:
    """What the processor can do, where the system says so."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def short(error: Exception) -> str:
    """The message in at most six lines; of Hydra's, what a user of this command can act on."""
    if isinstance(error, InputError):
        return "\n".join(str(error).splitlines()[:6])
    text = f"{error}\n{error.__cause__ or ''}"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if group := re.search(r"Could not override '(.*)'\.\s*No match in the defaults list", text):
        return f"write +{group[1]}=… with a plus: {group[1]} is no part of the config until it is added"
    if unknown := re.match(r"Could not override '(.*)'", lines[0]):
        return f"unknown key {unknown[1]}; {config.hint(unknown[1])}"
    lines = [line for line in lines if not line.startswith(("reference_type", "object_type", "full_key"))]
    if "Config search path:" in lines:
        lines = lines[: lines.index("Config search path:")]
    for i, line in enumerate(lines):
        if line.startswith("Available options"):
            lines[i:] = [f"{line} {', '.join(lines[i + 1 :])}"]
        elif "is not a ListConfig" in line:
            lines[i] = "expected a list, such as [0.05,0.1]"
    return "\n".join(lines[:6])


if __name__ == "__main__":
    main()
