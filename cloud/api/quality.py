"""Data quality: of a vehicle by day, and of the fleet by day."""

from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Literal

import msgspec

from cloud.api.backend import Backend
from cloud.api.guard import BadRequest
from cloud.api.route import Route, VehiclePath
from cloud.lake.folders import DAY_MS, day_of
from cloud.quality.day import Day
from cloud.quality.figures import Cause, figures
from cloud.quality.tables import FleetDay
from cloud.quality.telling import completeness, coverage, upload
from cloud.roles import Role

__all__ = ["QualityRoutes"]

DEFAULT_DAYS, MOST_DAYS = 30, 366
MOST_GAPS = 200  # of a day that are told, the longest; the figures count all
CAUSES = {
    Cause.ASLEEP: ("vehicle asleep", "车辆休眠"),
    Cause.OFF: ("agent off", "车载程序未运行"),
    Cause.DROPPED: ("dropped on the vehicle", "车端已丢弃"),
    Cause.NOT_ARRIVED: ("not arrived yet, or lost", "尚未到达或已丢失"),
    Cause.RESTART: ("agent restarted", "车载程序重启"),
    Cause.NOTHING_RECORDED: ("nothing recorded", "没有记录"),
}

REASONS_ZH = {  # as an agent says them
    "the outbox was full": "发送缓存已满",
    "damaged on the flash": "闪存数据损坏",
    "older than 90 days": "已超过 90 天",
}

DayText = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$")]


class DaysQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Days in UTC, both included; default: the thirty up to today. `lang`: of the causes' words."""

    from_day: DayText | None = None
    to_day: DayText | None = None
    lang: Literal["en", "zh"] = "en"


class GapShown(msgspec.Struct, frozen=True):
    """No ticks in [from_ms, to_ms). `code`: why; `cause`: in words; `lost`: whether it counts against the completeness."""

    from_ms: int
    to_ms: int
    code: Cause
    cause: str
    lost: bool


class Percentiles(msgspec.Struct, frozen=True):
    """From the bus to the cloud's custody, in ms, at most 9 % too much; null: no ticks. `backlog`: ticks of more than a minute."""

    p50: float | None
    p99: float | None
    backlog: int


class Implausible(msgspec.Struct, frozen=True):
    """A signal that was more than 2 % from its twins, at which share of the ticks that were compared."""

    signal: str
    share: float


class VehicleDay(msgspec.Struct, frozen=True):
    """completeness: of the ticks there should be. valid: of the values. upload: of the batches recorded, those that came within a day.
    clock_offset_ms: the vehicle's clock was at least so far ahead; a right one is below 0, by the time a batch takes."""

    day: str
    ticks: int
    missing: int
    completeness: float | None
    valid: float | None
    upload: float | None
    pending: int
    latency_ms: Percentiles
    clock_offset_ms: int | None
    gaps: list[GapShown]
    implausible: list[Implausible]


class VehicleQuality(msgspec.Struct, frozen=True):
    """Days of which something is known, the oldest first."""

    days: list[VehicleDay]


class FleetDayShown(msgspec.Struct, frozen=True):
    """vehicles: that sent ticks, of those `known`: that had in the thirty days before. coverage: their share."""

    day: str
    vehicles: int
    known: int
    coverage: float | None
    completeness: float | None
    upload: float | None


class FleetQuality(msgspec.Struct, frozen=True):
    """The oldest first."""

    days: list[FleetDayShown]


class QualityRoutes:
    """By vehicle, and of the fleet."""

    def __init__(self, backend: Backend) -> None:
        self._tables = backend.quality

    def routes(self) -> list[Route]:
        return [
            Route("GET", "/api/vehicles/{vehicle}/quality", self.vehicle, Role.READ_ONLY, cost=2.0),
            Route("GET", "/api/quality", self.fleet, Role.READ_ONLY, cost=5.0),
        ]

    def vehicle(self, path: VehiclePath, query: DaysQuery) -> VehicleQuality:
        """A vehicle's data quality by day (UTC)."""
        first, last = _span(query)
        if self._tables is None:
            return VehicleQuality([])
        today = _today()
        days = self._tables.of(path.vehicle, first, last)
        return VehicleQuality([_shown(number, day, number < today - 1, query.lang) for number, day in sorted(days.items())])

    def fleet(self, query: DaysQuery) -> FleetQuality:
        """The fleet's data quality by day (UTC)."""
        first, last = _span(query)
        return FleetQuality([_fleet_shown(day) for day in self._tables.fleet(first, last)] if self._tables is not None else [])


def _shown(number: int, day: Day, over: bool, lang: Literal["en", "zh"]) -> VehicleDay:
    start_ms = number * DAY_MS
    told = figures(day, start_ms, over)
    longest = sorted(sorted(told.holes, key=lambda hole: hole.begin - hole.end)[:MOST_GAPS], key=lambda hole: hole.begin)
    gaps = []
    for hole in longest:
        reason = REASONS_ZH.get(hole.reason, hole.reason) if lang == "zh" else hole.reason
        words = CAUSES[hole.cause][lang == "zh"] + (("：" if lang == "zh" else ": ") + reason if reason else "")
        lost = hole.cause not in (Cause.ASLEEP, Cause.OFF)
        gaps.append(GapShown(start_ms + 1000 * hole.begin, start_ms + 1000 * hole.end, hole.cause, words, lost))
    return VehicleDay(
        day=day_of(start_ms),
        ticks=told.seen,
        missing=told.missing,
        completeness=told.completeness,
        valid=told.valid,
        upload=told.upload,
        pending=told.pending,
        latency_ms=Percentiles(told.p50_ms, told.p99_ms, told.backlog),
        clock_offset_ms=told.ahead_ms,
        gaps=gaps,
        implausible=[Implausible(name, share) for name, share in told.off.items()],
    )


def _fleet_shown(day: FleetDay) -> FleetDayShown:
    return FleetDayShown(day_of(day.day * DAY_MS), day.vehicles, day.known, coverage(day), completeness(day), upload(day))


def _span(query: DaysQuery) -> tuple[int, int]:
    """First and last day, since 1970. Raises BadRequest."""
    last = _number("to_day", query.to_day) if query.to_day is not None else _today()
    first = _number("from_day", query.from_day) if query.from_day is not None else last - DEFAULT_DAYS + 1
    if not 0 <= last - first < MOST_DAYS:
        raise BadRequest(f"from_day, to_day: expected at most {MOST_DAYS} days, the first before the last; found {last - first + 1}")
    return first, last


def _number(name: str, day: str) -> int:
    try:
        return (date.fromisoformat(day) - date(1970, 1, 1)) // timedelta(days=1)
    except ValueError:
        raise BadRequest(f"{name}: there is no day {day}") from None


def _today() -> int:
    return (datetime.now(UTC).date() - date(1970, 1, 1)).days
