"""A virtual environment a peer, made from its pinned requirements and kept while they do not change."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

CONTESTANTS = Path(__file__).parent / "contestants"
OURS = "mfjax"  # the environment that runs this program
BUILD_FLAGS = {"libmf_avx": "-O3 -march=native -DUSEAVX -DUSEOMP -fopenmp"}  # environments whose packages are compiled so
VERSIONS = "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"


class NotInstalled(Exception):
    """A peer that cannot be installed here; says why."""


def default_folder() -> Path:
    """Where the platform keeps a user's caches."""
    if sys.platform == "win32":
        root = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        root = Path.home() / "Library" / "Caches"
    else:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "mfjax-peers"


def python_of(name: str, folder: Path) -> Path:
    """The interpreter of an environment, which is made where it is not there yet. Raises NotInstalled."""
    if name == OURS:
        return Path(sys.executable)
    requirements = CONTESTANTS / f"{name}.txt"
    flags = BUILD_FLAGS.get(name, "")
    stamp = hashlib.sha256(f"{requirements.read_text()}{flags}{sys.version}".encode()).hexdigest()[:12]
    home = folder / f"{name}-{stamp}"
    python = home / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if not (home / "ready").exists():
        shutil.rmtree(home, ignore_errors=True)  # what an interrupted run left
        _command([sys.executable, "-m", "venv", str(home)])
        install = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "-r", str(requirements)]
        if flags:
            _command([*install, "--no-cache-dir"], CFLAGS=flags, CXXFLAGS=flags)  # pip may hold a build with other flags
        else:
            _command(install)
        (home / "ready").touch()
    return python


def versions(python: Path) -> dict[str, str]:
    """The version of every package of an environment."""
    found = json.loads(subprocess.run([python, "-c", VERSIONS], capture_output=True, text=True, check=True).stdout)
    return dict(sorted(found.items(), key=lambda pair: pair[0].lower()))


def _command(words: list[str], **variables: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, **variables}, check=False)
    if done.returncode:
        lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        errors = [line for line in lines if line.lower().startswith(("error", "fatal"))]
        raise NotInstalled(f"not installed: {(errors or lines or ['no reason given'])[0][:200]}")
