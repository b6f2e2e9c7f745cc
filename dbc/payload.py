"""The payloads of a block as 64-bit words, and raw values cut out of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dbc.plan import DecodePlan

__all__ = ["Cuts", "Payload"]

Index = NDArray[np.intp]
Words = NDArray[np.uint64]

WORD_BITS = 64
WORD_BYTES = 8


class Payload:
    """n payloads of w words each; little: as little-endian numbers; swapped: each word's bytes reversed, for big-endian signals."""

    def __init__(self, data: NDArray[np.uint8], length: NDArray[np.integer]) -> None:
        """data: (n, bytes), C-contiguous. length: (n,) payload bytes; columns beyond the longest are not looked at."""
        self.n, width = data.shape
        if width > WORD_BYTES and int(length.max(initial=0)) <= WORD_BYTES:
            data, width = np.ascontiguousarray(data[:, :WORD_BYTES]), WORD_BYTES
        if width % WORD_BYTES:
            padded = np.zeros((self.n, width + WORD_BYTES - width % WORD_BYTES), np.uint8)
            padded[:, :width] = data
            data, width = padded, padded.shape[1]
        self.width = width // WORD_BYTES
        self.little: Words = data.view("<u8").reshape(-1)
        self._swapped: Words | None = None
        self._both: Words | None = None

    @property
    def swapped(self) -> Words:
        if self._swapped is None:
            swapped: Words = self.little.byteswap()
            self._swapped = swapped
        return self._swapped

    @property
    def both(self) -> Words:
        """The little-endian words, then the swapped ones."""
        if self._both is None:
            self._both = np.concatenate([self.little, self.swapped])
        return self._both


class Cuts:
    """Where each of r rows is cut. A big-endian signal is an ordinary one of the swapped words."""

    def __init__(self, plan: DecodePlan, rows: Index) -> None:
        """rows: (r,) of the plan."""
        length = plan.row_length[rows].astype(np.int64)
        bit = plan.row_bit[rows].astype(np.int64)
        big = plan.row_big[rows]
        self.word = bit // WORD_BITS
        inside = bit % WORD_BITS
        # Of a signal that reaches into the next word the shift is wrong here; `mend` reads it again. One beyond the payload is SHORT_FRAME.
        self.over = np.maximum(inside + length - WORD_BITS, 0)
        self.shift = np.where(big, np.maximum(WORD_BITS - inside - length, 0), inside).astype(np.uint64)
        self.mask: Words = np.uint64(2**64 - 1) >> (WORD_BITS - length).astype(np.uint64)
        self.big = big
        self._crosses = self.over > 0
        self.any_crosses = bool(self._crosses.any())
        self._length = length
        self._any_big = bool(big.any())

    def mend(self, value: Words, payload: Payload, place: Index, row: Index) -> None:
        """Read again those of `value` that lie in two words. place: (k,) index of the first into `payload.both`. Before masking."""
        if not self.any_crosses or payload.width == 1:
            return
        these = np.flatnonzero(self._crosses.take(row))
        if not len(these):
            return
        row, place = row.take(these), place.take(these)
        words = payload.both
        here, following = words.take(place, mode="clip"), words.take(place + 1, mode="clip")  # clipped ones are SHORT_FRAME
        over = self.over.take(row).astype(np.uint64)
        held = (self._length.take(row).astype(np.uint64)) - over  # bits in the first word
        big = here << over | following >> (np.uint64(WORD_BITS) - over)
        little = here >> (np.uint64(WORD_BITS) - held) | following << held
        value[these] = np.where(self.big.take(row), big, little)

    def cut(self, payload: Payload, frame: Index, row: Index) -> Words:
        """(k,) raw bits, unsigned, of (k,) rows of (k,) frames."""
        if payload.width == 1 and not self._any_big:
            value: Words = payload.little.take(frame)
            value >>= self.shift.take(row)
            value &= self.mask.take(row)
            return value
        place = frame * payload.width
        if payload.width > 1:
            place += self.word.take(row)
        if self._any_big:
            place += self.big.take(row) * len(payload.little)
            value = payload.both.take(place, mode="clip")
        else:
            value = payload.little.take(place, mode="clip")
        value >>= self.shift.take(row)
        self.mend(value, payload, place, row)
        value &= self.mask.take(row)
        return value
