"""Jobs of a multirun that differ in traced hyperparameters alone train as lanes of one program."""

import hashlib
import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from omegaconf import DictConfig

from mfjax.app import machine, terminal
from mfjax.app.build import Experiment, build_jobs
from mfjax.app.check import check
from mfjax.app.contracts import hold_to_contracts
from mfjax.app.folders import RESULTS, make_room
from mfjax.app.handover import Case, Failed, Finished, Nothing, Ready
from mfjax.app.identity import flat, run_identity, static
from mfjax.app.ignored import refuse_idle
from mfjax.app.schema import TrainJob
from mfjax.app.session import overrides_of
from mfjax.app.training import is_finished, train
from mfjax.errors import CheckpointError, InputError, Interrupted, OutOfMemory
from mfjax.training.checkpoint import FOLDER, Checkpoints, Stop, finishing_the_chunk, unfinished
from mfjax.training.lanes import rank_group
from mfjax.training.sweep import Sweep

log = logging.getLogger("mfjax")
Sweeps = dict[tuple[str, int], Sweep]  # by the name of a group and the lanes of its programs


class Job(NamedTuple):
    """One job: its place among those launched, its config and its output folder."""

    number: int
    cfg: DictConfig
    folder: Path


class Group(NamedTuple):
    """Jobs whose programs are one, and the name of their checkpoints."""

    name: str
    jobs: list[Job]

    @property
    def cfgs(self) -> list[DictConfig]:
        return [job.cfg for job in self.jobs]


class Launch(NamedTuple):
    """What the groups of one launch share.

    Args:
      began: when it did, by `time.monotonic`.
      stop: whether a signal has asked it to end.
      sweeps: the Sweeps so far, of this launch and those before.
      names: of all its groups.
      checkpoints: of the groups that have begun.
    """

    sweep_dir: Path
    began: float
    stop: Stop
    sweeps: Sweeps
    names: set[str]
    checkpoints: list[Checkpoints]


def train_together(
    cfgs: Sequence[DictConfig],
    folders: Sequence[Path],
    sweep_dir: Path,
    lanes_per_program: int,
    sweeps: Sweeps,
) -> list[Case]:
    """Train the jobs of a multirun, those that share a program together.

    An error is the job's whose it is: a group that raises is halved until the culprit is alone.

    Args:
      folders: the output folder of each job.
      sweeps: the Sweeps of the launches before this one, whose programs need not be compiled again;
        those of this one are added.

    Returns:
      What to hand over to each job, in their order: nothing to one of another kind than `train`.

    Raises CheckpointError where a job's folder has a finished result that stays.
    """
    cases: dict[int, Case] = {}
    groups: dict[str, Group] = {}
    for job in map(Job, range(len(cfgs)), cfgs, folders):
        try:
            check(job.cfg)
        except InputError as error:
            cases[job.number] = Failed(error)
            continue
        make_room(job.cfg, job.folder)
        if job.cfg.job.name == TrainJob.name:
            name = group_name(job.cfg)
            groups.setdefault(name, Group(name, [])).jobs.append(job)
    if groups:
        _look_for_checkpoints(sweep_dir, resume=cfgs[0].resume)
    with finishing_the_chunk() as stop:
        launch = Launch(sweep_dir, time.monotonic(), stop, sweeps, set(groups), [])
        try:
            for group in groups.values():
                cases |= _cases(group, launch, lanes_per_program)
        except Interrupted:
            _flush(launch)
            raise
    return [cases.get(i, Nothing()) for i in range(len(cfgs))]


def group_name(cfg: DictConfig) -> str:
    """The same for jobs that the same programs train.

    A digest of all that is static, and of the groups of their ranks.
    """
    ranks = cfg.sweep.rank or [cfg.hparams.rank]
    groups = sorted({rank_group(rank) for rank in ranks})
    text = json.dumps([static(cfg), groups], default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _look_for_checkpoints(sweep_dir: Path, *, resume: bool) -> None:
    """Raises CheckpointError where there are some that were not asked for; warns where none."""
    has_begun = (sweep_dir / FOLDER).exists()
    if has_begun and not resume:
        raise unfinished(sweep_dir / FOLDER)
    if resume and not has_begun and not any(sweep_dir.glob(f"*/{RESULTS}")):
        log.warning(
            "resume=true: nothing to go on from in %s, so from the start; "
            "hydra.sweep.dir=… says where",
            sweep_dir,
        )


def _flush(launch: Launch) -> None:
    """Save what the groups have finished, where it is time to."""
    for checkpoints in launch.checkpoints:
        checkpoints.flush()


def _cases(group: Group, launch: Launch, lanes_per_program: int) -> dict[int, Case]:
    """What to hand over to each job of a group, by its number."""
    try:
        return _trained(group, launch, lanes_per_program)
    except CheckpointError:
        raise
    except Exception as error:
        is_too_wide = isinstance(error, OutOfMemory | MemoryError) and lanes_per_program > 1
        if len(group.jobs) == 1 and not is_too_wide:
            return {group.jobs[0].number: Failed(error)}
    # the error is forgotten by now: it held, as the sweeps do, what lies on the devices
    launch.sweeps.clear()
    if is_too_wide:
        half = lanes_per_program // 2
        log.warning(
            "out of memory with %d lanes a program: going on with %d", lanes_per_program, half
        )
        return _cases(group, launch, half)
    middle = len(group.jobs) // 2
    first = group._replace(jobs=group.jobs[:middle])
    second = group._replace(jobs=group.jobs[middle:])
    return _cases(first, launch, lanes_per_program) | _cases(second, launch, lanes_per_program)


def _trained(group: Group, launch: Launch, lanes_per_program: int) -> dict[int, Case]:
    """The cases of a group that trains at once. Raises whatever any of its jobs raises."""
    machine.set_up(group.jobs[0].cfg)
    for cfg in group.cfgs:
        refuse_idle(cfg, overrides_of(cfg), launched=True)
        hold_to_contracts(cfg)
    key = group.name, lanes_per_program
    experiments = build_jobs(group.cfgs, lanes_per_program, launch.sweeps.get(key))
    launch.sweeps[key] = experiments[0].sweep
    if not launch.checkpoints:  # once, before the first group
        terminal.say_data(experiments[0].dataset, experiments[0].start)
    both = list(zip(group.jobs, experiments, strict=True))
    finished = {job.number for job, experiment in both if _is_finished(job, experiment)}
    checkpoints = _checkpoints(group, launch, experiments[0])
    launch.checkpoints.append(checkpoints)
    # saved blocks have the lanes of all jobs; without any, those of the unfinished are enough
    all_again = checkpoints.folder.exists() and len(finished) < len(both)
    wanted = [one for one in both if all_again or one[0].number not in finished]
    cases: dict[int, Case] = {}
    if wanted:
        jobs, of_jobs = zip(*wanted, strict=True)
        trained = train([job.cfg for job in jobs], of_jobs, checkpoints)
        cases = {job.number: Ready(one) for job, one in zip(jobs, trained, strict=True)}
    _flush(launch)
    checkpoints.end_if_asked()
    return cases | dict.fromkeys(finished, Finished())


def _is_finished(job: Job, experiment: Experiment) -> bool:
    identity = run_identity(flat(job.cfg), experiment)
    return job.cfg.resume and is_finished(job.folder, identity)


def _checkpoints(group: Group, launch: Launch, experiment: Experiment) -> Checkpoints:
    cfg = group.jobs[0].cfg
    there = sorted(folder.name for folder in (launch.sweep_dir / FOLDER).glob("*"))
    # which is refused there, with what differs
    is_of_another_run = there and not launch.names & set(there)
    return Checkpoints(
        launch.sweep_dir,
        run_identity(static(cfg), experiment),
        every=cfg.checkpoint.every,
        resume=True,
        name=there[0] if is_of_another_run else group.name,
        stop=launch.stop,
        began=launch.began,
    )
