"""An outbox over weeks: what is in memory, on the flash and looked at does not grow with the time that nothing could be sent."""

import gc
import os
from pathlib import Path

import pytest
from outbox_writer import Writer, answer, drain, maintain, opened

from edge.outbox import SWEEP, Batch, Lane, Turn
from edge.outbox_store import AGED, LIVE_KEPT, LOADED, MAX_AGE_S, MOST_AGED, OutboxStore
from wire.messages import Gap

HOURS = 60
UTC_S = 1.8e9


def in_memory() -> int:
    """Batches that anything at all still holds."""
    gc.collect()
    return sum(isinstance(one, Batch) for one in gc.get_objects())


def hour(store: OutboxStore, batches: int = 10) -> None:
    """One hour of two classes: a stream of each."""
    for writer in (Writer("technical"), Writer("driving")):
        store.append(writer.announcement())
        for _ in range(batches):
            store.append(writer.rows(20))
    store.commit()


@pytest.mark.parametrize("link", ["away", "nobody answers", "findings alone"])
def test_what_waits_on_the_flash_alone_is_not_in_memory(tmp_path: Path, link: str) -> None:
    """Queues whose heads may not be sent are not looked through by sending."""
    before = in_memory()
    with opened(tmp_path) as store:
        if link == "away":
            store.outbox.disconnect(0.0)
        elif link == "findings alone":
            store.outbox.allow({Turn.FINDING})
        for number in range(HOURS):
            hour(store, batches=60)
            store.outbox.due(3600.0 * number)
            store.maintain(3600.0 * number)
        assert store.pending > 100 * HOURS
        most = in_memory() - before
    assert most < 2 * (2 * (LOADED + LIVE_KEPT) + SWEEP), "of 7,200"


def test_announcements_wait_on_the_flash_with_their_batches_and_go_before_them(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.outbox.disconnect(0.0)
        for number in range(2 * HOURS):
            hour(store)
            store.maintain(3600.0 * number)
        counted = store.pending
        assert counted == 2 * HOURS * 22
        assert store.outbox.held < (LOADED + LIVE_KEPT) * 1.2, "of 240 announcements one for ten batches"
        store.outbox.connect()
        sent = [batch.key for batch in drain(store, 1e6)]
        assert len(sent) == len(set(sent)) == counted
        place = {key: at for at, key in enumerate(sent)}
        assert all(place[stream, 0] <= at for (stream, _), at in place.items())
        assert store.pending == 0
        assert store.counts.recorded == store.counts.receipted == counted


@pytest.mark.parametrize("ends", ["in order", "killed"])
def test_announcements_of_rows_that_are_gone_go_whatever_else_waits_and_however_often_the_agent_starts(tmp_path: Path, ends: str) -> None:
    written, left = [], []
    for _ in range(24):
        with opened(tmp_path, 1 << 20) as store:
            store.outbox.disconnect(0.0)
            technical, driving = Writer("technical"), Writer("driving")
            written.append(driving.sealer.stream.hex())
            for record in (technical.announcement(), technical.finding(), driving.announcement()):
                store.append(record)
            for _ in range(40):
                store.append(driving.rows(4000))
                maintain(store, technical)
            if ends == "in order":
                store.close()
            else:  # of the stream at hand it is not known where it ends
                store.append(Writer("driving").announcement())
        names = {path.name for path in (tmp_path / "streams").iterdir()}
        left.append(sum(name in names for name in written))
    assert left[-1] == left[11] <= 8, "five runs fill the outbox"
    with opened(tmp_path, 1 << 20) as store:
        gaps: list[Gap] = []
        assert drain(store, 1e6, gaps)
        assert not gaps, "no announcement went that was needed"


def test_a_full_outbox_that_is_too_old_is_given_up_by_and_by(tmp_path: Path) -> None:
    writer = Writer()
    with opened(tmp_path, 1 << 20) as store:
        for record in [writer.announcement(), *(writer.rows(4000) for _ in range(200))]:
            store.append(record)
        store.commit()
    files = sorted((tmp_path / "bulk").glob("*.seg"))
    assert len(files) > 3 * MOST_AGED
    for path in files:
        os.utime(path, (UTC_S - MAX_AGE_S - 1, UTC_S - MAX_AGE_S - 1))
    with opened(tmp_path, 1 << 20) as store:
        gaps: list[Gap] = []
        for step in range(len(files)):
            before = store.counts.lost
            gaps += maintain(store, writer, 0.1 * step, UTC_S)
            assert store.counts.lost - before <= MOST_AGED * 30
        assert sum(gap.last - gap.first + 1 for gap in gaps if gap.reason == AGED) == 200


def test_what_was_recorded_while_the_clock_was_months_late_is_not_too_old_when_it_is_set(tmp_path: Path) -> None:
    """A computer without a battery for its clock wakes up where it was switched off, at the end of last summer."""
    writer = Writer()
    with opened(tmp_path, 1 << 20) as store:
        store.maintain(0.0)
        for record in [writer.announcement(), *(writer.rows(4000) for _ in range(100))]:
            store.append(record)
        store.commit()
        for path in (tmp_path / "bulk").glob("*.seg"):
            os.utime(path, (UTC_S - 2 * MAX_AGE_S, UTC_S - 2 * MAX_AGE_S))
        assert maintain(store, writer, 1800.0, UTC_S, up_s=1800.0) == []
        assert len(drain(store, 1801.0)) == 101


def test_an_announcement_that_was_answered_is_sent_again_before_rows_that_come_back_from_the_flash(tmp_path: Path) -> None:
    """Metered for days: announcements and findings go, rows wait."""
    with opened(tmp_path) as store:
        store.outbox.allow({Turn.FINDING})
        for number in range(HOURS):
            store.maintain(3600.0 * number)
            hour(store)
            for batch in store.outbox.due(3600.0 * number):
                answer(store, batch)
        assert store.counts.receipted >= 2 * (HOURS - 1), "the announcements"
        assert len(store.outbox._announcements) < HOURS, "of twice as many"
        store.outbox.allow(frozenset(Turn))
        sent = drain(store, 1e6)
        assert sum(batch.lane is Lane.BULK for batch in sent) == 20 * HOURS
        assert store.pending == 0
        assert store.counts.recorded == store.counts.receipted
