"""Signals to snapshots: once a second, of every signal what it was and why it is, or is not, to be trusted.

Time is the frames' own: a tick closes when a frame beyond it comes, so a replay gives the same snapshots at any speed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dbc.clock import TICK_NS, FrameClock, Step
from dbc.decoder import SignalBlock
from dbc.frames import FrameBlock
from dbc.history import Periods, Stretches
from dbc.network import NetworkWatch
from dbc.schema import Kind, Schema
from dbc.validity import STALE_FLOOR_MS, STALE_PERIODS, Flag, Reason

__all__ = ["ASLEEP_TICKS", "TICK_NS", "Sampler", "Snapshot"]

ASLEEP_TICKS = 5  # ticks without any frame before the bus counts as asleep: a silent ECU is news, a sleeping bus is not
VALID, NOT_SEEN, STALE = np.uint8(Reason.VALID), np.uint8(Reason.NOT_SEEN), np.uint8(Reason.STALE)
COUNTER, CHECKSUM = np.uint8(Reason.COUNTER), np.uint8(Reason.CHECKSUM)
OUT_OF_RANGE, CONSTANT = np.uint8(Flag.OUT_OF_RANGE), np.uint8(Flag.CONSTANT)
LEAST, MOST = np.iinfo(np.int64).min, np.iinfo(np.int64).max


def _no_floats() -> NDArray[np.float64]:
    return np.empty(0)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All n signals of the schema at a tick. Minimum, maximum, mean and count are of the tick's valid values alone."""

    tick_ns: int  # UTC, a multiple of 1e9; covers the frames with tick - 1 s <= t < tick
    entered_ns: int  # entered_ns of the block with the tick's first frame; for a tick without frames, of the block that closed it
    raw: NDArray[np.int64]  # (n,) last valid value; 0 where there never was one
    reason: NDArray[np.uint8]  # (n,) of Reason
    value: NDArray[np.float64]  # (n,) physical; NaN unless VALID
    minimum: NDArray[np.float64] = field(default_factory=_no_floats)  # (n,) physical; NaN without a value in the tick
    maximum: NDArray[np.float64] = field(default_factory=_no_floats)  # (n,)
    mean: NDArray[np.float64] = field(default_factory=_no_floats)  # (n,)
    count: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))  # (n,) values in the tick
    age_ms: NDArray[np.float64] = field(default_factory=_no_floats)  # (n,) at the tick, of the last frame with the signal; NaN = none
    flags: NDArray[np.uint8] = field(default_factory=lambda: np.empty(0, np.uint8))  # (n,) of validity.Flag
    network: NDArray[np.float64] = field(default_factory=_no_floats)  # (figures,) of dbc.network
    away: NDArray[np.bool_] | None = None  # (n,) the value is still the last one, but its message stays away; None = nowhere

    @property
    def known(self) -> NDArray[np.float64]:
        """(n,) physical; NaN also where the message stays away. Held over ten seconds a value is good to show, and no evidence."""
        return self.value if self.away is None else np.where(self.away, np.nan, self.value)

    def inputs(self, columns: NDArray[np.int64]) -> NDArray[np.float64]:
        """What a detector looks at. columns: (k,) signals of the schema, and behind them the network's figures."""
        if not len(self.network) or columns.max(initial=0) < len(self.value):
            return self.known.take(columns)
        return np.concatenate([self.known, self.network]).take(columns)


class Sampler:
    """Holds the last value of every signal, and gives a snapshot whenever a tick is over.

    After a gap in the frames there is a snapshot a second for five seconds, then none until frames return. What late frames and jumps of
    the clock do is told in `dbc/clock.py`.
    """

    def __init__(self, schema: Schema) -> None:
        n = len(schema)
        self._schema = schema
        self._clock = FrameClock()
        self._raw = np.zeros(n, np.int64)
        self._reason = np.full(n, Reason.NOT_SEEN, np.uint8)
        self._seen_ns = np.zeros(n, np.int64)
        self._periods = Periods(schema.period_ms)
        self._stretches = Stretches(n)
        self._network = NetworkWatch(schema)
        self._bus_of: tuple[tuple[str, ...], NDArray[np.uint8]] = ((), np.zeros(0, np.uint8))
        # of the open tick, in raw values: they order as physical ones do, except floats, and unsigned ones from 2**63 on
        self._lowest, self._highest = np.full(n, MOST), np.full(n, LEAST)
        self._sum = np.zeros(n)
        self._count, self._invalid = np.zeros(n, np.intp), np.zeros(n, np.intp)
        self._wrong = np.zeros(n, np.intp), np.zeros(n, np.intp)  # of the invalid ones: for their counter, for their checksum
        self._odd = schema.kind >= Kind.FLOAT32
        self._any_odd = bool(self._odd.any())
        self._low, self._high, self._total = np.full(n, np.inf), np.full(n, -np.inf), np.zeros(n)  # of the odd ones, physical
        self._unsigned = schema.kind == Kind.UINT
        self._falling = schema.scale < 0
        self._bounded = schema.minimum < schema.maximum

    @property
    def period_ms(self) -> NDArray[np.float64]:
        """(n,) expected period: the declared one, else the one learned; NaN = neither."""
        return self._periods.expected_ms

    def feed(self, block: FrameBlock, signals: SignalBlock) -> list[Snapshot]:
        """Take a block and what the decoder made of it. Returns the snapshots of the ticks that it closed, in order."""
        closed: list[Snapshot] = []
        if len(block):
            self._network.unknown(block.timestamp_ns, self._bus(block), signals.known)
        for step in self._clock.feed(block, signals):
            closed += self._take(step)
        return closed

    def pass_time(self, now_ns: int, entered_ns: int) -> list[Snapshot]:
        """Close the ticks that are over at `now_ns` although no frame came: for a live source, where a silent bus must not hold back
        what it said last. Gives what the next frame would have closed, five silent ticks at most."""
        return [snapshot for step in self._clock.pass_time(now_ns, entered_ns) for snapshot in self._take(step)]

    def finish(self) -> list[Snapshot]:
        """The last tick, which no later frame has closed; nothing if there is none."""
        closed = [snapshot for step in self._clock.finish() for snapshot in self._take(step)]
        if self._clock.tick is None:
            return closed
        if self._clock.tick == self._clock.heard:
            closed.append(self._snapshot(self._clock.tick, self._clock.entered_ns))
        self._clock.reset()
        return closed

    def _bus(self, block: FrameBlock) -> NDArray[np.uint8]:
        """(frames,) numbers of the schema's channels; 255 of another."""
        if self._bus_of[0] != block.channels:
            names = self._schema.channels
            self._bus_of = block.channels, np.array([names.index(name) if name in names else 255 for name in block.channels], np.uint8)
        return self._bus_of[1].take(block.channel)

    def _take(self, step: Step) -> list[Snapshot]:
        """Close the ticks before the step's, then hold its values."""
        closed = []
        if step.closes is not None:
            asleep = step.heard + 1 + ASLEEP_TICKS
            if step.closes < asleep:
                closed.append(self._snapshot(step.closes, step.closes_entered_ns))
            silent = range(step.closes + 1, min(step.tick, asleep))
            closed += [self._snapshot(number, step.entered_ns) for number in silent]
            if step.set_back_ns:  # ages go on from what they were
                self._seen_ns -= step.set_back_ns
                self._periods.shift(-step.set_back_ns)
                self._stretches.shift(-step.set_back_ns)
                self._network.shift(-step.set_back_ns)
        self._hold(step)
        return closed

    def _hold(self, step: Step) -> None:
        """Take the step's pairs as the newest. Where a signal comes more than once, NumPy's assignment leaves the last."""
        signal, reason, raw = step.signal, step.reason, step.raw
        self._seen_ns[signal] = step.seen_ns
        self._reason[signal] = VALID if step.all_valid else reason
        if not step.all_valid:  # an invalid value does not replace the last valid one
            valid = np.flatnonzero(reason == VALID)
            if len(valid) < len(signal):
                np.add.at(self._invalid, signal[reason != VALID], 1)
                for counted, why in zip(self._wrong, (COUNTER, CHECKSUM), strict=True):
                    np.add.at(counted, signal[reason == why], 1)
                signal, raw = signal.take(valid), raw.take(valid)
        self._raw[signal] = raw
        np.add.at(self._count, signal, 1)
        np.minimum.at(self._lowest, signal, raw)
        np.maximum.at(self._highest, signal, raw)
        np.add.at(self._sum, signal, raw.astype(np.float64))
        if self._any_odd:
            odd = np.flatnonzero(self._odd.take(signal))
            if len(odd):
                signal = signal.take(odd)
                value = self._schema.physical(raw.take(odd), signal)
                np.minimum.at(self._low, signal, value)
                np.maximum.at(self._high, signal, value)
                np.add.at(self._total, signal, value)

    def _snapshot(self, tick: int, entered_ns: int) -> Snapshot:
        tick_ns, schema = tick * TICK_NS, self._schema
        count = self._count
        came = count > 0
        self._periods.tick(self._seen_ns, count + self._invalid)
        reason = self._reason.copy()
        age_ns = np.maximum(tick_ns - self._seen_ns, 0)
        limit_ms = np.maximum(STALE_PERIODS * self._periods.expected_ms, STALE_FLOOR_MS)  # NaN where no period is known: never stale
        reason[(age_ns > limit_ms * 1e6) & (reason == VALID)] = STALE
        raw = self._raw.copy()
        lowest, highest = np.where(came, self._lowest, 0), np.where(came, self._highest, 0)
        value, minimum, maximum = schema.physical(np.stack([raw, lowest, highest]))
        value[reason != VALID] = np.nan
        age_ms = age_ns / 1e6
        age_ms[reason == NOT_SEEN] = np.nan
        minimum, maximum, mean = self._statistics(came, minimum, maximum)
        flags = np.zeros(len(raw), np.uint8)
        with np.errstate(invalid="ignore"):  # NaN: no value, or no bound
            flags[self._bounded & ((minimum < schema.minimum) | (maximum > schema.maximum))] = OUT_OF_RANGE
        flags[self._stretches.tick(tick_ns, raw, self._lowest < self._highest, came)] |= CONSTANT
        network = self._network.tick(tick, count, self._invalid, self._wrong, self._seen_ns, self._periods.expected_ms)
        counts = count.astype(np.int32)
        away = self._network.away
        snapshot = Snapshot(tick_ns, entered_ns, raw, reason, value, minimum, maximum, mean, counts, age_ms, flags, network, away)
        if came.any():
            self._lowest.fill(MOST)
            self._highest.fill(LEAST)
            self._sum.fill(0)
        self._count = np.zeros_like(count)
        self._invalid.fill(0)
        for counted in self._wrong:
            counted.fill(0)
        return snapshot

    def _statistics(
        self, came: NDArray[np.bool_], lowest: NDArray[np.float64], highest: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """(n,) minimum, maximum and mean of the tick; NaN without a value. lowest, highest: (n,) physical, of the raw values' extremes."""
        schema = self._schema
        minimum, maximum = np.where(self._falling, highest, lowest), np.where(self._falling, lowest, highest)
        mean = self._sum / np.maximum(self._count, 1)
        mean *= schema.scale
        mean += schema.offset
        if self._any_odd:
            odd = self._odd
            minimum[odd], maximum[odd] = self._low[odd], self._high[odd]
            mean[odd] = self._total[odd] / np.maximum(self._count[odd], 1)
            self._low.fill(np.inf)
            self._high.fill(-np.inf)
            self._total.fill(0)
        none = ~came
        wide = self._unsigned & came & (self._lowest < 0) & ~self._odd
        if wide.any():  # an unsigned one from 2**63 on: not ordered as int64; its statistics begin with the next tick
            self._odd |= wide
            self._any_odd = True
            none |= wide
        minimum[none] = maximum[none] = mean[none] = np.nan
        return minimum, maximum, mean
