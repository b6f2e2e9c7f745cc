"""The embedded store: SQLite in WAL mode, values in compressed blocks of a minute.

A batch is queryable as soon as it is written: it lies in `batches` under its (stream, sequence) until its minute is over, then
its ticks are merged into that minute's block in `blocks`. Merging overwrites equal ticks with equal values, so a batch
that comes again after its minute was merged changes nothing. A *layout* says which signals a blob's columns are; schemas are kept
too, so that old values stay readable when a DBC is gone.
"""

import os
import queue
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from cloud.errors import CloudError
from cloud.events import MOST_LAYOUTS, FindingEvent, GapEvent, TickRows
from cloud.store import AT_ONCE, SIGNAL_AGE_MS, Series, SignalValue, StoreUnavailable, VehicleSummary, bucket_ms, nobody, thinned
from cloud.stores import blocks
from cloud.stores.schemas import dump_schema, load_schema
from dbc.schema import Schema

MINUTE_MS = 60_000
MERGE_BATCHES = 48  # small batches that a vehicle's layout may have before they are merged: bounds what a query must open
WHOLE = 1 << 20  # columns in a section of a small batch: all

_TABLES = """
CREATE TABLE IF NOT EXISTS schemas (schema_id BLOB PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS layouts (id INTEGER PRIMARY KEY, schema_id BLOB NOT NULL, columns BLOB NOT NULL, UNIQUE (schema_id, columns));
CREATE TABLE IF NOT EXISTS vehicles (id INTEGER PRIMARY KEY, vehicle TEXT NOT NULL UNIQUE, model TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS batches (
  id INTEGER PRIMARY KEY, stream BLOB NOT NULL, sequence INTEGER NOT NULL, vehicle INTEGER NOT NULL, layout INTEGER NOT NULL,
  first_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL, data BLOB NOT NULL, UNIQUE (stream, sequence));
CREATE INDEX IF NOT EXISTS batches_time ON batches (vehicle, last_ms);
CREATE TABLE IF NOT EXISTS blocks (
  id INTEGER PRIMARY KEY, vehicle INTEGER NOT NULL, layout INTEGER NOT NULL, minute INTEGER NOT NULL,
  first_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL, data BLOB NOT NULL, UNIQUE (vehicle, layout, minute));
CREATE INDEX IF NOT EXISTS blocks_minute ON blocks (vehicle, minute);
CREATE INDEX IF NOT EXISTS blocks_time ON blocks (vehicle, last_ms);
CREATE TABLE IF NOT EXISTS findings (
  stream BLOB NOT NULL, sequence INTEGER NOT NULL, vehicle TEXT NOT NULL, tick_ms INTEGER NOT NULL, body BLOB NOT NULL,
  PRIMARY KEY (stream, sequence)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS gaps (
  stream BLOB NOT NULL, sequence INTEGER NOT NULL, vehicle TEXT NOT NULL, received_ms INTEGER NOT NULL, body BLOB NOT NULL,
  PRIMARY KEY (stream, sequence)) WITHOUT ROWID;
"""


class EmbeddedStore:
    """`with EmbeddedStore(path) as store`. One writer at a time; any number of readers, each on its own connection."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._writer: sqlite3.Connection | None = None
        self._readers: queue.LifoQueue[sqlite3.Connection] = queue.LifoQueue()
        self._vehicles: dict[str, int] = {}
        self._layout_ids: dict[tuple[bytes, bytes], int] = {}
        self._layouts: dict[int, _Layout] = {}
        self._small: dict[tuple[int, int], int] = defaultdict(int)  # (vehicle, layout) -> batches not merged yet

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._writer = self._connect()
            self._writer.executescript(_TABLES)
        except (OSError, sqlite3.Error) as error:
            raise CloudError(f"{self.path}: the embedded store cannot be opened: {error}") from error
        self._recall(self._writer)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        while not self._readers.empty():
            self._readers.get_nowait().close()
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, check_same_thread=False, isolation_level=None, timeout=30)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")  # values are queryable without waiting for the disk; `flush` waits for it
        return connection

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        assert self._writer is not None, "the store is used outside its `with`"
        with self._lock:
            try:
                self._writer.execute("BEGIN IMMEDIATE")
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException as error:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                self._recall(self._writer)
                if isinstance(error, sqlite3.OperationalError):  # disk full, locked, I/O error: it may pass
                    raise StoreUnavailable(f"{self.path}: {error}") from error
                raise

    def _recall(self, connection: sqlite3.Connection) -> None:
        """Read what is remembered between writes: at the start, and after a transaction that took its ids with it."""
        self._vehicles = dict(connection.execute("SELECT vehicle, id FROM vehicles"))
        self._layout_ids.clear()
        counts = connection.execute("SELECT vehicle, layout, count(*) FROM batches GROUP BY vehicle, layout")
        self._small = defaultdict(int, {(vehicle, layout): count for vehicle, layout, count in counts})

    @contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        try:
            connection = self._readers.get_nowait()
        except queue.Empty:
            connection = self._connect()
        try:
            yield connection
        finally:
            self._readers.put(connection)

    # writing

    def write(self, rows: Sequence[TickRows], stored: Callable[[Sequence[TickRows]], None] = nobody) -> None:
        for start in range(0, len(rows), AT_ONCE):
            some = rows[start : start + AT_ONCE]
            self._write(some)
            stored(some)

    def _write(self, rows: Sequence[TickRows]) -> None:
        """Store batches: one transaction. Many ticks of one vehicle go straight into their minutes' blocks."""
        groups: dict[tuple[int, int], list[TickRows]] = defaultdict(list)
        with self._transaction() as connection:
            for batch in rows:
                if len(batch.tick_ms):
                    groups[self._vehicle(connection, batch), self._layout_id(connection, batch)].append(batch)
            for key, batches in groups.items():
                if len(batches) >= MERGE_BATCHES:
                    self._merge(connection, key, [(batch.tick_ms, batch.raw, batch.reason) for batch in batches])
                    continue
                for batch in batches:
                    data = blocks.encode(batch.tick_ms, batch.raw, batch.reason, WHOLE)
                    first, last = int(batch.tick_ms.min()), int(batch.tick_ms.max())
                    done = connection.execute(
                        "INSERT OR IGNORE INTO batches (stream, sequence, vehicle, layout, first_ms, last_ms, data) VALUES (?,?,?,?,?,?,?)",
                        (batch.stream, batch.sequence, *key, first, last, data),
                    )
                    self._small[key] += done.rowcount
                if self._small[key] >= MERGE_BATCHES:
                    self._merge_small(connection, key)

    def write_findings(self, findings: Sequence[FindingEvent]) -> None:
        with self._transaction() as connection:
            connection.executemany(
                "INSERT OR IGNORE INTO findings VALUES (?,?,?,?,?)",
                [(f.stream, f.sequence, f.vehicle, f.finding.tick_ms, msgspec.msgpack.encode(f.finding)) for f in findings],
            )

    def write_gaps(self, gaps: Sequence[GapEvent]) -> None:
        with self._transaction() as connection:
            connection.executemany(
                "INSERT OR IGNORE INTO gaps VALUES (?,?,?,?,?)",
                [(g.stream, g.sequence, g.vehicle, g.received_ms, msgspec.msgpack.encode(g.gap)) for g in gaps],
            )

    def flush(self) -> None:
        """In SQLite's NORMAL mode the log of writes is synced only at a checkpoint; here it is synced as it stands."""
        try:
            descriptor = os.open(f"{self.path}-wal", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return  # checkpointed and closed
        try:
            os.fsync(descriptor)
        except OSError as error:
            raise StoreUnavailable(f"{self.path}-wal: {error.strerror or error}") from error
        finally:
            os.close(descriptor)

    def _vehicle(self, connection: sqlite3.Connection, batch: TickRows) -> int:
        if batch.vehicle not in self._vehicles:
            connection.execute("INSERT INTO vehicles (vehicle, model) VALUES (?,?)", (batch.vehicle, batch.model))
            self._vehicles[batch.vehicle] = _one(connection, "SELECT id FROM vehicles WHERE vehicle = ?", batch.vehicle)
        return self._vehicles[batch.vehicle]

    def _layout_id(self, connection: sqlite3.Connection, batch: TickRows) -> int:
        columns = batch.columns.astype("<i4").tobytes()
        key = (batch.schema.schema_id, columns)
        if key not in self._layout_ids:
            if len(self._layout_ids) >= MOST_LAYOUTS:
                self._layout_ids.clear()
            connection.execute("INSERT OR IGNORE INTO schemas VALUES (?,?)", (batch.schema.schema_id, dump_schema(batch.schema)))
            connection.execute("INSERT OR IGNORE INTO layouts (schema_id, columns) VALUES (?,?)", key)
            self._layout_ids[key] = _one(connection, "SELECT id FROM layouts WHERE schema_id = ? AND columns = ?", *key)
        return self._layout_ids[key]

    def _merge_small(self, connection: sqlite3.Connection, key: tuple[int, int]) -> None:
        """Move the batches of (vehicle, layout) into their minutes' blocks, but those of the newest minute, which is still growing."""
        select = "SELECT {} FROM batches WHERE vehicle = ? AND layout = ? "
        minute = _one(connection, select.format("max(last_ms)"), *key) // MINUTE_MS * MINUTE_MS
        old = connection.execute(select.format("id, data") + "AND (last_ms < ? OR ?)", (*key, minute, self._small[key] > 2 * MERGE_BATCHES))
        merged = old.fetchall()
        if not merged:
            return
        self._merge(connection, key, [blocks.decode(data) for _, data in merged])
        connection.executemany("DELETE FROM batches WHERE id = ?", [(number,) for number, _ in merged])
        self._small[key] -= len(merged)

    def _merge(self, connection: sqlite3.Connection, key: tuple[int, int], parts: list[blocks.Rows]) -> None:
        """Lay ticks over the blocks of their minutes; where a tick is there already, the new values (they are the same) win."""
        minutes = np.concatenate([part[0] for part in parts]) // MINUTE_MS
        for minute in np.unique(minutes).tolist():
            found = connection.execute("SELECT data FROM blocks WHERE vehicle = ? AND layout = ? AND minute = ?", (*key, minute)).fetchone()
            chosen = [blocks.decode(found[0])] if found else []
            for part in parts:
                inside = part[0] // MINUTE_MS == minute
                if inside.any():
                    chosen.append((part[0][inside], part[1][inside], part[2][inside]))
            tick_ms, raw, reason = _joined(chosen)
            connection.execute(
                "INSERT OR REPLACE INTO blocks (vehicle, layout, minute, first_ms, last_ms, data) VALUES (?,?,?,?,?,?)",
                (*key, minute, int(tick_ms[0]), int(tick_ms[-1]), blocks.encode(tick_ms, raw, reason)),
            )

    def delete(self, vehicle: str, from_ms: int, to_ms: int) -> dict[str, int]:
        """A block that reaches out of the range is written again without what lies in it."""
        counted = {"ticks": 0, "findings": 0, "gaps": 0}
        with self._transaction() as connection:
            number = _one(connection, "SELECT id FROM vehicles WHERE vehicle = ?", vehicle)
            touched = "vehicle = ? AND last_ms >= ? AND first_ms < ?"
            for table, size in (("blocks", blocks.GROUP), ("batches", WHOLE)):
                found = connection.execute(f"SELECT rowid, data FROM {table} WHERE {touched}", (number, from_ms, to_ms)).fetchall()
                for row, data in found:
                    tick_ms, raw, reason = blocks.decode(data)
                    kept = (tick_ms < from_ms) | (tick_ms >= to_ms)
                    counted["ticks"] += int((~kept).sum())
                    if not kept.any():
                        connection.execute(f"DELETE FROM {table} WHERE rowid = ?", (row,))
                        continue
                    rest = tick_ms[kept]
                    values = (int(rest[0]), int(rest[-1]), blocks.encode(rest, raw[kept], reason[kept], size), row)
                    connection.execute(f"UPDATE {table} SET first_ms = ?, last_ms = ?, data = ? WHERE rowid = ?", values)
            for table, when in (("findings", "tick_ms"), ("gaps", "received_ms")):
                done = connection.execute(
                    f"DELETE FROM {table} WHERE vehicle = ? AND {when} >= ? AND {when} < ?", (vehicle, from_ms, to_ms)
                )
                counted[table] = done.rowcount
            self._recall(connection)
        return counted

    # reading

    def vehicles(self) -> list[VehicleSummary]:
        with self._reader() as connection:
            found = connection.execute(
                "SELECT vehicle, model, max(coalesce((SELECT max(last_ms) FROM batches WHERE vehicle = v.id), -1e18),"
                " coalesce((SELECT max(last_ms) FROM blocks WHERE vehicle = v.id), -1e18)) FROM vehicles v ORDER BY vehicle"
            )
            return [VehicleSummary(vehicle, model, int(last)) for vehicle, model, last in found if last > -1e18]  # not those deleted

    def newest(self, vehicle: str) -> int | None:
        with self._reader() as connection:
            return self._newest(connection, vehicle)

    def signals(self, vehicle: str) -> list[SignalValue]:
        with self._reader() as connection:
            newest = self._newest(connection, vehicle)
            if newest is None:
                return []
            latest: dict[str, SignalValue] = {}
            for layout, (tick_ms, raw, reason) in self._open(connection, vehicle, newest - SIGNAL_AGE_MS, newest + 1).items():
                which = self._layout(connection, layout)
                value = which.values(raw, reason, None)
                for column, name in enumerate(which.names):
                    there = np.flatnonzero(np.isfinite(value[:, column]))
                    if len(there) and (name not in latest or latest[name].tick_ms < tick_ms[there[-1]]):
                        latest[name] = SignalValue(name, float(value[there[-1], column]), int(tick_ms[there[-1]]))
            return [latest[name] for name in sorted(latest)]

    def series(self, vehicle: str, signals: Sequence[str], from_ms: int, to_ms: int, points: int) -> Series:
        with self._reader() as connection:
            axes: list[NDArray[np.int64]] = []
            parts: list[tuple[list[str], NDArray[np.int64], NDArray[np.float64]]] = []
            for number, opened in self._open(connection, vehicle, from_ms, to_ms, signals).items():
                layout = self._layout(connection, number)
                names, columns = layout.find(signals)
                tick_ms, raw, reason = opened
                axes.append(tick_ms)
                parts.append((names, tick_ms, layout.values(raw, reason, columns)))
        axis = np.unique(np.concatenate(axes)) if axes else np.empty(0, np.int64)
        values = {name: np.full(len(axis), np.nan) for name in signals}
        for names, tick_ms, value in parts:
            places = np.searchsorted(axis, tick_ms)
            for column, name in enumerate(names):
                valid = np.isfinite(value[:, column])  # two layouts may hold one signal at a tick (a campaign changed): a valid value wins
                values[name][places[valid]] = value[valid, column]
        there = np.any([np.isfinite(value) for value in values.values()], axis=0) if values and len(axis) else np.zeros(len(axis), np.bool_)
        valid_only = Series(axis[there], {name: value[there] for name, value in values.items()})
        return thinned(valid_only, bucket_ms(from_ms, to_ms, points))

    def _newest(self, connection: sqlite3.Connection, vehicle: str) -> int | None:
        found: int | None = _one(
            connection,
            "SELECT max(t) FROM (SELECT max(last_ms) t FROM batches WHERE vehicle = (SELECT id FROM vehicles WHERE vehicle = ?1)"
            " UNION ALL SELECT max(last_ms) FROM blocks WHERE vehicle = (SELECT id FROM vehicles WHERE vehicle = ?1))",
            vehicle,
        )
        return found

    def _open(
        self, connection: sqlite3.Connection, vehicle: str, from_ms: int, to_ms: int, signals: Sequence[str] | None = None
    ) -> dict[int, blocks.Rows]:
        """Rows of every layout (that holds one of `signals`) with from_ms <= tick < to_ms, in order and without repeats."""
        found = connection.execute(
            "SELECT layout, data FROM blocks"
            " WHERE vehicle = (SELECT id FROM vehicles WHERE vehicle = ?1) AND minute BETWEEN ?2 / 60000 - 1 AND ?3 / 60000"
            " UNION ALL SELECT layout, data FROM batches"
            " WHERE vehicle = (SELECT id FROM vehicles WHERE vehicle = ?1) AND last_ms >= ?2 AND first_ms < ?3",
            (vehicle, from_ms, to_ms),
        )
        parts: dict[int, list[blocks.Rows]] = defaultdict(list)
        for number, data in found:
            columns = None if signals is None else self._layout(connection, number).find(signals)[1]
            if columns is None or len(columns):
                parts[number].append(blocks.decode(data, columns))
        opened = {}
        for number, rows in parts.items():
            tick_ms, raw, reason = _joined(rows)
            inside = slice(*np.searchsorted(tick_ms, (from_ms, to_ms)).tolist())
            opened[number] = (tick_ms[inside], raw[inside], reason[inside])
        return opened

    def _layout(self, connection: sqlite3.Connection, number: int) -> "_Layout":
        layout = self._layouts.get(number)
        if layout is None:
            if len(self._layouts) >= MOST_LAYOUTS:
                self._layouts.clear()
            schema_id, columns = connection.execute("SELECT schema_id, columns FROM layouts WHERE id = ?", (number,)).fetchone()
            schema = load_schema(_one(connection, "SELECT body FROM schemas WHERE schema_id = ?", schema_id))
            layout = self._layouts.setdefault(number, _Layout(schema, np.frombuffer(columns, "<i4").astype(np.intp)))
        return layout


class _Layout:
    """What the columns of a blob are."""

    def __init__(self, schema: Schema, columns: NDArray[np.intp]) -> None:
        self.schema = schema
        self.columns = columns
        self.names = [schema.names[column] for column in columns]
        self._place = {name: place for place, name in enumerate(self.names)}

    def find(self, signals: Sequence[str]) -> tuple[list[str], NDArray[np.intp]]:
        """Those of `signals` that are here, and their places in the blob."""
        names = [name for name in dict.fromkeys(signals) if name in self._place]
        return names, np.array([self._place[name] for name in names], np.intp)

    def values(self, raw: NDArray[np.int64], reason: NDArray[np.uint8], places: NDArray[np.intp] | None) -> NDArray[np.float64]:
        """(t, k) float64; NaN where not valid, or not finite."""
        value = self.schema.physical(raw, self.columns if places is None else self.columns[places])
        value[(reason != 0) | ~np.isfinite(value)] = np.nan
        return value


def _joined(parts: list[blocks.Rows]) -> blocks.Rows:
    """Parts as one, ordered by tick; of equal ticks the last part's."""
    tick_ms = np.concatenate([part[0] for part in parts])
    raw = np.concatenate([part[1] for part in parts])
    reason = np.concatenate([part[2] for part in parts])
    if (tick_ms[1:] > tick_ms[:-1]).all():
        return tick_ms, raw, reason
    order = np.argsort(tick_ms, kind="stable")
    ordered = tick_ms[order]
    keep = order[np.append(ordered[1:] != ordered[:-1], True)]
    return tick_ms[keep], raw[keep], reason[keep]


def _one(connection: sqlite3.Connection, query: str, *values: object) -> Any:
    row = connection.execute(query, values).fetchone()
    return row[0] if row else None
