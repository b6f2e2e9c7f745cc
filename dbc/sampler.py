"""Signals to snapshots: once a second, the last value of every signal and why it is, or is not, to be trusted.

Time is the frames' own: a tick closes when a frame beyond it comes, so a replay gives the same snapshots at any speed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dbc.decoder import SignalBlock
from dbc.frames import FrameBlock
from dbc.schema import Schema
from dbc.validity import STALE_FLOOR_MS, STALE_PERIODS, Reason

__all__ = ["ASLEEP_TICKS", "TICK_NS", "Sampler", "Snapshot"]

TICK_NS = 1_000_000_000
ASLEEP_TICKS = 5  # ticks without any frame before the bus counts as asleep: a silent ECU is news, a sleeping bus is not


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All n signals of the schema at a tick."""

    tick_ns: int  # UTC, a multiple of 1e9; covers the frames with tick - 1 s <= t < tick
    entered_ns: int  # entered_ns of the block with the tick's first frame; for a tick without frames, of the block that closed it
    raw: NDArray[np.int64]  # (n,) last value; 0 where there never was one
    reason: NDArray[np.uint8]  # (n,) of Reason
    value: NDArray[np.float64]  # (n,) physical; NaN unless VALID


class Sampler:
    """Holds the last value of every signal, and gives a snapshot whenever a tick is over.

    Late frames never re-open a tick: a frame from before the open tick counts as one of it. After a gap in the frames there is a snapshot a
    second for five seconds, then none until frames return.
    """

    def __init__(self, schema: Schema) -> None:
        n = len(schema)
        self._schema = schema
        self._raw = np.zeros(n, np.int64)
        self._reason = np.full(n, Reason.NOT_SEEN, np.uint8)
        self._seen_ns = np.zeros(n, np.int64)
        limit_ms = np.maximum(STALE_PERIODS * schema.period_ms, STALE_FLOOR_MS)  # NaN where no period is declared: never stale
        self._periodic = np.flatnonzero(~np.isnan(schema.period_ms))
        self._limit_ns = (limit_ms[self._periodic] * 1e6).astype(np.int64)
        self._tick: int | None = None  # number of the open tick: it covers [tick - 1, tick) seconds
        self._heard: int | None = None  # number of the last tick with a frame
        self._entered_ns = 0

    def feed(self, block: FrameBlock, signals: SignalBlock) -> list[Snapshot]:
        """Take a block and what the decoder made of it. Returns the snapshots of the ticks that it closed, in order."""
        if not len(block):
            return []
        ticks = block.timestamp_ns // TICK_NS + 1
        if self._tick is None:
            asleep_since = -(2**62) if self._heard is None else self._heard + ASLEEP_TICKS
            self._tick, self._entered_ns = max(int(ticks[0]), asleep_since + 1), block.entered_ns
        last = int(ticks.max())
        if last <= self._tick:  # the usual case for the small blocks of a live bus
            self._heard = self._tick
            self._hold(signals, 0, len(signals))
            return []
        ticks = np.maximum(np.maximum.accumulate(ticks), self._tick)
        closed: list[Snapshot] = []
        edges = [0, *(np.flatnonzero(np.diff(ticks)) + 1).tolist(), len(ticks)]
        pairs = signals.frame.searchsorted(edges)
        for number, start in enumerate(edges[:-1]):
            closed += self._advance(int(ticks[start]), block.entered_ns)
            self._hold(signals, int(pairs[number]), int(pairs[number + 1]))
        return closed

    def pass_time(self, now_ns: int, entered_ns: int) -> list[Snapshot]:
        """Close the ticks that are over at `now_ns` although no frame came: for a live source, where a silent bus must not hold back
        what it said last. Gives what the next frame would have closed, five silent ticks at most."""
        closed: list[Snapshot] = []
        while self._tick is not None and self._tick * TICK_NS <= now_ns:
            assert self._heard is not None
            closed.append(self._snapshot(self._tick, self._entered_ns))
            self._tick = self._tick + 1 if self._tick < self._heard + ASLEEP_TICKS else None
            self._entered_ns = entered_ns
        return closed

    def finish(self) -> list[Snapshot]:
        """The last tick, which no later frame has closed; nothing if there is none."""
        if self._tick is None:
            return []
        snapshot = self._snapshot(self._tick, self._entered_ns)
        self._tick = self._heard = None
        return [snapshot]

    def _advance(self, tick: int, entered_ns: int) -> list[Snapshot]:
        """Make `tick` the open one; returns the snapshots of those before it."""
        assert self._tick is not None
        heard, self._heard = self._heard, tick
        if tick == self._tick:
            return []
        closed = [self._snapshot(self._tick, self._entered_ns)]
        silent = range(self._tick + 1, min(tick, (self._tick if heard is None else heard) + 1 + ASLEEP_TICKS))
        closed += [self._snapshot(number, entered_ns) for number in silent]
        self._tick, self._entered_ns = tick, entered_ns
        return closed

    def _hold(self, signals: SignalBlock, start: int, stop: int) -> None:
        """Take pairs [start, stop) as the newest. Where a signal comes more than once, NumPy's assignment leaves the last."""
        signal, reason = signals.signal[start:stop], signals.reason[start:stop]
        self._reason[signal] = reason
        self._seen_ns[signal] = signals.timestamp_ns[start:stop]
        if reason.any():  # an invalid value does not replace the last valid one
            valid = reason == Reason.VALID
            self._raw[signal[valid]] = signals.raw[start:stop][valid]
        else:
            self._raw[signal] = signals.raw[start:stop]

    def _snapshot(self, tick: int, entered_ns: int) -> Snapshot:
        tick_ns = tick * TICK_NS
        reason = self._reason.copy()
        old = self._periodic[(tick_ns - self._seen_ns[self._periodic]) > self._limit_ns]
        reason[old[reason[old] == Reason.VALID]] = Reason.STALE
        raw = self._raw.copy()
        value = self._schema.physical(raw)
        value[reason != Reason.VALID] = np.nan
        return Snapshot(tick_ns, entered_ns, raw, reason, value)
