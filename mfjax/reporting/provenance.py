"""What is needed to run it again, and what tells one run from another."""

import hashlib
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import requires, version
from pathlib import Path
from typing import Any

import jax

from mfjax.memory import device_bytes, machine_bytes
from mfjax.reporting.files import as_json


def provenance() -> dict[str, Any]:
    """What is needed to run it again.

    Versions, commit, devices, processor, memory, platform, precision, XLA's flags and the command
    line.
    """
    return {
        "versions": {name: version(name) for name in packages()},
        "python": platform.python_version(),
        "git_commit": _git_commit(),
        "devices": {
            "kind": jax.devices()[0].device_kind,
            "count": jax.device_count(),
            "backend": jax.default_backend(),
            "memory_bytes": device_bytes(),
        },
        "cpu": {
            "model": cpu_model(),
            "cores": os.cpu_count(),
            "usable_cores": usable_cores(),
        },
        "memory_bytes": machine_bytes(),
        "platform": platform.platform(),
        "x64": bool(jax.config.read("jax_enable_x64")),
        "xla_flags": os.environ.get("XLA_FLAGS"),
        "command": sys.argv,
    }


def packages() -> list[str]:
    """mfjax and what it cannot do without, all that computes and draws; by its own metadata."""
    lines = requires("mfjax") or []
    needed = (line for line in lines if "extra ==" not in line)
    return ["mfjax", *(re.split(r"[^\w.-]", line)[0] for line in needed)]


def cpu_model() -> str:
    """The name of the processor, as the system has it; its architecture where it has none."""
    if sys.platform == "darwin":
        return _said_by("sysctl", "-n", "machdep.cpu.brand_string") or platform.machine()
    described = Path("/proc/cpuinfo")
    text = described.read_text() if described.exists() else ""
    named = re.search(r"^model name\s*: (.*)$", text, re.M)
    return named[1] if named else platform.processor() or platform.machine()


def usable_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def digest_of_run(run_identity: Mapping[str, Any]) -> str:
    """What tells one run from another, of its config, data and version: SHA-256, in hex."""
    text = json.dumps(as_json(run_identity), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _git_commit() -> str | None:
    """The commit of the checkout that this package runs from; None for an installed package."""
    checkout = Path(__file__).resolve().parents[2]
    if not (checkout / ".git").exists():
        return None
    return _said_by("git", "-C", str(checkout), "rev-parse", "HEAD")


def _said_by(*command: str) -> str | None:
    """What a command says; None where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None
