"""CSV and Parquet files as columns of numbers: where the time is, what separates, what is left out, and how far rows are apart."""

import csv
import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import TrainingDataError

__all__ = ["PLAIN", "FileTable", "Layout", "read_file"]

TIME_COLUMNS = ("timestamp", "datetime", "time")
SEPARATORS = ",;\t"
LONG = {"timestamp", "message", "signal", "value"}
"""Columns of the long tables of `cansight log decode`: one row for each value, not for each tick."""


@dataclass(frozen=True)
class Layout:
    """What a file does not say of itself.

    time_column: name or number (from 0) of the column of times; "": timestamp, datetime or time, or rows at equal distances.
    separator: one character; "": comma, semicolon or tab, whichever the header has most of. ignore: globs of columns that are left out.
    period_s: distance of two rows; None: a second.
    """

    time_column: str = ""
    separator: str = ""
    ignore: tuple[str, ...] = ()
    period_s: float | None = None

    def ignores(self, name: str) -> bool:
        """Whether the column is left out."""
        return any(fnmatchcase(name, glob) for glob in self.ignore)

    def check_log(self, path: str) -> None:
        """Raises TrainingDataError where something is said that a CAN log says itself."""
        for option, value in (("--time-column", self.time_column), ("--separator", self.separator), ("--period", self.period_s)):
            if value:
                raise TrainingDataError(f"{path}: {option} is for tables; a CAN log has its own times and is sampled once a second")


PLAIN = Layout()


@dataclass(frozen=True)
class FileTable:
    """names: the k kept columns; offered: all but the time; stamp_ms: (n,) int64 UTC; values: (n, k) float64, NaN = missing."""

    names: tuple[str, ...]
    offered: tuple[str, ...]
    stamp_ms: NDArray[np.int64]
    values: NDArray[np.float64]


def read_file(path: Path, keep: Callable[[str], bool], layout: Layout) -> FileTable:
    """The columns that `keep` and the layout leave. Raises TrainingDataError with file, line and column."""
    return (_read_parquet if path.suffix.lower() == ".parquet" else _read_csv)(path, keep, layout)


def _kept(path: Path, columns: Sequence[str], keep: Callable[[str], bool], layout: Layout) -> tuple[int | None, list[int], tuple[str, ...]]:
    """Where the time is, where the kept columns are, and the names of all columns but the time."""
    if len(set(columns)) != len(columns):
        raise TrainingDataError(f"{path}:1: the column {next(name for name in columns if columns.count(name) > 1)!r} is there twice")
    if set(columns) >= LONG:
        raise TrainingDataError(f"{path}: is a long table, one row for each value; make a wide one: `cansight log decode ... --wide 1`")
    time_column = _time_column(path, columns, layout.time_column)
    rest = [at for at in range(len(columns)) if at != time_column]
    kept = [at for at in rest if not layout.ignores(columns[at]) and keep(columns[at])]
    return time_column, kept, tuple(columns[at] for at in rest)


def _time_column(path: Path, columns: Sequence[str], wanted: str) -> int | None:
    if not wanted:
        lower = [name.lower() for name in columns]
        return next((lower.index(name) for name in TIME_COLUMNS if name in lower), None)
    if wanted in columns:
        return columns.index(wanted)
    if wanted.isascii() and wanted.isdigit() and int(wanted) < len(columns):
        return int(wanted)
    raise TrainingDataError(
        f"{path}:1: --time-column {wanted}: expected the name of a column, or a number from 0 to {len(columns) - 1}; "
        f"the columns are {', '.join(columns)[:120]}"
    )


def _evenly(rows: int, period_s: float | None) -> NDArray[np.int64]:
    times: NDArray[np.int64] = np.rint(np.arange(rows) * 1000 * (period_s or 1.0)).astype(np.int64)
    return times


def _read_csv(path: Path, keep: Callable[[str], bool], layout: Layout) -> FileTable:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise TrainingDataError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise TrainingDataError(f"{path}: not a CSV file (byte {error.start} is not text); for a CAN log give its --dbc") from error
    first = text.split("\n", 1)[0]
    separator = layout.separator or max(SEPARATORS, key=first.count)
    lines = csv.reader(io.StringIO(text), delimiter=separator)
    header = [name.strip() for name in next(lines, [])]
    if len(header) < 2 or not all(header) or any(_is_number(name) for name in header):
        by = repr(separator) if layout.separator else ", ; or tab"
        raise TrainingDataError(
            f"{path}:1: expected a header of column names separated by {by}, found {first[:60]!r}; for a CAN log give its --dbc"
        )
    time_column, kept, offered = _kept(path, header, keep, layout)
    times: list[int] = []
    rows: list[list[float]] = []
    for number, fields in _records(path, lines):
        if len(fields) != len(header):
            raise TrainingDataError(f"{path}:{number}: {len(fields)} fields, expected the header's {len(header)}")
        rows.append([_number(path, number, header[at], fields[at]) for at in kept])
        if time_column is not None:
            times.append(_time_ms(f"{path}:{number}", fields[time_column]))
    stamps = _evenly(len(rows), layout.period_s) if time_column is None else np.array(times, np.int64)
    return FileTable(tuple(header[at] for at in kept), offered, stamps, np.array(rows, np.float64).reshape(len(rows), len(kept)))


def parquet_columns(path: Path, keep: Callable[[str], bool], layout: Layout) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the kept columns, and of all but the time. Raises TrainingDataError."""
    columns = _named(path)
    _, kept, offered = _kept(path, columns, keep, layout)
    return tuple(columns[at] for at in kept), offered


def _named(path: Path) -> list[str]:
    """A Parquet file's columns, but those by which a lake says where a row is from."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise TrainingDataError(f"{path}: reading Parquet needs pyarrow; pip install 'cansight[log]', or give the table as CSV") from error
    try:
        schema = pyarrow.parquet.read_schema(path)
    except OSError as error:
        raise TrainingDataError(f"{path}: cannot be read: {error.strerror or str(error).splitlines()[0]}") from error
    except pyarrow.ArrowException as error:
        raise TrainingDataError(f"{path}: not a Parquet file: {str(error).splitlines()[0]}") from error
    return [field.name for field in schema if field.name == "time" or b"cansight" not in (field.metadata or {})]


def _read_parquet(path: Path, keep: Callable[[str], bool], layout: Layout) -> FileTable:
    columns = _named(path)
    import pyarrow
    import pyarrow.parquet

    time_column, kept, offered = _kept(path, columns, keep, layout)
    try:
        wanted = [columns[at] for at in ([] if time_column is None else [time_column]) + kept]
        table = pyarrow.parquet.read_table(path, columns=wanted)
    except OSError as error:
        raise TrainingDataError(f"{path}: cannot be read: {error.strerror or str(error).splitlines()[0]}") from error
    except pyarrow.ArrowException as error:
        raise TrainingDataError(f"{path}: not a Parquet file: {str(error).splitlines()[0]}") from error
    names = tuple(columns[at] for at in kept)
    values = np.empty((table.num_rows, len(kept)))
    for at, name in enumerate(names):
        values[:, at] = _column(path, name, table.column(name))
    if time_column is None:
        return FileTable(names, offered, _evenly(table.num_rows, layout.period_s), values)
    times = table.column(columns[time_column])
    if pyarrow.types.is_string(times.type) or pyarrow.types.is_large_string(times.type):
        stamps = [_time_ms(f"{path}: row {row}", text or "") for row, text in enumerate(times.to_pylist(), 1)]
        return FileTable(names, offered, np.array(stamps, np.int64), values)
    if pyarrow.types.is_timestamp(times.type):
        seconds = times.cast(pyarrow.timestamp("ms"), safe=False).cast("int64").to_numpy() / 1000
    else:
        seconds = _column(path, columns[time_column], times)
    if not np.isfinite(seconds).all():
        row = int(np.flatnonzero(~np.isfinite(seconds))[0]) + 1
        raise TrainingDataError(f"{path}: column {columns[time_column]!r}: row {row} has no time")
    return FileTable(names, offered, np.rint(seconds * 1000).astype(np.int64), values)


def _column(path: Path, name: str, column: Any) -> NDArray[np.float64]:
    """(n,) a column of numbers; null = NaN."""
    try:
        numbers: NDArray[np.float64] = column.cast("float64").to_numpy()
    except (ValueError, NotImplementedError) as error:  # pyarrow's errors of values and types are of these
        raise TrainingDataError(f"{path}: column {name!r}: expected numbers, found {column.type}; leave it out with --ignore") from error
    return numbers


def _records(path: Path, lines: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
    number = 1
    try:
        for number, fields in enumerate(lines, 2):
            if fields:
                yield number, fields
    except csv.Error as error:
        raise TrainingDataError(f"{path}:{number + 1}: not CSV: {error}") from error


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _number(path: Path, line: int, name: str, field: str) -> float:
    field = field.strip()
    if not field:
        return math.nan
    try:
        return float(field)
    except ValueError as error:
        raise TrainingDataError(
            f"{path}:{line}: column {name!r}: expected a number, found {field[:40]!r}; leave it out with --ignore"
        ) from error


def _time_ms(where: str, field: str) -> int:
    try:
        if _is_number(field):
            return round(float(field) * 1000)
        moment = datetime.fromisoformat(field.strip())
        return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError) as error:
        raise TrainingDataError(f"{where}: expected a time (seconds since 1970 or ISO 8601), found {field[:40]!r}") from error
