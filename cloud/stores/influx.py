"""InfluxDB: 1.x by `/write`, 2.x and 3.x by `/api/v2/write`; all are read by InfluxQL (`/query`).

Live data and replayed logs lie in databases of their own (`NAME` and `NAME_replay`; in 2.x these are buckets). Writing the same
points again overwrites them with themselves, so writing is idempotent. When the server refuses lines, those it names (or, where it
names none, those found by halving) go to the quarantine file and the rest is sent again.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np

from cloud.config import InfluxConfig
from cloud.events import FindingEvent, GapEvent, TickRows, work_out_values
from cloud.line_protocol import SignalLines, finding_lines, gap_lines
from cloud.store import AT_ONCE, SIGNAL_AGE_MS, Series, SignalValue, StoreUnavailable, VehicleSummary, bucket_ms, nobody
from cloud.stores.downsampled import HOUR_MS, MINUTE_MS, downsampled, lines
from cloud.stores.influx_admin import MEASUREMENTS, admin
from cloud.stores.influx_databases import HOURS, MINUTES, REPLAY
from cloud.stores.influx_http import InfluxServer, Refused, identifier, literal

if TYPE_CHECKING:
    from cloud.vehicle_models import VehicleModel

REQUEST_CHARACTERS = 225_000
"""30 lines of 200 signals: what the server makes of a request stays in its processor's caches; of 200 lines it costs a 20th more. InfluxDB
1.x keeps a request's series in a map that doubles at 3,328 of them; these are some 3,100, two ticks each."""
WRITERS = 8  # requests under way at once: while the server waits for its disk, it takes the others; 3 or 24 were no better
QUARANTINE_BYTES = 256 << 20  # of refused lines; then the file becomes the one before, which is replaced
PROBES = 8  # signals that are asked for when only the newest tick is wanted
_TAGS = frozenset(("time", "vehicle", "model", "bus"))


class InfluxStore:
    """`with InfluxStore(config, models, quarantine=FILE) as store`. Opening reads the secrets; the server may come later."""

    def __init__(self, config: InfluxConfig, models: "Mapping[str, VehicleModel]", *, quarantine: Path) -> None:
        self.models = models
        self.quarantine = quarantine
        self.quarantine_bytes = QUARANTINE_BYTES
        self.quarantined = 0  # lines, since the start
        name = config.bucket or config.database
        self._databases = (name, name + REPLAY)
        self._server = InfluxServer(config)
        self._lines = SignalLines()
        self._probes: dict[tuple[str, str], list[str]] = {}  # (database, vehicle) -> signals that lately had a value
        self._lock = threading.Lock()  # the encoder's memory is not for two threads
        self._aside = threading.Lock()  # the quarantine file is written by several
        self._writers: ThreadPoolExecutor | None = None

    def __enter__(self) -> Self:
        self._server.open()
        self._writers = ThreadPoolExecutor(WRITERS, thread_name_prefix="influx")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._writers is not None:
            self._writers.shutdown()
        self._server.close()

    # writing

    def write(self, rows: Sequence[TickRows], stored: Callable[[Sequence[TickRows]], None] = nobody) -> None:
        for replay in (False, True):
            some = [batch for batch in rows if batch.replay == replay]
            with self._lock:
                told = 0
                for end in self._sent(self._databases[replay], self._encoded(some)):
                    stored(some[told:end])
                    told = end

    def _encoded(self, rows: Sequence[TickRows]) -> Iterator[list[str]]:
        """Each one's lines. Those of the next are made while the server takes some."""
        for start in range(0, len(rows), AT_ONCE):
            some = rows[start : start + AT_ONCE]
            work_out_values(some)
            yield from map(self._lines.encode, some)

    def write_findings(self, findings: Sequence[FindingEvent]) -> None:
        for replay in (False, True):
            self._send(replay, finding_lines([event for event in findings if event.replay == replay]))

    def write_gaps(self, gaps: Sequence[GapEvent]) -> None:
        for replay in (False, True):
            self._send(replay, gap_lines([event for event in gaps if event.replay == replay]))

    def flush(self) -> None:
        """The server's own write-ahead log has it before it answers."""

    def _send(self, replay: bool, lines: Sequence[str]) -> None:
        self._send_all(self._databases[replay], lines)

    def _send_all(self, database: str, lines: Sequence[str]) -> None:
        for _ in self._sent(database, [lines]):
            pass

    def _sent(self, database: str, batches: Iterable[Sequence[str]]) -> Iterator[int]:
        """Send lines in requests, the next of them made while the server takes those before; yields how many batches, from the first on,
        it has taken by then. When it raises or is closed, nothing is under way."""
        assert self._writers is not None, "the store is used outside its `with`"
        under_way: deque[tuple[Future[None], int]] = deque()
        try:
            for some, end in _requests(batches):
                if len(under_way) > WRITERS:
                    yield _done(*under_way.popleft())
                under_way.append((self._writers.submit(self._send_some, database, some), end))
            while under_way:
                yield _done(*under_way.popleft())
        finally:
            wait([future for future, _ in under_way])

    def _send_some(self, database: str, lines: list[str]) -> None:
        try:
            self._server.write(database, "\n".join(lines).encode())
        except Refused as refusal:
            named = refusal.named(lines)
            if len(lines) == 1 or refusal.dropped == len(lines):
                self._put_aside(database, lines, refusal.reason)
            elif named:
                self._put_aside(database, [lines[place] for place in named], refusal.reason)
                rest = set(named)
                if len(rest) < len(lines):
                    self._send_some(database, [line for place, line in enumerate(lines) if place not in rest])
            else:
                half = len(lines) // 2
                self._send_some(database, lines[:half])
                self._send_some(database, lines[half:])

    def _put_aside(self, database: str, lines: list[str], reason: str) -> None:
        """Append the lines and the server's reason to the quarantine file, durably; they then can be mended and sent by hand.

        What it takes of the disk is bounded: of a backlog that is older than the retention every line is refused.
        """
        text = f"# {database}: {' '.join(reason.split())}\n" + "".join(f"{line}\n" for line in lines)
        with self._aside:
            try:
                self.quarantine.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                if self.quarantine.exists() and self.quarantine.stat().st_size > self.quarantine_bytes:
                    self.quarantine.replace(self.quarantine.with_name(f"{self.quarantine.name}.1"))
                with self.quarantine.open("a", encoding="utf-8") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as error:
                raise StoreUnavailable(f"{self.quarantine}: refused lines cannot be put aside: {error.strerror or error}") from error
            self.quarantined += len(lines)

    # minutes and hours

    def downsample(self, vehicle: str, model: str, hour_ms: int) -> int:
        """Minutes and the hour from hour_ms on, from the ticks that are there; how many lines.

        The ticks are averaged here: 1.6.7 takes 1.75 s of processor time to average an hour of 200 signals itself, 0.3 s to say them.
        """
        name = self._databases[False]
        written: dict[str, list[str]] = {MINUTES: [], HOURS: []}
        for bus, names in self._fields(name, model).items():
            where = f"vehicle = {literal(vehicle)} AND bus = {literal(bus)} AND time >= {hour_ms}ms AND time < {hour_ms + HOUR_MS}ms"
            for series in self._server.query(name, f"SELECT {', '.join(map(identifier, names))} FROM signals WHERE {where}"):
                table = np.array(series.rows, np.float64)  # None becomes NaN
                tick_ms, values = table[:, 0].astype(np.int64), table[:, 1:]
                for suffix, width in ((MINUTES, MINUTE_MS), (HOURS, HOUR_MS)):
                    written[suffix] += lines(vehicle, model, bus, series.columns[1:], downsampled(tick_ms, values, width))
        for suffix, some in written.items():
            self._send_all(name + suffix, some)
        return sum(map(len, written.values()))

    def _fields(self, database: str, model: str) -> dict[str, list[str]]:
        """By bus, the signals that a vehicle of the model may have in the store: those of its DBC today, and those of no DBC of today."""
        there = [row[0] for series in self._server.query(database, "SHOW FIELD KEYS FROM signals") for row in series.rows]
        known = {name for one in self.models.values() for name in one.schema.names}
        schema = self.models[model].schema if model in self.models else None
        buses = list(schema.channels) if schema is not None else self._buses(database)
        fields = {}
        for bus in buses:
            mine = set() if schema is None else {n for n, c in zip(schema.names, schema.channel, strict=True) if schema.channels[c] == bus}
            if names := [name for name in there if name in mine or name not in known]:
                fields[bus] = names
        return fields

    def _buses(self, database: str) -> list[str]:
        return [row[1] for series in self._server.query(database, "SHOW TAG VALUES FROM signals WITH KEY = bus") for row in series.rows]

    # deleting

    def delete(self, vehicle: str, from_ms: int, to_ms: int) -> dict[str, int]:
        counted: dict[str, int] = {}
        for database in (*self._databases, self._databases[False] + MINUTES, self._databases[False] + HOURS):
            where = f"WHERE vehicle = {literal(vehicle)} AND time >= {from_ms}ms AND time < {to_ms}ms"
            some = False
            for measurement in MEASUREMENTS:
                for series in self._server.query(database, f"SELECT count(*) FROM {identifier(measurement)} {where}"):
                    points = max((int(value) for value in series.rows[0][1:] if value), default=0)
                    counted[f"{database}.{measurement}"] = points
                    some = some or points > 0
            if some:
                admin(self._server).delete(database, vehicle, from_ms, to_ms)
        return counted

    # reading

    def vehicles(self) -> list[VehicleSummary]:
        newest: dict[str, VehicleSummary] = {}
        for database in self._databases:
            for series in self._server.query(database, "SELECT last(valid) FROM quality GROUP BY vehicle, model"):
                found = VehicleSummary(series.tags["vehicle"], series.tags["model"], int(series.rows[0][0]))
                if found.vehicle not in newest or newest[found.vehicle].last_tick_ms < found.last_tick_ms:
                    newest[found.vehicle] = found
        return [newest[vehicle] for vehicle in sorted(newest)]

    def newest(self, vehicle: str) -> int | None:
        ticks = [tick for database in self._databases if (tick := self._newest(database, vehicle)) is not None]
        return max(ticks, default=None)

    def _newest(self, database: str, vehicle: str) -> int | None:
        """`SELECT *` of a wide measurement's last point takes 30 ms; `quality` says in 1 ms where to look for it."""
        where = f"FROM signals WHERE vehicle = {literal(vehicle)}"
        last = "ORDER BY time DESC LIMIT 1"
        told = self._server.query(database, f"SELECT last(valid) FROM quality WHERE vehicle = {literal(vehicle)} AND valid > 0")
        if not told:
            return None
        since = f"AND time >= {int(told[0].rows[0][0])}ms"
        queries = [f"SELECT * {where} {since} {last}", f"SELECT * {where} {last}"]
        if probes := self._probes.get((database, vehicle)):
            queries.insert(0, f"SELECT {', '.join(map(identifier, probes))} {where} {since} {last}")
        for query in queries:
            for series in self._server.query(database, query):
                row = series.rows[0]
                if query is not queries[0] or not probes:
                    seen = [name for name, value in zip(series.columns, row, strict=True) if value is not None and name not in _TAGS]
                    self._probes[database, vehicle] = seen[:PROBES]
                return int(row[0])
        return None

    def signals(self, vehicle: str) -> list[SignalValue]:
        newest = self.newest(vehicle)
        if newest is None:
            return []
        latest: dict[str, SignalValue] = {}
        where = f"vehicle = {literal(vehicle)} AND time >= {newest - SIGNAL_AGE_MS}ms AND time <= {newest}ms"
        for database in self._databases:
            for series in self._server.query(database, f"SELECT * FROM signals WHERE {where}"):
                for place, name in enumerate(series.columns):
                    if name in _TAGS:
                        continue
                    for row in reversed(series.rows):
                        if row[place] is not None:
                            if name not in latest or latest[name].tick_ms < row[0]:
                                latest[name] = SignalValue(name, float(row[place]), int(row[0]))
                            break
        return [latest[name] for name in sorted(latest)]

    def series(self, vehicle: str, signals: Sequence[str], from_ms: int, to_ms: int, points: int) -> Series:
        names = list(dict.fromkeys(signals))
        if not names:
            return Series(np.empty(0, np.int64))
        bucket = bucket_ms(from_ms, to_ms, points)
        if bucket:
            select = ", ".join(f"min({identifier(name)}), max({identifier(name)})" for name in names)
            group = f" GROUP BY time({bucket}ms) fill(none)"
        else:
            select, group = ", ".join(identifier(name) for name in names), ""
        where = f"vehicle = {literal(vehicle)} AND time >= {int(from_ms)}ms AND time < {int(to_ms)}ms"
        found: dict[int, list[float | None]] = {}
        for database in self._databases:
            for series in self._server.query(database, f"SELECT {select} FROM signals WHERE {where}{group}"):
                for time_ms, *row in series.rows:
                    if bucket:
                        _merge(found, int(time_ms), row[0::2])
                        _merge(found, int(time_ms) + bucket // 2, row[1::2])
                    else:
                        _merge(found, int(time_ms), row)
        axis = sorted(found)
        table = np.array([found[tick] for tick in axis], np.float64).reshape(len(axis), len(names))
        return Series(np.array(axis, np.int64), {name: table[:, column].copy() for column, name in enumerate(names)})


def _done(sent: Future[None], end: int) -> int:
    sent.result()
    return end


def _requests(batches: Iterable[Sequence[str]]) -> Iterator[tuple[list[str], int]]:
    """Lines in lists of REQUEST_CHARACTERS, and on to the end of the batch: a series' ticks belong together. At most twice as long. Each
    with how many batches, from the first on, have no lines after it."""
    some: list[str] = []
    left = REQUEST_CHARACTERS
    told = end = 0
    for end, batch in enumerate(batches, 1):
        for line in batch:
            if left <= -REQUEST_CHARACTERS:
                yield some, end - 1
                told = end - 1
                some, left = [], REQUEST_CHARACTERS
            some.append(line)
            left -= len(line) + 1
        if left <= 0:
            yield some, end
            told = end
            some, left = [], REQUEST_CHARACTERS
    if end > told:
        yield some, end


def _merge(found: dict[int, list[float | None]], tick: int, row: list[float | None]) -> None:
    """Signals of two buses come as two rows of one time."""
    there = found.setdefault(tick, row)
    if there is not row:
        found[tick] = [new if new is not None else old for old, new in zip(there, row, strict=True)]
