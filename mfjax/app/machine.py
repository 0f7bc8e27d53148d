"""What this process computes on: all that must be said of jax before its first use."""

import hashlib
import os
import platform
from pathlib import Path
from typing import Any

import jax
import platformdirs
from omegaconf import DictConfig

from mfjax.errors import InputError
from mfjax.reporting.provenance import usable_cores

OF_THE_PROCESS = ("devices", "threads", "platform", "distributed")  # said once; a process keeps it
IN_FLOAT64 = ("gradients",)  # jobs that compare in it, whatever the dtype
LEAST_THREADS = 2  # with one XLA compiles in another way, and one device gives other bits than more
_said: dict[str, Any] = {}


def set_up(cfg: DictConfig) -> None:
    """Set jax up as `cfg` says.

    Raises InputError for a platform that is not there, and for what this process has already said
    otherwise, for a job before this one.
    """
    saying = {key: cfg[key] for key in OF_THE_PROCESS}
    for key in OF_THE_PROCESS:
        if _said and saying[key] != _said[key]:
            raise InputError(
                f"{key}={saying[key]}: this process began with {_said[key]}; use two commands"
            )
    is_wide = cfg.dtype == "float64" or cfg.job.name in IN_FLOAT64
    jax.config.update("jax_default_matmul_precision", cfg.matmul_precision)
    jax.config.update("jax_enable_x64", is_wide)
    if not _said:
        _begin(cfg)
        _said.update(saying)


def _begin(cfg: DictConfig) -> None:
    """Start jax's backend, which can be done once."""
    if cfg.threads is not None:
        os.environ.setdefault("PJRT_NPROC", str(max(cfg.threads, LEAST_THREADS)))
    lanes_share = cfg.devices or usable_cores()
    jax.config.update("jax_num_cpu_devices", lanes_share)
    if cfg.platform is not None:
        jax.config.update("jax_platforms", cfg.platform)
    if cfg.compilation_cache:
        jax.config.update("jax_compilation_cache_dir", str(compilation_cache()))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    if cfg.distributed.enabled:
        _join(cfg.distributed)
    try:
        jax.devices()
    except RuntimeError as error:
        asked = "" if cfg.platform is None else f"platform={cfg.platform}: "
        raise InputError(f"{asked}jax finds no such device here; try platform=cpu") from error


def _join(distributed: DictConfig) -> None:
    """Meet the other processes. Raises InputError where jax cannot tell who they are."""
    place = (distributed.coordinator, distributed.processes, distributed.process)
    try:
        jax.distributed.initialize(*place)
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f"distributed.enabled=true: {str(error).splitlines()[0]}\n"
            "say distributed.coordinator=HOST:PORT, distributed.processes=N and "
            "distributed.process=0 to N - 1"
        ) from error


def compilation_cache() -> Path:
    """The folder in which compiled programs are kept from run to run.

    One a kind of processor, whose code they are.
    """
    processor = f"{platform.machine()} {platform.processor()} {_cpu_flags()}"
    digest = hashlib.sha256(processor.encode()).hexdigest()[:12]
    name = f"{platform.machine()}-{digest}"
    return platformdirs.user_cache_path("mfjax") / "compiled" / name


def _cpu_flags() -> str:
    """What the processor can do, where the system says so."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
