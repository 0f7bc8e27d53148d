"""What this process computes on: everything about jax that must be said before its first use."""

import hashlib
import os
import platform
from pathlib import Path

import platformdirs
from omegaconf import DictConfig

from mfjax.errors import InputError

OF_THE_PROCESS = ("devices", "threads", "platform", "distributed")  # said once; a process keeps them
_said: dict[str, object] = {}


def set_up(cfg: DictConfig) -> None:
    """Set jax up as `cfg` says. Raises InputError for a platform that is not there, and for what this process has already
    said otherwise, for a job before this one."""
    said = {key: cfg[key] for key in OF_THE_PROCESS}
    if changed := [key for key in OF_THE_PROCESS if _said and said[key] != _said[key]]:
        raise InputError(f"{changed[0]}={said[changed[0]]}: this process began with {_said[changed[0]]}; use two commands")
    if cfg.threads is not None:
        os.environ.setdefault("PJRT_NPROC", str(cfg.threads))
    import jax

    jax.config.update("jax_default_matmul_precision", cfg.matmul_precision)
    jax.config.update("jax_enable_x64", cfg.dtype == "float64" or cfg.job == "gradients")
    if _said:
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    jax.config.update("jax_num_cpu_devices", cfg.devices or cores)  # which share the lanes out
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
        raise InputError(f"platform={cfg.platform}: jax finds no such device here; try platform=cpu") from error
    _said.update(said)


def _join(of: DictConfig) -> None:
    """Meet the other processes. Raises InputError where jax cannot tell who they are."""
    import jax

    try:
        jax.distributed.initialize(of.coordinator, of.processes, of.process)
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f"distributed.enabled=true: {str(error).splitlines()[0]}\n"
            "say distributed.coordinator=HOST:PORT, distributed.processes=N and distributed.process=0 to N - 1"
        ) from error


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
