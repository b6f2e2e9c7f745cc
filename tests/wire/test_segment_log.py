"""The segment log: what is synced is never lost, what is damaged is never returned, and what is missing is named."""

import errno
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wire.errors import FormatError, SegmentLogError, SegmentLogLocked
from wire.segment_file import RECORD_BYTES, encode_record
from wire.segment_log import SegmentLog


def payload_of(position: int) -> bytes:
    return random.Random(position).randbytes(5 + position % 23)


def fill(folder: Path, count: int, *, segment_bytes: int = 1 << 20, start: int = 0) -> None:
    with SegmentLog(folder, segment_bytes=segment_bytes) as log:
        for position in range(start, start + count):
            assert log.append(payload_of(position)) == position
        log.sync()


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.seg"))


def contents(folder: Path, **options: int) -> tuple[list[int], list[tuple[int, int]], int]:
    """Positions, gaps and the next position; every payload is checked."""
    with SegmentLog(folder, **options) as log:
        found = dict(log.read())
        assert all(payload == payload_of(position) for position, payload in found.items())
        return list(found), log.gaps, log.next


def test_records_come_back_in_order_after_reopening(tmp_path: Path) -> None:
    fill(tmp_path / "log", 500, segment_bytes=1000)
    assert len(segments(tmp_path / "log")) > 10
    assert contents(tmp_path / "log") == (list(range(500)), [], 500)


def test_reading_starts_at_any_position(tmp_path: Path) -> None:
    fill(tmp_path / "log", 300, segment_bytes=4000)
    with SegmentLog(tmp_path / "log") as log:
        for start in range(0, 301, 7):
            assert [position for position, _ in log.read(start)] == list(range(start, 300))


@pytest.mark.parametrize("verify", [False, True])
def test_large_segments_are_read_in_parts(tmp_path: Path, verify: bool) -> None:
    large = {position: payload_of(position) * 300 for position in range(700)}
    with SegmentLog(tmp_path / "log", segment_bytes=2 << 20) as log:
        for payload in large.values():
            log.append(payload)
        log.sync()
    sizes = []

    def opener(path: Path, flags: int, mode: int) -> int:
        descriptor = os.open(path, flags, mode)
        sizes.append(os.fstat(descriptor).st_size)
        return descriptor

    with SegmentLog(tmp_path / "log", verify=verify, opener=opener) as log:
        assert len(segments(tmp_path / "log")) == 2
        assert dict(log.read()) == large
        assert len(sizes) > 8  # parts of a file, not files
        sizes.clear()
        assert next(log.read(350)) == (350, large[350])
        assert len(sizes) == 1


def test_a_segment_that_vanishes_is_said(tmp_path: Path) -> None:
    fill(tmp_path / "log", 40, segment_bytes=300)
    with SegmentLog(tmp_path / "log") as log:
        segments(tmp_path / "log")[1].unlink()
        with pytest.raises(SegmentLogError, match="cannot read it"):
            list(log.read())


def test_readers_see_only_what_is_synced(tmp_path: Path) -> None:
    with SegmentLog(tmp_path / "log") as log:
        log.append(b"a")
        assert list(log.read()) == []
        assert (log.next, log.synced) == (1, 0)
        log.sync()
        assert list(log.read()) == [(0, b"a")]


def test_what_is_not_synced_is_not_in_the_log(tmp_path: Path) -> None:
    with SegmentLog(tmp_path / "log") as log:
        log.append(b"a")
        log.sync()
        log.append(b"b")
    with SegmentLog(tmp_path / "log") as log:
        assert list(log.read()) == [(0, b"a")]


def test_dropping_frees_whole_segments_and_never_gives_a_position_again(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    fill(folder, 100, segment_bytes=400)
    with SegmentLog(folder) as log:
        before = log.bytes
        log.drop_before(50)
        assert 0 < log.first <= 50
        assert log.bytes < before
        assert [position for position, _ in log.read()] == list(range(log.first, 100))
        log.roll()
        log.drop_before(log.next)
        assert (log.first, log.next, log.bytes) == (100, 100, 0)
    assert contents(folder) == ([], [], 100)
    fill(folder, 3, start=100)
    assert contents(folder) == ([100, 101, 102], [], 103)


def test_a_record_larger_than_a_segment_has_one_of_its_own(tmp_path: Path) -> None:
    with SegmentLog(tmp_path / "log", segment_bytes=100) as log:
        for payload in (b"a", b"b" * 5000, b"c", b""):
            log.append(payload)
        log.sync()
        assert [payload for _, payload in log.read()] == [b"a", b"b" * 5000, b"c", b""]
        with pytest.raises(FormatError, match="may have"):
            log.append(bytes((16 << 20) + 1))


def test_only_one_process_has_a_log_open(tmp_path: Path) -> None:
    with SegmentLog(tmp_path / "log"), pytest.raises(SegmentLogLocked, match="another process"), SegmentLog(tmp_path / "log"):
        pass
    with SegmentLog(tmp_path / "log") as log:
        assert log.next == 0
    with pytest.raises(SegmentLogError, match="not open"):
        log.append(b"x")


def test_a_folder_that_cannot_be_opened_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SegmentLogError, match="cannot open the log"), SegmentLog(tmp_path / "file"):
        pass


def test_every_prefix_of_the_last_file_recovers(tmp_path: Path) -> None:
    """A write that stopped at any byte: the whole records before it are there, nothing else, and writing goes on."""
    fill(tmp_path / "log", 6)
    whole = segments(tmp_path / "log")[0]
    data = whole.read_bytes()
    ends = [0]
    for position in range(6):
        ends.append(ends[-1] + RECORD_BYTES + len(payload_of(position)))
    for length in range(len(data)):
        folder = tmp_path / f"cut{length}"
        folder.mkdir()
        (folder / whole.name).write_bytes(data[:length])
        kept = sum(end <= length for end in ends) - 1
        assert contents(folder) == (list(range(kept)), [], kept)
        fill(folder, 1, start=kept)
        assert contents(folder) == (list(range(kept + 1)), [], kept + 1)
        shutil.rmtree(folder)


@pytest.mark.parametrize("damage", [0xFF, 0x01, "zero"])
@pytest.mark.parametrize("last", [False, True])
def test_every_damaged_byte_costs_one_record_and_is_named(tmp_path: Path, damage: int | str, last: bool) -> None:
    folder = tmp_path / "log"
    fill(folder, 12, segment_bytes=250)
    victim = segments(folder)[-1 if last else 0]
    first = int(victim.name[:20])
    data = victim.read_bytes()
    bounds = [0]
    while bounds[-1] < len(data):
        bounds.append(bounds[-1] + RECORD_BYTES + len(payload_of(first + len(bounds) - 1)))
    for at in range(len(data)):
        if damage == "zero" and data[at] == 0:
            continue
        broken = bytearray(data)
        broken[at] = 0 if isinstance(damage, str) else broken[at] ^ damage
        victim.write_bytes(broken)
        hit = first + sum(bound <= at for bound in bounds) - 1
        positions, gaps, following = contents(folder)
        assert positions == [position for position in range(12) if position != hit]
        assert following >= 12
        assert gaps[0][0] == hit
        if hit != 11:
            assert gaps == [(hit, hit)]
            assert following == 12
        for extra in segments(folder):  # the segment that recovery starts when the very last record is damaged
            if int(extra.name[:20]) >= 12:
                extra.unlink()
    victim.write_bytes(data)
    assert contents(folder) == (list(range(12)), [], 12)


def test_a_damaged_tail_never_gives_its_positions_again(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    fill(folder, 5)
    file = segments(folder)[0]
    broken = bytearray(file.read_bytes())
    broken[-1] ^= 1
    file.write_bytes(broken)
    positions, gaps, following = contents(folder)
    assert (positions, gaps[0][0]) == ([0, 1, 2, 3], 4)
    assert following > 4
    fill(folder, 2, start=following)
    assert contents(folder) == ([0, 1, 2, 3, following, following + 1], gaps, following + 2)


def test_damage_while_open_is_found_by_reading(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    fill(folder, 40, segment_bytes=300)
    with SegmentLog(folder, verify=False) as log:
        assert log.gaps == []
        file = segments(folder)[1]
        file.write_bytes(bytes(file.stat().st_size))
        first, after = int(file.name[:20]), int(segments(folder)[2].name[:20])
        for _ in range(2):
            assert [position for position, _ in log.read()] == [*range(first), *range(after, 40)]
            assert log.gaps == [(first, after - 1)]


def test_a_missing_segment_is_a_gap(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    fill(folder, 40, segment_bytes=300)
    names = segments(folder)
    names[2].unlink()
    first, after = int(names[2].name[:20]), int(names[3].name[:20])
    assert contents(folder) == ([*range(first), *range(after, 40)], [(first, after - 1)], 40)


def test_a_payload_that_looks_like_a_record_is_not_taken_for_one(tmp_path: Path) -> None:
    """A stranger's payload holds records of this very format; the record around it is then damaged."""
    folder = tmp_path / "log"
    hostile = b"".join(encode_record(0, position, b"forged") for position in range(10))
    with SegmentLog(folder) as log:
        for payload in (b"a", hostile, b"c"):
            log.append(payload)
        log.sync()
    file = segments(folder)[0]
    broken = bytearray(file.read_bytes())
    broken[RECORD_BYTES + 1 + 5] ^= 0x40  # the second record's length
    file.write_bytes(broken)
    with SegmentLog(folder) as log:
        assert list(log.read()) == [(0, b"a"), (2, b"c")]
        assert log.gaps == [(1, 1)]


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=400))
def test_any_bytes_as_a_segment_never_crash(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.mktemp("log")
    (folder / "00000000000000000007-00000000.seg").write_bytes(data)
    with SegmentLog(folder) as log:
        assert list(log.read()) == []
        assert log.append(b"x") >= 7
        log.sync()
        assert [payload for _, payload in log.read()] == [b"x"]


@settings(max_examples=40, deadline=None)
@given(steps=st.lists(st.tuples(st.sampled_from("aaassrdko"), st.integers(0, 60)), max_size=40))
def test_any_sequence_of_operations_agrees_with_a_list(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]) -> None:
    folder = tmp_path_factory.mktemp("log")
    model: dict[int, bytes] = {}
    pending: dict[int, bytes] = {}
    log = SegmentLog(folder, segment_bytes=150).__enter__()
    try:
        for step, number in steps:
            if step == "a":
                payload = bytes([number]) * number
                pending[log.append(payload)] = payload
            elif step == "s":
                log.sync()
                model |= pending
                pending = {}
            elif step == "r":
                log.roll()
                model |= pending
                pending = {}
            elif step == "d":
                log.drop_before(number)
                model = {position: payload for position, payload in model.items() if position >= log.first}
            else:
                log.__exit__(None, None, None)
                pending = {}
                log = SegmentLog(folder, segment_bytes=150, verify=step == "o").__enter__()
            assert dict(log.read()) == model
            assert list(model) == sorted(model)
            assert log.gaps == []
    finally:
        log.__exit__(None, None, None)


class FailingDisk:
    """An opener whose files refuse to grow past a limit: the real system call fails, as on a full disk (EFBIG for ENOSPC)."""

    def __init__(self) -> None:
        self.refuse_new_files = False

    def __call__(self, path: Path, flags: int, mode: int) -> int:
        if self.refuse_new_files and flags & os.O_CREAT:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return os.open(path, flags, mode)


def test_a_disk_too_full_for_a_new_segment_takes_the_whole_group_back(tmp_path: Path) -> None:
    disk = FailingDisk()
    with SegmentLog(tmp_path / "log", segment_bytes=100, opener=disk) as log:
        log.append(b"a" * 60)
        log.sync()
        disk.refuse_new_files = True
        for payload in (b"b", b"c" * 60):
            log.append(payload)
        with pytest.raises(SegmentLogError, match="No space left") as caught:
            log.sync()
        assert caught.value.cause_errno == errno.ENOSPC
        assert list(log.read()) == [(0, b"a" * 60)]
        assert log.next == 1
        disk.refuse_new_files = False
        assert log.append(b"d" * 60) == 1
        log.sync()
    with SegmentLog(tmp_path / "log") as log:
        assert list(log.read()) == [(0, b"a" * 60), (1, b"d" * 60)]
        assert log.gaps == []


def test_after_a_group_that_failed_reading_begins_at_the_right_record(tmp_path: Path) -> None:
    """Where every 64th record stands is known from writing it; of a group that is taken back nothing may be known."""
    disk = FailingDisk()
    with SegmentLog(tmp_path / "log", segment_bytes=30_000, opener=disk) as log:
        disk.refuse_new_files = True
        for _ in range(200):
            log.append(bytes(200))
        with pytest.raises(SegmentLogError, match="No space left"):
            log.sync()
        for position in range(400):
            log.append(payload_of(position))
        log.sync()
        for start in range(0, 400, 13):
            assert list(log.read(start)) == [(position, payload_of(position)) for position in range(start, 400)]
        assert log.gaps == []


FULL_DISK = """
import resource, sys
from pathlib import Path
from wire.segment_log import SegmentLog
from wire.errors import SegmentLogError
with SegmentLog(Path(sys.argv[1])) as log:
    log.append(b"a" * 1000); log.sync()
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, resource.RLIM_INFINITY))
    log.append(b"b" * 1000); log.append(b"c" * 4000)
    try:
        log.sync()
    except SegmentLogError as error:
        print(error.cause_errno, log.next, len(list(log.read())))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(log.append(b"d" * 10)); log.sync()
"""


def test_a_write_that_stops_in_the_middle_is_undone(tmp_path: Path) -> None:
    """The kernel writes part of the group and then refuses, with the process's own file size limit as the full disk."""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    result = subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path / "log")], capture_output=True, text=True, check=True)
    assert result.stdout.split() == [str(errno.EFBIG), "1", "1", "1"]
    with SegmentLog(tmp_path / "log") as log:
        assert list(log.read()) == [(0, b"a" * 1000), (1, b"d" * 10)]
        assert log.gaps == []


def test_a_disk_that_cannot_be_read_loses_no_bytes_that_are_there(tmp_path: Path) -> None:
    """Every read is EIO (a file whose first page the kernel refuses): all is a gap, and nothing is cut or overwritten."""
    folder = tmp_path / "log"
    fill(folder, 10)
    before = segments(folder)[0].read_bytes()

    def opener(path: Path, flags: int, mode: int) -> int:
        return os.open("/proc/self/mem" if not flags & os.O_RDWR else path, flags, mode)

    with SegmentLog(folder, opener=opener) as log:
        following = log.next
        assert following > 10
        assert log.gaps == [(0, following - 1)]
        assert list(log.read()) == []
    assert segments(folder)[0].read_bytes() == before
    assert contents(folder) == (list(range(10)), [(10, following - 1)], following)


WRITER = """
import random, sys
from pathlib import Path
from wire.segment_log import SegmentLog
def payload_of(position):
    return random.Random(position).randbytes(5 + position % 23)
with SegmentLog(Path(sys.argv[1]), segment_bytes=20_000) as log:
    while True:
        for _ in range(7):
            log.append(payload_of(log.next))
        log.sync()
        print(log.next, flush=True)
"""


def test_kill_9_loses_nothing_that_was_synced(tmp_path: Path) -> None:
    """A real process is killed at random moments, ten times on the same log; it says what it has synced before it goes on."""
    folder = tmp_path / "log"
    seed = random.Random(9)
    synced = 0
    for _ in range(10):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(seed.randrange(1, 60)):
                synced = int(process.stdout.readline())
            process.send_signal(signal.SIGKILL)
            lines = process.stdout.read().split()
            synced = int(lines[-1]) if lines else synced
        positions, gaps, following = contents(folder)
        assert gaps == []
        assert positions == list(range(following))
        assert following >= synced > 0


def test_readers_in_other_threads_see_every_record_once_while_it_is_written_and_dropped(tmp_path: Path) -> None:
    with SegmentLog(tmp_path / "log", segment_bytes=2000) as log:
        seen: list[int] = []
        stop = threading.Event()

        def follow() -> None:
            position = 0
            while not (stop.is_set() and position >= log.synced):
                for found, payload in log.read(position):
                    assert payload == payload_of(found)
                    seen.append(found)
                    position = found + 1
                    log.drop_before(position - 100)

        reader = threading.Thread(target=follow)
        reader.start()
        for _ in range(150):
            for _ in range(10):
                log.append(payload_of(log.next))
            log.sync()
        stop.set()
        reader.join()
        assert seen == list(range(1500))
        assert log.gaps == []
        assert log.first > 1000
