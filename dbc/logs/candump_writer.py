"""Frame blocks as candump's log lines, built as matrices of characters."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from dbc.frames import CANFD_FDF, EFF_FLAG, EFF_MASK, ERR_FLAG, RTR_FLAG, FrameBlock, filled_flags

__all__ = ["write_candump"]

Bytes = NDArray[np.uint8]

DIGITS = np.frombuffer(b"0123456789ABCDEF", np.uint8)


def write_candump(stream: BinaryIO, block: FrameBlock) -> None:
    """Write the block as candump log lines. Stamps are cut to microseconds, as the format has them.

    An FD frame's digit has its bit rate switch (1) and its error state (2).
    """
    n = len(block)
    if n == 0:
        return
    lines = np.empty(n, object)
    # Frames of one shape have lines of one width: build each shape as a matrix of characters.
    extended = (block.frame_id & np.uint32(EFF_FLAG | ERR_FLAG)) != 0
    remote = (block.frame_id & RTR_FLAG) != 0
    seconds, nanoseconds = np.divmod(np.abs(block.timestamp_ns), 1_000_000_000)
    shape = (block.channel.astype(np.int64) << 10) | (extended.astype(np.int64) << 9) | (remote.astype(np.int64) << 8) | block.length
    if block.flags is not None or block.data.shape[1] > 8:
        shape |= filled_flags(block.flags, block.length).astype(np.int64) << 18
    for code in np.unique(shape):
        these = np.flatnonzero(shape == code)
        length, name = int(code & 0xFF), block.channels[int(code >> 10 & 0xFF)].encode("latin-1")
        is_extended, is_remote = bool(code & 0x200), bool(code & 0x100)
        digits = 8 if is_extended else 3
        flags = int(code >> 18)
        mark = b"#R" + b"%X" % min(length, 8) if is_remote else b"##%X" % (flags & ~CANFD_FDF) if flags & CANFD_FDF else b"#"
        payload = 0 if is_remote else 2 * length
        head = b"(SSSSSSSSSS.UUUUUU) " + name + b" " + b"I" * digits + mark
        text = np.empty((len(these), len(head) + payload + 1), np.uint8)
        text[:, : len(head)] = np.frombuffer(head, np.uint8)
        text[:, -1] = ord("\n")
        _digits(text[:, 1:11], seconds[these], 10)
        text[block.timestamp_ns[these] < 0, 1] = ord("-")
        _digits(text[:, 12:18], nanoseconds[these] // 1000, 10)
        at = 20 + len(name) + 1
        identifier = block.frame_id[these] & np.uint32(EFF_MASK | ERR_FLAG)
        _digits(text[:, at : at + digits], identifier.astype(np.int64), 16)
        if payload:
            data = block.data[these, :length]
            text[:, len(head) : -1 : 2] = DIGITS[data >> 4]
            text[:, len(head) + 1 : -1 : 2] = DIGITS[data & 15]
        width = text.shape[1]
        flat = text.tobytes()
        lines[these] = [flat[place : place + width] for place in range(0, len(flat), width)]
    stream.write(b"".join(lines))


def _digits(text: Bytes, number: NDArray[np.int64], base: int) -> None:
    """Write numbers right-aligned, zero-padded, into the columns of `text`."""
    for column in range(text.shape[1] - 1, -1, -1):
        number, digit = np.divmod(number, base)
        text[:, column] = DIGITS[digit]
