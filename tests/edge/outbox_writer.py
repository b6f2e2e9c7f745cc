"""Sealed records for the outbox's tests, and a cloud that answers."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge.outbox import Batch, Lane, Outbox
from edge.outbox_store import OutboxStore
from edge.streams import Record
from wire.envelope import StreamSealer
from wire.messages import Gap, encode_message
from wire.messages import Kind as MessageKind
from wire.receipts import Status

VEHICLE = "0123456789abcdef"
ROOM = 64 << 20


class Writer:
    """Makes the records of one stream."""

    def __init__(self, consent_class: str = "technical") -> None:
        self.consent_class = consent_class
        self.sealer = StreamSealer.start(VEHICLE)

    def announcement(self) -> Record:
        return Record(Lane.RESERVED, self.consent_class, self.sealer.seal_announcement(b"body", lambda _: b"", lambda _: b"signature"))

    def rows(self, size: int = 100) -> Record:
        return Record(Lane.BULK, self.consent_class, self.sealer.seal(MessageKind.ROWS, os.urandom(size)), is_rows=True)

    def gap(self, gap: Gap) -> Record:
        kind, body = encode_message(gap)
        return Record(Lane.RESERVED, self.consent_class, self.sealer.seal(kind, body), gap=gap)

    def finding(self, size: int = 100) -> Record:
        return Record(Lane.RESERVED, self.consent_class, self.sealer.seal(MessageKind.FINDING, os.urandom(size)))


@contextmanager
def opened(folder: Path, room: int = ROOM, opener: object = os.open) -> Iterator[OutboxStore]:
    outbox = Outbox(lambda most: most / 2)
    outbox.connect()
    with OutboxStore(folder, room, outbox, opener=opener) as store:  # type: ignore[arg-type]
        yield store


def answer(store: OutboxStore, batch: Batch, status: Status = Status.STORED) -> None:
    store.outbox.receipt(batch.stream, batch.sequence, status, batch.tags[status], 0.0)


def drain(store: OutboxStore, now_s: float = 0.0, gaps: list[Gap] | None = None) -> list[Batch]:
    """Everything that is sent by a cloud that answers at once, while the backlog's rate lets it go."""
    sent: list[Batch] = []
    while True:
        found = store.maintain(now_s)
        if gaps is not None:
            gaps += found
        due = store.outbox.due(now_s)
        for batch in due:
            answer(store, batch)
        sent += due
        if not due and (wake_s := store.outbox.wake_s()) is None:
            return sent
        now_s = now_s if due else max(now_s, wake_s or now_s)


def maintain(store: OutboxStore, writer: Writer, now_s: float = 0.0, utc_s: float | None = None, up_s: float = float("inf")) -> list[Gap]:
    """As the agent does it: what is lost is recorded."""
    gaps = store.maintain(now_s, utc_s, up_s)
    for gap in gaps:
        store.append(writer.gap(gap))
    store.commit()
    return gaps


def keys_of(gap: Gap) -> set[tuple[bytes, int]]:
    """(stream, sequence) of what a gap says will never come."""
    return {(gap.stream, sequence) for sequence in range(gap.first, gap.last + 1)}
