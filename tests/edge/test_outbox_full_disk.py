"""An outbox on a disk on which any call fails, and on a real one that is full: nothing is lost without being said."""

import os

import pytest
from outbox_writer import Writer, drain, keys_of, opened

from edge.errors import OutboxError
from edge.outbox_store import OutboxStore
from edge.streams import Record
from full_disk import FailingCalls, small_disk
from power_cut import folder
from wire.errors import SegmentLogError
from wire.messages import Gap

Key = tuple[bytes, int]
SOAK = bool(os.environ.get("CANSIGHT_SOAK"))


def run(store: OutboxStore, rounds: int, said: list[Gap], kept: dict[Key, Record]) -> None:
    """What the agent does; the cloud is away."""
    writer = Writer()
    store.outbox.disconnect(0.0)
    put(store, kept, writer.announcement())
    for number in range(rounds):
        for record in [writer.rows(3000), writer.rows(3000), *([writer.finding()] if number % 4 == 0 else [])]:
            put(store, kept, record)
        store.commit()
        tell(store, writer, said, 40.0 * number)
    for number in range(20):  # the disk works again by now
        put(store, kept, writer.rows(10))
        store.commit()
        tell(store, writer, said, 40.0 * (rounds + number))


def put(store: OutboxStore, kept: dict[Key, Record], record: Record) -> None:
    kept[record.sealed.header.stream, record.sealed.header.sequence] = record
    store.append(record)


def tell(store: OutboxStore, writer: Writer, said: list[Gap], now_s: float) -> None:
    gaps = store.maintain(now_s)
    said += gaps
    for gap in gaps:
        store.append(writer.gap(gap))
    store.commit()


def check(store: OutboxStore, said: list[Gap], kept: dict[Key, Record]) -> None:
    store.outbox.connect()
    sent = {batch.key: batch for batch in drain(store, 1e6, said)}
    told = {key for gap in said for key in keys_of(gap)}
    assert kept.keys() <= sent.keys() | told
    assert not told & sent.keys()
    assert all(batch.data == kept[key].sealed.data for key, batch in sent.items() if key in kept)
    assert store.pending == 0


@pytest.mark.parametrize("count", [1, 9])
def test_an_outbox_survives_a_failure_of_any_call(count: int) -> None:
    with folder() as root:
        counter = FailingCalls(root)
        with counter.running(), opened(root / "outbox", 100_000, os.open) as store:
            run(store, 20, [], {})
    assert counter.calls > 100
    for first in range(0, counter.calls, 1 if SOAK else 5):
        with folder() as root:
            disk = FailingCalls(root, first, count)
            said: list[Gap] = []
            kept: dict[Key, Record] = {}
            with disk.running():
                try:
                    with opened(root / "outbox", 100_000, os.open) as store:
                        run(store, 20, said, kept)
                        disk.count = 0
                        put(store, kept, (later := Writer()).announcement())
                        for _ in range(3):  # what was owed is said once something can be written
                            put(store, kept, later.rows(10))
                            store.commit()
                            tell(store, later, said, 2000.0)
                        check(store, said, kept)
                except (OutboxError, SegmentLogError):  # said in one line when the agent starts, before anything is recorded
                    if kept:
                        raise


def test_an_outbox_on_a_real_disk_that_is_full_keeps_findings_and_says_what_it_dropped() -> None:
    """Others have filled the disk; the outbox may be larger than what is left."""
    with small_disk() as disk:
        (disk / "ballast").write_bytes(bytes(500 << 10))
        said: list[Gap] = []
        kept: dict[Key, Record] = {}
        with opened(disk / "outbox", 8 << 20) as store:
            run(store, 300, said, kept)
            findings = {key for key, record in kept.items() if not record.is_rows}
            check(store, said, kept)
            told = {key for gap in said for key in keys_of(gap)}
            assert told
            assert len(findings & told) < len(findings) / 10
            assert not store.pending
