"""Drives as tables: CAN logs (decoded and sampled exactly as on the vehicle), CSV or Parquet files become one row per tick.

One file is one drive. Splitting healthy data into what is fitted on and what is held out goes by drive, never by row.
"""

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dbc.catalogue import IDENTITY, Catalogue
from dbc.compiler import CompiledDbc, compile_dbc
from dbc.decoder import Decoder
from dbc.integrity import with_checks
from dbc.logs import LogReader, open_log
from dbc.logs.formats import format_of
from dbc.network import network_names, network_units
from dbc.protocols import Reassembler
from dbc.sampler import Sampler, Snapshot
from dbc.schema import Schema
from models.errors import TrainingDataError
from models.lake_files import read_lake
from models.table_files import PLAIN, Layout, read_file

__all__ = [
    "Drive",
    "Layout",
    "Table",
    "check_pace",
    "chosen_figures",
    "compiled_for",
    "fingerprint",
    "is_table",
    "read_columns",
    "read_logs",
    "read_table",
    "read_tables",
    "sample_logs",
]

TABLE_SUFFIXES = (".csv", ".parquet")
HEAD_BYTES = 64 * 1024  # of a file, that tell what it is
STEP_S = (0.5, 1.5)
"""Ticks this far apart follow one another; models/fit.py and models/runtime.py."""
Progress = Callable[[str], None]
MOSTLY_UNKNOWN = 0.5
"""Of a log's frames: more of them without a message in the DBC are worth a word, as it may be another car's."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Drive:
    """One recording. tick_ms: (n,) int64 UTC; values: (n, k) float64, NaN = not valid.

    stamp_ms: (n,) int64 UTC, the rows' own times where they are not a second apart: a detector counts ticks, so that in `tick_ms` each
    row is a second. None: `tick_ms` is the rows' times.
    """

    source: str
    tick_ms: NDArray[np.int64]
    values: NDArray[np.float64]
    stamp_ms: NDArray[np.int64] | None = None

    def choose(self, keep: Sequence[int]) -> "Drive":
        """The columns `keep`, in that order."""
        return Drive(self.source, self.tick_ms, self.values[:, np.array(keep, np.int64)], self.stamp_ms)

    def rows(self, first: int, last: int | None) -> "Drive":
        """The rows from `first` to before `last`; None: to the end."""
        stamps = None if self.stamp_ms is None else self.stamp_ms[first:last]
        return Drive(self.source, self.tick_ms[first:last], self.values[first:last], stamps)


@dataclass(frozen=True)
class Table:
    """Drives over the same k signals. schema and columns (k,) say where the signals are in a DBC's schema; None for tables.

    notes: a line each on what is odd about the files, and no error.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    drives: tuple[Drive, ...]
    schema: Schema | None = None
    columns: NDArray[np.int64] | None = None
    notes: tuple[str, ...] = ()

    def choose(self, keep: Sequence[int]) -> "Table":
        """The same drives with the columns `keep`, in that order."""
        return replace(
            self,
            names=tuple(self.names[at] for at in keep),
            units=tuple(self.units[at] for at in keep),
            drives=tuple(drive.choose(keep) for drive in self.drives),
            columns=None if self.columns is None else self.columns[np.array(keep, np.int64)],
        )

    def rows(self, first: int, last: int | None) -> "Table":
        """Of each drive, the rows from `first` to before `last`; None: to its end."""
        return replace(self, drives=tuple(drive.rows(first, last) for drive in self.drives))


def read_table(
    paths: Sequence[str],
    dbc_files: Sequence[str],
    signals: Sequence[str] = (),
    progress: Progress | None = None,
    layout: Layout = PLAIN,
    catalogue: Catalogue | None = None,
) -> Table:
    """Tables by their names in .csv and .parquet, CAN logs otherwise, where DBC files are given; without them, tables. A .csv of frames is
    a log.

    signals: globs over "Message.Signal"; none means all. With DBC files a table's columns are signals of theirs, with physical values.
    catalogue: of which counters and checksums are checked in logs, as in a vehicle that has it.
    """
    if not dbc_files:
        return read_tables(paths, signals, progress, layout)
    tables = [path for path in paths if is_table(path) or Path(path).is_dir()]
    if not tables:
        return _without(read_logs(paths, dbc_files, signals, progress, catalogue), layout, paths[0])
    if len(tables) < len(paths):
        log = next(path for path in paths if path not in tables)
        raise TrainingDataError(f"{log}: is no table by its name, but {tables[0]} is; expected all tables or all CAN logs")
    return _of_schema(read_tables(paths, signals, progress, layout), compile_dbc(dbc_files).schema, paths[0])


def is_table(path: str) -> bool:
    """By its name, unless it is a log of frames that is called .csv, as SavvyCAN's and python-can's are."""
    suffix = Path(path).suffix.lower()
    if suffix != ".csv":
        return suffix in TABLE_SUFFIXES
    try:
        with Path(path).open("rb") as file:
            return format_of(file.read(HEAD_BYTES)) is None
    except OSError:  # who reads it says so
        return True


def _of_schema(table: Table, schema: Schema, path: str) -> Table:
    """The table with its columns found in the DBC's schema, in the schema's order."""
    numbers = {name: number for number, name in enumerate(schema.names)}
    if strange := next((name for name in table.names if name not in numbers), None):
        raise TrainingDataError(f"{path}: the DBC has no signal {strange!r}; leave the column out with --ignore, or leave --dbc out")
    columns = np.array([numbers[name] for name in table.names], np.int64)
    ordered = table.choose(np.argsort(columns).tolist())
    columns = np.sort(columns)
    return Table(ordered.names, tuple(schema.units[at] for at in columns), ordered.drives, schema, columns)


def _without(table: Table, layout: Layout, path: str) -> Table:
    """Of what CAN logs held, without the signals that the layout ignores; the rest of it has no meaning there."""
    layout.check_log(path)
    _note_ignored(layout, table.names)
    return table.choose([at for at, name in enumerate(table.names) if not layout.ignores(name)]) if layout.ignore else table


def read_logs(
    paths: Sequence[str],
    dbc_files: Sequence[str],
    signals: Sequence[str] = (),
    progress: Progress | None = None,
    catalogue: Catalogue | None = None,
) -> Table:
    """Decode and sample each log as the edge does. Raises TrainingDataError, and dbc's errors for files that cannot be read."""
    compiled = compiled_for(dbc_files, catalogue)
    return sample_logs(paths, compiled, np.array(_choose(compiled.schema.names, signals, "the DBC"), np.int64), progress)


def compiled_for(dbc_files: Sequence[str], catalogue: Catalogue | None = None) -> CompiledDbc:
    """As a vehicle with this catalogue compiles it. Raises dbc's errors."""
    return with_checks(compile_dbc(dbc_files), catalogue.checks if catalogue is not None else {})


def chosen_figures(schema: Schema, globs: Sequence[str]) -> list[int]:
    """Columns of the network's figures that fit, as `sample_logs` takes them; none of a message that says whose car it is.

    Raises TrainingDataError for a glob that fits none.
    """
    names, catalogue = network_names(schema), Catalogue.empty()
    return [len(schema) + at for at in _choose(names, globs, "the network's figures") if catalogue.consent_class(names[at]) != IDENTITY]


def sample_logs(paths: Sequence[str], compiled: CompiledDbc, columns: NDArray[np.int64], progress: Progress | None = None) -> Table:
    """The signals `columns` of the schema (and of the network's figures, behind them), in that order, at every tick of each log. Raises as
    `read_logs`."""
    schema = compiled.schema
    names, units = (*schema.names, *network_names(schema)), (*schema.units, *network_units(schema))
    drives: list[Drive] = []
    notes: list[str] = []
    for path in paths:
        if progress:
            progress(path)
        sampled = _Sampled(path, compiled)
        times: list[int] = []
        rows: list[NDArray[np.float64]] = []
        for snapshot in sampled.snapshots():
            times.append(snapshot.tick_ns // 1_000_000)
            rows.append(snapshot.inputs(columns))
        values = np.array(rows, np.float64).reshape(len(rows), len(columns))
        if not np.isfinite(values).any():
            channels = ", ".join(sorted(sampled.channels)) or "none"
            raise TrainingDataError(
                f"{path}: no frame in it belongs to a chosen signal of the DBC; its channels are {channels}, "
                f"the DBC's are {', '.join(schema.channels)} (write --dbc FILE@CHANNEL, with the DBC of this bus)"
            )
        notes += sampled.notes()
        drives.append(Drive(str(path), np.array(times, np.int64), values))
    return Table(tuple(names[at] for at in columns), tuple(units[at] for at in columns), tuple(drives), schema, columns, notes=tuple(notes))


class _Sampled:
    """A log on its way to snapshots, by the same stages as on the vehicle, and what is odd about it."""

    def __init__(self, path: str, compiled: CompiledDbc) -> None:
        self._reader: LogReader = open_log(path)
        self._reassembler, self._decoder = Reassembler(compiled), Decoder(compiled, compiled.schema.channels)
        self._sampler = Sampler(compiled.schema)
        self._frames = self._unknown = 0
        self.channels: set[str] = set()

    def snapshots(self) -> Iterator[Snapshot]:
        for block in self._reader:
            self.channels.update(block.channels)
            whole = self._reassembler.feed(block)
            signals = self._decoder.decode(whole)
            self._frames += len(whole)
            self._unknown += len(whole) - signals.frames_known - self._reassembler.parts
            yield from self._sampler.feed(whole, signals)
        yield from self._sampler.finish()

    def notes(self) -> Iterator[str]:
        """After the last snapshot."""
        reader = self._reader
        if self._unknown > MOSTLY_UNKNOWN * self._frames:
            share = self._unknown / self._frames
            yield f"{reader.path}: the DBC has no message for {share:.0%} of its frames; is it of this vehicle, and of this channel?"
        if reader.skipped:
            yield f"{reader.path}: {reader.skipped} lines are no frames, the first is line {reader.first_skipped}"
        if reader.damage:
            yield f"{reader.path}: damaged: {reader.damage}; the rest is read"


def read_tables(paths: Sequence[str], signals: Sequence[str] = (), progress: Progress | None = None, layout: Layout = PLAIN) -> Table:
    """CSV or Parquet files, one drive each, the same columns in each; CSV with a header, separated by comma, semicolon or tab.

    A column timestamp (seconds since 1970), datetime or time (ISO 8601) gives the ticks; without one, rows are a second apart. `layout`
    says otherwise. An empty field (a null) is a missing value. Raises TrainingDataError with file, line and column.
    """
    names, offered, drives = _read(paths, lambda name: not signals or any(fnmatchcase(name, glob) for glob in signals), progress, layout)
    _note_ignored(layout, offered)
    _choose([name for name in offered if not layout.ignores(name)], signals, "the table")
    if not names:
        raise TrainingDataError(f"{paths[0]}: expected a time and at least one signal; found {', '.join(offered)[:80]}")
    return Table(names, ("",) * len(names), drives)


def read_columns(paths: Sequence[str], wanted: Sequence[str], progress: Progress | None = None, layout: Layout = PLAIN) -> Table:
    """As `read_tables`, of the columns `wanted` those that there are; what else a table holds is not even looked at."""
    chosen = set(wanted)
    names, _, drives = _read(paths, chosen.__contains__, progress, layout)
    return Table(names, ("",) * len(names), drives)


def _read(
    paths: Sequence[str], keep: Callable[[str], bool], progress: Progress | None, layout: Layout
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[Drive, ...]]:
    """Names of the kept columns, names of all of the first file but the time, drives."""
    first: tuple[str, ...] | None = None
    offered: tuple[str, ...] = ()
    drives = []
    for path in paths:
        if progress:
            progress(path)
        files = read_lake(Path(path), keep, layout) if Path(path).is_dir() else [(str(path), read_file(Path(path), keep, layout))]
        for source, file in files:
            if first is None:
                first, offered = file.names, file.offered
            elif file.names != first:
                raise TrainingDataError(f"{path}: its columns are not those of {paths[0]}; every file of a training must have the same")
            drives.append(_drive(source, file.stamp_ms, file.values, layout.period_s))
    if first is None:
        raise TrainingDataError("no data files; give at least one log or table")
    return first, offered, tuple(drives)


def _drive(source: str, stamp_ms: NDArray[np.int64], values: NDArray[np.float64], period_s: float | None) -> Drive:
    if period_s is None:
        return Drive(source, stamp_ms, values)
    return Drive(source, np.rint(stamp_ms / period_s).astype(np.int64), values, stamp_ms)


def _note_ignored(layout: Layout, names: Sequence[str]) -> None:
    """A misspelt column would be learned from; one that is only in the files to score is no mistake, so it is no error."""
    for glob in layout.ignore:
        if not any(fnmatchcase(name, glob) for name in names):
            log.warning("no column fits --ignore %s", glob)


def check_pace(table: Table, ticks: int, gap_s: int) -> None:
    """Raises TrainingDataError where rows are so far apart that each begins anew, for a window of `ticks` or an alarm with `gap_s`."""
    for drive in table.drives:
        if len(drive.tick_ms) < 2:
            continue
        step_s = float(np.median(np.diff(drive.tick_ms))) / 1000
        if not 0 < step_s <= gap_s or (ticks > 1 and not STEP_S[0] <= step_s <= STEP_S[1]):
            raise TrainingDataError(
                f"{drive.source}: rows are {step_s:g} s apart, ticks are a second; write --period {step_s:g} to take each row as a tick"
                if step_s > 0
                else f"{drive.source}: most rows are not later than the row before; name another --time-column, or sort the table"
            )


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
