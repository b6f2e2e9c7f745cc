"""Data quality's sink: what was received becomes what is known of vehicles' days. Its cursor stays behind what `flush` has kept."""

import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from cloud.events import Event, FindingEvent, GapEvent, StatusEvent, TickRows
from cloud.lake.folders import DAY_MS
from cloud.quality.day import Batch, Dropped, News
from cloud.quality.tables import QualityTables
from cloud.quality.twins import Twins
from dbc.catalogue import Catalogue

__all__ = ["QualitySink"]

RUNNING = "running"
PARTS, LEAST = 24, 20  # a flush has so many parts, of so many vehicles' days at least: 3,000 at once take 2 s of a processor
MOST = 200_000  # batches that are held, 0.4 kB each; a fleet of 3,000 sends 180,000 between two flushes


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass
class _Flush:
    """In parts. left: the days and vehicles whose turn is still to come; part: how many at once; dropped: gaps that were there before."""

    left: list[tuple[int, str]]
    part: int
    dropped: int


class QualitySink:
    """`catalogues` by the vehicle model's name. One thread. Holds what came since the last `flush`, at most `most` batches."""

    name = "quality"

    def __init__(
        self,
        tables: QualityTables,
        catalogues: Mapping[str, Catalogue | None],
        now_ms: Callable[[], int] = _now_ms,
        most: int = MOST,
    ) -> None:
        self._tables = tables
        self._most = most
        self._held = 0
        self._twins = Twins(catalogues)
        self._now_ms = now_ms
        self._news: dict[int, dict[str, News]] = {}  # by day and vehicle
        self._dropped: deque[tuple[str, int, Dropped]] = deque()  # by whom, and the day on which it was told
        self._flush: _Flush | None = None  # the one in parts that is under way

    def take(self, events: Sequence[Event]) -> None:
        """Recorded logs are left out: they are looked at as they are. Raises as `flush` while there is no room; then nothing is taken."""
        while self._held >= self._most:
            self._learn(list(islice(self._days(), LEAST)))
        compared: list[tuple[TickRows, Batch]] = []
        for event in events:
            if event.replay:
                continue
            if isinstance(event, TickRows):
                if len(event.tick_ms):
                    compared.append((event, self._take_rows(event)))
            elif isinstance(event, StatusEvent):
                news = self._of(event.vehicle, event.tick_ms // DAY_MS)
                news.others.append((event.stream.hex(), event.sequence))
                if event.status.state != RUNNING:
                    news.states.append((event.tick_ms, event.status.state))
            elif isinstance(event, FindingEvent):
                self._of(event.vehicle, event.finding.tick_ms // DAY_MS).others.append((event.stream.hex(), event.sequence))
            else:
                self._take_gap(event)
        self._twins.compare(compared)

    def flush(self) -> None:
        """What was taken is in the tables. What they did not take is kept, and given to them again: it is counted once."""
        self._flush = None
        self._learn(list(self._days()))
        while self._dropped:
            self._drop()

    def flush_some(self) -> bool:
        """The next vehicles' days. True once all that was taken before the first part is in the tables."""
        if self._flush is None:
            days = list(self._days())
            self._flush = _Flush(days, max(LEAST, -(-len(days) // PARTS)), len(self._dropped))
        flush = self._flush
        self._learn(flush.left[: flush.part])
        del flush.left[: flush.part]
        if flush.left:
            return False
        while flush.dropped:
            self._drop()
            flush.dropped -= 1
        self._flush = None
        return True

    def _days(self) -> Iterator[tuple[int, str]]:
        """Of which something is held, the oldest first."""
        return ((day, vehicle) for day, news in self._news.items() for vehicle in news)

    def _learn(self, days: Iterable[tuple[int, str]]) -> None:
        """Those of which nothing is held any more are passed over."""
        held: dict[int, dict[str, News]] = defaultdict(dict)
        for day, vehicle in days:
            if (news := self._news.get(day, {}).get(vehicle)) is not None:
                held[day][vehicle] = news
        for day, some in held.items():
            self._tables.learn(day, some, self._now_ms())
            for vehicle, news in some.items():
                self._held -= len(news.batches)
                del self._news[day][vehicle]
            if not self._news[day]:
                del self._news[day]

    def _drop(self) -> None:
        """The first gap, after what came before it: where its stream began says to which day it belongs."""
        self._tables.drop(*self._dropped[0], self._now_ms())
        self._dropped.popleft()

    def _take_rows(self, rows: TickRows) -> Batch:
        """What it says of the day that its first tick is in."""
        stream, sequence, values = rows.stream.hex(), rows.sequence, rows.reason.size
        valid = values - int(np.count_nonzero(rows.reason))  # 0 is VALID
        ticks = rows.tick_ms.tolist()  # they ascend
        day = ticks[0] // DAY_MS
        start, end = day * DAY_MS, (day + 1) * DAY_MS
        first = Batch(stream, sequence, [(tick - start) // 1000 for tick in ticks if tick < end], rows.received_ms, values, valid)
        self._hold(rows.vehicle, day, first)
        if ticks[-1] >= end:
            following: dict[int, list[int]] = defaultdict(list)
            for tick in ticks[len(first.seconds) :]:
                following[tick // DAY_MS].append(tick % DAY_MS // 1000)
            for its_day, seconds in following.items():
                self._hold(rows.vehicle, its_day, Batch(stream, sequence, seconds, rows.received_ms, 0, 0, False))
        return first

    def _hold(self, vehicle: str, day: int, batch: Batch) -> None:
        self._of(vehicle, day).batches.append(batch)
        self._held += 1

    def _take_gap(self, event: GapEvent) -> None:
        arrived = event.received_ms // DAY_MS
        self._of(event.vehicle, arrived).others.append((event.stream.hex(), event.sequence))
        gap = event.gap
        self._dropped.append((event.vehicle, arrived, Dropped(gap.stream.hex(), gap.first, gap.last, gap.reason)))

    def _of(self, vehicle: str, day: int) -> News:
        vehicles = self._news.setdefault(day, {})
        news = vehicles.get(vehicle)
        if news is None:
            news = vehicles[vehicle] = News()
        return news
