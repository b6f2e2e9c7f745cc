"""The ledger: everything that a fleet sealed, and what became of it. An SQLite file that `verify` and anybody's SQL can read.

    run       key, value (JSON)                                     what was run: seed, start, the probe signal, scale and offset
    vehicles  number, vehicle, scenario
    batches   id, vehicle (number), stream, sequence, first_ms, ticks, bytes, probe, sealed_s, attempts, receipted_s, status
    outages   start_s, length_s, vehicles

A batch with status NULL has no receipt: the vehicle still held it at the end. Its ticks are every second from first_ms (UTC). probe: the
raw values of the probe signal, int64 little-endian, so that the store's answer is compared in time and in value. An announcement is a
batch of 0 ticks. Times in s are since the fleet's first tick. Written once a second: a kill may cost the last second.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from simulator.fleet.errors import FleetError, FleetFailed
from wire.receipts import Status

__all__ = ["Ledger", "Reading", "Written"]

TICK_MS = 1000

_TABLES = """
CREATE TABLE run (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE vehicles (number INTEGER PRIMARY KEY, vehicle TEXT NOT NULL UNIQUE, scenario TEXT NOT NULL);
CREATE TABLE batches (
  id INTEGER PRIMARY KEY, vehicle INTEGER NOT NULL, stream BLOB NOT NULL, sequence INTEGER NOT NULL,
  first_ms INTEGER, ticks INTEGER NOT NULL,
  bytes INTEGER NOT NULL, probe BLOB NOT NULL, sealed_s REAL NOT NULL, attempts INTEGER, receipted_s REAL, status INTEGER);
CREATE TABLE outages (start_s REAL NOT NULL, length_s REAL NOT NULL, vehicles INTEGER NOT NULL);
"""


class Ledger:
    """`with Ledger(path) as ledger`: a new file. FleetError when it is there already, FleetFailed when it cannot be written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection: sqlite3.Connection | None = None
        self._next = 1
        self._noted = False
        self._sealed: list[tuple[Any, ...]] = []
        self._receipted: list[tuple[Any, ...]] = []
        self._open: dict[tuple[bytes, int], int] = {}  # batches without a receipt -> id

    def __enter__(self) -> Self:
        if self.path.exists():
            raise FleetError(f"{self.path}: is there already; a ledger is one run's, so choose another name")
        try:
            self._connection = sqlite3.connect(self.path, isolation_level=None)
            # The ledger must outlive the fleet's process, not the machine: no fsync for each second.
            self._connection.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;" + _TABLES)
        except sqlite3.Error as error:
            raise FleetError(f"{self.path}: a ledger cannot be made: {error}") from None
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._connection is not None
        try:
            self.save()
            self._connection.execute("PRAGMA journal_mode = DELETE")  # one file
        finally:
            self._connection.close()
            self._connection = None
        if not self._noted:  # it never came to a first tick: nothing is worth keeping, and the name is free for the next try
            self.path.unlink(missing_ok=True)

    def note_run(self, what: Mapping[str, Any]) -> None:
        self._noted = True
        self._execute("INSERT OR REPLACE INTO run VALUES (?, ?)", [(key, json.dumps(value)) for key, value in what.items()])

    def note_vehicles(self, rows: list[tuple[int, str, str]]) -> None:
        """(number, id, scenario) of each."""
        self._execute("INSERT INTO vehicles VALUES (?, ?, ?)", rows)

    def note_outage(self, start_s: float, length_s: float, vehicles: int) -> None:
        self._execute("INSERT INTO outages VALUES (?, ?, ?)", [(start_s, length_s, vehicles)])

    def sealed(
        self, vehicle: int, stream: bytes, sequence: int, first_ms: int | None, probe: NDArray[np.int64], size: int, sealed_s: float
    ) -> None:
        """A batch went into custody. probe: (ticks,) raw."""
        number = self._next
        self._next += 1
        self._open[stream, sequence] = number
        self._sealed.append((number, vehicle, stream, sequence, first_ms, len(probe), size, probe.astype("<i8").tobytes(), sealed_s))

    def receipted(self, stream: bytes, sequence: int, attempts: int, status: Status, receipted_s: float) -> None:
        """Custody ended. Only the first receipt counts."""
        number = self._open.pop((stream, sequence), None)
        if number is not None:
            self._receipted.append((attempts, receipted_s, int(status), number))

    def save(self) -> None:
        """Write what was noted."""
        sealed, self._sealed = self._sealed, []
        receipted, self._receipted = self._receipted, []
        if sealed or receipted:
            self._execute(
                "INSERT INTO batches (id, vehicle, stream, sequence, first_ms, ticks, bytes, probe, sealed_s) VALUES (?,?,?,?,?,?,?,?,?)",
                sealed,
            )
            self._execute("UPDATE batches SET attempts = ?, receipted_s = ?, status = ? WHERE id = ?", receipted)

    def _execute(self, text: str, rows: list[tuple[Any, ...]]) -> None:
        assert self._connection is not None, "the ledger is used outside its `with`"
        try:
            self._connection.execute("BEGIN")
            self._connection.executemany(text, rows)
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise FleetFailed(f"{self.path}: the ledger cannot be written: {error}") from None


@dataclass(frozen=True)
class Written:
    """What one vehicle sealed. tick_ms: (t,) UTC, in the order of streams and sequences; probe: (t,) raw; stored: (t,) bool, receipted as
    stored."""

    vehicle: str
    tick_ms: NDArray[np.int64]
    probe: NDArray[np.int64]
    stored: NDArray[np.bool_]


class Reading:
    """A ledger that is read. FleetError for a file that is none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run: dict[str, Any] = {}
        self._connection: sqlite3.Connection | None = None

    def __enter__(self) -> Self:
        if not self.path.is_file():
            raise FleetError(f"{self.path}: expected a ledger of `cansight sim fleet --ledger`; there is no such file")
        try:
            self._connection = sqlite3.connect(self.path)
            self.run = {key: json.loads(value) for key, value in self._connection.execute("SELECT key, value FROM run")}
            missing = {"probe", "scale", "offset", "replay"} - self.run.keys()
        except (sqlite3.Error, ValueError) as error:
            raise FleetError(f"{self.path}: expected a ledger of `cansight sim fleet --ledger`; it is none ({error})") from None
        if missing:
            raise FleetError(f"{self.path}: the ledger's run lacks {sorted(missing)[0]!r}; was the fleet stopped before its first tick?")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def counts(self) -> dict[str, int]:
        """Batches by what became of them, announcements included."""
        by_status = dict(self._rows("SELECT status, count(*) FROM batches GROUP BY status"))
        named = {status.name.lower(): int(by_status.get(int(status), 0)) for status in Status}
        return {"sealed": sum(by_status.values()), **named, "unreceipted": int(by_status.get(None, 0))}

    def vehicles(self) -> Iterator[Written]:
        """Every vehicle by number."""
        for number, vehicle in self._rows("SELECT number, vehicle FROM vehicles ORDER BY number"):
            ticks, probes, stored = [np.empty(0, np.int64)], [np.empty(0, np.int64)], [np.empty(0, np.bool_)]
            query = "SELECT first_ms, ticks, probe, status FROM batches WHERE vehicle = ? AND ticks > 0 ORDER BY id"
            for first_ms, count, probe, status in self._rows(query, (number,)):
                ticks.append(first_ms + TICK_MS * np.arange(count, dtype=np.int64))
                probes.append(np.frombuffer(probe, "<i8").astype(np.int64))
                stored.append(np.full(count, status == Status.STORED))
            yield Written(vehicle, np.concatenate(ticks), np.concatenate(probes), np.concatenate(stored))

    def _rows(self, text: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        assert self._connection is not None, "the ledger is used outside its `with`"
        try:
            return self._connection.execute(text, values).fetchall()
        except sqlite3.Error as error:
            raise FleetError(f"{self.path}: the ledger cannot be read: {error}") from None
