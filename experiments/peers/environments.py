"""A virtual environment a peer, made from its pinned requirements.

It is kept while they do not change.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

CONTESTANTS = Path(__file__).parent / "contestants"
OURS = "mfjax"  # the environment that runs this program
BUILD_FLAGS = {  # of the environments whose packages are compiled with flags of their own
    "libmf_avx": "-O3 -march=native -DUSEAVX -DUSEOMP -fopenmp",
}
VERSIONS = """
import importlib.metadata
import json
print(json.dumps({d.name: d.version for d in importlib.metadata.distributions()}))
"""


class NotInstalled(Exception):
    """A peer that cannot be installed here; says why."""


def default_folder() -> Path:
    """Where the platform keeps a user's caches."""
    home = Path.home()
    if sys.platform == "win32":
        root = Path(os.environ.get("LOCALAPPDATA", home / "AppData" / "Local"))
    elif sys.platform == "darwin":
        root = home / "Library" / "Caches"
    else:
        root = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return root / "mfjax-peers"


def python_of(name: str, folder: Path) -> Path:
    """The interpreter of an environment, which is made where it is not there yet.

    Raises NotInstalled.
    """
    if name == OURS:
        return Path(sys.executable)
    requirements = CONTESTANTS / f"{name}.txt"
    flags = BUILD_FLAGS.get(name, "")
    content = f"{requirements.read_text()}{flags}{sys.version}"
    stamp = hashlib.sha256(content.encode()).hexdigest()[:12]
    home = folder / f"{name}-{stamp}"
    python = home / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if not (home / "ready").exists():
        shutil.rmtree(home, ignore_errors=True)  # what an interrupted run left
        _command([sys.executable, "-m", "venv", str(home)])
        _install(python, requirements, flags)
        (home / "ready").touch()
    return python


def _install(python: Path, requirements: Path, flags: str) -> None:
    """Install the requirements, compiled with `flags` where there are any."""
    pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check"]
    install = [*pip, "-r", str(requirements)]
    if not flags:
        _command(install)
        return
    # pip may hold a build with other flags
    _command([*install, "--no-cache-dir"], CFLAGS=flags, CXXFLAGS=flags)


def versions(python: Path) -> dict[str, str]:
    """The version of every package of an environment."""
    words = [python, "-c", VERSIONS]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    return dict(sorted(found.items(), key=lambda pair: pair[0].lower()))


def _command(words: list[str], **variables: str) -> None:
    """Run a command. Raises NotInstalled with the first of its errors."""
    environment = {**os.environ, **variables}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    if not done.returncode:
        return
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines()]
    said = [line for line in lines if line]
    errors = [line for line in said if line.lower().startswith(("error", "fatal"))]
    first = (errors or said or ["no reason given"])[0]
    raise NotInstalled(f"not installed: {first[:200]}")
