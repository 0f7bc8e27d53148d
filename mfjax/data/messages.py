"""How messages show what stands in a file: quoted, short, and without control characters."""

from collections.abc import Sequence

LONGEST = 40  # characters of a value


def quoted(value: object) -> str:
    """A value from a file, quoted and no longer than LONGEST."""
    return repr(shortened(value))


def shortened(value: object) -> str:
    """A value from a file, no longer than LONGEST."""
    text = str(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def listed(names: Sequence[object]) -> str:
    """Names from a file, as many as are short together."""
    shown: list[str] = []
    for name in map(quoted, names[:8]):
        if sum(map(len, shown)) + len(name) > 160:
            break
        shown.append(name)
    return ", ".join(shown + ["..."] * (len(names) > len(shown)))


def reason_of(error: BaseException) -> str:
    """The first line of an error's message, or the error's name where it has none."""
    first = str(error).partition("\n")[0][:100]
    return "".join(filter(str.isprintable, first)) or type(error).__name__
