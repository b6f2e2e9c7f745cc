"""The outbox on the flash: sealed batches in two segment logs, and each stream's announcement until nothing of the stream is left.

    outbox/bulk/       rows
    outbox/reserved/   findings, gaps, status; a tenth of the room is theirs alone
    outbox/streams/    one file per stream: u32 CRC-32 | record of the announcement
    outbox/cursors     first record of each log that has no receipt yet; written now and then, so after a crash some batches are sent twice

Only what is in the window of `LOADED` batches is in memory; what lies behind it waits on the flash. One thread, the agent's main one, owns
the files; the uplink's thread shares the `Outbox` under `lock` and touches no file. Nothing is offered to the uplink before it is durable.
"""

import errno
import logging
import os
import struct
import threading
import zlib
from collections import OrderedDict
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from edge.errors import OutboxError
from edge.files import replace_file
from edge.outbox import Batch, Lane, Outbox
from edge.outbox_record import decode_record, encode_record, ranges
from edge.streams import Record
from wire.errors import SegmentLogError
from wire.messages import Gap
from wire.receipts import Status
from wire.segment_file import Opener
from wire.segment_log import SegmentLog

LOADED = 256  # batches of one lane in memory: 0.1 to 1 MB
MAX_SEGMENT_BYTES = 256 << 10  # what a full outbox loses at a time, and about what is sent twice after a crash
MIN_SEGMENT_BYTES = 8 << 10
RESERVED_SHARE = 0.1
CURSOR_S = 30.0
FULL, DAMAGED = "the outbox was full", "damaged on the flash"
UNWRITTEN, UNREADABLE = "the flash could not be written", "its stream's announcement was lost"

logger = logging.getLogger(__name__)


class _Cursors(msgspec.Struct, forbid_unknown_fields=True):
    bulk: int
    reserved: int


@dataclass
class _Log:
    """One lane's log and how far it has been taken into memory."""

    log: SegmentLog
    limit_bytes: int
    loaded: int = 0  # records before this position are in the outbox, or have their receipt
    durable: int = 0  # records before this position are on the flash
    open: OrderedDict[int, Batch] = field(default_factory=OrderedDict)  # in the outbox and without a receipt
    staged: list[tuple[Batch, Record]] = field(default_factory=list)  # appended, not durable yet
    last_sequence: dict[bytes, int] = field(default_factory=dict)  # of each stream, as loaded
    after_damage: set[bytes] = field(default_factory=set)  # streams that may miss sequences before the next one loaded

    @property
    def cursor(self) -> int:
        """Everything before this position has its receipt."""
        return next(iter(self.open), self.loaded)


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
        self._logs: dict[Lane, _Log] = {}
        self._streams: dict[bytes, dict[Lane, int] | None] = {}  # announcement kept -> None while open, then the ends of its records
        self._announced: dict[bytes, Batch] = {}  # in the outbox in this run
        self._current: dict[str, bytes] = {}  # consent class -> the stream that is being written
        self._lost: dict[bytes, dict[str, list[int]]] = {}  # stream -> reason -> sequences for which a gap must be recorded
        self._cursor_s = float("-inf")
        self._offered = False
        self._failing = False
        self._no_space = False

    def __enter__(self) -> Self:
        streams = self.folder / "streams"
        try:
            streams.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise OutboxError(f"{streams}: cannot be made: {error.strerror}; the agent must be able to write its state folder") from error
        reserved = int(self._limit_bytes * RESERVED_SHARE)
        for lane, name, limit in ((Lane.RESERVED, "reserved", reserved), (Lane.BULK, "bulk", self._limit_bytes - reserved)):
            segment_bytes = max(MIN_SEGMENT_BYTES, min(MAX_SEGMENT_BYTES, limit // 8))
            log = self._stack.enter_context(SegmentLog(self.folder / name, segment_bytes=segment_bytes, verify=False, opener=self._opener))
            self._logs[lane] = _Log(log, limit)
        self._recover()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.__exit__(kind, error, trace)

    @property
    def pending(self) -> int:
        """Batches in the vehicle's custody, announcements of this run included."""
        behind = sum(log.log.next - log.loaded + len(log.open) for log in self._logs.values())
        return behind + sum(batch.answered is None for batch in self._announced.values())

    @property
    def size_bytes(self) -> int:
        """What the logs take on the flash."""
        return sum(log.log.bytes for log in self._logs.values())

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
        log = self._logs[record.lane]
        batch = Batch(header.stream, header.sequence, record.lane, -1, record.sealed.data, record.sealed.tags)
        log.staged.append((batch, record))
        try:
            batch.position = log.log.append(encode_record(record))
        except SegmentLogError as error:
            self._fail(log, error)

    def commit(self) -> None:
        """Make everything that was appended durable, then offer it to the uplink (or leave it for `maintain`, behind a backlog)."""
        for log in self._logs.values():
            if not log.staged:
                continue
            try:
                log.log.sync()
            except SegmentLogError as error:
                self._fail(log, error)
                continue
            self._failing = False
            staged, log.staged = log.staged, []
            caught_up = log.loaded == log.durable
            log.durable = log.log.next
            if not caught_up:
                continue
            room = LOADED - len(log.open)
            for batch, _ in staged[: max(0, room)]:
                self._offer(log, batch)

    def maintain(self, now_s: float) -> list[Gap]:
        """Take answers in, free the flash, load what waits. Returns the gaps that must be recorded; they are not returned again."""
        answered = self._take_answers()
        for lane, log in self._logs.items():
            try:
                log.log.drop_before(log.cursor)
                self._make_room(lane, log)
                self._load(lane, log)
            except SegmentLogError as error:
                self._fail(log, error)
        if answered or self._streams.keys() != set(self._current.values()):
            self._close_streams()
        if now_s - self._cursor_s >= CURSOR_S:
            self._cursor_s = now_s
            self._write_cursors()
        return [] if self._failing else self._gaps()

    def close(self) -> None:
        """The agent ends in order: nothing more is appended. The next run then sends nothing twice."""
        self._take_answers()
        for consent_class in list(self._current):
            self._end_stream(consent_class)
        self._close_streams()
        for log in self._logs.values():
            if log.cursor == log.log.next:
                try:
                    log.log.roll()  # a segment is freed as a whole, so the last one must be closed first
                    log.log.drop_before(log.cursor)
                except SegmentLogError as error:
                    self._fail(log, error)
        self._write_cursors()

    def _take_answers(self) -> int:
        """Let go of what the cloud has. Returns how many batches that were."""
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
                self._logs[batch.lane].open.pop(batch.position, None)
        return len(answered)

    def _open_stream(self, record: Record) -> None:
        stream = record.sealed.header.stream
        data = encode_record(record)
        self._end_stream(record.consent_class)
        try:
            replace_file(self._stream_file(stream), struct.pack(">I", zlib.crc32(data)) + data, durable=True)
        except OSError as error:  # it is sent all the same; only a restart before its receipt would lose it
            logger.error("%s: cannot be written: %s", self._stream_file(stream), error.strerror)
        self._streams[stream] = None
        self._current[record.consent_class] = stream
        self._announce(Batch(stream, 0, Lane.RESERVED, -1, record.sealed.data, record.sealed.tags))

    def _end_stream(self, consent_class: str) -> None:
        if (stream := self._current.pop(consent_class, None)) is not None:
            self._streams[stream] = {lane: log.log.next for lane, log in self._logs.items()}

    def _close_streams(self) -> None:
        """Remove the announcements of ended streams of which nothing is left, unless one still waits for its own receipt."""
        for stream, ends in list(self._streams.items()):
            if ends is None or any(self._logs[lane].cursor < end for lane, end in ends.items()):
                continue
            batch = self._announced.get(stream)
            if batch is not None and batch.answered is None:
                continue
            self._stream_file(stream).unlink(missing_ok=True)
            del self._streams[stream]
            self._announced.pop(stream, None)
            with self.lock:
                self.outbox.forget_stream(stream)

    def _fail(self, log: _Log, error: SegmentLogError) -> None:
        """The flash does not take what was appended since the last commit: that is lost, and said once and for all when it works again."""
        if not self._failing:
            logger.error("%s; batches are lost until it can be written", error)
        self._failing = True
        self._no_space = error.cause_errno in (errno.ENOSPC, errno.EDQUOT)
        staged, log.staged = log.staged, []
        for batch, record in staged:
            self._lose(batch.stream, batch.sequence, UNWRITTEN)
            if record.gap is not None:  # what it said must be said again
                sequences = self._lost.setdefault(record.gap.stream, {}).setdefault(record.gap.reason, [])
                sequences += range(record.gap.first, record.gap.last + 1)

    def _announce(self, batch: Batch) -> None:
        self._announced[batch.stream] = batch
        self._offered = True
        with self.lock:
            self.outbox.put(batch)

    def _offer(self, log: _Log, batch: Batch) -> None:
        """Into the outbox, behind its stream's announcement; without one nobody could read it."""
        if batch.stream not in self._announced:
            announcement = self._read_announcement(batch.stream)
            if announcement is None:
                self._lose(batch.stream, batch.sequence, UNREADABLE)
                log.loaded = batch.position + 1
                return
            self.counts.recorded += 1
            self._announce(announcement)
        log.open[batch.position] = batch
        log.loaded = batch.position + 1
        self._offered = True
        with self.lock:
            self.outbox.put(batch)

    def _load(self, lane: Lane, log: _Log) -> None:
        """Read on from the flash while the window has room."""
        room = LOADED - len(log.open)
        if log.loaded >= log.durable or room < LOADED // 2:
            return
        for position, data in log.log.read(log.loaded):
            if position >= log.durable or room <= 0:
                return
            room -= 1
            if position > log.loaded:
                log.after_damage = set(log.last_sequence)
            log.loaded = position + 1
            if (batch := decode_record(data, position, lane)) is not None:
                self._lose_damaged(log, batch)
                self._offer(log, batch)
        log.loaded = log.durable  # records at the end may be damaged

    def _lose_damaged(self, log: _Log, batch: Batch) -> None:
        """Behind damaged records, the first batch of each stream tells which sequences of it they held."""
        if batch.stream in log.after_damage:
            log.after_damage.discard(batch.stream)
            for sequence in range(log.last_sequence[batch.stream] + 1, batch.sequence):
                self._lose(batch.stream, sequence, DAMAGED)
        log.last_sequence[batch.stream] = batch.sequence

    def _make_room(self, lane: Lane, log: _Log) -> None:
        """Over the limit, or the flash itself is full: the oldest segments go, and what they held without a receipt becomes a gap."""
        while (log.log.bytes > log.limit_bytes or (self._no_space and lane is Lane.BULK)) and (
            lost := self._drop_oldest(lane, log)
        ) is not None:
            self._no_space = False
            first = log.log.first
            with self.lock:
                dropped = self.outbox.forget(lane, first)
            for batch in lost:
                # What was offered and is not held any more got its receipt while the log was read.
                if batch.position >= log.loaded or batch.key in dropped:
                    self._lose(batch.stream, batch.sequence, FULL)
            log.loaded = max(log.loaded, first)
            for position in [position for position in log.open if position < first]:
                del log.open[position]

    @staticmethod
    def _drop_oldest(lane: Lane, log: _Log) -> list[Batch] | None:
        """Drop the oldest segment; the batches in it that have no receipt. None when there is only the one that is being written."""
        seen: list[Batch] = []
        size = 0
        first = log.log.first
        for position, data in log.log.read(first):
            if size >= log.log.segment_bytes // 2:  # records have overhead, so a segment holds less than its size
                log.log.drop_before(position)
                if log.log.first > first:
                    return [batch for batch in seen if batch.position < log.log.first]
            size += len(data)
            if (position >= log.loaded or position in log.open) and (batch := decode_record(data, position, lane)) is not None:
                seen.append(batch)
        return None

    def _recover(self) -> None:
        """What an earlier run left: everything from the cursors on is sent (again)."""
        cursors = self._read_cursors()
        for lane, log in self._logs.items():
            cursor = cursors.reserved if lane is Lane.RESERVED else cursors.bulk
            log.loaded = cursor if log.log.first <= cursor <= log.log.next else log.log.first
            log.durable = log.log.next
            self.counts.recorded += log.durable - log.loaded
        ends = {lane: log.durable for lane, log in self._logs.items()}
        for path in (self.folder / "streams").iterdir():
            if len(path.name) == 32:
                self._streams[bytes.fromhex(path.name)] = dict(ends)
        self._close_streams()

    def _lose(self, stream: bytes, sequence: int, reason: str) -> None:
        self.counts.lost += 1
        self._lost.setdefault(stream, {}).setdefault(reason, []).append(sequence)

    def _gaps(self) -> list[Gap]:
        lost, self._lost = self._lost, {}
        return [
            Gap(stream=stream, first=first, last=last, reason=reason)
            for stream, reasons in lost.items()
            for reason, sequences in reasons.items()
            for first, last in ranges(sequences)
        ]

    def _stream_file(self, stream: bytes) -> Path:
        return self.folder / "streams" / stream.hex()

    def _read_announcement(self, stream: bytes) -> Batch | None:
        if stream not in self._streams:
            return None
        try:
            data = self._stream_file(stream).read_bytes()
        except OSError:
            return None  # becomes a gap: its batches cannot be read by anybody
        if len(data) < 4 or struct.unpack(">I", data[:4])[0] != zlib.crc32(data[4:]):
            return None
        return decode_record(data[4:], -1, Lane.RESERVED)

    def _read_cursors(self) -> _Cursors:
        try:
            return msgspec.json.decode((self.folder / "cursors").read_bytes(), type=_Cursors)
        except (OSError, msgspec.DecodeError):
            return _Cursors(-1, -1)  # without cursors everything that is left is sent again

    def _write_cursors(self) -> None:
        cursors = _Cursors(self._logs[Lane.BULK].cursor, self._logs[Lane.RESERVED].cursor)
        try:
            replace_file(self.folder / "cursors", msgspec.json.encode(cursors), durable=False)
        except OSError as error:  # costs duplicates after the next start, no data
            logger.warning("%s: cannot be written: %s", self.folder / "cursors", error.strerror)
