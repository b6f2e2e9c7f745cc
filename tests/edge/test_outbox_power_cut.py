"""The power fails at every file operation of an outbox: each batch that was durable is sent, or receipted before, or named in a gap.

The long form is `make soak ARGS=tests/edge/test_outbox_power_cut.py`.
"""

import os
import random
from pathlib import Path
from typing import Any

import pytest
from outbox_writer import Writer, answer, drain, keys_of, opened

from edge.outbox import Lane
from edge.outbox_store import DAMAGED, OutboxStore
from power_cut import Anything, Recording, cuts, folder
from wire.messages import Gap

SOAK = bool(os.environ.get("CANSIGHT_SOAK"))
SEEDS, TORN_EVERY, WORKLOADS = (6, 61, 4) if SOAK else (2, 151, 1)
ROOM = 100_000  # segments of 11 kB: the outbox is full after a while

Key = tuple[bytes, int]


def commit(store: OutboxStore, recording: Recording, records: list[Any]) -> None:
    for record in records:
        store.append(record)
    store.commit()
    recording.mark("durable", [(record.sealed.header.stream, record.sealed.header.sequence, record.sealed.data) for record in records])
    for record in records:
        if record.gap is not None:
            recording.mark("told", keys_of(record.gap))


def record(root: Path, seed: int) -> Recording:
    """Drives that are ended by a kill or in order, in reach of the cloud or not, until the outbox is full, and beyond."""
    choice, recording = random.Random(seed), Recording(root)
    now_s = 0.0
    with recording.running():
        for drive in range(4):
            with opened(root / "outbox", ROOM, os.open) as store:
                writer = Writer()
                commit(store, recording, [writer.announcement()])
                if drive == 1:
                    store.outbox.disconnect(now_s)
                for _ in range(35 if drive == 1 else 8):
                    rows = [writer.rows(choice.randrange(1500, 4500)) for _ in range(choice.randrange(1, 3))]
                    commit(store, recording, [*rows, *([writer.finding()] if choice.randrange(4) == 0 else [])])
                    for batch in store.outbox.due(now_s):
                        if choice.randrange(3):
                            recording.mark("answered", batch.key)
                            answer(store, batch)
                    now_s += 20.0
                    commit(store, recording, [writer.gap(gap) for gap in store.maintain(now_s)])
                if drive % 2:
                    store.close()
    return recording


def check(root: Path, marks: list[tuple[str, Any]]) -> None:
    durable: dict[Key, bytes] = {}
    ended: set[Key] = set()  # receipted, or named in a gap that is durable
    for what, value in marks:
        if what == "durable":
            durable |= {(stream, sequence): data for stream, sequence, data in value}
        elif what == "told":
            ended |= value
        else:
            ended.add(value)
    gaps: list[Gap] = []
    with opened(root / "outbox", ROOM) as store:
        batches = drain(store, 1e6, gaps)
        assert store.pending == 0
    sent = {batch.key: batch.data for batch in batches}
    told = {key for gap in gaps for key in keys_of(gap)}
    for key in durable.keys() - ended:
        if key[1]:  # an announcement of which no batch is left is not kept
            assert key in sent or key in told, f"sequence {key[1]} has vanished"
    assert all((stream, 0) in sent for stream, _ in sent)
    assert all(durable.get(key, data) == data for key, data in sent.items())
    # Where findings that were not durable yet are torn, the gap is known by its bounds alone, and rows lie between (docs/wire.md, gaps).
    rows = {batch.key for batch in batches if batch.lane is Lane.BULK}
    damaged = {key for gap in gaps if gap.reason == DAMAGED for key in keys_of(gap)}
    assert told & sent.keys() <= rows & damaged


@pytest.mark.parametrize("seed", range(WORKLOADS))
def test_no_batch_vanishes_when_the_power_fails(seed: int) -> None:
    with folder() as root:
        recording = record(root, seed)
    assert {op[0] for op in recording.ops} >= {"create", "write", "sync", "unlink", "rename", "mkdir", "mark"}
    assert [op for op in recording.ops if op[:2] == ("mark", "told")], "the outbox was never full"
    states = 0
    for number, disk, choice in cuts(recording, SEEDS, TORN_EVERY):
        if not SOAK and states % 3:  # the short form tries every third state
            states += 1
            continue
        states += 1
        marks = [(op[1], op[2]) for op in recording.ops[:number] if op[0] == "mark"]
        with folder() as root:
            disk.build(root, choice)
            check(root, marks)
    assert states > 1000


def test_what_has_its_receipt_is_not_called_lost_when_the_power_fails_as_its_announcement_goes() -> None:
    """The announcement's removal may be durable before anything else is: the cursors must have been before it."""
    with folder() as root:
        recording, first, later = Recording(root), Writer(), Writer()
        with recording.running(), opened(root / "outbox", ROOM, os.open) as store:
            for record in [first.announcement(), *(first.rows() for _ in range(5))]:
                store.append(record)
            store.commit()
            for batch in store.outbox.due(0.0):
                answer(store, batch)
            store.maintain(20.0)  # writes the cursors as it does now and then
            store.append(later.announcement())
            store.append(later.rows())
            store.commit()
            store.maintain(21.0)
    gone = recording.ops.index(("unlink", Path("outbox/streams") / first.sealer.stream.hex(), None, None))
    states = 0
    for number, disk, choice in cuts(recording, 12, 1 << 20):
        if number <= gone or not isinstance(choice, Anything):
            continue
        states += 1
        gaps: list[Gap] = []
        with folder() as root:
            disk.build(root, choice)
            with opened(root / "outbox", ROOM) as store:
                drain(store, 1e6, gaps)
        assert first.sealer.stream not in {gap.stream for gap in gaps}
    assert states >= 12
