"""Decoded signals as tables.

*long*: a row for each value; columns timestamp (float64, seconds since 1970), channel, message, signal, value (float64, NaN where not
valid), valid (bool). *wide*: a row for each period; timestamp and one column (float64) for each "Message.Signal".

Both are made of whole arrays; names are dictionary codes until they are written.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dbc.decoder import SignalBlock
from dbc.frames import FrameBlock
from dbc.schema import Schema
from dbc.validity import STALE_FLOOR_MS, STALE_PERIODS, Reason

__all__ = ["LongNames", "LongRows", "WideRows", "WideTable", "join_long", "join_wide", "long_rows", "seconds"]

SILENT_NS = 5_000_000_000  # a gap in the frames is filled with rows for so long; beyond, the bus counts as asleep
SILENT_ROWS = 100  # and with no more than so many


@dataclass(frozen=True, slots=True)
class LongRows:
    """k values in the order of their frames."""

    timestamp: NDArray[np.float64]  # (k,)
    channel: NDArray[np.uint8]  # (k,) index into channels
    signal: NDArray[np.int32]  # (k,) index into the schema
    value: NDArray[np.float64]  # (k,) physical; NaN where not valid
    valid: NDArray[np.bool_]  # (k,)
    channels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.value)


@dataclass(frozen=True, slots=True)
class WideRows:
    """t rows of a wide table of n signals."""

    timestamp: NDArray[np.float64]  # (t,) the end of the row's period
    value: NDArray[np.float64]  # (t, n) NaN where not valid

    def __len__(self) -> int:
        return len(self.timestamp)


class LongNames:
    """The words of a long table: each signal's message and short name, as codes into lists without repetition."""

    def __init__(self, schema: Schema) -> None:
        split = [_split(name, schema.channels[channel]) for name, channel in zip(schema.names, schema.channel, strict=True)]
        self.messages = tuple(dict.fromkeys(message for message, _ in split))
        self.signals = tuple(dict.fromkeys(signal for _, signal in split))
        messages = {word: code for code, word in enumerate(self.messages)}
        signals = {word: code for code, word in enumerate(self.signals)}
        self.message_code = np.array([messages[message] for message, _ in split], np.int32)  # (n,)
        self.signal_code = np.array([signals[signal] for _, signal in split], np.int32)  # (n,)


def _split(name: str, channel: str) -> tuple[str, str]:
    """ "Message.Signal" or "channel:Message.Signal"."""
    message, _, signal = name.removeprefix(f"{channel}:").partition(".")
    return message, signal


def seconds(timestamp_ns: NDArray[np.int64]) -> NDArray[np.float64]:
    """Nanoseconds as seconds: of whole microseconds, the float64 nearest to them, which is what "1700000820.298000" reads as."""
    microseconds, rest = np.divmod(timestamp_ns, 1000)
    result = microseconds / 1e6
    if rest.any():
        result += rest * 1e-9
    return np.asarray(result)


def long_rows(schema: Schema, block: FrameBlock, signals: SignalBlock) -> LongRows:
    """What the decoder made of a block, as rows."""
    value = schema.physical(signals.raw, signals.signal)
    valid = signals.reason == Reason.VALID
    if not valid.all():
        value[~valid] = np.nan
    frame = signals.frame
    channel = block.channel.take(frame) if len(block.channels) > 1 else np.zeros(len(frame), np.uint8)
    return LongRows(
        seconds(block.timestamp_ns).take(frame), channel, signals.signal.astype(np.int32, copy=False), value, valid, block.channels
    )


def join_long(parts: list[LongRows]) -> LongRows:
    """The parts after one another; a reader's list of channels only grows, so that the last part's holds for all of them."""
    return LongRows(
        np.concatenate([part.timestamp for part in parts]),
        np.concatenate([part.channel for part in parts]),
        np.concatenate([part.signal for part in parts]),
        np.concatenate([part.value for part in parts]),
        np.concatenate([part.valid for part in parts]),
        parts[-1].channels,
    )


def join_wide(parts: list[WideRows]) -> WideRows:
    """One after the other."""
    return WideRows(np.concatenate([part.timestamp for part in parts]), np.concatenate([part.value for part in parts]))


class WideTable:
    """Holds the last value of every signal and gives a row whenever a period is over.

    A row at T covers the frames stamped T - period <= t < T; T is a multiple of the period. As in the 1 Hz snapshot a late frame counts
    as of the open period, an invalid value is NaN, and a signal with a declared period is NaN once it is stale. A gap in the frames is
    filled with rows for five seconds (at most 100 rows); then there are none until frames return.
    """

    def __init__(self, schema: Schema, period_ns: int) -> None:
        n = len(schema)
        self._schema, self._period_ns = schema, period_ns
        self._value = np.full(n, np.nan)
        self._seen_ns = np.zeros(n, np.int64)
        self._limit_ns = np.maximum(STALE_PERIODS * schema.period_ms, STALE_FLOOR_MS) * 1e6  # NaN where no period is declared
        self._periodic = np.flatnonzero(~np.isnan(schema.period_ms))
        self._limit_ns = self._limit_ns[self._periodic]
        self._open: int | None = None  # number of the open period: it ends at this many periods since 1970

    def feed(self, block: FrameBlock, signals: SignalBlock) -> WideRows | None:
        """The rows of the periods that the block closes; None when there are none."""
        if not len(block):
            return None
        period = block.timestamp_ns // self._period_ns + 1
        if self._open is None:
            self._open = int(period[0])
        value = self._schema.physical(signals.raw, signals.signal)
        value[signals.reason != Reason.VALID] = np.nan
        period = np.maximum(np.maximum.accumulate(period), self._open)
        edges = [0, *(np.flatnonzero(np.diff(period)) + 1).tolist(), len(period)]
        pairs = signals.frame.searchsorted(edges)
        times: list[float] = []
        rows: list[NDArray[np.float64]] = []
        for number, start in enumerate(edges[:-1]):
            for closed in self._closed(int(period[start])):
                times.append(closed * self._period_ns / 1e9)
                rows.append(self._row(closed))
            part = slice(int(pairs[number]), int(pairs[number + 1]))
            self._value[signals.signal[part]] = value[part]  # where a signal comes more than once, NumPy's assignment leaves the last
            self._seen_ns[signals.signal[part]] = signals.timestamp_ns[part]
        return WideRows(np.array(times), np.array(rows)) if rows else None

    def finish(self) -> WideRows | None:
        """The last period, which no later frame has closed."""
        if self._open is None:
            return None
        rows = WideRows(np.array([self._open * self._period_ns / 1e9]), self._row(self._open)[None])
        self._open = None
        return rows

    def _closed(self, period: int) -> Iterator[int]:
        """The periods that are over when a frame of `period` comes."""
        assert self._open is not None
        if period == self._open:
            return
        silent = min(period - self._open - 1, max(SILENT_NS // self._period_ns, 1), SILENT_ROWS)
        yield from range(self._open, self._open + 1 + silent)
        self._open = period

    def _row(self, period: int) -> NDArray[np.float64]:
        row = self._value.copy()
        old = (period * self._period_ns - self._seen_ns[self._periodic]) > self._limit_ns
        row[self._periodic[old]] = np.nan
        return row
