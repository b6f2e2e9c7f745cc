"""The landing log: what the cloud has custody of, sealed as it came; and the quarantine, authentic messages that cannot be read.

landing record     u8 version=1 | u64 received_ms | the message
quarantine record  u8 version=1 | u64 received_ms | u16 length | reason UTF-8 | the message      (big-endian)
"""

import struct
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from cloud.streams import Opened, Streams
from wire.errors import WireError
from wire.segment_log import SegmentLog

SEGMENT_BYTES = 16 << 20
RECENT = 4096  # messages kept opened for the sinks that keep up: they need not be read and opened again
_HEAD = struct.Struct(">BQ")
_VERSION = 1


class Landing:
    """`with Landing(folder, streams) as landing`. One thread appends and commits; the sinks' threads read."""

    def __init__(self, folder: Path, streams: Streams) -> None:
        self._log = SegmentLog(folder, segment_bytes=SEGMENT_BYTES, verify=False)
        self._streams = streams
        self._group: list[Opened] = []
        self._recent: OrderedDict[int, Opened] = OrderedDict()
        self._lock = threading.Lock()
        self._next = 0

    def __enter__(self) -> Self:
        self._log.__enter__()
        self._next = self._log.synced
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._log.__exit__(kind, error, trace)

    @property
    def first(self) -> int:
        """The oldest position that is kept."""
        return self._log.first

    @property
    def next(self) -> int:
        """The position after the last durable record. Never blocks, unlike the log's own lock, which is held while it writes."""
        return self._next

    @property
    def size_bytes(self) -> int:
        return self._log.bytes

    @property
    def gaps(self) -> list[tuple[int, int]]:
        """Positions that were lost to damage."""
        return self._log.gaps

    def append(self, opened: Opened, data: bytes) -> None:
        """Add to the group that `commit` makes durable."""
        self._log.append(_HEAD.pack(_VERSION, opened.received_ms) + data)
        self._group.append(opened)

    def commit(self) -> None:
        """Raises SegmentLogError when the disk does not take the group; then none of it has landed."""
        group, self._group = self._group, []
        first = self._log.synced
        self._log.sync()
        with self._lock:
            self._recent.update(enumerate(group, first))
            while len(self._recent) > RECENT:
                self._recent.popitem(last=False)
        self._next = first + len(group)

    def abandon(self) -> None:
        """Forget a group that was not committed."""
        self._group = []

    def read(self, position: int, limit: int) -> list[tuple[int, Opened | WireError]]:
        """Up to `limit` durable messages from `position` on; one that can no longer be opened (its recipient key is gone) as its error."""
        found: list[tuple[int, Opened | WireError]] = []
        with self._lock:
            while len(found) < limit and (opened := self._recent.get(position)) is not None:
                found.append((position, opened))
                position += 1
        if not found:
            for number, received_ms, data in self.raw(position):
                try:
                    found.append((number, self._streams.open(data, received_ms)))
                except WireError as error:
                    found.append((number, error))
                if len(found) >= limit:
                    break
        return found

    def raw(self, position: int) -> Iterator[tuple[int, int, bytes]]:
        """(position, received_ms, sealed message) of every durable record from `position` on."""
        for number, record in self._log.read(position):
            _, received_ms = _HEAD.unpack_from(record)
            yield number, received_ms, record[_HEAD.size :]

    def drop_before(self, position: int) -> None:
        """Free whole segments before `position`."""
        self._log.drop_before(position)


class Quarantine:
    """`with Quarantine(folder) as quarantine`: its own log, so that a fleet with a wrong DBC does not make a file for each batch."""

    def __init__(self, folder: Path) -> None:
        self._log = SegmentLog(folder, verify=False)
        self._lock = threading.Lock()  # the aggregator and the sinks put things aside

    def __enter__(self) -> Self:
        self._log.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._log.__exit__(kind, error, trace)

    def put(self, received_ms: int, reason: str, data: bytes) -> None:
        """Keep one message durably. Raises SegmentLogError."""
        self.put_all([(received_ms, reason, data)])

    def put_all(self, items: list[tuple[int, str, bytes]]) -> None:
        """Keep several with one write to the disk. Raises SegmentLogError, and then none is kept."""
        if not items:
            return
        with self._lock:
            for received_ms, reason, data in items:
                text = reason.encode()[:4096]
                self._log.append(_HEAD.pack(_VERSION, received_ms) + struct.pack(">H", len(text)) + text + data)
            self._log.sync()

    def items(self) -> Iterator[tuple[int, str, bytes]]:
        """(received_ms, reason, message) of everything, oldest first."""
        for _, record in self._log.read(0):
            _, received_ms = _HEAD.unpack_from(record)
            (length,) = struct.unpack_from(">H", record, _HEAD.size)
            start = _HEAD.size + 2
            yield received_ms, record[start : start + length].decode(errors="replace"), record[start + length :]
