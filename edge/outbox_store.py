"""The outbox on the flash: sealed batches in two segment logs, and each stream's announcement until nothing of the stream is left.

    outbox/bulk/       rows
    outbox/reserved/   findings, gaps, status; a tenth of the room is theirs alone
    outbox/streams/    each stream's announcement
    outbox/ends        where the streams that earlier runs left end in the logs
    outbox/cursors     first record of each log that has no receipt yet; written now and then, so after a crash some batches are sent twice

Only some hundred batches are in memory; what lies behind them waits on the flash. One thread, the agent's main one, owns
the files; the uplink's thread shares the `Outbox` under `lock` and touches no file. Nothing is offered to the uplink before it is durable,
and nothing that was given up is deleted before the gap that says so is durable, unless the flash itself has no room for the gap.
"""

import errno
import logging
import os
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from edge.outbox import Batch, Lane, Outbox
from edge.outbox_cursors import CursorFile
from edge.outbox_gaps import OwedGaps
from edge.outbox_lane import LaneLog
from edge.outbox_record import encode_record
from edge.outbox_streams import Ends, StreamFiles
from edge.streams import Record
from wire.errors import SegmentLogError
from wire.messages import Gap
from wire.receipts import Status
from wire.segment_file import Opener
from wire.segment_log import SegmentLog

LOADED = 256  # batches of one lane in memory that were read from the flash: 0.1 to 1 MB
LIVE_KEPT = 64  # and the newest ones of it
LIVE_S = 30.0  # a batch is live for so long: a connection that was away for less is made up for before the backlog goes on
READ_AT_ONCE = 4 * LOADED  # records, those that are done included
MAX_SEGMENT_BYTES = 256 << 10  # what a full outbox loses at a time, and about what is sent twice after a crash
MIN_SEGMENT_BYTES = 8 << 10
RESERVED_SHARE = 0.1
CURSOR_S = 30.0
AGE_S = 3600.0  # between two looks for what is too old
MOST_AGED = 2  # segments of a lane that are given up at a time: reading a full outbox would hold the loop up for seconds
MAX_AGE_S = 90 * 86400.0  # privacy: what was never fetched is not kept for ever
FIRST_UTC_S = 1_704_067_200.0  # 2024: a file stamped before was written while the clock was wrong
FULL, DAMAGED, AGED = "the outbox was full", "damaged on the flash", "older than 90 days"
UNWRITTEN, UNREADABLE = "the flash could not be written", "its stream's announcement was lost"

logger = logging.getLogger(__name__)


@dataclass
class Counts:
    """Since the start; what an earlier run left without a receipt is among the recorded."""

    recorded: int = 0
    receipted: int = 0  # stored, quarantined or refused: the vehicle's custody has ended
    quarantined: int = 0
    refused: int = 0
    lost: int = 0  # batches that a gap stands for


class OutboxStore:
    """`with OutboxStore(...) as store` opens the logs and recovers. Raises wire's SegmentLogError when the flash does not do its work."""

    def __init__(self, folder: Path, limit_bytes: int, outbox: Outbox, *, opener: Opener = os.open) -> None:
        self.folder = folder
        self.outbox = outbox
        self.lock = threading.Lock()
        self.counts = Counts()
        self._limit_bytes = limit_bytes
        self._opener = opener
        self._stack = ExitStack()
        self._lanes: dict[Lane, LaneLog] = {}
        self._streams: dict[bytes, Ends] = {}  # announcement kept -> behind its last record of each lane
        self._files = StreamFiles(folder / "streams")
        self._announced: dict[bytes, Batch] = {}  # in the outbox now
        self._aside: set[bytes] = set()  # of this run, not answered, and on the flash alone while no batch of them is in memory
        self._looked: tuple[int, ...] = ()  # what `_close_streams` last went by
        self._current: dict[str, bytes] = {}  # consent class -> the stream that is being written
        self._owed = OwedGaps()
        self._live_until_s = float("inf")
        self._cursor_s = self._age_s = float("-inf")
        self._cursors = CursorFile(folder / "cursors")
        self._offered = False
        self._failing = False
        self._no_space = False

    def __enter__(self) -> Self:
        left = self._files.open()
        reserved = int(self._limit_bytes * RESERVED_SHARE)
        for lane, name, limit in ((Lane.RESERVED, "reserved", reserved), (Lane.BULK, "bulk", self._limit_bytes - reserved)):
            segment_bytes = max(MIN_SEGMENT_BYTES, min(MAX_SEGMENT_BYTES, limit // 8))
            log = self._stack.enter_context(SegmentLog(self.folder / name, segment_bytes=segment_bytes, verify=False, opener=self._opener))
            self._lanes[lane] = LaneLog(lane, log, limit)
        self._recover(left)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.__exit__(kind, error, trace)

    @property
    def pending(self) -> int:
        """Batches in the vehicle's custody, announcements of this run included."""
        announcements = sum(batch.answered is None for batch in self._announced.values()) + len(self._aside)
        return sum(lane.pending for lane in self._lanes.values()) + announcements

    @property
    def size_bytes(self) -> int:
        """What the logs and the announcements take on the flash."""
        return sum(lane.log.bytes for lane in self._lanes.values()) + self._files.size_bytes

    def offered(self) -> bool:
        """Whether anything went into the outbox since the last call: the uplink wants to know."""
        offered, self._offered = self._offered, False
        return offered

    def append(self, record: Record) -> None:
        """Record a batch; an announcement opens a stream and closes the one before it of the same class. Durable after `commit`."""
        self.counts.recorded += 1
        header = record.sealed.header
        if header.sequence == 0:
            self._open_stream(record)
            return
        lane = self._lanes[record.lane]
        if not lane.staged:
            lane.staged_from = self.counts.recorded
        batch = Batch(header.stream, header.sequence, record.lane, -1, record.sealed.data, record.sealed.tags, self._live_until_s)
        lane.staged.append((batch, record))
        try:
            batch.position = lane.log.append(encode_record(record))
            self._streams[header.stream][record.lane] = batch.position + 1
        except SegmentLogError as error:
            self._fail(lane, error)

    def commit(self) -> None:
        """Make everything that was appended durable, then offer it to the uplink: what is live does not wait behind a backlog.

        The lane that was appended to first goes first: a kill between the two then leaves a stream's beginning, not a hole in it.
        """
        for lane in sorted(self._lanes.values(), key=lambda lane: lane.staged_from):
            if not lane.staged:
                continue
            try:
                lane.log.sync()
            except SegmentLogError as error:
                self._fail(lane, error)
                continue
            self._failing = False
            staged, lane.staged = lane.staged, []
            lane.durable = lane.log.next
            for batch, record in staged:
                if record.gap is not None:
                    self._owed.said(record.gap)
                if batch.position == lane.loaded and len(lane.window) < LOADED:
                    lane.begin(batch)
                else:
                    lane.tail[batch.position] = batch
                self._offer(lane, batch)
            self._shorten(lane)

    def maintain(self, now_s: float, utc_s: float | None = None, up_s: float = float("inf")) -> list[Gap]:
        """Take answers in, free the flash, load what waits.

        Returns the gaps that must be recorded; they are not returned again. utc_s: the time, when it can be relied on; records
        older than 90 days are given up then. up_s: since this run began, suspends included: what it has written is no older.
        """
        self._live_until_s = now_s + LIVE_S
        self._take_answers()
        settled = not self._owed  # what lies before the cursors may be forgotten
        if settled and now_s - self._cursor_s >= CURSOR_S:
            self._cursor_s = now_s
            self._cursors.write(self._lanes[Lane.BULK], self._lanes[Lane.RESERVED])
        looked = (len(self._streams), self.counts.receipted, *(lane.cursor for lane in self._lanes.values()))
        if settled and looked != self._looked:
            self._looked = looked
            self._close_streams()
        aging = utc_s is not None and now_s - self._age_s >= AGE_S
        aged = True
        for lane in self._lanes.values():
            try:
                if settled:
                    lane.log.drop_before(max(lane.cursor, lane.freed))
                self._make_room(lane)
                if utc_s is not None and aging:
                    aged &= self._drop_aged(lane, utc_s, up_s)
                self._load(lane)
            except SegmentLogError as error:
                self._fail(lane, error)
        if aging and aged:
            self._age_s = now_s
        return [] if self._failing else self._owed.take()

    def close(self) -> None:
        """The agent ends in order: nothing more is appended. The next run then sends nothing twice."""
        self._take_answers()
        self._current.clear()
        if self._owed:
            return  # what a gap is owed for stays, and the next run finds it again
        self._close_streams()
        self._files.write_ends(self._streams)
        for lane in self._lanes.values():
            if lane.cursor == lane.log.next:
                try:
                    lane.log.roll()  # a segment is freed as a whole, so the last one must be closed first
                    lane.log.drop_before(lane.cursor)
                except SegmentLogError as error:
                    self._fail(lane, error)
        self._cursors.write(self._lanes[Lane.BULK], self._lanes[Lane.RESERVED])

    def _take_answers(self) -> None:
        """Let go of what the cloud has."""
        with self.lock:
            answered = self.outbox.take_answered()
        for batch in answered:
            self.counts.receipted += 1
            self.counts.quarantined += batch.answered is Status.QUARANTINED
            if batch.answered is Status.REFUSED:
                if not self.counts.refused:
                    logger.warning("the cloud refuses batches: it does not know this vehicle, or its owner has deleted the stream")
                self.counts.refused += 1
            if batch.sequence:
                self._lanes[batch.lane].answered(batch)

    def _open_stream(self, record: Record) -> None:
        stream = record.sealed.header.stream
        if self._current.pop(record.consent_class, None) is not None:
            current = self._current.values()
            self._files.write_ends({stream: ends for stream, ends in self._streams.items() if stream not in current})
        self._set_aside()
        self._files.write(stream, encode_record(record))
        self._streams[stream] = dict.fromkeys(Lane, 0)
        self._current[record.consent_class] = stream
        self._announce(Batch(stream, 0, Lane.RESERVED, -1, record.sealed.data, record.sealed.tags, self._live_until_s))

    def _set_aside(self) -> None:
        """Ended streams without a batch in memory leave theirs on the flash too: weeks without a network are thousands of announcements."""
        lanes = self._lanes.values()
        here = {batch.stream for lane in lanes for batches in (lane.window, lane.tail) for batch in batches.values()}
        here |= {batch.stream for lane in lanes for batch, _ in lane.staged}
        for stream, batch in list(self._announced.items()):
            if stream in here or stream in self._current.values() or stream not in self._files:
                continue
            with self.lock:
                if self.outbox.set_aside(stream):
                    del self._announced[stream]
                    if batch.answered is None:
                        self._aside.add(stream)

    def _close_streams(self) -> None:
        """Remove the announcements of ended streams of which nothing is left, unless one still waits for its own receipt.

        The cursors are on the flash first: without them a crash would bring batches back whose announcement is gone.
        """
        ended = []
        current = set(self._current.values())
        bulk, reserved = self._lanes[Lane.BULK].cursor, self._lanes[Lane.RESERVED].cursor
        for stream, ends in self._streams.items():
            if stream in current or bulk < ends[Lane.BULK] or reserved < ends[Lane.RESERVED]:
                continue
            if (batch := self._announced.get(stream)) is None or batch.answered is not None:
                ended.append(stream)
        if not ended or not self._cursors.write(self._lanes[Lane.BULK], self._lanes[Lane.RESERVED], durable=True):
            return
        for stream in ended:
            self._files.remove(stream)
            del self._streams[stream]
            self._announced.pop(stream, None)
            if stream in self._aside:  # all of the stream was given up before anybody heard of it
                self._aside.discard(stream)
                self.counts.lost += 1
            for lane in self._lanes.values():
                lane.last_sequence.pop(stream, None)
            with self.lock:
                self.outbox.forget_stream(stream)

    def _fail(self, lane: LaneLog, error: SegmentLogError) -> None:
        """The flash does not take what was appended since the last commit: that is lost, and said once and for all when it works again."""
        if not self._failing:
            logger.error("%s; batches are lost until it can be written", error)
        self._failing = True
        self._no_space = error.cause_errno in (errno.ENOSPC, errno.EDQUOT)
        staged, lane.staged = lane.staged, []
        for batch, record in staged:
            self._lose(batch.stream, batch.sequence, UNWRITTEN)
            if record.gap is not None:
                self._owed.unsaid(record.gap)

    def _announce(self, batch: Batch) -> None:
        self._announced[batch.stream] = batch
        self._offered = True
        with self.lock:
            self.outbox.put(batch)

    def _offer(self, lane: LaneLog, batch: Batch) -> None:
        """Into the outbox, behind its stream's announcement; without one nobody could read it."""
        if batch.stream not in self._announced:
            announcement = self._files.read(batch.stream) if batch.stream in self._streams else None
            if announcement is None:
                self._lose(batch.stream, batch.sequence, UNREADABLE)
                lane.answered(batch)
                return
            self.counts.recorded += batch.stream not in self._aside
            self._aside.discard(batch.stream)
            self._announce(announcement)
        self._offered = True
        with self.lock:
            self.outbox.put(batch)

    def _shorten(self, lane: LaneLog) -> None:
        """Of the newest batches so many stay in memory; the others wait on the flash."""
        for batch in list(lane.tail.values())[: max(0, len(lane.tail) - LIVE_KEPT)]:
            with self.lock:
                withdrawn = self.outbox.withdraw(batch)
            if withdrawn:
                del lane.tail[batch.position]

    def _load(self, lane: LaneLog) -> None:
        """Read on from the flash while the window has room."""
        room = LOADED - len(lane.window)
        if lane.loaded >= lane.durable or room < LOADED // 2:
            return
        for count, (position, batch) in enumerate(lane.read(lane.loaded)):
            if room <= 0 or count >= READ_AT_ONCE:
                return
            if position > lane.loaded:
                lane.after_damage = set(lane.last_sequence)
            if batch is not None:
                self._lose_damaged(lane, batch)
            if batch is None or position in lane.done:
                lane.advance(position + 1)
                continue
            room -= 1
            live = lane.tail.pop(position, None)
            lane.begin(live or batch)
            if live is None:
                self._offer(lane, batch)
        lane.advance(lane.durable)  # records at the end may be damaged

    def _lose_damaged(self, lane: LaneLog, batch: Batch) -> None:
        """Behind damaged records, the first batch of each stream tells which sequences of it they held.

        Sequences are counted over both lanes: what lies in the reserved one is not lost with rows. In the other direction that would be a
        walk through the whole outbox; a gap may name more there than is lost, and what comes all the same counts.
        """
        if batch.stream in lane.after_damage:
            lane.after_damage.discard(batch.stream)
            missing = range(lane.last_sequence[batch.stream] + 1, batch.sequence)
            there: set[int] = set()
            if missing and lane.lane is Lane.BULK:
                reserved = self._lanes[Lane.RESERVED]
                there = {
                    other.sequence for _, other in reserved.read(reserved.log.first) if other is not None and other.stream == batch.stream
                }
            for sequence in missing:
                if sequence not in there:
                    self._lose(batch.stream, sequence, DAMAGED)
        lane.last_sequence[batch.stream] = batch.sequence

    def _make_room(self, lane: LaneLog) -> None:
        """Over the limit, or the flash itself is full: the oldest segments go, and what they held without a receipt becomes a gap."""
        limit = lane.limit_bytes - lane.log.segment_bytes  # what is given up goes a little later
        if lane.lane is Lane.BULK:
            limit -= self._files.size_bytes
        while lane.bytes > limit or (self._no_space and lane.lane is Lane.BULK):
            if not self._give_up(lane, FULL):
                return
            if self._no_space:  # there is no room for the gap either
                self._no_space = False
                lane.log.drop_before(lane.freed)

    def _give_up(self, lane: LaneLog, reason: str) -> bool:
        """The oldest segment is sent no more. False when there is only the one that is being written."""
        if (oldest := lane.oldest()) is None:
            return False
        end, held = oldest
        with self.lock:
            dropped = self.outbox.forget(lane.lane, end)
        for batch in held:
            # What is in memory and is not held any more got its receipt while the log was read.
            if batch.key in dropped or (batch.position not in lane.window and batch.position not in lane.tail):
                self._lose(batch.stream, batch.sequence, reason)
            lane.last_sequence[batch.stream] = batch.sequence  # told: damage behind it does not tell it again
        lane.give_up(end)
        return True

    def _drop_aged(self, lane: LaneLog, utc_s: float, up_s: float) -> bool:
        """By the files' own times. One that was written while the clock was wrong begins to age now. Returns whether that was all."""
        segments = lane.log.segments
        given_up = 0
        for (_, size, path), end in zip(segments, [*(first for first, *_ in segments[1:]), None], strict=True):
            if end is not None and end <= lane.freed:
                continue
            earliest_s = FIRST_UTC_S if end is not None and end <= lane.begun else max(FIRST_UTC_S, utc_s - up_s)
            try:
                written_s = path.stat().st_mtime
                if not earliest_s <= written_s <= utc_s + 86400.0:
                    os.utime(path, (utc_s, utc_s))
                    continue
            except OSError:  # it is just being freed; the next look is in an hour
                continue
            if written_s >= utc_s - MAX_AGE_S or not size:
                return True
            if given_up == MOST_AGED:
                return False
            given_up += 1
            if end is None:
                lane.log.roll()
            self._give_up(lane, AGED)
        return True

    def _recover(self, left: list[bytes]) -> None:
        """What an earlier run left: everything from the cursors on is sent (again)."""
        self._cursors.recover(self._lanes[Lane.BULK], self._lanes[Lane.RESERVED])
        self.counts.recorded += sum(lane.pending for lane in self._lanes.values())
        self._streams = self._files.ends(left, {name: lane.durable for name, lane in self._lanes.items()})
        self._close_streams()

    def _lose(self, stream: bytes, sequence: int, reason: str) -> None:
        self.counts.lost += 1
        self._owed.lose(stream, sequence, reason)
