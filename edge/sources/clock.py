"""The time axis of a live source: UTC as the system had it at the first start in this boot, carried on by the boot clock.

The kernel stamps frames with CLOCK_REALTIME, which is set forward or back when the computer learns the time. Ticks must not repeat or go
back within a boot, so stamps are moved to an axis that only passes: CLOCK_BOOTTIME, which also counts while the computer is suspended, plus
an offset. What the axis is in UTC is `edge/boot_clock.py`'s.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

STEP_NS = 5_000_000  # both clocks are slewed alike; a difference that moves by more than this is the real-time clock having been set
NS_PER_MS = 1_000_000

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Instant:
    """The same moment on both clocks, ns."""

    boot_ns: int
    real_ns: int


def system_instant() -> Instant:
    """Now. The two clocks are read one after the other, the boot clock on either side, so that a preemption shows and is read again."""
    best: tuple[int, Instant] | None = None
    for _ in range(10):
        before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        real = time.clock_gettime_ns(time.CLOCK_REALTIME)
        apart = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - before
        if best is None or apart < best[0]:
            best = apart, Instant(before + apart // 2, real)
        if apart < 20_000:
            break
    assert best is not None
    return best[1]


class SteadyClock:
    """Stamps of CLOCK_REALTIME to the run's axis. While nobody sets the system's clock, a stamp stays exactly what the kernel wrote."""

    def __init__(self, instant: Callable[[], Instant] = system_instant) -> None:
        self._instant = instant
        self._offset_ns: int | None = None  # the axis less CLOCK_BOOTTIME
        self._shift_ns = 0  # what takes CLOCK_REALTIME to the axis
        self._seen_ns = 0  # the axis at the last `place`

    def start(self, offset_ns: int | None = None) -> int:
        """Fix the axis at CLOCK_BOOTTIME + offset_ns, of an earlier start in this boot, or at UTC as it is now; returns its time, ns."""
        now = self._instant()
        self._offset_ns = now.real_ns - now.boot_ns if offset_ns is None else offset_ns
        self._seen_ns = self._axis(now)
        shift = self._seen_ns - now.real_ns
        self._shift_ns = shift if abs(shift) >= STEP_NS else 0  # less is that the clocks are not read at once
        return self._seen_ns

    def now_ns(self) -> int:
        """The axis now."""
        return self._axis(self._instant())

    def offset_s(self) -> float:
        """CLOCK_REALTIME less the axis, s: how far the system's clock was set since the first start in this boot."""
        instant = self._instant()
        return (instant.real_ns - self._axis(instant)) / 1e9

    def place(self, stamps: NDArray[np.int64]) -> NDArray[np.int64]:
        """(n,) stamps of CLOCK_REALTIME, none later than this call, to (n,) ns on the axis."""
        instant = self._instant()
        now, before = self._axis(instant), self._seen_ns
        self._seen_ns = now
        shift = now - instant.real_ns
        moved = shift - self._shift_ns
        if abs(moved) < STEP_NS:
            return stamps + self._shift_ns if self._shift_ns else stamps
        # The clock was set since the last call. Stamps from before that need the old shift; those that fit with neither are in between.
        old, new = stamps + self._shift_ns, stamps + shift
        self._shift_ns = shift
        log.warning("the system's clock was set %s by %.3f s; ticks go on evenly", "back" if moved > 0 else "forward", abs(moved) / 1e9)
        return np.where((new >= before) & (new <= now), new, np.clip(old, before, now))

    def _axis(self, instant: Instant) -> int:
        assert self._offset_ns is not None, "start comes first"
        return instant.boot_ns + self._offset_ns
