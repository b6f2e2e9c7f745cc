"""The quarantine: messages that the cloud has custody of and cannot use today, each with the reason, until they can be used.

record    u8 version=2 | u8 source | u64 received_ms | u16 length | reason UTF-8 | the sealed message      (big-endian)
release   u8 version=2 | u8 0 | u64 position of each record that is done with

It is a log of its own, so that a fleet with a wrong DBC does not make a file for each batch. A replay gives what opens today to the
landing log again, from which every sink takes it (twice is once), and then releases it; what is released at the front is freed.
"""

import os
import struct
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from types import TracebackType
from typing import Self

from cloud.landed import Pairs, Sequences
from wire.errors import FormatError
from wire.header import Header
from wire.segment_file import Scan, Segment, load
from wire.segment_log import SegmentLog

MAX_REASON_BYTES = 4096
SEGMENT_BYTES = 1 << 20
_VERSION = 2
_RELEASE = 0
_HEAD = struct.Struct(">BBQH")
_FIRST_HEAD = struct.Struct(">BQH")  # of version 1, which did not say the source


class Source(IntEnum):
    """Where a message came from, and so what its vehicle was told."""

    ARRIVAL = 1  # authentic, not to be read when it arrived: receipt of status 2
    LATER = 2  # of a version that is not known: nothing could be checked, no receipt
    LANDED = 3  # stored, and no longer to be opened when a sink came to it: its key or DBC is missing
    SINK = 4  # stored, and one sink cannot take it
    REFUSED = 5  # not what a vehicle of the fleet may send: no receipt, and only a sample is kept (cloud/refused.py)


@dataclass(frozen=True)
class Kept:
    """What is to be put into the quarantine."""

    source: Source
    received_ms: int
    reason: str
    data: bytes

    @property
    def header(self) -> Header | None:
        """None for a message of a version that is not known."""
        try:
            return Header.unpack(self.data)
        except FormatError:
            return None

    @property
    def group(self) -> str:
        """Within one group a message is held once. Each sink is one: they choke for reasons of their own."""
        return self.reason.partition(":")[0] if self.source is Source.SINK else self.source.name


@dataclass(frozen=True)
class Item(Kept):
    """What is in the quarantine, and where."""

    position: int


class Quarantine:
    """`with Quarantine(folder) as quarantine`. The aggregator and the sinks put things aside, each from its own thread."""

    def __init__(self, folder: Path) -> None:
        self._log = SegmentLog(folder, segment_bytes=SEGMENT_BYTES, verify=False)
        self._lock = threading.Lock()
        self._done = Sequences()  # positions that hold nothing (any more)
        self._held: dict[str, Pairs] = {}  # group -> what is held
        self._reasons: Counter[str] = Counter()
        self.held = 0

    def __enter__(self) -> Self:
        self._log.__enter__()
        try:
            self._done, self.held = Sequences(), 0
            self._held, self._reasons = {}, Counter()
            for position, record in self._log.read(0):
                self._note(position, record)
            for item in self.items():
                self._hold(item)
        except BaseException:
            self._log.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._log.__exit__(kind, error, trace)

    @property
    def size_bytes(self) -> int:
        return self._log.bytes

    @property
    def next(self) -> int:
        """The position that the next record gets."""
        return self._log.synced

    def holds(self, item: Kept) -> bool:
        """Whether the same message is held for the same kind of reason."""
        header = item.header
        return header is not None and (header.stream, header.sequence) in self._held.get(item.group, Pairs())

    def holds_arrival(self, stream: bytes, sequence: int) -> bool:
        """Whether this message is held as an ARRIVAL. In the aggregator's thread, which alone puts those here."""
        held = self._held.get(Source.ARRIVAL.name)
        return held is not None and (stream, sequence) in held

    def put(self, item: Kept) -> None:
        """Keep one message durably. Raises SegmentLogError."""
        self.put_all([item])

    def put_all(self, items: Iterable[Kept]) -> None:
        """Keep those that are not held yet, with one write to the disk. Raises SegmentLogError, and then none is kept."""
        with self._lock:
            new = list({(item.group, item.data): item for item in items if not self.holds(item)}.values())
            if not new:
                return
            for item in new:
                self._log.append(encode(item))
            self._log.sync()
            for item in new:
                self._hold(item)

    def release(self, items: Sequence[Item]) -> None:
        """These are done with, durably. Raises SegmentLogError, and then all are held as before."""
        if not items:
            return
        with self._lock:
            record = bytes((_VERSION, _RELEASE)) + struct.pack(f">{len(items)}Q", *(item.position for item in items))
            self._log.append(record)
            self._log.sync()
            self._note(self._log.synced - 1, record)
            for item in items:
                self.held -= 1
                self._count(item, -1)
                if (header := item.header) is not None:
                    self._held[item.group].discard(header.stream, header.sequence)
            self._free()

    def items(self, first: int = 0) -> Iterator[Item]:
        """Everything that is held, from a position on, oldest first."""
        for position, record in self._log.read(first):
            if position not in self._done and (item := _read(position, record)) is not None:
                yield item

    def listed(self, first: int = 0) -> Iterator[Item]:
        """As `items`, from any thread."""
        for position, record in self._log.read(first):
            with self._lock:
                done = position in self._done
            if not done and (item := _read(position, record)) is not None:
                yield item

    def reasons(self, most: int) -> dict[str, int]:
        """How many are held for which reason, those that hold most first; from any thread."""
        with self._lock:
            return dict(self._reasons.most_common(most))

    def _count(self, item: Kept, by: int) -> None:
        reason = item.reason[: MAX_REASON_BYTES // 4]  # what a record surely has of it
        self._reasons[reason] += by
        if self._reasons[reason] <= 0:
            del self._reasons[reason]

    def _hold(self, item: Kept) -> None:
        self.held += 1
        self._count(item, 1)
        if (header := item.header) is not None:
            self._held.setdefault(item.group, Pairs()).add(header.stream, header.sequence)

    def _note(self, position: int, record: bytes) -> None:
        """A release releases its own record, too."""
        for number in _released(record, position):
            self._done.add(number)

    def _free(self) -> None:
        oldest = self._done.first_missing(self._log.first)
        for first, last in self._log.gaps:  # what was damaged is not held
            if first <= oldest <= last:
                oldest = self._done.first_missing(last + 1)
        if oldest >= self._log.synced:
            self._log.roll()
        self._log.drop_before(oldest)


def encode(item: Kept) -> bytes:
    """A record."""
    text = item.reason.encode()[:MAX_REASON_BYTES]
    return _HEAD.pack(_VERSION, item.source, item.received_ms, len(text)) + text + item.data


def read_only(folder: Path) -> list[Item]:
    """Everything that is held, while another process may have the quarantine open. Raises OSError."""
    segments = sorted((one for path in folder.glob("*.seg") if (one := Segment.named(path))), key=lambda one: (one.first, one.path.name))
    records: dict[int, bytes] = {}
    for number, segment in enumerate(segments):
        end = segments[number + 1].first if number + 1 < len(segments) else None
        try:
            data = load(segment.path, 0, segment.path.stat().st_size, os.open)
        except FileNotFoundError:
            continue  # freed meanwhile
        found = Scan(data, segment.salt).records()
        records |= {position: record for position, _, record in found if end is None or position < end}
    done = {number for position, record in records.items() for number in _released(record, position)}
    items = (_read(position, record) for position, record in sorted(records.items()) if position not in done)
    return [item for item in items if item is not None]


def _released(record: bytes, position: int) -> Iterator[int]:
    if record[:2] == bytes((_VERSION, _RELEASE)):
        yield position
        yield from (number for (number,) in struct.iter_unpack(">Q", record[2:]))


def _read(position: int, record: bytes) -> Item | None:
    """None for a release."""
    if record[0] == 1:
        _, received_ms, length = _FIRST_HEAD.unpack_from(record)
        source, start = Source.ARRIVAL, _FIRST_HEAD.size
    elif record[1] == _RELEASE:
        return None
    else:
        _, number, received_ms, length = _HEAD.unpack_from(record)
        source, start = Source(number), _HEAD.size
    reason = record[start : start + length].decode(errors="replace")
    return Item(source, received_ms, reason, record[start + length :], position)
