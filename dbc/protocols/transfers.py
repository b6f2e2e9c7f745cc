"""Multi-frame messages that are on their way: a bounded table, and the count of what came of them.

Every protocol here is heard, not spoken: there is no flow control to hold a sender back, so whatever is announced is bounded by this table.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field, fields

__all__ = ["MAX_MESSAGE", "MAX_TRANSFERS", "Counts", "Listener", "Transfer", "Transfers"]

MAX_TRANSFERS = 256  # at once; a truck's bus has some tens
MAX_MESSAGE = 0xFFFF  # bytes; J1939 TP ends at 1785, classic ISO-TP at 4095; what is longer is a reprogramming, not a value
MAX_BYTES = 1 << 20  # of all transfers together


@dataclass
class Counts:
    """What became of the multi-frame messages."""

    messages: int = 0  # complete
    lost: int = 0  # a frame is missing, or came out of order
    timed_out: int = 0  # the next frame came too late, by the frames' own stamps
    aborted: int = 0  # the sender or the receiver gave up, or began anew
    refused: int = 0  # announced longer than MAX_MESSAGE, or pushed out because the table was full
    orphans: int = 0  # frames that continue nothing: their first frame was not heard
    malformed: int = 0  # frames that the standard does not allow

    @property
    def dropped(self) -> int:
        """Messages that were begun and never completed."""
        return self.lost + self.timed_out + self.aborted + self.refused

    def __iadd__(self, other: Counts) -> Counts:
        for item in fields(self):
            setattr(self, item.name, getattr(self, item.name) + getattr(other, item.name))
        return self


@dataclass(slots=True)
class Transfer:
    """One message on its way."""

    total: int  # bytes announced
    last_ns: int  # stamp of its newest frame
    data: bytearray
    expected: int = 0  # number of the frame that comes next
    about: int = 0  # the protocol's own: a parameter group, the payload bytes of a full frame
    heard: bytearray = field(default_factory=bytearray)  # packet by packet, where they may be sent again


class Transfers:
    """The open transfers by key, oldest first. `timeout_ns`: longest silence between two frames of one message."""

    def __init__(self, timeout_ns: int, max_transfers: int = MAX_TRANSFERS, max_bytes: int = MAX_BYTES) -> None:
        self.counts = Counts()
        self._timeout_ns = timeout_ns
        self._max_transfers, self._max_bytes = max_transfers, max_bytes
        self._open: dict[Hashable, Transfer] = {}
        self._bytes = 0  # announced by all open ones

    def __len__(self) -> int:
        return len(self._open)

    @property
    def held_bytes(self) -> int:
        """What the open transfers may grow to."""
        return self._bytes

    def begin(self, key: Hashable, transfer: Transfer) -> bool:
        """A new message; one of the same key that was under way is aborted. False where it is too long to be taken."""
        if self._take(key) is not None:
            self.counts.aborted += 1
        if transfer.total > min(MAX_MESSAGE, self._max_bytes):
            self.counts.refused += 1
            return False
        while self._open and (len(self._open) >= self._max_transfers or self._bytes + transfer.total > self._max_bytes):
            self._take(next(iter(self._open)))
            self.counts.refused += 1
        self._open[key] = transfer
        self._bytes += transfer.total
        return True

    def get(self, key: Hashable, now_ns: int) -> Transfer | None:
        """The open transfer of this key, its clock set to now; None where there is none, or it was silent for too long."""
        transfer = self._open.get(key)
        if transfer is None:
            return None
        if abs(now_ns - transfer.last_ns) > self._timeout_ns:  # backwards too: a log's clock was set
            self._take(key)
            self.counts.timed_out += 1
            return None
        transfer.last_ns = now_ns
        return transfer

    def complete(self, key: Hashable) -> bytes:
        """Close the transfer of this key, all of whose bytes are there."""
        transfer = self._take(key)
        assert transfer is not None
        self.counts.messages += 1
        return bytes(transfer.data[: transfer.total])

    def lose(self, key: Hashable) -> None:
        """A frame of this transfer is missing."""
        if self._take(key) is not None:
            self.counts.lost += 1

    def abort(self, key: Hashable) -> None:
        """The transfer of this key ends, if there is one."""
        if self._take(key) is not None:
            self.counts.aborted += 1

    def finish(self) -> None:
        """No more frames come: what is open was never completed."""
        self.counts.lost += len(self._open)
        self._open.clear()
        self._bytes = 0

    def _take(self, key: Hashable) -> Transfer | None:
        transfer = self._open.pop(key, None)
        if transfer is not None:
            self._bytes -= transfer.total
        return transfer


class Listener:
    """What the protocols have in common, which `feed` it in their own ways. Pure: time is the frames' own."""

    def __init__(self, timeout_ns: int) -> None:
        self._transfers = Transfers(timeout_ns)

    @property
    def counts(self) -> Counts:
        """What became of the messages so far."""
        return self._transfers.counts

    @property
    def held_bytes(self) -> int:
        """What the messages under way may grow to."""
        return self._transfers.held_bytes

    def finish(self) -> None:
        """No more frames come."""
        self._transfers.finish()
