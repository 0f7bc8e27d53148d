"""What of a config the schema cannot refuse, and what to write instead."""

import difflib
from collections.abc import Iterator, Sequence
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from mfjax.app.adopted import adopt_in
from mfjax.app.schema import DEFAULTS, JOBS, RANGES, JobConfig, choices, known, register, renamed
from mfjax.errors import InputError
from mfjax.reporting.expected import check_expected
from mfjax.reporting.loggers import LOGGERS


def check(cfg: DictConfig) -> None:
    """Resolve `cfg` and refuse what the schema cannot.

    Keys added with `+`, unknown choices, values out of range, figures that are not stated as
    figures, and a logger whose library is not there. Raises InputError.
    """
    OmegaConf.resolve(cfg)
    if adopt_in(cfg):
        register()
    _check_choices(cfg)
    _check_job(cfg)
    _check_keys(cfg, known(cfg.job.name), "")
    _check_ranges(cfg)
    _check_size(cfg.plots.size)
    LOGGERS[cfg.logger]()
    check_expected(OmegaConf.to_container(cfg.expected))  # pyright: ignore[reportArgumentType]


def shadowed(cfg: DictConfig, overrides: Sequence[str]) -> list[str]:
    """What a reader must know whose `overrides` set a hyperparameter that `sweep` sets too."""
    given = {one.lstrip("+").partition("=")[0] for one in overrides}
    return [
        f"hparams.{key} has no effect: sweep.{key} has its values (sweep=none turns the sweep off)"
        for key in DEFAULTS
        if f"hparams.{key}" in given and cfg.sweep[key] is not None
    ]


def hint(path: str) -> str:
    """What to write instead of a key that is not there."""
    if new := renamed(path):
        jobs = _jobs_with(new)
        return f"it is now {new}" + (f" of job={', '.join(jobs)}" if jobs else "")
    if jobs := _jobs_with(path):
        return f"it is a key of job={', '.join(jobs)}"
    *parents, key = path.split(".")
    if _takes_any_key(parents):
        return f"write +{path}=… to add to {'.'.join(parents)}"
    places = {name: ".".join([*parents, name]) for name in _keys(parents)}
    nested = {} if parents else {name: f"hparams.{name}" for name in DEFAULTS}
    candidates = nested | places
    akin = [name for name in candidates if key in name.split("_")]
    if close := akin or difflib.get_close_matches(key, candidates, n=1):
        return f"did you mean {' or '.join(candidates[name] for name in close)}?"
    if parents and places:
        return f"the keys are {', '.join(places)}"
    return "python -m mfjax.run --cfg job shows every key"


def hint_of_section(path: str) -> str | None:
    """What to write instead of a value for a whole section; None where the key is of none."""
    keys = ", ".join(f"{path}.{key}" for key in _keys(path.split(".")))
    return f"{path} is a section: set one of its keys, {keys}" if keys else None


def _jobs_with(path: str) -> list[str]:
    """The jobs that have a key of `job`; none for another key."""
    *parents, key = path.split(".")
    if not parents or parents[0] != "job":
        return []
    return [name for name, section in _sections(parents) if key in section]


def _keys(parents: Sequence[str]) -> dict[str, None]:
    """The keys of a section, whichever the job; none where there is no such section."""
    return {str(key): None for _, section in _sections(parents) for key in section}


def _takes_any_key(parents: Sequence[str]) -> bool:
    return any(OmegaConf.get_type(section) is dict for _, section in _sections(parents))


def _sections(parents: Sequence[str]) -> Iterator[tuple[str, DictConfig]]:
    """A section of the schema of each job that has it, with the job's name."""
    for name in JOBS:
        whole = known(name)
        section = OmegaConf.select(whole, ".".join(parents)) if parents else whole
        if OmegaConf.is_dict(section):
            yield name, section


def _check_choices(cfg: DictConfig) -> None:
    for key, allowed in choices().items():
        value = OmegaConf.select(cfg, key)
        if value is not None and value not in allowed:
            raise InputError(f"{key}: expected one of {', '.join(allowed)}, got {value!r}")


def _check_keys(cfg: DictConfig, there: DictConfig, path: str) -> None:
    for key in cfg:
        if key not in there:
            raise InputError(f"unknown key {path}{key}; {hint(f'{path}{key}')}")
        takes_any_key = OmegaConf.get_type(there, str(key)) is dict
        if OmegaConf.is_dict(cfg[key]) and not takes_any_key:
            _check_keys(cfg[key], there[key], f"{path}{key}.")


def _check_job(cfg: DictConfig) -> None:
    """Refuse `job.name=…`, which brings none of the job's own keys."""
    name = cfg.job.name
    kind = OmegaConf.get_type(cfg.job)
    if kind is not None and issubclass(kind, JobConfig) and not issubclass(kind, JOBS[name]):
        raise InputError(f"job.name={name}: write job={name}, which brings the keys of that job")


def _check_ranges(cfg: DictConfig) -> None:
    for key, (is_right, expected) in RANGES.items():
        places = (f"hparams.{key}", f"sweep.{key}") if key in DEFAULTS else (key,)
        for place in places:
            for value in _values(cfg, place):
                if not is_right(value):
                    raise InputError(f"{place}: expected {expected}, got {value}")


def _check_size(size: ListConfig | None) -> None:
    if size is not None and len(size) != 2:
        raise InputError(f"plots.size: expected [WIDTH,HEIGHT] in inches, got {size}")


def _values(cfg: DictConfig, place: str) -> list[Any]:
    """The values of a key, of which a list has several, and nothing none."""
    value = OmegaConf.select(cfg, place)
    if not OmegaConf.is_list(value):
        return [] if value is None else [value]
    if not len(value):
        raise InputError(f"{place}: expected at least one value, got an empty list")
    return list(value)
