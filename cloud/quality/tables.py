"""Where days are kept: one row for each vehicle and day, the state that figures are made of, and a fleet's sums.

Replicas share the rows. The broker gives a vehicle's batches to one or the other, so each alone would know of every second batch, and
its days would be 20,000 runs of one batch each.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Self

import msgspec
from sqlalchemy import BigInteger, Column, Connection, Index, Integer, LargeBinary, MetaData, String, Table, bindparam, func, insert, select

from cloud.lake.folders import DAY_MS
from cloud.quality.day import Day, Dropped, News, dump, load
from cloud.quality.figures import figures
from cloud.tables import Tables

__all__ = ["META", "FleetDay", "QualityTables"]

META = MetaData()
SUMS = ("seen", "missing", "recorded", "failed")
DAYS = Table(
    "quality_days",
    META,
    Column("vehicle", String, primary_key=True),
    Column("day", Integer, primary_key=True),  # since 1970, UTC
    Column("seen", Integer, nullable=False),
    Column("missing", Integer, nullable=False),
    Column("recorded", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("written_ms", BigInteger, nullable=False),
    Column("state", LargeBinary, nullable=False),
    Index("quality_by_day", "day", "vehicle", *SUMS),  # a fleet's days without their states, each of a few kB
)
MOST_NAMED = 500  # vehicles in one question
TOGETHER = 200  # vehicles' days in one transaction
BACK_DAYS = 8  # how long before a gap's message the stream may have been that it is about
KNOWN_DAYS = 30  # a vehicle that has sent nothing for longer is not of the fleet any more


class FleetDay(msgspec.Struct, frozen=True):
    """vehicles: that sent ticks; known: those and the ones that had in the KNOWN_DAYS before; sums of their figures."""

    day: int
    vehicles: int
    known: int
    seen: int
    missing: int
    recorded: int
    failed: int


class QualityTables:
    """`with QualityTables(url)`. Calls block; they may come from several threads, and from several clouds."""

    def __init__(self, url: str) -> None:
        self._tables = Tables(url, "data quality")

    def __enter__(self) -> Self:
        self._tables.open(make_folder=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._tables.close()

    def learn(self, number: int, news: Mapping[str, News], now_ms: int) -> None:
        """Lay what was received of vehicles over what is known of their day `number`. Where it raises, some of it may be there already:
        that again changes nothing."""

        def learn_of(vehicle: str, day: Day) -> None:
            day.learn(news[vehicle], number * DAY_MS)

        vehicles = sorted(news)
        for at in range(0, len(vehicles), TOGETHER):
            self._tables.write(partial(_change, number=number, vehicles=vehicles[at : at + TOGETHER], change=learn_of, now_ms=now_ms))

    def drop(self, vehicle: str, arrived: int, dropped: Dropped, now_ms: int) -> None:
        """A gap's message, which came on day `arrived`: to the day at which its stream was when what it lost was recorded."""
        columns = (DAYS.c.day, DAYS.c.state)
        near = select(*columns).where(DAYS.c.vehicle == vehicle, DAYS.c.day >= arrived - BACK_DAYS, DAYS.c.day <= arrived)

        def drop_of(_: str, day: Day) -> None:
            day.drop(dropped)

        def work(db: Connection) -> None:
            begun = {day: runs[0].first for day, state in db.execute(near) if (runs := load(state).streams.get(dropped.stream))}
            before = [day for day, first in begun.items() if first < dropped.first]
            _change(db, max(before, default=min(begun, default=arrived)), [vehicle], drop_of, now_ms)

        self._tables.write(work)

    def of(self, vehicle: str, first: int, last: int) -> dict[int, Day]:
        """A vehicle's days first..last."""
        query = select(DAYS.c.day, DAYS.c.state).where(DAYS.c.vehicle == vehicle, DAYS.c.day >= first, DAYS.c.day <= last)
        with self._tables.reading() as db:
            return {day: load(state) for day, state in db.execute(query.order_by(DAYS.c.day))}

    def completeness(self, vehicles: Sequence[str], day: int) -> dict[str, float]:
        """Of the ticks there should be, the share that is there, of those of the vehicles that sent some that day."""
        columns = (DAYS.c.vehicle, DAYS.c.seen, DAYS.c.missing)
        found: dict[str, float] = {}
        with self._tables.reading() as db:
            for at in range(0, len(vehicles), MOST_NAMED):  # by the primary key: a fleet's days are many
                query = select(*columns).where(DAYS.c.vehicle.in_(vehicles[at : at + MOST_NAMED]), DAYS.c.day == day, DAYS.c.seen > 0)
                found |= {vehicle: seen / (seen + missing) for vehicle, seen, missing in db.execute(query)}
        return found

    def fleet(self, first: int, last: int) -> list[FleetDay]:
        """Each of the days first..last in which a vehicle sent something."""
        columns = (DAYS.c.day, DAYS.c.vehicle, *(DAYS.c[name] for name in SUMS))
        query = select(*columns).where(DAYS.c.day >= first - KNOWN_DAYS, DAYS.c.day <= last, DAYS.c.seen > 0)
        days: dict[int, dict[str, list[int]]] = {}
        with self._tables.reading() as db:
            for day, vehicle, *sums in db.execute(query):
                days.setdefault(day, {})[vehicle] = sums
        return [_fleet_day(day, days) for day in sorted(days) if day >= first]

    def forget(self, before: int) -> int:
        """Remove all vehicles' days before `before`, one in each transaction; how many vehicles' days there were."""
        forgotten = 0
        while True:
            with self._tables.writing() as db:
                oldest = db.execute(select(func.min(DAYS.c.day))).scalar()
                if oldest is None or oldest >= before:
                    return forgotten
                forgotten += db.execute(DAYS.delete().where(DAYS.c.day == oldest)).rowcount

    def delete(self, vehicle: str, first: int, last: int) -> int:
        """Remove a vehicle's days first..last; how many there were."""
        with self._tables.writing() as db:
            which = (DAYS.c.vehicle == vehicle, DAYS.c.day >= first, DAYS.c.day <= last)
            number = int(db.execute(select(func.count()).select_from(DAYS).where(*which)).scalar_one())
            db.execute(DAYS.delete().where(*which))
        return number


def _change(db: Connection, number: int, vehicles: Sequence[str], change: Callable[[str, Day], None], now_ms: int) -> None:
    """Read the vehicles' days, change and write them. Of two that make a day the second fails, and is called again."""
    where = (DAYS.c.day == number, DAYS.c.vehicle.in_(vehicles))
    query = select(DAYS.c.vehicle, DAYS.c.state).where(*where).order_by(DAYS.c.vehicle).with_for_update()
    kept = {row.vehicle: row.state for row in db.execute(query)}
    start_ms = number * DAY_MS
    new, changed = [], []
    for vehicle in vehicles:
        day = load(kept[vehicle]) if vehicle in kept else Day()
        change(vehicle, day)
        told = figures(day, start_ms, now_ms > start_ms + 2 * DAY_MS)
        row = {name: getattr(told, name) for name in SUMS} | {"written_ms": now_ms, "state": dump(day)}
        if vehicle in kept:
            changed.append(row | {"its_vehicle": vehicle, "its_day": number})
        else:
            new.append(row | {"vehicle": vehicle, "day": number})
    if changed:
        this = (DAYS.c.vehicle == bindparam("its_vehicle"), DAYS.c.day == bindparam("its_day"))
        db.execute(DAYS.update().where(*this), changed)
    if new:
        db.execute(insert(DAYS), new)


def _fleet_day(day: int, days: Mapping[int, Mapping[str, Sequence[int]]]) -> FleetDay:
    there = days[day]
    known: set[str] = set().union(*(_vehicles(days, number) for number in range(day - KNOWN_DAYS, day + 1)))
    seen, missing, recorded, failed = (sum(sums[at] for sums in there.values()) for at in range(len(SUMS)))
    return FleetDay(day, len(there), len(known), seen, missing, recorded, failed)


def _vehicles(days: Mapping[int, Iterable[str]], day: int) -> Iterable[str]:
    return days.get(day, ())
