"""Sources: pacing by the frames' own stamps, and a reader that no source can hang."""

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from edge_helpers import PATIENCE_S, write_log

from dbc.errors import LogFormatError
from dbc.frames import FrameBlock
from edge.config import SourceConfig
from edge.errors import SourceError
from edge.sources.log import check_log, log_frames
from edge.sources.pacing import STEP_S, paced
from edge.sources.reader import Reader


def block(stamps_s: list[float], first_id: int = 0) -> FrameBlock:
    n = len(stamps_s)
    return FrameBlock(
        ("can0",),
        np.array([int(stamp * 1e9) for stamp in stamps_s], dtype=np.int64),
        np.arange(first_id, first_id + n, dtype=np.uint32),
        np.zeros(n, np.uint8),
        np.full(n, 8, np.uint8),
        np.zeros((n, 8), np.uint8),
        0,
    )


class Clock:
    """Time that passes only while somebody waits."""

    def __init__(self) -> None:
        self.now_s = 50.0
        self.waits: list[float] = []
        self.stop_after_s = float("inf")

    def monotonic_s(self) -> float:
        return self.now_s

    def wall_ns(self) -> int:
        return int(self.now_s * 1e9)

    def wait(self, seconds: float) -> bool:
        self.waits.append(seconds)
        self.now_s += seconds
        return self.now_s >= self.stop_after_s


def play(blocks: list[FrameBlock], speed: float, clock: Clock) -> list[tuple[float, int]]:
    """(seconds since the start, frame id) of each frame."""
    played = []
    for part in paced(blocks, speed, clock.monotonic_s, clock.wall_ns, clock.wait):
        assert part.entered_ns == clock.wall_ns()
        played += [(clock.now_s - 50.0, int(number)) for number in part.frame_id]
    return played


@pytest.mark.parametrize("speed", [0.5, 1.0, 10.0])
def test_frames_come_when_their_stamps_say(speed: float) -> None:
    stamps = [100.0, 100.5, 100.5, 101.0, 103.0]
    played = play([block(stamps[:3]), block([]), block(stamps[3:], 3)], speed, Clock())
    assert [number for _, number in played] == [0, 1, 2, 3, 4]
    for (at_s, _), stamp in zip(played, stamps, strict=True):
        assert (stamp - 100.0) / speed <= at_s + 1e-6
        assert at_s <= (stamp - 100.0) / speed + STEP_S + 1e-6


def test_a_dense_log_is_handed_over_in_steps_and_not_frame_by_frame() -> None:
    clock = Clock()
    played = play([block([number / 4000 for number in range(4000)])], 1.0, clock)
    assert len(played) == 4000
    assert len(clock.waits) <= 1 / STEP_S + 1


def test_stamps_that_go_back_do_not_turn_time_back() -> None:
    played = play([block([10.0, 12.0, 3.0, 11.0]), block([5.0, 13.0], 4)], 1.0, Clock())
    assert [number for _, number in played] == list(range(6))
    assert [round(at_s, 1) for at_s, _ in played] == [0.0, 2.0, 2.0, 2.0, 2.0, 3.0]


def test_pacing_ends_when_it_is_told_to() -> None:
    clock = Clock()
    clock.stop_after_s = 51.0
    assert play([block([0.0, 100.0])], 1.0, clock) == [(0.0, 0)]


def test_a_reader_hands_over_in_order_and_says_when_it_is_done(tmp_path: Path) -> None:
    log = write_log(tmp_path / "drive.log", 1000)
    stop = threading.Event()
    reader = Reader(log_frames(SourceConfig(str(log)), stop), stop)
    reader.start()
    frames = 0
    while not reader.finished:
        part = reader.get(PATIENCE_S)
        frames += 0 if part is None else len(part)
    assert frames == 1000 * 22


def test_what_a_source_raises_comes_after_what_it_gave() -> None:
    def broken() -> Iterator[FrameBlock]:
        yield block([1.0])
        raise LogFormatError("x.log", "damaged")

    stop = threading.Event()
    reader = Reader(broken(), stop)
    reader.start()
    assert reader.get(PATIENCE_S) is not None
    with pytest.raises(LogFormatError):
        reader.get(PATIENCE_S)
    assert reader.finished


def test_a_log_that_cannot_be_one_is_refused(tmp_path: Path) -> None:
    for path, what in ((tmp_path, "is a folder"), (tmp_path / "nowhere.log", "No such file")):
        with pytest.raises(SourceError, match=what):
            check_log(SourceConfig(str(path)))
    check_log(SourceConfig("-"))


def test_lines_that_are_no_frames_are_counted_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = write_log(tmp_path / "drive.log", 2)
    log.write_text(log.read_text() + "what is this\n" + log.read_text())
    assert sum(map(len, log_frames(SourceConfig(str(log)), threading.Event()))) == 88
    assert [line.message for line in caplog.records] == [f"{log}: 1 lines are no frames, the first of them line 45"]
