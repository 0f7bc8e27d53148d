"""Which columns are the user, the item and the rating: as told, or by what they are called."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mfjax.data.messages import listed, quoted
from mfjax.errors import InputError

ROLES = ("user", "item", "rating")
WORDS = {
    "user": "u uid user users reviewer cust customer profile member rater person account",
    "item": "i iid item items movie mid film book product asin isbn anime business song track "
    "artist game joke recipe restaurant beer show",
    "rating": "r rating ratings rate score scores star stars overall value grade",
    "timestamp": "t ts timestamp time date datetime",
}
KEYS = {"id", "ids", "idx", "index", "no", "number", "key", "code"}  # of what stands before them
OTHER = {"avg", "average", "mean", "count", "num", "name", "title", "predicted", "helpful", "total"}
NOTHING = {"", "nan", "none", "null", "na", "n/a", "<na>", "nat"}  # words for no value, lower case
MOST = 5  # columns of ratings without names: more look like a matrix

Asked = int | str
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")


class Columns(NamedTuple):
    """Where the parts of a rating stand.

    Args:
      at: the position of the user, item and rating, and of a weight or timestamp where they are
        read.
      names: what messages call them, in the order of `at`.
      header: whether the first line is one.
      why: how that was decided, in words.
    """

    at: dict[str, int]
    names: list[str]
    header: bool
    why: str


class Wanted(NamedTuple):
    """What a user asks for.

    Args:
      columns: the user, item and rating columns, each a name or a position from 0; None: by name.
      weight, timestamp: a column each, or None.
      header: whether the first line is one; None: it is decided.
    """

    columns: list[Asked] | None = None
    weight: Asked | None = None
    timestamp: Asked | None = None
    header: bool | None = None

    @classmethod
    def of(
        cls, columns: Any, weight: Any = None, timestamp: Any = None, header: bool | None = None
    ) -> "Wanted":
        """The same, checked.

        Raises:
          InputError: they are not three, or one is neither a name nor a position.
        """
        if columns is not None and len(columns) != 3:
            raise InputError(
                f"data.columns: expected three columns (user, item, rating), got {list(columns)}"
            )
        extra = [one for one in (weight, timestamp) if one is not None]
        for column in (*(columns or []), *extra):
            if isinstance(column, bool) or not isinstance(column, Asked):
                raise InputError(
                    f"data.columns: expected names or positions from 0, got {column!r}"
                )
        return cls(columns and list(columns), weight, timestamp, header)

    @property
    def asked(self) -> list[Asked]:
        """All columns that are asked for."""
        extra = [self.weight, self.timestamp]
        return [*(self.columns or []), *(one for one in extra if one is not None)]


def of_text(place: str, first: list[str], second: list[str] | None, wanted: Wanted) -> Columns:
    """The columns of a text file, by its first two lines.

    Args:
      place: what messages call the first line.
      first, second: the fields of its first two lines; None: there is one line.
      wanted: what the user asks for.

    Raises:
      InputError: a column is not there, or neither names nor positions decide.
    """
    header, why = _header(place, first, second, wanted)
    if header and _counts(first):
        wanted = wanted._replace(columns=wanted.columns or [0, 1, 2])
    if header:
        return of_names(place, first, wanted, why)
    if wanted.columns is None and len(first) > MOST:
        raise InputError(
            f"{place}: {len(first)} columns without names\n"
            "a table of users by items: data.layout=dense, and data.missing=[99] where 99 is "
            "no rating\n"
            "else say which are the user, the item and the rating: data.columns=[0,1,2]"
        )
    return _asked(place, first, wanted._replace(columns=wanted.columns or [0, 1, 2]), False, why)


def of_names(place: str, names: list[str], wanted: Wanted, why: str) -> Columns:
    """The columns of a table with names: those asked for, or by what they are called.

    Args:
      place: what messages call the names.
      names: of all columns.
      wanted: what the user asks for.
      why: the first line is a header, in words.

    Raises:
      InputError: a column is not there, or the names do not decide.
    """
    extra = _places(names, [wanted.weight, wanted.timestamp])
    called = {role: sorted({*at} - extra) for role, at in roles(names).items()}
    columns = wanted.columns or _by_name(place, names, called | {"extra": sorted(extra)})
    times = {*called["timestamp"]} - _places(names, columns)
    if wanted.timestamp is None and len(times) == 1:
        wanted = wanted._replace(timestamp=times.pop())
    return _asked(place, names, wanted._replace(columns=columns), True, why)


def is_number(text: str) -> bool:
    """Whether a field is one: `4`, `3.5`, `1e3`, `nan`."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def has_decimal_comma(text: str) -> bool:
    """Whether a field is a number with a decimal comma, as `4,5`."""
    return _DECIMAL_COMMA.fullmatch(text) is not None


# what columns are called


def roles(names: Sequence[str]) -> dict[str, list[int]]:
    """The columns that could be each of WORDS, those with the plainest names."""
    found = {}
    for role, words in WORDS.items():
        lengths = {
            position: len(parts)
            for position, parts in enumerate(map(_parts, names))
            if parts and _is_called(parts, set(words.split()))
        }
        plainest = min(lengths.values(), default=0)
        found[role] = [at for at, length in lengths.items() if length == plainest]
    return found


def _parts(name: str) -> list[str]:
    """The words of a column's name, without those that only say that it is a key."""
    apart = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name.split(":")[0])
    parts = re.findall(r"[a-z0-9]+", apart.lower())
    while len(parts) > 1 and parts[-1] in KEYS:
        parts.pop()
    return parts


def _is_called(parts: Sequence[str], words: set[str]) -> bool:
    last = parts[-1]
    return not OTHER & set(parts) and (last in words or last.removesuffix("id") in words)


def _by_name(place: str, names: list[str], called: Mapping[str, list[int]]) -> list[Asked]:
    """The user, item and rating columns; refuses names that do not decide."""
    known = {role: called[role][0] for role in ROLES if len(called[role]) == 1}
    claimed = {at for columns in called.values() for at in columns}
    left = [at for at, name in enumerate(names) if at not in claimed and not _counts_rows(name)]
    unknown = [role for role in ROLES if role not in known]
    if len(unknown) == 1 == len(left) and not called[unknown[0]]:
        known[unknown[0]] = left[0]
    elif unknown:
        raise InputError(_undecided(place, names, unknown, called))
    return [known[role] for role in ROLES]


def _counts_rows(name: str) -> bool:
    return not name or name.lower().startswith("unnamed") or name.lower() == "index"


def _undecided(
    place: str, names: Sequence[str], unknown: Sequence[str], called: Mapping[str, list[int]]
) -> str:
    """The message about names that do not decide, with columns to paste."""
    role = unknown[0]
    could = " or ".join(quoted(names[at]) for at in called[role])
    reason = f"{could} could be the {role}" if could else f"which column is the {role}?"
    shown = [names[called[one][0]] if called[one] else one.upper() for one in ROLES]
    lines = [
        f"{place}: {reason}",
        _there(names),
        f"say which: data.columns=[{','.join(shown)}], by name or by position from 0",
    ]
    if len(names) > 3:
        lines.append("if this is a table of users by items: data.layout=pivot")
    return "\n".join(lines)


# the columns asked for


def _asked(place: str, names: list[str], wanted: Wanted, header: bool, why: str) -> Columns:
    asked = dict(zip(ROLES, wanted.columns or [], strict=True))
    extra = {"weight": wanted.weight, "timestamp": wanted.timestamp}
    asked |= {key: column for key, column in extra.items() if column is not None}
    at = {key: _position(place, names, column) for key, column in asked.items()}
    if len(set(at.values())) != len(at):
        said = ", ".join(f"{key} {column}" for key, column in asked.items())
        raise InputError(f"data.columns: expected different columns, got {said}")
    shown = [names[i] if header else str(i) for i in at.values()]
    return Columns(at, shown, header, why)


def _places(names: Sequence[str], columns: Sequence[Asked | None]) -> set[int]:
    """The positions of columns that are asked for, as far as there are such."""
    found = [names.index(one) if one in names else one for one in columns]
    return {at for at in found if isinstance(at, int)}


def _position(place: str, names: Sequence[str], column: Asked) -> int:
    if isinstance(column, str) and column in names:
        if names.count(column) > 1:
            raise InputError(f"{place}: several columns are called {column!r}: give its position")
        return list(names).index(column)
    if isinstance(column, int) and column in range(len(names)):
        return column
    raise InputError(
        f"{place}: no column {column!r}\n{_there(names)}\n"
        "set data.columns=[user, item, rating] to names, or positions "
        f"0 to {len(names) - 1}; or set data.separator=..."
    )


def _there(names: Sequence[str]) -> str:
    return f"its {len(names)} columns are {listed(names)}"


# whether the first line is a header


def _header(
    place: str, first: list[str], second: list[str] | None, wanted: Wanted
) -> tuple[bool, str]:
    """Whether the first line is one, and why."""
    by_name = [column for column in wanted.asked if isinstance(column, str)]
    if by_name and wanted.header is False:
        raise InputError(
            f"{place}: header=False, yet {by_name} are names\ngive positions, or header=True"
        )
    if by_name:
        return True, "columns are asked for by name"
    if wanted.header is not None:
        return wanted.header, "as told"
    called = roles(first)
    if sum(bool(called[role]) for role in ROLES) > 1:
        return True, "line 1 names the columns"
    if second and _counts(first):
        return True, "line 1 counts the columns"
    _refuse_pivot(place, first, second, bool(called["user"]))
    if _is_data(first, second, wanted.columns or [0, 1, 2]):
        return False, "line 1 is a rating"
    return True, "line 1 has words where line 2 has numbers"


def _counts(first: list[str]) -> bool:
    """Whether a line is `0,1,2`, as pandas writes above columns without names."""
    return len(first) > 2 and first == [str(i) for i in range(len(first))]


def _refuse_pivot(place: str, first: list[str], second: list[str] | None, by_user: bool) -> None:
    """Refuses a line of item ids after the word for users, or after nothing."""
    begins = by_user or not first[0] or (second and not is_number(first[0]))
    follows = second is not None and is_number(second[0])
    if len(first) > 3 and begins and follows and all(map(is_number, first[1:])):
        raise InputError(
            f"{place}: reads as a table of users by items: {_there(first)}\n"
            "read it with data.layout=pivot; if line 1 is a rating, data.header=false"
        )


def _is_data(first: list[str], second: list[str] | None, columns: Sequence[Asked]) -> bool:
    """Whether the first line is a rating, if only a wrong one."""
    if max(int(column) for column in columns) >= len(first):
        return True
    user, item, rating = (first[int(column)] for column in columns)
    if is_number(rating) or has_decimal_comma(rating) or rating.lower() in NOTHING:
        return True
    return is_number(user) or is_number(item)
