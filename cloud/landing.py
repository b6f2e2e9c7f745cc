"""The landing log: what the cloud has custody of, sealed as it came.

record    u8 version=1 | u64 received_ms | the sealed message      (big-endian)
"""

import itertools
import struct
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from cloud.streams import Opened, Streams, Unsealed
from wire.errors import WireError
from wire.messages import Rows
from wire.segment_log import SegmentLog

SEGMENT_BYTES = 16 << 20
RECENT_BYTES = 400 << 20  # of messages kept opened for the sinks: what one of them lags behind further is read and opened again for it
READ_BYTES = 64 << 20  # of sealed messages read at once
MESSAGE_BYTES = 2000  # of a message beside its rows, about
_HEAD = struct.Struct(">BQ")
_VERSION = 1


class Landing:
    """`with Landing(folder, streams) as landing`. One thread appends and commits; the sinks' threads read."""

    def __init__(self, folder: Path, streams: Streams) -> None:
        self._log = SegmentLog(folder, segment_bytes=SEGMENT_BYTES, verify=False)
        self._streams = streams
        self._group: list[Opened | Unsealed] = []
        self._recent: OrderedDict[int, Opened] = OrderedDict()
        self._recent_bytes = 0
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

    def append(self, opened: Opened | Unsealed, data: bytes) -> None:
        """Add to the group that `commit` makes durable; what is not decoded is not kept in memory for the sinks."""
        self._log.append(_HEAD.pack(_VERSION, opened.received_ms) + data)
        self._group.append(opened)

    def commit(self) -> None:
        """Raises SegmentLogError when the disk does not take the group; then none of it has landed."""
        group, self._group = self._group, []
        first = self._log.synced
        self._log.sync()
        with self._lock:
            for number, one in enumerate(group, first):
                if isinstance(one, Opened):
                    self._recent[number] = one
                    self._recent_bytes += _size(one)
            while self._recent_bytes > RECENT_BYTES and len(self._recent) > 1:
                self._recent_bytes -= _size(self._recent.popitem(last=False)[1])
        self._next = first + len(group)

    def let_go(self, before: int) -> None:
        """Every sink has taken what is before that position."""
        with self._lock:
            while self._recent and next(iter(self._recent)) < before:
                self._recent_bytes -= _size(self._recent.popitem(last=False)[1])

    def abandon(self) -> None:
        """Forget a group that was not committed."""
        self._group = []

    def read(self, position: int, limit: int) -> list[tuple[int, Opened | WireError]]:
        """Up to `limit` durable messages from `position` on; one that can no longer be opened (its recipient key is gone) as its error.

        Fewer where they are large; none only at the end, and where the rest is damaged.
        """
        found: list[tuple[int, Opened | WireError]] = []
        with self._lock:
            while len(found) < limit and (opened := self._recent.get(position)) is not None:
                found.append((position, opened))
                position += 1
        if not found:
            records = []
            size = 0
            for record in itertools.islice(self.raw(position), limit):
                records.append(record)
                size += len(record[2])
                if size > READ_BYTES:
                    break
            opened_all = self._streams.open_all((data, received_ms) for _, received_ms, data in records)
            found = [(number, one) for (number, _, _), one in zip(records, opened_all, strict=False)]
        return found

    def raw(self, position: int) -> Iterator[tuple[int, int, bytes]]:
        """(position, received_ms, sealed message) of every durable record from `position` on."""
        for number, record in self._log.read(position):
            _, received_ms = _HEAD.unpack_from(record)
            yield number, received_ms, record[_HEAD.size :]

    def record(self, position: int) -> tuple[int, bytes] | None:
        """(received_ms, sealed message) at a position; None when it was lost to damage or is not kept any more."""
        for number, received_ms, data in self.raw(position):
            return (received_ms, data) if number == position else None
        return None

    def drop_before(self, position: int) -> None:
        """Free whole segments before `position`."""
        self._log.drop_before(position)


def _size(opened: Opened) -> int:
    """About how much memory it takes."""
    message = opened.message
    # without the values that the first sink works out: then all others have soon taken it, too
    return MESSAGE_BYTES + (message.raw.nbytes + message.reason.nbytes if isinstance(message, Rows) else 0)
