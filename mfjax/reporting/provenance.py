"""What is needed to run it again, and what tells one run from another."""

import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from mfjax.reporting.files import as_json

PACKAGES = ("mfjax", "jax", "jaxlib", "optax", "numpy")


def provenance() -> dict[str, Any]:
    """What is needed to run it again.

    Versions, commit, devices, platform, precision, XLA's flags and the command line.
    """
    return {
        "versions": {name: version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "git_commit": _git_commit(),
        "devices": {
            "kind": jax.devices()[0].device_kind,
            "count": jax.device_count(),
            "backend": jax.default_backend(),
        },
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "x64": bool(jax.config.read("jax_enable_x64")),
        "xla_flags": os.environ.get("XLA_FLAGS"),
        "command": sys.argv,
    }


def digest_of_run(run_identity: Mapping[str, Any]) -> str:
    """What tells one run from another, of its config, data and version: SHA-256, in hex."""
    text = json.dumps(as_json(run_identity), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _git_commit() -> str | None:
    """The commit of the checkout that this package runs from; None for an installed package."""
    checkout = Path(__file__).resolve().parents[2]
    if not (checkout / ".git").exists():
        return None
    command = ["git", "rev-parse", "HEAD"]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None
