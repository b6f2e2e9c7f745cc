"""The tasks that feed each sink from the landing log, with a durable cursor of its own.

A sink that is away is tried again until it is back; the others go on meanwhile. The cursor is saved after the work, at most once a
second, so after a kill a sink is given some messages again: every sink takes a message twice as once. What cannot be opened any more,
and what a sink chokes on, is in the quarantine before the cursor passes it: the others do not wait, and nothing is skipped for good.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from cloud.database import Database
from cloud.events import Event
from cloud.landing import Landing
from cloud.placing import clock_for, needs_clock, own_clock, place
from cloud.quarantine import Kept, Quarantine, Source
from cloud.sinks import GROUP, GradualSink, Sink
from cloud.store import StoreUnavailable
from cloud.streams import Opened
from cloud.tables import TABLES_AWAY
from cloud.tickets.errors import TicketsUnusable
from wire.errors import SegmentLogError, WireError
from wire.messages import Announcement, Clock

READ_AHEAD = 2048  # messages that still wait: to read and to open what has left the memory takes as long as a store's encoder
MOST = 8192  # while it is behind, all that waits, up to so many: ticks of a series that come together cost InfluxDB a quarter less each
SAVE_EVERY_S = 1.0
LOOK_EVERY_S = 10.0
PACE_S = 0.1  # between two groups that are not full: each costs several threads' waking, whatever is in it
BUSY, BUSY_PACES = 16, 3  # after a group of so many messages the next may wait for so many times as long
FIRST_PAUSE_S, MAX_PAUSE_S = 0.25, 30.0
AWAY = (StoreUnavailable, TicketsUnusable, SegmentLogError, OSError, *TABLES_AWAY)  # worth trying again

T = TypeVar("T")
_Found = list[tuple[int, Opened | WireError]]  # with their landing positions

log = logging.getLogger(__name__)


def paced_s(pace_s: float, last: int) -> float:
    """How long a group may wait to grow, after one of `last` messages."""
    return pace_s * (BUSY_PACES if last >= BUSY else 1)


@dataclass
class _Work:
    """A group of landed messages, made ready."""

    events: list[tuple[int, Event]] = field(default_factory=list)  # with their landing positions
    unplaced: list[tuple[int, str, bytes]] = field(default_factory=list)
    placed: list[int] = field(default_factory=list)
    clocks: dict[tuple[str, bytes], Clock | None] = field(default_factory=dict)
    aside: list[Kept] = field(default_factory=list)
    dated: list[tuple[str, bytes]] = field(default_factory=list)  # boots that said their clock


@dataclass(frozen=True)
class _Flushing:
    """What the cursor and what was noted were when a flush in parts began: how many."""

    position: int
    unplaced: int
    placed: int


class Runner:
    """Feeds one sink. `wake` when something has landed; `run` until `stop`."""

    def __init__(self, sink: Sink, landing: Landing, quarantine: Quarantine, database: Database) -> None:
        self.sink = sink
        self.position = 0
        self.error = ""
        self.unreadable = 0  # landed messages that could not be opened, since the start: they are in the quarantine
        self._landing = landing
        self._quarantine = quarantine
        self._database = database
        self._landed = asyncio.Event()
        self._stopping = asyncio.Event()
        self._halted = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"sink-{sink.name}")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix=f"read-{sink.name}")
        self._ahead: tuple[int, Future[_Found]] | None = None  # what is read while the sink takes what comes before it, and from where on
        self._every_s: float = getattr(sink, "save_every_s", SAVE_EVERY_S)
        self._saved_s = 0.0 if self._every_s <= SAVE_EVERY_S else time.monotonic()
        self._pace_s: float = getattr(sink, "pace_s", PACE_S)
        self._wants: type | tuple[type, ...] = getattr(sink, "wants", object)
        self._stepped_s = 0.0
        self._last_group = 0  # messages
        self._looked_s = time.monotonic()
        self._saved = 0
        self._flushing: _Flushing | None = None  # a flush in parts that is under way
        self._unplaced: list[tuple[int, str, bytes]] = []  # noted since the cursor was saved
        self._placed: list[int] = []
        self._boots: set[tuple[str, bytes]] = set()  # (vehicle, boot id) of which something waits for its clock, or has

    @property
    def saved(self) -> int:
        """The cursor that is on the disk: landing records before it are not needed for this sink any more."""
        return self._saved

    @property
    def behind(self) -> int:
        """Landed messages that the sink has not taken."""
        return max(0, self._landing.next - self.position)

    @property
    def _has_news(self) -> bool:
        """Whether there is something to be saved."""
        return self.position != self._saved or bool(self._unplaced or self._placed)

    @property
    def _called(self) -> str:
        return f"sink {self.sink.name}"

    def wake(self) -> None:
        self._landed.set()

    def stop(self) -> None:
        """End when everything that has landed is taken, or at once while the sink is away."""
        self._stopping.set()
        self._landed.set()

    def halt(self) -> None:
        """End after the group that is under way: the rest is taken after the next start."""
        self._halted = True
        self.stop()

    async def run(self) -> None:
        """Until `stop`. Raises only what is a fault of ours."""
        try:
            cursor = await self._in_thread(lambda: self._database.cursor(self.sink.name))
            if cursor > self._landing.next:
                # The tables outlived the volume, or a backup of it is older than they are: what lands now has numbers it has passed.
                words = "sink %s: its cursor is %d and the landing log ends at %d: it is not the log that it was; all of it is taken"
                log.warning(words, self.sink.name, cursor, self._landing.next)
                cursor = 0
            self.position = self._saved = max(cursor, self._landing.first)
            self._boots = await self._in_thread(lambda: self._database.waiting(self.sink.name))
            while True:
                self._landed.clear()
                while self.behind and not self._halted:
                    await self._gather()
                    if not await self._step():
                        return  # stopped while the sink was away
                if not await self._take_up_dated():
                    return
                if self._every_s <= SAVE_EVERY_S or self._stopping.is_set():
                    await self._save()
                elif self._is_due():
                    await self._save_some()
                if self._stopping.is_set():
                    return
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._landed.wait(), self._idle_s())
        finally:
            await self._save()
            self._thread.shutdown()
            self._reader.shutdown()

    def _idle_s(self) -> float | None:
        """How long to wait for what lands; None: nothing else is to be done."""
        if self._flushing is not None:
            return self._pace_s
        return max(self._pace_s, self._saved_s + self._every_s - time.monotonic()) if self._has_news else None

    async def _gather(self) -> None:
        """Where little has come since the last group, wait for more, for a moment. What comes after a silence waits for nothing."""
        pause_s = self._stepped_s + paced_s(self._pace_s, self._last_group) - time.monotonic()
        if pause_s > 0 and self.behind < GROUP and not self._stopping.is_set():
            await self._pause(pause_s)
        self._stepped_s = time.monotonic()
        self._last_group = self.behind

    async def _step(self) -> bool:
        end = self._landing.next  # before reading: what lands meanwhile is not skipped
        try:
            found, work = await self._in_thread(self._read)
        except AWAY as error:  # the tables or the disk, not the sink
            self._say_away(error)
            await self._pause(MAX_PAUSE_S / 10)
            return not self._stopping.is_set()
        if not found:  # what was left is a damaged stretch of the log
            self.position = end
            return True
        if self._landing.next - found[-1][0] > READ_AHEAD:
            self._ahead = found[-1][0] + 1, self._reader.submit(self._landing.read, found[-1][0] + 1, MOST)
        if not await self._take(work.events):
            return False
        self._unplaced += work.unplaced
        for boot in work.dated:
            if not await self._take_up(boot):
                return False
        self.position = found[-1][0] + 1
        if self._is_due():
            await self._save_some()
        return True

    def _read(self) -> tuple[_Found, _Work]:
        ahead, self._ahead = self._ahead, None
        found = ahead[1].result() if ahead is not None and ahead[0] == self.position else []
        if not found:
            found = self._landing.read(self.position, min(max(GROUP, self.behind), MOST))
        return found, self._prepare(found)

    def _is_due(self) -> bool:
        if self._flushing is not None or time.monotonic() - self._saved_s >= self._every_s:
            return True
        noted = len(self._unplaced) + len(self._placed)
        return noted >= (MOST if isinstance(self.sink, GradualSink) else 1)

    def _prepare(self, found: _Found) -> _Work:
        """Place what can be placed; a boot without a clock is noted, and taken up when its clock has come."""
        work = _Work()
        for position, opened in found:
            if isinstance(opened, WireError):
                self._leave(position, opened, work)
                continue
            dates = isinstance(opened.message, Clock | Announcement)
            if not dates and not isinstance(opened.message, self._wants):
                continue
            if (own := own_clock(opened)) is not None and not dates:
                self._place(position, opened, own, work)
                continue
            boot = (opened.header.vehicle, opened.stream.announcement.boot_id)
            clock = clock_for(opened, partial(self._clock, boot, work))
            if clock is None and needs_clock(opened):
                work.unplaced.append((position, *boot))
                continue
            if dates and self._clock(boot, work) is not None:
                work.dated.append(boot)
            self._place(position, opened, clock, work)
        self._quarantine.put_all(work.aside)
        self._boots |= {(vehicle, boot_id) for _, vehicle, boot_id in work.unplaced}
        # hardly ever any: and a starting fleet says many clocks
        work.dated = [boot for boot in dict.fromkeys(work.dated) if boot in self._boots]
        return work

    def _leave(self, position: int, error: WireError, work: _Work) -> None:
        """A message whose key or DBC is missing today is kept for the day when it is there."""
        record = self._landing.record(position)
        if record is None:
            return  # damaged since it was read: the log's gaps name it
        self.unreadable += 1
        if self.unreadable == 1:
            log.warning("sink %s: landing record %d is put into the quarantine (said once): %s", self.sink.name, position, error)
        work.aside.append(Kept(Source.LANDED, record[0], str(error), record[1]))

    def _place(self, position: int, opened: Opened, clock: Clock | None, work: _Work) -> None:
        try:
            event = place(opened, clock)
        except Exception as error:  # noqa: BLE001 - one bad message must not stop the sink for all others
            record = self._landing.record(position)
            log.error("vehicle %s, landing record %d is put aside: %s: %s", opened.header.vehicle, position, type(error).__name__, error)
            if record is not None:
                work.aside.append(Kept(Source.SINK, record[0], f"{self._called}: placing: {type(error).__name__}: {error}", record[1]))
            return
        if event is not None:
            work.events.append((position, event))

    def _clock(self, boot: tuple[str, bytes], work: _Work) -> Clock | None:
        if boot not in work.clocks:
            work.clocks[boot] = self._database.clock(*boot)
        return work.clocks[boot]

    async def _take_up_dated(self) -> bool:
        """What waits for clocks that another replica was told meanwhile. False when stopped before the end."""
        if not self._database.replica or time.monotonic() - self._looked_s < LOOK_EVERY_S:
            return True
        self._looked_s = time.monotonic()
        try:
            boots = await self._in_thread(lambda: self._database.dated(self._boots))
        except AWAY as error:
            self._say_away(error)
            return True  # the next step says whether they are back
        for boot in boots:
            if not await self._take_up(boot):
                return False
        return True

    async def _take_up(self, boot: tuple[str, bytes]) -> bool:
        """Place what waited for a boot's clock, in groups: it may be a week of it. False when stopped before the end."""
        while True:
            try:
                waiting = await self._in_thread(lambda: self._waiting(boot))
                placed = 0
                for start in range(0, len(waiting), GROUP):
                    work = await self._in_thread(partial(self._prepare_late, boot, waiting[start : start + GROUP]))
                    if not await self._take(work.events):
                        return False
                    self._placed += work.placed
                    placed += len(work.placed)
                    if self._is_due():
                        await self._save_some()
                if placed == len(waiting):
                    self._boots.discard(boot)
                return True
            except AWAY as error:  # the tables or the disk, not the sink
                self._say_away(error)
            await self._pause(MAX_PAUSE_S / 10)
            if self._stopping.is_set():
                return False

    def _waiting(self, boot: tuple[str, bytes]) -> list[int]:
        noted = [position for position, *its_boot in self._unplaced if tuple(its_boot) == boot]
        return sorted({*self._database.unplaced(self.sink.name, *boot), *noted} - {*self._placed})

    def _prepare_late(self, boot: tuple[str, bytes], waiting: Sequence[int]) -> _Work:
        work = _Work()
        for position in waiting:
            for number, late in self._landing.read(position, 1):
                if number != position:
                    continue
                if isinstance(late, WireError):
                    self._leave(position, late, work)
                elif (clock := clock_for(late, partial(self._clock, boot, work))) is not None:
                    self._place(position, late, clock, work)
                else:
                    continue  # by this clock, too, it was sealed after it arrived
                work.placed.append(position)
        self._quarantine.put_all(work.aside)
        return work

    async def _take(self, events: Sequence[tuple[int, Event]]) -> bool:
        """Give events to the sink until it has them. False when stopped before that."""
        pause_s = FIRST_PAUSE_S
        while events:
            try:
                await self._in_thread(lambda: self.sink.take([event for _, event in events]))
                break
            except AWAY as error:
                self._say_away(error)
            except Exception as error:  # noqa: BLE001 - one bad message must not stop the sink for all others
                if len(events) > 1:
                    for event in events:
                        if not await self._take([event]):
                            return False
                    return True
                if await self._put_aside(*events[0], error):
                    return True
            if self._stopping.is_set():
                return False
            await self._pause(pause_s)
            pause_s = min(MAX_PAUSE_S, 2 * pause_s)
        if self.error:
            log.warning("sink %s is back", self.sink.name)
            self.error = ""
        return True

    def _say_away(self, error: Exception) -> None:
        if not self.error:
            log.warning("sink %s is away (%s); what lands waits for it", self.sink.name, error)
        self.error = str(error)

    async def _put_aside(self, position: int, event: Event, error: Exception) -> bool:
        """False when the disk does not take it: the sink is asked again then, and the quarantine after it."""
        reason = f"{self._called}: {type(error).__name__}: {error}"
        try:
            record = await self._in_thread(lambda: self._landing.record(position))
            if record is not None:
                await self._in_thread(lambda: self._quarantine.put(Kept(Source.SINK, record[0], reason, record[1])))
        except AWAY as full:
            self._say_away(full)
            return False
        log.error("vehicle %s, stream %s, sequence %d is put aside: %s", event.vehicle, event.stream.hex(), event.sequence, reason)
        return True

    async def _pause(self, pause_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), pause_s)

    async def _save_some(self) -> None:
        """As `_save`, in parts where the sink can: one now, the others after the groups that follow."""
        if not isinstance(self.sink, GradualSink):
            await self._save()
            return
        if self._flushing is None:
            self._saved_s = time.monotonic()
            if not self._has_news:
                return
            self._flushing = _Flushing(self.position, len(self._unplaced), len(self._placed))
        flushing = self._flushing
        unplaced, placed = self._unplaced[: flushing.unplaced], self._placed[: flushing.placed]
        try:
            done = await self._in_thread(partial(self._advance_some, self.sink, flushing.position, unplaced, placed))
        except AWAY as error:
            self._say_away(error)
            return
        if done:
            self._saved, self._flushing = flushing.position, None
            del self._unplaced[: flushing.unplaced], self._placed[: flushing.placed]

    def _advance_some(self, sink: GradualSink, position: int, unplaced: list[tuple[int, str, bytes]], placed: list[int]) -> bool:
        done = sink.flush_some()
        if done:
            self._database.advance(sink.name, position, unplaced, placed)
        return done

    async def _save(self) -> None:
        """Save the cursor, after what it has passed is safe. While the sink cannot promise that, the cursor stays where it is."""
        self._saved_s = time.monotonic()
        if not self._has_news:
            return
        position, unplaced, placed = self.position, self._unplaced, self._placed
        try:
            await self._in_thread(lambda: self._advance(position, unplaced, placed))
        except AWAY as error:
            self._say_away(error)
            return
        self._saved, self._unplaced, self._placed, self._flushing = position, [], [], None

    def _advance(self, position: int, unplaced: list[tuple[int, str, bytes]], placed: list[int]) -> None:
        self.sink.flush()
        self._database.advance(self.sink.name, position, unplaced, placed)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
