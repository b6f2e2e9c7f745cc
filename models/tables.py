"""Drives as tables: CAN logs (decoded and sampled exactly as on the vehicle), CSV or Parquet files become one row per tick.

One file is one drive. Splitting healthy data into what is fitted on and what is held out goes by drive, never by row.
"""

import csv
import hashlib
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

from dbc.compiler import CompiledDbc, compile_dbc
from dbc.decoder import Decoder
from dbc.logs import open_log
from dbc.sampler import Sampler, Snapshot
from dbc.schema import Schema
from models.errors import TrainingDataError

__all__ = ["Drive", "Table", "fingerprint", "read_logs", "read_table", "read_tables", "sample_logs"]

TABLE_SUFFIXES = (".csv", ".parquet")
TIME_COLUMNS = ("timestamp", "datetime", "time")
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Drive:
    """One recording. tick_ms: (n,) int64 UTC; values: (n, k) float64, NaN = not valid."""

    source: str
    tick_ms: NDArray[np.int64]
    values: NDArray[np.float64]

    def choose(self, keep: Sequence[int]) -> "Drive":
        """The columns `keep`, in that order."""
        return Drive(self.source, self.tick_ms, self.values[:, np.array(keep, np.int64)])


@dataclass(frozen=True)
class Table:
    """Drives over the same k signals. schema and columns (k,) say where the signals are in a DBC's schema; None for tables."""

    names: tuple[str, ...]
    units: tuple[str, ...]
    drives: tuple[Drive, ...]
    schema: Schema | None = None
    columns: NDArray[np.int64] | None = None

    def choose(self, keep: Sequence[int]) -> "Table":
        """The same drives with the columns `keep`, in that order."""
        return Table(
            names=tuple(self.names[at] for at in keep),
            units=tuple(self.units[at] for at in keep),
            drives=tuple(drive.choose(keep) for drive in self.drives),
            schema=self.schema,
            columns=None if self.columns is None else self.columns[np.array(keep, np.int64)],
        )

    def rows(self, first: int, last: int | None) -> "Table":
        """Of each drive, the rows from `first` to before `last`; None: to its end."""
        drives = tuple(Drive(drive.source, drive.tick_ms[first:last], drive.values[first:last]) for drive in self.drives)
        return Table(self.names, self.units, drives, self.schema, self.columns)


def read_table(paths: Sequence[str], dbc_files: Sequence[str], signals: Sequence[str] = (), progress: Progress | None = None) -> Table:
    """Tables by their names in .csv and .parquet, CAN logs otherwise, where DBC files are given; without them, tables.

    signals: globs over "Message.Signal"; none means all. With DBC files a table's columns are signals of theirs, with physical values.
    """
    if not dbc_files:
        return read_tables(paths, signals, progress)
    tables = [path for path in paths if Path(path).suffix.lower() in TABLE_SUFFIXES]
    if not tables:
        return read_logs(paths, dbc_files, signals, progress)
    if len(tables) < len(paths):
        log = next(path for path in paths if path not in tables)
        raise TrainingDataError(f"{log}: is no table by its name, but {tables[0]} is; expected all tables or all CAN logs")
    return _of_schema(read_tables(paths, signals, progress), compile_dbc(dbc_files).schema, paths[0])


def _of_schema(table: Table, schema: Schema, path: str) -> Table:
    """The table with its columns found in the DBC's schema, in the schema's order."""
    numbers = {name: number for number, name in enumerate(schema.names)}
    if strange := next((name for name in table.names if name not in numbers), None):
        raise TrainingDataError(f"{path}: the DBC has no signal {strange!r}; leave the column out with --signals, or leave --dbc out")
    columns = np.array([numbers[name] for name in table.names], np.int64)
    ordered = table.choose(np.argsort(columns).tolist())
    columns = np.sort(columns)
    return Table(ordered.names, tuple(schema.units[at] for at in columns), ordered.drives, schema, columns)


def read_logs(paths: Sequence[str], dbc_files: Sequence[str], signals: Sequence[str] = (), progress: Progress | None = None) -> Table:
    """Decode and sample each log as the edge does. Raises TrainingDataError, and dbc's errors for files that cannot be read."""
    compiled = compile_dbc(dbc_files)
    return sample_logs(paths, compiled, np.array(_choose(compiled.schema.names, signals, "the DBC"), np.int64), progress)


def sample_logs(paths: Sequence[str], compiled: CompiledDbc, columns: NDArray[np.int64], progress: Progress | None = None) -> Table:
    """The signals `columns` of the schema, in that order, at every tick of each log. Raises as `read_logs`."""
    schema = compiled.schema
    drives = []
    for path in paths:
        if progress:
            progress(path)
        sampler, decoder = Sampler(schema), Decoder(compiled, schema.channels)
        channels: set[str] = set()
        times: list[int] = []
        rows: list[NDArray[np.float64]] = []
        for snapshot in _snapshots(path, decoder, sampler, channels):
            times.append(snapshot.tick_ns // 1_000_000)
            rows.append(snapshot.value[columns])
        values = np.array(rows, np.float64).reshape(len(rows), len(columns))
        if not np.isfinite(values).any():
            raise TrainingDataError(
                f"{path}: no frame in it belongs to a chosen signal of the DBC; its channels are {', '.join(sorted(channels)) or 'none'}, "
                f"the DBC's are {', '.join(schema.channels)} (write --dbc FILE@CHANNEL)"
            )
        drives.append(Drive(str(path), np.array(times, np.int64), values))
    return Table(tuple(schema.names[at] for at in columns), tuple(schema.units[at] for at in columns), tuple(drives), schema, columns)


def _snapshots(path: str, decoder: Decoder, sampler: Sampler, channels: set[str]) -> Iterator[Snapshot]:
    for block in open_log(path):
        channels.update(block.channels)
        yield from sampler.feed(block, decoder.decode(block))
    yield from sampler.finish()


def read_tables(paths: Sequence[str], signals: Sequence[str] = (), progress: Progress | None = None) -> Table:
    """CSV or Parquet files, one drive each, the same columns in each; CSV with a header, separated by comma, semicolon or tab.

    A column timestamp (seconds since 1970), datetime or time (ISO 8601) gives the ticks; without one, rows are a second apart. An empty
    field (a null) is a missing value. Raises TrainingDataError with file, line and column.
    """
    header: tuple[str, ...] | None = None
    drives = []
    for path in paths:
        if progress:
            progress(path)
        names, times, values = _read_parquet(Path(path), signals) if Path(path).suffix.lower() == ".parquet" else _read_csv_file(Path(path))
        if header is not None and names != header:
            raise TrainingDataError(f"{path}: its columns are not those of {paths[0]}; every file of a training must have the same")
        header = names
        drives.append(Drive(str(path), times, values))
    if header is None:
        raise TrainingDataError("no data files; give at least one log or table")
    table = Table(header, ("",) * len(header), tuple(drives))
    return table.choose(_choose(header, signals, "the table"))


def fingerprint(table: Table) -> str:
    """SHA-256 (hex) over names, ticks and values: the same whatever the files are called and in which log format they are."""
    digest = hashlib.sha256(repr((table.names, table.units)).encode())
    for drive in table.drives:
        digest.update(np.ascontiguousarray(drive.tick_ms, "<i8").tobytes())
        digest.update(np.ascontiguousarray(drive.values, "<f8").tobytes())
    return digest.hexdigest()


def _choose(names: Sequence[str], globs: Sequence[str], where: str) -> list[int]:
    if not globs:
        return list(range(len(names)))
    for glob in globs:
        if not any(fnmatchcase(name, glob) for name in names):
            raise TrainingDataError(f"no signal of {where} fits {glob!r}; signals are named Message.Signal, and * and ? may be used")
    return [at for at, name in enumerate(names) if any(fnmatchcase(name, glob) for glob in globs)]


def _read_csv_file(path: Path) -> tuple[tuple[str, ...], NDArray[np.int64], NDArray[np.float64]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise TrainingDataError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise TrainingDataError(f"{path}: not a CSV file (byte {error.start} is not text); for a CAN log give its --dbc") from error
    first = text.split("\n", 1)[0]
    separator = max(",;\t", key=first.count)
    lines = csv.reader(io.StringIO(text), delimiter=separator)
    header = [name.strip() for name in next(lines, [])]
    if len(header) < 2 or not all(header) or any(_is_number(name) for name in header):
        raise TrainingDataError(
            f"{path}:1: expected a header of column names separated by , ; or tab, found {first[:60]!r}; for a CAN log give its --dbc"
        )
    if len(set(header)) != len(header):
        raise TrainingDataError(f"{path}:1: the column {next(name for name in header if header.count(name) > 1)!r} is there twice")
    time_column = next((header.index(name) for name in TIME_COLUMNS if name in header), None)
    times: list[int] = []
    rows: list[list[float]] = []
    for number, fields in _records(path, lines):
        if len(fields) != len(header):
            raise TrainingDataError(f"{path}:{number}: {len(fields)} fields, expected the header's {len(header)}")
        row = [
            _number(path, number, name, field) if at != time_column else 0.0
            for at, (name, field) in enumerate(zip(header, fields, strict=True))
        ]
        times.append(len(times) * 1000 if time_column is None else _time_ms(path, number, fields[time_column]))
        rows.append(row)
    values = np.array(rows, np.float64).reshape(len(rows), len(header))
    keep = [at for at in range(len(header)) if at != time_column]
    return tuple(header[at] for at in keep), np.array(times, np.int64), values[:, keep]


def _read_parquet(path: Path, globs: Sequence[str]) -> tuple[tuple[str, ...], NDArray[np.int64], NDArray[np.float64]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise TrainingDataError(f"{path}: reading Parquet needs pyarrow; pip install 'cansight[log]', or give the table as CSV") from error
    try:
        columns = pyarrow.parquet.read_schema(path).names
        wanted = [name for name in columns if name in TIME_COLUMNS or not globs or any(fnmatchcase(name, glob) for glob in globs)]
        table = pyarrow.parquet.read_table(path, columns=wanted)
    except OSError as error:
        raise TrainingDataError(f"{path}: cannot be read: {error.strerror or str(error).splitlines()[0]}") from error
    except pyarrow.ArrowException as error:
        raise TrainingDataError(f"{path}: not a Parquet file: {str(error).splitlines()[0]}") from error
    names = table.column_names
    time_column = next((name for name in TIME_COLUMNS if name in names), None)
    kept = tuple(name for name in names if name != time_column)
    if not kept and globs:
        _choose([name for name in columns if name not in TIME_COLUMNS], globs, "the table")
    if not kept or len(set(columns)) != len(columns):
        raise TrainingDataError(f"{path}: expected columns of different names, a time and at least one signal; found {len(columns)}")
    values = np.empty((table.num_rows, len(kept)))
    for at, name in enumerate(kept):
        values[:, at] = _column(path, name, table.column(name))
    if time_column is None:
        return kept, np.arange(table.num_rows, dtype=np.int64) * 1000, values
    times = table.column(time_column)
    if pyarrow.types.is_timestamp(times.type):
        seconds = times.cast(pyarrow.timestamp("ms"), safe=False).cast("int64").to_numpy() / 1000
    else:
        seconds = _column(path, time_column, times)
    if not np.isfinite(seconds).all():
        raise TrainingDataError(f"{path}: column {time_column!r}: row {int(np.flatnonzero(~np.isfinite(seconds))[0]) + 1} has no time")
    return kept, np.rint(seconds * 1000).astype(np.int64), values


def _column(path: Path, name: str, column: Any) -> NDArray[np.float64]:
    """(n,) a column of numbers; null = NaN."""
    try:
        numbers: NDArray[np.float64] = column.cast("float64").to_numpy()
    except (ValueError, NotImplementedError) as error:  # pyarrow's errors of values and types are of these
        raise TrainingDataError(f"{path}: column {name!r}: expected numbers, found {column.type}; leave it out with --signals") from error
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
            f"{path}:{line}: column {name!r}: expected a number, found {field[:40]!r}; leave it out with --signals"
        ) from error


def _time_ms(path: Path, line: int, field: str) -> int:
    try:
        if _is_number(field):
            return round(float(field) * 1000)
        moment = datetime.fromisoformat(field.strip())
        return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError) as error:
        raise TrainingDataError(f"{path}:{line}: expected a time (seconds since 1970 or ISO 8601), found {field[:40]!r}") from error
