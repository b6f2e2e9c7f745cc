"""The power fails at every operation of a log, and in the middle of every write: what was synced is there, nothing else was made up.

The long form (`make soak ARGS=tests/wire/test_power_cut.py`) tries every byte of every write and more of what a disk may do.
"""

import os
import random
from pathlib import Path
from typing import Any

import pytest

from power_cut import Choice, Disk, Recording, cuts, folder
from wire.segment_log import SegmentLog

SOAK = bool(os.environ.get("CANSIGHT_SOAK"))
SEEDS, TORN_EVERY, WORKLOADS = (25, 1, 12) if SOAK else (3, 13, 2)


def record(root: Path, seed: int) -> tuple[Recording, dict[int, set[bytes]]]:
    """A log's life: groups, segments, drops, restarts. Returns also every payload that any position was ever given."""
    choice, recording = random.Random(seed), Recording(root)
    given: dict[int, set[bytes]] = {}
    with recording.running():
        for _ in range(3):
            verify = bool(choice.randrange(2))
            with SegmentLog(root / "a" / "log", segment_bytes=220, verify=verify, opener=os.open) as log:  # the one that is recorded
                for _ in range(10):
                    group = {}
                    for _ in range(choice.randrange(5)):
                        payload = choice.randbytes(choice.randrange(90))
                        position = log.append(payload)
                        group[position] = payload
                        given.setdefault(position, set()).add(payload)
                    what = choice.randrange(20)
                    if what == 0:
                        break  # an end without sync
                    if what == 1:
                        log.roll()
                    else:
                        log.sync()
                    recording.mark("synced", group)
                    if what < 6:
                        before = choice.randrange(log.first, log.next + 1)
                        recording.mark("dropping", before)
                        log.drop_before(before)
    return recording, given


def check(root: Path, marks: list[tuple[str, Any]], given: dict[int, set[bytes]]) -> None:
    synced: dict[int, bytes] = {}
    dropped = 0
    for what, value in marks:
        if what == "synced":
            synced |= value
        else:
            dropped = max(dropped, value)
    with SegmentLog(root / "a" / "log", segment_bytes=220) as log:
        found = dict(log.read())
        for position, payload in synced.items():
            assert position < dropped or found[position] == payload, f"position {position} was synced"
        assert all(payload in given[position] for position, payload in found.items())
        assert log.next > max([*synced, *found], default=-1), "no position is given twice"
        named = {position for first, last in log.gaps for position in range(first, last + 1)}
        assert named.isdisjoint(found)
        assert not {position for position in synced if position >= dropped} & named
        last = log.append(b"goes on")
        log.sync()
        assert dict(log.read(last)) == {last: b"goes on"}
        following = log.next
    with SegmentLog(root / "a" / "log", segment_bytes=220, verify=False) as log:
        assert dict(log.read()) == found | {last: b"goes on"}
        assert log.next == following


@pytest.mark.parametrize("seed", range(WORKLOADS))
def test_every_prefix_of_the_log_is_recovered(seed: int) -> None:
    with folder() as root:
        recording, given = record(root, seed)
    states = 0
    for number, disk, choice in cuts(recording, SEEDS, TORN_EVERY):
        marks = [(op[1], op[2]) for op in recording.ops[:number] if op[0] == "mark"]
        with folder() as root:
            disk.build(root, choice)
            check(root, marks, given)
        states += 1
    assert states > 200
    assert {op[0] for op in recording.ops} >= {"create", "write", "sync", "unlink", "mkdir", "mark"}


def test_the_model_of_the_disk_can_lose_what_was_not_synced() -> None:
    """The suite above would be worth nothing if it could not fail."""
    with folder() as root:
        recording = Recording(root)
        with recording.running():
            descriptor = os.open(root / "file", os.O_WRONLY | os.O_CREAT, 0o600)
            os.pwrite(descriptor, b"abc", 0)
            os.fsync(descriptor)
            os.close(descriptor)
    kept = set()
    disk = Disk()
    for op in recording.ops:
        disk.take(op)
    for _, _, choice in cuts(recording, 20, 1):
        with folder() as root:
            disk.build(root, choice)
            kept.add((root / "file").read_bytes() if (root / "file").exists() else None)
    assert kept == {None, b"abc"}, "the data was synced, its name was not"
    with folder() as root:
        half = Disk()
        for op in recording.ops[:2]:
            half.take(op)
        half.build(root, Choice())
        assert (root / "file").read_bytes() == b"abc"
