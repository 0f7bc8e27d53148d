"""An output folder has one owner at a time, and a finished result in it stays.

The owner holds a lock on a file of the folder, which the system takes back when its process ends,
however it does.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from mfjax.app.check import check
from mfjax.app.identity import OF_BUILT, flat, run_identity
from mfjax.app.schema import JOBS, CompareJob
from mfjax.app.session import ending, own_part
from mfjax.errors import CheckpointError, InputError
from mfjax.reporting.files import as_json
from mfjax.reporting.saving import FORMATS
from mfjax.training.checkpoint import FOLDER, another_run, differing, remove, unfinished
from mfjax.training.whole import PARTS, read_json

LOCK = ".lock"
RESULTS = "results.json"
PREDICTIONS = "predictions.parquet"
_owned: set[Path] = set()  # by this process


class Refused(BaseException):
    """Its cause is why a run may not begin.

    No Exception, of which Hydra makes a warning where a callback raises it.
    """


class Owner(Callback):
    """Takes the folder of a run, and that of a multirun, before Hydra writes to it."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Raises Refused for a wrong config, and where the folder is not its to write to."""
        with _refusing():
            cfg = own_part(config)
            check(cfg)
            folder = Path(config.hydra.run.dir)
            if not cfg.distributed.enabled:  # else it is the first process's, once they have met
                ending.get().enter_context(owning(folder))
            make_room(cfg, folder)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Raises Refused where another process is at work in the folder."""
        with _refusing():
            folder = Path(config.hydra.sweep.dir)
            ending.get().enter_context(owning(folder))
            if config.overwrite and not config.resume:
                clear(folder)


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise Refused from error


# the lock


@contextmanager
def owning(folder: Path) -> Iterator[None]:
    """Within it, this process alone works in `folder`, which is made where there is none.

    What a process that died left half written is removed. Raises InputError where another is at
    work in it.
    """
    folder = folder.resolve()
    if folder in _owned:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    file = _lock(folder / LOCK)
    _owned.add(folder)
    try:
        _remove_parts(folder)
        yield
    finally:
        _owned.discard(folder)
        (folder / LOCK).unlink(missing_ok=True)  # before it is given back: it has an owner
        file.close()
        with suppress(OSError):  # it is not empty, but where nothing came of the run
            folder.rmdir()


def _remove_parts(folder: Path) -> None:
    """Remove what a process that died left half written."""
    for part in (*folder.glob(PARTS), *(folder / FOLDER).rglob(PARTS)):
        part.unlink(missing_ok=True)


def _lock(path: Path) -> IO[str]:
    """The locked file, which holds the number of this process."""
    while True:
        file = path.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            pid = file.read().strip()
            file.close()
            raise InputError(
                f"another run, pid {pid}, is at work in {path.parent}\n"
                "wait for it to end, or choose another folder"
            ) from None
        except OSError:  # a file system that has no locks
            return file
        if _is_at(file, path):
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            return file
        file.close()  # its owner has just removed it


def _is_at(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


# what is finished


def make_room(cfg: DictConfig, folder: Path, job: str | None = None) -> None:
    """See that a run of `cfg` may write its results to `folder`.

    With `overwrite`, the result that stands there is removed, but for one that `resume` finds.

    Args:
      job: the name of what writes it, if not that of `cfg`.

    Raises:
      CheckpointError: it has the finished result of another config, or a result or a checkpoint of
        this one where it is not to be resumed.
    """
    if cfg.overwrite and not cfg.resume:
        clear(folder)
        return
    if not cfg.resume and any((folder / FOLDER).rglob("*.ckpt")):
        raise unfinished(folder / FOLDER)
    path = folder / RESULTS
    found = finished_result(folder)
    if found is None:
        return
    theirs = {key: value for key, value in found.get("run", {}).items() if key not in OF_BUILT}
    ours = as_json(run_identity(flat(cfg)))
    if differing(theirs, ours):
        if not cfg.overwrite:
            raise another_run(path, theirs, ours)
        clear(folder)
    elif not cfg.resume:
        resumable = "resume" in JOBS[job or cfg.job.name].reads
        or_else = "resume=true leaves it as it is, and " if resumable else ""
        raise CheckpointError(
            f"{path} is of this very run, and finished\n{or_else}overwrite=true runs again"
        )


def finished_result(folder: Path) -> dict[str, Any] | None:
    """The content of a folder's results.json, if the run that wrote it came to its end.

    Raises InputError where it is damaged.
    """
    path = folder / RESULTS
    if not path.is_file():
        return None
    found = read_json(path)
    return found if found.get("status", "finished") == "finished" else None


def stands(folder: Path) -> bool:
    """Whether a result is in a folder that no job may write over: a finished or a damaged one."""
    try:
        return finished_result(folder) is not None
    except InputError:
        return True


def clear(folder: Path) -> None:
    """Remove the result that stands in a folder, its plots and its checkpoints.

    And those of the variants that the result compares.
    """
    for variant in _variants(folder):
        _remove_parts(variant)
        clear(variant)
    (folder / RESULTS).unlink(missing_ok=True)
    remove(folder)
    drawn = [path for kind in FORMATS for path in folder.glob(f"*.{kind}")]
    if drawn:
        from mfjax.reporting import plots

        for path in drawn:
            if path.stem in plots.__all__:
                path.unlink(missing_ok=True)


def _variants(folder: Path) -> list[Path]:
    """The folders of the variants of the `job=compare` whose result stands in a folder."""
    try:
        found = finished_result(folder) or {}
    except InputError:  # which cannot say
        return []
    if found.get("run", {}).get("job.name") != CompareJob.name:
        return []
    return [subfolder(folder, name, "job.variants") for name in found.get("figures", {})]


def subfolder(folder: Path, name: str, key: str) -> Path:
    """The folder of a name that `key` of a config gives; inside `folder`, whatever it is.

    Raises InputError for a name that is no plain folder's.
    """
    is_plain = name.isprintable() and not name.startswith(".")
    if not is_plain or not name or Path(name).name != name:
        raise InputError(
            f"{key}: expected the name of a folder, without / and no dot first, got {name!r}"
        )
    return folder / name
