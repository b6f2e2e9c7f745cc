"""The time of a snapshot: which tick each frame belongs to.

Frames are stamped by whoever received them, and those clocks are late, wrong and set. Rules, for `FAR_TICKS` = 5:

- A frame from before the open tick, by at most five ticks, is *late*: it counts as one of the open tick, and never re-opens another.
- A stamp further away than that, in the past or the future, is believed only once ten frames in a row, or frames over a second, agree with
  it. What does not get that far is *stray*: a value of the open tick. Frames that are not yet decided wait for the next block. The very
  first frame is believed.
- A believed stamp in the future is a gap, or a bus that slept. One in the past is a clock that was set back: the open tick is closed, and
  the ticks go on from the new time, so that their numbers may come again.

So neither a clock that is set back nor a single stamp far in the future stops the snapshots.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dbc.decoder import SignalBlock
from dbc.frames import FrameBlock

__all__ = ["FAR_TICKS", "SURE_FRAMES", "TICK_NS", "FrameClock", "Step"]

TICK_NS = 1_000_000_000
FAR_TICKS = 5
SURE_FRAMES = 10
# No stamp counts as further away than 115 days before 1970 (a log may count from its trigger) and August 2047: on the wire, ticks are at
# most 79 years apart, and differences of stamps must not overflow.
EARLIEST_NS, LATEST_NS = -(10**16), 2_450_000_000 * TICK_NS

Stamps = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Step:
    """Values of one tick, after the ticks before it are closed."""

    tick: int  # number of the open tick: it covers [tick - 1, tick) seconds
    entered_ns: int  # of the block that the step's first frame came in
    closes: int | None  # the tick that is over; None = the open one goes on
    closes_entered_ns: int  # entered_ns of the closed tick's first frame
    heard: int  # the last tick before with a frame
    set_back_ns: int  # by how much the clock was set back
    signal: NDArray[np.intp]  # (k,)
    raw: NDArray[np.int64]  # (k,)
    reason: NDArray[np.uint8]  # (k,)
    all_valid: bool
    seen_ns: Stamps  # (k,) never before the tick's begin


@dataclass(frozen=True, slots=True)
class _Frames:
    """n frames and their k pairs; those before `fresh` came in an earlier block."""

    stamp_ns: Stamps  # (n,)
    frame: NDArray[np.int32]  # (k,)
    signal: NDArray[np.intp]
    raw: NDArray[np.int64]
    reason: NDArray[np.uint8]
    all_valid: bool
    fresh: int
    waited_entered_ns: int
    entered_ns: int

    def tail(self, start: int) -> _Frames:
        """Frames from `start` on."""
        pair = int(self.frame.searchsorted(start))
        entered = self.waited_entered_ns if start < self.fresh else self.entered_ns
        rest = len(self.stamp_ns) - start
        return _Frames(
            self.stamp_ns[start:].copy(),
            self.frame[pair:] - np.int32(start),
            self.signal[pair:].copy(),
            self.raw[pair:].copy(),
            self.reason[pair:].copy(),
            self.all_valid,
            rest,
            entered,
            entered,
        )

    def then(self, other: _Frames) -> _Frames:
        """These, then the others."""
        n = len(self.stamp_ns)
        return _Frames(
            np.concatenate([self.stamp_ns, other.stamp_ns]),
            np.concatenate([self.frame, other.frame + np.int32(n)]),
            np.concatenate([self.signal, other.signal]),
            np.concatenate([self.raw, other.raw]),
            np.concatenate([self.reason, other.reason]),
            self.all_valid and other.all_valid,
            n,
            self.waited_entered_ns,
            other.entered_ns,
        )


class FrameClock:
    """Cuts blocks into steps."""

    def __init__(self) -> None:
        self.tick: int | None = None  # the open one
        self.entered_ns = 0  # of its first frame
        self.heard = 0  # the last tick with a frame: the open one, unless time has passed without any
        self._last_ns = 0  # stamp of the last frame that was not stray
        self._waiting: _Frames | None = None

    def reset(self) -> None:
        self.tick = None

    def feed(self, block: FrameBlock, signals: SignalBlock) -> Iterator[Step]:
        """The steps of a block, in order."""
        if not len(block):
            return
        stamp_ns, tick = block.timestamp_ns, self.tick
        if tick is not None and self._waiting is None and int(stamp_ns.max()) < tick * TICK_NS:
            begin = (tick - 1) * TICK_NS
            first = int(stamp_ns.min())
            if first >= begin - FAR_TICKS * TICK_NS:  # the usual case for the small blocks of a live bus
                seen_ns = signals.timestamp_ns
                self._last_ns = int(stamp_ns[-1])
                if first < begin:
                    seen_ns = np.maximum(seen_ns, begin)
                self._hear(tick, block.entered_ns)
                yield Step(
                    tick, block.entered_ns, None, 0, tick, 0, signals.signal, signals.raw, signals.reason, signals.all_valid, seen_ns
                )
                return
        entered = block.entered_ns
        frames = _Frames(stamp_ns, signals.frame, signals.signal, signals.raw, signals.reason, signals.all_valid, 0, entered, entered)
        if self._waiting is not None:
            frames, self._waiting = self._waiting.then(frames), None
        yield from self._steps(frames, at_end=False)

    def pass_time(self, now_ns: int, entered_ns: int) -> Iterator[Step]:
        """Steps without frames, one for each tick that is over at `now_ns`, up to five after the last frame. What waited is believed when
        it was stamped before that."""
        if self._waiting is not None and int(self._waiting.stamp_ns.max()) <= now_ns:
            yield from self.finish()
        nothing = np.zeros(0, np.intp), np.zeros(0, np.int64), np.zeros(0, np.uint8)
        while self.tick is not None and self.tick * TICK_NS <= now_ns and self.tick <= self.heard + FAR_TICKS:
            closes, before_ns = self.tick, self.entered_ns
            self.tick, self.entered_ns = closes + 1, entered_ns
            yield Step(self.tick, entered_ns, closes, before_ns, self.heard, 0, *nothing, True, np.zeros(0, np.int64))

    def finish(self) -> Iterator[Step]:
        """The steps of frames that still wait: nothing follows that could tell whether they are stray."""
        if self._waiting is not None:
            frames, self._waiting = self._waiting, None
            yield from self._steps(frames, at_end=True)

    def _steps(self, frames: _Frames, *, at_end: bool) -> Iterator[Step]:
        stamp_ns = frames.stamp_ns
        if int(stamp_ns.min()) < EARLIEST_NS or int(stamp_ns.max()) > LATEST_NS:
            frames = replace(frames, stamp_ns=np.clip(stamp_ns, EARLIEST_NS, LATEST_NS))
        ticks = frames.stamp_ns // TICK_NS + 1
        apart = np.flatnonzero(np.abs(np.diff(ticks)) > FAR_TICKS) + 1
        bounds = [0, *apart.tolist(), len(ticks)]
        for start, stop in pairwise(bounds):
            first = int(ticks[start])
            if self.tick is None:
                self.tick = self.heard = first
                self.entered_ns = frames.waited_entered_ns if start < frames.fresh else frames.entered_ns
            if abs(first - self.tick) > FAR_TICKS:
                span_ns = abs(int(frames.stamp_ns[stop - 1]) - int(frames.stamp_ns[start]))
                if stop - start < SURE_FRAMES and span_ns < TICK_NS and not at_end:
                    if stop == len(ticks):
                        self._waiting = frames.tail(start)
                    else:
                        begin = (self.tick - 1) * TICK_NS
                        yield self._step(frames, start, stop, self.tick, None, 0, np.full(stop - start, begin))
                    continue
            set_back_ns = 0
            if first < self.tick - FAR_TICKS:
                set_back_ns = self._last_ns - int(frames.stamp_ns[start])
            yield from self._stretch(frames, start, stop, ticks[start:stop], set_back_ns)
            self._last_ns = int(frames.stamp_ns[stop - 1])

    def _stretch(self, frames: _Frames, start: int, stop: int, ticks: Stamps, set_back_ns: int) -> Iterator[Step]:
        """Frames whose stamps agree with each other: a step for each tick among them."""
        assert self.tick is not None
        floor = int(ticks[0]) if set_back_ns else self.tick
        ticks = np.maximum(np.maximum.accumulate(ticks), floor)
        seen_ns = np.maximum(frames.stamp_ns[start:stop], (ticks - 1) * TICK_NS)
        edges = [0, *(np.flatnonzero(np.diff(ticks)) + 1).tolist(), len(ticks)]
        for here, end in pairwise(edges):
            closes = self.tick if int(ticks[here]) != self.tick else None
            yield self._step(frames, start + here, start + end, int(ticks[here]), closes, set_back_ns if not here else 0, seen_ns[here:end])

    def _step(self, frames: _Frames, start: int, stop: int, tick: int, closes: int | None, set_back_ns: int, seen_ns: Stamps) -> Step:
        pairs = frames.frame.searchsorted([start, stop])
        part = slice(int(pairs[0]), int(pairs[1]))
        entered_ns, before_ns = frames.waited_entered_ns if start < frames.fresh else frames.entered_ns, self.entered_ns
        heard = self.heard
        if closes is not None:
            self.tick, self.entered_ns = tick, entered_ns
        self._hear(tick, entered_ns)
        return Step(
            tick,
            entered_ns,
            closes,
            before_ns,
            heard,
            set_back_ns,
            frames.signal[part],
            frames.raw[part],
            frames.reason[part],
            frames.all_valid,
            seen_ns.take(frames.frame[part] - start),
        )

    def _hear(self, tick: int, entered_ns: int) -> None:
        """Frames of the open tick, which time alone may have opened."""
        if self.heard != tick:
            self.heard, self.entered_ns = tick, entered_ns
