"""Where a fleet's values come from: `next()` gives one tick of every vehicle, as the raw integers that the DBC would carry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from dbc.schema import Kind, Schema

__all__ = ["Physical", "RandomWalk", "Raw", "Source"]

Raw = NDArray[np.int64]

_MOST = 1 << 40  # a wider signal (an odometer in mm, a counter) walks in a part of its range
_DEFAULT_HIGH = 255  # of a signal without a declared range
_GOLDEN: Final = np.uint64(0x9E37_79B9_7F4A_7C15)  # 2**64 / golden ratio: splitmix64's step
_MIX_1: Final = np.uint64(0xBF58_476D_1CE4_E5B9)
_MIX_2: Final = np.uint64(0x94D0_49BB_1331_11EB)


class Source(Protocol):
    """Values of n vehicles and m signals."""

    def next(self) -> Raw:
        """The next tick, (n, m) int64; the caller keeps it, so it must not be written to again."""


class RandomWalk:
    """Signals that walk at random within their declared ranges; about half of them change from tick to tick, as in a drive.

    The values of a vehicle depend on the seed and its number alone: on neither the fleet's size nor the process that draws them
    (a hash of seed, vehicle, signal and tick: splitmix64, Steele, Lea, Flood, OOPSLA 2014). It is a load, not a car.
    """

    def __init__(self, schema: Schema, columns: NDArray[np.intp], numbers: Sequence[int], seed: int) -> None:
        self._low, self._high = _range(schema, columns)
        signals = np.arange(len(columns), dtype=np.uint64)
        of_signal = _mixed(signals * _GOLDEN + np.uint64(1))
        # How often a signal changes: 5 to 85 % of ticks, one in eight never; how far: up to 2 to 256 raw steps, never half its range.
        self._rate = (np.uint64(13) + of_signal % np.uint64(204)) * (of_signal >> np.uint64(32) & np.uint64(7) != 0)
        width = np.minimum(np.maximum(self._high - self._low, 0) // 2, 1 << 8).astype(np.int64)
        self._width = np.maximum(1, np.minimum(width, np.int64(2) << (of_signal >> np.uint64(40) & np.uint64(7)).astype(np.int64)))
        vehicles = _mixed(np.array(numbers, dtype=np.uint64) * _GOLDEN + np.uint64(seed % 2**64))
        self._keys = _mixed(vehicles[:, None] ^ of_signal[None, :])
        span = (self._high - self._low + 1).astype(np.uint64)
        self._raw = self._low + (_mixed(self._keys + _MIX_1) % span).astype(np.int64)
        self._tick = 0

    def next(self) -> Raw:
        self._tick += 1
        drawn = _mixed(self._keys + np.uint64(self._tick * int(_GOLDEN) % 2**64))
        moves = (drawn & np.uint64(0xFF)) < self._rate
        step = ((drawn >> np.uint64(8)) & np.uint64(0xFFFF_FFFF)).view(np.int64) % self._width + 1
        np.negative(step, out=step, where=(drawn >> np.uint64(63)).astype(np.bool_))
        step *= moves
        self._raw = np.clip(self._raw + step, self._low, self._high)
        return self._raw


class Physical:
    """Physical values, as the vectorised model gives them, turned into the DBC's raw integers.

    next_values(k) gives (k, signals of the schema, n); a value that is NaN keeps the signal's raw value of the tick before.
    """

    def __init__(self, next_values: Callable[[int], NDArray[np.floating]], schema: Schema, columns: NDArray[np.intp]) -> None:
        self._next_values = next_values
        self._columns = columns
        self._scale = schema.scale[columns]
        self._offset = schema.offset[columns]
        self._raw: Raw | None = None

    def next(self) -> Raw:
        values = self._next_values(1)[0][self._columns].T.astype(np.float64)
        seen = np.isfinite(values)
        values -= self._offset
        values /= self._scale
        np.rint(values, out=values)
        np.copyto(values, 0.0, where=~seen)
        raw: Raw = values.astype(np.int64)
        if self._raw is not None:
            np.copyto(raw, self._raw, where=~seen)
        self._raw = raw
        return raw


def _range(schema: Schema, columns: NDArray[np.intp]) -> tuple[Raw, Raw]:
    """(m,) lowest and highest raw value. A floating-point signal stays 0: a walk over bit patterns is no value."""
    scale, offset = schema.scale[columns], schema.offset[columns]
    ends = np.stack([(schema.minimum[columns] - offset) / scale, (schema.maximum[columns] - offset) / scale])
    low, high = np.ceil(ends.min(axis=0)), np.floor(ends.max(axis=0))
    known = np.isfinite(low) & np.isfinite(high) & (high > low)
    low = np.where(known, np.clip(low, -_MOST, _MOST), 0)
    high = np.where(known, np.clip(high, low, low + _MOST), _DEFAULT_HIGH)
    whole = schema.kind[columns] <= Kind.UINT
    return np.where(whole, low, 0).astype(np.int64), np.where(whole, high, 0).astype(np.int64)


def _mixed(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """splitmix64's finaliser."""
    with np.errstate(over="ignore"):
        value = (value ^ (value >> np.uint64(30))) * _MIX_1
        value = (value ^ (value >> np.uint64(27))) * _MIX_2
    mixed: NDArray[np.uint64] = value ^ (value >> np.uint64(31))
    return mixed
