"""The aggregator's own tables, beside the tickets in one database: streams, clocks, sinks' cursors, and which sequences have landed.

A stream's content key is never in it: only the announcement, in which the key is wrapped for the recipients.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    bindparam,
    func,
    select,
    text,
    tuple_,
)

from cloud.events import StatusEvent
from cloud.tables import Tables, insert
from wire.messages import Clock

META = MetaData()
KEPT = "length(announcement) > 0"
STREAMS = Table(
    "streams",
    META,
    Column("stream", LargeBinary, primary_key=True),
    Column("vehicle", String, nullable=False),
    Column("received_ms", BigInteger, nullable=False),
    Column("announcement", LargeBinary, nullable=False),  # empty: forgotten
    Index("announcements_by_time", "received_ms", sqlite_where=text(KEPT), postgresql_where=text(KEPT)),
)
CLOCKS = Table(
    "clocks",
    META,
    Column("vehicle", String, primary_key=True),
    Column("boot_id", LargeBinary, primary_key=True),
    Column("boot_ms", BigInteger, nullable=False),
    Column("utc_ms", BigInteger, nullable=False),
    Column("source", String, nullable=False),
)
HEARD = Table(
    "heard",
    META,
    Column("vehicle", String, primary_key=True),
    Column("tick_ms", BigInteger, nullable=False),
    Column("received_ms", BigInteger, nullable=False),
    Column("state", String, nullable=False),
    Column("counters", JSON, nullable=False),
    Column("facts", JSON, nullable=False),
)
CURSORS = Table(
    "cursors",
    META,
    Column("replica", String, primary_key=True),
    Column("sink", String, primary_key=True),
    Column("position", BigInteger, nullable=False),
)
UNPLACED = Table(
    "unplaced",
    META,
    Column("replica", String, primary_key=True),
    Column("sink", String, primary_key=True),
    Column("position", BigInteger, primary_key=True),
    Column("vehicle", String, nullable=False),
    Column("boot_id", LargeBinary, nullable=False),
)
LANDED = Table(
    "landed",
    META,
    Column("replica", String, primary_key=True),
    Column("stream", LargeBinary, primary_key=True),
    Column("seen_ms", BigInteger, nullable=False),
    Column("ranges", LargeBinary, nullable=False),
)
REPLAYS = Table(
    "replays",
    META,
    Column("id", Integer, primary_key=True),
    Column("positions", JSON, nullable=False),
    Column("answer", JSON),
    Column("replica", String, nullable=False, server_default=""),
)
WINDOWS = Table(
    "stale_windows",
    META,
    Column("vehicle", String, primary_key=True),
    Column("hour_ms", BigInteger, primary_key=True),
    Column("model", String, nullable=False),
    Column("noted_ms", BigInteger, nullable=False, index=True),
)
CHECKPOINT = Table(
    "checkpoint",
    META,
    Column("replica", String, primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("oldest_ms", BigInteger),  # of the messages in its landing log and quarantine; None: it has not said
)


MOST_NAMED = 500  # boots in one question
AT_ONCE = 1_000  # streams of which something is forgotten in one transaction
MOST_CLOCKS = 50_000  # remembered, ~0.5 kB each


@dataclass(frozen=True)
class StoredStream:
    """A stream's announcement as it was received."""

    stream: bytes
    vehicle: str
    received_ms: int
    announcement: bytes


class Database:
    """`with Database(url) as database`. Calls block; they may come from several threads.

    `replica`: whose landing log, quarantine and cursors these are, where several clouds share the tables; "" where there is one.
    """

    def __init__(self, url: str, replica: str = "") -> None:
        self.url = url
        self.replica = replica
        self._tables = Tables(url)
        self._clocks: dict[tuple[str, bytes], Clock] = {}

    def __enter__(self) -> Self:
        self._tables.open(make_folder=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._tables.close()

    def ping(self) -> None:
        """Raises what TABLES_AWAY names where the database does not answer."""
        with self._tables.reading() as connection:
            connection.execute(select(1))

    # streams and clocks

    def stream(self, stream: bytes) -> StoredStream | None:
        with self._tables.reading() as connection:
            row = connection.execute(select(STREAMS).where(STREAMS.c.stream == stream)).one_or_none()
        return None if row is None else StoredStream(row.stream, row.vehicle, row.received_ms, row.announcement)

    def learn(self, streams: Iterable[StoredStream], clocks: Mapping[tuple[str, bytes], Clock]) -> None:
        """Remember announcements and boots' clocks, durably, in one transaction. What is there stays as it is:
        rows placed by a boot's first clock must be placed alike when they are read again."""
        announced = sorted((vars(stream) for stream in streams), key=lambda row: row["stream"])
        said = [
            {"vehicle": vehicle, "boot_id": boot_id, "boot_ms": clock.boot_ms, "utc_ms": clock.utc_ms, "source": clock.source}
            for (vehicle, boot_id), clock in sorted(clocks.items())
        ]
        with self._tables.writing() as db:
            if announced:
                db.execute(insert(db, STREAMS).on_conflict_do_nothing(), announced)
            if said:
                db.execute(insert(db, CLOCKS).on_conflict_do_nothing(), said)

    def forget_announcements(self, oldest_ms: int, age_ms: int) -> int:
        """Note how far back this replica's messages reach; forget what was announced `age_ms` before that of all replicas. How many."""
        with self._tables.writing() as db:
            row = {"replica": self.replica, "position": 0, "oldest_ms": oldest_ms}
            db.execute(insert(db, CHECKPOINT, row).on_conflict_do_update(index_elements=["replica"], set_={"oldest_ms": oldest_ms}))
            reaches = db.execute(select(CHECKPOINT.c.oldest_ms)).scalars().all()
        known = [one for one in reaches if one is not None]
        if len(known) < len(reaches):
            return 0  # a replica of an earlier program, or one that is starting
        over = (text(KEPT), STREAMS.c.received_ms < min(known) - age_ms)
        forgotten = 0
        while True:
            with self._tables.writing() as db:
                some = db.execute(select(STREAMS.c.stream).where(*over).order_by(STREAMS.c.received_ms).limit(AT_ONCE)).scalars().all()
                db.execute(STREAMS.update().where(STREAMS.c.stream.in_(some)).values(announcement=b""))
            forgotten += len(some)
            if len(some) < AT_ONCE:
                return forgotten

    def clock(self, vehicle: str, boot_id: bytes) -> Clock | None:
        """A boot's clock. One that is known is remembered: it never changes, and every sink asks for it with every message."""
        if (known := self._clocks.get((vehicle, boot_id))) is not None:
            return known
        with self._tables.reading() as connection:
            row = connection.execute(select(CLOCKS).where(CLOCKS.c.vehicle == vehicle, CLOCKS.c.boot_id == boot_id)).one_or_none()
        if row is None:
            return None
        if len(self._clocks) >= MOST_CLOCKS:
            self._clocks.clear()
        found = self._clocks[vehicle, boot_id] = Clock(boot_ms=row.boot_ms, utc_ms=row.utc_ms, source=row.source)
        return found

    # vehicles' health

    def hear(self, events: Iterable[StatusEvent]) -> None:
        """Keep each vehicle's newest status; one that a backlog brings late changes nothing."""
        rows = [
            {
                "vehicle": event.vehicle,
                "tick_ms": event.tick_ms,
                "received_ms": event.received_ms,
                "state": event.status.state,
                "counters": event.status.counters,
                "facts": event.status.facts,
            }
            for event in sorted(events, key=lambda event: (event.vehicle, event.tick_ms))
        ]
        if not rows:
            return
        with self._tables.writing() as db:
            new = insert(db, HEARD)
            newest = {name: new.excluded[name] for name in rows[0]}
            newer = HEARD.c.tick_ms <= new.excluded.tick_ms
            db.execute(new.on_conflict_do_update(index_elements=["vehicle"], set_=newest, where=newer), rows)

    def heard(self, vehicle: str) -> dict[str, Any] | None:
        """tick_ms, received_ms, state, counters, facts of its newest status; None: it has not said how it does."""
        columns = (HEARD.c.tick_ms, HEARD.c.received_ms, HEARD.c.state, HEARD.c.counters, HEARD.c.facts)
        with self._tables.reading() as connection:
            row = connection.execute(select(*columns).where(HEARD.c.vehicle == vehicle)).mappings().one_or_none()
        return None if row is None else dict(row)

    def all_heard(self) -> dict[str, tuple[int, str]]:
        """By vehicle: when its newest status was received, and its state; of all replicas."""
        with self._tables.reading() as connection:
            rows = connection.execute(select(HEARD.c.vehicle, HEARD.c.received_ms, HEARD.c.state)).all()
        return {row.vehicle: (row.received_ms, row.state) for row in rows}

    # sinks

    def cursor(self, sink: str) -> int:
        """The first landing position that the sink has not taken yet."""
        where = (CURSORS.c.replica == self.replica, CURSORS.c.sink == sink)
        with self._tables.reading() as connection:
            return connection.execute(select(CURSORS.c.position).where(*where)).scalar() or 0

    def advance(self, sink: str, position: int, unplaced: Iterable[tuple[int, str, bytes]] = (), placed: Iterable[int] = ()) -> None:
        """Move a sink's cursor; note what it had to leave (position, vehicle, boot id), strike out what it has placed since."""
        mine = {"replica": self.replica, "sink": sink}
        left = [mine | {"position": number, "vehicle": vehicle, "boot_id": boot_id} for number, vehicle, boot_id in unplaced]
        with self._tables.writing() as db:
            if left:
                db.execute(insert(db, UNPLACED).on_conflict_do_nothing(), left)
            for number in placed:
                db.execute(UNPLACED.delete().where(*self._my(UNPLACED), UNPLACED.c.sink == sink, UNPLACED.c.position == number))
            row = mine | {"position": position}
            db.execute(insert(db, CURSORS, row).on_conflict_do_update(index_elements=["replica", "sink"], set_=row))

    def unplaced(self, sink: str, vehicle: str, boot_id: bytes) -> list[int]:
        """Positions that wait for a boot's clock."""
        where = (*self._my(UNPLACED), UNPLACED.c.sink == sink, UNPLACED.c.vehicle == vehicle, UNPLACED.c.boot_id == boot_id)
        with self._tables.reading() as connection:
            return list(connection.execute(select(UNPLACED.c.position).where(*where).order_by(UNPLACED.c.position)).scalars())

    def waiting(self, sink: str) -> set[tuple[str, bytes]]:
        """(vehicle, boot id) of boots of which something waits for its clock. Reads all of the sink's: a question for its start."""
        rows = select(UNPLACED.c.vehicle, UNPLACED.c.boot_id).distinct().where(*self._my(UNPLACED), UNPLACED.c.sink == sink)
        with self._tables.reading() as connection:
            return {(row.vehicle, row.boot_id) for row in connection.execute(rows)}

    def dated(self, boots: Iterable[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
        """Those of (vehicle, boot id) whose clock is known by now: another replica has been told it."""
        asked = sorted(boots)
        found = []
        with self._tables.reading() as connection:
            for start in range(0, len(asked), MOST_NAMED):
                which = tuple_(CLOCKS.c.vehicle, CLOCKS.c.boot_id).in_(asked[start : start + MOST_NAMED])
                found += [(row.vehicle, row.boot_id) for row in connection.execute(select(CLOCKS.c.vehicle, CLOCKS.c.boot_id).where(which))]
        return sorted(found)

    def unplaced_before(self, position: int, most: int) -> list[int]:
        """The oldest positions below `position` that wait for a clock, for whatever sink."""
        found: set[int] = set()
        with self._tables.reading() as connection:
            for mine in self._of_each_sink(connection):
                query = select(UNPLACED.c.position).where(*mine, UNPLACED.c.position < position).order_by(UNPLACED.c.position)
                found.update(connection.execute(query.limit(most)).scalars())
        return sorted(found)[:most]

    def strike_out(self, positions: Iterable[int]) -> None:
        """Nothing waits there any more."""
        some = [{"at": position} for position in positions]
        with self._tables.writing() as connection:
            for mine in self._of_each_sink(connection) if some else ():
                connection.execute(UNPLACED.delete().where(*mine, UNPLACED.c.position == bindparam("at")), some)

    def oldest_unplaced(self) -> int | None:
        with self._tables.reading() as connection:
            oldest = [
                connection.execute(select(func.min(UNPLACED.c.position)).where(*mine)).scalar() for mine in self._of_each_sink(connection)
            ]
        return min((one for one in oldest if one is not None), default=None)

    def _of_each_sink(self, connection: Connection) -> list[tuple[ColumnElement[bool], ...]]:
        """What is unplaced, sink by sink: by the key's own columns, since millions of rows may wait. Whose something waits has a cursor."""
        sinks = connection.execute(select(CURSORS.c.sink).where(*self._my(CURSORS)).order_by(CURSORS.c.sink)).scalars().all()
        return [(*self._my(UNPLACED), UNPLACED.c.sink == sink) for sink in sinks]

    # replays of the quarantine, asked for by another process

    def ask_replay(self, positions: Sequence[int], drop: bool = False) -> int:
        """Ask the running cloud to replay these positions, none: all; or to drop them. Returns the request's number."""
        asked = {"drop": list(positions)} if drop else list(positions)
        with self._tables.writing() as connection:
            return int(
                connection.execute(REPLAYS.insert().values(positions=asked, replica=self.replica).returning(REPLAYS.c.id)).scalar_one()
            )

    def asked_replays(self) -> list[tuple[int, list[int], bool]]:
        """(number, positions, whether they are to be dropped) of the requests that have no answer."""
        with self._tables.reading() as connection:
            rows = connection.execute(
                select(REPLAYS.c.id, REPLAYS.c.positions).where(*self._my(REPLAYS), REPLAYS.c.answer.is_(None)).order_by(REPLAYS.c.id)
            ).all()
        found = ((row.id, row.positions) for row in rows)
        return [(number, asked["drop"], True) if isinstance(asked, dict) else (number, asked, False) for number, asked in found]

    def answer_replay(self, number: int, answer: Mapping[str, Any]) -> None:
        with self._tables.writing() as connection:
            connection.execute(REPLAYS.update().where(REPLAYS.c.id == number).values(answer=dict(answer)))

    def take_replay(self, number: int) -> dict[str, Any] | None:
        """The answer, which is then forgotten; None while there is none."""
        with self._tables.writing() as connection:
            answer = connection.execute(select(REPLAYS.c.answer).where(REPLAYS.c.id == number)).scalar_one_or_none()
            if answer is None:
                return None
            connection.execute(REPLAYS.delete().where(REPLAYS.c.id == number))
        return dict(answer)

    # hours whose minutes are to be made again

    def note_windows(self, windows: Iterable[tuple[str, str, int]], now_ms: int) -> None:
        """(vehicle, model, hour): ticks of them have been written."""
        rows = [{"vehicle": vehicle, "hour_ms": hour_ms, "model": model, "noted_ms": now_ms} for vehicle, model, hour_ms in sorted(windows)]
        if not rows:
            return
        with self._tables.writing() as db:
            again = insert(db, WINDOWS).on_conflict_do_update(index_elements=["vehicle", "hour_ms"], set_={"noted_ms": now_ms})
            db.execute(again, rows)

    def quiet_windows(self, before_ms: int, most: int) -> list[tuple[str, str, int, int]]:
        """(vehicle, model, hour, noted) of those not noted since, the longest first."""
        columns = (WINDOWS.c.vehicle, WINDOWS.c.model, WINDOWS.c.hour_ms, WINDOWS.c.noted_ms)
        query = select(*columns).where(WINDOWS.c.noted_ms <= before_ms).order_by(WINDOWS.c.noted_ms).limit(most)
        with self._tables.reading() as connection:
            return [(row.vehicle, row.model, row.hour_ms, row.noted_ms) for row in connection.execute(query)]

    def claim_window(self, vehicle: str, hour_ms: int, noted_ms: int, now_ms: int) -> bool:
        """Whether it is ours to make: nobody has claimed or noted it since it was read."""
        where = (WINDOWS.c.vehicle == vehicle, WINDOWS.c.hour_ms == hour_ms, WINDOWS.c.noted_ms == noted_ms)
        with self._tables.writing() as connection:
            return connection.execute(WINDOWS.update().where(*where).values(noted_ms=now_ms)).rowcount == 1

    def forget_window(self, vehicle: str, hour_ms: int, noted_ms: int) -> None:
        """It is made, unless it was noted again meanwhile."""
        where = (WINDOWS.c.vehicle == vehicle, WINDOWS.c.hour_ms == hour_ms, WINDOWS.c.noted_ms == noted_ms)
        with self._tables.writing() as connection:
            connection.execute(WINDOWS.delete().where(*where))

    def count_windows(self) -> int:
        with self._tables.reading() as connection:
            return int(connection.execute(select(func.count()).select_from(WINDOWS)).scalar_one())

    # which sequences have landed

    def checkpoint(self) -> int:
        """The landing position up to which the saved sets are complete."""
        with self._tables.reading() as connection:
            return connection.execute(select(CHECKPOINT.c.position).where(*self._my(CHECKPOINT))).scalar() or 0

    def landed(self, streams: Sequence[bytes]) -> dict[bytes, bytes]:
        """By stream what was saved of it (`cloud.landed.Sequences.pack`), of those of which anything was; with one query."""
        query = select(LANDED.c.stream, LANDED.c.ranges).where(*self._my(LANDED), LANDED.c.stream.in_(streams))
        with self._tables.reading() as connection:
            return {row.stream: row.ranges for row in connection.execute(query)}

    def save_landed(self, position: int, changed: Mapping[bytes, bytes], now_ms: int) -> None:
        """Save the sets that changed (as `landed` has them) and the position they are complete to."""
        rows = [{"replica": self.replica, "stream": stream, "seen_ms": now_ms, "ranges": row} for stream, row in changed.items()]
        with self._tables.writing() as db:
            if rows:
                new = insert(db, LANDED)
                again = {"seen_ms": new.excluded.seen_ms, "ranges": new.excluded.ranges}
                db.execute(new.on_conflict_do_update(index_elements=["replica", "stream"], set_=again), rows)
            row = {"replica": self.replica, "position": position}
            db.execute(insert(db, CHECKPOINT, row).on_conflict_do_update(index_elements=["replica"], set_=row))

    def forget_landed(self, before_ms: int) -> int:
        """Keep nothing of streams that have not changed since then. How many. They are found by reading the table, so that nobody waits."""
        old = (*self._my(LANDED), LANDED.c.seen_ms < before_ms)
        with self._tables.reading() as connection:
            streams = connection.execute(select(LANDED.c.stream).where(*old)).scalars().all()
        for start in range(0, len(streams), AT_ONCE):
            with self._tables.writing() as db:
                db.execute(LANDED.delete().where(*old, LANDED.c.stream.in_(streams[start : start + AT_ONCE])))
        return len(streams)

    def _my(self, table: Table) -> tuple[ColumnElement[bool]]:
        """Of this replica."""
        return (table.c.replica == self.replica,)
