"""A sealed batch as the outbox's logs hold it: 3 receipt tags of 16 bytes | u8 length | consent class | sealed batch."""

from bisect import bisect_right
from collections.abc import Iterable

from edge.outbox import Batch, Lane
from edge.streams import Record
from wire.errors import FormatError
from wire.header import Header
from wire.receipts import TAG_BYTES, Status


def encode_record(record: Record) -> bytes:
    """The bytes that the segment log keeps of it; `decode_record` reads them."""
    tags = b"".join(record.sealed.tags[status] for status in Status)
    consent_class = record.consent_class.encode()
    return tags + bytes((len(consent_class),)) + consent_class + record.sealed.data


def decode_record(data: bytes, position: int, lane: Lane, live_until_s: float = float("-inf")) -> Batch | None:
    """The batch of a record; None when it is not one, which a log with intact checksums does not hold."""
    tags = {status: data[TAG_BYTES * at : TAG_BYTES * (at + 1)] for at, status in enumerate(Status)}
    at = TAG_BYTES * len(Status)
    sealed = data[at + 1 + data[at] :] if len(data) > at else b""
    try:
        header = Header.unpack(sealed)
    except FormatError:
        return None
    return Batch(header.stream, header.sequence, lane, position, sealed, tags, live_until_s)


class Ranges:
    """A set of integers, kept as its runs: what is answered while an older backlog waits comes in long ones."""

    def __init__(self, runs: Iterable[tuple[int, int]] = ()) -> None:
        self._runs: list[tuple[int, int]] = []  # (first, last), ascending, apart from each other
        for first, last in sorted(runs):
            self._insert(first, last)

    @property
    def runs(self) -> list[tuple[int, int]]:
        return list(self._runs)

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._runs, number, key=lambda run: run[0]) - 1
        return at >= 0 and number <= self._runs[at][1]

    def __len__(self) -> int:
        return sum(last - first + 1 for first, last in self._runs)

    def add(self, number: int) -> None:
        self._insert(number, number)

    def drop_before(self, number: int) -> None:
        """Forget what is less than `number`."""
        self._runs = [(max(first, number), last) for first, last in self._runs if last >= number]

    def _insert(self, first: int, last: int) -> None:
        at = bisect_right(self._runs, first, key=lambda run: run[0])
        while at and self._runs[at - 1][1] >= first - 1:
            at -= 1
            before = self._runs.pop(at)
            first, last = min(before[0], first), max(before[1], last)
        while at < len(self._runs) and self._runs[at][0] <= last + 1:
            last = max(last, self._runs.pop(at)[1])
        self._runs.insert(at, (first, last))
