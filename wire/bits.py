"""Bits of the row codec, vectorised: Rice codes, and integers of known width. Bit order: least significant first, in bytes and in fields.

A *Rice array* of n values: 6 bits k, then for each value `value >> k` zeros and a one, then for each value its low k bits. The unary
parts stand together, so that one search for ones decodes them all; they are at most 4n bits, which `rice_bits` keeps to by its
choice of k and which bounds what a reader looks at.
"""

import numpy as np
from numpy.typing import NDArray

from wire.errors import FormatError

Unsigned = NDArray[np.uint64]
Bits = NDArray[np.uint8]  # one element a bit, 0 or 1
_K_BITS = 6
UNARY = 4  # bits of a unary part per value, at most
_ONE = np.uint64(1)
WINDOW = 57  # bits that a 64-bit window holds wherever in a byte they begin
_EIGHT, _SEVEN_BYTES = np.uint64(8), np.uint64(56)
MASKS = np.array([(1 << width) - 1 for width in range(65)], np.uint64)
_K_FIELDS = (np.arange(1 << _K_BITS)[:, None] >> np.arange(_K_BITS) & 1).astype(np.uint8)  # the bits of each k


def bit_width(values: Unsigned) -> NDArray[np.int64]:
    """Bits needed for each value, 0 for 0 and 64 at most; same shape."""
    width = np.frexp(values.astype(np.float64))[1].astype(np.int64)
    if width.size and width.max() > 53:  # float64 rounds up what is just below a power of two
        width -= (width > 0) & ((values >> np.maximum(width - 1, 0).astype(np.uint64)) == 0)
        return np.minimum(width, 64)
    return width


def zigzag(values: NDArray[np.int64]) -> Unsigned:
    """0, -1, 1, -2 ... -> 0, 1, 2, 3 ..."""
    return ((values << 1) ^ (values >> 63)).view(np.uint64)


def unzigzag(values: Unsigned) -> NDArray[np.int64]:
    """The inverse of `zigzag`."""
    return (values >> _ONE).view(np.int64) ^ -(values & _ONE).view(np.int64)


def rice_bits(values: NDArray[np.int64]) -> list[Bits]:
    """A Rice array of (n,) values >= 0, n > 0, with the k that makes it about the shortest."""
    total = int(values.sum())
    k = (total * 7 // (10 * len(values))).bit_length()  # for geometric values log2(mean * ln 2) is the best k
    if k and int((values >> (k - 1)).sum()) - int((values >> k).sum()) <= len(values):
        k -= 1
    ones = (values >> k if k else values).cumsum()
    ones += np.arange(len(values))
    unary = np.zeros(int(ones[-1]) + 1, np.uint8)
    unary[ones] = 1
    parts: list[Bits] = [_K_FIELDS[k], unary]
    if k:
        parts.append(((values[:, None] >> np.arange(k)) & 1).astype(np.uint8).reshape(-1))
    return parts


def field_bits(values: Unsigned, widths: NDArray[np.int64]) -> Bits:
    """The low widths[i] bits of values[i], one after the other; both (n,)."""
    ends = widths.cumsum()
    total = int(ends[-1]) if len(ends) else 0
    place = np.arange(total)
    place -= (ends - widths).repeat(widths)
    return ((values.repeat(widths) >> place.view(np.uint64)) & _ONE).astype(np.uint8)


class BitReader:
    """Reads what the functions above wrote; FormatError when there are not enough bits or a value is out of its range."""

    def __init__(self, data: bytes) -> None:
        octets = np.frombuffer(data + bytes(8), np.uint8)
        self._bits = np.unpackbits(octets[: len(data)], bitorder="little")
        self._windows = np.ndarray((len(data) + 1,), "<u8", octets, strides=(1,))  # the 64 bits that begin at each byte
        self._at = 0

    def rice(self, count: int, limit: int, field: str) -> NDArray[np.int64]:
        """(count,) values, each 0..limit."""
        if count == 0:
            return np.zeros(0, np.int64)
        k = self._small(_K_BITS, field)
        ones = self._bits[self._at : self._at + UNARY * count].view(np.bool_).nonzero()[0][:count]
        if len(ones) < count:
            raise FormatError(f"rows {field}: expected {count} values within {UNARY * count} bits, found {len(ones)}")
        self._at += int(ones[-1]) + 1
        values: NDArray[np.int64] = ones.copy()
        values[1:] -= ones[:-1]
        values[1:] -= 1
        if (most := int(values.max())) > limit >> k:
            raise FormatError(f"rows {field}: expected at most {limit}, found {most << k} or more")
        if k:
            low = self._take(count * k, field)
            values <<= k
            for bit in range(k):
                values |= low[bit::k].astype(np.int64) << bit
            if (most := int(values.max())) > limit:
                raise FormatError(f"rows {field}: expected at most {limit}, found {most}")
        return values

    def fields(self, widths: NDArray[np.int64], field: str) -> Unsigned:
        """(n,) integers of the given widths, each 0..64 bits."""
        if not len(widths):
            return np.zeros(0, np.uint64)
        ends = widths.cumsum()
        ends += self._at
        start = ends - widths
        self._take(int(ends[-1]) - self._at, field)
        place = start >> 3
        shift = (start & 7).view(np.uint64)
        values: Unsigned = self._windows[place] >> shift
        if int(widths.max()) > WINDOW:  # a field may reach into a ninth byte
            values |= (self._windows[np.minimum(place + 1, len(self._windows) - 1)] >> _SEVEN_BYTES) << (_EIGHT - shift) << _SEVEN_BYTES
        values &= MASKS[widths]
        return values

    def end(self) -> None:
        """Checks that only the padding of the last byte is left."""
        rest = self._bits[self._at :]
        if len(rest) > 7 or rest.any():
            raise FormatError(f"rows: expected the end, found {len(rest)} bits more")

    def _small(self, count: int, field: str) -> int:
        """One integer of up to 57 bits."""
        at = self._at
        self._take(count, field)
        return int(self._windows[at >> 3]) >> (at & 7) & ((1 << count) - 1)

    def _take(self, count: int, field: str) -> Bits:
        if count > len(self._bits) - self._at:
            raise FormatError(f"rows {field}: expected {count} bits, found {len(self._bits) - self._at}")
        self._at += count
        return self._bits[self._at - count : self._at]


def pack(parts: list[Bits]) -> bytes:
    """Bits to bytes, the last one padded with zeros."""
    return np.packbits(np.concatenate(parts), bitorder="little").tobytes() if parts else b""


def varint(value: int) -> bytes:
    """LEB128 of a value >= 0."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data: bytes, at: int, limit: int, field: str) -> tuple[int, int]:
    """(value 0..limit, offset behind it); FormatError otherwise, and for an encoding that is longer than it need be."""
    value = 0
    for count in range(10):
        if at + count >= len(data):
            break
        byte = data[at + count]
        value |= (byte & 0x7F) << 7 * count
        if byte < 0x80:
            if value > limit or (count and byte == 0):
                break
            return value, at + count + 1
    raise FormatError(f"rows {field}: expected a number up to {limit} at byte {at}")
