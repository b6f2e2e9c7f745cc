"""Sets of sequences, and the tables that keep them."""

import random
import struct
import subprocess
import sys
from collections.abc import Sequence
from itertools import count, pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.database import Database, StoredStream
from cloud.landed import Landed, Sequences
from cloud.tickets.service import TicketService
from wire.messages import Clock

NEAR = st.integers(0, 40) | st.integers(1010, 1030) | st.integers(2**32 - 20, 2**32 - 1)


@given(st.lists(st.tuples(st.sampled_from(["add", "discard"]), NEAR, st.integers(1, 1030))))
def test_a_set_holds_exactly_what_was_added_and_its_row_holds_it_too(steps: list[tuple[str, int, int]]) -> None:
    sequences = Sequences()
    model: set[int] = set()
    for step, first, length in steps:
        length = min(length, 2**32 - first)
        if step == "add":
            sequences.add_run(first, first + length - 1) if length > 1 else sequences.add(first)
            model.update(range(first, first + length))
        else:
            sequences.discard(first)
            model.discard(first)
    runs = sequences.runs
    assert {n for first, last in runs for n in range(first, last + 1)} == model
    assert all(later[0] > earlier[1] + 1 for earlier, later in pairwise(runs))
    some = (*range(0, 1100, 7), *range(60), *range(1010, 1040), *range(2**32 - 60, 2**32))
    for one in (sequences, Sequences(runs), Sequences.unpack(sequences.pack()), Sequences.unpack(as_runs(runs))):
        assert one.runs == runs
        assert all((n in one) == (n in model) for n in some)
        assert all(one.first_missing(n) == next(m for m in count(n) if m not in model) for n in (0, 5, 1020, 2**32 - 9))


def as_runs(runs: list[tuple[int, int]]) -> bytes:
    """A row as it was before there were bits."""
    return b"".join(struct.pack("<II", *run) for run in runs)


def test_a_row_is_short_whatever_lands() -> None:
    hour = range(1800)
    assert len(Sequences([(0, 1799)]).pack()) == 8
    half = Sequences((n, n) for n in random.Random(1).sample(hour, 900))
    assert len(half.pack()) == 265
    assert len(as_runs(half.runs)) > 3000
    half.add(2**32 - 1)
    assert len(half.pack()) == 397
    assert half.pages == 3
    assert len(Sequences((n, n) for n in range(0, 2**32, 2**22)).pack()) == 8 * 1024


@given(st.lists(st.tuples(st.sampled_from(["add", "look", "save", "fail"]), st.integers(0, 9), st.sampled_from([0, 1, 5000, 2**32 - 1]))))
def test_streams_that_are_saved_may_leave_the_memory_and_nothing_is_forgotten(steps: list[tuple[str, int, int]]) -> None:
    table: dict[bytes, bytes] = {}
    landed = Landed(lambda streams: {one: table[one] for one in streams if one in table})
    model: set[tuple[bytes, int]] = set()
    unsaved: set[bytes] = set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cloud.landed.REMEMBERED", 3)
        for step, number, sequence in steps:
            stream = bytes([number]) * 16
            landed.look_up([stream])
            assert len(landed) <= len(unsaved) + 3 + 1
            assert ((stream, sequence) in landed) == ((stream, sequence) in model)
            if step == "add":
                landed.add(stream, sequence)
                model.add((stream, sequence))
                unsaved.add(stream)
            elif step in ("save", "fail"):
                rows = landed.unsaved()
                assert rows.keys() == unsaved
                if step == "save":
                    table |= rows
                    landed.saved()
                    unsaved.clear()
        landed.look_up(())
        assert len(landed) <= len(unsaved) + 3
        every = {(bytes([number]) * 16, sequence) for number in range(10) for sequence in (0, 1, 5000, 2**32 - 1)}
        assert {pair for pair in every if pair in landed} == model


def test_a_stream_is_asked_for_once_whether_the_table_has_it_or_not_and_many_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    away = False

    def table(streams: Sequence[bytes]) -> dict[bytes, bytes]:
        if away:
            raise TimeoutError
        asked.append(len(streams))
        return {one: Sequences([(0, 3)]).pack() for one in streams if one[0] < 128}

    landed = Landed(table)
    streams = [number.to_bytes(16, "little") for number in range(1200)]
    landed.look_up(streams * 2)
    assert asked == [128] * 9 + [48]
    assert [(one, 2) in landed for one in streams] == [one[0] < 128 for one in streams]
    away = True
    landed.look_up(streams)
    landed.add(streams[-1], 9)
    new = b"\xff" * 16
    for ask in (lambda: landed.look_up([streams[0], new]), lambda: (new, 1) in landed, lambda: landed.add(new, 1)):
        with pytest.raises(TimeoutError):
            ask()
    away = False
    assert (new, 1) not in landed
    assert landed.unsaved().keys() == {streams[-1]}
    assert asked == [128] * 9 + [48, 1]
    monkeypatch.setattr("cloud.landed.LARGEST", 2)
    landed.add(new, 5000)
    assert [landed.has_room(new, sequence) for sequence in (4999, 1, 2**32 - 1)] == [True, True, True]
    landed.add(new, 2**32 - 1)
    assert [landed.has_room(new, sequence) for sequence in (4999, 1, 2**32 - 2)] == [True, False, True]


def test_only_what_changed_is_saved_and_what_is_asked_for_is_found(tmp_path: Path) -> None:
    a, b, old, none = (letter * 16 for letter in (b"a", b"b", b"o", b"n"))
    with Database(f"sqlite:///{tmp_path / 'a.db'}") as database:
        landed = Landed(database.landed)
        for sequence in (0, 1, 2, 5, 2**32 - 1):
            landed.add(a, sequence)
        database.save_landed(7, landed.unsaved(), now_ms=1000)
        landed.saved()
        landed.add(b, 3)
        assert landed.unsaved().keys() == {b}
        landed.add(b, 4)
        database.save_landed(9, landed.unsaved() | {old: as_runs([(0, 0), (2, 2), (4, 9)])}, now_ms=2000)
    with Database(f"sqlite:///{tmp_path / 'a.db'}") as database:
        assert database.checkpoint() == 9
        found = {stream: Sequences.unpack(row).runs for stream, row in database.landed([a, b, old, none]).items()}
        assert found == {a: [(0, 2), (5, 5), (2**32 - 1, 2**32 - 1)], b: [(3, 4)], old: [(0, 0), (2, 2), (4, 9)]}
        assert database.forget_landed(1500) == 1
        assert database.landed([a, b]).keys() == {b}


def test_the_first_announcement_and_the_first_clock_of_a_boot_stay(tmp_path: Path) -> None:
    with Database(f"sqlite:///{tmp_path / 'a.db'}") as database:
        first = StoredStream(b"s" * 16, "v", 1, b"one")
        early, late = (Clock(boot_ms=0, utc_ms=n, source="system") for n in (5, 6))
        database.learn([first], {("v", b"b" * 16): early})
        database.learn([StoredStream(b"s" * 16, "v", 2, b"two")], {("v", b"b" * 16): late})
        assert database.stream(b"s" * 16) == first
        assert database.clock("v", b"b" * 16) == early
        assert database.clock("w", b"b" * 16) is None
        assert database.stream(b"t" * 16) is None


def test_what_another_process_writes_is_seen_whoever_opens_and_closes_the_file_in_this_one(tmp_path: Path) -> None:
    """SQLite's locks are the process's: who opens and closes the file beside it drops them, and the next to close takes the log away."""
    url = f"sqlite:///{tmp_path / 'a.db'}"
    ask = f"from cloud.database import Database\nwith Database({url!r}) as other: other.ask_replay([7])"
    with Database(url) as database, TicketService(url):
        database.asked_replays()
        for number in (1, 2):
            subprocess.run([sys.executable, "-c", ask], check=True, cwd=Path(__file__).parents[2])
            assert len(database.asked_replays()) == number
