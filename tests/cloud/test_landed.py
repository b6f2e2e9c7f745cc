"""Sets of sequences, and the tables that keep them."""

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from cloud.database import Database, StoredStream
from cloud.landed import Landed, Sequences
from cloud.tickets.service import TicketService
from wire.messages import Clock

NEAR = st.integers(0, 40) | st.integers(2**32 - 20, 2**32 - 1)


@given(st.lists(st.tuples(NEAR, st.integers(1, 12))))
def test_runs_hold_exactly_what_was_added(added: list[tuple[int, int]]) -> None:
    sequences = Sequences()
    model: set[int] = set()
    for first, length in added:
        sequences.add_run(first, first + length - 1) if length > 1 else sequences.add(first)
        model.update(range(first, first + length))
        assert first in sequences
    runs = sequences.runs
    assert {n for first, last in runs for n in range(first, last + 1)} == model
    assert all(later[0] > earlier[1] + 1 for earlier, later in pairwise(runs))
    assert Sequences(runs).runs == runs
    assert all((n in sequences) == (n in model) for n in (*range(54), *range(2**32 - 21, 2**32 + 12)))


def test_only_what_changed_is_saved_and_all_of_it_is_loaded(tmp_path: Path) -> None:
    with Database(f"sqlite:///{tmp_path / 'a.db'}") as database:
        landed = Landed()
        for sequence in (0, 1, 2, 5, 2**32 - 1):
            landed.add(b"a" * 16, sequence)
        database.save_landed(7, landed.take_changed(), now_ms=1000, forget_before_ms=0)
        landed.add(b"b" * 16, 3)
        assert landed.take_changed().keys() == {b"b" * 16}
        landed.add(b"b" * 16, 4)
        database.save_landed(9, landed.take_changed(), now_ms=2000, forget_before_ms=0)
    with Database(f"sqlite:///{tmp_path / 'a.db'}") as database:
        position, saved = database.load_landed()
        assert position == 9
        assert saved == {b"a" * 16: [(0, 2), (5, 5), (2**32 - 1, 2**32 - 1)], b"b" * 16: [(3, 4)]}
        database.save_landed(9, {}, now_ms=3000, forget_before_ms=1500)
        assert database.load_landed()[1].keys() == {b"b" * 16}


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
