"""Reads ratings from files, frames, arrays and matrices, and says what it took them for.

Whatever is wrong with them is one `InputError` that says where.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float64, Int, Int64

from mfjax.data.arrays import of_memory
from mfjax.data.columns import NOTHING, Wanted, has_decimal_comma
from mfjax.data.dataset import Dataset, Reading, from_ids
from mfjax.data.files import Content, bundled_items, content
from mfjax.data.formats import matlab, reader_of
from mfjax.data.messages import quoted, shortened
from mfjax.data.table import Table
from mfjax.data.text import text_table
from mfjax.data.wide import LAYOUTS, wide_table
from mfjax.errors import InputError

if TYPE_CHECKING:
    import polars as pl

MISSING_IDS = ("error", "drop", "keep")
LONGEST_ID = 200  # characters
MOST_STEPS = 101  # different ratings of what is looked at as a scale


class Policy(NamedTuple):
    """What to do with ratings that are in doubt.

    Args:
      missing: values that mean "no rating".
      missing_ids: one of MISSING_IDS, for ids that are a word for nothing.
      duplicates: a key of DUPLICATES.
    """

    missing: Sequence[float]
    missing_ids: str
    duplicates: str

    @classmethod
    def of(cls, missing: Sequence[Any], missing_ids: str, duplicates: str) -> "Policy":
        """The same, checked.

        Raises:
          InputError: a value is not among those that there are.
        """
        _choose("duplicates", duplicates, DUPLICATES)
        _choose("missing_ids", missing_ids, MISSING_IDS)
        for value in missing:
            if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
                raise InputError(f"data.missing: expected numbers, got {value!r}")
        return cls(missing, missing_ids, duplicates)


def read(
    path: str,
    *,
    columns: list | None = None,
    layout: str = "long",
    separator: str | None = None,
    header: bool | None = None,
    encoding: str | None = None,
    member: str | None = None,
    missing: list = [],  # noqa: B006 (the config's schema reads the default here)
    missing_ids: str = "error",
    weight: str | None = None,
    timestamp: str | None = None,
    duplicates: str = "error",
    test: str | None = None,
) -> Dataset:
    """Reads a file of ratings, or one to train on and one to test on.

    Args:
      path: a table of text, Parquet, Arrow, JSON lines, a matrix of Matrix Market, SciPy (`.npz`),
        NumPy (`.npy`) or MATLAB (`.mat`); plain or in `.gz`, `.bz2`, `.xz`, `.zip` or `.tar`; or
        `bundled:ml-latest-small`.
      columns: the user, item and rating columns, each a name or a position from 0; None: by what
        the header calls them, and without a header the first three. Others are ignored.
      layout: `long`: a rating a row; `pivot`: users in the first column, items in the first line;
        `dense`: a matrix without names, its rows and columns numbered from 0.
      separator: one or two characters; None: the first of `::`, tab, `,`, `;`, `|` in the first
        line, else blanks. Text only.
      header: whether the first line is one; None: by lines 1 and 2. Text only.
      encoding: of text, as `latin-1`; None: UTF-8, or by its byte order mark.
      member: which file of an archive, or variable of a MATLAB file.
      missing: values that mean "no rating", as `[-1, 99]`: dropped and counted.
      missing_ids: what to do with ids that are empty or a word for nothing (`nan`, `None`, `NULL`,
        `NA`): `error`; `drop` their ratings; or `keep` them.
      weight: the column of weights, name or position; None: every weight is 1.
      timestamp: the column of times; None: the one of that name, if it holds nothing else.
      duplicates: what to do with several ratings of a (user, item) pair: `error`; `mean`, at the
        place of the first; or `last`, at the place of the last.
      test: a second file of the same columns, whose ratings `split=files` keeps for the test.

    Returns:
      The ratings in file order, those of `test` last, named after the file; `reading` says what it
      was taken for. Ids are int64 if every one is a whole number, else strings.

    Raises:
      InputError: with the file, the line (or the row), the reason and what to do.
    """
    policy = Policy.of(missing, missing_ids, duplicates)
    wanted = Wanted.of(columns, _column(weight), _column(timestamp), header)

    def read_one(path: str) -> Dataset:
        file = content(path, member)
        table = _table(file, wanted, layout, separator, encoding)
        name = Path(file.name).stem
        return _dataset(name, table, policy, timestamp is not None, file.sha256)

    training = _with_items(read_one(path), bundled_items(path))
    return training if test is None else _with_test(training, read_one(test))


def _with_items(dataset: Dataset, file: Path | None) -> Dataset:
    """The dataset with the titles and genres of a file of its items, if there is one."""
    import polars as pl

    if file is None:
        return dataset
    items = pl.read_parquet(file)
    return replace(dataset, items=items.drop("item"))


def from_memory(name: str, source: Any, wanted: Wanted, policy: Policy) -> Dataset:
    """The ratings of a frame, arrays or a matrix, as `Dataset.of` takes them.

    Args:
      name: what to call them.
      source: of `Dataset.of`.
      wanted: the columns to read.
      policy: what to do with ratings in doubt.

    Raises:
      InputError: the source is nothing of these, or its ratings are wrong.
    """
    return _dataset(name, of_memory(name, source, wanted), policy, wanted.timestamp is not None)


def _choose(key: str, value: str, known: Any) -> None:
    if value not in known:
        raise InputError(f"data.{key}: expected one of {', '.join(known)}, got {value!r}")


def _column(column: str | None) -> str | int | None:
    """A column of the command line, where a position is written as a word."""
    return int(column) if column is not None and str(column).isdecimal() else column


# tables


def _table(
    file: Content, wanted: Wanted, layout: str, separator: str | None, encoding: str | None
) -> Table:
    _choose("layout", layout, LAYOUTS)
    reader = reader_of(file)
    if file.member is not None and reader is not matlab:
        raise InputError(f"data.member: {file.path} holds no others: leave it out")
    if layout != "long":
        return wide_table(file, wanted, layout, separator, encoding)
    if reader is None:
        return text_table(file, wanted, separator, encoding)
    idle = {"separator": separator, "header": wanted.header, "encoding": encoding}
    for key, value in idle.items():
        if value is not None:
            raise InputError(f"data.{key}: is of text, and {file.path} is none: leave it out")
    return reader(file, wanted)


# from a table to a data set


def _dataset(
    name: str, table: Table, policy: Policy, timed: bool, sha256: str | None = None
) -> Dataset:
    """The ratings of a table, checked, with a record of what was read.

    Args:
      name: what to call them.
      table: of the source.
      policy: what to do with ratings in doubt.
      timed: whether times are asked for.
      sha256: of the source.
    """
    if not len(table.frame):
        raise InputError(
            f"{table.path}: no ratings, only the names of columns\nexpected one rating a line"
        )
    source = table
    table = _with_ids(table, policy)
    table, values = _with_ratings(table, policy)
    table, weights = _with_weights(table)
    table, times = _with_times(table, timed)
    dataset = from_ids(name, table.frame["user"], table.frame["item"], values, sha256)
    dataset = replace(dataset, weight=weights, timestamp=times)
    merged = DUPLICATES[policy.duplicates](dataset, table)
    if len(merged.value) < len(dataset.value):
        dropped = len(dataset.value) - len(merged.value)
        table = _noting(table, f"{dropped:,} repeated ratings merged (data.duplicates)")
    return replace(merged, reading=_reading(source, table, merged))


def _reading(source: Table, table: Table, dataset: Dataset) -> Reading:
    """What a source was taken for: the table as it was, as it became, and what came of it."""
    read = table.frame.columns
    names = dict(zip(table.columns.at, table.columns.names, strict=True))
    first = source.frame.row(0, named=True)
    return Reading(
        columns={key: shortened(names[key]) for key in read},
        rows=len(source.frame),
        why=table.columns.why,
        first={key: shortened(first[key]) for key in read},
        notes=table.notes,
        warnings=_outliers(dataset.value),
    )


def _noting(table: Table, note: str, **changes: Any) -> Table:
    return replace(table, notes=(*table.notes, note), **changes)


def _keeping(table: Table, rows: np.ndarray, note: str) -> Table:
    """The rows of a mask, each with the place that it had."""
    kept = np.flatnonzero(rows)
    before = table.place
    frame = table.frame.filter(rows)
    if not len(kept):
        raise InputError(f"{table.path}: no rating is left: {note}")
    return _noting(table, note, frame=frame, place=lambda row: before(int(kept[row])))


# ids


def _with_ids(table: Table, policy: Policy) -> Table:
    """Whole numbers as integers, and no word for nothing."""
    table = _named(table, policy)
    whole = [_without_point(table.frame[column]) for column in ("user", "item")]
    return replace(table, frame=table.frame.with_columns(whole))


def _named(table: Table, policy: Policy) -> Table:
    """Ids that are no word for nothing, or as they were told to be kept."""
    columns = {column: _ids(table, column) for column in ("user", "item")}
    table = replace(table, frame=table.frame.with_columns(**columns))
    if policy.missing_ids == "keep":
        kept = {column: ids.cast(str).fill_null("") for column, ids in columns.items()}
        return replace(table, frame=table.frame.with_columns(**kept))
    nameless = {column: _is_nothing(table.frame[column]) for column in columns}
    either = nameless["user"] | nameless["item"]
    if either.any() and policy.missing_ids == "error":
        row = int(np.flatnonzero(either)[0])
        column = "user" if nameless["user"][row] else "item"
        raise InputError(_nameless(table, column, row, int(nameless[column].sum())))
    if not either.any():
        return table
    return _keeping(table, ~either, f"{either.sum():,} ratings without an id dropped")


def _nameless(table: Table, column: str, row: int, count: int) -> str:
    written = table.frame[column][row]
    reason = "is empty" if not written else f"is {quoted(written)}, a word for none"
    return (
        f"{table.path}, {table.place(row)}: the {column} id {reason} (missing in {count:,} rows)\n"
        "fill it in, delete the rating, or data.missing_ids=drop; an id of that name: keep"
    )


def _is_nothing(ids: "pl.Series") -> np.ndarray:
    if ids.dtype.is_integer():
        return ids.is_null().to_numpy()
    names = ids.unique()  # few, where ids are many
    words = names.cast(str).fill_null("").str.strip_chars().str.to_lowercase()
    nothing = words.is_in(list(NOTHING))
    if not nothing.any():
        return np.zeros(len(ids), bool)
    return ids.is_in(names.filter(nothing).implode(), nulls_equal=True).to_numpy()


def _ids(table: Table, column: str) -> "pl.Series":
    """A column of ids, whole floats as integers; refuses what cannot be one."""
    import polars as pl

    raw = table.frame[column]
    if raw.dtype.is_float():
        values = raw.fill_nan(None)
        whole = (
            values.is_null() | ((values == values.floor()) & (values.abs() < 2**53))
        ).to_numpy()
        if not whole.all():
            row = int(np.flatnonzero(~whole)[0])
            raise InputError(
                f"{table.path}, {table.place(row)}: the {column} id is {raw[row]}, no whole "
                "number\nis that the column? data.columns=[user, item, rating]"
            )
        return values.cast(pl.Int64)
    if raw.dtype != pl.String:
        return raw
    _check_written(table, column, raw.unique().drop_nulls())
    return raw


def _without_point(ids: "pl.Series") -> "pl.Series":
    """`7.0` as `7`, where every id is written so."""
    import polars as pl

    if ids.dtype != pl.String or not ids[0].endswith(".0"):
        return ids
    is_whole = ids.unique().str.contains(r"^-?(0|[1-9]\d*)\.0+$").all()
    return ids.str.replace(r"\.0+$", "") if is_whole else ids


def _check_written(table: Table, column: str, names: "pl.Series") -> None:
    """Refuses ids with control characters, and such as are longer than an id can be."""
    wrong = names.str.contains(r"[\x00-\x1f\x7f]") | (names.str.len_chars() > LONGEST_ID)
    if wrong.any():
        raw = table.frame[column]
        row = raw.is_in(names.filter(wrong).implode()).arg_true()[0]
        text = raw[row]
        reason = "holds a control character"
        if len(text) > LONGEST_ID:
            reason = f"has {len(text):,} characters, more than {LONGEST_ID}: is that the column?"
        raise InputError(
            f"{table.path}, {table.place(row)}: the {column} id {quoted(text)} {reason}\n"
            "correct it; or say which columns are read: data.columns=[user, item, rating]"
        )


# ratings, weights and times


def _with_ratings(table: Table, policy: Policy) -> tuple[Table, Float64[np.ndarray, " n"]]:
    """The rows that have a rating, and the ratings; refuses the first that is no number."""
    table, numbers = _as_numbers(table, "rating")
    values = numbers.fill_null(np.nan).to_numpy()
    missing = np.isin(values, np.array(policy.missing, np.float64))
    wrong = np.flatnonzero(~np.isfinite(values) & ~missing)
    if len(wrong):
        row = int(wrong[0])
        raise InputError(_no_number(table, row, numbers[row]))
    for value in sorted({*policy.missing} - {*values[missing]}):
        table = _noting(table, f"no rating is {value:g} (data.missing)")
    if missing.any():
        shown = ", ".join(f"{value:g}" for value in policy.missing)
        note = f"{missing.sum():,} ratings of {shown} dropped (data.missing)"
        return _keeping(table, ~missing, note), values[~missing]
    return table, values


def _no_number(table: Table, row: int, number: float | None) -> str:
    written = table.frame["rating"][row]
    if not written and number is None:
        reason = "is empty"
    else:
        reason = f"{quoted(written)} " + ("is not a number" if number is None else "is not finite")
    return (
        f"{table.path}, {table.place(row)}: the rating {reason}\n"
        "correct or delete it; or set data.columns=[user, item, rating]"
    )


def _as_numbers(table: Table, column: str) -> tuple[Table, "pl.Series"]:
    """A column in float64, null where one is no number; decimal commas are read."""
    import polars as pl

    raw = table.frame[column]
    numbers = raw.cast(pl.Float64, strict=False)
    if raw.dtype != pl.String:
        return table, numbers
    wrong = (numbers.is_null() & raw.is_not_null()).arg_true()
    if not len(wrong) or not has_decimal_comma(raw[wrong[0]]):
        return table, numbers
    _refuse_unclear_commas(table, column, wrong[0])
    dotted = raw.str.replace(r"^([+-]?\d+),(\d+)$", "${1}.${2}").cast(pl.Float64, strict=False)
    of = "" if column == "rating" else f" of {column}s"
    return _noting(table, f"decimal commas{of} read as points"), dotted


def _refuse_unclear_commas(table: Table, column: str, row: int) -> None:
    """Refuses commas that separate fields too, or that may be of thousands."""
    raw = table.frame[column]
    with_comma = raw.filter(raw.str.contains(",").fill_null(False))
    reason = None
    if table.separator == ",":
        reason = "where commas separate fields\nwrite 4.5, or separate fields by ;"
    elif raw.str.contains(".", literal=True).any():
        reason = "where others have a point\nwrite all with points"
    elif with_comma.str.contains(r",\d{3}$").all():
        reason = "or one of thousands\nwrite 1.234 or 1234"
    if reason:
        raise InputError(
            f"{table.path}, {table.place(row)}: the {column} {quoted(raw[row])} has a decimal "
            f"comma, {reason}"
        )


def _with_weights(table: Table) -> tuple[Table, Float64[np.ndarray, " n"] | None]:
    """The weights; refuses the first that is no number above 0."""
    if "weight" not in table.frame.columns:
        return table, None
    table, numbers = _as_numbers(table, "weight")
    weights = numbers.fill_null(np.nan).to_numpy()
    wrong = np.flatnonzero(~(weights > 0) | ~np.isfinite(weights))
    if len(wrong):
        row = int(wrong[0])
        written = table.frame["weight"][row]
        written = "" if written is None else written
        raise InputError(
            f"{table.path}, {table.place(row)}: the weight {quoted(written)} is no number "
            "above 0\ncorrect it, or delete the rating"
        )
    return table, weights


def _with_times(table: Table, timed: bool) -> tuple[Table, Int64[np.ndarray, " n"] | None]:
    """The times as whole numbers, dates as seconds since 1970; None where there is none.

    A column that is only called so is left out where one of it is no time.
    """
    if "timestamp" not in table.frame.columns:
        return table, None
    raw = table.frame["timestamp"]
    times = _times(raw)
    if not times.null_count():
        return table, times.to_numpy()
    row = int(times.is_null().arg_true()[0])
    written = "" if raw[row] is None else raw[row]
    reason = f"the timestamp {quoted(written)} is neither a number nor a date"
    if timed:
        raise InputError(f"{table.path}, {table.place(row)}: {reason}\ncorrect it")
    note = f"times are left out: on {table.place(row)} {reason}"
    return _noting(table, note, frame=table.frame.drop("timestamp")), None


def _times(raw: "pl.Series") -> "pl.Series":
    """Seconds since 1970, or numbers as they are; null where one is neither."""
    import polars as pl

    numbers = raw.cast(pl.Int64, strict=False)
    if numbers.null_count():
        numbers = raw.cast(pl.Float64, strict=False).cast(pl.Int64, strict=False)
    if numbers.null_count() and raw.dtype == pl.String:
        try:
            return raw.str.to_datetime(strict=False).dt.epoch("s")
        except pl.exceptions.ComputeError:  # no format that it knows
            return numbers
    return numbers


def _outliers(values: Float64[np.ndarray, " n"]) -> tuple[str, ...]:
    """A warning of the lowest or highest rating, where it stands apart from a regular scale."""
    ends = {"lowest": np.unique(values)}
    ends["highest"] = -ends["lowest"][::-1]
    sign = {"lowest": 1, "highest": -1}
    return tuple(
        _outlier(sign[end] * scale[0], sign[end] * scale[1:], values)
        for end, scale in ends.items()
        if _stands_apart(scale)
    )


def _stands_apart(scale: Float64[np.ndarray, " values"]) -> bool:
    """Whether the first of ascending values is farther off than the others explain."""
    if len(scale) < 4:
        return False
    with np.errstate(over="ignore", invalid="ignore"):  # where the ends of float64 are
        gap, steps = scale[1] - scale[0], np.diff(scale[1:])
        is_regular = len(scale) <= MOST_STEPS and np.ptp(steps) < 1e-6 * steps.max()
        return bool(gap > 2 * steps.sum() or (is_regular and gap > 1.5 * steps.max()))


def _outlier(value: float, others: Float64[np.ndarray, " values"], values: np.ndarray) -> str:
    count = int((values == value).sum())
    written = str(value).removesuffix(".0")
    return (
        f"{count:,} ratings of {written} stand apart from the others, {others.min():g} to "
        f"{others.max():g}: where it means no rating, data.missing=[{written}]"
    )


# pairs that are rated more than once


def _refuse(dataset: Dataset, table: Table) -> Dataset:
    """Refuses the first pair that is rated twice."""
    keys = _pair_keys(dataset)
    ascending = np.sort(keys)
    if (ascending[1:] == ascending[:-1]).any():
        first, repeat = _first_repeat(keys)
        user = quoted(dataset.user_ids[dataset.user[repeat]])
        item = quoted(dataset.item_ids[dataset.item[repeat]])
        raise InputError(
            f"{table.path}, {table.place(repeat)}: user {user} has rated item {item} before, "
            f"on {table.place(first)}\n"
            "delete one of them, or set data.duplicates=mean or data.duplicates=last"
        )
    return dataset


def _mean(dataset: Dataset, table: Table) -> Dataset:
    """One rating a pair, the mean, at the place of the pair's first; weights count, and add up."""
    _, first, group = np.unique(_pair_keys(dataset), return_index=True, return_inverse=True)
    weight = np.ones(len(group)) if dataset.weight is None else dataset.weight
    total = np.bincount(group, weight)
    mean = np.bincount(group, weight * dataset.value) / total
    in_file_order = np.argsort(first)
    merged = _rows_of(dataset, first[in_file_order])
    if dataset.weight is not None:
        merged = replace(merged, weight=total[in_file_order])
    return replace(merged, value=mean[in_file_order])


def _last(dataset: Dataset, table: Table) -> Dataset:
    """The last rating of each pair, at its place."""
    _, from_end = np.unique(_pair_keys(dataset)[::-1], return_index=True)
    last = len(dataset.value) - 1 - from_end
    return _rows_of(dataset, np.sort(last))


def _pair_keys(dataset: Dataset) -> Int64[np.ndarray, " n"]:
    """A number for each rating, the same for the same pair."""
    return dataset.user.astype(np.int64) * dataset.num_items + dataset.item


def _first_repeat(keys: Int64[np.ndarray, " n"]) -> tuple[int, int]:
    """The first row whose pair was rated before, after the row of its first rating."""
    by_key = np.argsort(keys, kind="stable")
    is_repeat = keys[by_key[1:]] == keys[by_key[:-1]]
    repeat = by_key[1:][is_repeat].min()
    first = np.flatnonzero(keys == keys[repeat])[0]
    return int(first), int(repeat)


def _with_test(training: Dataset, test: Dataset) -> Dataset:
    """Both in one, of which `of_test` says which is which.

    The training ratings come first, and their name it has. Raises InputError where they have a
    pair in common.
    """

    def joined(of: Callable[[Dataset], Any]) -> Any:
        columns = of(training), of(test)
        return None if any(column is None for column in columns) else np.concatenate(columns)

    user = joined(lambda one: one.user_ids[one.user])
    item = joined(lambda one: one.item_ids[one.item])
    sha256 = hashlib.sha256(f"{training.sha256} {test.sha256}".encode()).hexdigest()
    both = from_ids(training.name, user, item, joined(lambda one: one.value), sha256)
    of_test = np.arange(len(both.value)) >= len(training.value)
    pair = _pair_keys(both)
    repeated = np.isin(pair[of_test], pair[~of_test])
    if repeated.any():
        at = len(training.value) + int(np.flatnonzero(repeated)[0])
        user_id, item_id = both.user_ids[both.user[at]], both.item_ids[both.item[at]]
        raise InputError(
            f"data.test: user {user_id} and item {item_id} stand in both files "
            f"({int(repeated.sum()):,} pairs do): a test rating must not be trained on"
        )
    both = replace(
        both,
        weight=joined(lambda one: one.weight),
        timestamp=joined(lambda one: one.timestamp),
        reading=training.reading,
        of_test=of_test,
    )
    return both.noting(f"{len(test.value):,} test ratings from {test.name}")


def _rows_of(dataset: Dataset, rows: Int[np.ndarray, " rows"]) -> Dataset:
    arrays = ("user", "item", "value", "weight", "timestamp")
    there = {name: getattr(dataset, name) for name in arrays}
    return replace(
        dataset, **{name: array[rows] for name, array in there.items() if array is not None}
    )


DUPLICATES: dict[str, Callable[[Dataset, Table], Dataset]] = {
    "error": _refuse,
    "mean": _mean,
    "last": _last,
}
