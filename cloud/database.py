"""The aggregator's own tables, beside the tickets in one database: streams, clocks, sinks' cursors, and which sequences have landed.

A stream's content key is never in it: only the announcement, in which the key is wrapped for the recipients.
"""

import contextlib
import os
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Engine,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    create_engine,
    event,
    func,
    make_url,
    select,
)
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import DatabaseError
from sqlalchemy.schema import CreateTable

from cloud.errors import CloudError
from cloud.events import StatusEvent
from wire.messages import Clock

_META = MetaData()
STREAMS = Table(
    "streams",
    _META,
    Column("stream", LargeBinary, primary_key=True),
    Column("vehicle", String, nullable=False),
    Column("received_ms", BigInteger, nullable=False),
    Column("announcement", LargeBinary, nullable=False),
)
CLOCKS = Table(
    "clocks",
    _META,
    Column("vehicle", String, primary_key=True),
    Column("boot_id", LargeBinary, primary_key=True),
    Column("boot_ms", BigInteger, nullable=False),
    Column("utc_ms", BigInteger, nullable=False),
    Column("source", String, nullable=False),
)
HEARD = Table(
    "heard",
    _META,
    Column("vehicle", String, primary_key=True),
    Column("tick_ms", BigInteger, nullable=False),
    Column("received_ms", BigInteger, nullable=False),
    Column("state", String, nullable=False),
    Column("counters", JSON, nullable=False),
    Column("facts", JSON, nullable=False),
)
CURSORS = Table("cursors", _META, Column("sink", String, primary_key=True), Column("position", BigInteger, nullable=False))
UNPLACED = Table(
    "unplaced",
    _META,
    Column("sink", String, primary_key=True),
    Column("position", BigInteger, primary_key=True),
    Column("vehicle", String, nullable=False),
    Column("boot_id", LargeBinary, nullable=False),
)
LANDED = Table(
    "landed",
    _META,
    Column("stream", LargeBinary, primary_key=True),
    Column("seen_ms", BigInteger, nullable=False),
    Column("ranges", LargeBinary, nullable=False),
)
REPLAYS = Table(
    "replays",
    _META,
    Column("id", Integer, primary_key=True),
    Column("positions", JSON, nullable=False),
    Column("answer", JSON),
)
WINDOWS = Table(
    "stale_windows",
    _META,
    Column("vehicle", String, primary_key=True),
    Column("hour_ms", BigInteger, primary_key=True),
    Column("model", String, nullable=False),
    Column("noted_ms", BigInteger, nullable=False, index=True),
)
CHECKPOINT = Table("checkpoint", _META, Column("id", Integer, primary_key=True), Column("position", BigInteger, nullable=False))


@dataclass(frozen=True)
class StoredStream:
    """A stream's announcement as it was received."""

    stream: bytes
    vehicle: str
    received_ms: int
    announcement: bytes


class Database:
    """`with Database(url) as database`. Calls block; they may come from several threads."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._made: Engine | None = None

    def __enter__(self) -> Self:
        path = Path(make_url(self.url).database or "")
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            make_private(path)
        except OSError as error:
            raise CloudError(f"{path}: the database cannot be opened: {error.strerror}") from error
        engine = create_engine(self.url, connect_args={"timeout": 30.0})
        event.listen(engine, "connect", _durable)
        try:
            with engine.begin() as connection:
                for table in _META.sorted_tables:
                    connection.execute(CreateTable(table, if_not_exists=True))
        except DatabaseError as error:
            engine.dispose()
            raise CloudError(f"{path}: the database cannot be opened: {error.orig}") from error
        self._made = engine
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._made is not None:
            self._made.dispose()
            self._made = None

    @property
    def _engine(self) -> Engine:
        assert self._made is not None, "the database is used outside its `with`"
        return self._made

    # streams and clocks

    def stream(self, stream: bytes) -> StoredStream | None:
        with self._engine.connect() as connection:
            row = connection.execute(select(STREAMS).where(STREAMS.c.stream == stream)).one_or_none()
        return None if row is None else StoredStream(row.stream, row.vehicle, row.received_ms, row.announcement)

    def learn(self, streams: Iterable[StoredStream], clocks: Mapping[tuple[str, bytes], Clock]) -> None:
        """Remember announcements and boots' clocks, durably, in one transaction. What is there stays as it is:
        rows placed by a boot's first clock must be placed alike when they are read again."""
        with self._engine.begin() as connection:
            for stream in streams:
                connection.execute(insert(STREAMS).values(vars(stream)).on_conflict_do_nothing())
            for (vehicle, boot_id), clock in clocks.items():
                row = {"vehicle": vehicle, "boot_id": boot_id, "boot_ms": clock.boot_ms, "utc_ms": clock.utc_ms, "source": clock.source}
                connection.execute(insert(CLOCKS).values(row).on_conflict_do_nothing())

    def clock(self, vehicle: str, boot_id: bytes) -> Clock | None:
        with self._engine.connect() as connection:
            row = connection.execute(select(CLOCKS).where(CLOCKS.c.vehicle == vehicle, CLOCKS.c.boot_id == boot_id)).one_or_none()
        return None if row is None else Clock(boot_ms=row.boot_ms, utc_ms=row.utc_ms, source=row.source)

    # vehicles' health

    def hear(self, events: Iterable[StatusEvent]) -> None:
        """Keep each vehicle's newest status; one that a backlog brings late changes nothing."""
        with self._engine.begin() as connection:
            for event in events:
                row = {"vehicle": event.vehicle, "tick_ms": event.tick_ms, "received_ms": event.received_ms, "state": event.status.state}
                row |= {"counters": event.status.counters, "facts": event.status.facts}
                newer = HEARD.c.tick_ms <= event.tick_ms
                connection.execute(insert(HEARD).values(row).on_conflict_do_update(index_elements=["vehicle"], set_=row, where=newer))

    def heard(self) -> dict[str, dict[str, Any]]:
        """By vehicle: tick_ms, received_ms, state, counters, facts of its newest status."""
        with self._engine.connect() as connection:
            rows = connection.execute(select(HEARD)).mappings().all()
        return {row["vehicle"]: {name: row[name] for name in ("tick_ms", "received_ms", "state", "counters", "facts")} for row in rows}

    # sinks

    def cursor(self, sink: str) -> int:
        """The first landing position that the sink has not taken yet."""
        with self._engine.connect() as connection:
            return connection.execute(select(CURSORS.c.position).where(CURSORS.c.sink == sink)).scalar() or 0

    def advance(self, sink: str, position: int, unplaced: Iterable[tuple[int, str, bytes]] = (), placed: Iterable[int] = ()) -> None:
        """Move a sink's cursor; note what it had to leave (position, vehicle, boot id), strike out what it has placed since."""
        with self._engine.begin() as connection:
            for number, vehicle, boot_id in unplaced:
                row = {"sink": sink, "position": number, "vehicle": vehicle, "boot_id": boot_id}
                connection.execute(insert(UNPLACED).values(row).on_conflict_do_nothing())
            for number in placed:
                connection.execute(UNPLACED.delete().where(UNPLACED.c.sink == sink, UNPLACED.c.position == number))
            row = {"sink": sink, "position": position}
            connection.execute(insert(CURSORS).values(row).on_conflict_do_update(index_elements=["sink"], set_=row))

    def unplaced(self, sink: str, vehicle: str, boot_id: bytes) -> list[int]:
        """Positions that wait for a boot's clock."""
        where = (UNPLACED.c.sink == sink, UNPLACED.c.vehicle == vehicle, UNPLACED.c.boot_id == boot_id)
        with self._engine.connect() as connection:
            return list(connection.execute(select(UNPLACED.c.position).where(*where).order_by(UNPLACED.c.position)).scalars())

    def unplaced_before(self, position: int, most: int) -> list[int]:
        """The oldest positions below `position` that wait for a clock, for whatever sink."""
        query = select(UNPLACED.c.position).distinct().where(UNPLACED.c.position < position).order_by(UNPLACED.c.position).limit(most)
        with self._engine.connect() as connection:
            return list(connection.execute(query).scalars())

    def strike_out(self, positions: Iterable[int]) -> None:
        """Nothing waits there any more."""
        with self._engine.begin() as connection:
            for position in positions:
                connection.execute(UNPLACED.delete().where(UNPLACED.c.position == position))

    def oldest_unplaced(self) -> int | None:
        with self._engine.connect() as connection:
            return connection.execute(select(UNPLACED.c.position).order_by(UNPLACED.c.position).limit(1)).scalar()

    # replays of the quarantine, asked for by another process

    def ask_replay(self, positions: Sequence[int]) -> int:
        """Ask the running cloud to replay these positions, none: all. Returns the request's number."""
        with self._engine.begin() as connection:
            return int(connection.execute(REPLAYS.insert().values(positions=list(positions)).returning(REPLAYS.c.id)).scalar_one())

    def asked_replays(self) -> list[tuple[int, list[int]]]:
        """(number, positions) of the requests that have no answer."""
        with self._engine.connect() as connection:
            rows = connection.execute(
                select(REPLAYS.c.id, REPLAYS.c.positions).where(REPLAYS.c.answer.is_(None)).order_by(REPLAYS.c.id)
            ).all()
        return [(row.id, row.positions) for row in rows]

    def answer_replay(self, number: int, answer: Mapping[str, Any]) -> None:
        with self._engine.begin() as connection:
            connection.execute(REPLAYS.update().where(REPLAYS.c.id == number).values(answer=dict(answer)))

    def take_replay(self, number: int) -> dict[str, Any] | None:
        """The answer, which is then forgotten; None while there is none."""
        with self._engine.begin() as connection:
            answer = connection.execute(select(REPLAYS.c.answer).where(REPLAYS.c.id == number)).scalar_one_or_none()
            if answer is None:
                return None
            connection.execute(REPLAYS.delete().where(REPLAYS.c.id == number))
        return dict(answer)

    # hours whose minutes are to be made again

    def note_windows(self, windows: Iterable[tuple[str, str, int]], now_ms: int) -> None:
        """(vehicle, model, hour): ticks of them have been written."""
        with self._engine.begin() as connection:
            for vehicle, model, hour_ms in windows:
                row = {"vehicle": vehicle, "hour_ms": hour_ms, "model": model, "noted_ms": now_ms}
                connection.execute(
                    insert(WINDOWS).values(row).on_conflict_do_update(index_elements=["vehicle", "hour_ms"], set_={"noted_ms": now_ms})
                )

    def quiet_windows(self, before_ms: int, most: int) -> list[tuple[str, str, int, int]]:
        """(vehicle, model, hour, noted) of those not noted since, the longest first."""
        columns = (WINDOWS.c.vehicle, WINDOWS.c.model, WINDOWS.c.hour_ms, WINDOWS.c.noted_ms)
        query = select(*columns).where(WINDOWS.c.noted_ms <= before_ms).order_by(WINDOWS.c.noted_ms).limit(most)
        with self._engine.connect() as connection:
            return [(row.vehicle, row.model, row.hour_ms, row.noted_ms) for row in connection.execute(query)]

    def claim_window(self, vehicle: str, hour_ms: int, noted_ms: int, now_ms: int) -> bool:
        """Whether it is ours to make: nobody has claimed or noted it since it was read."""
        where = (WINDOWS.c.vehicle == vehicle, WINDOWS.c.hour_ms == hour_ms, WINDOWS.c.noted_ms == noted_ms)
        with self._engine.begin() as connection:
            return connection.execute(WINDOWS.update().where(*where).values(noted_ms=now_ms)).rowcount == 1

    def forget_window(self, vehicle: str, hour_ms: int, noted_ms: int) -> None:
        """It is made, unless it was noted again meanwhile."""
        where = (WINDOWS.c.vehicle == vehicle, WINDOWS.c.hour_ms == hour_ms, WINDOWS.c.noted_ms == noted_ms)
        with self._engine.begin() as connection:
            connection.execute(WINDOWS.delete().where(*where))

    def count_windows(self) -> int:
        with self._engine.connect() as connection:
            return int(connection.execute(select(func.count()).select_from(WINDOWS)).scalar_one())

    # which sequences have landed

    def load_landed(self) -> tuple[int, dict[bytes, list[tuple[int, int]]]]:
        """The landing position up to which the saved sets are complete, and first and last of each run of sequences, by stream."""
        with self._engine.connect() as connection:
            position = connection.execute(select(CHECKPOINT.c.position)).scalar() or 0
            rows = connection.execute(select(LANDED.c.stream, LANDED.c.ranges)).all()
        return position, {row.stream: list(struct.iter_unpack("<II", row.ranges)) for row in rows}

    def save_landed(self, position: int, changed: Mapping[bytes, list[tuple[int, int]]], now_ms: int, forget_before_ms: int) -> None:
        """Save the sets that changed and the position they are complete to; forget streams not heard of for longer."""
        with self._engine.begin() as connection:
            for stream, ranges in changed.items():
                packed = b"".join(struct.pack("<II", first, last) for first, last in ranges)
                row = {"stream": stream, "seen_ms": now_ms, "ranges": packed}
                connection.execute(insert(LANDED).values(row).on_conflict_do_update(index_elements=["stream"], set_=row))
            connection.execute(LANDED.delete().where(LANDED.c.seen_ms < forget_before_ms))
            row = {"id": 1, "position": position}
            connection.execute(insert(CHECKPOINT).values(row).on_conflict_do_update(index_elements=["id"], set_=row))


def make_private(path: Path) -> None:
    """Make an empty file that is its owner's alone, where there is none. Raises OSError.

    A file that is there is not even opened: closing it would drop the locks by which SQLite holds it elsewhere in this process (POSIX
    locks are the process's), and the next process to close the database would take the log away from under us.
    """
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))


def _durable(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
