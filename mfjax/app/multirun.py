"""A multirun: jobs that differ in traced hyperparameters alone train together, as lanes of one program; and its summary.

Importing it loads no jax: Hydra makes the callback before it composes a config.
"""

import atexit
import hashlib
import json
import logging
import re
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from mfjax.app import build as config
from mfjax.app import machine
from mfjax.errors import CheckpointError, InputError, Interrupted, OutOfMemory
from mfjax.training.checkpoint import FOLDER, Checkpoints, Stop, finishing_the_chunk, unfinished

log = logging.getLogger("mfjax")

FINISHED = "finished"  # handed to a job whose results are there already
_handed: ContextVar[Any] = ContextVar("handed", default=None)


class Group(NamedTuple):
    """Jobs whose programs are one: the name of their checkpoints, their indices, configs and output folders."""

    name: str
    jobs: list[int]
    cfgs: list[DictConfig]
    folders: list[Path]

    def half(self, part: slice) -> "Group":
        return Group(self.name, self.jobs[part], self.cfgs[part], self.folders[part])


class Launch(NamedTuple):
    """What the groups of one launch share: where, since when, the Sweeps of launches before by group and width, the names of
    all groups, and the checkpoints of those that have begun."""

    sweep_dir: Path
    stop: Stop
    began: float
    kept: dict[tuple[str, int], Any]
    names: set[str]
    checkpoints: list[Checkpoints]


@contextmanager
def handing(ready: Any):
    """Within it, the job that runs finds `ready` in place of training: what was trained for it, or the error to raise."""
    token = _handed.set(ready)
    try:
        yield
    finally:
        _handed.reset(token)


def handed() -> Any:
    """What the launcher trained for the job that runs now; None where it runs alone. Raises the error that training met."""
    if isinstance(ready := _handed.get(), Exception):
        raise ready
    return ready


def train_together(
    cfgs: Sequence[DictConfig], folders: Sequence[Path], sweep_dir: Path, width: int, kept: dict[tuple[str, int], Any]
) -> list[Any]:
    """Train the jobs of a multirun, those that share a program together; what to hand to each, in their order.

    A job of another kind than `train` is handed None, and one that has finished already (`resume=true`) `FINISHED`. An error
    is the job's whose it is: a group that raises is halved until the culprit is alone. `kept` holds the Sweeps of the launches
    before this one, whose programs need not be compiled again.
    """
    groups: dict[str, Group] = {}
    ready: dict[int, Any] = {}
    for i, (cfg, folder) in enumerate(zip(cfgs, folders, strict=True)):
        try:
            config.check(cfg)
        except InputError as error:
            ready[i] = error
            continue
        if cfg.job != "train":
            continue
        name = _name(cfg)
        group = groups.setdefault(name, Group(name, [], [], []))
        group.jobs.append(i)
        group.cfgs.append(cfg)
        group.folders.append(folder)
    begun = (sweep_dir / FOLDER).exists()
    if groups and begun and not cfgs[0].resume:
        raise unfinished(sweep_dir / FOLDER)
    if groups and cfgs[0].resume and not begun and not any(sweep_dir.glob("*/results.json")):
        log.warning("resume=true: nothing to go on from in %s, so from the start; hydra.sweep.dir=… says where", sweep_dir)
    with finishing_the_chunk() as stop:
        launch = Launch(sweep_dir, stop, time.monotonic(), kept, set(groups), [])
        try:
            for group in groups.values():
                ready |= _trained(group, launch, width)
        except Interrupted:
            _flush(launch)
            raise
    return [ready.get(i) for i in range(len(cfgs))]


def _name(cfg: DictConfig) -> str:
    """The same for jobs that the same programs train: a digest of all that is static, and of the groups of their ranks."""
    from mfjax.training.sweep import rank_group

    groups = sorted({rank_group(rank) for rank in cfg.sweep.rank or [cfg.hparams.rank]})
    return hashlib.sha256(json.dumps([config.static(cfg), groups], default=str).encode()).hexdigest()[:16]


def _flush(launch: Launch) -> None:
    """Save what the groups have finished, where it is time to."""
    for checkpoints in launch.checkpoints:
        checkpoints.flush()


def _trained(group: Group, launch: Launch, width: int) -> dict[int, Any]:
    try:
        return dict(zip(group.jobs, _train(group, launch, width), strict=True))
    except CheckpointError:
        raise
    except Exception as error:
        too_wide = isinstance(error, (OutOfMemory, MemoryError)) and width > 1
        if len(group.jobs) == 1 and not too_wide:
            return {group.jobs[0]: error}
    launch.kept.clear()  # and the error is forgotten: both hold what lies on the devices
    if too_wide:
        log.warning("out of memory with %d lanes a program: going on with %d", width, width // 2)
        return _trained(group, launch, width // 2)
    middle = len(group.jobs) // 2
    halves = (group.half(part) for part in (slice(middle), slice(middle, None)))
    return {job: of_job for half in halves for job, of_job in _trained(half, launch, width).items()}


def _train(group: Group, launch: Launch, width: int) -> list[Any]:
    """What to hand to each job of a group that trains at once. Raises whatever any of them raises."""
    from mfjax.app.jobs.train import about, is_finished, train

    first = group.cfgs[0]
    machine.set_up(first)
    key = group.name, width
    experiments = config.build_together(group.cfgs, width, launch.kept.get(key))
    launch.kept[key] = experiments[0].sweep
    finished = [
        cfg.resume and is_finished(folder, about(config.flat(cfg), experiment))
        for cfg, folder, experiment in zip(group.cfgs, group.folders, experiments, strict=True)
    ]
    there = sorted(folder.name for folder in (launch.sweep_dir / FOLDER).glob("*"))
    checkpoints = Checkpoints(
        launch.sweep_dir,
        about(config.static(first), experiments[0]),
        first.checkpoint.every,
        resume=True,
        name=group.name if not there or launch.names & set(there) else there[0],  # of another run, which it refuses
        stop=launch.stop,
        began=launch.began,
    )
    launch.checkpoints.append(checkpoints)
    # blocks that were saved have the lanes of all jobs; without any, those of the unfinished jobs are enough
    wanted = [i for i, done in enumerate(finished) if not done or (checkpoints.folder.exists() and not all(finished))]
    trained = train([group.cfgs[i] for i in wanted], [experiments[i] for i in wanted], checkpoints) if wanted else []
    _flush(launch)
    checkpoints.end_if_asked()
    ready = dict(zip(wanted, trained, strict=True))
    return [FINISHED if done else ready[i] for i, done in enumerate(finished)]


class Summary(Callback):
    """Hydra's callback: gives every job its results.json, and the multirun its sweep.csv, a table and a heat map."""

    def __init__(self) -> None:
        self._write: Callable[[], None] | None = None
        self._job_began = 0.0

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """The summary is due even where a job fails, after which Hydra calls no more: then as the process ends."""
        folder, plots = Path(config.hydra.sweep.dir), config.get("plots")
        self._write = lambda: summarise(folder, plots is not False)
        atexit.register(self._write)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        if self._write is not None:
            atexit.unregister(self._write)
            self._write()

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        self._job_began = time.time()

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """A job of a multirun that failed says so in its results, and in its log."""
        if job_return.status != JobStatus.FAILED or config.hydra.mode != RunMode.MULTIRUN:
            return
        from mfjax.reporting.files import write_json

        path, reason = Path(config.hydra.runtime.output_dir) / "results.json", str(job_return._return_value)
        log.error(reason)
        its_own = path.exists() and path.stat().st_mtime >= self._job_began
        write_json(path, {"status": "failed", "reason": reason} | (json.loads(path.read_text()) if its_own else {}))


def job_rows(folder: Path) -> list[dict[str, Any]]:
    """A row a job of a multirun that has results, in the order of the jobs: its overrides, and what came of it."""
    rows = []
    for results in folder.glob("*/results.json"):
        overrides = [str(one) for one in OmegaConf.load(results.parent / ".hydra" / "overrides.yaml")]
        of = {"status": "finished", "metrics": {}, "reason": None} | json.loads(results.read_text())
        metrics = of["metrics"] if of["status"] == "finished" else {}
        row: dict[str, Any] = {"job": results.parent.name}
        row |= {key.lstrip("+~"): value for key, _, value in (one.partition("=") for one in overrides) if key != "job"}
        for metric in ("validation_rmse", "test_rmse"):
            row |= {f"{metric}{end}": metrics.get(metric, {}).get(part) for end, part in _ENDS.items()}
        rows.append(row | {"status": of["status"], "reason": of["reason"]})
    return sorted(rows, key=lambda row: [int(n) if n.isdigit() else n for n in re.split(r"(\d+)", str(row["job"]))])


_ENDS = {"": "mean", "_low": "low", "_high": "high"}


def summarise(folder: Path, plots: bool) -> None:
    """Write sweep.csv, draw the heat map of the two numbers that vary most, and show the best jobs."""
    rows = job_rows(folder)
    if not rows:
        return
    from mfjax.app import terminal as report
    from mfjax.reporting import files as results

    results.write_csv(folder / "sweep.csv", rows)
    keys = dict.fromkeys(key for row in rows for key in row if key not in OUTCOMES)
    varied = [key for key in keys if len({row.get(key) for row in rows}) > 1]
    report.show(report.jobs_table(rows, varied))
    if plots:
        from mfjax.reporting import plots as figures

        if figure := figures.jobs_map(rows, varied):
            figures.save(figure, folder, "heat_map")
    report.say(f"Files: {folder / 'sweep.csv'}")


OUTCOMES = ("job", "status", "reason", *(f"{m}{end}" for m in ("validation_rmse", "test_rmse") for end in _ENDS))
