"""Rows to bytes and back. Layout: docs/wire.md, "Rows".

Only columns that differ from the announced baseline are there, as zigzag deltas of raw integers: the first tick against the baseline,
each other tick against the one before. A delta is its bit width, Rice-coded against the width the baseline expects in that
column, and its bits below the leading one. Nothing depends on another batch, so batches decode in any order of arrival.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from wire.bits import BitReader, Bits, bit_width, field_bits, pack, read_varint, rice_bits, unzigzag, varint, zigzag
from wire.errors import FormatError
from wire.messages import MAX_SIGNALS, Rows
from wire.packing import compress, decompress

MAX_TICKS = 3600
MAX_CELLS = 1 << 20  # ticks x columns of one batch: 9 MiB when decoded; 10,000 signals for 100 s
MAX_BODY_BYTES = 1 << 20  # unpacked; MAX_CELLS of a real drive are 0.15 MB
DEFAULT_WIDTHS = (5, 2)  # expected width of a first and of a following delta where the baseline says nothing
LEADING = np.array([0, *(1 << width for width in range(64))], np.uint64)  # the leading bit of an integer of each width
RELATIVE, SECONDS, _REASONS, _WIDTHS = 1, 2, 4, 8
SECOND_MS = 1000
MAX_TICK = 1 << 53
MAX_STEP = MAX_TICK // MAX_TICKS  # ms between two ticks of a batch: 79 years


def encode_rows(rows: Rows, baseline: Rows | None) -> bytes:
    """The body of a ROWS batch.

    `baseline` is one tick of the same columns, or None: then columns are relative to zero and valid, as for the baseline itself.
    FormatError when the shapes do not fit, there is no tick, or ticks do not increase.
    """
    ticks, columns = _check(rows, baseline)
    base_raw, base_reason, base_tick = _base(baseline, columns)
    steps = np.empty((ticks, columns), np.int64)
    np.subtract(rows.raw[0], base_raw, out=steps[0])
    np.subtract(rows.raw[1:], rows.raw[:-1], out=steps[1:])
    changed = steps.any(axis=0)
    index = np.flatnonzero(changed)

    start = int(rows.tick_ms[0]) - base_tick
    following = rows.tick_ms[1:] - rows.tick_ms[:-1]
    unit = SECOND_MS if start % SECOND_MS == 0 and not (following % SECOND_MS).any() else 1
    flags = (RELATIVE if baseline is not None else 0) | (SECONDS if unit == SECOND_MS else 0)
    start //= unit
    unexpected = (changed ^ _expected(baseline)).nonzero()[0] if baseline is not None and baseline.widths is not None else index
    head = [varint(ticks), varint(start << 1 if start >= 0 else (-start << 1) - 1)]
    if baseline is None:
        head.append(varint(columns))
    head.append(varint(len(unexpected)))
    parts: list[Bits] = []
    if ticks > 1:
        parts += rice_bits(following // unit - 1)
    if len(unexpected):
        parts += rice_bits(_gaps(unexpected))
    if (rows.reason != base_reason).any():
        flags |= _REASONS
        head.append(_put_reasons(parts, rows.reason, base_reason))
    if len(index):
        _put_deltas(parts, zigzag(steps[:, index]), _widths(baseline, index))
    tail = b""
    if rows.widths is not None:
        flags |= _WIDTHS
        tail = rows.widths.tobytes()
    plain = b"".join([bytes((flags,)), *head, tail, pack(parts)])
    if len(plain) > MAX_BODY_BYTES:
        raise FormatError(f"rows: expected at most {MAX_BODY_BYTES} bytes, found {len(plain)}; put fewer ticks into a batch")
    return compress(plain)


def decode_rows(data: bytes, baseline: Rows | None) -> Rows:
    """The inverse of `encode_rows` with the same baseline; FormatError for anything else. Memory is bounded by MAX_CELLS."""
    plain = decompress(data, MAX_BODY_BYTES)
    flags = plain[0] if plain else 0xFF
    if flags >= 16 or bool(flags & RELATIVE) != (baseline is not None):
        raise FormatError(f"rows flags: found {flags:#x} for rows {'with' if baseline is not None else 'without'} a baseline")
    ticks, at = read_varint(plain, 1, MAX_TICKS, "ticks")
    start, at = read_varint(plain, at, 2 * MAX_TICK, "first tick")
    if baseline is None:
        columns, at = read_varint(plain, at, MAX_SIGNALS, "columns")
    else:
        columns = baseline.raw.shape[1]
    if not ticks or ticks * columns > MAX_CELLS:
        raise FormatError(f"rows: expected 1 tick or more and at most {MAX_CELLS} cells, found {ticks} x {columns}")
    base_raw, base_reason, base_tick = _base(baseline, columns)
    count, at = read_varint(plain, at, columns, "changed columns")
    reason_count, at = read_varint(plain, at, columns, "reason columns") if flags & _REASONS else (0, at)
    widths = None
    if flags & _WIDTHS:
        if baseline is not None or ticks != 1:
            raise FormatError("rows: only a baseline may carry expected widths")
        widths, at = _take_widths(plain, at, columns)
    bits = BitReader(plain[at:])

    unit = SECOND_MS if flags & SECONDS else 1
    tick_ms = np.empty(ticks, np.int64)
    tick_ms[0] = base_tick + (start >> 1 if start % 2 == 0 else -(start >> 1) - 1) * unit
    tick_ms[1:] = (bits.rice(ticks - 1, MAX_STEP // unit, "ticks") + 1) * unit
    np.cumsum(tick_ms, out=tick_ms)
    if not -MAX_TICK < int(tick_ms[0]) <= int(tick_ms[-1]) < MAX_TICK:
        raise FormatError(f"rows: expected ticks within 53 bits, found {int(tick_ms[0])} to {int(tick_ms[-1])}")
    changed = np.zeros(columns, np.bool_) if baseline is None or baseline.widths is None else _expected(baseline)
    if count:
        changed[_from_gaps(bits.rice(count, columns, "changed columns"), columns)] ^= True
    index = changed.nonzero()[0]
    reason = np.repeat(base_reason[None], ticks, axis=0)
    if reason_count:
        reason_index = _from_gaps(bits.rice(reason_count, columns, "reason columns"), columns)
        flips = bits.rice(reason_count * ticks, 255, "reasons").astype(np.uint8).reshape(ticks, reason_count)
        reason[:, reason_index] ^= np.bitwise_xor.accumulate(flips, axis=0)
    raw = np.repeat(base_raw[None], ticks, axis=0)
    if len(index):
        raw[:, index] += _take_deltas(bits, ticks, _widths(baseline, index)).cumsum(axis=0)
    bits.end()
    return Rows(tick_ms, raw, reason, widths)


def with_expected_widths(baseline: Rows, history: Rows) -> Rows:
    """The baseline with the widths that recent rows of the same columns let expect: batches of the stream get about a fifth smaller.

    history: (t, m) rows, for example the last minute of the stream before; fewer than two rows leave the baseline as it is.
    """
    if len(history.raw) < 2:
        return baseline
    first = np.median(bit_width(zigzag(history.raw - baseline.raw)), axis=0)
    step = np.median(bit_width(zigzag(np.diff(history.raw, axis=0))), axis=0)
    active = (history.raw != baseline.raw).any(axis=0)
    widths = np.stack([np.where(active, np.maximum(np.rint(first), 1), 0), np.rint(step)]).astype(np.uint8)
    return replace(baseline, widths=widths)


def _check(rows: Rows, baseline: Rows | None) -> tuple[int, int]:
    ticks, columns = rows.raw.shape
    if rows.tick_ms.shape != (ticks,) or rows.reason.shape != (ticks, columns) or not 1 <= ticks <= MAX_TICKS:
        shapes = f"{rows.tick_ms.shape}, {rows.raw.shape} and {rows.reason.shape}"
        raise FormatError(f"rows: expected ticks (t,), raw and reason (t, m), t 1 to {MAX_TICKS}; found {shapes}")
    if columns > MAX_SIGNALS or ticks * columns > MAX_CELLS:
        raise FormatError(f"rows: expected at most {MAX_SIGNALS} columns and {MAX_CELLS} cells, found {ticks} x {columns}")
    if baseline is not None and baseline.raw.shape != (1, columns):
        raise FormatError(f"rows: expected a baseline of (1, {columns}), found {baseline.raw.shape}")
    if max(-int(rows.tick_ms[0]), int(rows.tick_ms[-1])) >= MAX_TICK or (
        len(following := rows.tick_ms[1:] - rows.tick_ms[:-1]) and not 0 < int(following.min()) <= int(following.max()) <= MAX_STEP
    ):
        raise FormatError("rows: expected ticks that increase, within 53 bits and at most 79 years apart")
    if rows.widths is not None and (rows.widths.shape != (2, columns) or ticks != 1 or baseline is not None):
        raise FormatError("rows: only a baseline may carry expected widths, (2, m)")
    return ticks, columns


def _base(baseline: Rows | None, columns: int) -> tuple[NDArray[np.int64], NDArray[np.uint8], int]:
    if baseline is None:
        return np.zeros(columns, np.int64), np.zeros(columns, np.uint8), 0
    return baseline.raw[0], baseline.reason[0], int(baseline.tick_ms[0])


def _expected(baseline: Rows) -> NDArray[np.bool_]:
    """(m,) which columns are expected to differ from the baseline."""
    assert baseline.widths is not None
    expected: NDArray[np.bool_] = baseline.widths[0] > 0
    return expected


def _widths(baseline: Rows | None, index: NDArray[np.intp]) -> NDArray[np.int64]:
    """(2, n) expected widths of the changed columns."""
    if baseline is None or baseline.widths is None:
        return np.repeat(np.array(DEFAULT_WIDTHS)[:, None], len(index), axis=1)
    expected = baseline.widths[:, index].astype(np.int64)
    if not expected[0].all():
        expected[:, expected[0] == 0] = np.array(DEFAULT_WIDTHS)[:, None]
    return expected


def _gaps(index: NDArray[np.intp]) -> NDArray[np.int64]:
    gaps = index.astype(np.int64)
    gaps[1:] -= index[:-1] + 1
    return gaps


def _from_gaps(gaps: NDArray[np.int64], columns: int) -> NDArray[np.int64]:
    index = np.cumsum(gaps + 1) - 1
    if len(index) and int(index[-1]) >= columns:
        raise FormatError(f"rows: expected columns below {columns}, found {int(index[-1])}")
    return index


def _put_reasons(parts: list[Bits], reason: NDArray[np.uint8], base: NDArray[np.uint8]) -> bytes:
    index = np.flatnonzero((reason != base).any(axis=0))
    values = reason[:, index]
    flips = values.copy()
    flips[0] ^= base[index]
    flips[1:] ^= values[:-1]
    parts += rice_bits(_gaps(index))
    parts += rice_bits(flips.reshape(-1).astype(np.int64))
    return varint(len(index))


def _put_deltas(parts: list[Bits], deltas: NDArray[np.uint64], expected: NDArray[np.int64]) -> None:
    width = bit_width(deltas)
    over = width.copy()
    over[0] -= expected[0]
    over[1:] -= expected[1]
    codes = zigzag(over).view(np.int64)
    parts += rice_bits(codes[0])
    if len(width) > 1:
        parts += rice_bits(codes[1:].reshape(-1))
    parts.append(field_bits(deltas.reshape(-1), np.maximum(width - 1, 0).reshape(-1)))


def _take_deltas(bits: BitReader, ticks: int, expected: NDArray[np.int64]) -> NDArray[np.int64]:
    columns = expected.shape[1]
    width = np.empty((ticks, columns), np.int64)
    width[0] = unzigzag(bits.rice(columns, 128, "first widths").view(np.uint64)) + expected[0]
    rest = bits.rice(columns * (ticks - 1), 128, "widths").reshape(ticks - 1, columns)
    width[1:] = unzigzag(rest.view(np.uint64)) + expected[1]
    if int(width.min()) < 0 or int(width.max()) > 64:
        raise FormatError(f"rows widths: expected 0 to 64 bits, found {int(width.min())} to {int(width.max())}")
    low = bits.fields(np.maximum(width - 1, 0).reshape(-1), "deltas").reshape(ticks, columns)
    low |= LEADING[width]
    return unzigzag(low)


def _take_widths(plain: bytes, at: int, columns: int) -> tuple[NDArray[np.uint8], int]:
    if len(plain) - at < 2 * columns:
        raise FormatError(f"rows expected widths: expected {2 * columns} bytes, found {len(plain) - at}")
    widths = np.frombuffer(plain, np.uint8, 2 * columns, at).reshape(2, columns).copy()
    if columns and int(widths.max()) > 64:
        raise FormatError(f"rows expected widths: expected 0 to 64, found {int(widths.max())}")
    return widths, at + 2 * columns
