"""A block: raw values and reasons of some signals at some ticks, compressed by column for the embedded store.

Layout (little-endian): u32 ticks, u32 columns, u32 columns in a group, u32 end offset of each section (one for the tick
axis, then one for each group of columns), then the sections. A section is one zstd frame of byte planes: values are
differences from the tick before, folded so that small negatives are small (zigzag), then shuffled so that byte k of every
value lies together; planes that are all zero are left out. A query for one signal opens one group, not the whole block.
"""

import numpy as np
import zstandard
from numpy.typing import NDArray

GROUP = 64  # columns in a section: at 60 ticks it opens in ~20 µs, and is still long enough for zstd to find something
LEVEL = 1  # level 3 costs twice the time for 4 % less
_MAX_BYTES = 1 << 30  # a block is ours, but a damaged file must not take the memory

Rows = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]]  # tick_ms (t,), raw (t, m), reason (t, m)


def encode(tick_ms: NDArray[np.int64], raw: NDArray[np.int64], reason: NDArray[np.uint8], group: int = GROUP) -> bytes:
    """One block of raw (t, m) int64 and reason (t, m) uint8 at tick_ms (t,), in sections of `group` columns."""
    compress = zstandard.ZstdCompressor(level=LEVEL).compress
    ticks, columns = raw.shape
    sections = [compress(_planes(np.diff(tick_ms, prepend=tick_ms[:1])[None, :]) + tick_ms[:1].astype("<i8").tobytes())]
    for start in range(0, columns, group):
        part = raw[:, start : start + group].T
        delta = np.empty(part.shape, np.int64)
        delta[:, 0] = part[:, 0]
        np.subtract(part[:, 1:], part[:, :-1], out=delta[:, 1:])
        reasons = np.array(reason[:, start : start + group].T, order="C")  # a copy: one column would be a view of the caller's
        reasons[:, 1:] -= reasons[:, :-1].copy()
        sections.append(compress(_planes(delta) + reasons.tobytes()))
    ends = np.cumsum([len(section) for section in sections], dtype="<u4")
    return b"".join((np.array([ticks, columns, group], "<u4").tobytes(), ends.tobytes(), *sections))


def decode(block: bytes, columns: NDArray[np.intp] | None = None) -> Rows:
    """The block's ticks, and raw and reason of `columns` (positions in the block, in that order; None = all).

    Raises ValueError for a damaged block.
    """
    ticks, total, size = (int(n) for n in np.frombuffer(block, "<u4", 3))
    groups = -(-total // size)
    ends = np.frombuffer(block, "<u4", groups + 1, offset=12).astype(np.int64)
    base = 12 + 4 * (groups + 1)
    starts = np.concatenate(([0], ends[:-1]))
    open_frame = zstandard.ZstdDecompressor().decompress

    def section(number: int) -> bytes:
        try:
            return open_frame(block[base + starts[number] : base + ends[number]], max_output_size=_MAX_BYTES)
        except zstandard.ZstdError as error:
            raise ValueError(f"section {number} of {groups + 1} cannot be decompressed: {error}") from error

    axis = section(0)
    tick_ms = np.cumsum(_unplanes(axis[:-8], 1, ticks)[0]) + np.frombuffer(axis, "<i8", 1, offset=len(axis) - 8)
    wanted = np.arange(total) if columns is None else columns
    raw = np.empty((ticks, len(wanted)), np.int64)
    reason = np.empty((ticks, len(wanted)), np.uint8)
    group_of = wanted // size
    for group in np.unique(group_of):
        width = min(size, total - int(group) * size)
        data = section(int(group) + 1)
        cut = len(data) - width * ticks
        places = np.flatnonzero(group_of == group)
        rows = wanted[places] % size
        raw[:, places] = np.cumsum(_unplanes(data[:cut], width, ticks)[rows], axis=1).T
        reason[:, places] = np.cumsum(np.frombuffer(data, np.uint8, offset=cut).reshape(width, ticks)[rows], axis=1, dtype=np.uint8).T
    return tick_ms, raw, reason


def _planes(delta: NDArray[np.int64]) -> bytes:
    """(c, t) int64 -> the byte planes that are not all zero, lowest first."""
    folded = ((delta << 1) ^ (delta >> 63)).view(np.uint64)
    used = (int(folded.max(initial=0)).bit_length() + 7) // 8
    octets = folded.astype("<u8", copy=False).view(np.uint8).reshape(-1, 8)
    return np.ascontiguousarray(octets[:, :used].T).tobytes()


def _unplanes(data: bytes, columns: int, ticks: int) -> NDArray[np.int64]:
    """The inverse of `_planes`: (columns, ticks) int64."""
    count = columns * ticks
    used, rest = divmod(len(data), count) if count else (0, len(data))
    if rest or used > 8:
        raise ValueError(f"a section holds {len(data)} bytes for {columns} columns of {ticks} ticks")
    octets = np.zeros((count, 8), np.uint8)
    octets[:, :used] = np.frombuffer(data, np.uint8).reshape(used, count).T
    folded = octets.view("<u8").astype(np.uint64, copy=False).reshape(columns, ticks)
    return ((folded >> np.uint64(1)) ^ (np.uint64(0) - (folded & np.uint64(1)))).view(np.int64)
