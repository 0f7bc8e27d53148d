"""Which columns are the user, the item and the rating: as told, or by what they are called."""

import re
from collections.abc import Mapping, Sequence
from operator import eq
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
KEYS = {"id", "ids", "idx", "index", "no", "number", "key", "code"}  # behind a user's or an item's
BEFORE = {word for words in WORDS.values() for word in words.split()}  # that a role's may follow
BEFORE |= {"my", "review", "parent", "unix"}
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
    for role in WORDS:
        lengths = {
            position: len(_key_apart(_parts(name)))
            for position, name in enumerate(names)
            if _is_called(name, role)
        }
        plainest = min(lengths.values(), default=0)
        found[role] = [at for at, length in lengths.items() if length == plainest]
    return found


def _parts(name: str) -> list[str]:
    """The words of a column's name, without the type that RecBole writes behind it."""
    bare = re.sub(r":(token|float)(_seq)?$", "", name)
    apart = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", bare)
    return re.findall(r"[a-z0-9]+", apart.lower())


def _key_apart(parts: list[str]) -> list[str]:
    """Without the words that only say that it is a key."""
    end = len(parts)
    while end > 1 and parts[end - 1] in KEYS:
        end -= 1
    return parts[:end]


def _is_called(name: str, role: str) -> bool:
    """Whether a name is a word of a role, after others that only say more of it."""
    parts = _parts(name)
    if role in ROLES[:2]:
        parts = _key_apart(parts)
    is_title = " " in name.strip() and len(parts) > 1
    return not is_title and _ends_in(parts, role) and {*parts[:-1]} <= BEFORE


def _ends_in(parts: Sequence[str], role: str) -> bool:
    words = set(WORDS[role].split())
    last = parts[-1] if parts else ""
    return last in words or (role in ROLES[:2] and last.removesuffix("id") in words)


def _by_name(place: str, names: list[str], called: Mapping[str, list[int]]) -> list[Asked]:
    """The user, item and rating columns; refuses names that do not decide."""
    known = {role: called[role][0] for role in ROLES if len(called[role]) == 1}
    unknown = [role for role in ROLES if role not in known]
    if len(unknown) == 1 and not called[unknown[0]]:
        claimed = {at for columns in called.values() for at in columns}
        left = [at for at in range(len(names)) if at not in claimed]
        left = [at for at in left if _could_be(names[at], unknown[0])]
        if len(left) == 1:
            known[unknown[0]] = left[0]
    if len(known) < len(ROLES):
        raise InputError(_undecided(place, names, unknown, called))
    return [known[role] for role in ROLES]


def _could_be(name: str, role: str) -> bool:
    """Whether a column may be the one of a role that no name says."""
    parts = _parts(name)
    if not name or parts[:1] == ["unnamed"] or {*parts} & OTHER:
        return False
    plain = _key_apart(parts)
    if (plain and plain[-1] in KEYS) or (role == "rating" and plain != parts):
        return False
    return not any(_ends_in(plain, other) for other in WORDS if other != role)


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
    if len(names) > 3 or called["user"]:
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
    if second and _counts(first[1:] if wanted.columns and not first[0] else first):
        return True, "line 1 counts the columns"
    called = roles(first)
    named = sum(bool(called[role]) for role in ROLES)
    if named < 2:
        _refuse_pivot(place, first, second, bool(called["user"]))
    is_header = _is_header(first, second, wanted.columns or [0, 1, 2], named)
    if is_header is None:
        raise InputError(
            f"{place}: names of columns, or a rating? {listed(first)}\n"
            "say which: data.header=true, or data.header=false"
        )
    if not is_header:
        return False, "line 1 is a rating"
    why = "names the columns" if named > 1 else "has words where line 2 has numbers"
    return True, f"line 1 {why}"


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


def _is_header(
    first: list[str], second: list[str] | None, columns: Sequence[Asked], named: int
) -> bool | None:
    """Whether the first line names columns, or is a rating, if only a wrong one; None: either.

    Args:
      first, second: the fields of the first two lines.
      columns: the positions of the user, item and rating.
      named: how many of the three have a name that says so.
    """
    at = [int(column) for column in columns]
    if max(at) >= len(first):
        return named > 1
    *ids, rating = (first[i] for i in at)
    below = [second[i] if second and i < len(second) else "" for i in at[:2]]
    over = [is_number(two) and not is_number(one) for one, two in zip(ids, below, strict=True)]
    is_rated = is_number(rating) or has_decimal_comma(rating)
    if named > 1:
        return None if second and is_rated and not any(over) else True
    if is_rated:
        return None if all(over) or (named and any(over)) else False
    if _is_no_name(rating) or any(map(is_number, ids)) or any(map(eq, ids, below)):
        return False
    return True if named or any(over) or second is None else None


def _is_no_name(rating: str) -> bool:
    """Whether a rating is missing, or begins as a number does: a column is not called so."""
    letters = "".join(filter(str.isalpha, rating.lower()))
    return letters in NOTHING or rating[0].isdigit()
