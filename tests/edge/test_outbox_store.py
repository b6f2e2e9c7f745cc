"""The outbox on the flash: nothing is lost over a restart, a full outbox says what it dropped, and failing flash is said and survived."""

import errno
import os
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from outbox_writer import Writer, answer, drain, maintain, opened

from edge.outbox import Lane
from edge.outbox_record import Ranges
from edge.outbox_store import AGED, DAMAGED, FULL, LIVE_KEPT, LOADED, MAX_AGE_S, UNREADABLE, UNWRITTEN
from edge.streams import Record
from wire.envelope import Sealed
from wire.errors import SegmentLogLocked
from wire.messages import Gap
from wire.segment_file import MARKER


def keys(sealed: list[Sealed]) -> set[tuple[bytes, int]]:
    return {(one.header.stream, one.header.sequence) for one in sealed}


@given(st.lists(st.integers(0, 60)), st.integers(0, 61))
def test_ranges_are_a_set(numbers: list[int], before: int) -> None:
    made = Ranges()
    for number in numbers:
        made.add(number)
    made.drop_before(before)
    expected = {number for number in numbers if number >= before}
    assert {number for number in range(62) if number in made} == expected
    assert len(made) == len(expected)
    assert all(later[0] > last + 1 for (_, last), later in pairwise(made.runs))
    assert made.runs == Ranges((number, number) for number in expected).runs


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


def test_a_backlog_longer_than_memory_is_read_from_the_flash_and_the_newest_go_first(tmp_path: Path) -> None:
    writer = Writer()
    count = 2 * LOADED
    with opened(tmp_path) as store:
        store.outbox.disconnect(0.0)
        store.append(writer.announcement())
        for _ in range(count):
            store.append(writer.rows(20))
            store.commit()
        assert store.outbox.held <= LOADED + LIVE_KEPT + 1
        store.maintain(0.0)
        store.outbox.connect()
        sent = [batch.sequence for batch in drain(store, 1.0)]
        assert sorted(sent) == list(range(count + 1))
        assert store.pending == 0
    assert list((tmp_path / "streams").iterdir()) != []


def test_a_backlog_of_a_week_delays_neither_what_is_recorded_now_nor_a_finding(tmp_path: Path) -> None:
    """The backlog drains in order; each new batch is among the next that are sent, and everything is sent once."""
    writer, later = Writer(), Writer()
    count = 20 * LOADED
    with opened(tmp_path) as store:
        for record in [writer.announcement(), *(writer.rows(20) for _ in range(count))]:
            store.append(record)
        store.commit()
    with opened(tmp_path) as store:
        store.append(later.announcement())
        now_s, backlog, sent = 0.0, [], set()
        wanted = count + 1
        while store.pending or now_s < 2.0:
            maintain(store, later, now_s)
            fresh: list[Record] = []
            if now_s < 10.0 and int(now_s * 10) % 5 == 0:
                fresh = [later.rows(), later.finding()]
                for record in fresh:
                    store.append(record)
                store.commit()
                wanted += 2
            due = store.outbox.due(now_s)
            for record in fresh:
                at = next(place for place, batch in enumerate(due) if batch.data == record.sealed.data)
                assert not any(batch.as_backlog for batch in due[:at])
            for batch in due:
                assert batch.key not in sent
                sent.add(batch.key)
                answer(store, batch)
            backlog += [batch.sequence for batch in due if batch.stream == writer.sealer.stream and batch.sequence]
            now_s += 0.1
            assert now_s < 600.0
        assert backlog == list(range(1, count + 1))
        assert len(sent) == wanted + 1


def test_what_is_recorded_during_an_outage_does_not_fill_the_memory_and_is_sent_once(tmp_path: Path) -> None:
    writer = Writer()
    with opened(tmp_path) as store:
        store.append(writer.announcement())
        store.outbox.disconnect(0.0)
        now_s = 0.0
        for _ in range(600):  # twenty minutes, a batch every 2 s
            maintain(store, writer, now_s)
            store.append(writer.rows(20))
            store.commit()
            now_s += 2.0
            assert store.outbox.held <= LOADED + LIVE_KEPT + 1
        store.outbox.connect()
        sent = [batch.sequence for batch in drain(store, now_s)]
        assert sorted(sent) == list(range(601))
        assert store.pending == 0


def test_live_batches_that_went_before_the_backlog_are_not_sent_again_after_a_restart(tmp_path: Path) -> None:
    writer = Writer()
    with opened(tmp_path) as store:
        for record in [writer.announcement(), *(writer.rows(20) for _ in range(4 * LOADED))]:
            store.append(record)
        store.commit()
    with opened(tmp_path) as store:
        later = Writer()
        store.append(later.announcement())
        store.maintain(0.0)
        answered = set()
        for _ in range(3):
            store.append(later.rows())
            store.commit()
            for batch in store.outbox.due(0.0):
                answer(store, batch)
                answered.add(batch.key)
        maintain(store, later, 100.0)  # writes the cursors
    with opened(tmp_path) as store:
        sent = [batch.key for batch in drain(store, 200.0)]
    assert not [key for key in sent if key[0] == later.sealer.stream and key[1]]
    assert {key for key in answered if key[0] == later.sealer.stream} == {(later.sealer.stream, sequence) for sequence in range(4)}
    assert answered | set(sent) >= {(writer.sealer.stream, sequence) for sequence in range(4 * LOADED + 1)}


def test_nothing_is_deleted_before_its_gap_is_durable(tmp_path: Path) -> None:
    writer = Writer()
    with opened(tmp_path, 1 << 20) as store:
        store.append(writer.announcement())
        store.outbox.disconnect(0.0)
        while not (gaps := store.maintain(0.0)):
            store.append(writer.rows(4000))
            store.commit()
        first = gaps[0].first
        store.maintain(0.0)
    # Power fails before the gap is recorded: the batches are all still there.
    with opened(tmp_path, 1 << 30) as store:
        assert first in {batch.sequence for batch in drain(store)}


def test_what_is_older_than_90_days_is_given_up_and_said(tmp_path: Path) -> None:
    writer = Writer()
    utc_s = 1.8e9
    with opened(tmp_path, 1 << 20) as store:
        for record in [writer.announcement(), *(writer.rows(4000) for _ in range(100))]:
            store.append(record)
        store.commit()
    files = sorted((tmp_path / "bulk").glob("*.seg"))
    for number, path in enumerate(files):
        # The first two are too old, the third was written at a time that cannot be.
        when = utc_s - MAX_AGE_S - 1 if number < 2 else 0.0 if number == 2 else utc_s - MAX_AGE_S + 10.0
        os.utime(path, (when, when))
    kept = int(files[2].name[:20])
    with opened(tmp_path, 1 << 20) as store:
        assert store.maintain(0.0) == []  # the clock is not known yet
        gaps = maintain(store, writer, 1.0, utc_s)
        assert [(gap.first, gap.last, gap.reason) for gap in gaps] == [(1, kept, AGED)]
        store.maintain(2.0, utc_s)
        assert not files[0].exists()
        assert not files[1].exists()
        assert files[2].stat().st_mtime == utc_s
        assert {batch.sequence for batch in drain(store, 3.0)} == {0, *range(kept + 1, 102)}
    assert store.counts.lost == kept


def test_damage_behind_batches_that_were_sent_at_once_is_told_exactly(tmp_path: Path) -> None:
    """Rows and findings share a stream's sequences; receipts came before the damage."""
    writer = Writer()
    with opened(tmp_path) as store:
        store.append(writer.announcement())
        for _ in range(5):
            store.append(writer.rows())
        store.commit()
        for batch in store.outbox.due(0.0):
            answer(store, batch)
        store.maintain(0.0)
        store.outbox.disconnect(0.0)
        for number in range(LOADED + 2 * LIVE_KEPT):
            store.append(writer.finding() if number == LOADED + 20 else writer.rows())
            store.commit()
        path = next((tmp_path / "bulk").glob("*.seg"))
        records = path.read_bytes().split(MARKER)
        broken = 5 + LOADED + 19  # positions of rows: the finding between them is elsewhere
        records[1 + broken] = records[1 + broken][:-1] + bytes([records[1 + broken][-1] ^ 1])
        records[2 + broken] = records[2 + broken][:-1] + bytes([records[2 + broken][-1] ^ 1])
        path.write_bytes(MARKER.join(records))
        store.outbox.connect()
        gaps: list[Gap] = []
        drain(store, gaps=gaps)
    lost = [sequence for gap in gaps for sequence in range(gap.first, gap.last + 1)]
    assert lost == [broken + 1, broken + 3]
    assert {gap.reason for gap in gaps} == {DAMAGED}


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
        rows = set()
        for _ in range(400):
            store.append(record := writer.rows(4000))
            rows.add(record.sealed.header.sequence)
            store.commit()
            gaps += maintain(store, writer)
            assert store.size_bytes <= 1 << 20
        recorded |= set(range(1, writer.sealer.next_sequence))  # the gaps themselves are batches too
        store.outbox.connect()
        sent = {batch.sequence for batch in drain(store)}
    lost = {sequence for gap in gaps for sequence in range(gap.first, gap.last + 1)}
    assert {gap.reason for gap in gaps} == {FULL}
    assert {gap.stream for gap in gaps} == {writer.sealer.stream}
    assert lost.isdisjoint(sent)
    assert lost | sent == recorded | {0}
    assert finding.sealed.header.sequence in sent
    assert max(lost) < min(sent & rows), "the oldest go first"
    assert max(lost) - min(lost) + 1 - len(lost) <= len(gaps), "what lies between are the gaps' own messages"
    assert store.counts.recorded == store.counts.receipted + store.counts.lost


def test_findings_stay_within_their_tenth(tmp_path: Path) -> None:
    writer = Writer()
    with opened(tmp_path, 1 << 20) as store:
        store.append(writer.announcement())
        gaps: list[Gap] = []
        for _ in range(100):
            store.append(writer.finding(4000))
            store.commit()
            gaps += maintain(store, writer)
            assert store.size_bytes <= (1 << 20) // 10
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
        sent = {batch.sequence for batch in drain(store, gaps=gaps)}
        assert store.pending == 0
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


def test_a_gap_that_could_not_be_written_is_said_again(tmp_path: Path) -> None:
    disk, writer = FullDisk(), Writer()
    said = Gap(stream=bytes(16), first=3, last=4, reason=FULL)
    with opened(tmp_path, 100_000, disk) as store:
        store.append(writer.announcement())
        disk.full = True
        for record in [*(writer.finding() for _ in range(60)), writer.gap(said)]:  # more than a segment: the whole group fails
            store.append(record)
        store.commit()
        disk.full = False
        gaps = store.maintain(0.0)
        store.append(writer.finding())
        store.commit()
        gaps += store.maintain(0.0)
    assert said in gaps


def test_two_agents_cannot_have_one_outbox(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(SegmentLogLocked), opened(tmp_path):
        pass


@pytest.mark.parametrize("data", [b"", b"{", b'{"bulk": 99999, "reserved": 99999}', b'{"bulk": -5, "reserved": 0}', b'{"\xff": 1}'])
def test_cursors_that_make_no_sense_cost_duplicates_and_no_batch(tmp_path: Path, data: bytes) -> None:
    writer = Writer()
    with opened(tmp_path) as store:
        for record in (writer.announcement(), writer.rows(), writer.rows()):
            store.append(record)
        store.commit()
    (tmp_path / "cursors").write_bytes(data)
    with opened(tmp_path) as store:
        assert [batch.sequence for batch in drain(store)] == [0, 1, 2]
