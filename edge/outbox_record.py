"""A sealed batch as the outbox's logs hold it: 3 receipt tags of 16 bytes | u8 length | consent class | sealed batch."""

from collections.abc import Iterable

from edge.outbox import Batch, Lane
from edge.streams import Record
from wire.errors import FormatError
from wire.header import Header
from wire.receipts import TAG_BYTES, Status


def encode_record(record: Record) -> bytes:
    tags = b"".join(record.sealed.tags[status] for status in Status)
    consent_class = record.consent_class.encode()
    return tags + bytes((len(consent_class),)) + consent_class + record.sealed.data


def decode_record(data: bytes, position: int, lane: Lane) -> Batch | None:
    """The batch of a record; None when it is not one, which a log with intact checksums does not hold."""
    tags = {status: data[TAG_BYTES * at : TAG_BYTES * (at + 1)] for at, status in enumerate(Status)}
    at = TAG_BYTES * len(Status)
    sealed = data[at + 1 + data[at] :] if len(data) > at else b""
    try:
        header = Header.unpack(sealed)
    except FormatError:
        return None
    return Batch(header.stream, header.sequence, lane, position, sealed, tags)


def ranges(sequences: Iterable[int]) -> list[tuple[int, int]]:
    """Sequences as (first, last) of their runs."""
    ranges: list[tuple[int, int]] = []
    for sequence in sorted(set(sequences)):
        if ranges and ranges[-1][1] == sequence - 1:
            ranges[-1] = (ranges[-1][0], sequence)
        else:
            ranges.append((sequence, sequence))
    return ranges
