"""A replay keeps time: with a clock of the test's own, exactly."""

import itertools
import os
import threading
from collections.abc import Callable, Iterable
from types import TracebackType

import numpy as np
import pytest

from simulator.errors import ReplayError, ReplayFailed
from simulator.real_time import RealTime
from simulator.replay import GROUP_FRAMES, LOOK_UP_NS, PATIENCE_NS, SLICE_NS, Ahead, Lateness, Report, play
from simulator.replay_timetable import Timed

S, MS = 1_000_000_000, 1_000_000


class Time:
    """A clock that moves only while somebody sleeps; a sleep ends late, as a kernel's does."""

    def __init__(self, late_ns: Iterable[int] = (0,)) -> None:
        self.now_ns = 5 * S
        self.sleeps: list[float] = []
        self._late = itertools.cycle(late_ns)

    def clock_ns(self) -> int:
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now_ns += round(seconds * 1e9) + next(self._late)


class Bus:
    """A sink that takes what `room` says, and notes when."""

    def __init__(self, time: Time, room: Callable[[], int] = lambda: 1 << 30) -> None:
        self.name, self.why = "test:bus", "No buffer space available"
        self.sent: list[tuple[int, int]] = []  # (ns, identifier)
        self.groups: list[int] = []
        self._time, self._room = time, room
        self._identifiers: list[int] = []

    def load(self, frames: Timed) -> None:
        self._identifiers = frames.frame_id.tolist()

    def send(self, start: int, stop: int) -> int:
        stop = min(stop, start + self._room())
        self.sent += [(self._time.now_ns, identifier) for identifier in self._identifiers[start:stop]]
        self.groups.append(stop - start)
        return stop - start

    def __enter__(self) -> "Bus":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


def frames(due_ns: Iterable[int], buses: int = 1, block: int = 500) -> list[Timed]:
    """Blocks of frames due then, numbered from 0, on one bus after the other."""
    due = np.array(list(due_ns), np.int64)
    n = np.arange(len(due))
    whole = Timed(due, (n % buses).astype(np.uint8), n.astype(np.uint32), np.full(len(due), 8, np.uint8), np.zeros((len(due), 8), np.uint8))
    return [whole.take(slice(start, start + block)) for start in range(0, len(due), block)]


def played(blocks: list[Timed], time: Time, buses: list[Bus], **options: object) -> Report:
    with Ahead(blocks) as ahead:
        return play(ahead, buses, clock_ns=time.clock_ns, sleep=time.sleep, **options)  # type: ignore[arg-type]


def evenly(rate: float, seconds: float) -> list[int]:
    return [round(number * S / rate) for number in range(int(rate * seconds) + 1)]


def test_120_s_take_120_s_however_late_each_sleep_ends() -> None:
    time = Time([0, 60_000, 1_900_000, 90_000, 250_000])
    bus = Bus(time)
    due = evenly(400, 120)
    report = played(frames(due), time, [bus])
    assert [identifier for _, identifier in bus.sent] == list(range(len(due)))
    off = [at - bus.sent[0][0] - due[identifier] for at, identifier in bus.sent]
    assert all(0 <= late <= SLICE_NS + 1_900_000 for late in off)
    assert abs((bus.sent[-1][0] - bus.sent[0][0]) / (120 * S) - 1) < 0.0001
    assert abs(report.took_ns / (120 * S) - 1) < 0.0001
    assert report.span_ns == 120 * S


def test_at_4000_frames_a_second_no_frame_is_early_and_none_later_than_a_slice() -> None:
    time = Time()
    bus = Bus(time)
    due = evenly(4000, 5)
    report = played(frames(due), time, [bus])
    off = [at - 5 * S - due[identifier] for at, identifier in bus.sent]
    assert min(off) == 0
    assert max(off) <= SLICE_NS
    assert report.lateness.frames == len(due)
    assert report.lateness.most_ns == max(off)
    assert len(bus.groups) <= len(due) / 2 + len(due) / 500 + 1  # and it wakes half as often as frames are due


@pytest.mark.parametrize("speed", [0.25, 2.0, 10.0])
def test_at_another_speed(speed: float) -> None:
    time = Time()
    bus = Bus(time)
    due = evenly(100, 20)
    report = played(frames(due), time, [bus], speed=speed)
    assert all(-1 <= at - 5 * S - due[identifier] / speed <= SLICE_NS for at, identifier in bus.sent)
    assert report.took_ns == pytest.approx(20 * S / speed, rel=1e-3)


def test_as_fast_as_it_goes_nothing_sleeps_and_the_buses_stay_together() -> None:
    time = Time()
    buses = [Bus(time), Bus(time)]
    report = played(frames(evenly(100, 50), buses=2, block=4000), time, buses, speed=None)
    assert time.sleeps == []
    assert report.sent == [2501, 2500]
    assert max(buses[0].groups) <= GROUP_FRAMES
    assert report.lateness.frames == 0
    assert [identifier for _, identifier in buses[1].sent] == list(range(1, 5001, 2))


def test_each_bus_gets_its_frames_in_order() -> None:
    time = Time([130_000])
    buses = [Bus(time), Bus(time), Bus(time)]
    report = played(frames(evenly(3000, 2), buses=3), time, buses)
    assert [[identifier for _, identifier in bus.sent] for bus in buses] == [list(range(first, 6001, 3)) for first in range(3)]
    assert report.frames == 6001


def test_a_full_queue_is_waited_for_and_no_frame_is_left_out() -> None:
    time = Time()
    room = itertools.chain([3, 0, 0, 1, 0, 500], itertools.repeat(1000))
    bus = Bus(time, lambda: next(room))
    report = played(frames([0] * 20 + evenly(100, 2)), time, [bus])
    assert [identifier for _, identifier in bus.sent] == list(range(221))
    assert report.waited == 5
    assert report.lateness.most_ns >= 4 * MS // 2


def test_a_queue_that_stays_full_ends_the_replay_with_the_reason() -> None:
    time = Time()
    room = itertools.chain([7], itertools.repeat(0))
    with pytest.raises(
        ReplayFailed, match=r"test:bus: takes no frames for 10 s \(No buffer space available\); 7 frames were sent"
    ) as failed:
        played(frames(evenly(100, 1)[:1] * 20), time, [Bus(time, lambda: next(room))])
    assert failed.value.exit_code == 1
    assert PATIENCE_NS <= time.now_ns - 5 * S < PATIENCE_NS + S


def test_a_slow_bus_is_not_given_up() -> None:
    time = Time()
    busy = itertools.cycle([0] * 15_000 + [1])  # 7.5 s for a frame
    report = played(frames([0] * 3), time, [Bus(time, lambda: next(busy))])
    assert report.frames == 3


def test_it_stops_in_a_long_gap_and_says_how_it_stands_meanwhile() -> None:
    time = Time()
    bus = Bus(time)
    looks: list[int] = []
    report = played(frames([0, 3600 * S]), time, [bus], stop=lambda: time.now_ns > 15 * S, watch=lambda now: looks.append(now.frames))
    assert report.stopped
    assert report.frames == 1
    assert max(time.sleeps) <= LOOK_UP_NS / S
    assert len(looks) > 90
    assert set(looks) == {1}


def test_it_stops_while_a_queue_is_full() -> None:
    time = Time()
    report = played(frames([0] * 5), time, [Bus(time, lambda: 0)], stop=lambda: time.now_ns > 6 * S)
    assert (report.stopped, report.frames) == (True, 0)


@pytest.mark.parametrize("speed", [0.0, -1.0, float("nan"), float("inf")])
def test_a_speed_that_is_none(speed: float) -> None:
    with pytest.raises(ReplayError, match="--speed: expected a number above 0, found"):
        played(frames([0]), Time(), [Bus(Time())], speed=speed)


def test_what_the_reader_raises_is_raised_where_blocks_are_asked_for() -> None:
    def blocks() -> Iterable[Timed]:
        yield frames([0])[0]
        raise ReplayError("log: broken")

    with Ahead(blocks()) as ahead:
        ahead.wait()
        with pytest.raises(ReplayError, match="log: broken"):
            list(ahead)


def test_the_reader_does_not_read_further_ahead_than_asked() -> None:
    read = itertools.count()
    blocks = ((next(read), frames([0])[0])[1] for _ in range(1000))
    with Ahead(blocks, depth=3) as ahead:
        ahead.wait()
        for _ in range(10):
            next(ahead)
    assert next(read) <= 10 + 3 + 1


def test_lateness_is_counted_within_a_hundredth() -> None:
    random = np.random.default_rng(1)
    late_ns = np.concatenate([random.exponential(300_000, 50_000), [7_654_321]]).astype(np.int64)
    lateness = Lateness()
    for part in np.array_split(late_ns, 37):
        lateness.add(part)
    assert lateness.most_ns == 7_654_321
    for share in (0.5, 0.99, 0.999, 1.0):
        assert lateness.percentile_ns(share) == pytest.approx(np.percentile(late_ns, share * 100), rel=0.01)
    assert Lateness().percentile_ns(0.5) == 0


def test_real_time_scheduling_lasts_as_long_as_the_replay_where_it_is_allowed() -> None:
    me = threading.get_native_id()
    ended = threading.Thread(target=lambda: None)
    ended.start()
    ended.join()
    assert ended.native_id is not None
    before = os.sched_getscheduler(me)
    with RealTime([me, ended.native_id]) as scheduling:
        assert os.sched_getscheduler(me) & os.SCHED_FIFO == (os.SCHED_FIFO if scheduling.granted else before)
        scheduling.give_back()
        assert (os.sched_getscheduler(me), scheduling.granted) == (before, False)
    assert os.sched_getscheduler(me) == before
    with RealTime([]) as scheduling:
        assert not scheduling.granted


def test_real_time_scheduling_is_given_back_where_the_bus_cannot_keep_up() -> None:
    time = Time()
    busy = itertools.cycle([0] * 40 + [1])  # 20 ms for a frame
    report = played(frames(evenly(1000, 3)), time, [Bus(time, lambda: next(busy))], real_time=True)
    assert (report.frames, report.real_time) == (3001, False)
    assert os.sched_getscheduler(0) == os.SCHED_OTHER
