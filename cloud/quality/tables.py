"""Where days are kept: one row for each vehicle, day and replica, the state that figures are made of, and a fleet's sums."""

from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Self

import msgspec
from sqlalchemy import BigInteger, Column, Integer, LargeBinary, MetaData, String, Table, func, select

from cloud.quality.day import Day, dump, joined, load
from cloud.quality.figures import Figures
from cloud.tables import Tables, insert

__all__ = ["META", "FleetDay", "QualityTables"]

META = MetaData()
DAYS = Table(
    "quality_days",
    META,
    Column("vehicle", String, primary_key=True),
    Column("day", Integer, primary_key=True),  # since 1970, UTC
    Column("replica", String, primary_key=True),
    Column("seen", Integer, nullable=False),
    Column("missing", Integer, nullable=False),
    Column("recorded", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("written_ms", BigInteger, nullable=False),
    Column("state", LargeBinary, nullable=False),
)
SUMS = ("seen", "missing", "recorded", "failed")
MOST_NAMED = 500  # vehicles in one question
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
    """`with QualityTables(url, replica)`. Calls block; they may come from several threads."""

    def __init__(self, url: str, replica: str = "") -> None:
        self._tables = Tables(url, "data quality")
        self._replica = replica

    def __enter__(self) -> Self:
        self._tables.open(make_folder=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._tables.close()

    def mine(self, vehicle: str, day: int) -> Day | None:
        """What this replica counted."""
        query = select(DAYS.c.state).where(DAYS.c.vehicle == vehicle, DAYS.c.day == day, DAYS.c.replica == self._replica)
        with self._tables.reading() as db:
            kept = db.execute(query).scalar()
        return load(kept) if kept is not None else None

    def days_with(self, vehicle: str, stream: str, first: int, last: int) -> list[int]:
        """Days first..last in which this replica had that stream of the vehicle."""
        query = select(DAYS.c.day, DAYS.c.state).where(
            DAYS.c.vehicle == vehicle, DAYS.c.day >= first, DAYS.c.day <= last, DAYS.c.replica == self._replica
        )
        with self._tables.reading() as db:
            return [day for day, state in db.execute(query.order_by(DAYS.c.day)) if stream in load(state).streams]

    def keep(self, days: Mapping[tuple[str, int], tuple[Day, Figures]], now_ms: int) -> None:
        """Write what this replica counted, in one transaction."""
        rows = [
            {"vehicle": vehicle, "day": number, "replica": self._replica, "written_ms": now_ms, "state": dump(day)}
            | {name: getattr(told, name) for name in SUMS}
            for (vehicle, number), (day, told) in days.items()
        ]
        if not rows:
            return
        with self._tables.writing() as db:
            new = insert(db, DAYS)
            again = {name: new.excluded[name] for name in (*SUMS, "written_ms", "state")}
            db.execute(new.on_conflict_do_update(index_elements=["vehicle", "day", "replica"], set_=again), rows)

    def of(self, vehicle: str, first: int, last: int) -> dict[int, Day]:
        """A vehicle's days first..last, of all replicas together."""
        query = select(DAYS.c.day, DAYS.c.state).where(DAYS.c.vehicle == vehicle, DAYS.c.day >= first, DAYS.c.day <= last)
        found: dict[int, list[Day]] = {}
        with self._tables.reading() as db:
            for day, state in db.execute(query.order_by(DAYS.c.day)):
                found.setdefault(day, []).append(load(state))
        return {day: joined(parts) if len(parts) > 1 else parts[0] for day, parts in found.items()}

    def completeness(self, vehicles: Sequence[str], day: int) -> dict[str, float]:
        """Of the ticks there should be, the share that is there, of those of the vehicles that sent some that day."""
        columns = (DAYS.c.vehicle, *(DAYS.c[name] for name in SUMS))
        found: dict[str, list[int]] = {}
        with self._tables.reading() as db:
            for at in range(0, len(vehicles), MOST_NAMED):  # by the primary key: a fleet's days are many
                query = select(*columns).where(DAYS.c.vehicle.in_(vehicles[at : at + MOST_NAMED]), DAYS.c.day == day, DAYS.c.seen > 0)
                for vehicle, *sums in db.execute(query):
                    found[vehicle] = sums if vehicle not in found else _added(found[vehicle], sums)
        return {vehicle: seen / (seen + missing) for vehicle, (seen, missing, *_) in found.items()}

    def fleet(self, first: int, last: int) -> list[FleetDay]:
        """Each of the days first..last in which a vehicle sent something."""
        columns = (DAYS.c.day, DAYS.c.vehicle, *(DAYS.c[name] for name in SUMS))
        query = select(*columns).where(DAYS.c.day >= first - KNOWN_DAYS, DAYS.c.day <= last, DAYS.c.seen > 0)
        days: dict[int, dict[str, list[int]]] = {}
        with self._tables.reading() as db:
            for day, vehicle, *sums in db.execute(query):
                of_day = days.setdefault(day, {})
                # of two replicas each sees the other's ticks as missing
                of_day[vehicle] = sums if vehicle not in of_day else _added(of_day[vehicle], sums)
        return [_fleet_day(day, days) for day in sorted(days) if day >= first]

    def delete(self, vehicle: str, first: int, last: int) -> int:
        """Remove a vehicle's days first..last; how many there were."""
        with self._tables.writing() as db:
            which = (DAYS.c.vehicle == vehicle, DAYS.c.day >= first, DAYS.c.day <= last)
            number = int(db.execute(select(func.count()).select_from(DAYS).where(*which)).scalar_one())
            db.execute(DAYS.delete().where(*which))
        return number


def _added(one: Sequence[int], other: Sequence[int]) -> list[int]:
    seen = one[0] + other[0]
    expected = max(one[0] + one[1], other[0] + other[1])
    return [seen, max(0, expected - seen), one[2] + other[2], one[3] + other[3]]


def _fleet_day(day: int, days: Mapping[int, Mapping[str, Sequence[int]]]) -> FleetDay:
    there = days[day]
    known: set[str] = set().union(*(_vehicles(days, number) for number in range(day - KNOWN_DAYS, day + 1)))
    seen, missing, recorded, failed = (sum(sums[at] for sums in there.values()) for at in range(len(SUMS)))
    return FleetDay(day, len(there), len(known), seen, missing, recorded, failed)


def _vehicles(days: Mapping[int, Iterable[str]], day: int) -> Iterable[str]:
    return days.get(day, ())
