"""Nothing that a user sets is ignored in silence: what has no effect is refused with the reason."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from omegaconf import DictConfig

from mfjax.app.build import plain_section, variant_of
from mfjax.app.idle import Reason, idle, of_training, places, reason_of, variants
from mfjax.app.schema import defaults, leaves
from mfjax.app.session import as_written
from mfjax.errors import InputError


def refuse_idle(cfg: DictConfig, overrides: Sequence[str] = (), *, launched: bool = False) -> None:
    """Refuse what is set and has no effect.

    A key is set where the command line names it, and where a file gives it another value than its
    default. What a file sets and the command line makes idle is no mistake of the user's, but for
    an axis of `sweep`, whose lanes would be copies.

    Args:
      cfg: checked.
      overrides: those of the command line.
      launched: whether mfjax's launcher trains the job, with others.

    Raises:
      InputError: with the first such key, and the reason.
    """
    for name, own in variants(cfg).items():
        _refuse_in_variant(name, variant_of(cfg, own), own)
    found = idle(cfg, launched=launched)
    given = dict(map(_key_and_override, overrides))
    for one in _settings(cfg, given):
        reason = reason_of(one.key, found)
        if reason and _is_the_users(one, reason, given):
            raise InputError(_message(one, reason, given))


def _refuse_in_variant(name: str, variant: DictConfig, own: DictConfig) -> None:
    """Refuse what a variant itself sets and does not read, and axes whose lanes would be copies."""
    found = of_training(variant)
    axes = {f"sweep.{key}": list(of) for key, of in variant.sweep.items() if of is not None}
    for key, value in {**axes, **dict(leaves(plain_section(own)))}.items():
        if reason := reason_of(key, found):
            what = f"job.variants.{name}: {key}={written(value)}"
            raise InputError(f"{what} has no effect {reason.said}; leave it out")


# what is set


class Setting(NamedTuple):
    """A key and its value; where nothing is said, it is `default`.

    `by` is the key of the override that gives it: its own, that of a section, or of one below.
    """

    key: str
    value: Any
    default: Any
    by: str | None

    @property
    def differs(self) -> bool:
        return self.value != self.default

    @property
    def is_named(self) -> bool:
        """Whether the command line has the very key, or the group whose name it is."""
        return self.by in (self.key, self.key.removesuffix(".name"))


def _settings(cfg: DictConfig, given: Mapping[str, str]) -> Iterator[Setting]:
    whole = plain_section(cfg)
    for key, default in defaults(cfg.job.name).items():
        yield Setting(key, _at(key, whole, default), default, _giver(key, given))


def _at(key: str, section: Any, default: Any) -> Any:
    """The value of a key; `default` of one that an own function of a variant brings."""
    for part in key.split("."):
        if part not in section:
            return default
        section = section[part]
    return section


def _key_and_override(override: str) -> tuple[str, str]:
    plain = as_written(override.lstrip("+~"))
    return plain.partition("=")[0], plain


def _giver(key: str, given: Collection[str]) -> str | None:
    """Which of the keys on the command line gives a key its value."""
    above = (place for place in places(key) if place in given)
    below = (one for one in given if one.startswith(f"{key}."))
    return next(above, None) or next(below, None)


def _is_the_users(one: Setting, reason: Reason, given: Mapping[str, str]) -> bool:
    """Whether a setting without effect is what the user asked for."""
    if one.by:
        return one.differs or (one.is_named and one.value is not None)
    if one.key.startswith("sweep."):
        return one.differs
    is_made_idle = not reason.key or _giver(reason.key, given)
    return one.differs and not is_made_idle


def _message(one: Setting, reason: Reason, given: Mapping[str, str]) -> str:
    """What has no effect and why, in the user's words where they are of the command line."""
    what = f"{one.key}={written(one.value)}"
    instead = "leave it out"
    if one.is_named:
        what = given[str(one.by)]
    elif one.by:
        what += f", of {given[one.by]},"
    elif one.key.startswith("sweep."):
        instead += ", or sweep=none"
    else:
        instead += f", or {one.key}={written(one.default)}"
    copies = ": all its lanes would be the same" if one.key.startswith("sweep.") else ""
    return f"{what} has no effect {reason.said}{copies}; {instead}"


def written(value: Any) -> str:
    """A value as the command line takes it."""
    if isinstance(value, list):
        return f"[{','.join(map(written, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{written(one)}' for key, one in value.items())}}}"
    return {None: "null", True: "true", False: "false"}.get(value, str(value))
