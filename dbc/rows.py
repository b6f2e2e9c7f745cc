"""What the bits of a row mean: sign, scale, and which patterns say "no value"."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dbc.payload import Cuts
from dbc.plan import CompiledDbc
from dbc.schema import EXACT, Kind
from dbc.validity import Reason, not_available_above

__all__ = ["Rows"]

Index = NDArray[np.intp]

NEVER = np.uint64(2**64 - 1)
NOT_AVAILABLE = np.uint8(Reason.NOT_AVAILABLE)  # looking an enumeration's member up costs as much as a NumPy call
HALF_NAN, SINGLE_NAN, DOUBLE_NAN = 0x7C00, 0x7F80_0000, 0x7FF0_0000_0000_0000  # magnitudes above these are not a number (IEEE 754)


class Rows:
    """r rows of a plan, in the order in which a decoder wants them."""

    def __init__(self, compiled: CompiledDbc, rows: Index) -> None:
        """rows: (r,) of the plan."""
        plan, self._schema = compiled.plan, compiled.schema
        self.signal: Index = plan.row_signal[rows].astype(np.intp)
        self.cuts = Cuts(plan, rows)
        length = plan.row_length[rows].astype(np.int64)
        self._sign = np.where(plan.row_signed[rows], np.uint64(1) << (length - 1).astype(np.uint64), np.uint64(0)).astype(np.uint64)
        self._any_sign = bool(plan.row_signed[rows].any())
        half, kind = plan.row_half[rows], self._schema.kind[self.signal]
        self._half = half if half.any() else None
        self._float: Index | None = np.flatnonzero(kind >= Kind.FLOAT32) if (kind >= Kind.FLOAT32).any() else None
        self._is_float = kind >= Kind.FLOAT32
        above = not_available_above(compiled)[rows]
        self._above = above if (above != NEVER).any() else None
        self._nan = np.select([half, kind == Kind.FLOAT32, kind == Kind.FLOAT64], [HALF_NAN, SINGLE_NAN, DOUBLE_NAN], 0).astype(np.uint64)
        self.scale, self.offset = self._schema.scale[self.signal], self._schema.offset[self.signal]
        inexact = self._is_float | ~_exact(length if self._any_sign else np.minimum(length, 63), self.scale, self.offset)
        self._inexact = inexact if inexact.any() else None

    def finish(self, bits: NDArray[np.uint64], row: Index) -> tuple[NDArray[np.int64], NDArray[np.uint8] | None]:
        """(k,) raw values of (k,) unsigned bits, which are changed in place, and why they are invalid; None = all are valid."""
        missing = None
        if self._above is not None:
            over = bits > self._above.take(row)
            missing = over if np.count_nonzero(over) else None
        if self._float is not None:
            missing = self._floats(bits, row, missing)
        if self._any_sign:
            sign = self._sign.take(row)
            bits ^= sign
            bits -= sign
        if missing is None:
            return bits.view(np.int64), None
        reason = missing.view(np.uint8)
        reason *= NOT_AVAILABLE
        return bits.view(np.int64), reason

    def _floats(self, bits: NDArray[np.uint64], row: Index, missing: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
        """Widen half floats; not-a-number is "no value"."""
        these = np.flatnonzero(self._is_float.take(row))
        if not len(these):
            return missing
        of = row.take(these)
        word, limit = bits.take(these), self._nan.take(of)
        nan = (word & (limit | (limit & -limit) - np.uint64(1))) > limit
        if nan.any():
            missing = np.zeros(len(bits), np.bool_) if missing is None else missing
            missing[these[nan]] = True
        if self._half is not None:
            half = self._half.take(of)
            single = word[half].astype(np.uint16).view(np.float16).astype(np.float32)
            bits[these[half]] = single.view(np.uint32)
        return missing

    def physical(self, raw: NDArray[np.int64], row: Index) -> NDArray[np.float64]:
        """(k,) as Schema.physical, of (k,) rows."""
        value = (raw if self._any_sign else raw.view(np.uint64)).astype(np.float64)
        value *= self.scale.take(row)
        value += self.offset.take(row)
        if self._inexact is not None:
            these = np.flatnonzero(self._inexact.take(row))
            if len(these):
                value[these] = self._schema.physical(raw.take(these), self.signal.take(row.take(these)))
        return value


def _exact(length: NDArray[np.int64], scale: NDArray[np.float64], offset: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Rows that float64 scales as cantools does. It rounds once, at the end, what it scales in whole numbers."""
    whole = (scale == np.floor(scale)) & ~((scale == 1) & (offset == 0))
    with np.errstate(invalid="ignore", over="ignore"):
        fits = 2.0**length * np.abs(scale) + np.abs(offset) <= EXACT
    return np.where(whole, fits, length < 64)  # an unsigned 64-bit pattern would be read as a signed one
