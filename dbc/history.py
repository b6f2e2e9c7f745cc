"""What a signal has been like: how often it comes, and how long it stands still. Kept tick by tick, for all signals at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dbc.clock import TICK_NS

__all__ = ["Periods", "Stretches"]

REMEMBERED = 16  # intervals of which the median is taken
LEAST_INTERVALS = 8
STEADY = 3.0  # a period is one only if no remembered interval is longer than so many medians: an event has none
LEARN_EVERY = 8  # ticks: the median costs more than all the rest of a snapshot

STILL_PERIODS = 10.0  # a signal is constant for too long when it stands still for this many of its longest stretch so far,
STILL_LEAST_NS = 60 * TICK_NS  # and for this long,
LEAST_CHANGES = 10  # and has changed in so many ticks before: one that hardly ever changes says nothing by standing still


class Periods:
    """Expected periods: declared by the DBC, or the median of the intervals seen, one (the mean) a tick, where they are steady."""

    def __init__(self, declared_ms: NDArray[np.float64]) -> None:
        """declared_ms: (n,); NaN = none."""
        self.expected_ms = declared_ms.copy()
        self._learns = np.flatnonzero(np.isnan(declared_ms))
        self._before_ns = np.zeros(len(declared_ms), np.int64)  # the last one seen at the tick before; 0 = none
        self._intervals_ms = np.full((REMEMBERED, len(self._learns)), np.nan)
        self._place = np.zeros(len(self._learns), np.intp)
        self._ticks = 0

    def tick(self, seen_ns: NDArray[np.int64], count: NDArray[np.intp]) -> None:
        """seen_ns: (n,) the last one seen. count: (n,) how many came in the tick."""
        if not len(self._learns):
            return
        count, seen_ns = count.take(self._learns), seen_ns.take(self._learns)
        before_ns = self._before_ns.take(self._learns)
        new = np.flatnonzero((count > 0) & (before_ns != 0) & (seen_ns > before_ns))
        place = self._place[new]
        self._intervals_ms[place % REMEMBERED, new] = (seen_ns[new] - before_ns[new]) / count[new] / 1e6
        self._place[new] = place + 1
        came = count > 0
        self._before_ns[self._learns[came]] = seen_ns[came]
        self._ticks += 1
        if self._ticks % LEARN_EVERY == 0:
            self._learn()

    def _learn(self) -> None:
        enough = np.flatnonzero(self._place >= LEAST_INTERVALS)
        if not len(enough):
            return
        seen = np.sort(self._intervals_ms[:, enough], axis=0)  # NaN last
        count = np.minimum(self._place[enough], REMEMBERED)
        at = np.arange(len(enough))
        median, longest = seen[(count - 1) // 2, at], seen[count - 1, at]
        self.expected_ms[self._learns[enough]] = np.where(longest <= STEADY * median, median, np.nan)

    def shift(self, by_ns: int) -> None:
        """The clock was set: stamps move with it."""
        self._before_ns[self._before_ns != 0] += by_ns


class Stretches:
    """Signals that have changed before, and stand still for far longer than they ever did."""

    def __init__(self, signals: int) -> None:
        self._raw = np.zeros(signals, np.int64)
        self._changed_ns = np.full(signals, -1, np.int64)  # -1 = not seen yet
        self._longest_ns = np.zeros(signals, np.int64)
        self._changes = np.zeros(signals, np.int32)

    def tick(self, tick_ns: int, raw: NDArray[np.int64], varied: NDArray[np.bool_], came: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(n,) constant for too long. raw: (n,) last value. varied, came: (n,) it had several values, and any, in the tick."""
        changed = (varied | (raw != self._raw)) & came
        new = came & (self._changed_ns < 0)
        changed |= new
        if changed.any():
            stretch = np.where(new, 0, tick_ns - self._changed_ns)
            np.maximum(self._longest_ns, stretch, out=self._longest_ns, where=changed)
            self._changes += changed
            np.copyto(self._changed_ns, tick_ns, where=changed)
            np.copyto(self._raw, raw, where=changed)
        still_ns = tick_ns - self._changed_ns
        long: NDArray[np.bool_] = still_ns > np.maximum(STILL_LEAST_NS, STILL_PERIODS * self._longest_ns)
        long &= self._changes > LEAST_CHANGES
        return long & came

    def shift(self, by_ns: int) -> None:
        """The clock was set: stamps move with it."""
        self._changed_ns[self._changed_ns >= 0] += by_ns
