"""Data quality's sink: what was received becomes what is known of vehicles' days. Its cursor stays behind what `flush` has kept."""

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from cloud.events import Event, FindingEvent, GapEvent, StatusEvent, TickRows
from cloud.lake.folders import DAY_MS
from cloud.quality.day import Day, Dropped
from cloud.quality.figures import figures
from cloud.quality.tables import QualityTables
from cloud.quality.twins import Twins
from dbc.catalogue import Catalogue

__all__ = ["QualitySink"]

REMEMBERED = 4096  # days of a vehicle in memory, 15 kB each
BACK_DAYS = 8  # how long before a gap's message the stream may have been that it is about
RUNNING = "running"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class QualitySink:
    """`catalogues` by the vehicle model's name. One thread."""

    name = "quality"

    def __init__(self, tables: QualityTables, catalogues: Mapping[str, Catalogue | None], now_ms: Callable[[], int] = _now_ms) -> None:
        self._tables = tables
        self._twins = Twins(catalogues)
        self._now_ms = now_ms
        self._days: dict[tuple[str, int], Day] = {}
        self._touched: set[tuple[str, int]] = set()

    def take(self, events: Sequence[Event]) -> None:
        """Recorded logs are looked at as they are."""
        compared: list[tuple[TickRows, Day]] = []
        for event in events:
            if event.replay:
                continue
            if isinstance(event, TickRows):
                if len(event.tick_ms):
                    compared += [(event, day) for day in self._take_rows(event)]
            elif isinstance(event, StatusEvent):
                day = self._day(event.vehicle, event.tick_ms // DAY_MS)
                day.note(event.stream.hex(), event.sequence)
                if event.status.state != RUNNING:
                    day.say(event.tick_ms, event.status.state)
            elif isinstance(event, FindingEvent):
                self._day(event.vehicle, event.finding.tick_ms // DAY_MS).note(event.stream.hex(), event.sequence)
            else:
                self._take_gap(event)
        self._twins.compare(compared)

    def flush(self) -> None:
        """What was taken is in the tables."""
        now_ms = self._now_ms()
        told = {}
        for key in self._touched:
            start_ms = key[1] * DAY_MS
            told[key] = (self._days[key], figures(self._days[key], start_ms, now_ms > start_ms + 2 * DAY_MS))
        self._tables.keep(told, now_ms)
        if len(self._days) > REMEMBERED:
            self._days = {key: self._days[key] for key in self._touched}
        self._touched = set()

    def _take_rows(self, rows: TickRows) -> list[Day]:
        """The day that the batch's first tick is in, where it was not there yet."""
        counted: list[Day] = []
        stream, valid = rows.stream.hex(), rows.reason.size - int(np.count_nonzero(rows.reason))  # 0 is VALID
        ticks = rows.tick_ms.tolist()
        first, last = ticks[0] // DAY_MS, ticks[-1] // DAY_MS
        for number in range(first, last + 1) if first != last else (first,):
            start_ms = number * DAY_MS
            seconds = [(tick - start_ms) // 1000 for tick in ticks if first == last or tick // DAY_MS == number]
            if not seconds:
                continue
            starts = number == first
            values = (rows.reason.size, valid) if starts else (0, 0)
            day = self._day(rows.vehicle, number)
            if day.add(stream, rows.sequence, seconds, start_ms, rows.received_ms, *values, starts) and starts:
                counted.append(day)
        return counted

    def _take_gap(self, event: GapEvent) -> None:
        """To the day at which its stream was when what it lost was recorded."""
        arrived = event.received_ms // DAY_MS
        self._day(event.vehicle, arrived).note(event.stream.hex(), event.sequence)
        gap = event.gap
        dropped = Dropped(gap.stream.hex(), gap.first, gap.last, gap.reason)
        near = {
            number for vehicle, number in self._days if vehicle == event.vehicle and dropped.stream in self._days[vehicle, number].streams
        }
        near |= set(self._tables.days_with(event.vehicle, dropped.stream, arrived - BACK_DAYS, arrived))
        before = [n for n in near if self._day(event.vehicle, n).streams[dropped.stream][0].first < gap.first]
        self._day(event.vehicle, max(before) if before else min(near) if near else arrived).drop(dropped)

    def _day(self, vehicle: str, number: int) -> Day:
        """To be changed."""
        key = vehicle, number
        day = self._days.get(key)
        if day is None:
            day = self._days[key] = self._tables.mine(vehicle, number) or Day()
        self._touched.add(key)
        return day
