"""The outbox on the flash: nothing is lost over a restart, a full outbox says what it dropped, and failing flash is said and survived."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge.outbox import Batch, Lane, Outbox
from edge.outbox_store import DAMAGED, FULL, LOADED, UNREADABLE, UNWRITTEN, OutboxStore
from edge.streams import Record
from wire.envelope import Sealed, StreamSealer
from wire.errors import SegmentLogLocked
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


def drain(store: OutboxStore, now_s: float = 0.0) -> list[Batch]:
    """Everything that is sent by a cloud that answers at once."""
    sent: list[Batch] = []
    while True:
        store.maintain(now_s)
        due = store.outbox.due(now_s)
        if not due:
            return sent
        for batch in due:
            answer(store, batch)
        sent += due


def keys(sealed: list[Sealed]) -> set[tuple[bytes, int]]:
    return {(one.header.stream, one.header.sequence) for one in sealed}


def test_batches_are_offered_once_they_are_durable(tmp_path: Path) -> None:
    writer = Writer()
    with opened(tmp_path) as store:
        store.append(writer.announcement())
        store.append(writer.rows())
        assert [batch.sequence for batch in store.outbox.due(0.0)] == [0]
        store.commit()
        assert [batch.sequence for batch in store.outbox.due(0.0)] == [1]
        assert store.pending == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bulk", "reserved", "streams"]


def test_a_restart_sends_everything_that_had_no_receipt(tmp_path: Path) -> None:
    writers = [Writer("technical"), Writer("driving")]
    with opened(tmp_path) as store:
        records = [writer.announcement() for writer in writers]
        records += [writer.rows() for _ in range(30) for writer in writers]
        records.append(writers[0].finding())
        for record in records:
            store.append(record)
        store.commit()
        for batch in store.outbox.due(0.0)[:4]:
            answer(store, batch)
        received = {(batch.stream, batch.sequence) for batch in store.outbox.take_answered()}
    with opened(tmp_path) as store:
        received |= {batch.key for batch in drain(store)}
        assert received == keys([record.sealed for record in records])
        assert store.pending == 0
        assert store.counts.recorded == store.counts.receipted
        assert list((tmp_path / "streams").iterdir()) == []


def test_a_restart_in_order_sends_nothing_twice(tmp_path: Path) -> None:
    writer = Writer()
    with opened(tmp_path) as store:
        for record in [writer.announcement(), *(writer.rows() for _ in range(20))]:
            store.append(record)
        store.commit()
        drain(store)
        store.append(last := writer.rows())
        store.commit()
        store.close()
    with opened(tmp_path) as store:
        assert [batch.sequence for batch in drain(store)] == [0, last.sealed.header.sequence]


def test_a_drained_outbox_keeps_no_batch_on_the_flash(tmp_path: Path) -> None:
    writer = Writer()
    with opened(tmp_path) as store:
        store.append(writer.announcement())
        store.append(record := writer.rows())
        store.commit()
        drain(store)
        store.close()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(record.sealed.data[-16:] in path.read_bytes() for path in files)
    assert list((tmp_path / "streams").iterdir()) == []


def test_a_backlog_longer_than_memory_is_read_from_the_flash_in_order(tmp_path: Path) -> None:
    writer = Writer()
    count = 3 * LOADED
    with opened(tmp_path) as store:
        store.append(writer.announcement())
        for _ in range(count):
            store.append(writer.rows(20))
            store.commit()
        assert store.outbox.held <= LOADED + 1
        assert [batch.sequence for batch in drain(store)] == list(range(count + 1))


def test_a_new_stream_of_the_class_ends_the_one_before(tmp_path: Path) -> None:
    first, second = Writer(), Writer()
    with opened(tmp_path) as store:
        for record in (first.announcement(), first.rows(), second.announcement(), second.rows()):
            store.append(record)
        store.commit()
        drain(store)
        store.maintain(1.0)
        assert [path.name for path in (tmp_path / "streams").iterdir()] == [second.sealer.stream.hex()]
        assert not store.outbox.request(first.sealer.stream, 9.0)
        assert store.outbox.request(second.sealer.stream, 9.0)


def test_a_full_outbox_drops_the_oldest_rows_keeps_findings_and_says_so(tmp_path: Path) -> None:
    writer = Writer()
    with opened(tmp_path, 1 << 20) as store:
        store.outbox.disconnect(0.0)
        store.append(writer.announcement())
        store.append(finding := writer.finding())
        gaps: list[Gap] = []
        recorded = {finding.sealed.header.sequence}
        for _ in range(400):
            store.append(record := writer.rows(4000))
            recorded.add(record.sealed.header.sequence)
            store.commit()
            gaps += store.maintain(0.0)
            assert store.size_bytes <= 1 << 20
        store.outbox.connect()
        sent = {batch.sequence for batch in drain(store)}
    lost = {sequence for gap in gaps for sequence in range(gap.first, gap.last + 1)}
    assert {gap.reason for gap in gaps} == {FULL}
    assert {gap.stream for gap in gaps} == {writer.sealer.stream}
    assert lost.isdisjoint(sent)
    assert lost | sent == recorded | {0}
    assert finding.sealed.header.sequence in sent
    assert lost == set(range(min(lost), max(lost) + 1)), "the oldest go first"
    assert store.counts.recorded == store.counts.receipted + store.counts.lost


def test_findings_stay_within_their_tenth(tmp_path: Path) -> None:
    writer = Writer()
    with opened(tmp_path, 1 << 20) as store:
        store.append(writer.announcement())
        gaps: list[Gap] = []
        for _ in range(100):
            store.append(writer.finding(4000))
            store.commit()
            gaps += store.maintain(0.0)
            assert store.size_bytes <= (1 << 20) // 10 + (16 << 10)
    assert sum(gap.last - gap.first + 1 for gap in gaps) == store.counts.lost > 0


def test_damaged_records_become_a_gap(tmp_path: Path) -> None:
    writer = Writer()
    with opened(tmp_path, 1 << 20) as store:
        store.append(writer.announcement())
        for _ in range(40):
            store.append(writer.rows(4000))
        store.commit()
    segments = sorted((tmp_path / "bulk").glob("*"))
    target = next(path for path in segments if path.stat().st_size > 60_000)
    damaged = bytearray(target.read_bytes())
    damaged[30_000:30_010] = bytes(10)
    target.write_bytes(damaged)
    with opened(tmp_path, 1 << 20) as store:
        gaps: list[Gap] = []
        sent: set[int] = set()
        while store.pending:
            gaps += store.maintain(0.0)
            for batch in store.outbox.due(0.0):
                sent.add(batch.sequence)
                answer(store, batch)
    lost = {sequence for gap in gaps for sequence in range(gap.first, gap.last + 1)}
    assert [gap.reason for gap in gaps] == [DAMAGED]
    assert lost
    assert sent | lost == set(range(41))
    assert sent.isdisjoint(lost)


def test_a_lost_announcement_makes_its_batches_a_gap(tmp_path: Path) -> None:
    writer = Writer()
    with opened(tmp_path) as store:
        for record in (writer.announcement(), writer.rows(), writer.rows()):
            store.append(record)
        store.commit()
    path = tmp_path / "streams" / writer.sealer.stream.hex()
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with opened(tmp_path) as store:
        gaps = store.maintain(0.0)
        assert [(gap.first, gap.last, gap.reason) for gap in gaps] == [(1, 2, UNREADABLE)]
        assert store.outbox.due(0.0) == []
        assert store.pending == 0


class FullDisk:
    """An opener whose files take nothing while `full`: pwrite to /dev/full's descriptor is ENOSPC."""

    def __init__(self) -> None:
        self.full = False

    def __call__(self, path: str | Path, flags: int, mode: int = 0o777) -> int:
        if self.full and flags & os.O_CREAT:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return os.open(path, flags, mode)


def test_a_full_disk_is_survived_and_what_was_lost_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    disk, writer = FullDisk(), Writer()
    with opened(tmp_path, 1 << 20, disk) as store:
        store.append(writer.announcement())
        for _ in range(30):
            store.append(writer.rows(4000))
            store.commit()
        disk.full = True  # no new segment can be made
        failed = [writer.rows(4000) for _ in range(40)]
        failed.append(writer.gap(said := Gap(stream=bytes(16), first=3, last=4, reason=FULL)))
        for record in failed:
            store.append(record)
        store.commit()
        disk.full = False
        gaps = store.maintain(0.0)
        store.append(writer.rows(4000))
        store.commit()
        gaps += store.maintain(0.0)
        store.append(after := writer.rows(4000))
        store.commit()
        sent = {batch.sequence for batch in drain(store)}
    assert len([line for line in caplog.records if "No space left on device" in line.message]) == 1
    lost = {(gap.stream, sequence) for gap in gaps for sequence in range(gap.first, gap.last + 1)}
    assert {UNWRITTEN, FULL} == {gap.reason for gap in gaps}
    unwritten = {(r.sealed.header.stream, r.sealed.header.sequence) for r in failed if r.lane is Lane.BULK}
    assert unwritten <= lost
    if failed[-1].sealed.header.sequence not in sent:
        assert {(said.stream, 3), (said.stream, 4)} <= lost
    assert after.sealed.header.sequence in sent


def test_two_agents_cannot_have_one_outbox(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(SegmentLogLocked), opened(tmp_path):
        pass


@pytest.mark.parametrize("text", ["", "{", '{"bulk": 99999, "reserved": 99999}', '{"bulk": -5, "reserved": 0}'])
def test_cursors_that_make_no_sense_cost_duplicates_and_no_batch(tmp_path: Path, text: str) -> None:
    writer = Writer()
    with opened(tmp_path) as store:
        for record in (writer.announcement(), writer.rows(), writer.rows()):
            store.append(record)
        store.commit()
    (tmp_path / "cursors").write_text(text)
    with opened(tmp_path) as store:
        assert [batch.sequence for batch in drain(store)] == [0, 1, 2]
