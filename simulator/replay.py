"""Plays recorded frames onto buses, each when it is due.

logs -> Timetable (reads ahead, in a thread) -> Timed -> play -> sinks; Report says how well time was kept

Policy. Due times are absolute on a monotonic clock, so nothing adds up; no frame is sent before it is due. At a waking everything that
is due is sent at once, a bus at a time; the next waking is when the next frame is due, but not within `SLICE_NS` of the last: at 4,000
frames/s that halves the wakings and still keeps every frame within 0.5 ms and what the computer adds. It sleeps to the deadline and
does not spin: to spin for the last 150 µs moves the median by 90 µs, costs a tenth of a core and leaves the 99th percentile, which other
processes make, as it is (measured). A bus that cannot keep up is waited for: frames come late, none is left out.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from queue import Empty, Full, Queue

import numpy as np
from numpy.typing import NDArray

from simulator.errors import ReplayError, ReplayFailed
from simulator.real_time import RealTime
from simulator.replay_sinks import Sink
from simulator.replay_timetable import Timed

__all__ = ["SLICE_NS", "Ahead", "Lateness", "Report", "play"]

SLICE_NS = 500_000
LOOK_UP_NS = 100_000_000  # the longest sleep: so often somebody may stop a replay that waits
RETRY_NS = 500_000  # until a full queue is asked again: two frames' time on a bus of 500 kbit/s
PATIENCE_NS = 10_000_000_000  # without one frame taken; a bus with nobody to acknowledge takes none, ever
HOPELESS_NS = 500_000_000  # a block of which every frame is later than that: the bus or the computer cannot keep up
GROUP_FRAMES = 256  # go to one bus after the other, so that the buses stay together
SWITCH_S = 0.0001  # the reader hands over so soon, instead of after 5 ms as by default
BLOCKS_AHEAD = 8


class Lateness:
    """How late frames were, in memory that does not grow: a histogram with steps of less than 1 %.

    The step of a value is the upper half of its float32: sign, exponent and the first seven bits after the point.
    """

    def __init__(self) -> None:
        self._count = np.zeros(1 << 15, np.int64)
        self.frames = 0
        self.most_ns = 0

    def add(self, late_ns: NDArray[np.int64]) -> None:
        """late_ns: (n,) how much later than due; its size counts."""
        if not len(late_ns):
            return
        size = np.abs(late_ns)
        self.frames += len(size)
        self.most_ns = max(self.most_ns, int(size.max()))
        steps = size.astype(np.float32).view(np.uint32) >> np.uint32(16)
        self._count += np.bincount(steps, minlength=len(self._count))

    def percentile_ns(self, share: float) -> int:
        """What `share` (0..1) of the frames were not later than, rounded up to a step; 0 without frames."""
        if not self.frames:
            return 0
        step = int(np.searchsorted(np.cumsum(self._count), max(1, round(share * self.frames))))
        upper = float(np.array([(step + 1) << 16], np.uint32).view(np.float32)[0])
        return min(round(upper), self.most_ns)


@dataclass
class Report:
    """What a replay did."""

    sent: list[int]  # frames, by bus
    left_out: dict[str, int] = field(default_factory=dict)  # "channel": of no bus; "error": error frames
    lateness: Lateness = field(default_factory=Lateness)
    rounds: int = 0  # begun
    span_ns: int = 0  # from the first frame to the last, in the logs' time
    took_ns: int = 0  # from the first frame to the last, on the clock
    waited: int = 0  # times that a queue was full
    stopped: bool = False
    real_time: bool = False  # the sending thread had real-time scheduling to the end

    @property
    def frames(self) -> int:
        return sum(self.sent)


class Ahead(Iterator[Timed]):
    """Blocks read ahead of their time, in a thread. `with` owns it."""

    def __init__(self, blocks: Iterable[Timed], depth: int = BLOCKS_AHEAD) -> None:
        self._blocks = blocks
        self._queue: Queue[Timed | BaseException | None] = Queue(depth)
        self._first: Timed | None = None
        self._stop = threading.Event()
        # A daemon, because a read from a pipe that says nothing cannot be ended.
        self._thread = threading.Thread(target=self._read, name="replay-reader", daemon=True)

    def __enter__(self) -> Ahead:
        self._thread.start()
        return self

    @property
    def thread(self) -> int | None:
        """The reading thread, as the system calls it; None where it does not run."""
        return self._thread.native_id if self._thread.is_alive() else None

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(LOOK_UP_NS / 1e9)

    def __next__(self) -> Timed:
        while not self._stop.is_set():
            block = self.get(LOOK_UP_NS / 1e9)
            if block is not None:
                return block
        raise StopIteration

    def wait(self) -> None:
        """Until the first block is there. Raises what the reader raised."""
        while self._first is None:
            try:
                self._first = self.get(LOOK_UP_NS / 1e9)
            except StopIteration:
                return

    def get(self, timeout_s: float) -> Timed | None:
        """The next block; None: not yet. Raises StopIteration at the end, and what the reader raised."""
        first, self._first = self._first, None
        if first is not None:
            return first
        try:
            found = self._queue.get(timeout=timeout_s)
        except Empty:
            return None
        if isinstance(found, Timed):
            return found
        self._stop.set()
        if found is None:
            raise StopIteration
        raise found

    def _read(self) -> None:
        try:
            for block in self._blocks:
                if not self._put(block):
                    return
        except BaseException as error:  # noqa: BLE001 -- raised again in the thread that asks for blocks
            self._put(error)
        else:
            self._put(None)

    def _put(self, item: Timed | BaseException | None) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=LOOK_UP_NS / 1e9)
            except Full:
                continue
            return True
        return False


def play(
    ahead: Ahead,
    sinks: Sequence[Sink],
    *,
    speed: float | None = 1.0,
    stop: Callable[[], bool] = lambda: False,
    watch: Callable[[Report], None] = lambda _: None,
    real_time: bool = False,
    clock_ns: Callable[[], int] = time.monotonic_ns,
    sleep: Callable[[float], None] = time.sleep,
) -> Report:
    """Send every frame to its sink; returns when all are sent, or soon after `stop` says so.

    speed: times real time; None: as fast as the sinks take them. watch: is told how it stands, after every block and while nothing is due.
    real_time: ask the system to wake this thread in time, and the one that reads ahead, which shares Python's lock with it; given back
    where time cannot be kept anyhow, so that a replay that is too fast for its bus does not take the computer from everybody else.
    Raises ReplayError for a speed that is not positive, ReplayFailed when a bus takes no frame for 10 s, and what reading raises.
    """
    if speed is not None and not 0 < speed < float("inf"):
        raise ReplayError(f"--speed: expected a number above 0, found {speed:g}")
    threads = [threading.get_native_id(), *filter(None, [ahead.thread])] if real_time and speed is not None else []
    with _quick_switches() if speed is not None else nullcontext(), RealTime(threads) as scheduling:
        return _Player(sinks, speed, stop, watch, scheduling, clock_ns, sleep).run(ahead)


class _Player:
    def __init__(
        self,
        sinks: Sequence[Sink],
        speed: float | None,
        stop: Callable[[], bool],
        watch: Callable[[Report], None],
        scheduling: RealTime,
        clock_ns: Callable[[], int],
        sleep: Callable[[float], None],
    ) -> None:
        self._sinks, self._speed, self._stop, self._watch = sinks, speed, stop, watch
        self._scheduling, self._clock_ns, self._sleep = scheduling, clock_ns, sleep
        self.report = Report([0] * len(sinks))
        self._began_ns: int | None = None

    def run(self, ahead: Ahead) -> Report:
        report = self.report
        while not self._stop():
            try:
                block = ahead.get(LOOK_UP_NS / 1e9)
            except StopIteration:
                break
            if block is None:
                self._watch(report)
                continue
            for why, count in block.left_out.items():
                report.left_out[why] = report.left_out.get(why, 0) + count
            if len(block):
                report.rounds = block.round + 1
                self._send_block(block)
            self._watch(report)
        report.stopped = self._stop()
        report.real_time = self._scheduling.granted
        return report

    def _send_block(self, block: Timed) -> None:
        places = [np.flatnonzero(block.bus == number) for number in range(len(self._sinks))]
        for sink, place in zip(self._sinks, places, strict=True):
            if len(place):
                sink.load(block if len(place) == len(block) else block.take(place))
        if self._began_ns is None:  # the first frame is due now that it can be sent
            self._began_ns = self._clock_ns()
        if self._speed is None:
            for start in range(0, len(block), GROUP_FRAMES):
                if not self._send(places, start, min(start + GROUP_FRAMES, len(block))):
                    return
            self._note(block, len(block) - 1)
            return
        self._keep_time(block, places, self._speed)

    def _keep_time(self, block: Timed, places: list[NDArray[np.intp]], speed: float) -> None:
        assert self._began_ns is not None
        due_ns = self._began_ns + (block.due_ns if speed == 1 else (block.due_ns / speed).astype(np.int64))
        late_ns = np.empty(len(block), np.int64)
        at, woken_ns = 0, 0
        while at < len(block):
            now_ns = self._wait(max(int(due_ns[at]), woken_ns + SLICE_NS))
            if now_ns is None:
                break
            stop = int(due_ns.searchsorted(now_ns, "right"))
            if not self._send(places, at, stop):
                break
            woken_ns = now_ns
            np.subtract(self._clock_ns(), due_ns[at:stop], out=late_ns[at:stop])
            at = stop
        if at:
            self.report.lateness.add(late_ns[:at])
            if int(late_ns[:at].min()) > HOPELESS_NS:
                self._scheduling.give_back()
            self._note(block, at - 1)

    def _note(self, block: Timed, last: int) -> None:
        assert self._began_ns is not None
        self.report.span_ns = int(block.due_ns[last])
        self.report.took_ns = self._clock_ns() - self._began_ns

    def _wait(self, until_ns: int) -> int | None:
        """Sleep until then; the time it is. None: stopped."""
        while (left_ns := until_ns - (now_ns := self._clock_ns())) > 0:
            if left_ns > LOOK_UP_NS:
                self._watch(self.report)
            if self._stop():
                return None
            self._sleep(min(left_ns, LOOK_UP_NS) / 1e9)
        return None if self._stop() else now_ns

    def _send(self, places: list[NDArray[np.intp]], start: int, stop: int) -> bool:
        """Frames [start, stop) of the block, bus after bus. False: stopped before all were taken."""
        for number, place in enumerate(places):
            here, end = place.searchsorted((start, stop)).tolist()
            if here < end and not self._send_to(number, here, end):
                return False
        return True

    def _send_to(self, number: int, at: int, stop: int) -> bool:
        sink = self._sinks[number]
        given_up_ns: int | None = None
        while True:
            taken = sink.send(at, stop)
            self.report.sent[number] += taken
            at += taken
            if at == stop:
                return True
            self.report.waited += 1
            now_ns = self._clock_ns()
            if taken or given_up_ns is None:
                given_up_ns = now_ns + PATIENCE_NS
            elif now_ns >= given_up_ns:
                seconds = PATIENCE_NS // 10**9
                raise ReplayFailed(f"{sink.name}: takes no frames for {seconds} s ({sink.why}); {self.report.frames} frames were sent")
            if self._stop():
                return False
            self._sleep(RETRY_NS / 1e9)


@contextmanager
def _quick_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
